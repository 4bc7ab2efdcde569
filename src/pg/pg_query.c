/*
 * Queries in pipeline mode over one session.
 *
 * A query is in one of two lists: `waiting` (not sent: the session is down) or `sent` (answers come in this
 * order). Each is followed by a Sync, so each is a transaction of its own and an error stops there. Losing
 * the session answers all that were sent, for whether the server did them is not known; those that may be
 * done twice are sent again. A cancelled query that was sent stays in its list, mute, to keep the order.
 */
#include "config.h"
#include "pg/pg_query.h"
#include "core/decimal.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_session.h"

#include <assert.h>
#include <event2/event.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define PG_QUERY_MAGIC    0x9e617e51u
#define PG_QUERY_STALL_MS 30000
#define PG_QUERY_WINDOW   32 /* sent at once; what waits here can still be cancelled for nothing */
#define PG_QUERY_SENDS    4  /* how often one query may lose its session: it may be what ends it */

/* Planning for jit would take longer than most of our queries do. */
#define PG_QUERY_TIMEOUTS_SQL                                                                                \
	"SELECT set_config('statement_timeout', $1, false), "                                                \
	"set_config('lock_timeout', coalesce($2, current_setting('lock_timeout')), false), "                 \
	"set_config('jit', 'off', false)"

struct pg_query {
	unsigned magic;
	TAILQ_ENTRY(pg_query) entry;
	struct pg_query_pool *pool;
	bool sent;
	int sends;
	bool repeatable; /* is sent again when the session is lost under it */
	char *sql;
	int nparams;
	char **params;
	pg_query_done done; /* NULL when cancelled */
	void *arg;
	struct event *timer; /* NULL without a time-out */
	PGresult *result;    /* kept until its Sync is seen */
};
TAILQ_HEAD(pg_query_list, pg_query);

struct pg_query_pool {
	const char *subject;
	struct pg_session *session;
	struct pg_query_list waiting, sent;
	size_t sent_count;
	int64_t answered_ms; /* the last answer, or when the first of those under way was sent */
	struct event *stall_timer;
	struct loop_task pump;
	void (*on_state)(void *arg, bool up);
	void *arg;
};

static void
pg_query_free(struct pg_query *q)
{
	for (int i = 0; i < q->nparams; i++)
		free(q->params[i]);
	free(q->params);
	free(q->sql);
	if (q->timer != NULL)
		event_free(q->timer);
	PQclear(q->result);
	q->magic = 0;
	free(q);
}

static void
pg_query_unlink(struct pg_query *q)
{
	TAILQ_REMOVE(q->sent ? &q->pool->sent : &q->pool->waiting, q, entry);
	q->pool->sent_count -= q->sent;
	metrics[METRIC_QUERIES_PENDING]--;
}

static char *
pg_query_error_line(const PGresult *result)
{
	char *line = mem_strdup(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) != NULL
				    ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
				    : PQresultErrorMessage(result));

	for (char *p = line; *p != '\0'; p++)
		if (*p == '\n')
			*p = ' ';
	return line;
}

/* Takes the query out and answers it with what it got. */
static void
pg_query_finish(struct pg_query *q, enum pg_query_status status, const char *error)
{
	pg_query_unlink(q);
	if (status != PG_QUERY_OK && q->done != NULL)
		metrics[METRIC_QUERIES_FAILED_TOTAL]++;
	if (q->done != NULL)
		q->done(q->arg, status, status == PG_QUERY_LOST ? NULL : q->result, error);
	pg_query_free(q);
}

/* No answer came in time: the asker is told, the query stays in its place, mute. */
static void
pg_query_on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct pg_query *q = arg;
	pg_query_done done = q->done;
	void *asker = q->arg;

	assert(q->magic == PG_QUERY_MAGIC);
	q->done = NULL;
	if (!q->sent) {
		pg_query_unlink(q);
		pg_query_free(q);
	}
	/* last: what it does may end the query */
	if (done != NULL) {
		metrics[METRIC_QUERIES_FAILED_TOTAL]++;
		done(asker, PG_QUERY_LOST, NULL, "query_timeout passed");
	}
}

/* False when the session broke. */
static bool
pg_query_transmit(struct pg_query *q, PGconn *conn)
{
	struct pg_query_pool *pool = q->pool;

	if (TAILQ_EMPTY(&pool->sent))
		pool->answered_ms = loop_now_ms();
	TAILQ_REMOVE(&pool->waiting, q, entry);
	TAILQ_INSERT_TAIL(&pool->sent, q, entry);
	q->sent = true;
	q->sends++;
	pool->sent_count++;
	return PQsendQueryParams(
		   conn, q->sql, q->nparams, NULL, (const char *const *)q->params, NULL, NULL, 0) &&
	       PQpipelineSync(conn);
}

