/*
 * The load generator: many WebSocket sessions with a node, or connections to bench_bare, in one epoll loop.
 *
 * Each session connects, joins its groups, and then counts events: their sequence must be 1, 2, 3, ... on
 * each session (with --any-order each number once), and their stamps give the latency. Two lines of JSON are
 * printed: one when all sessions are open, one at the end.
 *
 *   CONNECTING -> UPGRADING -> GREETING -> JOINING -> OPEN -> CLOSED; bench_bare leads from CONNECTING to
 * GREETING and from there to OPEN.
 *
 * --port A,B,... spreads the sessions over the ports of several servers, in turns. With --commits FILE the
 * latency counts from the times that bench_publish has put there, and that of an event's last delivery is told
 * too.
 *
 * With --return each session waits for a cursor before it is open (MARKING), and hangs up. When a line comes on
 * standard input all come back at once, with their cursors.
 *
 * The end is when every session has its --events, when nothing has come for --patience seconds, or with
 * --hold when standard input ends. The receive time of an event is that of the recv() that brought its last
 * octet.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_event.h"
#include "bench_histogram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_READ_SIZE   (256 * 1024)
#define CLIENT_REST_COPIED (16 * 1024) /* a longer rest stays where it is */
#define CLIENT_OPENING_MAX 64          /* sessions that are being opened at the same time */
#define CLIENT_PER_ADDRESS 20000       /* connections from one loopback address: it has 28,000 ports */
#define CLIENT_EPOLL_BATCH 256
#define CLIENT_PORTS_MAX   64

enum client_state {
	CLIENT_CONNECTING,
	CLIENT_UPGRADING,
	CLIENT_GREETING,
	CLIENT_JOINING,
	CLIENT_MARKING,
	CLIENT_OPEN,
	CLIENT_CLOSED
};

struct client {
	int fd;
	uint16_t port;
	enum client_state state;
	int64_t events;   /* received */
	int64_t last_seq; /* of the latest event; 0: none yet */
	bool *seen;       /* --any-order: by sequence number */
	char *cursor;     /* --return: the one to come back with */
	uint8_t *rest;    /* an incomplete frame */
	size_t rest_len, rest_size;
};

/* A frame of the server, which does not mask. */
struct frame {
	uint8_t opcode;
	const char *payload;
	size_t len;
};

enum { FRAME_TEXT = 1, FRAME_CLOSE = 8, FRAME_PING = 9, FRAME_PONG = 10 };

static struct {
	uint16_t ports[CLIENT_PORTS_MAX];
	int port_count;
	int64_t clients, events, patience;
	const char *token, *message, *seq_key, *commits;
	bool bare, hold, returns, any_order;
} options = {.clients = 1, .patience = 10, .token = "", .message = "{\"groups\": {\"bench\": [1]}}"};

static struct {
	struct client *clients;
	int epoll;
	int64_t started, opened, closed, done; /* sessions; done: have all events */
	int64_t events, octets, sequence_errors, errors;
	int64_t first_us, last_us; /* when the first and the latest event came */
	int64_t return_us;         /* when they began to come back */
	int64_t asked_us;          /* when the first of them asked for its groups (then) */
	int last_close_code;
	const int64_t *commits; /* by sequence number; NULL: stamps count */
	int64_t *deliveries;    /* the latest of each, likewise */
	struct histogram latency, last_latency;
} run;

/* ---- sending ---- */

static void
client_close(struct client *c)
{
	if (c->state == CLIENT_CLOSED)
		return;
	c->state = CLIENT_CLOSED;
	close(c->fd);
	run.closed++;
}

