/*
 * Heartbeats. Each is a marker in the stream, so the next goes out only when the last has come back. They
 * travel over the LISTEN session itself: a slow query elsewhere must not look like a deaf session. One is
 * under way at most. A beat is known again by its node id and its boot id: a second node with our id must not
 * prove our session.
 */
#include "config.h"
#include "cluster/heartbeat.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_listen.h"
#include "relay/stream.h"

#include <event2/event.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEARTBEAT_LATE_MS     1000
#define HEARTBEAT_BOOT_DIGITS 16

static struct {
	struct pg_listen *listen;
	struct event *timer;
	int64_t due_ms; /* when the timer ought to fire */
	char *node, *host;
	int port;
	uint64_t boot;
	json_int_t counter;
	int64_t sent_us;
	bool under_way; /* it has not come back yet */
	bool hasty;     /* then the next is to follow at once */
	bool ending, offline_sent, ended;
} heartbeat;

static char *
heartbeat_make(const char *action)
{
	char hostname[256] = "", boot[HEARTBEAT_BOOT_DIGITS + 1];
	json_t *beat;
	char *text;

	gethostname(hostname, sizeof(hostname) - 1);
	snprintf(boot, sizeof(boot), "%016" PRIx64, heartbeat.boot);
	beat = json_pack("{ss ss? ss ss ss ss si ss sI}", "hostname", hostname, "ip", heartbeat.host,
	    "action", action, "node", heartbeat.node, "boot", boot, "cluster", conf.cluster, "port",
	    heartbeat.port, "version", PACKAGE_VERSION, "counter", ++heartbeat.counter);
	text = beat != NULL ? json_dumps(beat, JSON_COMPACT) : NULL;
	if (text == NULL)
		log_fatal("out of memory");
	json_decref(beat);
	return text;
}

static bool
heartbeat_send(const char *action)
{
	char *text = heartbeat_make(action);
	bool sent;

	heartbeat.sent_us = loop_now_us();
	sent = pg_listen_notify(heartbeat.listen, text);
	heartbeat.under_way = sent;
	free(text);
	return sent;
}

static void
heartbeat_send_online(void)
{
	if (!heartbeat.ending && !heartbeat.under_way)
		heartbeat.hasty = !heartbeat_send("online") && heartbeat.hasty;
}

void
heartbeat_hasten(void)
{
	heartbeat.hasty = true;
	heartbeat_send_online();
}

void
heartbeat_begin(void)
{
	heartbeat.under_way = false;
	heartbeat_hasten();
}

int64_t
heartbeat_counter(void)
{
	return heartbeat.counter;
}

/* A timer that comes late shows that this process stood still; what has come meanwhile has not been read yet. */
static void
heartbeat_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = {conf.probe_interval_ms / 1000, (conf.probe_interval_ms % 1000) * 1000};
	int64_t now = loop_now_ms();

	event_add(heartbeat.timer, &tv);
	if (now > heartbeat.due_ms + HEARTBEAT_LATE_MS)
		pg_listen_excuse(heartbeat.listen);
	heartbeat.due_ms = now + conf.probe_interval_ms;
	pg_listen_check(heartbeat.listen);
	heartbeat_send_online();
}

/* HOST:PORT or [V6]:PORT. */
static void
heartbeat_set_address(const char *address)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon != NULL ? (size_t)(colon - address) : strlen(address);
	bool brackets = len >= 2 && address[0] == '[' && address[len - 1] == ']';

	heartbeat.host = mem_strndup(address + brackets, len - 2 * (size_t)brackets);
	if (strcmp(heartbeat.host, "0.0.0.0") == 0 || strcmp(heartbeat.host, "::") == 0) {
		log_warning(NULL,
		    "listening on every address: the heartbeats name the host only; the setting advertise "
		    "says by which address other nodes reach this one");
		free(heartbeat.host);
		heartbeat.host = NULL;
	}
	heartbeat.port = colon != NULL ? atoi(colon + 1) : 0;
}

static void
heartbeat_set_node(void)
{
	char hostname[64] = "";

	gethostname(hostname, sizeof(hostname) - 1);
	heartbeat.node =
	    *conf.node != '\0' ? mem_strdup(conf.node) : mem_printf("%s:%d", hostname, heartbeat.port);
	if (RAND_bytes((unsigned char *)&heartbeat.boot, sizeof(heartbeat.boot)) != 1)
		log_fatal("no random numbers are to be had");
}

void
heartbeat_start(struct pg_listen *listen, const char *address)
{
	memset(&heartbeat, 0, sizeof(heartbeat));
	heartbeat.listen = listen;
	heartbeat_set_address(address);
	heartbeat_set_node();
	heartbeat.timer = evtimer_new(loop_base(), heartbeat_on_timer, NULL);
	if (heartbeat.timer == NULL)
		log_fatal("could not create a timer");
	heartbeat.due_ms = loop_now_ms();
	heartbeat_on_timer(-1, 0, NULL);
}

/* One that is under way is waited for; when the session is down nobody can be told. */
void
heartbeat_stop(void)
{
	heartbeat.ending = true;
	event_del(heartbeat.timer);
	heartbeat.offline_sent = heartbeat_send("offline");
	heartbeat.ended = !heartbeat.offline_sent && !pg_listen_is_proven(heartbeat.listen);
}

void
heartbeat_on_notified(void)
{
	if (!heartbeat.ending) {
		if (heartbeat.hasty)
			heartbeat_send_online();
		return;
	}
	heartbeat.ended = heartbeat.offline_sent;
	heartbeat.offline_sent = heartbeat.offline_sent || heartbeat_send("offline");
}

bool
heartbeat_has_ended(void)
{
	return heartbeat.ended || !pg_listen_is_proven(heartbeat.listen);
}

void
heartbeat_free(void)
{
	event_free(heartbeat.timer);
	free(heartbeat.node);
	free(heartbeat.host);
	memset(&heartbeat, 0, sizeof(heartbeat));
}

/* One that is late (a former session's, or a pooler's) was sent before the last one came back: no marker of ours. */
static bool
heartbeat_is_ours(const char *node, const struct marker *marker)
{
	return strcmp(node, heartbeat.node) == 0 && marker->boot == heartbeat.boot &&
	       marker->counter == heartbeat.counter;
}

static void
heartbeat_take_own(void)
{
	metrics[METRIC_PROBE_SECONDS] = (double)(loop_now_us() - heartbeat.sent_us) / 1e6;
	heartbeat.under_way = false;
	pg_listen_prove(heartbeat.listen);
}

void
heartbeat_receive(const char *payload, size_t len)
{
	json_t *beat = json_loadb(payload, len, 0, NULL);
	const char *node = json_string_value(json_object_get(beat, "node"));
	const char *boot = json_string_value(json_object_get(beat, "boot"));
	struct marker marker = {0, json_integer_value(json_object_get(beat, "counter"))};
	char *end = NULL;
	bool own;

	if (boot != NULL)
		marker.boot = strtoull(boot, &end, 16);
	if (node != NULL && boot != NULL && strlen(boot) == HEARTBEAT_BOOT_DIGITS && *end == '\0' &&
	    marker.counter > 0) {
		own = heartbeat_is_ours(node, &marker);
		if (own)
			heartbeat_take_own();
		stream_on_marker(&marker, own, json_string_value(json_object_get(beat, "epoch")),
		    json_string_value(json_object_get(beat, "snapshot")));
		if (own && heartbeat.hasty)
			heartbeat_send_online();
	}
	json_decref(beat);
}
