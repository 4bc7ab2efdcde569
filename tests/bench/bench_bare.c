/*
 * The bare limit: LISTEN, and each event to each connection, with no more logic than that takes. There is no
 * handshake and no subscription, a connection is never read, a full socket holds up everything. What pgrelay
 * does beyond this is its own share.
 *
 * Events leave as the WebSocket frames that pgrelay sends, so the client reads the same octets from both.
 * --block N lays up to N frames, of those that are there already, contiguously for all, and sends them at
 * once.
 */
#include "config.h"
#include "bench_common.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BARE_RECORD_FIELDS 4 /* "e ID TIME TOPIC " stands before the payload */
#define BARE_RECORD_MAX    8000
#define BARE_FRAME_MAX     (4 + BARE_RECORD_MAX)

static const char *bare_database = "", *bare_channel = "pgrelay";
static uint16_t bare_port;
static int bare_block_frames = 1;

static int *bare_clients;
static size_t bare_client_count;

static struct {
	uint8_t *data;
	size_t len;
	int frames;
} bare_block;

static bool
bare_send(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static void
bare_flush(void)
{
	for (size_t i = 0; i < bare_client_count;) {
		if (bare_send(bare_clients[i], bare_block.data, bare_block.len)) {
			i++;
		} else {
			close(bare_clients[i]);
			bare_clients[i] = bare_clients[--bare_client_count];
		}
	}
	bare_block.len = 0;
	bare_block.frames = 0;
}

static void
bare_add_frame(const char *payload, size_t len)
{
	uint8_t *p = bare_block.data + bare_block.len;

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
	if (++bare_block.frames == bare_block_frames)
		bare_flush();
}

static void
bare_take_record(const char *record, const char *end)
{
	for (int i = 0; i < BARE_RECORD_FIELDS; i++) {
		record = memchr(record, ' ', (size_t)(end - record));
		if (record == NULL)
			return;
		record++;
	}
	bare_add_frame(record, (size_t)(end - record));
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

static void
bare_read_database(PGconn *conn)
{
	PGnotify *notify;

	if (!PQconsumeInput(conn))
		bench_fatal("%s", PQerrorMessage(conn));
	while ((notify = PQnotifies(conn)) != NULL) {
		bare_take_notify(notify->extra);
		PQfreemem(notify);
	}
	if (bare_block.frames > 0)
		bare_flush();
}

static void
bare_accept(int listener)
{
	static const char greeting[] = "\x81\x10{\"accept\": true}";
	int fd = accept(listener, NULL, NULL), one = 1;

	if (fd < 0)
		bench_fatal("could not accept a connection: %m");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!bare_send(fd, (const uint8_t *)greeting, sizeof(greeting) - 1)) {
		close(fd);
		return;
	}
	bare_clients = bench_realloc(bare_clients, (bare_client_count + 1) * sizeof(*bare_clients));
	bare_clients[bare_client_count++] = fd;
}

static int
bare_listen_socket(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(bare_port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
		bench_fatal("could not listen on port %d: %m", bare_port);
	return fd;
}

static PGconn *
bare_listen_channel(void)
{
	PGconn *conn = PQconnectdb(bare_database);
	char *channel, *sql;
	PGresult *result;

	if (PQstatus(conn) != CONNECTION_OK)
		bench_fatal("%s", PQerrorMessage(conn));
	channel = PQescapeIdentifier(conn, bare_channel, strlen(bare_channel));
	if (channel == NULL || asprintf(&sql, "LISTEN %s", channel) < 0)
		bench_fatal("out of memory");
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		bench_fatal("%s", PQerrorMessage(conn));
	PQclear(result);
	free(sql);
	PQfreemem(channel);
	return conn;
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
	static const struct option options[] = {{"database", required_argument, NULL, 'd'},
	    {"channel", required_argument, NULL, 'c'}, {"port", required_argument, NULL, 'p'},
	    {"block", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			bare_database = optarg;
			break;
		case 'c':
			bare_channel = optarg;
			break;
		case 'p':
			bare_port = (uint16_t)bench_parse_number("port", optarg, 1, UINT16_MAX);
			break;
		case 'b':
			bare_block_frames = (int)bench_parse_number("block", optarg, 1, 1024);
			break;
		default:
			exit(2);
		}
	}
	if (bare_port == 0)
		bench_fatal("--port is missing");
}

int
main(int argc, char **argv)
{
	PGconn *conn;
	int listener;

	bare_parse_options(argc, argv);
	bare_block.data = bench_realloc(NULL, (size_t)bare_block_frames * BARE_FRAME_MAX);
	listener = bare_listen_socket();
	conn = bare_listen_channel();
	puts("ready");
	fflush(stdout);
	bare_serve(conn, listener);
}
