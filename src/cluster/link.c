/*
 * Links. The states:
 *
 * - RESOLVING, DIALLING: on the way to the other node (the dialler only).
 * - GREETING: our hello is out, or theirs is waited for.
 * - PROVING: our hello with its proof is out, theirs is waited for (the acceptor only).
 * - OPEN
 * - ENDED: its connection is being closed; then memory goes at the end of the turn.
 *
 * The dialler's WebSocket is a ws_client, the acceptor's a session with dialect_link. link_enter() alone writes
 * ->state. Both proofs cover both ids, the cluster, who proves, and both challenges (docs/cluster.md), so one
 * that was overheard is good for nothing.
 */
#include "config.h"
#include "cluster/link.h"
#include "cluster/node.h"
#include "cluster/secret.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/resolve.h"
#include "http/ws_client.h"

#include <assert.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define LINK_MAGIC         0x114c0de5u
#define LINK_CONNECT_MS    1000
#define LINK_HANDSHAKE_MS  5000
#define LINK_PING_MS       1000
#define LINK_DEAD_MS       5000
#define LINK_MESSAGE_BYTES (1024 * 1024)
#define LINK_FIELD_MAX     (3 * 255)
#define LINK_BOOT_DIGITS   16
#define LINK_LOG_SECONDS   1

enum link_state { LINK_RESOLVING, LINK_DIALLING, LINK_GREETING, LINK_PROVING, LINK_OPEN, LINK_ENDED };

struct link {
	unsigned magic;
	enum link_state state;
	bool dialled;
	char *subject;
	char *node; /* the other's; NULL: not known yet */
	char *host; /* dialled */
	int port;
	bool tls;
	uint64_t boot;
	char own_challenge[SECRET_HEX_SIZE], challenge[SECRET_HEX_SIZE];
	struct resolve *resolve;
	char **addresses; /* of the host, to be tried in turn */
	size_t address_count, next_address;
	struct ws_client_url *url;
	struct ws_client *client; /* dialled */
	struct session *session;  /* accepted; NULL when it is closing */
	struct event *timer;
	bool let_go;
	TAILQ_ENTRY(link) entry;
	int64_t began_ms, heard_ms;
	int64_t rtt_us;
	uint64_t sent_bytes, received_bytes;
};

static const struct link_ops *link_ops;
static TAILQ_HEAD(, link) links = TAILQ_HEAD_INITIALIZER(links);

void
link_init(const struct link_ops *ops)
{
	link_ops = ops;
}

static struct link *
link_check(void *arg)
{
	struct link *l = arg;

	assert(l->magic == LINK_MAGIC);
	return l;
}

/* ---- life ---- */

static void
link_release(void *arg)
{
	struct link *l = link_check(arg);

	TAILQ_REMOVE(&links, l, entry);
	ws_client_free(l->client);
	ws_client_url_free(l->url);
	event_free(l->timer);
	for (size_t i = 0; i < l->address_count; i++)
		free(l->addresses[i]);
	free(l->addresses);
	l->magic = 0;
	free(l->subject);
	free(l->node);
	free(l->host);
	free(l);
}

/* Memory goes at the end of the turn. */
static void
link_let_go(struct link *l)
{
	if (!l->let_go)
		loop_release(link_release, l);
	l->let_go = true;
}

static void
link_enter(struct link *l, enum link_state state)
{
	assert(l->state != LINK_ENDED);
	if (l->state == LINK_OPEN)
		metrics[METRIC_LINKS]--;
	l->state = state;
	if (state == LINK_OPEN) {
		metrics[METRIC_LINKS]++;
		l->began_ms = loop_now_ms();
	} else if (state == LINK_ENDED) {
		event_del(l->timer);
		if (l->resolve != NULL)
			resolve_cancel(l->resolve);
		l->resolve = NULL;
	}
}

void
link_free_all(void)
{
	struct link *l;

	while ((l = TAILQ_FIRST(&links)) != NULL) {
		if (l->state != LINK_ENDED)
			link_enter(l, LINK_ENDED);
		if (l->let_go) /* by the loop */
			break;
		link_release(l);
	}
}

/* Ends it and takes the connection down. The close frame of a client goes out before it is let go. */
static void
link_hang_up(struct link *l, enum ws_close_code code, const char *reason)
{
	struct session *session = l->session;

	link_enter(l, LINK_ENDED);
	l->session = NULL;
	if (l->client != NULL) {
		ws_client_close_with(l->client, code, reason);
		return;
	}
	if (session != NULL)
		session_close(session, code, reason);
	link_let_go(l);
}

