/*
 * Publishing for clients.
 *
 * A request is in one of three lists: `waiting`, `batch` (the transaction that is under way) or `alone`
 * (their batch was refused as a whole: each is tried by itself, before the others go on, in their order).
 * publisher_pump() alone fills the batch, and only when it is empty. A request that has been answered or
 * cancelled while in the batch stays there, mute, for the rows of the answer are told by its place.
 */
#include "config.h"
#include "relay/publisher.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include <assert.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define PUBLISH_MAGIC          0x9b115e01u
#define PUBLISHER_WAITING      4 /* times max_publish_bytes may wait */
#define PUBLISHER_TICK_MS      100
#define PUBLISHER_BIG          65536
#define PUBLISHER_LOG_SECONDS  10
#define PUBLISHER_REQUEST_SIZE 48 /* octets of a request in the batch beside its events */

#define PUBLISHER_SQL                                                                                        \
	"SELECT request, ids, error, refused, index, ticket_id, ticket_topic, ticket_payload"                \
	" FROM pgrelay.publish($1, $2::jsonb)"
enum publisher_column {
	COLUMN_REQUEST,
	COLUMN_IDS,
	COLUMN_ERROR,
	COLUMN_REFUSED,
	COLUMN_INDEX,
	COLUMN_TICKET_ID,
	COLUMN_TICKET_TOPIC,
	COLUMN_TICKET_PAYLOAD
};

TAILQ_HEAD(publish_list, publish);

struct publish {
	unsigned magic;
	TAILQ_ENTRY(publish) entry;
	struct publish_list *list; /* the one that it is in */
	int64_t user_id;
	char *events;
	size_t len;
	struct publish_body body;
	int64_t deadline_ms;
	publish_done done; /* NULL: it has been answered, or nobody waits */
	void *arg;
};

static struct {
	const char *conninfo;
	const struct publisher_ops *ops;
	struct pg_query_pool *pool; /* NULL before the first request */
	struct publish_list waiting, batch, alone;
	bool was_big;        /* the last batch was a big request, */
	int64_t big_user_id; /* the last one of this user */
	size_t queued_bytes; /* of those that have not been answered */
	int64_t sent_us;     /* when the batch went out */
	struct loop_task pump;
	struct event *timer; /* while something is queued */
} publisher;

/* ---- requests ---- */

static void
publish_free(struct publish *p)
{
	TAILQ_REMOVE(p->list, p, entry);
	p->magic = 0;
	free(p->events);
	free(p);
}

static void
publish_enter(struct publish *p, struct publish_list *list, bool first)
{
	if (p->list != NULL)
		TAILQ_REMOVE(p->list, p, entry);
	p->list = list;
	if (first)
		TAILQ_INSERT_HEAD(list, p, entry);
	else
		TAILQ_INSERT_TAIL(list, p, entry);
}

/* Nobody waits for its answer any more. */
static void
publish_mute(struct publish *p)
{
	p->done = NULL;
	publisher.queued_bytes -= p->body.octets;
	metrics[METRIC_PUBLISH_QUEUED_BYTES] = (double)publisher.queued_bytes;
}

static void
publish_count(const struct publish *p, enum publish_verdict verdict)
{
	switch (verdict) {
	case PUBLISH_DONE:
		metrics[METRIC_PUBLISHED_EVENTS_TOTAL] += (double)p->body.events;
		break;
	case PUBLISH_INVALID:
	case PUBLISH_DENIED:
		metrics[METRIC_PUBLISH_REFUSED_TOTAL]++;
		break;
	case PUBLISH_UNAVAILABLE:
		metrics[METRIC_PUBLISH_FAILED_TOTAL]++;
		break;
	}
}

static void
publish_answer(struct publish *p, enum publish_verdict verdict, const char *text, long index)
{
	struct publish_answer answer = {verdict, text, index};
	publish_done done = p->done;

	publish_count(p, verdict);
	if (done == NULL)
		return;
	publish_mute(p);
	done(p->arg, &answer);
}

/* Answers all of a list alike, and empties it. */
static void
publisher_answer_list(struct publish_list *list, enum publish_verdict verdict, const char *text)
{
	struct publish *p;

	while ((p = TAILQ_FIRST(list)) != NULL) {
		if (p->done != NULL)
			publish_answer(p, verdict, text, -1);
		publish_free(p);
	}
}

/* ---- time ---- */

