/*
 * The announcer.
 *
 * States: OFF (announcing is not wanted) -> DOWN (the session is being made) -> WAITING (for the lock) ->
 * ANNOUNCING. announcer_enter() alone writes ->state. The lock is the session's: who loses the session loses
 * the lock, and begins again in DOWN. At most one query of ours is under way on the session, the step, whose
 * answer says when the next one is due. While ANNOUNCING ->snapshot is where the next call goes on: NULL
 * before the first.
 *
 * A holder that stands still (a stopped process, a network that is cut) keeps its backend, and so the lock.
 * Who waits sees that no record `d` comes, asks the server whether that backend has been waiting for its
 * client all the time, and has it ended.
 */
#include "config.h"
#include "cluster/announcer.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define ANNOUNCER_ASK_MS    10000
#define ANNOUNCER_CALL_MS   10
#define ANNOUNCER_TICK_MS   1000 /* protocol.md: with nothing to announce, a `d` goes out once a second */
#define ANNOUNCER_LOCK_MS   500
#define ANNOUNCER_SILENT_MS 1500
#define ANNOUNCER_UNSEAT_MS 50
#define ANNOUNCER_DEAF_MS   50
#define ANNOUNCER_ERROR_MS  200 /* shorter than what makes the others think that we stand still */
#define ANNOUNCER_LOG_S     60

/* The log has no statistics. What is announced has been committed, and a NOTIFY does not outlive a crash:
 * there is nothing to flush. The server finds out soon that this node has gone. */
#define ANNOUNCER_SESSION_SQL                                                                                \
	"SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),"                \
	" set_config('synchronous_commit', 'off', false), set_config('statement_timeout', '30s', false),"    \
	" set_config('tcp_keepalives_idle', '1', false), set_config('tcp_keepalives_interval', '1', false)," \
	" set_config('tcp_keepalives_count', '2', false), set_config('tcp_user_timeout', '3s', false)"
#define ANNOUNCER_LOCK_SQL                                                                                   \
	"SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('pgrelay.announcer', 0))"
#define ANNOUNCER_CALL_SQL "SELECT snapshot, events FROM pgrelay.announce($1, $2)"
/* The holder's backend; null when we may not see its state, else whether it was ended. */
#define ANNOUNCER_UNSEAT_SQL                                                                                 \
	"SELECT a.pid, CASE WHEN a.state_change IS NULL THEN NULL"                                           \
	" WHEN a.wait_event_type = 'Client' AND a.state_change < clock_timestamp() - interval '1 s'"         \
	" THEN pg_catalog.pg_terminate_backend(a.pid) ELSE false END"                                        \
	" FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid),"                        \
	" pg_catalog.hashtextextended('pgrelay.announcer', 0) h"                                             \
	" WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"                                    \
	" AND l.classid = (h >> 32 & 4294967295)::oid AND l.objid = (h & 4294967295)::oid AND l.database ="  \
	" (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())"

enum announcer_state { ANNOUNCER_OFF, ANNOUNCER_DOWN, ANNOUNCER_WAITING, ANNOUNCER_ANNOUNCING };

static struct {
	enum announcer_state state;
	struct pg_query_pool *pool; /* the node's: NULL when not started */
	const char *conninfo;
	bool (*hears)(void);
	struct event *ask_timer;
	struct pg_query *ask; /* whether announcing is wanted; NULL when not under way */
	bool ask_again;
	struct pg_query_pool *own; /* the third session; NULL when OFF */
	struct event *step_timer;
	char *snapshot;
	int64_t called_us; /* when the last call began */
	int64_t sent_ms;   /* when the last `d` of ours went out */
	int64_t heard_ms;  /* when the last `d` of anybody's came, or waiting began */
} announcer;

static void
announcer_step_in(int64_t us)
{
	struct timeval tv = {us / 1000000, us % 1000000};

	event_add(announcer.step_timer, &tv);
}

