/*
 * The node.
 *
 *   NOTIFY -> pg_listen -> stream -> dispatch -> hub -> sessions -> sockets
 *
 * Ending takes these steps: no more connections; "offline" to the other nodes; close frames (1001) to the
 * clients; then the loop stops as soon as the last session has gone and the heartbeat is out, or after
 * shutdown_timeout. A second signal ends it at once.
 */
#include "config.h"
#include "relay/relay.h"
#include "client/auth.h"
#include "client/auth_cache.h"
#include "client/connection_events.h"
#include "client/connections.h"
#include "client/relay_dedup.h"
#include "client/session.h"
#include "cluster/announcer.h"
#include "cluster/connection_list.h"
#include "cluster/heartbeat.h"
#include "cluster/mesh.h"
#include "cluster/node.h"
#include "cluster/payload.h"
#include "cluster/question.h"
#include "cluster/secret.h"
#include "cluster/status.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/deflate.h"
#include "http/http_server.h"
#include "pg/pg_listen.h"
#include "pg/pg_query.h"
#include "relay/health.h"
#include "relay/history.h"
#include "relay/hub.h"
#include "relay/log_reader.h"
#include "relay/publisher.h"
#include "relay/resume.h"
#include "relay/rotation.h"
#include "relay/schema_check.h"
#include "relay/stream.h"
#include "relay/ticket.h"

#include <event2/event.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define RELAY_STATEMENT_MS      30000
#define RELAY_LOCK_MS           1000
#define RELAY_ENDING_POLL_MS    20
#define RELAY_TRIM_SECONDS      10
#define RELAY_SPARE_DESCRIPTORS 64

static struct {
	struct pg_query_pool *pool;
	struct pg_listen *listen;
	struct pg_query *beat; /* a heartbeat that goes over the query session; NULL when none is under way */
	struct event *term, *interrupt, *hangup, *ending, *trim;
	int64_t deadline_ms;
	bool ending_now, ended;
} relay;

/* ---- what the parts tell each other ---- */

static void
relay_on_access(int64_t user_id)
{
	log_debug("listen", "access of user %lld changed", (long long)user_id);
	auth_cache_forget_user(user_id);
	session_access_changed(user_id);
}

/* While nobody listened, rights and settings may have changed. */
static void
relay_on_listening(void *arg)
{
	stream_on_listening();
	heartbeat_begin();
	auth_cache_forget_all();
	session_access_unknown();
	announcer_settings_changed();
}

static void
relay_on_lost(void *arg)
{
	auth_cache_forget_all();
	stream_on_lost();
}

static void
relay_on_notified(void *arg)
{
	heartbeat_on_notified();
}

static void
relay_on_beat_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	relay.beat = NULL;
	if (status == PG_QUERY_OK)
		heartbeat_on_notified();
	else
		log_debug("query", "could not send a heartbeat: %s", error);
}

static bool
relay_notify_elsewhere(void *arg, const char *sql, const char *const params[PG_LISTEN_PARAMS])
{
	if (relay.beat != NULL)
		return false;
	relay.beat = pg_query_ask(
	    relay.pool, sql, PG_LISTEN_PARAMS, params, conf.probe_timeout_ms, relay_on_beat_answer, NULL);
	return true;
}

static void
relay_on_event(void *arg, const char *payload, size_t len)
{
	stream_on_payload(payload, len);
}

static void
relay_on_heartbeat(void *arg, const char *payload, size_t len)
{
	heartbeat_receive(payload, len);
}

/* All clients' questions, and our own, share the session: none of them may wait for a lock, or compute, for
 * long. */
static void
relay_set_timeouts(void)
{
	int64_t statement_ms =
	    conf.query_timeout_ms > RELAY_STATEMENT_MS ? conf.query_timeout_ms : RELAY_STATEMENT_MS;

	pg_query_pool_set_timeouts(relay.pool, statement_ms, RELAY_LOCK_MS);
}