void
link_close(struct link *l, enum ws_close_code code, const char *reason)
{
	if (link_check(l)->state != LINK_ENDED)
		link_hang_up(l, code, reason);
}

/* This node ends it, which its owner is told. */
static void
link_end(struct link *l, enum ws_close_code code, const char *reason)
{
	bool told = l->state == LINK_OPEN || l->dialled;

	metrics[METRIC_LINKS_LOST_TOTAL] += l->state == LINK_OPEN;
	link_hang_up(l, code, reason);
	if (told)
		link_ops->ended(l, reason);
}

/* The connection has ended by itself. */
static void
link_on_lost(struct link *l, const char *reason)
{
	bool told = l->state == LINK_OPEN || l->dialled;

	if (l->state != LINK_ENDED) {
		metrics[METRIC_LINKS_LOST_TOTAL] += l->state == LINK_OPEN;
		link_enter(l, LINK_ENDED);
		if (told)
			link_ops->ended(l, reason);
	}
	link_let_go(l);
}

/* It may hold anything that the other side sent, cut anywhere; a close frame's reason must be UTF-8. */
static void
link_make_printable(char *text)
{
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
}

/* What the peer did or is makes it none of ours: it is told, and the log. */
static void
link_refuse(struct link *l, enum metric count, const char *fmt, ...)
{
	static struct log_limit limits[METRIC_COUNT];
	unsigned long more;
	va_list ap;
	char *reason;

	va_start(ap, fmt);
	reason = mem_vprintf(fmt, ap);
	va_end(ap);
	link_make_printable(reason);
	metrics[count]++;
	if (log_limit_pass(&limits[count], LINK_LOG_SECONDS, &more))
		log_warning(l->subject, "refused: %s (%lu more such lines)", reason, more);
	link_end(l, WS_CLOSE_POLICY, reason);
	free(reason);
}

/* ---- sending ---- */

static void
link_send_text(struct link *l, const char *text, size_t len)
{
	l->sent_bytes += len;
	if (l->session != NULL)
		session_send_text(l->session, text, len);
	else if (l->client != NULL)
		ws_client_send(l->client, text, len);
}

static void
link_send_raw(struct link *l, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	link_send_text(l, text, strlen(text));
	free(text);
}

void
link_send(struct link *l, const char *fmt, ...)
{
	va_list ap;
	char *text;

	if (link_check(l)->state != LINK_OPEN)
		return;
	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	link_send_text(l, text, strlen(text));
	free(text);
}

void
link_send_with(struct link *l, const char *head, struct slice body)
{
	size_t head_len = strlen(head);
	char *text;

	if (link_check(l)->state != LINK_OPEN)
		return;
	text = mem_alloc(head_len + 1 + body.len);
	memcpy(text, head, head_len);
	text[head_len] = ' ';
	memcpy(text + head_len + 1, body.ptr, body.len);
	l->sent_bytes += head_len + 1 + body.len;
	if (l->session != NULL)
		session_send_binary(l->session, text, head_len + 1 + body.len);
	else if (l->client != NULL)
		ws_client_send_binary(l->client, text, head_len + 1 + body.len);
	free(text);
}

size_t
link_backlog(const struct link *l)
{
	return l->session != NULL  ? session_backlog(l->session)
	       : l->client != NULL ? ws_client_backlog(l->client)
				   : 0;
}

/* ---- the handshake ---- */

/* As keys are written in topics. */
static void
link_encode(const char *in, char out[LINK_FIELD_MAX + 1])
{
	size_t len = strlen(in);

	out[topic_encode_key(in, len < LINK_FIELD_MAX / 3 ? len : LINK_FIELD_MAX / 3, out)] = '\0';
}

struct link_hello {
	struct slice cluster, from, boot, to, challenge, proof;
};

/* with_proof: the acceptor's has one. */
static bool
link_parse_hello(struct slice rest, bool with_proof, struct link_hello *h)
{
	return slice_next(&rest, &h->cluster) && slice_next(&rest, &h->from) && slice_next(&rest, &h->boot) &&
	       slice_next(&rest, &h->to) && slice_next(&rest, &h->challenge) &&
	       (!with_proof || slice_next(&rest, &h->proof)) && rest.len == 0 &&
	       h->from.len <= LINK_FIELD_MAX && slice_is_hex(h->boot, LINK_BOOT_DIGITS) &&
	       slice_is_hex(h->challenge, SECRET_HEX);
}