static void
client_send(struct client *c, const void *data, size_t len)
{
	if (send(c->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		client_close(c);
}

/* A client's frames are masked (RFC 6455, section 5.3); a mask of zeros leaves the payload as it is. */
static void
client_send_frame(struct client *c, uint8_t opcode, const char *payload, size_t len)
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
	client_send(c, frame, (size_t)(p + 4 - frame) + len);
}

static void
client_send_upgrade(struct client *c)
{
	char request[2048];
	int len = snprintf(request, sizeof(request),
	    "GET /websocket/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: "
	    "Bearer %s\r\n\r\n",
	    c->port, options.token);

	if (len < 0 || (size_t)len >= sizeof(request))
		bench_fatal("the token is too long");
	client_send(c, request, (size_t)len);
}

static void
client_join(struct client *c)
{
	size_t len = strlen(options.message);
	char *message = NULL;
	int n;

	if (run.asked_us == 0)
		run.asked_us = bench_now_us();
	c->state = CLIENT_JOINING;
	if (!options.returns) {
		client_send_frame(c, FRAME_TEXT, options.message, len);
		return;
	}
	n = c->cursor != NULL
		? asprintf(&message, "%.*s, \"cursor\": \"%s\"}", (int)len - 1, options.message, c->cursor)
		: asprintf(&message, "%.*s, \"cursor\": true}", (int)len - 1, options.message);
	if (n < 0)
		bench_fatal("out of memory");
	client_send_frame(c, FRAME_TEXT, message, (size_t)n);
	free(message);
}

/* ---- receiving ---- */

static bool
frame_read(const uint8_t *p, size_t len, struct frame *frame, size_t *size)
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

static bool
frame_holds(const struct frame *frame, const char *text)
{
	return memmem(frame->payload, frame->len, text, strlen(text)) != NULL;
}

static bool
client_expects(struct client *c, int64_t seq)
{
	bool seen;

	if (!options.any_order)
		return seq == c->last_seq + 1;
	if (seq < 1 || seq > options.events)
		return false;
	if (c->seen == NULL) {
		c->seen = bench_realloc(NULL, (size_t)options.events + 1);
		memset(c->seen, 0, (size_t)options.events + 1);
	}
	seen = c->seen[seq];
	c->seen[seq] = true;
	return !seen;
}

static void
client_count_event(struct client *c, int64_t seq, int64_t now_us)
{
	if (!client_expects(c, seq))
		run.sequence_errors++;
	c->last_seq = seq;
	run.events++;
	if (run.first_us == 0)
		run.first_us = now_us;
	run.last_us = now_us;
	if (++c->events == options.events)
		run.done++;
}

static void
client_take_event(struct client *c, const struct frame *frame, int64_t now_us)
{
	int64_t stamp_us, seq;

	if (options.seq_key != NULL) {
		if (bench_event_find(frame->payload, frame->len, options.seq_key, &seq))
			client_count_event(c, seq, now_us);
	} else if (bench_event_read(frame->payload, frame->len, &stamp_us, &seq)) {
		if (run.commits != NULL && seq <= options.events) {
			stamp_us = run.commits[seq];
			run.deliveries[seq] = now_us;
		}
		histogram_add(&run.latency, now_us - stamp_us);
		client_count_event(c, seq, now_us);
	} else {
		run.errors++;
	}
}

/* A cursor's text; NULL: the frame is something else. The caller releases it. */
static char *
frame_cursor(const struct frame *frame)
{
	static const char opening[] = "{\"cursor\": \"";
	size_t len = sizeof(opening) - 1;

	if (frame->len < len + 2 || memcmp(frame->payload, opening, len) != 0)
		return NULL;
	return strndup(frame->payload + len, frame->len - len - 2);
}

static void
client_open(struct client *c)
{
	c->state = CLIENT_OPEN;
	run.opened++;
}

static void
client_take_text(struct client *c, const struct frame *frame, int64_t now_us)
{
	char *cursor = options.returns ? frame_cursor(frame) : NULL;

	if (cursor != NULL && c->state == CLIENT_MARKING) {
		c->cursor = cursor;
		client_open(c);
	} else if (cursor != NULL) {
		free(cursor); /* there is no second time */
	} else if (c->state == CLIENT_OPEN) {
		client_take_event(c, frame, now_us);
	} else if (c->state == CLIENT_GREETING && frame_holds(frame, "\"accept\": true")) {
		if (options.bare) {
			client_open(c);
			return;
		}
		client_join(c);
	} else if (c->state == CLIENT_JOINING && frame_holds(frame, "\"groups_joined\": [\"")) {
		if (options.returns && c->cursor == NULL)
			c->state = CLIENT_MARKING;
		else
			client_open(c);
	} else {
		bench_fatal(
		    "unexpected answer: %.*s", (int)(frame->len < 500 ? frame->len : 500), frame->payload);
	}
}

static void
client_take_frame(struct client *c, const struct frame *frame, int64_t now_us)
{
	switch (frame->opcode) {
	case FRAME_TEXT:
		client_take_text(c, frame, now_us);
		break;
	case FRAME_PING:
		client_send_frame(c, FRAME_PONG, frame->payload, frame->len);
		break;
	case FRAME_CLOSE:
		if (frame->len >= 2)
			run.last_close_code = (uint8_t)frame->payload[0] << 8 | (uint8_t)frame->payload[1];
		client_close(c);
		break;
	default:
		run.errors++;
		break;
	}
}

/* Octets of the HTTP answer, when it is all there; else 0. */
static size_t
client_take_answer(struct client *c, const uint8_t *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4);

	if (end == NULL)
		return 0;
	if (len < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0)
		bench_fatal("refused: %.*s", (int)(len < 500 ? len : 500), (const char *)data);
	c->state = CLIENT_GREETING;
	return (size_t)(end + 4 - (const char *)data);
}