static void
relay_on_query_state(void *arg, bool up)
{
	metrics[METRIC_QUERY_UP] = up;
	if (!up)
		return;
	relay_set_timeouts();
	schema_check_now();
}

static void
relay_add_reason(char **reasons, const char *part, const char *reason)
{
	char *more = mem_printf("%s%s: %s\n", *reasons, part, reason);

	free(*reasons);
	*reasons = more;
}

static void
relay_add_lag(char **reasons)
{
	char *reason = mem_printf(
	    "catching up for %lld s: %s", (long long)stream_behind_ms() / 1000, stream_behind_reason());

	relay_add_reason(reasons, "events", reason);
	free(reason);
}

static char *
relay_readiness(void)
{
	char *reasons = mem_strdup("");

	if (!pg_listen_is_proven(relay.listen))
		relay_add_reason(&reasons, "LISTEN session", pg_listen_error(relay.listen));
	else if (stream_behind_ms() > conf.query_timeout_ms)
		relay_add_lag(&reasons);
	if (!pg_query_pool_is_up(relay.pool))
		relay_add_reason(&reasons, "query session", pg_query_pool_error(relay.pool));
	else if (pg_query_pool_stalled_ms(relay.pool) > conf.query_timeout_ms)
		relay_add_reason(&reasons, "query session", "queries get no answer");
	else if (*schema_check_error() != '\0')
		relay_add_reason(&reasons, "schema", schema_check_error());
	return reasons;
}

static bool
relay_is_ready(void)
{
	char *reasons = relay_readiness();
	bool ready = *reasons == '\0';

	free(reasons);
	return ready;
}

/* Where other nodes reach this one. */
static const char *
relay_address(void)
{
	return *conf.advertise != '\0' ? conf.advertise : http_server_address();
}

/* Behind the event that is being queued: for one client on its way back, or for all. */
static size_t
relay_cursor(const struct msg *msg, char *out, size_t size)
{
	return resume_is_visiting() ? resume_cursor(out) : stream_cursor_at(&msg->place, out);
}

static size_t
relay_waiting_bytes(void *arg)
{
	return (size_t)metrics[METRIC_QUEUE_MEMORY_BYTES];
}

static const struct pg_listen_ops relay_listen_ops = {relay_on_listening, relay_on_lost, relay_on_notified,
    relay_notify_elsewhere, relay_on_event, relay_on_heartbeat, relay_waiting_bytes};
static const struct stream_ops relay_stream_ops = {
    relay_on_access, announcer_settings_changed, announcer_heard, heartbeat_hasten};
static const struct node_ops relay_node_ops = {mesh_on_heard, heartbeat_hasten, mesh_on_forgotten};
static const struct publisher_ops relay_publisher_ops = {node_self_id, payload_keep, payload_settle};
static const struct http_server_ops relay_http_ops = {relay_readiness};

/* ---- signals ---- */

static bool
relay_has_ended(void)
{
	return (session_count() == 0 && heartbeat_has_ended() && publisher_is_idle() &&
		   connection_events_has_ended()) ||
	       loop_now_ms() > relay.deadline_ms;
}

/* The last answers go out in the turns that follow: so only the second time. */
static void
relay_on_ending(evutil_socket_t fd, short what, void *arg)
{
	if (!relay_has_ended())
		return;
	publisher_give_up();
	if (relay.ended)
		loop_stop();
	relay.ended = true;
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
	mesh_stop();
	session_close_all(WS_CLOSE_GOING_AWAY, "the node is shutting down");
	connection_events_stop();
	event_add(relay.ending, &tv);
}

static void
relay_check_compression(void)
{
	if (conf.compress_min_bytes > 0 && !deflate_is_built_in())
		log_warning(NULL,
		    "setting \"compress_min\" has no effect: this pgrelay was built without zlib; "
		    "build it with zlib, or set compress_min to 0");
}