static void
publisher_expire(struct publish_list *list, const char *text)
{
	int64_t now = loop_now_ms();
	struct publish *p, *next;

	for (p = TAILQ_FIRST(list); p != NULL; p = next) {
		next = TAILQ_NEXT(p, entry);
		if (p->deadline_ms > now || p->done == NULL)
			continue;
		publish_answer(p, PUBLISH_UNAVAILABLE, text, -1);
		if (list != &publisher.batch)
			publish_free(p);
	}
}

static void
publisher_on_timer(evutil_socket_t fd, short what, void *arg)
{
	static const char unsent[] = "the database did not take it in time: nothing has been published";

	publisher_expire(&publisher.batch, "the database did not answer in time: it may have been published");
	publisher_expire(&publisher.alone, unsent);
	publisher_expire(&publisher.waiting, unsent);
	if (publisher_is_idle())
		event_del(publisher.timer);
}

/* ---- the answer ---- */

static void
publisher_keep_ticket(const PGresult *result, int row, const char *id)
{
	const char *written = pg_result_text(result, row, COLUMN_TICKET_TOPIC);
	const char *payload = pg_result_text(result, row, COLUMN_TICKET_PAYLOAD);
	struct topic topic;

	metrics[METRIC_PUBLISHED_TICKETS_TOTAL]++;
	if (written != NULL && payload != NULL &&
	    topic_parse((struct slice){written, strlen(written)}, false, &topic))
		publisher.ops->keep(strtoimax(id, NULL, 10), &topic,
		    (struct slice){payload, pg_result_length(result, row, COLUMN_TICKET_PAYLOAD)});
}

static void
publisher_take_row(struct publish *const *batch, size_t count, const PGresult *result, int row)
{
	const char *number = pg_result_text(result, row, COLUMN_REQUEST);
	size_t request = number != NULL ? strtoul(number, NULL, 10) : count;
	const char *ids = pg_result_text(result, row, COLUMN_IDS);
	const char *error = pg_result_text(result, row, COLUMN_ERROR);
	const char *refused = pg_result_text(result, row, COLUMN_REFUSED);
	const char *index = pg_result_text(result, row, COLUMN_INDEX);
	const char *ticket = pg_result_text(result, row, COLUMN_TICKET_ID);

	if (ticket != NULL)
		publisher_keep_ticket(result, row, ticket);
	else if (request < count && ids != NULL)
		publish_answer(batch[request], PUBLISH_DONE, ids, -1);
	else if (request < count && error != NULL)
		publish_answer(batch[request],
		    refused != NULL && strcmp(refused, "denied") == 0 ? PUBLISH_DENIED : PUBLISH_INVALID,
		    error, index != NULL ? strtol(index, NULL, 10) : -1);
}

static size_t
publisher_batch_count(void)
{
	struct publish *p;
	size_t count = 0;

	TAILQ_FOREACH (p, &publisher.batch, entry)
		count++;
	return count;
}

static void
publisher_take_answer(const PGresult *result)
{
	size_t count = publisher_batch_count(), i = 0;
	struct publish **batch = mem_alloc(sizeof(struct publish *) * count), *p;

	TAILQ_FOREACH (p, &publisher.batch, entry)
		batch[i++] = p;
	for (int row = 0; row < pg_result_rows(result); row++)
		publisher_take_row(batch, count, result, row);
	free(batch);
	publisher_answer_list(
	    &publisher.batch, PUBLISH_UNAVAILABLE, "the database's answer has no row for this request");
}

/* ---- refusals of the whole ---- */

/* Whatever was asked, the server would have refused it: the session, its rights, its time, another
 * transaction. */