/* Returns how many octets have been taken; an incomplete frame stays. */
static size_t
client_take(struct client *c, const uint8_t *data, size_t len, int64_t now_us)
{
	size_t taken = 0, size;
	struct frame frame;

	if (c->state == CLIENT_UPGRADING)
		taken = client_take_answer(c, data, len);
	if (c->state == CLIENT_UPGRADING)
		return 0;
	while (c->state != CLIENT_CLOSED && frame_read(data + taken, len - taken, &frame, &size)) {
		taken += size;
		client_take_frame(c, &frame, now_us);
	}
	return taken;
}

static void
client_keep_rest(struct client *c, const uint8_t *data, size_t len)
{
	if (len > c->rest_size) {
		c->rest_size = len;
		c->rest = bench_realloc(c->rest, len);
	}
	if (len > 0)
		memmove(c->rest, data, len);
	c->rest_len = len;
}

/* The rest, with room behind it. */
static uint8_t *
client_buffer(struct client *c)
{
	static uint8_t buffer[CLIENT_REST_COPIED + CLIENT_READ_SIZE];

	if (c->rest_len <= CLIENT_REST_COPIED) {
		if (c->rest_len > 0)
			memcpy(buffer, c->rest, c->rest_len);
		return buffer;
	}
	if (c->rest_size < c->rest_len + CLIENT_READ_SIZE) {
		c->rest_size = 2 * (c->rest_len + CLIENT_READ_SIZE);
		c->rest = bench_realloc(c->rest, c->rest_size);
	}
	return c->rest;
}

static void
client_read(struct client *c)
{
	uint8_t *buffer = client_buffer(c);
	ssize_t n = recv(c->fd, buffer + c->rest_len, CLIENT_READ_SIZE, 0);
	size_t len, taken;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_close(c);
		return;
	}
	run.octets += n;
	len = c->rest_len + (size_t)n;
	taken = client_take(c, buffer, len, bench_now_us());
	client_keep_rest(c, buffer + taken, len - taken);
}

/* ---- connecting ---- */

static void
client_watch(struct client *c, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(run.epoll, operation, c->fd, &event) < 0)
		bench_fatal("could not watch a socket: %m");
}

static void
client_connect(struct client *c, int64_t number)
{
	struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
	int one = 1;

	c->port = options.ports[number % options.port_count];
	to.sin_port = htons(c->port);
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / CLIENT_PER_ADDRESS));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->state = CLIENT_CONNECTING;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		bench_fatal("could not create a socket: %m; ulimit -n tells how many there may be");
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	    (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS))
		bench_fatal("could not connect: %m");
	client_watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void
client_connected(struct client *c)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error != 0)
		bench_fatal("could not connect: %s", strerror(error));
	client_watch(c, EPOLL_CTL_MOD, EPOLLIN);
	if (options.bare) {
		c->state = CLIENT_GREETING;
	} else {
		c->state = CLIENT_UPGRADING;
		client_send_upgrade(c);
	}
}

