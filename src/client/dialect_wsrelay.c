/*
 * The dialect of AWX's wsrelay. One that has just dialled in is told of all groups in portions, each when the
 * one before it has been sent: there may be ten thousand clients. Changes go out as they come.
 */
#include "config.h"
#include "client/dialect_wsrelay.h"
#include "client/relay_dedup.h"
#include "client/relay_message.h"
#include "cluster/heartbeat.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/dispatch.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define WSRELAY_MAGIC         0x35e1a900u
#define WSRELAY_PORTION_BYTES (32 * 1024)
#define WSRELAY_MESSAGE_BYTES (16 * 1024 * 1024) /* it has the secret, and payloads are escaped twice */
#define WSRELAY_LOG_SECONDS   60

struct wsrelay {
	unsigned magic;
	struct session *session;
	struct groups_watcher watcher;
	char *origin; /* "pgrelay.NODE as JSON, without the quote at its end */
};

static struct wsrelay *
wsrelay_check(void *state)
{
	struct wsrelay *r = state;

	assert(r->magic == WSRELAY_MAGIC);
	return r;
}

/* ---- groups ---- */

static char *
wsrelay_make_origin(void)
{
	char *text = mem_printf("pgrelay.%s", heartbeat_node());
	json_t *json = json_string(text);
	char *origin = json_dumps(json, JSON_ENCODE_ANY);

	json_decref(json);
	free(text);
	if (origin == NULL) /* it is not UTF-8 */
		return mem_strdup("\"pgrelay");
	origin[strlen(origin) - 1] = '\0';
	return origin;
}

static void
wsrelay_told(struct groups_watcher *watcher, uint64_t session, bool joined, const char *labels)
{
	struct wsrelay *r = wsrelay_check((char *)watcher - offsetof(struct wsrelay, watcher));
	char *text =
	    mem_printf("{\"type\": \"consumer.%s\", \"groups\": %s, \"origin_channel\": %s.%" PRIu64 "\"}",
		joined ? "subscribe" : "unsubscribe", labels, r->origin, session);

	session_send_text(r->session, text, strlen(text));
	free(text);
}

static void
wsrelay_drained(void *state)
{
	struct wsrelay *r = wsrelay_check(state);

	while (session_backlog(r->session) < WSRELAY_PORTION_BYTES && groups_watch_next(&r->watcher))
		;
}

/* ---- messages ---- */

static void
wsrelay_count_invalid(struct wsrelay *r, const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	metrics[METRIC_MESSAGES_INVALID_TOTAL]++;
	if (log_limit_pass(&limit, WSRELAY_LOG_SECONDS, &more))
		log_warning(session_subject(r->session),
		    "a message was passed over: %s (%lu more since the last such line)", error, more);
}

static void
wsrelay_hand_on(struct wsrelay *r, const struct relay_message *m)
{
	if (relay_dedup_pass(session_number(r->session), m->group, m->payload, loop_now_ms())) {
		metrics[METRIC_RELAYED_TOTAL]++;
		dispatch_relayed(m->group, &m->topic, m->payload);
	} else {
		metrics[METRIC_RELAYED_REPEATED_TOTAL]++;
	}
}

static void
wsrelay_message(void *state, const char *text, size_t len)
{
	struct wsrelay *r = wsrelay_check(state);
	struct relay_message *m = relay_message_parse(text, len);

	if (m->error != NULL)
		wsrelay_count_invalid(r, m->error);
	else if (!m->ignored)
		wsrelay_hand_on(r, m);
	relay_message_free(m);
}

/* ---- life ---- */

static void *
wsrelay_open(struct session *session, void *request)
{
	struct wsrelay *r = mem_zalloc(sizeof(*r));

	r->magic = WSRELAY_MAGIC;
	r->session = session;
	r->origin = wsrelay_make_origin();
	r->watcher.told = wsrelay_told;
	metrics[METRIC_AWX_RELAYS]++;
	groups_watch(&r->watcher);
	return r;
}

static void
wsrelay_close(void *state)
{
	struct wsrelay *r = wsrelay_check(state);

	groups_unwatch(&r->watcher);
	relay_dedup_forget(session_number(r->session));
	metrics[METRIC_AWX_RELAYS]--;
	r->magic = 0;
	free(r->origin);
	free(r);
}

const struct dialect dialect_wsrelay = {
    .form = MSG_FORM_AWX,
    .open = wsrelay_open,
    .message = wsrelay_message,
    .drained = wsrelay_drained,
    .close = wsrelay_close,
    .transport = SESSION_WEBSOCKET,
    .max_message_bytes = WSRELAY_MESSAGE_BYTES,
};