static void
relay_on_hangup(evutil_socket_t number, short what, void *arg)
{
	char *error;

	health_hasten();
	if (conf_reload(&error)) {
		relay_check_compression();
		log_info(NULL, "settings re-read");
		auth_cache_forget_all();
		relay_set_timeouts();
		publisher_settings_changed();
		auth_settings_changed();
		http_server_reload();
		session_settings_changed();
	} else {
		log_error(NULL, "settings not re-read, the former ones stay: %s", error);
		free(error);
	}
}

/*
 * A burst's memory goes back to the system: malloc() alone would keep what lies below something that lives on.
 */
static void
relay_on_trim(evutil_socket_t fd, short what, void *arg)
{
	relay_dedup_age(loop_now_ms());
#ifdef __GLIBC__
	malloc_trim(0);
#endif
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

static bool
relay_hears(void)
{
	return pg_listen_is_proven(relay.listen);
}

static bool
relay_works(void)
{
	return pg_listen_is_proven(relay.listen) && pg_query_pool_is_up(relay.pool);
}

static void
relay_start_parts(int schema_version)
{
	hub_init();
	history_init();
	log_reader_init(conf.database, relay_works);
	resume_init(heartbeat_hasten, heartbeat_counter);
	stream_init(&relay_stream_ops);
	msg_set_cursor_source(relay_cursor);
	session_init();
	relay.pool = pg_query_pool_new("query", conf.database, relay_on_query_state, NULL);
	relay.listen = pg_listen_new(conf.database, &relay_listen_ops, NULL);
	node_init(heartbeat_node(), heartbeat_boot(), &relay_node_ops);
	mesh_init();
	payload_init(publisher_is_busy);
	question_init();
	status_init(relay_address(), relay_is_ready);
	connection_list_init();
	connections_init(heartbeat_node());
	connection_events_init(relay.pool, heartbeat_node());
	ticket_init(relay.pool, &payload_source);
	auth_cache_init(relay_hears);
	auth_init(relay.pool, conf.database);
	publisher_init(conf.database, &relay_publisher_ops);
	rotation_start(relay.pool);
	announcer_start(relay.pool, conf.database, relay_hears);
	health_start(relay.pool);
	schema_check_start(relay.pool, schema_version);
}

static void
relay_stop_parts(void)
{
	session_free_all();
	publisher_free();
	loop_settle(); /* the sessions' connections go before evhttp does */
	http_server_free();
	auth_free();
	auth_cache_free();
	mesh_free();
	status_free();
	question_free_all();
	connection_events_free();
	payload_free();
	node_free_all();
	relay_dedup_free();
	secret_free();
	heartbeat_free();
	rotation_free();
	health_free();
	schema_check_free();
	announcer_free();
	stream_free();
	resume_free();
	log_reader_free();
	history_free();
	pg_listen_free(relay.listen);
	pg_query_pool_free(relay.pool);
	hub_free();
	msg_release_blocks();
	ws_free_spare();
}

static void
relay_free_signals(void)
{
	event_free(relay.term);
	event_free(relay.interrupt);
	event_free(relay.hangup);
	event_free(relay.ending);
	event_free(relay.trim);
}

int
relay_run(int schema_version)
{
	struct timeval trim_interval = {RELAY_TRIM_SECONDS, 0};
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
	relay.trim = event_new(loop_base(), -1, EV_PERSIST, relay_on_trim, NULL);
	event_add(relay.trim, &trim_interval);
	if (!http_server_start(&relay_http_ops, &error)) {
		log_error(NULL, "%s", error);
		free(error);
		return 1;
	}
	log_info(NULL, "pgrelay " PACKAGE_VERSION " starting");
	relay_check_compression();
	heartbeat_init(relay_address());
	relay_start_parts(schema_version);
	heartbeat_start(relay.listen);
	loop_run();
	relay_stop_parts();
	relay_free_signals();
	loop_free();
	log_info(NULL, "ended");
	return 0;
}