/* ---- the loop ---- */

/* False when nothing came within the time. */
static bool
run_turn(int timeout_ms)
{
	struct epoll_event events[CLIENT_EPOLL_BATCH];
	int n = epoll_wait(run.epoll, events, CLIENT_EPOLL_BATCH, timeout_ms);

	for (int i = 0; i < n; i++) {
		struct client *c = events[i].data.ptr;

		if (c == NULL)
			options.hold = false; /* standard input has ended */
		else if (c->state == CLIENT_CONNECTING)
			client_connected(c);
		else if (c->state != CLIENT_CLOSED)
			client_read(c);
	}
	return n != 0;
}

/* at_once: so many are being opened at the same time. Returns the seconds that it took. */
static double
run_open_all(int64_t at_once)
{
	int64_t start_us = bench_now_us();

	run.started = run.opened = run.asked_us = 0;
	while (run.opened < options.clients) {
		while (run.started < options.clients && run.started - run.opened < at_once) {
			client_connect(&run.clients[run.started], run.started);
			run.started++;
		}
		if (!run_turn((int)options.patience * 1000))
			bench_fatal("only %" PRId64 " of %" PRId64 " sessions could be opened", run.opened,
			    options.clients);
		if (run.closed > 0)
			bench_fatal("a session was closed while it was being opened");
	}
	return (double)(bench_now_us() - start_us) / 1e6;
}

static void
run_print_open(double seconds)
{
	printf("{\"sessions\": %" PRId64 ", \"open_seconds\": %.6f}\n", run.opened, seconds);
	fflush(stdout);
}

static void
run_hang_up(void)
{
	for (int64_t i = 0; i < options.clients; i++) {
		close(run.clients[i].fd);
		run.clients[i].rest_len = 0;
	}
}

static void
run_come_back(void)
{
	int c;

	while ((c = getchar()) != '\n')
		if (c == EOF)
			exit(1);
	run.return_us = bench_now_us();
	run_print_open(run_open_all(options.clients));
}

static void
run_receive(void)
{
	while (run.done < options.clients && run.closed < options.clients)
		if (!run_turn((int)options.patience * 1000))
			return;
}

static void
run_hold(void)
{
	struct epoll_event event = {.events = EPOLLIN};

	if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
		bench_fatal("--hold wants a pipe as standard input: %m");
	while (options.hold)
		run_turn(-1);
}

/* Of each event, how long until its last delivery. */
static void
run_print_last(void)
{
	for (int64_t seq = 1; seq <= options.events; seq++)
		if (run.deliveries[seq] != 0)
			histogram_add(&run.last_latency, run.deliveries[seq] - run.commits[seq]);
	printf("\"last_p50_us\": %" PRId64 ", \"last_p99_us\": %" PRId64 ", \"last_max_us\": %" PRId64 ", ",
	    histogram_quantile_us(&run.last_latency, 0.5), histogram_quantile_us(&run.last_latency, 0.99),
	    run.last_latency.max_us);
}

static void
run_print(double cpu_seconds)
{
	int64_t wanted = options.hold ? run.events : options.events * options.clients;
	double seconds = (double)(run.last_us - run.first_us) / 1e6;

	printf("{\"deliveries\": %" PRId64 ", \"missing\": %" PRId64
	       ", \"seconds\": %.6f, \"return_us\": %" PRId64 ", \"asked_us\": %" PRId64
	       ", \"first_us\": %" PRId64 ", \"last_us\": %" PRId64 ", \"deliveries_per_second\": %.0f, ",
	    run.events, wanted - run.events, seconds, run.return_us, run.asked_us, run.first_us, run.last_us,
	    seconds > 0 ? (double)run.events / seconds : 0);
	printf("\"p50_us\": %" PRId64 ", \"p90_us\": %" PRId64 ", \"p99_us\": %" PRId64
	       ", \"max_us\": %" PRId64 ", ",
	    histogram_quantile_us(&run.latency, 0.5), histogram_quantile_us(&run.latency, 0.9),
	    histogram_quantile_us(&run.latency, 0.99), run.latency.max_us);
	if (run.commits != NULL)
		run_print_last();
	printf("\"octets\": %" PRId64 ", \"sequence_errors\": %" PRId64 ", \"errors\": %" PRId64
	       ", \"closed\": %" PRId64 ", \"close_code\": %d, \"cpu_seconds\": %.6f}\n",
	    run.octets, run.sequence_errors, run.errors, run.closed, run.last_close_code, cpu_seconds);
}