/* What a proof covers. The caller releases it with free(). */
static char *
link_transcript(const struct link *l, bool acceptor)
{
	char cluster[LINK_FIELD_MAX + 1], self[LINK_FIELD_MAX + 1], other[LINK_FIELD_MAX + 1];
	uint64_t boot = node_self_boot();

	link_encode(conf.cluster, cluster);
	link_encode(node_self_id(), self);
	link_encode(l->node, other);
	return mem_printf(LINK_PROTOCOL "\n%s\n%s\n%s\n%016" PRIx64 "\n%s\n%016" PRIx64 "\n%s\n%s\n",
	    acceptor ? "acceptor" : "dialler", cluster, l->dialled ? self : other,
	    l->dialled ? boot : l->boot, l->dialled ? other : self, l->dialled ? l->boot : boot,
	    l->dialled ? l->own_challenge : l->challenge, l->dialled ? l->challenge : l->own_challenge);
}

static void
link_prove(const struct link *l, char out[SECRET_HEX_SIZE])
{
	char *text = link_transcript(l, !l->dialled);

	secret_sign(text, strlen(text), out);
	free(text);
}

static bool
link_is_proved(const struct link *l, struct slice proof)
{
	char *text = link_transcript(l, l->dialled);
	bool right = secret_verify(text, strlen(text), proof.ptr, proof.len);

	free(text);
	return right;
}

