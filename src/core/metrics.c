/* What the node counts about itself. */
#include "config.h"
#include "core/metrics.h"
#include "core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double metrics[METRIC_COUNT];

/* Rows of one name, with different labels, stand together. */
struct metrics_row {
	const char *name, *type, *text, *label;
};

#define METRICS_PEERS_REFUSED(reason)                                                                        \
	{                                                                                                    \
		"pgrelay_peers_refused_total", "counter",                                                    \
		    "nodes and relays that were refused, by what was wrong", "reason=\"" reason "\""         \
	}
#define METRICS_CLOSED_SLOW(bound)                                                                           \
	{                                                                                                    \
		"pgrelay_sessions_closed_slow_total", "counter",                                             \
		    "sessions closed because their clients are too slow, by the bound that was passed",      \
		    "bound=\"" bound "\""                                                                    \
	}
#define METRICS_OVERFLOWED(bound)                                                                            \
	{                                                                                                    \
		"pgrelay_sessions_overflowed_total", "counter",                                              \
		    "times a session lost what waited for it, with overflow = gap, by the bound passed",     \
		    "bound=\"" bound "\""                                                                    \
	}
#define METRICS_HEARTBEATS(kind)                                                                             \
	{                                                                                                    \
		"pgrelay_heartbeats_total", "counter", "heartbeats heard, by whose they are",                \
		    "kind=\"" kind "\""                                                                      \
	}