static bool
publisher_is_not_about_it(const char *sqlstate)
{
	static const char *const classes[] = {"08", "25", "40", "42", "55", "57", "58"};

	for (size_t i = 0; i < ARRAY_LENGTH(classes); i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

/* A single request was refused: are its events to blame? */
static bool
publisher_is_invalid(const char *sqlstate)
{
	return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
	       strcmp(sqlstate, "P0001") == 0 || strcmp(sqlstate, "54001") == 0;
}

static void
publisher_warn(const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	if (log_limit_pass(&limit, PUBLISHER_LOG_SECONDS, &more))
		log_warning("publish", "could not publish: %s (%lu more such failures)", error, more);
}

/* Each will be tried alone, in front of those that were to be already; but not what nobody waits for. */
static void
publisher_try_alone(void)
{
	struct publish *p;

	while ((p = TAILQ_LAST(&publisher.batch, publish_list)) != NULL) {
		if (p->done == NULL)
			publish_free(p);
		else
			publish_enter(p, &publisher.alone, true);
	}
}

static void
publisher_take_error(const char *sqlstate, const char *error)
{
	struct publish *first = TAILQ_FIRST(&publisher.batch);
	char *text;

	/* of several that took too long together one may be to blame */
	if (TAILQ_NEXT(first, entry) != NULL &&
	    (strcmp(sqlstate, "57014") == 0 || !publisher_is_not_about_it(sqlstate))) {
		publisher_try_alone();
		return;
	}
	if (publisher_is_invalid(sqlstate)) {
		publisher_answer_list(&publisher.batch, PUBLISH_INVALID, error);
		return;
	}
	publisher_warn(error);
	text = mem_printf("the database refused, nothing has been published: %s", error);
	publisher_answer_list(&publisher.batch, PUBLISH_UNAVAILABLE, text);
	free(text);
}

static void
publisher_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	metrics[METRIC_PUBLISH_SECONDS] = (double)(loop_now_us() - publisher.sent_us) / 1e6;
	switch (status) {
	case PG_QUERY_OK:
		publisher_take_answer(result);
		break;
	case PG_QUERY_ERROR:
		publisher_take_error(pg_result_sqlstate(result), error);
		break;
	case PG_QUERY_LOST:
		publisher_warn(error);
		publisher_answer_list(&publisher.batch, PUBLISH_UNAVAILABLE,
		    "the database session was lost: it may have been published");
		break;
	}
	publisher.ops->settled();
	loop_task_queue(&publisher.pump);
}

/* ---- sending ---- */

static bool
publish_is_big(const struct publish *p)
{
	return p->body.octets > PUBLISHER_BIG;
}

/* The first big one that waits, of another user than the last one's if there is such. */
static struct publish *
publisher_find_big(void)
{
	struct publish *p, *first = NULL;

	TAILQ_FOREACH (p, &publisher.waiting, entry) {
		if (!publish_is_big(p))
			continue;
		if (p->user_id != publisher.big_user_id)
			return p;
		if (first == NULL)
			first = p;
	}
	return first;
}

/* As many small ones as max_publish_bytes allows. */
static void
publisher_fill_small(void)
{
	struct publish *p, *next;
	size_t octets = 0;

	for (p = TAILQ_FIRST(&publisher.waiting); p != NULL; p = next) {
		next = TAILQ_NEXT(p, entry);
		if (publish_is_big(p))
			continue;
		octets += p->body.octets;
		if (octets > (size_t)conf.max_publish_bytes && !TAILQ_EMPTY(&publisher.batch))
			return;
		publish_enter(p, &publisher.batch, false);
	}
}

/*
 * Those to be tried alone come first. Else the small ones share a transaction and take turns with the big
 * ones, each of which has its own: who sends big ones without end keeps nobody from publishing.
 */
static void
publisher_fill(void)
{
	struct publish *p = TAILQ_FIRST(&publisher.alone);

	if (p != NULL) {
		publish_enter(p, &publisher.batch, false);
		return;
	}
	if (publisher.was_big)
		publisher_fill_small();
	p = TAILQ_EMPTY(&publisher.batch) ? publisher_find_big() : NULL;
	publisher.was_big = p != NULL;
	if (p != NULL) {
		publisher.big_user_id = p->user_id;
		publish_enter(p, &publisher.batch, false);
	} else if (TAILQ_EMPTY(&publisher.batch)) {
		publisher_fill_small();
	}
}

/* The caller releases it. */
static char *
publisher_format(void)
{
	size_t size = 3;
	struct publish *p;
	char *text, *out;

	TAILQ_FOREACH (p, &publisher.batch, entry)
		size += p->len + PUBLISHER_REQUEST_SIZE;
	out = text = mem_alloc(size);
	*out++ = '[';
	TAILQ_FOREACH (p, &publisher.batch, entry) {
		out += sprintf(out,
		    "%s{\"user\":%" PRId64 ",\"events\":", p != TAILQ_FIRST(&publisher.batch) ? "," : "",
		    p->user_id);
		memcpy(out, p->events, p->len);
		out += p->len;
		*out++ = '}';
	}
	memcpy(out, "]", 2);
	assert((size_t)(out - text) < size);
	return text;
}

static void
publisher_pump(void *arg)
{
	char *requests;

	if (!TAILQ_EMPTY(&publisher.batch) || !pg_query_pool_is_up(publisher.pool))
		return;
	publisher_fill();
	if (TAILQ_EMPTY(&publisher.batch))
		return;
	requests = publisher_format();
	publisher.sent_us = loop_now_us();
	metrics[METRIC_PUBLISH_TRANSACTIONS_TOTAL]++;
	(void)pg_query_send(publisher.pool, PUBLISHER_SQL, 2,
	    (const char *const[]){publisher.ops->origin(), requests}, 0, publisher_on_answer, NULL);
	free(requests);
}

/* ---- the session ---- */

/* A transaction whose clients have given up is not to be committed later; and the next one has time left. */
void
publisher_settings_changed(void)
{
	if (publisher.pool != NULL)
		pg_query_pool_set_timeouts(publisher.pool, conf.query_timeout_ms / 2, 0);
}

static void
publisher_on_state(void *arg, bool up)
{
	metrics[METRIC_PUBLISH_UP] = up;
	if (!up)
		return;
	publisher_settings_changed();
	loop_task_queue(&publisher.pump);
}

/* ---- public ---- */

void
publisher_init(const char *conninfo, const struct publisher_ops *ops)
{
	memset(&publisher, 0, sizeof(publisher));
	publisher.conninfo = conninfo;
	publisher.ops = ops;
	TAILQ_INIT(&publisher.waiting);
	TAILQ_INIT(&publisher.batch);
	TAILQ_INIT(&publisher.alone);
	loop_task_init(&publisher.pump, publisher_pump, NULL);
	publisher.timer = event_new(loop_base(), -1, EV_PERSIST, publisher_on_timer, NULL);
	if (publisher.timer == NULL)
		log_fatal("could not create a timer");
}

void
publisher_give_up(void)
{
	static const char unsent[] = "the node is shutting down: nothing has been published";
	struct publish *p;

	TAILQ_FOREACH (p, &publisher.batch, entry)
		if (p->done != NULL)
			publish_answer(p, PUBLISH_UNAVAILABLE,
			    "the node is shutting down: it may have been published", -1);
	publisher_answer_list(&publisher.alone, PUBLISH_UNAVAILABLE, unsent);
	publisher_answer_list(&publisher.waiting, PUBLISH_UNAVAILABLE, unsent);
}

void
publisher_free(void)
{
	struct publish *p;

	publisher_give_up();
	pg_query_pool_free(publisher.pool);
	while ((p = TAILQ_FIRST(&publisher.batch)) != NULL)
		publish_free(p);
	loop_task_cancel(&publisher.pump);
	event_free(publisher.timer);
	memset(&publisher, 0, sizeof(publisher));
}

struct publish *
publisher_send(int64_t user_id, const char *events, size_t len, const struct publish_body *body,
    publish_done done, void *arg)
{
	struct timeval tick = {0, PUBLISHER_TICK_MS * 1000};
	struct publish *p;

	if (publisher.queued_bytes > 0 &&
	    publisher.queued_bytes + body->octets > PUBLISHER_WAITING * (size_t)conf.max_publish_bytes) {
		metrics[METRIC_PUBLISH_FAILED_TOTAL]++;
		return NULL;
	}
	p = mem_zalloc(sizeof(*p));
	p->magic = PUBLISH_MAGIC;
	p->user_id = user_id;
	p->events = mem_strndup(events, len);
	p->len = len;
	p->body = *body;
	p->deadline_ms = loop_now_ms() + conf.query_timeout_ms;
	p->done = done;
	p->arg = arg;
	publish_enter(p, &publisher.waiting, false);
	publisher.queued_bytes += body->octets;
	metrics[METRIC_PUBLISH_QUEUED_BYTES] = (double)publisher.queued_bytes;
	if (publisher.pool == NULL)
		publisher.pool = pg_query_pool_new("publish", publisher.conninfo, publisher_on_state, NULL);
	if (!event_pending(publisher.timer, EV_TIMEOUT, NULL))
		event_add(publisher.timer, &tick);
	loop_task_queue(&publisher.pump);
	return p;
}

void
publisher_cancel(struct publish *p)
{
	assert(p->magic == PUBLISH_MAGIC && p->done != NULL);
	publish_mute(p);
	if (p->list != &publisher.batch)
		publish_free(p);
}

bool
publisher_is_busy(void)
{
	return !TAILQ_EMPTY(&publisher.batch);
}

bool
publisher_is_idle(void)
{
	return TAILQ_EMPTY(&publisher.waiting) && TAILQ_EMPTY(&publisher.batch) &&
	       TAILQ_EMPTY(&publisher.alone);
}