/* The other's name, its way of being written undone. */
static char *
link_decode(struct slice field)
{
	char *text = mem_strndup(field.ptr, field.len), *out = text;
	unsigned octet;

	for (const char *in = text; *in != '\0';) {
		if (*in == '%' && sscanf(in + 1, "%2X", &octet) == 1 && octet >= 0x20) {
			*out++ = (char)octet;
			in += 3;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
	return text;
}

static void
link_send_hello(struct link *l, const char *proof)
{
	char cluster[LINK_FIELD_MAX + 1], self[LINK_FIELD_MAX + 1], other[LINK_FIELD_MAX + 1];

	link_encode(conf.cluster, cluster);
	link_encode(node_self_id(), self);
	link_encode(l->node, other);
	link_send_raw(l, "hello %s %s %016" PRIx64 " %s %s%s%s", cluster, self, node_self_boot(), other,
	    l->own_challenge, *proof != '\0' ? " " : "", proof);
}

/* Is it the one that it should be? Whoever does not fit is refused. */
static bool
link_accepts_hello(struct link *l, const struct link_hello *h)
{
	char cluster[LINK_FIELD_MAX + 1], self[LINK_FIELD_MAX + 1], other[LINK_FIELD_MAX + 1] = "";

	link_encode(conf.cluster, cluster);
	link_encode(node_self_id(), self);
	if (l->node != NULL)
		link_encode(l->node, other);
	if (!slice_is(h->cluster, cluster))
		link_refuse(l, METRIC_PEERS_REFUSED_CLUSTER_TOTAL,
		    "a node of cluster \"%.*s\" and one of cluster \"%s\" are not linked",
		    (int)h->cluster.len, h->cluster.ptr, cluster);
	else if (!slice_is(h->to, self))
		link_refuse(l, METRIC_PEERS_REFUSED_CLUSTER_TOTAL,
		    "node \"%.*s\" was dialled, but this is \"%s\"", (int)h->to.len, h->to.ptr, self);
	else if (l->node != NULL && !slice_is(h->from, other))
		link_refuse(l, METRIC_PEERS_REFUSED_CLUSTER_TOTAL,
		    "node \"%s\" was dialled, but \"%.*s\" answers", other, (int)h->from.len, h->from.ptr);
	else if (slice_is(h->from, self))
		link_refuse(l, METRIC_PEERS_REFUSED_CLUSTER_TOTAL,
		    "both nodes have the id \"%s\"; give each its own by the setting node", self);
	else if (slice_is(h->challenge, l->own_challenge))
		link_refuse(l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL, "the challenge is this node's own");
	else
		return true;
	return false;
}

static void
link_open(struct link *l)
{
	char *subject = mem_printf("link %s", l->node);

	free(l->subject);
	l->subject = subject;
	link_enter(l, LINK_OPEN);
	if (l->dialled)
		log_info(l->subject, "open, to %s:%d", l->host, l->port);
	else
		log_info(l->subject, "open, dialled by the other side");
	link_ops->opened(l);
}

void
link_break(struct link *l, const char *reason)
{
	if (link_check(l)->state == LINK_ENDED)
		return;
	log_warning(l->subject, "ended: %s", reason);
	link_end(l, WS_CLOSE_PROTOCOL, reason);
}

/* Whose hello it is; false: it has been refused. */
static bool
link_read_hello(struct link *l, struct slice rest, struct link_hello *h)
{
	if (!link_parse_hello(rest, l->dialled, h)) {
		link_refuse(l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL, "its hello is malformed");
		return false;
	}
	if (!link_accepts_hello(l, h))
		return false;
	if (l->node == NULL)
		l->node = link_decode(h->from);
	l->boot = strtoull(h->boot.ptr, NULL, 16);
	memcpy(l->challenge, h->challenge.ptr, SECRET_HEX);
	return true;
}

/* The acceptor's answer. */
static void
link_take_hello_back(struct link *l, struct slice rest)
{
	struct link_hello h;
	char proof[SECRET_HEX_SIZE];

	if (!link_read_hello(l, rest, &h))
		return;
	if (!link_is_proved(l, h.proof)) {
		link_refuse(l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL,
		    "its proof is wrong: it does not have this node's secret");
		return;
	}
	link_prove(l, proof);
	link_send_raw(l, "proof %s", proof);
	link_open(l);
}

static void
link_take_hello(struct link *l, struct slice rest)
{
	struct link_hello h;
	char proof[SECRET_HEX_SIZE];

	if (!link_read_hello(l, rest, &h))
		return;
	link_prove(l, proof);
	link_send_hello(l, proof);
	link_enter(l, LINK_PROVING);
}

static void
link_take_proof(struct link *l, struct slice rest)
{
	if (link_is_proved(l, rest))
		link_open(l);
	else
		link_refuse(l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL,
		    "its proof is wrong: it does not have this node's secret");
}

/* ---- messages ---- */

static void
link_take_pong(struct link *l, struct slice rest)
{
	int64_t sent_us;

	if (slice_to_int64(rest, &sent_us) && sent_us > 0 && sent_us <= loop_now_us())
		l->rtt_us = loop_now_us() - sent_us;
}

static void
link_take_open(struct link *l, struct slice word, struct slice rest)
{
	if (slice_is(word, "ping"))
		link_send(l, "pong %.*s", (int)(rest.len < 32 ? rest.len : 32), rest.ptr);
	else if (slice_is(word, "pong"))
		link_take_pong(l, rest);
	else
		link_ops->message(l, word, rest);
}

static void
link_take(struct link *l, const char *text, size_t len)
{
	struct slice rest = {text, len}, word;

	l->heard_ms = loop_now_ms();
	l->received_bytes += len;
	if (l->state == LINK_ENDED)
		return;
	if (!slice_next(&rest, &word))
		link_refuse(l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL, "a message without a word");
	else if (l->state == LINK_OPEN)
		link_take_open(l, word, rest);
	else if (l->state == LINK_GREETING && slice_is(word, "hello") && l->dialled)
		link_take_hello_back(l, rest);
	else if (l->state == LINK_GREETING && slice_is(word, "hello"))
		link_take_hello(l, rest);
	else if (l->state == LINK_PROVING && slice_is(word, "proof"))
		link_take_proof(l, rest);
	else
		link_refuse(l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL,
		    "\"%.*s\" does not belong into the handshake", (int)(word.len < 32 ? word.len : 32),
		    word.ptr);
}

/* ---- time ---- */

static void
link_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = link_check(arg);
	int64_t now = loop_now_ms();

	if (l->state != LINK_OPEN) {
		if (now - l->began_ms > LINK_HANDSHAKE_MS)
			link_refuse(
			    l, METRIC_PEERS_REFUSED_HANDSHAKE_TOTAL, "the handshake was not done in time");
		return;
	}
	if (now - l->heard_ms > LINK_DEAD_MS) {
		log_warning(l->subject, "nothing came for %d s", LINK_DEAD_MS / 1000);
		link_end(l, WS_CLOSE_POLICY, "nothing came from the other node");
	} else if (link_backlog(l) > (size_t)conf.queue_limit_bytes) {
		link_end(l, WS_CLOSE_TRY_AGAIN, "too slow: more than queue_limit was waiting");
	} else {
		link_send(l, "ping %" PRId64, loop_now_us());
	}
}

static struct link *
link_new(enum link_state state)
{
	struct link *l = mem_zalloc(sizeof(*l));
	struct timeval tv = {LINK_PING_MS / 1000, 0};

	l->magic = LINK_MAGIC;
	l->state = state;
	TAILQ_INSERT_TAIL(&links, l, entry);
	l->rtt_us = -1;
	l->began_ms = l->heard_ms = loop_now_ms();
	secret_challenge(l->own_challenge);
	l->timer = event_new(loop_base(), -1, EV_PERSIST, link_on_timer, l);
	if (l->timer == NULL)
		log_fatal("could not create a timer");
	event_add(l->timer, &tv);
	return l;
}

/* ---- dialling ---- */

static void
link_on_client_open(void *arg)
{
	struct link *l = link_check(arg);

	link_enter(l, LINK_GREETING);
	link_send_hello(l, "");
}

static void
link_on_client_message(void *arg, const char *text, size_t len)
{
	link_take(link_check(arg), text, len);
}

static void link_connect(struct link *l);

static void
link_on_client_end(void *arg, const struct ws_client_end *end)
{
	struct link *l = link_check(arg);

	if (l->state == LINK_DIALLING && end->http_status == 0 && l->next_address < l->address_count)
		link_connect(l);
	else
		link_on_lost(l, end->reason);
}

static void
link_on_client_drained(void *arg)
{
	struct link *l = link_check(arg);

	if (l->state == LINK_OPEN)
		link_ops->drained(l);
}

static const struct ws_client_ops link_client_ops = {
    link_on_client_open, link_on_client_message, link_on_client_end, link_on_client_drained};

/* To the next address. */
static void
link_connect(struct link *l)
{
	char *value = secret_header(), *headers = mem_printf("secret: %s\r\n", value);
	const struct ws_client_options options = {
	    .headers = headers, .protocol = LINK_PROTOCOL, .binary = true, .connect_ms = LINK_CONNECT_MS};

	ws_client_free(l->client);
	ws_client_url_free(l->url);
	link_enter(l, LINK_DIALLING);
	l->url = ws_client_url_make(
	    l->tls, l->host, l->addresses[l->next_address++], l->port, "/websocket/relay/");
	l->client = ws_client_new(l->url, &options, &link_client_ops, l);
	free(headers);
	free(value);
}

static void
link_on_resolved(void *arg, const char *const *addresses, size_t count, const char *error)
{
	struct link *l = link_check(arg);

	l->resolve = NULL;
	if (count == 0) {
		link_on_lost(l, error);
		return;
	}
	l->addresses = mem_alloc(count * sizeof(*l->addresses));
	for (size_t i = 0; i < count; i++)
		l->addresses[i] = mem_strdup(addresses[i]);
	l->address_count = count;
	link_connect(l);
}

struct link *
link_dial(const struct node *node)
{
	struct link *l = link_new(LINK_RESOLVING);

	l->dialled = true;
	l->node = mem_strdup(node->id);
	l->host = mem_strdup(node->host);
	l->port = node->port;
	l->tls = node->tls;
	l->subject = mem_printf("link %s", node->id);
	l->resolve = resolve_start(l->host, link_on_resolved, l);
	return l;
}

/* ---- being dialled ---- */

static void *
link_on_session_open(struct session *session, void *request)
{
	struct link *l = link_new(LINK_GREETING);

	l->session = session;
	l->subject = mem_printf("link of %s", session_subject(session));
	return l;
}

static void
link_on_session_message(void *state, const char *text, size_t len)
{
	link_take(link_check(state), text, len);
}

static void
link_on_session_drained(void *state)
{
	link_on_client_drained(state);
}

/* The session goes; when it was not us who closed it, that is the link's end. */
static void
link_on_session_close(void *state)
{
	struct link *l = link_check(state);

	if (l->session == NULL)
		return;
	l->session = NULL;
	link_on_lost(l, "the other node closed the connection, or it was lost");
}

const struct dialect dialect_link = {
    .form = MSG_FORM_AWX,
    .open = link_on_session_open,
    .message = link_on_session_message,
    .drained = link_on_session_drained,
    .close = link_on_session_close,
    .binary = SESSION_BINARY_TAKEN,
    .max_message_bytes = LINK_MESSAGE_BYTES,
};

/* ---- figures ---- */

bool
link_is_open(const struct link *l)
{
	return l->state == LINK_OPEN;
}

bool
link_is_dialled(const struct link *l)
{
	return l->dialled;
}

const char *
link_node(const struct link *l)
{
	return l->node;
}

uint64_t
link_boot(const struct link *l)
{
	return l->boot;
}

struct link_figures
link_figures(const struct link *l)
{
	return (struct link_figures){
	    loop_now_ms() - l->began_ms, l->rtt_us, l->sent_bytes, l->received_bytes};
}
