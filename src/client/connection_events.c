/*
 * Events about connections. They wait in their order; the first `asked` of them are in the one statement that is
 * under way. They leave the list when it has been done: so one that the server did, but whose answer was lost, is
 * emitted twice.
 */
#include "config.h"
#include "client/connection_events.h"
#include "client/connection.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define CONNECTION_EVENTS_SQL         "SELECT pgrelay.connections_changed($1, $2::jsonb)"
#define CONNECTION_EVENTS_MAX         10000 /* wait, or as many as there may be sessions */
#define CONNECTION_EVENTS_BATCH       1000  /* of one statement */
#define CONNECTION_EVENTS_RETRY_MS    1000
#define CONNECTION_EVENTS_LOG_SECONDS 10

struct change {
	TAILQ_ENTRY(change) entry;
	char *json;
};

static struct {
	struct pg_query_pool *pool;
	const char *origin;
	TAILQ_HEAD(change_list, change) waiting;
	size_t count, asked;
	struct pg_query *query; /* NULL: none is under way */
	struct event *retry;
	struct loop_task pump;
	bool stopping;
} connection_events;

/* ---- the list ---- */

static void
connection_events_count(void)
{
	metrics[METRIC_CONNECTION_EVENTS_WAITING] = (double)connection_events.count;
}

static void
connection_events_free_change(struct change *c)
{
	TAILQ_REMOVE(&connection_events.waiting, c, entry);
	free(c->json);
	free(c);
	connection_events.count--;
	connection_events_count();
}

/* Takes the oldest ones off. */
static void
connection_events_take(size_t n)
{
	struct change *c;

	for (; n > 0 && (c = TAILQ_FIRST(&connection_events.waiting)) != NULL; n--)
		connection_events_free_change(c);
}

static void
connection_events_lose(size_t n, const char *why)
{
	static struct log_limit limit;
	unsigned long more;

	metrics[METRIC_CONNECTION_EVENTS_LOST_TOTAL] += (double)n;
	if (log_limit_pass(&limit, CONNECTION_EVENTS_LOG_SECONDS, &more))
		log_warning("connections", "%zu events about connections are lost: %s (%lu more such lines)",
		    n, why, more);
}

/* What is under way stays. */
static void
connection_events_make_room(void)
{
	size_t max =
	    CONNECTION_EVENTS_MAX > conf.max_sessions ? CONNECTION_EVENTS_MAX : (size_t)conf.max_sessions;
	struct change *c = TAILQ_FIRST(&connection_events.waiting);

	if (connection_events.count < max)
		return;
	for (size_t i = 0; i < connection_events.asked; i++)
		c = TAILQ_NEXT(c, entry);
	connection_events_free_change(c);
	connection_events_lose(1, "too many wait for the database");
}

void
connection_events_add(const char *action, const struct connection *connection)
{
	struct change *c = mem_zalloc(sizeof(*c));
	size_t len;
	FILE *out = open_memstream(&c->json, &len);

	if (out == NULL)
		log_fatal("out of memory");
	fprintf(out, "{\"action\":\"%s\",\"principal\":", action);
	connection_print_string(out, connection->principal);
	fputs(",\"object\":", out);
	connection_print_json(out, connection);
	putc('}', out);
	fclose(out);
	connection_events_make_room();
	TAILQ_INSERT_TAIL(&connection_events.waiting, c, entry);
	connection_events.count++;
	connection_events_count();
	loop_task_queue(&connection_events.pump);
}

/* ---- the database ---- */

/* The server refuses what they hold, and would again. */
static bool
connection_events_are_refused(const char *sqlstate)
{
	return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
	       strcmp(sqlstate, "P0001") == 0;
}

static void
connection_events_wait(void)
{
	struct timeval tv = {CONNECTION_EVENTS_RETRY_MS / 1000, CONNECTION_EVENTS_RETRY_MS % 1000 * 1000};

	event_add(connection_events.retry, &tv);
}

static void
connection_events_fail(size_t asked, const char *sqlstate, const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	if (connection_events_are_refused(sqlstate)) {
		connection_events_take(asked);
		connection_events_lose(asked, error);
	} else if (connection_events.stopping) {
		connection_events_lose(connection_events.count, error);
		connection_events_take(connection_events.count);
	} else {
		if (log_limit_pass(&limit, CONNECTION_EVENTS_LOG_SECONDS, &more))
			log_warning("connections",
			    "could not tell of connections, will try again: %s (%lu more such failures)",
			    error, more);
		connection_events_wait();
	}
}

static void
connection_events_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	size_t asked = connection_events.asked;

	connection_events.query = NULL;
	connection_events.asked = 0;
	if (status == PG_QUERY_OK) {
		metrics[METRIC_CONNECTION_EVENTS_TOTAL] += (double)asked;
		connection_events_take(asked);
	} else {
		connection_events_fail(
		    asked, status == PG_QUERY_ERROR ? pg_result_sqlstate(result) : "", error);
	}
	loop_task_queue(&connection_events.pump);
}

/* A list of the first ones; the caller releases it with free(). */
static char *
connection_events_format(size_t *asked)
{
	struct change *c;
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		log_fatal("out of memory");
	*asked = 0;
	TAILQ_FOREACH (c, &connection_events.waiting, entry) {
		if (*asked == CONNECTION_EVENTS_BATCH)
			break;
		fprintf(out, "%c%s", *asked == 0 ? '[' : ',', c->json);
		++*asked;
	}
	putc(']', out);
	fclose(out);
	return text;
}

static void
connection_events_pump(void *arg)
{
	char *events;

	if (connection_events.query != NULL || TAILQ_EMPTY(&connection_events.waiting) ||
	    event_pending(connection_events.retry, EV_TIMEOUT, NULL))
		return;
	events = connection_events_format(&connection_events.asked);
	connection_events.query = pg_query_ask(connection_events.pool, CONNECTION_EVENTS_SQL, 2,
	    (const char *const[]){connection_events.origin, events}, (long)conf.query_timeout_ms,
	    connection_events_on_answer, NULL);
	free(events);
}

static void
connection_events_on_retry(evutil_socket_t fd, short what, void *arg)
{
	loop_task_queue(&connection_events.pump);
}

/* ---- life ---- */

void
connection_events_init(struct pg_query_pool *pool, const char *origin)
{
	memset(&connection_events, 0, sizeof(connection_events));
	connection_events.pool = pool;
	connection_events.origin = origin;
	TAILQ_INIT(&connection_events.waiting);
	loop_task_init(&connection_events.pump, connection_events_pump, NULL);
	connection_events.retry = evtimer_new(loop_base(), connection_events_on_retry, NULL);
	if (connection_events.retry == NULL)
		log_fatal("could not create a timer");
}

void
connection_events_free(void)
{
	if (connection_events.query != NULL)
		pg_query_cancel(connection_events.query);
	connection_events_take(connection_events.count);
	loop_task_cancel(&connection_events.pump);
	event_free(connection_events.retry);
}

void
connection_events_stop(void)
{
	connection_events.stopping = true;
	event_del(connection_events.retry);
	loop_task_queue(&connection_events.pump);
}

bool
connection_events_has_ended(void)
{
	return TAILQ_EMPTY(&connection_events.waiting) || !pg_query_pool_is_up(connection_events.pool);
}