static void
announcer_enter(enum announcer_state state)
{
	enum announcer_state former = announcer.state;

	announcer.state = state;
	event_del(announcer.step_timer);
	free(announcer.snapshot);
	announcer.snapshot = NULL;
	metrics[METRIC_ANNOUNCER] = state == ANNOUNCER_ANNOUNCING;
	if (state == ANNOUNCER_ANNOUNCING)
		log_info("announce", "this node announces deferred events from now on");
	else if (former == ANNOUNCER_ANNOUNCING)
		log_info("announce", "this node does not announce deferred events any more");
	if (state == ANNOUNCER_WAITING)
		announcer.heard_ms = loop_now_ms();
	if (state == ANNOUNCER_WAITING || state == ANNOUNCER_ANNOUNCING)
		announcer_step_in(0);
}

/* For what may come with every step. */
#define announcer_warn(...)                                                                                  \
	do {                                                                                                 \
		static struct log_limit limit;                                                               \
		unsigned long more;                                                                          \
                                                                                                             \
		if (log_limit_pass(&limit, ANNOUNCER_LOG_S, &more))                                          \
			log_warning("announce", __VA_ARGS__);                                                \
	} while (0)

/* ---- announcing ---- */

static void
announcer_take_answer(const PGresult *result)
{
	const char *snapshot = pg_result_text(result, 0, 0), *events = pg_result_text(result, 0, 1);

	if (announcer.snapshot == NULL || strcmp(snapshot, announcer.snapshot) != 0) {
		announcer.sent_ms = announcer.called_us / 1000;
		free(announcer.snapshot);
		announcer.snapshot = mem_strdup(snapshot);
	}
	metrics[METRIC_ANNOUNCED_EVENTS_TOTAL] += strtod(events, NULL);
}

/* What an error has undone is announced by the next call, which goes on from the same snapshot. */
static void
announcer_on_called(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	int64_t took_us = loop_now_us() - announcer.called_us, rest_us = ANNOUNCER_CALL_MS * 1000 - took_us;

	if (status == PG_QUERY_LOST)
		return;
	if (status == PG_QUERY_ERROR) {
		announcer_warn("could not announce deferred events, trying again: %s", error);
		announcer_step_in(ANNOUNCER_ERROR_MS * 1000);
		return;
	}
	metrics[METRIC_ANNOUNCE_SECONDS] = (double)took_us / 1e6;
	announcer_take_answer(result);
	announcer_step_in(rest_us > 0 ? rest_us : 0);
}

static void
announcer_call(void)
{
	bool tick = announcer.snapshot == NULL || loop_now_ms() - announcer.sent_ms >= ANNOUNCER_TICK_MS;
	const char *params[] = {announcer.snapshot, tick ? "t" : "f"};

	announcer.called_us = loop_now_us();
	(void)pg_query_send(announcer.own, ANNOUNCER_CALL_SQL, 2, params, 0, announcer_on_called, NULL);
}

/* ---- waiting for the lock ---- */

static void
announcer_on_unseated(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	if (status == PG_QUERY_LOST)
		return;
	if (status == PG_QUERY_ERROR)
		announcer_warn(
		    "the announcer stands still, and its session could not be ended (%s); let every node "
		    "connect as the same role",
		    error);
	else if (pg_result_rows(result) > 0 && pg_result_text(result, 0, 1) == NULL)
		announcer_warn(
		    "nothing is announced; the announcer's lock is held by backend %s, which is another "
		    "role's; let every node connect as the same role, or end that backend",
		    pg_result_text(result, 0, 0));
	else if (pg_result_rows(result) > 0 && *pg_result_text(result, 0, 1) == 't')
		log_warning("announce", "the announcer stood still; ended its session, backend %s",
		    pg_result_text(result, 0, 0));
	announcer_step_in(ANNOUNCER_UNSEAT_MS * 1000);
}

static void
announcer_unseat(void)
{
	(void)pg_query_send(announcer.own, ANNOUNCER_UNSEAT_SQL, 0, NULL, 0, announcer_on_unseated, NULL);
}

static void
announcer_on_lock(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	int64_t silent_in_ms = announcer.heard_ms + ANNOUNCER_SILENT_MS - loop_now_ms();

	if (status == PG_QUERY_LOST)
		return;
	if (status == PG_QUERY_ERROR) {
		announcer_warn("could not ask for the announcer's lock: %s", error);
		announcer_step_in(ANNOUNCER_LOCK_MS * 1000);
	} else if (*pg_result_text(result, 0, 0) == 't') {
		announcer_enter(ANNOUNCER_ANNOUNCING);
	} else if (silent_in_ms <= 0) {
		announcer_unseat();
	} else {
		announcer_step_in(
		    (silent_in_ms < ANNOUNCER_LOCK_MS ? silent_in_ms : ANNOUNCER_LOCK_MS) * 1000);
	}
}

