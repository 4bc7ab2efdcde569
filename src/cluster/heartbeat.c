/*
 * Heartbeats. Each is a marker in the stream, so the next goes out only when the last has come back. They
 * travel over the LISTEN session itself: a slow query elsewhere must not look like a deaf session. One is
 * under way at most. A beat is known again by its node id and its boot id: a second node with our id must not
 * prove our session.
 */
#include "config.h"
#include "cluster/heartbeat.h"
#include "cluster/node.h"
#include "cluster/secret.h"
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
#include <sys/time.h>
#include <unistd.h>

#define HEARTBEAT_LATE_MS     1000
#define HEARTBEAT_BOOT_DIGITS 16
#define HEARTBEAT_TEXT_MAX    255
#define HEARTBEAT_LABEL       "pgrelay.heartbeat.1"
#define HEARTBEAT_HMAC        ",\"hmac\":\""

static struct {
	struct pg_listen *listen;
	struct event *timer;
	int64_t due_ms; /* when the timer ought to fire */
	char *node, *host;
	int port;
	bool tls;
	uint64_t boot;
	json_int_t counter;
	int64_t sent_us;
	int64_t time_us; /* of the last one, since 1970 */
	bool under_way;  /* it has not come back yet */
	bool hasty;      /* then the next is to follow at once */
	bool ending, offline_sent, ended;
} heartbeat;

/* Without "epoch", "snapshot" and "hmac", which the server puts in. */
static char *
heartbeat_make(const char *action)
{
	char hostname[256] = "", boot[HEARTBEAT_BOOT_DIGITS + 1];
	struct timeval now;
	json_t *beat;
	char *text;

	gethostname(hostname, sizeof(hostname) - 1);
	gettimeofday(&now, NULL);
	snprintf(boot, sizeof(boot), "%016" PRIx64, heartbeat.boot);
	heartbeat.time_us = (int64_t)now.tv_sec * 1000000 + now.tv_usec;
	beat = json_pack("{ss ss? ss ss ss ss ss si ss sI sI}", "hostname", hostname, "ip", heartbeat.host,
	    "action", action, "node", heartbeat.node, "boot", boot, "cluster", conf.cluster, "scheme",
	    heartbeat.tls ? "wss" : "ws", "port", heartbeat.port, "version", PACKAGE_VERSION, "time",
	    (json_int_t)heartbeat.time_us, "counter", ++heartbeat.counter);
	text = beat != NULL ? json_dumps(beat, JSON_COMPACT) : NULL;
	if (text == NULL)
		log_fatal("out of memory");
	json_decref(beat);
	return text;
}

/* What the key of a heartbeat is made of. The caller releases it with free(). */
static char *
heartbeat_key_text(const char *node, uint64_t boot, int64_t counter, int64_t time_us)
{
	return mem_printf(
	    HEARTBEAT_LABEL "\n%s\n%016" PRIx64 "\n%" PRId64 "\n%" PRId64, node, boot, counter, time_us);
}