/* At the end of the turn: what it asked goes out with one call, and no answer comes from inside
 * pg_query_send(). */
static void
pg_query_pump(void *arg)
{
	struct pg_query_pool *pool = arg;
	PGconn *conn = pg_session_conn(pool->session);
	struct pg_query *q;

	if (conn == NULL)
		return;
	while (pool->sent_count < PG_QUERY_WINDOW && (q = TAILQ_FIRST(&pool->waiting)) != NULL) {
		if (!pg_query_transmit(q, conn)) {
			pg_session_reset(pool->session, PQerrorMessage(conn));
			return;
		}
	}
	pg_session_flush(pool->session);
}

/* ---- the session's callbacks ---- */

static void
pg_query_on_up(void *arg, PGconn *conn)
{
	struct pg_query_pool *pool = arg;

	if (!PQenterPipelineMode(conn)) {
		pg_session_reset(pool->session, PQerrorMessage(conn));
		return;
	}
	if (pool->on_state != NULL)
		pool->on_state(pool->arg, true);
	loop_task_queue(&pool->pump);
}

/* What can be sent again goes back to those that wait, in front of them, in its old order. */
static void
pg_query_take_back(struct pg_query_pool *pool)
{
	struct pg_query *q, *previous;

	for (q = TAILQ_LAST(&pool->sent, pg_query_list); q != NULL; q = previous) {
		previous = TAILQ_PREV(q, pg_query_list, entry);
		if (!q->repeatable || q->done == NULL || q->sends >= PG_QUERY_SENDS)
			continue;
		TAILQ_REMOVE(&pool->sent, q, entry);
		TAILQ_INSERT_HEAD(&pool->waiting, q, entry);
		q->sent = false;
		pool->sent_count--;
		PQclear(q->result);
		q->result = NULL;
	}
}

static void
pg_query_on_down(void *arg, const char *reason)
{
	struct pg_query_pool *pool = arg;
	struct pg_query *q;

	pg_query_take_back(pool);
	while ((q = TAILQ_FIRST(&pool->sent)) != NULL)
		pg_query_finish(q, PG_QUERY_LOST, reason);
	if (pool->on_state != NULL)
		pool->on_state(pool->arg, false);
}

static void
pg_query_take(struct pg_query_pool *pool, PGresult *result)
{
	struct pg_query *q = TAILQ_FIRST(&pool->sent);
	bool ok;
	char *error;

	assert(q != NULL && q->magic == PG_QUERY_MAGIC);
	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
		PQclear(q->result);
		q->result = result;
		return;
	}
	PQclear(result);
	ok = PQresultStatus(q->result) == PGRES_TUPLES_OK || PQresultStatus(q->result) == PGRES_COMMAND_OK;
	if (ok)
		pg_session_settle(pool->session);
	error = ok ? mem_strdup("") : pg_query_error_line(q->result);
	pg_query_finish(q, ok ? PG_QUERY_OK : PG_QUERY_ERROR, error);
	free(error);
}

static void
pg_query_on_input(void *arg, PGconn *conn)
{
	struct pg_query_pool *pool = arg;
	PGnotify *notify;

	pool->answered_ms = loop_now_ms();
	while (!TAILQ_EMPTY(&pool->sent) && !PQisBusy(conn)) {
		PGresult *result = PQgetResult(conn);

		if (result != NULL)
			pg_query_take(pool, result);
		if (pg_session_conn(pool->session) != conn)
			return;
	}
	while ((notify = PQnotifies(conn)) != NULL)
		PQfreemem(notify);
	if (!TAILQ_EMPTY(&pool->waiting))
		loop_task_queue(&pool->pump);
}

static const struct pg_session_ops pg_query_session_ops = {
    pg_query_on_up, pg_query_on_down, pg_query_on_input};

/* A connection cut half-way, or a server that stands still, answers nothing at all. */
static void
pg_query_on_stall_timer(evutil_socket_t fd, short what, void *arg)
{
	struct pg_query_pool *pool = arg;

	if (pg_query_pool_stalled_ms(pool) > PG_QUERY_STALL_MS)
		pg_session_reset(pool->session, "no answer to any query for 30 s");
}

/* ---- public ---- */

struct pg_query_pool *
pg_query_pool_new(const char *subject, const char *conninfo, void (*on_state)(void *arg, bool up), void *arg)
{
	struct pg_query_pool *pool = mem_zalloc(sizeof(*pool));
	struct timeval second = {1, 0};

	TAILQ_INIT(&pool->waiting);
	TAILQ_INIT(&pool->sent);
	pool->subject = subject;
	pool->on_state = on_state;
	pool->arg = arg;
	loop_task_init(&pool->pump, pg_query_pump, pool);
	pool->session = pg_session_new(subject, conninfo, &pg_query_session_ops, pool);
	pool->stall_timer = event_new(loop_base(), -1, EV_PERSIST, pg_query_on_stall_timer, pool);
	if (pool->stall_timer == NULL)
		log_fatal("could not create a timer");
	event_add(pool->stall_timer, &second);
	pg_session_start(pool->session);
	return pool;
}

