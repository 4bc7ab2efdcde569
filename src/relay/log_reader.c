/*
 * Reading the log. The session's commands, one after the other: set-up, reach (how far does the log reach
 * back?), rows. Rows come in libpq's single-row mode, some of them a turn. A reading that makes no progress
 * for LOG_READER_STALL_MS is begun again on a new session; one that gets no session for LOG_READER_ABSENT_MS
 * is given up, for those who wait for it get nothing else meanwhile.
 */
#include "config.h"
#include "relay/log_reader.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_query.h"
#include "pg/pg_session.h"

#include <event2/event.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_READER_TURN_ROWS 512
#define LOG_READER_IDLE_S    30 /* how long the session is kept for the next reading */
#define LOG_READER_STALL_MS  60000
#define LOG_READER_ABSENT_MS 30000
#define LOG_READER_REFUSALS  6 /* so often the server is asked again */

enum log_reader_step { READER_OFF, READER_SET_UP, READER_READY, READER_REACH, READER_ROWS };

static struct {
	char *conninfo;
	bool (*others_work)(void);
	struct pg_session *session;
	enum log_reader_step step;
	bool busy; /* a reading is under way, or waits for the session */
	bool paused;
	int refusals; /* errors of the server in this reading */
	struct log_range range;
	char *seen, *announced; /* the points: pg_snapshot[] */
	char *ids, *times;      /* of the points: bigint[] */
	size_t point_count;
	char *types, *actions, *keys; /* text[] or NULL */
	const struct log_reader_ops *ops;
	void *arg;
	struct event *timer; /* idle, or stalled */
	int64_t progress_ms;
	int64_t absent_ms; /* since when there is no session while the others are there; 0: there is */
	struct loop_task drain;
} log_reader;

void
log_range_clear(struct log_range *range)
{
	snapshot_clear(&range->since);
	snapshot_clear(&range->deferred_since);
	snapshot_clear(&range->until);
	snapshot_clear(&range->deferred_until);
	*range = (struct log_range){0};
}

static void
log_reader_forget(void)
{
	char **texts[] = {&log_reader.seen, &log_reader.announced, &log_reader.ids, &log_reader.times,
	    &log_reader.types, &log_reader.actions, &log_reader.keys};

	log_range_clear(&log_reader.range);
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		free(*texts[i]);
		*texts[i] = NULL;
	}
}

static void
log_reader_arm(int seconds)
{
	struct timeval tv = {seconds, 0};

	event_add(log_reader.timer, &tv);
}

/* Nothing is asked any more; the session stays a while. */
static void
log_reader_finish(void)
{
	log_reader.busy = false;
	log_reader.paused = false;
	log_reader_forget();
	log_reader_arm(LOG_READER_IDLE_S);
}

static void
log_reader_done(void)
{
	const struct log_reader_ops *ops = log_reader.ops;
	void *arg = log_reader.arg;

	pg_session_settle(log_reader.session);
	log_reader_finish();
	ops->on_done(arg);
}

static void
log_reader_give_up(const char *reason)
{
	const struct log_reader_ops *ops = log_reader.ops;
	void *arg = log_reader.arg;

	log_error("log", "the log cannot be read: %s", reason);
	log_reader_finish();
	ops->on_refused(arg);
}

/* An error may pass (a lock, a shutdown); one that stays is told. */
static void
log_reader_refused(const PGresult *result)
{
	pg_session_reset(log_reader.session, PQresultErrorMessage(result));
	if (log_reader.busy && ++log_reader.refusals >= LOG_READER_REFUSALS)
		log_reader_give_up(pg_session_error(log_reader.session));
}

/* ---- commands ---- */

static void
log_reader_sent(PGconn *conn, bool ok, enum log_reader_step step)
{
	log_reader.step = step;
	if (ok)
		pg_session_flush(log_reader.session);
	else
		pg_session_reset(log_reader.session, PQerrorMessage(conn));
}

