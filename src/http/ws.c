/*
 * WebSocket framing over wslay, without I/O. wslay pulls its input by a callback: ws_feed() lays the octets
 * where that finds them.
 *
 * wslay's context takes almost 9 kB. So a server's connection has one only while something is under way: from
 * the first octets of a message to its last, and from the peer's close frame on. `unframed` tells: it is the octets
 * fed less those of the frames whose headers have been read, and 0 between frames. What is sent meanwhile needs no
 * context, a close frame neither, for a server's frames are not masked: thousands of sessions may be closed at once.
 * A client's keeps its own.
 */
#include "config.h"
#include "http/ws.h"
#include "core/mem.h"
#include "core/slice.h"
#include "http/deflate.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#define WS_MAGIC         0x3e50c4e7u
#define WS_REASON_MAX    123  /* RFC 6455, section 5.5: a control frame holds 125 octets, two are the code */
#define WS_FRAGMENT_COST 64   /* octets of memory, about, that a fragment takes beside its payload */
#define WS_RSV1          0x40 /* in a header's first octet */
#define WS_SPARE_MAX     4    /* contexts that wait for the next one who needs one */

/* wslay's, with whom it is lent to. */
struct ws_context {
	wslay_event_context_ptr ctx;
	struct ws *ws;
	struct ws_context *next; /* spare */
};

static struct {
	struct ws_context *first;
	size_t count;
} ws_spare;

struct ws {
	unsigned magic;
	struct ws_context *context; /* NULL: between messages */
	int64_t unframed;
	bool fragmented; /* more of the message is to come */
	bool deflate;    /* messages may be compressed */
	enum ws_role role;
	bool broken; /* by a frame that wslay gave up at */
	const struct ws_ops *ops;
	void *arg;
	const uint8_t *in;
	size_t in_len;
	size_t max_message_bytes, fragments;
	uint16_t sent_code; /* of a close frame that went out without a context; 0: none did */
	bool closing;       /* the frame under way is a close frame */
	size_t code_octets; /* of a close frame's body, so far */
	char *peer_reason;  /* NULL for none */
	uint16_t peer_code; /* as a server sent it: wslay takes 1012 and up for a breach of the protocol */
};

static struct ws *
ws_of(void *arg)
{
	struct ws_context *context = arg;

	assert(context->ws->magic == WS_MAGIC);
	return context->ws;
}

static ssize_t
ws_on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws *ws = ws_of(arg);

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
	struct ws *ws = ws_of(arg);

	if (ws->sent_code == 0) /* behind a close frame nothing goes out */
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
	(void)wslay_event_queue_close(ws->context->ctx, WS_CLOSE_TOO_BIG, NULL, 0);
	wslay_event_shutdown_read(ws->context->ctx);
}

/* RFC 6455, section 5.2: two octets, the extended length, and the key where the frame is masked. */
static int64_t
ws_frame_octets(const struct ws *ws, uint64_t payload)
{
	int64_t extended = payload < 126 ? 0 : payload <= UINT16_MAX ? 2 : 8;

	return 2 + extended + (ws->role == WS_SERVER ? 4 : 0) + (int64_t)payload;
}

/* RFC 6455, section 5.5.1: a close frame's body, if there is one, begins with two octets of code. wslay would
 * take one octet as none. */
static void
ws_on_frame_start(
    wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct ws *ws = ws_of(arg);

	ws->unframed -= ws_frame_octets(ws, frame->payload_length);
	ws->closing = frame->opcode == WSLAY_CONNECTION_CLOSE;
	if (!wslay_is_ctrl_frame(frame->opcode)) {
		ws->fragmented = !frame->fin;
		ws_count_fragment(ws, frame);
	}
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
	struct ws *ws = ws_of(arg);

	for (size_t i = 0; ws->closing && i < chunk->data_length; i++, ws->code_octets++) {
		if (ws->code_octets < 2)
			ws->peer_code = (uint16_t)(ws->peer_code << 8 | chunk->data[i]);
		else
			ws_take_reason(ws, chunk->data[i]);
	}
}

static void
ws_refuse(wslay_event_context_ptr ctx, enum ws_close_code code)
{
	(void)wslay_event_queue_close(ctx, (uint16_t)code, NULL, 0);
	wslay_event_shutdown_read(ctx);
}

