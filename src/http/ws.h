/*
 * WebSocket framing (RFC 6455), both roles, without I/O: octets from the peer go in by ws_feed(), octets for
 * the peer come out by ops->send. wslay does the work; its header enters through ws.c alone. Pings are
 * answered, text is checked for UTF-8, a peer that breaks the protocol gets the close frame the RFC names.
 */
#ifndef PGRELAY_HTTP_WS_H
#define PGRELAY_HTTP_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_role { WS_SERVER, WS_CLIENT };

/* RFC 6455, section 7.4.1 */
enum ws_close_code {
	WS_CLOSE_NORMAL = 1000,
	WS_CLOSE_GOING_AWAY = 1001,
	WS_CLOSE_PROTOCOL = 1002,
	WS_CLOSE_UNSUPPORTED = 1003,
	WS_CLOSE_ABNORMAL = 1006, /* never sent: the connection ended without a close frame */
	WS_CLOSE_NOT_UTF8 = 1007,
	WS_CLOSE_POLICY = 1008,
	WS_CLOSE_TOO_BIG = 1009,
	WS_CLOSE_TRY_AGAIN = 1013
};

struct ws;
struct ws_ops {
	/* A whole message; data is valid during the call. */
	void (*on_message)(void *arg, bool text, const uint8_t *data, size_t len);
	/* Octets for the peer, valid during the call. */
	void (*send)(void *arg, const uint8_t *data, size_t len);
};

/* The caller releases it with ws_free(); not from inside its callbacks. */
struct ws *ws_new(enum ws_role role, size_t max_message_bytes, const struct ws_ops *ops, void *arg);
/* permessage-deflate has been agreed on: the peer may compress (deflate.h). */
void ws_allow_deflate(struct ws *ws);
void ws_free(struct ws *ws);
/* Releases what is kept for the next ones; when the node ends. */
void ws_free_spare(void);

/*
 * Octets from the peer. False once nothing more is to be read: the closing handshake is done or the peer
 * broke the protocol. The close frame, where one is due, has been given to send by then, and ws_close_code()
 * tells the code.
 */
bool ws_feed(struct ws *ws, const uint8_t *data, size_t len) __attribute__((warn_unused_result));

/* For clients, and for what is not shared; frames that many sessions get are made once by ws_frame_header().
 */
void ws_send_text(struct ws *ws, const char *data, size_t len);
void ws_send_binary(struct ws *ws, const char *data, size_t len);
void ws_send_ping(struct ws *ws);
/* Sends a close frame; the peer's answer comes by ws_feed(). reason is cut to 123 octets. */
void ws_send_close(struct ws *ws, enum ws_close_code code, const char *reason);

/* The code that the peer's close frame had (1005 for none), or the one sent to it for breaking the protocol;
 * 0 before. */
uint16_t ws_close_code(const struct ws *ws);
/* What the peer's close frame gave as its reason, "" for none; what is not printable ASCII is replaced. Valid
 * until the ws is freed. */
const char *ws_close_reason(const struct ws *ws);

/* The header of an unmasked, unfragmented text frame (RFC 6455, section 5.2): writes at most 10 octets,
 * returns how many. */
#define WS_FRAME_HEADER_MAX 10
size_t ws_frame_header(uint8_t *out, uint64_t payload_len);
/* The same of one whose payload is compressed (RFC 7692, section 6). */
size_t ws_deflated_header(uint8_t *out, uint64_t payload_len);

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, section 4.2.2): 28 characters and a NUL. */
#define WS_ACCEPT_SIZE 29
void ws_accept_value(const char *key, char out[WS_ACCEPT_SIZE]);
/* Is this a well-formed Sec-WebSocket-Key: base64 of 16 octets? */
bool ws_key_is_valid(const char *key);
/* A random Sec-WebSocket-Key: 24 characters and a NUL. */
#define WS_KEY_SIZE 25
void ws_make_key(char out[WS_KEY_SIZE]);

#endif
