/* The client's end of many WebSockets (RFC 6455) with servers on this host. */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A frame of the server, which does not mask. */
struct bench_frame {
	uint8_t opcode;
	const char *payload;
	size_t len;
};

enum { FRAME_TEXT = 1, FRAME_CLOSE = 8, FRAME_PING = 9, FRAME_PONG = 10 };

/* As many descriptors as the system allows. */
void bench_ws_raise_descriptors(void);

/* A socket that begins to connect, and does not block. number tells from which loopback address: there are more
 * connections than one address has ports. */
int bench_ws_connect(uint16_t port, int64_t number);
/* It is writable: ends the process when it could not connect. */
void bench_ws_connected(int fd);

/* False: the socket did not take it. */
bool bench_ws_send(int fd, const void *data, size_t len);
bool bench_ws_send_upgrade(int fd, uint16_t port, const char *path, const char *token);
bool bench_ws_send_frame(int fd, uint8_t opcode, const char *payload, size_t len);

/* Octets of the answer to the upgrade, when it is all there; else 0. Ends the process when it is a refusal. */
size_t bench_ws_read_answer(const uint8_t *data, size_t len);
/* False: it is not all there. The payload points into data; size is the whole frame's. */
bool bench_ws_read_frame(const uint8_t *data, size_t len, struct bench_frame *frame, size_t *size);
bool bench_frame_holds(const struct bench_frame *frame, const char *text);
/* Of a close frame; 0: none. */
int bench_frame_close_code(const struct bench_frame *frame);

#endif
