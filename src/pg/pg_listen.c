/*
 * The LISTEN session. DOWN -> SUBSCRIBING (LISTEN sent) -> DEAF (committed, not proven) -> PROVEN (our
 * heartbeat came back). What comes faster than clients are written to waits in the socket.
 */
#include "config.h"
#include "pg/pg_listen.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_session.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define LISTEN_TURN_BYTES   (512 * 1024) /* that a turn brings clients, before they are written to */
#define LISTEN_BUFFER_BYTES 65536        /* of libpq's, for what comes in */
/*
 * A snapshot of thousands of transactions would not fit into a NOTIFY; pg_walfile_name() begins with the
 * timeline. The message, which nobody reads, makes the commit wait for its WAL: what a marker's snapshot sees
 * must not be forgotten by a crash, which would give the same transaction ids to others.
 */
#define LISTEN_NOTIFY_SQL                                                                                    \
	"SELECT pg_catalog.pg_notify($1, pg_catalog.concat(b.text, CASE WHEN $3::pg_catalog.text IS NOT "    \
	"NULL THEN "                                                                                         \
	"pg_catalog.concat(',\"hmac\":\"', pg_catalog.encode(pg_catalog.sha256(pg_catalog.decode($4, "       \
	"'hex') || "                                                                                         \
	"pg_catalog.sha256(pg_catalog.decode($3, 'hex') || pg_catalog.convert_to(b.text, 'UTF8'))), "        \
	"'hex'), '\"') "                                                                                     \
	"END, '}')), pg_catalog.pg_logical_emit_message(true, 'pgrelay', '') "                               \
	"FROM (SELECT pg_catalog.concat(pg_catalog.left($2, -1), "                                           \
	"CASE WHEN pg_catalog.length(s.snapshot) <= 6900 THEN pg_catalog.concat(',\"epoch\":\"', "           \
	"c.system_identifier, '.', ('x' || pg_catalog.left(pg_catalog.pg_walfile_name("                      \
	"pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::bigint, '\",\"snapshot\":\"', s.snapshot, '\"') "   \
	"END) "                                                                                              \
	"FROM (SELECT pg_catalog.pg_current_snapshot()::text) s (snapshot), pg_catalog.pg_control_system() " \
	"c "                                                                                                 \
	"OFFSET 0) b (text)"

enum pg_listen_state { LISTEN_DOWN, LISTEN_SUBSCRIBING, LISTEN_DEAF, LISTEN_PROVEN };

struct pg_listen {
	enum pg_listen_state state;
	struct pg_session *session;
	const struct pg_listen_ops *ops;
	void *arg;
	int64_t heard_ms;    /* our last heartbeat, or when listening began */
	bool busy;           /* a command is under way */
	bool pooled;         /* somebody stands between us and the server */
	size_t waited_bytes; /* for clients, when this turn began */
	struct loop_task drain;
};

static void
pg_listen_enter(struct pg_listen *l, enum pg_listen_state state)
{
	if (l->state == LISTEN_PROVEN && state != LISTEN_PROVEN)
		metrics[METRIC_LISTEN_LOST_TOTAL]++;
	if (state == LISTEN_PROVEN && l->state != LISTEN_PROVEN) {
		pg_session_settle(l->session);
		log_info("listen", "hearing events on channel \"%s\"", conf.channel);
	}
	l->state = state;
	metrics[METRIC_LISTEN_UP] = state == LISTEN_PROVEN;
	l->heard_ms = loop_now_ms();
}

static void
pg_listen_sent(struct pg_listen *l, bool ok)
{
	if (ok) {
		l->busy = true;
		pg_session_flush(l->session);
	} else {
		pg_session_reset(l->session, PQerrorMessage(pg_session_conn(l->session)));
	}
}

bool
pg_listen_notify(struct pg_listen *l, const char *payload, const char *inner, const char *outer)
{
	const char *params[PG_LISTEN_PARAMS] = {
	    conf.heartbeat_channel, payload, inner, inner != NULL ? outer : NULL};

	if (l->busy || (l->state != LISTEN_DEAF && l->state != LISTEN_PROVEN))
		return false;
	if (l->pooled)
		return l->ops->notify_elsewhere(l->arg, LISTEN_NOTIFY_SQL, params);
	pg_listen_sent(l, PQsendQueryParams(pg_session_conn(l->session), LISTEN_NOTIFY_SQL, PG_LISTEN_PARAMS,
			      NULL, params, NULL, NULL, 0) == 1);
	return l->busy;
}

