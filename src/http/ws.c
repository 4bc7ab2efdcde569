/*
 * WebSocket framing over wslay, without I/O. wslay pulls its input by a callback: ws_feed() lays the octets
 * where that finds them.
 */
#include "config.h"
#include "http/ws.h"
#include "core/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#define WS_MAGIC         0x3e50c4e7u
#define WS_REASON_MAX    123 /* RFC 6455, section 5.5: a control frame holds 125 octets, two are the code */
#define WS_FRAGMENT_COST 64  /* octets of memory, about, that a fragment takes beside its payload */

struct ws {
	unsigned magic;
	wslay_event_context_ptr ctx;
	enum ws_role role;
	bool broken; /* by a frame that wslay gave up at */
	const struct ws_ops *ops;
	void *arg;
	const uint8_t *in;
	size_t in_len;
	size_t max_message_bytes, fragments;
	bool closing;       /* the frame under way is a close frame */
	size_t code_octets; /* of a close frame's body, so far */
	char *peer_reason;  /* NULL for none */
	uint16_t peer_code; /* as a server sent it: wslay takes 1012 and up for a breach of the protocol */
};

static ssize_t
ws_on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;

	assert(ws->magic == WS_MAGIC);
	if (ws->in_len == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (len > ws->in_len)
		len = ws->in_len;
	memcpy(buf, ws->in, len);
	ws->in += len;
	ws->in_len -= len;
	return (ssize_t)len;
}

static ssize_t
ws_on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;

	assert(ws->magic == WS_MAGIC);
	ws->ops->send(ws->arg, data, len);
	return (ssize_t)len;
}

static int
ws_on_genmask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *arg)
{
	return RAND_bytes(buf, (int)len) == 1 ? 0 : -1;
}

/* wslay keeps each fragment in an allocation of its own: tiny ones cost more than their octets. */
static void
ws_count_fragment(struct ws *ws, const struct wslay_event_on_frame_recv_start_arg *frame)
{
	if (frame->opcode != WSLAY_CONTINUATION_FRAME)
		ws->fragments = 0;
	if (++ws->fragments * WS_FRAGMENT_COST <= ws->max_message_bytes + WS_FRAGMENT_COST)
		return;
	(void)wslay_event_queue_close(ws->ctx, WS_CLOSE_TOO_BIG, NULL, 0);
	wslay_event_shutdown_read(ws->ctx);
}

/* RFC 6455, section 5.5.1: a close frame's body, if there is one, begins with two octets of code. wslay would
 * take one octet as none. */
static void
ws_on_frame_start(
    wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct ws *ws = arg;

	assert(ws->magic == WS_MAGIC);
	ws->closing = frame->opcode == WSLAY_CONNECTION_CLOSE;
	if (!wslay_is_ctrl_frame(frame->opcode))
		ws_count_fragment(ws, frame);
	if (ws->closing && frame->payload_length == 1)
		(void)wslay_event_queue_close(ctx, WS_CLOSE_PROTOCOL, NULL, 0);
}

/* A reason is text for a log. */
static void
ws_take_reason(struct ws *ws, uint8_t octet)
{
	size_t at = ws->code_octets - 2;

	if (ws->peer_reason == NULL)
		ws->peer_reason = mem_zalloc(WS_REASON_MAX + 1);
	if (at < WS_REASON_MAX)
		ws->peer_reason[at] = octet >= 0x20 && octet < 0x7f ? (char)octet : '?';
}

static void
ws_on_frame_chunk(
    wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct ws *ws = arg;

	assert(ws->magic == WS_MAGIC);
	for (size_t i = 0; ws->closing && i < chunk->data_length; i++, ws->code_octets++) {
		if (ws->code_octets < 2)
			ws->peer_code = (uint16_t)(ws->peer_code << 8 | chunk->data[i]);
		else
			ws_take_reason(ws, chunk->data[i]);
	}
}

static void
ws_on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *msg, void *arg)
{
	struct ws *ws = arg;

	assert(ws->magic == WS_MAGIC);
	if (msg->opcode == WSLAY_TEXT_FRAME || msg->opcode == WSLAY_BINARY_FRAME)
		ws->ops->on_message(ws->arg, msg->opcode == WSLAY_TEXT_FRAME, msg->msg, msg->msg_length);
}

static const struct wslay_event_callbacks ws_callbacks = {
    .recv_callback = ws_on_recv,
    .send_callback = ws_on_send,
    .genmask_callback = ws_on_genmask,
    .on_frame_recv_start_callback = ws_on_frame_start,
    .on_frame_recv_chunk_callback = ws_on_frame_chunk,
    .on_msg_recv_callback = ws_on_message,
};

struct ws *
ws_new(enum ws_role role, size_t max_message_bytes, const struct ws_ops *ops, void *arg)
{
	struct ws *ws = mem_zalloc(sizeof(*ws));
	int rc;

	ws->magic = WS_MAGIC;
	ws->role = role;
	ws->ops = ops;
	ws->arg = arg;
	rc = role == WS_SERVER ? wslay_event_context_server_init(&ws->ctx, &ws_callbacks, ws)
			       : wslay_event_context_client_init(&ws->ctx, &ws_callbacks, ws);
	if (rc != 0)
		abort();
	ws->max_message_bytes = max_message_bytes;
	wslay_event_config_set_max_recv_msg_length(ws->ctx, max_message_bytes);
	return ws;
}