static char *
log_reader_snapshot(const struct snapshot *s)
{
	return snapshot_is_set(s) ? snapshot_text(s) : NULL;
}

static void
log_reader_ask_reach(PGconn *conn)
{
	const char *params[] = {log_reader.seen, log_reader.announced, log_reader.ids, log_reader.times};

	log_reader_sent(conn,
	    PQsendQueryParams(conn,
		"SELECT pgrelay.log_covers(p.seen, p.announced, p.last_id, p.last_time), "
		"(SELECT string_agg(t.type, ' ') FROM pgrelay.event_type t WHERE NOT t.logged) "
		"FROM unnest($1::pg_snapshot[], $2::pg_snapshot[], $3::bigint[], $4::bigint[]) "
		"WITH ORDINALITY AS p (seen, announced, last_id, last_time, n) ORDER BY p.n",
		4, NULL, params, NULL, NULL, 0) == 1,
	    READER_REACH);
}

static void
log_reader_ask_rows(PGconn *conn)
{
	const struct log_range *r = &log_reader.range;
	char *since = log_reader_snapshot(&r->since),
	     *deferred_since = log_reader_snapshot(&r->deferred_since);
	char *until = log_reader_snapshot(&r->until),
	     *deferred_until = log_reader_snapshot(&r->deferred_until);
	const char *params[] = {since, deferred_since, until, deferred_until, log_reader.types,
	    log_reader.actions, log_reader.keys};

	log_reader_sent(conn,
	    PQsendQueryParams(conn,
		"SELECT xid, deferred, record FROM pgrelay.log_read($1::pg_snapshot, $2::pg_snapshot, "
		"$3::pg_snapshot, $4::pg_snapshot, $5::text[], $6::text[], $7::text[])",
		7, NULL, params, NULL, NULL, 0) == 1 &&
		PQsetSingleRowMode(conn) == 1,
	    READER_ROWS);
	free(since);
	free(deferred_since);
	free(until);
	free(deferred_until);
}

/* ---- answers ---- */

static void
log_reader_take_reach(const PGresult *result)
{
	const char **reasons = mem_alloc(sizeof(*reasons) * log_reader.point_count);
	const char *exempt = pg_result_text(result, 0, 1);

	for (size_t i = 0; i < log_reader.point_count; i++)
		reasons[i] = pg_result_text(result, (int)i, 0);
	if (!log_reader.ops->on_reach(log_reader.arg, reasons, exempt != NULL ? exempt : ""))
		snapshot_clear(&log_reader.range.until); /* nothing is asked for */
	free(reasons);
}

static void
log_reader_take_row(const PGresult *result)
{
	const char *xid = pg_result_text(result, 0, 0), *deferred = pg_result_text(result, 0, 1);
	struct slice text = {pg_result_text(result, 0, 2), 0};
	struct record record;

	if (xid == NULL || deferred == NULL || text.ptr == NULL)
		return;
	text.len = pg_result_length(result, 0, 2);
	metrics[METRIC_LOG_ROWS_READ_TOTAL]++;
	if (record_next(&text, &record) && (record.kind == RECORD_EVENT || record.kind == RECORD_TICKET))
		log_reader.ops->on_row(log_reader.arg, strtoumax(xid, NULL, 10), *deferred == 't', &record);
	else
		metrics[METRIC_RECORDS_MALFORMED_TOTAL]++;
}

/* The command under way is done. */
static void
log_reader_next(PGconn *conn)
{
	switch (log_reader.step) {
	case READER_OFF:
	case READER_READY:
		return;
	case READER_SET_UP:
		break;
	case READER_REACH:
		if (log_reader.busy && snapshot_is_set(&log_reader.range.until)) {
			log_reader_ask_rows(conn);
			return;
		}
		/* fall through */
	case READER_ROWS:
		log_reader.step = READER_READY;
		if (log_reader.busy)
			log_reader_done();
		return;
	}
	log_reader.step = READER_READY;
	log_reader.absent_ms = 0;
	if (log_reader.busy)
		log_reader_ask_reach(conn);
}

