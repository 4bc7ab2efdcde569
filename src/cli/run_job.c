/*
 * The job.
 *
 * The batches form a queue; the head is the one under way. It is sent again, as it is, until the server has
 * answered: the events' counters are fixed when their lines come, and ON CONFLICT DO NOTHING makes the second
 * time of an INSERT whose answer was lost harmless. The status comes after the last batch, and is written so
 * that its second time changes nothing.
 *
 * An error that would come again (the job's row was deleted, a right was revoked) ends the storing: nothing
 * waits any longer, and the job becomes "error" if that still can be.
 */
#include "config.h"
#include "cli/run_job.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_query.h"
#include "pg/pg_sync.h"

#include <assert.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define RUN_JOB_MAGIC       0x10b10b42u
#define RUN_JOB_BATCH_LINES 1000
#define RUN_JOB_BATCH_BYTES (1024 * 1024)
#define RUN_JOB_RETRY_MS    500

/* An array in PostgreSQL's text form, without its last brace. */
struct run_array {
	char *data;
	size_t len, size;
};

struct run_batch {
	TAILQ_ENTRY(run_batch) entry;
	int64_t counter; /* of the event before its first */
	int lines;
	bool sealed; /* the arrays are complete */
	struct run_array stdouts, starts, ends;
};
TAILQ_HEAD(run_batches, run_batch);

struct run_job {
	unsigned magic;
	struct run_job_place place;
	const struct run_job_ops *ops;
	void *arg;
	char id[24];
	struct pg_query_pool *pool;
	struct event *retry;
	struct run_batches batches;
	size_t bytes; /* of all batches */
	uint64_t lines;
	bool under_way; /* the head, or the status */
	bool full, went_down;
	const char *status; /* to be written at the end; NULL before run_job_finish() */
	bool refused;       /* the server takes no more of it, for good */
};

/* ---- claiming ---- */

static bool
run_job_refuse(struct pg_sync *db, const char *id)
{
	if (!cli_db_query(db, "SELECT status FROM pgrelay.job WHERE id = $1::bigint", 1, &id))
		return false;
	if (pg_sync_rows(db) == 0)
		cli_error("there is no job %s", id);
	else
		cli_error("job %s has started before: it is %s", id, pg_sync_text(db, 0, 0));
	return false;
}

static bool
run_job_locate(struct pg_sync *db, const char *id, struct run_job_place *place)
{
	if (!cli_db_query(db,
		"SELECT coalesce(max(counter), 0), coalesce(max(end_line), 0) FROM pgrelay.job_event"
		" WHERE job_id = $1::bigint",
		1, &id))
		return false;
	place->counter = strtoll(pg_sync_text(db, 0, 0), NULL, 10);
	place->line = strtoll(pg_sync_text(db, 0, 1), NULL, 10);
	return true;
}

bool
run_job_claim(struct pg_sync *db, const char *id, const char *name, struct run_job_place *place)
{
	static const char make[] =
	    "INSERT INTO pgrelay.job (name, status) VALUES ($1, 'running') RETURNING id";
	static const char take[] =
	    "UPDATE pgrelay.job SET status = 'running', name = coalesce($1, name)"
	    " WHERE id = $2::bigint AND status IN ('new', 'pending', 'waiting') RETURNING id";

	*place = (struct run_job_place){0};
	if (!cli_db_query(db, id != NULL ? take : make, id != NULL ? 2 : 1, (const char *const[]){name, id}))
		return false;
	if (pg_sync_rows(db) == 0)
		return run_job_refuse(db, id);
	place->id = strtoll(pg_sync_text(db, 0, 0), NULL, 10);
	return id == NULL || run_job_locate(db, id, place);
}

/* ---- batches ---- */

static void
run_array_append(struct run_array *a, const char *data, size_t len)
{
	if (a->len + len + 1 > a->size) {
		a->size = a->size * 2 + len + 64;
		a->data = mem_resize(a->data, a->size);
	}
	memcpy(a->data + a->len, data, len);
	a->len += len;
	a->data[a->len] = '\0';
}

static void
run_array_separate(struct run_array *a)
{
	run_array_append(a, a->len == 0 ? "{" : ",", 1);
}

static void
run_array_add_number(struct run_array *a, int64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRId64, n);

	run_array_separate(a);
	run_array_append(a, digits, (size_t)len);
}