/* ---- the session ---- */

static void
announcer_on_step(evutil_socket_t fd, short what, void *arg)
{
	if (announcer.state == ANNOUNCER_ANNOUNCING) {
		announcer_call();
	} else if (announcer.hears()) {
		(void)pg_query_send(announcer.own, ANNOUNCER_LOCK_SQL, 0, NULL, 0, announcer_on_lock, NULL);
	} else {
		announcer.heard_ms = loop_now_ms();
		announcer_step_in(ANNOUNCER_DEAF_MS * 1000);
	}
}

static void
announcer_on_session_set(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	if (status == PG_QUERY_ERROR)
		announcer_warn("could not set the session up: %s", error);
}

static void
announcer_on_state(void *arg, bool up)
{
	if (!up) {
		announcer_enter(ANNOUNCER_DOWN);
		return;
	}
	(void)pg_query_send(announcer.own, ANNOUNCER_SESSION_SQL, 0, NULL, 0, announcer_on_session_set, NULL);
	announcer_enter(ANNOUNCER_WAITING);
}

/* ---- is it wanted? ---- */

static void
announcer_set_wanted(bool wanted)
{
	if (wanted && announcer.own == NULL) {
		announcer_enter(ANNOUNCER_DOWN);
		announcer.own = pg_query_pool_new("announce", announcer.conninfo, announcer_on_state, NULL);
	} else if (!wanted && announcer.own != NULL) {
		pg_query_pool_free(announcer.own);
		announcer.own = NULL;
		announcer_enter(ANNOUNCER_OFF);
	}
}

static void announcer_ask(void);

/* Without an answer all stays as it is. */
static void
announcer_on_wanted(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	announcer.ask = NULL;
	if (status == PG_QUERY_OK)
		announcer_set_wanted(*pg_result_text(result, 0, 0) == 't');
	else
		log_debug("announce", "could not ask whether announcing is wanted: %s", error);
	if (announcer.ask_again)
		announcer_ask();
}

static void
announcer_ask(void)
{
	announcer.ask_again = announcer.ask != NULL;
	if (announcer.ask == NULL)
		announcer.ask = pg_query_ask(announcer.pool, "SELECT pgrelay.announce_wanted()", 0, NULL, 0,
		    announcer_on_wanted, NULL);
}

static void
announcer_on_ask_timer(evutil_socket_t fd, short what, void *arg)
{
	if (announcer.ask == NULL)
		announcer_ask();
}

/* ---- public ---- */

void
announcer_start(struct pg_query_pool *pool, const char *conninfo, bool (*hears)(void))
{
	struct timeval tv = {ANNOUNCER_ASK_MS / 1000, 0};

	memset(&announcer, 0, sizeof(announcer));
	announcer.pool = pool;
	announcer.conninfo = conninfo;
	announcer.hears = hears;
	announcer.step_timer = evtimer_new(loop_base(), announcer_on_step, NULL);
	announcer.ask_timer = event_new(loop_base(), -1, EV_PERSIST, announcer_on_ask_timer, NULL);
	if (announcer.step_timer == NULL || announcer.ask_timer == NULL)
		log_fatal("could not create a timer");
	event_add(announcer.ask_timer, &tv);
	announcer_ask();
}

void
announcer_settings_changed(void)
{
	if (announcer.pool != NULL)
		announcer_ask();
}

void
announcer_heard(void)
{
	announcer.heard_ms = loop_now_ms();
}

void
announcer_free(void)
{
	if (announcer.pool == NULL)
		return;
	if (announcer.ask != NULL)
		pg_query_cancel(announcer.ask);
	pg_query_pool_free(announcer.own);
	announcer_enter(ANNOUNCER_OFF);
	event_free(announcer.step_timer);
	event_free(announcer.ask_timer);
	memset(&announcer, 0, sizeof(announcer));
}