static void
log_reader_take(PGconn *conn, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_SINGLE_TUPLE)
		log_reader_refused(result);
	else if (log_reader.busy && log_reader.step == READER_REACH &&
		 (size_t)PQntuples(result) == log_reader.point_count)
		log_reader_take_reach(result);
	else if (log_reader.busy && log_reader.step == READER_ROWS && status == PGRES_SINGLE_TUPLE)
		log_reader_take_row(result);
}

static void
log_reader_drain(void *arg)
{
	PGconn *conn = log_reader.session != NULL ? pg_session_conn(log_reader.session) : NULL;

	log_reader.progress_ms = loop_now_ms();
	for (int i = 0; i < LOG_READER_TURN_ROWS; i++) {
		PGresult *result;

		if (conn == NULL || log_reader.paused || log_reader.step == READER_READY || PQisBusy(conn))
			return;
		result = PQgetResult(conn);
		if (result != NULL)
			log_reader_take(conn, result);
		else
			log_reader_next(conn);
		PQclear(result);
		if (log_reader.session == NULL || pg_session_conn(log_reader.session) != conn)
			return;
	}
	loop_task_queue(&log_reader.drain);
}

/* ---- the session's callbacks ---- */

/* Plans are made for a log that may have been empty when they were made: none but those by the indexes. */
static void
log_reader_on_up(void *arg, PGconn *conn)
{
	log_reader_sent(conn,
	    PQsendQuery(conn, "SET enable_seqscan = off; SET lock_timeout = '10s'; SET jit = off") == 1,
	    READER_SET_UP);
}

static void
log_reader_on_down(void *arg, const char *reason)
{
	log_reader.step = READER_OFF;
	log_reader.paused = false;
	log_reader.progress_ms = loop_now_ms();
	if (log_reader.absent_ms == 0)
		log_reader.absent_ms = loop_now_ms();
}

static void
log_reader_on_input(void *arg, PGconn *conn)
{
	loop_task_queue(&log_reader.drain);
}

static const struct pg_session_ops log_reader_session_ops = {
    log_reader_on_up, log_reader_on_down, log_reader_on_input};

static void
log_reader_close(void)
{
	loop_task_cancel(&log_reader.drain);
	pg_session_free(log_reader.session);
	log_reader.session = NULL;
	log_reader.step = READER_OFF;
}

static bool
log_reader_is_absent(void)
{
	if (log_reader.absent_ms != 0 && !log_reader.others_work())
		log_reader.absent_ms = loop_now_ms();
	return log_reader.absent_ms != 0 && loop_now_ms() - log_reader.absent_ms > LOG_READER_ABSENT_MS;
}

static void
log_reader_on_timer(evutil_socket_t fd, short what, void *arg)
{
	if (!log_reader.busy) {
		log_reader_close();
		return;
	}
	log_reader_arm(1);
	if (log_reader_is_absent())
		log_reader_give_up(
		    *log_reader_error() != '\0' ? log_reader_error() : "its session is not set up");
	else if (log_reader.paused)
		log_reader.progress_ms = loop_now_ms();
	else if (log_reader.step != READER_OFF &&
		 loop_now_ms() - log_reader.progress_ms > LOG_READER_STALL_MS)
		pg_session_reset(log_reader.session, "reading the log makes no progress");
}

/* ---- public ---- */

void
log_reader_init(const char *conninfo, bool (*others_work)(void))
{
	memset(&log_reader, 0, sizeof(log_reader));
	log_reader.conninfo = mem_strdup(conninfo);
	log_reader.others_work = others_work;
	log_reader.timer = evtimer_new(loop_base(), log_reader_on_timer, NULL);
	if (log_reader.timer == NULL)
		log_fatal("could not create a timer");
	loop_task_init(&log_reader.drain, log_reader_drain, NULL);
}