static void
pg_listen_on_up(void *arg, PGconn *conn)
{
	struct pg_listen *l = arg;
	char *events = PQescapeIdentifier(conn, conf.channel, strlen(conf.channel));
	char *heartbeats = PQescapeIdentifier(conn, conf.heartbeat_channel, strlen(conf.heartbeat_channel));
	/* for a row that is so long libpq makes its buffer so long, and keeps it: a burst takes fewer system
	 * calls */
	char *sql = mem_printf("SET synchronous_commit = on; LISTEN %s; LISTEN %s; "
			       "SELECT pg_catalog.pg_backend_pid(), pg_catalog.repeat(' ', %d)",
	    events, heartbeats, LISTEN_BUFFER_BYTES);

	pg_listen_enter(l, LISTEN_SUBSCRIBING);
	pg_listen_sent(l, PQsendQuery(conn, sql) == 1);
	free(sql);
	PQfreemem(events);
	PQfreemem(heartbeats);
}

static void
pg_listen_on_down(void *arg, const char *reason)
{
	struct pg_listen *l = arg;

	loop_task_cancel(&l->drain);
	l->busy = false;
	pg_listen_enter(l, LISTEN_DOWN);
	l->ops->on_lost(l->arg);
}

static void
pg_listen_hand_on(struct pg_listen *l, const PGnotify *notify)
{
	size_t len = strlen(notify->extra);

	if (strcmp(notify->relname, conf.channel) == 0)
		l->ops->on_event(l->arg, notify->extra, len);
	else if (strcmp(notify->relname, conf.heartbeat_channel) == 0)
		l->ops->on_heartbeat(l->arg, notify->extra, len);
}

/* The command under way is done. */
static void
pg_listen_finish(struct pg_listen *l)
{
	l->busy = false;
	if (l->state != LISTEN_SUBSCRIBING) {
		l->ops->on_notified(l->arg);
		return;
	}
	pg_listen_enter(l, LISTEN_DEAF);
	l->ops->on_listening(l->arg);
}

/* A pooler has a backend of its own choice under the connection. */
static void
pg_listen_take_backend(struct pg_listen *l, PGconn *conn, const PGresult *result)
{
	l->pooled = atoi(PQgetvalue(result, 0, 0)) != PQbackendPID(conn);
	if (l->pooled)
		log_info("listen", "connected through a pooler: the heartbeats go over the query session");
}

/* A command that is refused ends the session: a server gone read-only refuses NOTIFY. False then. */
static bool
pg_listen_take_results(struct pg_listen *l, PGconn *conn)
{
	while (l->busy && !PQisBusy(conn)) {
		PGresult *result = PQgetResult(conn);
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL) {
			pg_listen_finish(l);
			return pg_session_conn(l->session) == conn;
		}
		if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
			pg_session_reset(l->session, PQresultErrorMessage(result));
			PQclear(result);
			return false;
		}
		if (status == PGRES_TUPLES_OK && l->state == LISTEN_SUBSCRIBING)
			pg_listen_take_backend(l, conn, result);
		PQclear(result);
	}
	return true;
}

/* Until the clients have been written to. Meanwhile nothing is read: libpq would hold it all. */
static void
pg_listen_wait(struct pg_listen *l)
{
	pg_session_pause(l->session, true);
	loop_task_queue(&l->drain);
}

/* Handing on may have ended the session: a heartbeat that could not be sent. */
static bool
pg_listen_has(const struct pg_listen *l, const PGconn *conn)
{
	return pg_session_conn(l->session) == conn;
}

/* Has it taken what one turn may bring? */
static bool
pg_listen_is_full(const struct pg_listen *l)
{
	return l->ops->waiting_bytes(l->arg) > l->waited_bytes + LISTEN_TURN_BYTES || loop_share_is_used();
}

