/*
 * Heartbeats. One is under way at most: as long as the server has not answered the last, another would tell
 * nothing new. A beat is known again by its node id and its boot id: a second node with our id must not prove
 * our session.
 */
#include "config.h"
#include "cluster/heartbeat.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_listen.h"
#include "pg/pg_query.h"

#include <assert.h>
#include <event2/event.h>
#include <jansson.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	struct pg_query_pool *pool;
	struct pg_listen *listen;
	struct event *timer;
	struct pg_query *query; /* the beat under way */
	char *node, *host;
	int port;
	char boot[17];
	json_int_t counter;
	int64_t sent_us;
	bool sending; /* the last one was taken by the server */
	bool ending;  /* no more but the last */
	void (*stopped)(void);
} heartbeat;

static char *
heartbeat_make(const char *action)
{
	char hostname[256] = "";
	json_t *beat;
	char *text;

	gethostname(hostname, sizeof(hostname) - 1);
	beat = json_pack("{ss ss ss ss ss ss si ss sI}", "hostname", hostname, "ip", heartbeat.host, "action",
	    action, "node", heartbeat.node, "boot", heartbeat.boot, "cluster", conf.cluster, "port",
	    heartbeat.port, "version", PACKAGE_VERSION, "counter", ++heartbeat.counter);
	text = beat != NULL ? json_dumps(beat, JSON_COMPACT) : NULL;
	if (text == NULL)
		log_fatal("out of memory");
	json_decref(beat);
	return text;
}

static void
heartbeat_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	heartbeat.query = NULL;
	heartbeat.sending = status == PG_QUERY_OK;
	if (status == PG_QUERY_ERROR)
		log_warning("query", "could not send a heartbeat: %s", error);
	if (status == PG_QUERY_LOST && pg_query_pool_is_up(heartbeat.pool))
		pg_query_pool_reset(heartbeat.pool, "no answer to a heartbeat within probe_timeout");
	if (heartbeat.stopped != NULL)
		heartbeat.stopped();
}

static void
heartbeat_send(const char *action)
{
	char *text = heartbeat_make(action);
	const char *params[] = {conf.heartbeat_channel, text};

	heartbeat.sent_us = loop_now_us();
	heartbeat.query = pg_query_send(heartbeat.pool, "SELECT pg_catalog.pg_notify($1, $2)", 2, params,
	    (long)conf.probe_timeout_ms, heartbeat_on_answer, NULL);
	free(text);
}

void
heartbeat_hasten(void)
{
	if (heartbeat.timer != NULL && !heartbeat.ending && heartbeat.query == NULL &&
	    pg_query_pool_is_up(heartbeat.pool))
		heartbeat_send("online");
}

static void
heartbeat_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = {conf.probe_interval_ms / 1000, (conf.probe_interval_ms % 1000) * 1000};

	event_add(heartbeat.timer, &tv);
	pg_listen_check(heartbeat.listen, heartbeat.sending && pg_query_pool_is_up(heartbeat.pool));
	heartbeat_hasten();
}

/* HOST:PORT or [V6]:PORT. */
static void
heartbeat_set_address(const char *address)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon != NULL ? (size_t)(colon - address) : strlen(address);
	bool brackets = len >= 2 && address[0] == '[' && address[len - 1] == ']';

	heartbeat.host = mem_strndup(address + brackets, len - 2 * (size_t)brackets);
	heartbeat.port = colon != NULL ? atoi(colon + 1) : 0;
}

static void
heartbeat_set_node(void)
{
	char hostname[64] = "";
	unsigned char octets[8];

	gethostname(hostname, sizeof(hostname) - 1);
	heartbeat.node =
	    *conf.node != '\0' ? mem_strdup(conf.node) : mem_printf("%s:%d", hostname, heartbeat.port);
	if (RAND_bytes(octets, sizeof(octets)) != 1)
		log_fatal("no random numbers are to be had");
	for (size_t i = 0; i < sizeof(octets); i++)
		snprintf(heartbeat.boot + 2 * i, 3, "%02x", octets[i]);
}

void
heartbeat_start(struct pg_query_pool *pool, struct pg_listen *listen, const char *address)
{
	memset(&heartbeat, 0, sizeof(heartbeat));
	heartbeat.pool = pool;
	heartbeat.listen = listen;
	heartbeat_set_address(address);
	heartbeat_set_node();
	heartbeat.timer = evtimer_new(loop_base(), heartbeat_on_timer, NULL);
	if (heartbeat.timer == NULL)
		log_fatal("could not create a timer");
	heartbeat_on_timer(-1, 0, NULL);
}

void
heartbeat_stop(void (*done)(void))
{
	heartbeat.ending = true;
	event_del(heartbeat.timer);
	if (heartbeat.query != NULL)
		pg_query_cancel(heartbeat.query);
	heartbeat.query = NULL;
	if (!pg_query_pool_is_up(heartbeat.pool)) {
		done();
		return;
	}
	heartbeat.stopped = done;
	heartbeat_send("offline");
}

void
heartbeat_free(void)
{
	if (heartbeat.query != NULL)
		pg_query_cancel(heartbeat.query);
	event_free(heartbeat.timer);
	free(heartbeat.node);
	free(heartbeat.host);
	memset(&heartbeat, 0, sizeof(heartbeat));
}

void
heartbeat_receive(const char *payload, size_t len)
{
	json_t *beat = json_loadb(payload, len, 0, NULL);
	const char *node = json_string_value(json_object_get(beat, "node"));
	const char *boot = json_string_value(json_object_get(beat, "boot"));

	if (node != NULL && boot != NULL && strcmp(node, heartbeat.node) == 0 &&
	    strcmp(boot, heartbeat.boot) == 0) {
		if (json_integer_value(json_object_get(beat, "counter")) == heartbeat.counter)
			metrics[METRIC_PROBE_SECONDS] = (double)(loop_now_us() - heartbeat.sent_us) / 1e6;
		pg_listen_prove(heartbeat.listen);
	}
	json_decref(beat);
}
