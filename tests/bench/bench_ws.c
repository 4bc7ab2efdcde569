/* The client's end of many WebSockets (RFC 6455) with servers on this host. */
#include "config.h"
#include "bench_ws.h"
#include "bench_common.h"
#include "bench_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define WS_PER_ADDRESS 20000 /* connections from one loopback address: it has 28,000 ports */

/* ---- connecting ---- */

void
bench_ws_raise_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int
bench_ws_connect(uint16_t port, int64_t number)
{
	struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;

	if (fd < 0)
		bench_fatal("could not create a socket: %m; ulimit -n tells how many there may be");
	to.sin_port = htons(port);
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / WS_PER_ADDRESS));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	    (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS))
		bench_fatal("could not connect: %m");
	return fd;
}

void
bench_ws_connected(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error != 0)
		bench_fatal("could not connect: %s", strerror(error));
}

/* ---- sending ---- */

bool
bench_ws_send(int fd, const void *data, size_t len)
{
	return bench_io_send(fd, data, len);
}

bool
bench_ws_send_upgrade(int fd, uint16_t port, const char *path, const char *token)
{
	char request[2048];
	int len = snprintf(request, sizeof(request),
	    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: "
	    "Bearer %s\r\n\r\n",
	    path, port, token);

	if (len < 0 || (size_t)len >= sizeof(request))
		bench_fatal("the token is too long");
	return bench_ws_send(fd, request, (size_t)len);
}

/* A client's frames are masked (section 5.3); a mask of zeros leaves the payload as it is. */
bool
bench_ws_send_frame(int fd, uint8_t opcode, const char *payload, size_t len)
{
	uint8_t frame[8 + UINT16_MAX], *p = frame;

	if (len > UINT16_MAX)
		bench_fatal("the message is too long");
	*p++ = (uint8_t)(0x80 | opcode);
	if (len < 126) {
		*p++ = (uint8_t)(0x80 | len);
	} else {
		*p++ = 0x80 | 126;
		*p++ = (uint8_t)(len >> 8);
		*p++ = (uint8_t)len;
	}
	memset(p, 0, 4);
	memcpy(p + 4, payload, len);
	return bench_ws_send(fd, frame, (size_t)(p + 4 - frame) + len);
}

/* ---- receiving ---- */

size_t
bench_ws_read_answer(const uint8_t *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4);

	if (end == NULL)
		return 0;
	if (len < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0)
		bench_fatal("refused: %.*s", (int)(len < 500 ? len : 500), (const char *)data);
	return (size_t)(end + 4 - (const char *)data);
}

bool
bench_ws_read_frame(const uint8_t *p, size_t len, struct bench_frame *frame, size_t *size)
{
	size_t head = 2, extra;

	if (len < 2)
		return false;
	extra = p[1] < 126 ? 0 : p[1] == 126 ? 2 : 8;
	if (len < head + extra)
		return false;
	frame->opcode = p[0] & 0x0f;
	frame->len = extra == 0 ? p[1] : 0;
	for (size_t i = 0; i < extra; i++)
		frame->len = frame->len << 8 | p[head + i];
	head += extra;
	if (len - head < frame->len)
		return false;
	frame->payload = (const char *)p + head;
	*size = head + frame->len;
	return true;
}

bool
bench_frame_holds(const struct bench_frame *frame, const char *text)
{
	return memmem(frame->payload, frame->len, text, strlen(text)) != NULL;
}

int
bench_frame_close_code(const struct bench_frame *frame)
{
	return frame->len >= 2 ? (uint8_t)frame->payload[0] << 8 | (uint8_t)frame->payload[1] : 0;
}