static void
run_array_add_text(struct run_array *a, const char *text, size_t len)
{
	const char *end = text + len;

	run_array_separate(a);
	run_array_append(a, "\"", 1);
	while (text < end) {
		size_t plain = 0;

		while (text + plain < end && text[plain] != '"' && text[plain] != '\\')
			plain++;
		run_array_append(a, text, plain);
		text += plain;
		if (text < end) {
			run_array_append(a, "\\", 1);
			run_array_append(a, text++, 1);
		}
	}
	run_array_append(a, "\"", 1);
}

static void
run_batch_seal(struct run_batch *b)
{
	if (b->sealed)
		return;
	b->sealed = true;
	run_array_append(&b->stdouts, "}", 1);
	run_array_append(&b->starts, "}", 1);
	run_array_append(&b->ends, "}", 1);
}

static size_t
run_batch_bytes(const struct run_batch *b)
{
	return b->stdouts.len + b->starts.len + b->ends.len;
}

static void
run_batch_free(struct run_batch *b)
{
	free(b->stdouts.data);
	free(b->starts.data);
	free(b->ends.data);
	free(b);
}

/* The one that takes the next line: the last, unless it is full or has been sent. */
static struct run_batch *
run_job_tail(struct run_job *job)
{
	struct run_batch *b = TAILQ_LAST(&job->batches, run_batches);

	if (b != NULL && !b->sealed && b->lines < RUN_JOB_BATCH_LINES &&
	    run_batch_bytes(b) < RUN_JOB_BATCH_BYTES)
		return b;
	b = mem_zalloc(sizeof(*b));
	b->counter = job->place.counter;
	TAILQ_INSERT_TAIL(&job->batches, b, entry);
	return b;
}

static void
run_job_drop_batch(struct run_job *job, struct run_batch *b)
{
	TAILQ_REMOVE(&job->batches, b, entry);
	job->bytes -= run_batch_bytes(b);
	run_batch_free(b);
}

/* Full above the limit, not any more below half of it. */
static void
run_job_check_full(struct run_job *job)
{
	int64_t limit = conf.run_buffer_bytes;
	bool full = (int64_t)job->bytes > (job->full ? limit / 2 : limit);

	if (full == job->full)
		return;
	job->full = full;
	job->ops->on_full(job->arg, full);
}

/* ---- storing ---- */

static void run_job_next(struct run_job *job);

/* Errors that pass: the session, resources, an operator's doing, a lock, a server that has become read-only.
 */
static bool
run_job_error_passes(const char *sqlstate)
{
	static const char *const classes[] = {"08", "40", "53", "55", "57", "58", "25006"};

	for (size_t i = 0; i < ARRAY_LENGTH(classes); i++)
		if (strncmp(sqlstate, classes[i], strlen(classes[i])) == 0)
			return true;
	return false;
}

static void
run_job_fail(struct run_job *job, const char *error)
{
	struct run_batch *b;

	cli_error("the output of job %s cannot be stored any longer: %s", job->id, error);
	job->refused = true;
	while ((b = TAILQ_FIRST(&job->batches)) != NULL)
		run_job_drop_batch(job, b);
	run_job_check_full(job);
}

/* Is the answer one? If it is none, what was sent will be sent again: at once, for the pool waits for its
 * session, or after a while. */
static bool
run_job_answered(struct run_job *job, enum pg_query_status status, const PGresult *result, const char *error)
{
	static const struct timeval pause = {RUN_JOB_RETRY_MS / 1000, RUN_JOB_RETRY_MS % 1000 * 1000};

	assert(job->magic == RUN_JOB_MAGIC);
	job->under_way = false;
	if (status == PG_QUERY_LOST) {
		run_job_next(job);
		return false;
	}
	if (status == PG_QUERY_ERROR && run_job_error_passes(pg_result_sqlstate(result))) {
		log_warning("run", "could not store output, will try again: %s", error);
		job->under_way = true; /* the pause is part of it */
		event_add(job->retry, &pause);
		return false;
	}
	return true;
}

static void
run_job_on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct run_job *job = arg;

	assert(job->magic == RUN_JOB_MAGIC);
	job->under_way = false;
	run_job_next(job);
}

static void
run_job_on_stored(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct run_job *job = arg;

	if (!run_job_answered(job, status, result, error))
		return;
	if (status == PG_QUERY_ERROR) {
		run_job_fail(job, error);
	} else {
		job->lines -= (uint64_t)TAILQ_FIRST(&job->batches)->lines;
		run_job_drop_batch(job, TAILQ_FIRST(&job->batches));
		run_job_check_full(job);
	}
	run_job_next(job);
}