void
log_reader_free(void)
{
	log_reader_close();
	log_reader_forget();
	event_free(log_reader.timer);
	free(log_reader.conninfo);
	log_reader.conninfo = NULL;
}

bool
log_reader_is_busy(void)
{
	return log_reader.busy;
}

const char *
log_reader_error(void)
{
	return log_reader.session != NULL ? pg_session_error(log_reader.session) : "";
}

/* The text of an array; what it is made of is released. */
static char *
log_reader_array(char **items, size_t count)
{
	char *array = pg_query_text_array((const char *const *)items, count);

	for (size_t i = 0; i < count; i++)
		free(items[i]);
	free(items);
	return array;
}

static char *
log_reader_part(const struct topic *patterns, size_t count, size_t offset)
{
	char **items = mem_alloc(sizeof(*items) * count);

	for (size_t i = 0; i < count; i++) {
		struct slice part =
		    *(const struct slice *)(const void *)((const char *)&patterns[i] + offset);

		items[i] = topic_is_wildcard(part) ? NULL : mem_strndup(part.ptr, part.len);
	}
	return log_reader_array(items, count);
}

static void
log_reader_keep_points(const struct log_point *points, size_t count)
{
	char **seen = mem_alloc(sizeof(*seen) * count), **announced = mem_alloc(sizeof(*announced) * count);
	char **ids = mem_alloc(sizeof(*ids) * count), **times = mem_alloc(sizeof(*times) * count);

	for (size_t i = 0; i < count; i++) {
		bool asked = points[i].last_id > 0;

		seen[i] = log_reader_snapshot(points[i].seen);
		announced[i] = log_reader_snapshot(points[i].announced);
		ids[i] = asked ? mem_printf("%" PRId64, points[i].last_id) : NULL;
		times[i] = asked ? mem_printf("%" PRId64, points[i].last_time_us) : NULL;
	}
	log_reader.seen = log_reader_array(seen, count);
	log_reader.announced = log_reader_array(announced, count);
	log_reader.ids = log_reader_array(ids, count);
	log_reader.times = log_reader_array(times, count);
	log_reader.point_count = count;
}

void
log_reader_start(struct log_range *range, const struct log_point *points, size_t point_count,
    const struct topic *patterns, size_t count, const struct log_reader_ops *ops, void *arg)
{
	log_reader.busy = true;
	log_reader.refusals = 0;
	log_reader.range = *range;
	*range = (struct log_range){0};
	log_reader_keep_points(points, point_count);
	if (patterns != NULL && count <= LOG_READER_PATTERNS) {
		log_reader.types = log_reader_part(patterns, count, offsetof(struct topic, type));
		log_reader.actions = log_reader_part(patterns, count, offsetof(struct topic, action));
		log_reader.keys = log_reader_part(patterns, count, offsetof(struct topic, key));
	}
	log_reader.ops = ops;
	log_reader.arg = arg;
	log_reader.progress_ms = loop_now_ms();
	log_reader.absent_ms = log_reader.step < READER_READY ? loop_now_ms() : 0;
	log_reader_arm(1);
	if (log_reader.session == NULL) {
		log_reader.session =
		    pg_session_new("log", log_reader.conninfo, &log_reader_session_ops, NULL);
		pg_session_start(log_reader.session);
	} else if (log_reader.step == READER_READY) {
		log_reader_ask_reach(pg_session_conn(log_reader.session));
	}
}

/* What is under way at the server is not waited for. */
void
log_reader_stop(void)
{
	if (!log_reader.busy)
		return;
	log_reader_finish();
	if (log_reader.step != READER_READY)
		log_reader_close();
}

void
log_reader_pause(bool paused)
{
	if (log_reader.paused == paused || log_reader.session == NULL)
		return;
	log_reader.paused = paused;
	pg_session_pause(log_reader.session, paused);
	if (!paused)
		loop_task_queue(&log_reader.drain);
}