/* What libpq has, as far as there is room in this turn; returns how many. */
static size_t
pg_listen_take_notifications(struct pg_listen *l, PGconn *conn)
{
	PGnotify *notify;
	size_t n = 0;

	while (pg_listen_has(l, conn) && (n == 0 || !pg_listen_is_full(l)) &&
	       (notify = PQnotifies(conn)) != NULL) {
		if (n++ == 0)
			l->heard_ms =
			    loop_now_ms(); /* our heartbeat may be far behind in a long transaction's */
		pg_listen_hand_on(l, notify);
		PQfreemem(notify);
	}
	return n;
}

/*
 * Results first: notifications that libpq swallows while reading one raise no event of their own. What comes
 * meanwhile is read as well: the more a turn brings, the fewer writes its clients need. That nothing has come
 * costs one system call.
 */
static void
pg_listen_take(struct pg_listen *l, bool read)
{
	PGconn *conn = pg_session_conn(l->session);
	size_t n;

	if (conn == NULL)
		return;
	l->waited_bytes = l->ops->waiting_bytes(l->arg);
	do {
		if (read)
			(void)PQconsumeInput(conn);
		read = true;
		if (!pg_listen_take_results(l, conn))
			return;
		n = pg_listen_take_notifications(l, conn);
		if (!pg_listen_has(l, conn))
			return;
		if (n > 0 && pg_listen_is_full(l)) {
			pg_listen_wait(l);
			return;
		}
	} while (n > 0);
	if (PQstatus(conn) == CONNECTION_OK)
		pg_session_pause(l->session, false);
	else
		pg_session_reset(l->session, PQerrorMessage(conn));
}

static void
pg_listen_drain(void *arg)
{
	pg_listen_take(arg, true);
}

static void
pg_listen_on_input(void *arg, PGconn *conn)
{
	if (loop_is_behind())
		pg_listen_wait(arg);
	else
		pg_listen_take(arg, false);
}

static const struct pg_session_ops pg_listen_session_ops = {
    pg_listen_on_up, pg_listen_on_down, pg_listen_on_input};

struct pg_listen *
pg_listen_new(const char *conninfo, const struct pg_listen_ops *ops, void *arg)
{
	struct pg_listen *l = mem_zalloc(sizeof(*l));

	l->ops = ops;
	l->arg = arg;
	loop_task_init(&l->drain, pg_listen_drain, l);
	l->session = pg_session_new("listen", conninfo, &pg_listen_session_ops, l);
	pg_session_start(l->session);
	return l;
}

void
pg_listen_free(struct pg_listen *l)
{
	if (l == NULL)
		return;
	loop_task_cancel(&l->drain);
	pg_session_free(l->session);
	free(l);
}

void
pg_listen_prove(struct pg_listen *l)
{
	if (l->state == LISTEN_DEAF || l->state == LISTEN_PROVEN)
		pg_listen_enter(l, LISTEN_PROVEN);
}

void
pg_listen_excuse(struct pg_listen *l)
{
	l->heard_ms = loop_now_ms();
}

void
pg_listen_check(struct pg_listen *l)
{
	if (loop_task_is_queued(&l->drain))
		l->heard_ms = loop_now_ms(); /* it is we who are late */
	if (l->state == LISTEN_DOWN || loop_now_ms() - l->heard_ms <= conf.probe_timeout_ms)
		return;
	metrics[METRIC_LISTEN_DEAF_TOTAL]++;
	if (l->busy)
		pg_session_reset(l->session,
		    "the server does not answer; the connection is cut half-way, or the server stands still");
	else
		pg_session_reset(l->session,
		    "deaf: our heartbeats are taken but do not come back; a pooler in transaction mode?");
}

bool
pg_listen_is_proven(const struct pg_listen *l)
{
	return l->state == LISTEN_PROVEN;
}

const char *
pg_listen_error(const struct pg_listen *l)
{
	switch (l->state) {
	case LISTEN_DOWN:
		return pg_session_error(l->session);
	case LISTEN_SUBSCRIBING:
		return "LISTEN is not acknowledged yet";
	case LISTEN_DEAF:
		return l->pooled ? "no heartbeat has come back yet through the pooler; in transaction mode "
				   "none will"
				 : "no heartbeat has come back yet";
	case LISTEN_PROVEN:
		return "";
	}
	abort();
}
