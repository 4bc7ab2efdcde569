/*
 * The node.
 *
 *   NOTIFY -> pg_listen -> dispatch -> hub -> sessions -> sockets
 *
 * Ending takes these steps: no more connections; "offline" to the other nodes; close frames (1001) to the
 * clients; then the loop stops as soon as the last session has gone and the heartbeat is out, or after
 * shutdown_timeout. A second signal ends it at once.
 */
#include "config.h"
#include "relay/relay.h"
#include "client/auth.h"
#include "client/session.h"
#include "cluster/heartbeat.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_server.h"
#include "pg/pg_listen.h"
#include "pg/pg_query.h"
#include "relay/dispatch.h"
#include "relay/hub.h"
#include "relay/rotation.h"
#include "relay/schema_check.h"
#include "relay/ticket.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* All clients' questions share the session: none of them may wait for a lock, or compute, for long. */
#define RELAY_SESSION_SQL                                                                                    \
	"SELECT set_config('lock_timeout', '1s', false), set_config('statement_timeout', '30s', false)"
#define RELAY_ENDING_POLL_MS    20
#define RELAY_SPARE_DESCRIPTORS 64

static struct {
	struct pg_query_pool *pool;
	struct pg_listen *listen;
	struct event *term, *interrupt, *hangup, *ending;
	int64_t deadline_ms;
	bool ending_now;
} relay;

/* ---- what the parts tell each other ---- */

static void
relay_on_access(int64_t user_id)
{
	log_debug("listen", "access of user %lld changed", (long long)user_id);
	session_access_changed(user_id);
}

static void
relay_on_listening(void *arg)
{
	heartbeat_hasten();
	session_access_unknown(); /* while nobody listened, rights may have changed */
}

static void
relay_on_notified(void *arg)
{
	heartbeat_on_notified();
}

static void
relay_on_event(void *arg, const char *payload, size_t len)
{
	dispatch_payload((struct slice){payload, len}, relay_on_access);
}

static void
relay_on_heartbeat(void *arg, const char *payload, size_t len)
{
	heartbeat_receive(payload, len);
}

static void
relay_on_session_set(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	if (status == PG_QUERY_ERROR)
		log_warning("query", "could not set time-outs: %s", error);
}

static void
relay_on_query_state(void *arg, bool up)
{
	metrics[METRIC_QUERY_UP] = up;
	if (!up)
		return;
	(void)pg_query_send(relay.pool, RELAY_SESSION_SQL, 0, NULL, 0, relay_on_session_set, NULL);
	schema_check_now();
}

static void
relay_add_reason(char **reasons, const char *part, const char *reason)
{
	char *more = mem_printf("%s%s: %s\n", *reasons, part, reason);

	free(*reasons);
	*reasons = more;
}

static char *
relay_readiness(void)
{
	char *reasons = mem_strdup("");

	if (!pg_listen_is_proven(relay.listen))
		relay_add_reason(&reasons, "LISTEN session", pg_listen_error(relay.listen));
	if (!pg_query_pool_is_up(relay.pool))
		relay_add_reason(&reasons, "query session", pg_query_pool_error(relay.pool));
	else if (pg_query_pool_stalled_ms(relay.pool) > conf.query_timeout_ms)
		relay_add_reason(&reasons, "query session", "queries get no answer");
	else if (*schema_check_error() != '\0')
		relay_add_reason(&reasons, "schema", schema_check_error());
	return reasons;
}

static const struct pg_listen_ops relay_listen_ops = {
    relay_on_listening, relay_on_notified, relay_on_event, relay_on_heartbeat};
static const struct http_server_ops relay_http_ops = {relay_readiness};

/* ---- signals ---- */

static void
relay_on_ending(evutil_socket_t fd, short what, void *arg)
{
	if ((session_count() == 0 && heartbeat_has_ended()) || loop_now_ms() > relay.deadline_ms)
		loop_stop();
}