void
ws_free(struct ws *ws)
{
	if (ws == NULL)
		return;
	assert(ws->magic == WS_MAGIC);
	ws->magic = 0;
	free(ws->peer_reason);
	wslay_event_context_free(ws->ctx);
	free(ws);
}

/* For frames whose header the RFC forbids wslay queues a close frame without a code and gives up: say what it
 * was ourselves. */
static void
ws_break(struct ws *ws)
{
	static const uint8_t frame[] = {
	    0x80 | WSLAY_CONNECTION_CLOSE, 2, WS_CLOSE_PROTOCOL >> 8, WS_CLOSE_PROTOCOL & 0xff};

	ws->broken = true;
	if (ws->role == WS_SERVER)
		ws->ops->send(ws->arg, frame, sizeof(frame));
}

bool
ws_feed(struct ws *ws, const uint8_t *data, size_t len)
{
	int rc;

	assert(ws->magic == WS_MAGIC);
	ws->in = data;
	ws->in_len = len;
	rc = wslay_event_recv(ws->ctx);
	ws->in = NULL;
	ws->in_len = 0;
	if (rc != 0) {
		ws_break(ws);
		return false;
	}
	if (wslay_event_want_write(ws->ctx) && wslay_event_send(ws->ctx) != 0)
		return false;
	return wslay_event_want_read(ws->ctx);
}

static void
ws_queue(struct ws *ws, uint8_t opcode, const void *data, size_t len)
{
	struct wslay_event_msg msg = {opcode, data, len};

	assert(ws->magic == WS_MAGIC);
	if (wslay_event_queue_msg(ws->ctx, &msg) == 0)
		(void)wslay_event_send(ws->ctx);
}

void
ws_send_text(struct ws *ws, const char *data, size_t len)
{
	ws_queue(ws, WSLAY_TEXT_FRAME, data, len);
}

void
ws_send_binary(struct ws *ws, const char *data, size_t len)
{
	ws_queue(ws, WSLAY_BINARY_FRAME, data, len);
}

void
ws_send_ping(struct ws *ws)
{
	ws_queue(ws, WSLAY_PING, NULL, 0);
}

void
ws_send_close(struct ws *ws, enum ws_close_code code, const char *reason)
{
	size_t len = strlen(reason);

	assert(ws->magic == WS_MAGIC);
	if (wslay_event_get_close_sent(ws->ctx))
		return;
	if (len > WS_REASON_MAX)
		for (len = WS_REASON_MAX; len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80;)
			len--; /* between characters */
	if (wslay_event_queue_close(ws->ctx, (uint16_t)code, (const uint8_t *)reason, len) == 0)
		(void)wslay_event_send(ws->ctx);
}

const char *
ws_close_reason(const struct ws *ws)
{
	return ws->peer_reason != NULL ? ws->peer_reason : "";
}

uint16_t
ws_close_code(const struct ws *ws)
{
	if (ws->broken)
		return WS_CLOSE_PROTOCOL;
	if (ws->role == WS_CLIENT && ws->code_octets >= 2)
		return ws->peer_code;
	if (wslay_event_get_close_received(ws->ctx))
		return wslay_event_get_status_code_received(ws->ctx);
	if (wslay_event_get_close_sent(ws->ctx))
		return wslay_event_get_status_code_sent(ws->ctx);
	return 0;
}

size_t
ws_frame_header(uint8_t *out, uint64_t len)
{
	int octets = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;

	out[0] = 0x80 | WSLAY_TEXT_FRAME;
	out[1] = octets == 0 ? (uint8_t)len : octets == 2 ? 126 : 127;
	for (int i = 0; i < octets; i++)
		out[2 + i] = (uint8_t)(len >> (8 * (octets - 1 - i)));
	return 2 + (size_t)octets;
}

void
ws_accept_value(const char *key, char out[WS_ACCEPT_SIZE])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char *text = mem_printf("%s%s", key, guid);
	unsigned char digest[SHA_DIGEST_LENGTH];

	SHA1((unsigned char *)text, strlen(text), digest);
	EVP_EncodeBlock((unsigned char *)out, digest, sizeof(digest));
	free(text);
}

bool
ws_key_is_valid(const char *key)
{
	unsigned char octets[18];

	return strlen(key) == WS_KEY_SIZE - 1 && strcmp(key + WS_KEY_SIZE - 3, "==") == 0 &&
	       strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") ==
		   WS_KEY_SIZE - 3 &&
	       EVP_DecodeBlock(octets, (const unsigned char *)key, WS_KEY_SIZE - 1) == (int)sizeof(octets);
}

void
ws_make_key(char out[WS_KEY_SIZE])
{
	unsigned char octets[16];

	if (RAND_bytes(octets, sizeof(octets)) != 1)
		abort();
	EVP_EncodeBlock((unsigned char *)out, octets, sizeof(octets));
}