void
pg_query_pool_free(struct pg_query_pool *pool)
{
	struct pg_query *q;

	if (pool == NULL)
		return;
	loop_task_cancel(&pool->pump);
	event_free(pool->stall_timer);
	pg_session_free(pool->session);
	while ((q = TAILQ_FIRST(&pool->sent)) != NULL || (q = TAILQ_FIRST(&pool->waiting)) != NULL) {
		pg_query_unlink(q);
		pg_query_free(q);
	}
	free(pool);
}

bool
pg_query_pool_is_up(const struct pg_query_pool *pool)
{
	return pg_session_conn(pool->session) != NULL;
}

const char *
pg_query_pool_error(const struct pg_query_pool *pool)
{
	return pg_session_error(pool->session);
}

int64_t
pg_query_pool_stalled_ms(const struct pg_query_pool *pool)
{
	return TAILQ_EMPTY(&pool->sent) ? 0 : loop_now_ms() - pool->answered_ms;
}

static void
pg_query_on_timeouts_set(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	const struct pg_query_pool *pool = arg;

	if (status == PG_QUERY_ERROR)
		log_warning(pool->subject, "could not set time-outs: %s", error);
}

void
pg_query_pool_set_timeouts(struct pg_query_pool *pool, int64_t statement_ms, int64_t lock_ms)
{
	char statement[DECIMAL_MAX + 1] = "", lock[DECIMAL_MAX + 1] = "";
	const char *params[] = {statement, lock_ms > 0 ? lock : NULL};

	if (!pg_query_pool_is_up(pool))
		return;
	(void)decimal_write(statement, (uint64_t)statement_ms);
	(void)decimal_write(lock, (uint64_t)lock_ms);
	(void)pg_query_send(pool, PG_QUERY_TIMEOUTS_SQL, 2, params, 0, pg_query_on_timeouts_set, pool);
}

struct pg_query *
pg_query_send(struct pg_query_pool *pool, const char *sql, int nparams, const char *const *params,
    long timeout_ms, pg_query_done done, void *arg)
{
	struct pg_query *q = mem_zalloc(sizeof(*q));
	struct timeval tv = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};

	q->magic = PG_QUERY_MAGIC;
	q->pool = pool;
	q->sql = mem_strdup(sql);
	q->nparams = nparams;
	q->params = mem_zalloc(sizeof(*q->params) * (size_t)nparams);
	for (int i = 0; i < nparams; i++)
		q->params[i] = params[i] != NULL ? mem_strdup(params[i]) : NULL;
	q->done = done;
	q->arg = arg;
	if (timeout_ms > 0) {
		q->timer = evtimer_new(loop_base(), pg_query_on_timeout, q);
		if (q->timer == NULL)
			log_fatal("could not create a timer");
		event_add(q->timer, &tv);
	}
	TAILQ_INSERT_TAIL(&pool->waiting, q, entry);
	metrics[METRIC_QUERIES_PENDING]++;
	loop_task_queue(&pool->pump);
	return q;
}

struct pg_query *
pg_query_ask(struct pg_query_pool *pool, const char *sql, int nparams, const char *const *params,
    long timeout_ms, pg_query_done done, void *arg)
{
	struct pg_query *q = pg_query_send(pool, sql, nparams, params, timeout_ms, done, arg);

	q->repeatable = true;
	return q;
}

void
pg_query_cancel(struct pg_query *q)
{
	assert(q->magic == PG_QUERY_MAGIC);
	q->done = NULL;
	if (!q->sent) {
		pg_query_unlink(q);
		pg_query_free(q);
	}
}

char *
pg_query_text_array(const char *const *items, size_t count)
{
	size_t size = 3;
	char *text, *p;

	for (size_t i = 0; i < count; i++)
		size += items[i] != NULL ? 2 * strlen(items[i]) + 3 : 5;
	p = text = mem_alloc(size);
	*p++ = '{';
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			*p++ = ',';
		if (items[i] == NULL) {
			p = stpcpy(p, "NULL");
			continue;
		}
		*p++ = '"';
		for (const char *c = items[i]; *c != '\0'; c++) {
			if (*c == '"' || *c == '\\')
				*p++ = '\\';
			*p++ = *c;
		}
		*p++ = '"';
	}
	*p++ = '}';
	*p = '\0';
	return text;
}

int
pg_result_rows(const PGresult *result)
{
	return PQntuples(result);
}

const char *
pg_result_text(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

size_t
pg_result_length(const PGresult *result, int row, int column)
{
	return (size_t)PQgetlength(result, row, column);
}

const char *
pg_result_sqlstate(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return state != NULL ? state : "";
}