static void
relay_on_end_signal(evutil_socket_t number, short what, void *arg)
{
	struct timeval tv = {0, RELAY_ENDING_POLL_MS * 1000};

	if (relay.ending_now) {
		log_warning(NULL, "ending at once on a second signal");
		loop_stop();
		return;
	}
	log_info(NULL, "ending on %s: closing %zu sessions", strsignal((int)number), session_count());
	relay.ending_now = true;
	relay.deadline_ms = loop_now_ms() + conf.shutdown_timeout_ms;
	http_server_stop();
	heartbeat_stop();
	session_close_all(WS_CLOSE_GOING_AWAY, "the node is shutting down");
	event_add(relay.ending, &tv);
}

static void
relay_on_hangup(evutil_socket_t number, short what, void *arg)
{
	char *error;

	if (conf_reload(&error)) {
		log_info(NULL, "settings re-read");
	} else {
		log_error(NULL, "settings not re-read, the former ones stay: %s", error);
		free(error);
	}
}

static struct event *
relay_signal(int number, event_callback_fn fn)
{
	struct event *ev = evsignal_new(loop_base(), number, fn, NULL);

	if (ev == NULL || event_add(ev, NULL) < 0)
		log_fatal("could not watch signal %d", number);
	return ev;
}

/* ---- life ---- */

/* A session is a descriptor. */
static void
relay_raise_descriptors(void)
{
	struct rlimit limit;
	rlim_t want = (rlim_t)conf.max_sessions + RELAY_SPARE_DESCRIPTORS;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < want)
		log_warning(NULL,
		    "max_sessions is %lld, but the system allows this process %llu descriptors; raise its "
		    "limit "
		    "(LimitNOFILE in systemd, ulimit -n in a shell)",
		    (long long)conf.max_sessions, (unsigned long long)limit.rlim_max);
}

static void
relay_start_parts(int schema_version)
{
	hub_init();
	session_init();
	relay.pool = pg_query_pool_new("query", conf.database, relay_on_query_state, NULL);
	relay.listen = pg_listen_new(conf.database, &relay_listen_ops, NULL);
	ticket_init(relay.pool);
	auth_init(relay.pool);
	rotation_start(relay.pool);
	schema_check_start(relay.pool, schema_version);
}

static void
relay_stop_parts(void)
{
	session_free_all();
	loop_settle(); /* the sessions' connections go before evhttp does */
	http_server_free();
	heartbeat_free();
	rotation_free();
	schema_check_free();
	pg_listen_free(relay.listen);
	pg_query_pool_free(relay.pool);
	hub_free();
	msg_release_blocks();
}

static void
relay_free_signals(void)
{
	event_free(relay.term);
	event_free(relay.interrupt);
	event_free(relay.hangup);
	event_free(relay.ending);
}

int
relay_run(int schema_version)
{
	char *error;

	memset(&relay, 0, sizeof(relay));
	signal(SIGPIPE, SIG_IGN);
	srandom((unsigned)loop_now_us());
	relay_raise_descriptors();
	loop_init();
	relay.term = relay_signal(SIGTERM, relay_on_end_signal);
	relay.interrupt = relay_signal(SIGINT, relay_on_end_signal);
	relay.hangup = relay_signal(SIGHUP, relay_on_hangup);
	relay.ending = event_new(loop_base(), -1, EV_PERSIST, relay_on_ending, NULL);
	if (!http_server_start(&relay_http_ops, &error)) {
		log_error(NULL, "%s", error);
		free(error);
		return 1;
	}
	log_info(NULL, "pgrelay " PACKAGE_VERSION " starting");
	relay_start_parts(schema_version);
	heartbeat_start(relay.listen, *conf.advertise != '\0' ? conf.advertise : http_server_address());
	loop_run();
	relay_stop_parts();
	relay_free_signals();
	loop_free();
	log_info(NULL, "ended");
	return 0;
}