static const struct metrics_row metrics_rows[METRIC_COUNT] = {
    [METRIC_LISTEN_UP] = {"pgrelay_listen_up", "gauge",
	"1 while the LISTEN session is proven by its own heartbeat"},
    [METRIC_QUERY_UP] = {"pgrelay_query_up", "gauge", "1 while the query session is connected"},
    [METRIC_SESSIONS] = {"pgrelay_sessions", "gauge",
	"sessions now: WebSockets and streams of server-sent events"},
    [METRIC_PATTERNS] = {"pgrelay_patterns", "gauge", "different patterns subscribed to now"},
    [METRIC_SUBSCRIPTIONS] = {"pgrelay_subscriptions", "gauge",
	"subscriptions now, each of one session to one pattern"},
    [METRIC_QUEUED_BYTES] = {"pgrelay_queued_bytes", "gauge", "octets waiting in the sessions' send queues"},
    [METRIC_QUEUE_MEMORY_BYTES] = {"pgrelay_queue_memory_bytes", "gauge",
	"octets of memory that all send queues together hold, and what is encrypted and not yet taken, "
	"less what is kept anyway"},
    [METRIC_QUEUE_MEMORY_LIMIT_BYTES] = {"pgrelay_queue_memory_limit_bytes", "gauge",
	"octets that all send queues together may hold: the setting queue_memory"},
    [METRIC_TICKETS_PENDING] = {"pgrelay_tickets_pending", "gauge", "tickets whose payload is being read"},
    [METRIC_QUERIES_PENDING] = {"pgrelay_queries_pending", "gauge",
	"queries sent or waiting, not answered yet"},
    [METRIC_PROBE_SECONDS] = {"pgrelay_probe_seconds", "gauge",
	"time the last heartbeat took to the server and back"},
    [METRIC_NOTIFY_QUEUE_USAGE] = {"pgrelay_notify_queue_usage", "gauge",
	"part of the server's NOTIFY queue in use, 0 to 1; 0 until known, as the five below"},
    [METRIC_LOG_BYTES] = {"pgrelay_log_bytes", "gauge", "octets of the log with its indexes"},
    [METRIC_LOG_AGE_SECONDS] = {"pgrelay_log_age_seconds", "gauge",
	"age of the log's oldest event; 0 when there is none"},
    [METRIC_LOG_ROTATION_AGE_SECONDS] = {"pgrelay_log_rotation_age_seconds", "gauge",
	"time since the log was last rotated"},
    [METRIC_LOG_STALE] = {"pgrelay_log_stale", "gauge",
	"1 while writers log only what does not fit into a NOTIFY, because nothing rotates the log"},
    [METRIC_CLOCK_SKEW_SECONDS] = {"pgrelay_clock_skew_seconds", "gauge",
	"the server's clock less the node's"},
    [METRIC_ANNOUNCER] = {"pgrelay_announcer", "gauge", "1 while this node announces the deferred events"},
    [METRIC_ANNOUNCE_SECONDS] = {"pgrelay_announce_seconds", "gauge",
	"time the last call of announce() took"},
    [METRIC_SESSIONS_TOTAL] = {"pgrelay_sessions_total", "counter", "sessions opened"},
    [METRIC_SESSIONS_REFUSED_TOTAL] = {"pgrelay_sessions_refused_total", "counter", "handshakes refused"},
    [METRIC_TLS_FAILURES_TOTAL] = {"pgrelay_tls_failures_total", "counter",
	"TLS handshakes with clients that failed"},
    [METRIC_SESSIONS_CLOSED_SLOW_LIMIT_TOTAL] = METRICS_CLOSED_SLOW("queue_limit"),
    [METRIC_SESSIONS_CLOSED_SLOW_AGE_TOTAL] = METRICS_CLOSED_SLOW("queue_age"),
    [METRIC_SESSIONS_CLOSED_SLOW_MEMORY_TOTAL] = METRICS_CLOSED_SLOW("queue_memory"),
    [METRIC_SESSIONS_OVERFLOWED_LIMIT_TOTAL] = METRICS_OVERFLOWED("queue_limit"),
    [METRIC_SESSIONS_OVERFLOWED_AGE_TOTAL] = METRICS_OVERFLOWED("queue_age"),
    [METRIC_SESSIONS_OVERFLOWED_MEMORY_TOTAL] = METRICS_OVERFLOWED("queue_memory"),
    [METRIC_SESSIONS_CLOSED_TIMEOUT_TOTAL] = {"pgrelay_sessions_closed_timeout_total", "counter",
	"sessions closed by ping_timeout or write_timeout"},
    [METRIC_SESSIONS_CLOSED_PROTOCOL_TOTAL] = {"pgrelay_sessions_closed_protocol_total", "counter",
	"sessions closed because the client broke the protocol"},
    [METRIC_MESSAGES_RECEIVED_TOTAL] = {"pgrelay_messages_received_total", "counter",
	"messages from clients"},
    [METRIC_MESSAGES_INVALID_TOTAL] = {"pgrelay_messages_invalid_total", "counter",
	"messages from clients answered with an error, or from AWX's relays passed over"},
    [METRIC_NOTIFICATIONS_TOTAL] = {"pgrelay_notifications_total", "counter", "NOTIFY payloads received"},
    [METRIC_EVENTS_TOTAL] = {"pgrelay_events_total", "counter", "events received, tickets included"},
    [METRIC_EVENTS_UNWANTED_TOTAL] = {"pgrelay_events_unwanted_total", "counter",
	"events that no session here wanted"},
    [METRIC_RECORDS_MALFORMED_TOTAL] = {"pgrelay_records_malformed_total", "counter",
	"malformed records skipped"},
    [METRIC_TICKETS_TOTAL] = {"pgrelay_tickets_total", "counter", "events that came as tickets"},
    [METRIC_TICKETS_READ_TOTAL] = {"pgrelay_tickets_read_total", "counter", "payloads read from the log"},
    [METRIC_TICKETS_FAILED_TOTAL] = {"pgrelay_tickets_failed_total", "counter",
	"payloads that could not be had: gone from the log, or not what the ticket's digest says"},
    [METRIC_DELIVERIES_TOTAL] = {"pgrelay_deliveries_total", "counter", "events queued for sessions"},
    [METRIC_STREAM_LIVE] = {"pgrelay_stream_live", "gauge",
	"1 while events are handed on as they come, 0 while the node catches up"},
    [METRIC_HISTORY_BYTES] = {"pgrelay_history_bytes", "gauge",
	"octets of events kept in memory for clients that come back"},
    [METRIC_CATCH_UPS_TOTAL] = {"pgrelay_catch_ups_total", "counter",
	"times events that had not been heard were looked for in the log"},
    [METRIC_EVENTS_CAUGHT_UP_TOTAL] = {"pgrelay_events_caught_up_total", "counter",
	"events that had not been heard and came from the log"},
    [METRIC_LOG_ROWS_READ_TOTAL] = {"pgrelay_log_rows_read_total", "counter",
	"events read from the log, to catch up or for clients that came back"},
    [METRIC_RESUMES_TOTAL] = {"pgrelay_resumes_total", "counter", "clients that came back with a cursor"},
    [METRIC_RESUMES_LOG_TOTAL] = {"pgrelay_resumes_log_total", "counter",
	"of these, those for whom the log was read"},
    [METRIC_GAPS_TOTAL] = {"pgrelay_gaps_total", "counter", "gap messages sent to clients"},
    [METRIC_SENT_BYTES_TOTAL] = {"pgrelay_sent_bytes_total", "counter", "octets written to clients"},
    [METRIC_LISTEN_LOST_TOTAL] = {"pgrelay_listen_lost_total", "counter",
	"times the LISTEN session was lost"},
    [METRIC_LISTEN_DEAF_TOTAL] = {"pgrelay_listen_deaf_total", "counter",
	"times the LISTEN session was made anew because it heard no heartbeat"},
    [METRIC_QUERIES_FAILED_TOTAL] = {"pgrelay_queries_failed_total", "counter",
	"queries that failed or got no answer in time"},
    [METRIC_PASSWORDS_CROWDED_TOTAL] = {"pgrelay_passwords_crowded_total", "counter",
	"names with passwords that were refused because very many were being checked"},
    [METRIC_PASSWORDS_CHECKED_TOTAL] = {"pgrelay_passwords_checked_total", "counter",
	"names with passwords that the database was asked about"},
    [METRIC_LOGINS_PENDING] = {"pgrelay_logins_pending", "gauge",
	"requests of which it is being found out whose they are"},
    [METRIC_AUTH_PENDING] = {"pgrelay_auth_pending", "gauge",
	"tokens, names and users' rights that the database is being asked about, or that wait for it"},
    [METRIC_AUTH_QUESTIONS_TOTAL] = {"pgrelay_auth_questions_total", "counter",
	"tokens, names and users' rights that the database was asked about"},
    [METRIC_AUTH_QUERIES_TOTAL] = {"pgrelay_auth_queries_total", "counter",
	"queries in which tokens, names and users' rights were asked about, many in one"},
    [METRIC_AUTH_CACHE_ENTRIES] = {"pgrelay_auth_cache_entries", "gauge",
	"answers about tokens and users' rights that are remembered (authenticate_cache)"},
    [METRIC_AUTH_CACHE_HITS_TOTAL] = {"pgrelay_auth_cache_hits_total", "counter",
	"questions about tokens and users' rights that were answered from memory"},
    [METRIC_AUTH_CACHE_MISSES_TOTAL] = {"pgrelay_auth_cache_misses_total", "counter",
	"questions about tokens and users' rights that were not in memory"},
    [METRIC_SUBREQUESTS_TOTAL] = {"pgrelay_subrequests_total", "counter",
	"questions to the web application behind auth_url"},
    [METRIC_SUBREQUESTS_FAILED_TOTAL] = {"pgrelay_subrequests_failed_total", "counter",
	"those that it did not answer, or not with a yes or no"},
    [METRIC_ACCEPT_PAUSES_TOTAL] = {"pgrelay_accept_pauses_total", "counter",
	"times accepting paused for want of descriptors"},
    [METRIC_ANNOUNCED_EVENTS_TOTAL] = {"pgrelay_announced_events_total", "counter",
	"deferred events announced by this node"},
    [METRIC_PEERS_REFUSED_MALFORMED_TOTAL] = METRICS_PEERS_REFUSED("malformed"),
    [METRIC_PEERS_REFUSED_SECRET_TOTAL] = METRICS_PEERS_REFUSED("secret"),
    [METRIC_PEERS_REFUSED_CLOCK_TOTAL] = METRICS_PEERS_REFUSED("clock"),
    [METRIC_PEERS_REFUSED_REPLAY_TOTAL] = METRICS_PEERS_REFUSED("replay"),
    [METRIC_PEERS_REFUSED_CLUSTER_TOTAL] = METRICS_PEERS_REFUSED("cluster"),
    [METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL] = METRICS_PEERS_REFUSED("handshake"),
    [METRIC_HEARTBEATS_SELF_TOTAL] = METRICS_HEARTBEATS("self"),
    [METRIC_HEARTBEATS_PEER_TOTAL] = METRICS_HEARTBEATS("peer"),
    [METRIC_HEARTBEATS_UNSIGNED_TOTAL] = METRICS_HEARTBEATS("unsigned"),
    [METRIC_HEARTBEATS_FORGED_TOTAL] = METRICS_HEARTBEATS("forged"),
    [METRIC_HEARTBEATS_SKEWED_TOTAL] = METRICS_HEARTBEATS("skewed"),
    [METRIC_HEARTBEATS_DOUBLE_TOTAL] = METRICS_HEARTBEATS("double"),
    [METRIC_HEARTBEATS_FOREIGN_TOTAL] = METRICS_HEARTBEATS("foreign"),
    [METRIC_HEARTBEATS_AWX_TOTAL] = METRICS_HEARTBEATS("awx"),
    [METRIC_HEARTBEATS_MALFORMED_TOTAL] = METRICS_HEARTBEATS("malformed"),
    [METRIC_LINKS] = {"pgrelay_links", "gauge", "links to other nodes that are open now"},
    [METRIC_LINKS_LOST_TOTAL] = {"pgrelay_links_lost_total", "counter", "open links that were lost"},
    [METRIC_PAYLOADS_SERVED_TOTAL] = {"pgrelay_payloads_served_total", "counter",
	"big payloads given to other nodes"},
    [METRIC_PAYLOADS_FETCHED_TOTAL] = {"pgrelay_payloads_fetched_total", "counter",
	"big payloads had from other nodes"},
    [METRIC_PAYLOADS_FALLBACK_TOTAL] = {"pgrelay_payloads_fallback_total", "counter",
	"big payloads asked of another node in vain, and read from the log"},
    [METRIC_PAYLOADS_WRONG_TOTAL] = {"pgrelay_payloads_wrong_total", "counter",
	"big payloads from another node that were not what their ticket says"},
    [METRIC_PAYLOADS_KEPT_BYTES] = {"pgrelay_payloads_kept_bytes", "gauge",
	"octets of big payloads that are kept for other nodes"},
    [METRIC_AWX_RELAYS] = {"pgrelay_awx_relays", "gauge", "AWX's relays (wsrelay) that have dialled in"},
    [METRIC_AWX_BROADCASTS] = {"pgrelay_awx_broadcasts", "gauge",
	"AWX's older relays (wsbroadcast) that have dialled in"},
    [METRIC_RELAYED_TOTAL] = {"pgrelay_relayed_total", "counter",
	"messages that AWX's relays brought, handed on to the clients here"},
    [METRIC_RELAYED_REPEATED_TOTAL] = {"pgrelay_relayed_repeated_total", "counter",
	"messages that AWX's relays brought after another one of them, passed over"},
    [METRIC_PUBLISH_UP] = {"pgrelay_publish_up", "gauge",
	"1 while the session that publishes is connected; it is made when the first request comes"},
    [METRIC_PUBLISH_QUEUED_BYTES] = {"pgrelay_publish_queued_bytes", "gauge",
	"octets of requests to publish that have not been answered"},
    [METRIC_PUBLISH_SECONDS] = {"pgrelay_publish_seconds", "gauge",
	"time the last transaction that published took"},
    [METRIC_PUBLISH_REQUESTS_TOTAL] = {"pgrelay_publish_requests_total", "counter",
	"requests to publish, those refused before the database included"},
    [METRIC_PUBLISH_REFUSED_TOTAL] = {"pgrelay_publish_refused_total", "counter",
	"requests to publish answered 400, 401, 403 or 413"},
    [METRIC_PUBLISH_FAILED_TOTAL] = {"pgrelay_publish_failed_total", "counter",
	"requests to publish answered 503"},
    [METRIC_PUBLISH_TRANSACTIONS_TOTAL] = {"pgrelay_publish_transactions_total", "counter",
	"transactions to publish, each for one or more requests, refused ones included"},
    [METRIC_PUBLISHED_EVENTS_TOTAL] = {"pgrelay_published_events_total", "counter",
	"events published for clients of this node"},
    [METRIC_PUBLISHED_TICKETS_TOTAL] = {"pgrelay_published_tickets_total", "counter",
	"of these, those that went out as tickets"},
    [METRIC_BODIES_BYTES] = {"pgrelay_bodies_bytes", "gauge",
	"octets that big request bodies on their way in may take"},
    [METRIC_CONNECTION_EVENTS_WAITING] = {"pgrelay_connection_events_waiting", "gauge",
	"events about connections that wait for the database"},
    [METRIC_CONNECTION_EVENTS_TOTAL] = {"pgrelay_connection_events_total", "counter",
	"events about connections emitted"},
    [METRIC_CONNECTION_EVENTS_LOST_TOTAL] = {"pgrelay_connection_events_lost_total", "counter",
	"events about connections that were not emitted: too many waited, or the database refused them"},
};

/* With no more digits than it takes to read the same number again. */
static void
metrics_print_value(FILE *out, double value)
{
	char text[32];

	snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) != value)
		snprintf(text, sizeof(text), "%.17g", value);
	fprintf(out, "%s\n", text);
}

char *
metrics_format(size_t *len)
{
	char *page = NULL;
	FILE *out = open_memstream(&page, len);

	if (out == NULL)
		log_fatal("out of memory");
	fprintf(out,
	    "# HELP pgrelay_info the program's version\n# TYPE pgrelay_info gauge\n"
	    "pgrelay_info{version=\"%s\"} 1\n",
	    PACKAGE_VERSION);
	for (int i = 0; i < METRIC_COUNT; i++) {
		const struct metrics_row *r = &metrics_rows[i];

		if (i == 0 || strcmp(r->name, r[-1].name) != 0)
			fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", r->name, r->text, r->name, r->type);
		if (r->label != NULL)
			fprintf(out, "%s{%s} ", r->name, r->label);
		else
			fprintf(out, "%s ", r->name);
		metrics_print_value(out, metrics[i]);
	}
	fclose(out);
	return page;
}