static void
run_raise_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void
run_parse_ports(char *list)
{
	for (char *port = strtok(list, ","); port != NULL; port = strtok(NULL, ",")) {
		if (options.port_count == CLIENT_PORTS_MAX)
			bench_fatal("--port: at most %d", CLIENT_PORTS_MAX);
		options.ports[options.port_count++] =
		    (uint16_t)bench_parse_number("port", port, 1, UINT16_MAX);
	}
}

static void
run_map_commits(void)
{
	size_t size = (size_t)(options.events + 1) * sizeof(*run.deliveries);

	run.commits = bench_event_map_commits(options.commits, options.events);
	run.deliveries = bench_realloc(NULL, size);
	memset(run.deliveries, 0, size);
}

static void
run_parse_options(int argc, char **argv)
{
	static const struct option table[] = {{"port", required_argument, NULL, 'p'},
	    {"clients", required_argument, NULL, 'c'}, {"events", required_argument, NULL, 'n'},
	    {"patience", required_argument, NULL, 'w'}, {"token", required_argument, NULL, 't'},
	    {"message", required_argument, NULL, 'm'}, {"seq-key", required_argument, NULL, 's'},
	    {"commits", required_argument, NULL, 'C'}, {"bare", no_argument, NULL, 'b'},
	    {"hold", no_argument, NULL, 'h'}, {"return", no_argument, NULL, 'r'},
	    {"any-order", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 'p':
			run_parse_ports(optarg);
			break;
		case 'c':
			options.clients = bench_parse_number("clients", optarg, 1, 1000000);
			break;
		case 'n':
			options.events = bench_parse_number("events", optarg, 1, INT32_MAX);
			break;
		case 'w':
			options.patience = bench_parse_number("patience", optarg, 1, 3600);
			break;
		case 't':
			options.token = optarg;
			break;
		case 'm':
			options.message = optarg;
			break;
		case 's':
			options.seq_key = optarg;
			break;
		case 'C':
			options.commits = optarg;
			break;
		case 'b':
			options.bare = true;
			break;
		case 'h':
			options.hold = true;
			break;
		case 'r':
			options.returns = true;
			break;
		case 'a':
			options.any_order = true;
			break;
		default:
			exit(2);
		}
	}
	if (options.port_count == 0)
		bench_fatal("--port is missing");
	if (!options.hold && options.events == 0)
		bench_fatal("--events or --hold is missing");
	if (options.any_order && options.hold)
		bench_fatal("--any-order does not go with --hold");
	if (options.returns && (options.bare || options.hold))
		bench_fatal("--return goes neither with --bare nor with --hold");
	if (options.message[0] != '{' || options.message[strlen(options.message) - 1] != '}')
		bench_fatal("--message must be a JSON object");
}

int
main(int argc, char **argv)
{
	double open_seconds, cpu_seconds;

	run_parse_options(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	run_raise_descriptors();
	run.clients = bench_realloc(NULL, (size_t)options.clients * sizeof(*run.clients));
	memset(run.clients, 0, (size_t)options.clients * sizeof(*run.clients));
	if (options.commits != NULL)
		run_map_commits();
	run.epoll = epoll_create1(0);
	open_seconds = run_open_all(CLIENT_OPENING_MAX);
	if (options.returns)
		run_hang_up();
	run_print_open(open_seconds);
	run.octets = 0;
	cpu_seconds = bench_cpu_seconds();
	if (options.returns)
		run_come_back();
	if (options.hold)
		run_hold();
	else
		run_receive();
	run_print(bench_cpu_seconds() - cpu_seconds);
	return 0;
}