static bool
heartbeat_send(const char *action)
{
	char *text = heartbeat_make(action), *key_text;
	char inner[SECRET_BLOCK_SIZE], outer[SECRET_BLOCK_SIZE];

	key_text = heartbeat_key_text(heartbeat.node, heartbeat.boot, heartbeat.counter, heartbeat.time_us);
	if (secret_is_set())
		secret_signing_blocks(key_text, inner, outer);
	heartbeat.sent_us = loop_now_us();
	heartbeat.under_way = pg_listen_notify(heartbeat.listen, text, secret_is_set() ? inner : NULL, outer);
	free(key_text);
	free(text);
	return heartbeat.under_way;
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

/*
 * A timer that comes late shows that this process stood still; what has come meanwhile has not been read yet.
 */
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

/* HOST:PORT or [V6]:PORT, with wss:// before it or not. */
static void
heartbeat_set_address(const char *address)
{
	const char *colon;
	size_t len;
	bool brackets;

	heartbeat.tls = strncmp(address, "wss://", 6) == 0;
	address += heartbeat.tls ? 6 : strncmp(address, "ws://", 5) == 0 ? 5 : 0;
	colon = strrchr(address, ':');
	len = colon != NULL ? (size_t)(colon - address) : strlen(address);
	brackets = len >= 2 && address[0] == '[' && address[len - 1] == ']';
	heartbeat.host = mem_strndup(address + brackets, len - 2 * (size_t)brackets);
	if (strcmp(heartbeat.host, "0.0.0.0") == 0 || strcmp(heartbeat.host, "::") == 0) {
		log_warning(NULL,
		    "listening on every address: the heartbeats name the host only; the setting advertise "
		    "says by which address other nodes reach this one");
		free(heartbeat.host);
		heartbeat.host = NULL;
	}
	heartbeat.port = colon != NULL ? atoi(colon + 1) : heartbeat.tls ? 443 : 80;
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
heartbeat_init(const char *address)
{
	memset(&heartbeat, 0, sizeof(heartbeat));
	heartbeat_set_address(address);
	heartbeat_set_node();
}

const char *
heartbeat_node(void)
{
	return heartbeat.node;
}

const char *
heartbeat_host(void)
{
	return heartbeat.host;
}

uint64_t
heartbeat_boot(void)
{
	return heartbeat.boot;
}

void
heartbeat_start(struct pg_listen *listen)
{
	heartbeat.listen = listen;
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
	if (heartbeat.timer != NULL)
		event_free(heartbeat.timer);
	free(heartbeat.node);
	free(heartbeat.host);
	memset(&heartbeat, 0, sizeof(heartbeat));
}

/* ---- what is heard ---- */

/*
 * One that is late (a former session's, or a pooler's) was sent before the last one came back: no marker of
 * ours.
 */
static bool
heartbeat_is_own(const struct beat *b)
{
	return strcmp(b->node, heartbeat.node) == 0 && b->boot == heartbeat.boot &&
	       b->counter == heartbeat.counter && (b->right || !secret_is_set());
}

static void
heartbeat_take_own(void)
{
	metrics[METRIC_PROBE_SECONDS] = (double)(loop_now_us() - heartbeat.sent_us) / 1e6;
	heartbeat.under_way = false;
	pg_listen_prove(heartbeat.listen);
}

/* The signature at the end, over what stands before it. */
static void
heartbeat_verify(struct beat *b, const char *payload, size_t len)
{
	size_t head = strlen(HEARTBEAT_HMAC), tail = head + SECRET_HEX + 2;
	const char *end = payload + len;
	char *key_text;

	b->sealed =
	    len > tail && memcmp(end - tail, HEARTBEAT_HMAC, head) == 0 && memcmp(end - 2, "\"}", 2) == 0;
	if (!b->sealed)
		return;
	key_text = heartbeat_key_text(b->node, b->boot, b->counter, b->time_us);
	b->right = secret_verify_by(key_text, payload, len - tail, end - 2 - SECRET_HEX, SECRET_HEX);
	free(key_text);
}

/* A text of a heartbeat: such as can stand in a log. NULL when it is not there. */
static bool
heartbeat_take_text(const json_t *beat, const char *name, const char **out)
{
	const json_t *value = json_object_get(beat, name);

	*out = json_string_value(value);
	if (*out == NULL)
		return value == NULL || json_is_null(value);
	for (const char *p = *out; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return **out != '\0' && strlen(*out) <= HEARTBEAT_TEXT_MAX;
}

static bool
heartbeat_parse_boot(const char *text, uint64_t *boot)
{
	char *end = NULL;

	if (text == NULL || strlen(text) != HEARTBEAT_BOOT_DIGITS)
		return false;
	*boot = strtoull(text, &end, 16);
	return *end == '\0';
}

/* False when it is none. AWX's have three fields only. */
static bool
heartbeat_parse(const json_t *json, struct beat *b)
{
	const char *action, *boot, *scheme;
	json_int_t port = json_integer_value(json_object_get(json, "port"));

	*b = (struct beat){.port = port > 0 && port <= UINT16_MAX ? (int)port : 0};
	if (!heartbeat_take_text(json, "hostname", &b->hostname) ||
	    !heartbeat_take_text(json, "ip", &b->ip) || !heartbeat_take_text(json, "action", &action) ||
	    !heartbeat_take_text(json, "node", &b->node) ||
	    !heartbeat_take_text(json, "cluster", &b->cluster) || !heartbeat_take_text(json, "boot", &boot) ||
	    !heartbeat_take_text(json, "version", &b->version) ||
	    !heartbeat_take_text(json, "scheme", &scheme) || b->hostname == NULL || action == NULL)
		return false;
	b->offline = strcmp(action, "offline") == 0;
	b->tls = scheme != NULL && strcmp(scheme, "wss") == 0;
	b->counter = json_integer_value(json_object_get(json, "counter"));
	b->time_us = json_integer_value(json_object_get(json, "time"));
	b->awx = b->node == NULL;
	if (b->awx)
		b->node = b->hostname;
	return b->awx || (b->cluster != NULL && b->counter > 0 && heartbeat_parse_boot(boot, &b->boot));
}

/* Everybody hears them at the same place in the stream; but only from those whom we believe. */
static bool
heartbeat_is_marker(enum node_kind kind)
{
	return kind == NODE_SELF || kind == NODE_PEER || kind == NODE_SKEWED ||
	       (kind == NODE_UNSIGNED && !secret_is_set());
}

static void
heartbeat_take(struct beat *b, const json_t *json)
{
	struct marker marker = {b->boot, b->counter};
	enum node_kind kind;

	b->own = !b->awx && heartbeat_is_own(b);
	if (b->own)
		heartbeat_take_own();
	kind = node_take(b);
	if (heartbeat_is_marker(kind) && (b->own || b->boot != heartbeat.boot))
		stream_on_marker(&marker, b->own, json_string_value(json_object_get(json, "epoch")),
		    json_string_value(json_object_get(json, "snapshot")));
	if (b->own && heartbeat.hasty)
		heartbeat_send_online();
}

json_t *
heartbeat_read(const char *payload, size_t len, struct beat *beat)
{
	json_t *json = json_loadb(payload, len, 0, NULL);

	if (!heartbeat_parse(json, beat)) {
		json_decref(json);
		return NULL;
	}
	if (!beat->awx)
		heartbeat_verify(beat, payload, len);
	return json;
}

void
heartbeat_receive(const char *payload, size_t len)
{
	struct beat beat;
	json_t *json = heartbeat_read(payload, len, &beat);

	if (json != NULL)
		heartbeat_take(&beat, json);
	else
		metrics[METRIC_HEARTBEATS_MALFORMED_TOTAL]++;
	json_decref(json);
}
