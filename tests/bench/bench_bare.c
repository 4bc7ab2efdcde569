/*
 * The bare limit: LISTEN, and each event to each connection, with no more logic than that takes. There is no
 * handshake and no subscription, a connection is never read, a full socket holds up everything. What pgrelay
 * does beyond this is its own share.
 *
 * Events leave as the WebSocket frames that pgrelay sends, so the client reads the same octets from both.
 * --block N lays up to N frames, of those that are there already, contiguously for all, and sends them at
 * once.
 *
 * --gather N --groups-each M: an event goes to one connection, which M neighbouring groups belong to. What
 * has come is read to its end, and then each connection that has something gets up to N frames by one
 * writev().
 *
 * --tls-certificate FILE --tls-key FILE: the same over TLS.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_db.h"
#include "bench_io.h"
#include "bench_options.h"
#include "bench_ws.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define BARE_RECORD_FIELDS 4 /* "e ID TIME TOPIC " stands before the payload */
#define BARE_RECORD_MAX    8000
#define BARE_FRAME_MAX     (4 + BARE_RECORD_MAX)
#define BARE_GATHER_MAX    1024
#define BARE_GATHER_OCTETS (1024 * 1024) /* of frames that wait for the end of what has come */

static struct {
	const char *database, *channel, *certificate, *key;
	int64_t port, block_frames;
	int64_t gather_frames; /* 0: everything is for all */
	int64_t groups_each;
} bare = {.database = "", .channel = "pgrelay", .block_frames = 1};

struct bare_client {
	int fd;
	struct iovec *waiting; /* --gather: frames in the block */
	int waiting_count;
	bool marked;
};

static struct bare_client *bare_clients;
static size_t bare_client_count;
static size_t *bare_marked, bare_marked_count; /* clients for whom something waits */

static struct {
	uint8_t *data;
	size_t len;
	int frames;
} bare_block;

static void
bare_flush(void)
{
	for (size_t i = 0; i < bare_client_count;) {
		if (bench_io_send(bare_clients[i].fd, bare_block.data, bare_block.len)) {
			i++;
		} else {
			bench_io_close(bare_clients[i].fd);
			bare_clients[i] = bare_clients[--bare_client_count];
		}
	}
	bare_block.len = 0;
	bare_block.frames = 0;
}

/* ---- to one each ---- */

static void
bare_write(struct bare_client *c)
{
	size_t wanted = 0;

	for (int i = 0; i < c->waiting_count; i++)
		wanted += c->waiting[i].iov_len;
	if (writev(c->fd, c->waiting, c->waiting_count) != (ssize_t)wanted)
		bench_fatal("could not send: %m");
	c->waiting_count = 0;
}

static void
bare_write_all(void)
{
	for (size_t i = 0; i < bare_marked_count; i++) {
		struct bare_client *c = &bare_clients[bare_marked[i]];

		if (c->waiting_count > 0)
			bare_write(c);
		c->marked = false;
	}
	bare_marked_count = 0;
	bare_block.len = 0;
	bare_block.frames = 0;
}

static void
bare_queue(size_t number, uint8_t *frame, size_t len)
{
	struct bare_client *c = &bare_clients[number];

	if (!c->marked) {
		c->marked = true;
		bare_marked[bare_marked_count++] = number;
	}
	c->waiting[c->waiting_count++] = (struct iovec){.iov_base = frame, .iov_len = len};
	if (c->waiting_count == bare.gather_frames)
		bare_write(c);
}

/* ---- from the database ---- */

/* Lays a frame behind those in the block; returns its length. */
static size_t
bare_lay_frame(const char *payload, size_t len)
{
	uint8_t *start = bare_block.data + bare_block.len, *p = start;

	*p++ = 0x81;
	if (len < 126) {
		*p++ = (uint8_t)len;
	} else {
		*p++ = 126;
		*p++ = (uint8_t)(len >> 8);
		*p++ = (uint8_t)len;
	}
	memcpy(p, payload, len);
	bare_block.len = (size_t)(p + len - bare_block.data);
	bare_block.frames++;
	return (size_t)(p + len - start);
}

/* The group is the last part of the topic, which ends right before the payload. */
static void
bare_give_to_owner(const char *payload, size_t len)
{
	const char *group = payload - 1;
	size_t owner;
	uint8_t *frame;

	while (group[-1] != '.')
		group--;
	owner = (size_t)((strtoll(group, NULL, 10) - 1) / bare.groups_each);
	if (owner >= bare_client_count)
		bench_fatal("no connection has group %.*s", (int)(payload - group), group);
	if (bare_block.len + BARE_FRAME_MAX > BARE_GATHER_OCTETS)
		bare_write_all();
	frame = bare_block.data + bare_block.len;
	bare_queue(owner, frame, bare_lay_frame(payload, len));
}