/* wslay checks what is not compressed for UTF-8. */
static void
ws_take_deflated(struct ws *ws, wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *msg)
{
	bool text = msg->opcode == WSLAY_TEXT_FRAME;
	struct slice in = {(const char *)msg->msg, msg->msg_length}, out;
	enum deflate_result result = deflate_expand(in, ws->max_message_bytes, &out);

	if (result != DEFLATE_OK)
		ws_refuse(ctx, result == DEFLATE_TOO_BIG ? WS_CLOSE_TOO_BIG : WS_CLOSE_NOT_UTF8);
	else if (text && !slice_is_utf8(out))
		ws_refuse(ctx, WS_CLOSE_NOT_UTF8);
	else
		ws->ops->on_message(ws->arg, text, (const uint8_t *)out.ptr, out.len);
}

static void
ws_on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *msg, void *arg)
{
	struct ws *ws = ws_of(arg);

	if (msg->opcode != WSLAY_TEXT_FRAME && msg->opcode != WSLAY_BINARY_FRAME)
		return;
	if (wslay_get_rsv1(msg->rsv))
		ws_take_deflated(ws, ctx, msg);
	else
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

/* ---- contexts ---- */

static struct ws_context *
ws_context_new(enum ws_role role)
{
	struct ws_context *context = mem_zalloc(sizeof(*context));
	int rc = role == WS_SERVER ? wslay_event_context_server_init(&context->ctx, &ws_callbacks, context)
				   : wslay_event_context_client_init(&context->ctx, &ws_callbacks, context);

	if (rc != 0)
		abort();
	return context;
}

static void
ws_context_free(struct ws_context *context)
{
	wslay_event_context_free(context->ctx);
	free(context);
}

/* For what is under way now. */
static wslay_event_context_ptr
ws_borrow(struct ws *ws)
{
	struct ws_context *context = ws->context;

	if (context != NULL)
		return context->ctx;
	if (ws->role == WS_SERVER && ws_spare.first != NULL) {
		context = ws_spare.first;
		ws_spare.first = context->next;
		ws_spare.count--;
	} else {
		context = ws_context_new(ws->role);
	}
	context->ws = ws;
	ws->context = context;
	wslay_event_config_set_max_recv_msg_length(context->ctx, ws->max_message_bytes);
	wslay_event_config_set_allowed_rsv_bits(context->ctx, ws->deflate ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE);
	return context->ctx;
}

/* Where nothing of it will be asked any more. */
static void
ws_give_back(struct ws *ws)
{
	struct ws_context *context = ws->context;

	if (ws->role != WS_SERVER || ws->unframed != 0 || ws->fragmented || ws->sent_code != 0 ||
	    wslay_event_get_close_sent(context->ctx) || wslay_event_get_close_received(context->ctx))
		return;
	ws->context = NULL;
	context->ws = NULL;
	if (ws_spare.count == WS_SPARE_MAX) {
		ws_context_free(context);
		return;
	}
	context->next = ws_spare.first;
	ws_spare.first = context;
	ws_spare.count++;
}

void
ws_free_spare(void)
{
	while (ws_spare.first != NULL) {
		struct ws_context *next = ws_spare.first->next;

		ws_context_free(ws_spare.first);
		ws_spare.first = next;
	}
	ws_spare.count = 0;
}

/* ---- life ---- */

struct ws *
ws_new(enum ws_role role, size_t max_message_bytes, const struct ws_ops *ops, void *arg)
{
	struct ws *ws = mem_zalloc(sizeof(*ws));

	ws->magic = WS_MAGIC;
	ws->role = role;
	ws->ops = ops;
	ws->arg = arg;
	ws->max_message_bytes = max_message_bytes;
	return ws;
}

void
ws_allow_deflate(struct ws *ws)
{
	ws->deflate = true;
}

void
ws_free(struct ws *ws)
{
	if (ws == NULL)
		return;
	assert(ws->magic == WS_MAGIC);
	ws->magic = 0;
	free(ws->peer_reason);
	if (ws->context != NULL)
		ws_context_free(ws->context);
	free(ws);
}

/* ---- octets from the peer ---- */

/* For frames whose header the RFC forbids wslay queues a close frame without a code and gives up: say what it
 * was ourselves. */
static void
ws_break(struct ws *ws)
{
	static const uint8_t frame[] = {
	    0x80 | WSLAY_CONNECTION_CLOSE, 2, WS_CLOSE_PROTOCOL >> 8, WS_CLOSE_PROTOCOL & 0xff};

	ws->broken = true;
	if (ws->role == WS_SERVER && ws->sent_code == 0)
		ws->ops->send(ws->arg, frame, sizeof(frame));
}

bool
ws_feed(struct ws *ws, const uint8_t *data, size_t len)
{
	wslay_event_context_ptr ctx;
	bool more;
	int rc;

	assert(ws->magic == WS_MAGIC);
	ctx = ws_borrow(ws);
	ws->in = data;
	ws->in_len = len;
	ws->unframed += (int64_t)len;
	rc = wslay_event_recv(ctx);
	ws->in = NULL;
	ws->in_len = 0;
	if (rc != 0) {
		ws_break(ws);
		return false;
	}
	if (wslay_event_want_write(ctx) && wslay_event_send(ctx) != 0)
		return false;
	more = wslay_event_want_read(ctx);
	ws_give_back(ws);
	return more;
}

/* ---- octets for the peer ---- */

static size_t
ws_header(uint8_t *out, uint8_t opcode, uint64_t len)
{
	int octets = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;

	out[0] = 0x80 | opcode;
	out[1] = octets == 0 ? (uint8_t)len : octets == 2 ? 126 : 127;
	for (int i = 0; i < octets; i++)
		out[2 + i] = (uint8_t)(len >> (8 * (octets - 1 - i)));
	return 2 + (size_t)octets;
}

static bool
ws_close_was_sent(const struct ws *ws)
{
	return ws->broken || ws->sent_code != 0 ||
	       (ws->context != NULL && wslay_event_get_close_sent(ws->context->ctx));
}

static void
ws_queue(struct ws *ws, uint8_t opcode, const void *data, size_t len)
{
	struct wslay_event_msg msg = {opcode, data, len};
	uint8_t header[WS_FRAME_HEADER_MAX];

	assert(ws->magic == WS_MAGIC);
	if (ws->role == WS_SERVER) {
		if (ws_close_was_sent(ws))
			return;
		ws->ops->send(ws->arg, header, ws_header(header, opcode, len));
		if (len > 0)
			ws->ops->send(ws->arg, data, len);
	} else if (wslay_event_queue_msg(ws_borrow(ws), &msg) == 0) {
		(void)wslay_event_send(ws->context->ctx);
	}
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

static void
ws_queue_close(struct ws *ws, uint16_t code, const char *reason, size_t len)
{
	uint8_t body[2 + WS_REASON_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};

	if (ws->role == WS_SERVER && ws->context == NULL) {
		memcpy(body + 2, reason, len);
		ws_queue(ws, WSLAY_CONNECTION_CLOSE, body, 2 + len);
		ws->sent_code = code;
	} else if (wslay_event_queue_close(ws_borrow(ws), code, (const uint8_t *)reason, len) == 0) {
		(void)wslay_event_send(ws->context->ctx);
	}
}

void
ws_send_close(struct ws *ws, enum ws_close_code code, const char *reason)
{
	size_t len = strlen(reason);

	assert(ws->magic == WS_MAGIC);
	if (ws_close_was_sent(ws))
		return;
	if (len > WS_REASON_MAX)
		for (len = WS_REASON_MAX; len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80;)
			len--; /* between characters */
	ws_queue_close(ws, (uint16_t)code, reason, len);
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
	if (ws->context == NULL)
		return ws->sent_code;
	if (wslay_event_get_close_received(ws->context->ctx))
		return wslay_event_get_status_code_received(ws->context->ctx);
	if (ws->sent_code != 0)
		return ws->sent_code;
	if (wslay_event_get_close_sent(ws->context->ctx))
		return wslay_event_get_status_code_sent(ws->context->ctx);
	return 0;
}

size_t
ws_frame_header(uint8_t *out, uint64_t len)
{
	return ws_header(out, WSLAY_TEXT_FRAME, len);
}

size_t
ws_deflated_header(uint8_t *out, uint64_t len)
{
	return ws_header(out, WS_RSV1 | WSLAY_TEXT_FRAME, len);
}

/* ---- handshakes ---- */

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