static void
run_job_send_batch(struct run_job *job, struct run_batch *b)
{
	static const char sql[] =
	    "INSERT INTO pgrelay.job_event (job_id, counter, event, stdout, start_line, end_line, event_data)"
	    " SELECT $1::bigint, $2::integer + l.n::integer, 'verbose', l.stdout, l.start_line, l.end_line,"
	    " CASE WHEN l.end_line > l.start_line THEN '{}' ELSE '{\"continued\": true}' END::jsonb"
	    " FROM unnest($3::text[], $4::integer[], $5::integer[]) WITH ORDINALITY AS l (stdout, "
	    "start_line, end_line, n)"
	    " ORDER BY l.n ON CONFLICT (job_id, counter) DO NOTHING";
	char counter[24];

	snprintf(counter, sizeof(counter), "%" PRId64, b->counter);
	pg_query_send(job->pool, sql, 5,
	    (const char *const[]){job->id, counter, b->stdouts.data, b->starts.data, b->ends.data}, 0,
	    run_job_on_stored, job);
}

static void
run_job_on_status(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct run_job *job = arg;

	if (!run_job_answered(job, status, result, error))
		return;
	if (status == PG_QUERY_ERROR && !job->refused) {
		cli_error("the status of job %s cannot be stored: %s", job->id, error);
		job->refused = true;
	}
	job->ops->on_finished(job->arg, !job->refused);
}

static void
run_job_send_status(struct run_job *job)
{
	const char *status = job->refused ? "error" : job->status;

	pg_query_send(job->pool,
	    "UPDATE pgrelay.job SET status = $2 WHERE id = $1::bigint AND status = 'running'", 2,
	    (const char *const[]){job->id, status}, 0, run_job_on_status, job);
}

static void
run_job_next(struct run_job *job)
{
	struct run_batch *b = TAILQ_FIRST(&job->batches);

	if (job->under_way || (b == NULL && job->status == NULL))
		return;
	job->under_way = true;
	if (b == NULL) {
		run_job_send_status(job);
		return;
	}
	job->bytes -= run_batch_bytes(b);
	run_batch_seal(b);
	job->bytes += run_batch_bytes(b);
	run_job_send_batch(job, b);
}

/* ---- public ---- */

static void
run_job_on_state(void *arg, bool up)
{
	struct run_job *job = arg;

	assert(job->magic == RUN_JOB_MAGIC);
	if (up && job->went_down)
		cli_say("notice", "the database is back; %" PRIu64 " lines have waited for it", job->lines);
	job->went_down = !up;
}

struct run_job *
run_job_new(const struct run_job_place *place, const struct run_job_ops *ops, void *arg)
{
	struct run_job *job = mem_zalloc(sizeof(*job));

	job->magic = RUN_JOB_MAGIC;
	job->place = *place;
	job->ops = ops;
	job->arg = arg;
	TAILQ_INIT(&job->batches);
	snprintf(job->id, sizeof(job->id), "%" PRId64, place->id);
	job->retry = evtimer_new(loop_base(), run_job_on_retry, job);
	if (job->retry == NULL)
		log_fatal("could not create a timer");
	job->pool = pg_query_pool_new("run", conf.database, run_job_on_state, job);
	return job;
}

void
run_job_free(struct run_job *job)
{
	struct run_batch *b;

	if (job == NULL)
		return;
	assert(job->magic == RUN_JOB_MAGIC);
	job->magic = 0;
	pg_query_pool_free(job->pool);
	event_free(job->retry);
	while ((b = TAILQ_FIRST(&job->batches)) != NULL)
		run_job_drop_batch(job, b);
	free(job);
}

void
run_job_add(struct run_job *job, const char *text, size_t len, bool whole)
{
	struct run_batch *b;

	job->lines++;
	if (job->refused)
		return;
	b = run_job_tail(job);
	job->bytes -= run_batch_bytes(b);
	run_array_add_text(&b->stdouts, text, len);
	run_array_add_number(&b->starts, job->place.line);
	job->place.line += whole;
	run_array_add_number(&b->ends, job->place.line);
	job->bytes += run_batch_bytes(b);
	b->lines++;
	job->place.counter++;
	run_job_check_full(job);
	run_job_next(job);
}

void
run_job_finish(struct run_job *job, const char *status)
{
	job->status = status;
	run_job_next(job);
}

uint64_t
run_job_waiting(const struct run_job *job)
{
	return job->lines;
}
