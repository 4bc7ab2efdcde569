/*
 * The LISTEN session. DOWN -> SUBSCRIBING (LISTEN sent) -> DEAF (committed, not proven) -> PROVEN (our
 * heartbeat came back). How much is handed on in one loop turn is bounded; libpq keeps the rest.
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

#define LISTEN_TURN_NOTIFICATIONS 64

enum pg_listen_state { LISTEN_DOWN, LISTEN_SUBSCRIBING, LISTEN_DEAF, LISTEN_PROVEN };

struct pg_listen {
	enum pg_listen_state state;
	struct pg_session *session;
	const struct pg_listen_ops *ops;
	void *arg;
	int64_t heard_ms; /* our last heartbeat, or when listening began */
	struct loop_task drain;
};

static void
pg_listen_enter(struct pg_listen *l, enum pg_listen_state state)
{
	if (l->state == LISTEN_PROVEN && state != LISTEN_PROVEN)
		metrics[METRIC_LISTEN_LOST_TOTAL]++;
	if (state == LISTEN_PROVEN && l->state != LISTEN_PROVEN)
		log_info("listen", "hearing events on channel \"%s\"", conf.channel);
	l->state = state;
	metrics[METRIC_LISTEN_UP] = state == LISTEN_PROVEN;
	l->heard_ms = loop_now_ms();
}

static void
pg_listen_on_up(void *arg, PGconn *conn)
{
	struct pg_listen *l = arg;
	char *events = PQescapeIdentifier(conn, conf.channel, strlen(conf.channel));
	char *heartbeats = PQescapeIdentifier(conn, conf.heartbeat_channel, strlen(conf.heartbeat_channel));
	char *sql = mem_printf("LISTEN %s; LISTEN %s", events, heartbeats);

	pg_listen_enter(l, LISTEN_SUBSCRIBING);
	if (PQsendQuery(conn, sql))
		pg_session_flush(l->session);
	else
		pg_session_reset(l->session, PQerrorMessage(conn));
	free(sql);
	PQfreemem(events);
	PQfreemem(heartbeats);
}

static void
pg_listen_on_down(void *arg, const char *reason)
{
	struct pg_listen *l = arg;

	loop_task_cancel(&l->drain);
	pg_listen_enter(l, LISTEN_DOWN);
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

/* False when the session broke. */
static bool
pg_listen_take_results(struct pg_listen *l, PGconn *conn)
{
	while (l->state == LISTEN_SUBSCRIBING && !PQisBusy(conn)) {
		PGresult *result = PQgetResult(conn);

		if (result == NULL) {
			pg_listen_enter(l, LISTEN_DEAF);
			l->ops->on_listening(l->arg);
		} else if (PQresultStatus(result) != PGRES_COMMAND_OK) {
			pg_session_reset(l->session, PQresultErrorMessage(result));
			PQclear(result);
			return false;
		}
		PQclear(result);
	}
	return true;
}

/* Results first: notifications that libpq swallows while reading one raise no event of their own. */
static void
pg_listen_drain(void *arg)
{
	struct pg_listen *l = arg;
	PGconn *conn = pg_session_conn(l->session);
	PGnotify *notify;

	if (conn == NULL || !pg_listen_take_results(l, conn))
		return;
	for (int i = 0; i < LISTEN_TURN_NOTIFICATIONS; i++) {
		notify = PQnotifies(conn);
		if (notify == NULL)
			return;
		pg_listen_hand_on(l, notify);
		PQfreemem(notify);
	}
	loop_task_queue(&l->drain);
}

static void
pg_listen_on_input(void *arg, PGconn *conn)
{
	pg_listen_drain(arg);
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
pg_listen_check(struct pg_listen *l, bool sending)
{
	if (!sending)
		l->heard_ms = loop_now_ms();
	if (l->state != LISTEN_DOWN && loop_now_ms() - l->heard_ms > conf.probe_timeout_ms) {
		metrics[METRIC_LISTEN_DEAF_TOTAL]++;
		pg_session_reset(l->session,
		    "deaf: our own heartbeats are sent but do not come back; a pooler in transaction "
		    "mode, or a connection cut half-way");
	}
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
		return "no heartbeat has come back yet";
	case LISTEN_PROVEN:
		return "";
	}
	abort();
}