static void
bare_take_payload(const char *payload, size_t len)
{
	if (bare.gather_frames > 0) {
		bare_give_to_owner(payload, len);
		return;
	}
	bare_lay_frame(payload, len);
	if (bare_block.frames == bare.block_frames)
		bare_flush();
}

static void
bare_take_record(const char *record, const char *end)
{
	if (record == end || *record != 'e')
		return; /* what nodes tell each other */
	for (int i = 0; i < BARE_RECORD_FIELDS; i++) {
		record = memchr(record, ' ', (size_t)(end - record));
		if (record == NULL)
			return;
		record++;
	}
	bare_take_payload(record, (size_t)(end - record));
}

static void
bare_take_notify(const char *text)
{
	while (*text != '\0') {
		const char *end = strchrnul(text, '\n');

		bare_take_record(text, end);
		text = *end == '\n' ? end + 1 : end;
	}
}

static bool
bare_has_input(PGconn *conn)
{
	struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

static void
bare_read_database(PGconn *conn)
{
	bench_db_read(conn, bare_take_notify);
	if (bare.gather_frames > 0) {
		while (bare_has_input(conn))
			bench_db_read(conn, bare_take_notify);
		bare_write_all();
	} else if (bare_block.frames > 0) {
		bare_flush();
	}
}

/* ---- connections ---- */

static void
bare_add_client(int fd)
{
	size_t size = bare_client_count + 1;
	struct iovec *waiting = NULL;

	if (bare.gather_frames > 0) {
		waiting = bench_realloc(NULL, (size_t)bare.gather_frames * sizeof(*waiting));
		bare_marked = bench_realloc(bare_marked, size * sizeof(*bare_marked));
	}
	bare_clients = bench_realloc(bare_clients, size * sizeof(*bare_clients));
	bare_clients[bare_client_count++] = (struct bare_client){.fd = fd, .waiting = waiting};
}

static void
bare_accept(int listener)
{
	static const char greeting[] = "\x81\x10{\"accept\": true}";
	int fd = accept(listener, NULL, NULL), one = 1;

	if (fd < 0)
		bench_fatal("could not accept a connection: %m");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if ((bare.certificate == NULL || bench_io_accept_tls(fd)) &&
	    bench_io_send(fd, greeting, sizeof(greeting) - 1))
		bare_add_client(fd);
	else
		bench_io_close(fd);
}

static int
bare_listen_socket(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)bare.port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
		bench_fatal("could not listen on port %" PRId64 ": %m", bare.port);
	return fd;
}

static _Noreturn void
bare_serve(PGconn *conn, int listener)
{
	struct pollfd fds[] = {{.fd = PQsocket(conn), .events = POLLIN}, {.fd = listener, .events = POLLIN}};

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			bench_fatal("could not poll: %m");
		if (fds[0].revents != 0)
			bare_read_database(conn);
		if (fds[1].revents != 0)
			bare_accept(listener);
	}
}

static void
bare_parse_options(int argc, char **argv)
{
	const struct bench_option table[] = {BENCH_OPTION_TEXT("database", &bare.database),
	    BENCH_OPTION_TEXT("channel", &bare.channel),
	    BENCH_OPTION_NUMBER("port", &bare.port, 1, UINT16_MAX),
	    BENCH_OPTION_NUMBER("block", &bare.block_frames, 1, 1024),
	    BENCH_OPTION_NUMBER("gather", &bare.gather_frames, 1, BARE_GATHER_MAX),
	    BENCH_OPTION_NUMBER("groups-each", &bare.groups_each, 1, 1000000),
	    BENCH_OPTION_TEXT("tls-certificate", &bare.certificate), BENCH_OPTION_TEXT("tls-key", &bare.key),
	    BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (bare.port == 0)
		bench_fatal("--port is missing");
	if ((bare.gather_frames > 0) != (bare.groups_each > 0))
		bench_fatal("--gather and --groups-each go together");
	if ((bare.certificate != NULL) != (bare.key != NULL))
		bench_fatal("--tls-certificate and --tls-key go together");
	if (bare.gather_frames > 0 && bare.certificate != NULL)
		bench_fatal("--gather goes without TLS");
}

int
main(int argc, char **argv)
{
	PGconn *conn;
	int listener;

	bare_parse_options(argc, argv);
	bench_ws_raise_descriptors();
	bare_block.data = bench_realloc(
	    NULL, bare.gather_frames > 0 ? BARE_GATHER_OCTETS : (size_t)bare.block_frames * BARE_FRAME_MAX);
	if (bare.certificate != NULL)
		bench_io_load_certificate(bare.certificate, bare.key);
	listener = bare_listen_socket();
	conn = bench_db_listen(bare.database, bare.channel);
	puts("ready");
	fflush(stdout);
	bare_serve(conn, listener);
}
