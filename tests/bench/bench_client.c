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
 * latency counts from the times that bench_publish has put there, and that of an event's last delivery is
 * told too.
 *
 * With --return each session waits for a cursor before it is open (MARKING), and hangs up. When a line comes
 * on standard input all come back at once, with their cursors.
 *
 * With --topics FILE and --groups-each N an event is for one session: the n-th session joins N groups of its
 * own, and gets, in order, those whose line in the file, which is the publisher's, ends in one of them.
 * --events is how many all get together.
 *
 * --stalled N: so many more sessions, which are opened first and never read from then on.
 *
 * --peer: not a node but another server that sends the payloads as messages, or as socket.io's events.
 *
 * The end is when every session has its --events, when nothing has come for --patience seconds, or with
 * --hold when standard input ends. The receive time of an event is that of the recv() that brought its last
 * octet.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_event.h"
#include "bench_histogram.h"
#include "bench_io.h"
#include "bench_options.h"
#include "bench_ws.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_READ_SIZE      (256 * 1024)
#define CLIENT_REST_COPIED    (16 * 1024) /* a longer rest stays where it is */
#define CLIENT_OPENING_MAX    64          /* sessions that are being opened at the same time */
#define CLIENT_EPOLL_BATCH    256
#define CLIENT_PORTS_MAX      64
#define CLIENT_STALLED_OCTETS 4096 /* of a stalled session's socket */
#define CLIENT_GROUPS_MAX     100  /* of a session */
#define CLIENT_MESSAGE_MAX    (64 + 12 * CLIENT_GROUPS_MAX)

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
	const char *token;
	int64_t owner;    /* --topics: whose groups' events it gets; -1: not known yet, of bench_bare */
	int64_t events;   /* received */
	int64_t last_seq; /* of the latest event; 0: none yet */
	bool *seen;       /* --any-order: by sequence number */
	char *cursor;     /* --return: the one to come back with */
	uint8_t *rest;    /* an incomplete frame */
	size_t rest_len, rest_size;
};

/* Another server than a node, and what leads to its events. */
struct client_peer {
	const char *name;
	const char *hello;  /* its first message begins so; NULL: there is none */
	const char *answer; /* to that */
	const char *joined; /* the one that it answers then */
	const char *before; /* in front of an event's payload */
	const char *ping, *pong;
};

static const struct client_peer client_peers[] = {
    {.name = "plain", .before = ""},
    {.name = "socket.io",
	.hello = "0{",
	.answer = "40",
	.joined = "40{",
	.before = "42[\"e\",",
	.ping = "2",
	.pong = "3"},
};

static struct {
	uint16_t ports[CLIENT_PORTS_MAX];
	int port_count;
	int64_t clients, stalled, events, patience, at_once, groups_each;
	const char *token, *message, *seq_key, *commits, *path;
	const char *port_list, *tokens_file, *topics_file, *peer_name;
	const struct client_peer *peer; /* NULL: a node, or bench_bare */
	bool bare, hold, returns, any_order, tls;
	char **tokens; /* of the sessions, in turns; NULL: all have one */
	int64_t token_count;
	char **topics; /* of the events, in turns; NULL: all events are for all */
	int64_t topic_count;
} options = {.clients = 1,
    .patience = 10,
    .at_once = CLIENT_OPENING_MAX,
    .token = "",
    .path = "/websocket/",
    .message = "{\"groups\": {\"bench\": [1]}}"};

static struct {
	struct client *clients;
	int epoll;
	int64_t started, opened, closed, done; /* sessions; done: have all events */
	int64_t events, octets, sequence_errors, errors;
	int64_t first_us, last_us; /* when the first and the latest event came */
	int64_t return_us;         /* when they began to come back */
	int64_t asked_again;       /* for groups, as the node has told them to */
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
	bench_io_close(c->fd);
	run.closed++;
}

static void
client_send_frame(struct client *c, uint8_t opcode, const char *payload, size_t len)
{
	if (!bench_ws_send_frame(c->fd, opcode, payload, len))
		client_close(c);
}

static void
client_join_own(struct client *c)
{
	char message[CLIENT_MESSAGE_MAX];
	int64_t first = c->owner * options.groups_each + 1;
	int len = snprintf(message, sizeof(message), "{\"groups\": {\"bench\": [");

	for (int64_t i = 0; i < options.groups_each; i++)
		len += snprintf(
		    message + len, sizeof(message) - (size_t)len, "%s%" PRId64, i > 0 ? ", " : "", first + i);
	len += snprintf(message + len, sizeof(message) - (size_t)len, "]}}");
	client_send_frame(c, FRAME_TEXT, message, (size_t)len);
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
	if (options.topics != NULL) {
		client_join_own(c);
		return;
	}
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

/* Which session the event is for: by its group, the last part of its topic. */
static int64_t
client_owner_of(int64_t seq)
{
	const char *topic = options.topics[(seq - 1) % options.topic_count], *key = strrchr(topic, '.');

	if (key == NULL)
		bench_fatal("\"%s\" is no topic", topic);
	return (strtoll(key + 1, NULL, 10) - 1) / options.groups_each;
}

static bool
client_expects_own(struct client *c, int64_t seq)
{
	if (seq <= c->last_seq)
		return false;
	if (c->owner < 0)
		c->owner = client_owner_of(seq);
	return client_owner_of(seq) == c->owner;
}

static bool
client_expects(struct client *c, int64_t seq)
{
	bool seen;

	if (options.topics != NULL)
		return client_expects_own(c, seq);
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

/* With --seq-key other messages may come, too, and events need not bear a stamp (0). */
static bool
client_read_event(const char *text, size_t len, int64_t *stamp_us, int64_t *seq)
{
	if (options.seq_key == NULL)
		return bench_event_read(text, len, stamp_us, seq);
	if (!bench_event_find(text, len, options.seq_key, seq))
		return false;
	if (!bench_event_find(text, len, "t", stamp_us))
		*stamp_us = 0;
	return true;
}

static void
client_take_event(struct client *c, const struct bench_frame *frame, int64_t now_us)
{
	size_t before = options.peer != NULL ? strlen(options.peer->before) : 0;
	int64_t stamp_us, seq;

	if (frame->len < before ||
	    (before > 0 && memcmp(frame->payload, options.peer->before, before) != 0)) {
		run.errors++;
		return;
	}
	if (!client_read_event(frame->payload + before, frame->len - before, &stamp_us, &seq)) {
		run.errors += options.seq_key == NULL;
		return;
	}
	if (run.commits != NULL && seq <= options.events) {
		stamp_us = run.commits[seq];
		run.deliveries[seq] = now_us;
	}
	if (stamp_us > 0)
		histogram_add(&run.latency, now_us - stamp_us);
	client_count_event(c, seq, now_us);
}

/* A cursor's text; NULL: the frame is something else. The caller releases it. */
static char *
client_frame_cursor(const struct bench_frame *frame)
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

static bool
client_begins(const struct bench_frame *frame, const char *text)
{
	return text != NULL && frame->len >= strlen(text) && memcmp(frame->payload, text, strlen(text)) == 0;
}

static void
client_take_peer_text(struct client *c, const struct bench_frame *frame, int64_t now_us)
{
	const struct client_peer *peer = options.peer;

	if (c->state == CLIENT_GREETING && client_begins(frame, peer->hello)) {
		c->state = CLIENT_JOINING;
		client_send_frame(c, FRAME_TEXT, peer->answer, strlen(peer->answer));
	} else if (c->state == CLIENT_JOINING && client_begins(frame, peer->joined)) {
		client_open(c);
	} else if (peer->ping != NULL && frame->len == strlen(peer->ping) &&
		   client_begins(frame, peer->ping)) {
		client_send_frame(c, FRAME_TEXT, peer->pong, strlen(peer->pong));
	} else {
		client_take_event(c, frame, now_us);
	}
}

static void
client_take_text(struct client *c, const struct bench_frame *frame, int64_t now_us)
{
	char *cursor = options.returns ? client_frame_cursor(frame) : NULL;

	if (cursor != NULL && c->state == CLIENT_MARKING) {
		c->cursor = cursor;
		client_open(c);
	} else if (cursor != NULL) {
		free(cursor); /* there is no second time */
	} else if (c->state == CLIENT_OPEN) {
		client_take_event(c, frame, now_us);
	} else if (c->state == CLIENT_GREETING && bench_frame_holds(frame, "\"accept\": true")) {
		if (options.bare) {
			client_open(c);
			return;
		}
		client_join(c);
	} else if (c->state == CLIENT_JOINING && bench_frame_holds(frame, "\"groups_joined\": [\"")) {
		if (options.returns && c->cursor == NULL)
			c->state = CLIENT_MARKING;
		else
			client_open(c);
	} else if (c->state == CLIENT_JOINING && bench_frame_holds(frame, ", try again\"}")) {
		run.asked_again++;
		client_join(c);
	} else {
		bench_fatal(
		    "unexpected answer: %.*s", (int)(frame->len < 500 ? frame->len : 500), frame->payload);
	}
}

static void
client_take_frame(struct client *c, const struct bench_frame *frame, int64_t now_us)
{
	switch (frame->opcode) {
	case FRAME_TEXT:
		if (options.peer != NULL)
			client_take_peer_text(c, frame, now_us);
		else
			client_take_text(c, frame, now_us);
		break;
	case FRAME_PING:
		client_send_frame(c, FRAME_PONG, frame->payload, frame->len);
		break;
	case FRAME_CLOSE:
		if (frame->len >= 2)
			run.last_close_code = bench_frame_close_code(frame);
		client_close(c);
		break;
	default:
		run.errors++;
		break;
	}
}

/* Returns how many octets have been taken; an incomplete frame stays. */
static size_t
client_take(struct client *c, const uint8_t *data, size_t len, int64_t now_us)
{
	size_t taken = 0, size;
	struct bench_frame frame;

	if (c->state == CLIENT_UPGRADING) {
		taken = bench_ws_read_answer(data, len);
		if (taken == 0)
			return 0;
		c->state = CLIENT_GREETING;
		if (options.peer != NULL && options.peer->hello == NULL)
			client_open(c);
	}
	while (c->state != CLIENT_CLOSED && bench_ws_read_frame(data + taken, len - taken, &frame, &size)) {
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

/* False: there is nothing more to be read. */
static bool
client_read_piece(struct client *c)
{
	uint8_t *buffer = client_buffer(c);
	ssize_t n = bench_io_recv(c->fd, buffer + c->rest_len, CLIENT_READ_SIZE);
	size_t len, taken;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		client_close(c);
		return false;
	}
	run.octets += n;
	len = c->rest_len + (size_t)n;
	taken = client_take(c, buffer, len, bench_now_us());
	client_keep_rest(c, buffer + taken, len - taken);
	return c->state != CLIENT_CLOSED && bench_io_has_more(c->fd);
}

static void
client_read(struct client *c)
{
	while (client_read_piece(c))
		;
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
	static const int little = CLIENT_STALLED_OCTETS;

	c->port = options.ports[number % options.port_count];
	c->token = options.tokens != NULL ? options.tokens[number % options.token_count] : options.token;
	c->owner = options.bare ? -1 : number;
	c->state = CLIENT_CONNECTING;
	c->fd = bench_ws_connect(c->port, number);
	if (number >= options.clients)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
	client_watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void
client_connected(struct client *c)
{
	bench_ws_connected(c->fd);
	if (options.tls)
		bench_io_connect_tls(c->fd);
	client_watch(c, EPOLL_CTL_MOD, EPOLLIN);
	if (options.bare) {
		c->state = CLIENT_GREETING;
		return;
	}
	c->state = CLIENT_UPGRADING;
	if (!bench_ws_send_upgrade(c->fd, c->port, options.path, c->token))
		client_close(c);
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
	int64_t start_us = bench_now_us(), all = options.clients + options.stalled;

	run.started = run.opened = run.asked_us = 0;
	while (run.opened < all) {
		while (run.started < all && run.started - run.opened < at_once) {
			client_connect(&run.clients[run.started], run.started);
			run.started++;
		}
		if (!run_turn((int)options.patience * 1000))
			bench_fatal(
			    "only %" PRId64 " of %" PRId64 " sessions could be opened", run.opened, all);
		if (run.closed > 0)
			bench_fatal("a session was closed while it was being opened");
	}
	return (double)(bench_now_us() - start_us) / 1e6;
}

/* The last ones are not read any more. */
static void
run_stall(void)
{
	for (int64_t i = options.clients; i < options.clients + options.stalled; i++)
		if (epoll_ctl(run.epoll, EPOLL_CTL_DEL, run.clients[i].fd, NULL) < 0)
			bench_fatal("could not leave a socket: %m");
}

static void
run_print_open(double seconds)
{
	printf("{\"sessions\": %" PRId64 ", \"open_seconds\": %.6f, \"asked_again\": %" PRId64 "}\n",
	    run.opened, seconds, run.asked_again);
	fflush(stdout);
}

static void
run_hang_up(void)
{
	for (int64_t i = 0; i < options.clients; i++) {
		bench_io_close(run.clients[i].fd);
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

/* With topics each event is for one session, and none comes twice. */
static bool
run_has_all(void)
{
	return options.topics != NULL ? run.events >= options.events : run.done == options.clients;
}

static void
run_receive(void)
{
	while (!run_has_all() && run.closed < options.clients)
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
	histogram_print(&run.last_latency, "last_");
	printf(", ");
}

static void
run_print(double cpu_seconds)
{
	int64_t wanted = options.hold ? run.events : options.events * (options.topics ? 1 : options.clients);
	int64_t us = run.last_us - run.first_us;
	double seconds = (double)(us > 0 ? us : 1) / 1e6; /* the clock's resolution */

	printf("{\"deliveries\": %" PRId64 ", \"missing\": %" PRId64
	       ", \"seconds\": %.6f, \"return_us\": %" PRId64 ", \"asked_us\": %" PRId64
	       ", \"first_us\": %" PRId64 ", \"last_us\": %" PRId64 ", \"deliveries_per_second\": %.0f, ",
	    run.events, wanted - run.events, seconds, run.return_us, run.asked_us, run.first_us, run.last_us,
	    (double)run.events / seconds);
	histogram_print(&run.latency, "");
	printf(", ");
	if (run.commits != NULL)
		run_print_last();
	printf("\"octets\": %" PRId64 ", \"sequence_errors\": %" PRId64 ", \"errors\": %" PRId64
	       ", \"closed\": %" PRId64 ", \"close_code\": %d, \"cpu_seconds\": %.6f}\n",
	    run.octets, run.sequence_errors, run.errors, run.closed, run.last_close_code, cpu_seconds);
}

static void
run_parse_ports(const char *list)
{
	char *copy = strdup(list), *rest = copy;

	if (copy == NULL)
		bench_fatal("out of memory");
	for (char *port; (port = strsep(&rest, ",")) != NULL;) {
		if (options.port_count == CLIENT_PORTS_MAX)
			bench_fatal("--port: at most %d", CLIENT_PORTS_MAX);
		options.ports[options.port_count++] =
		    (uint16_t)bench_parse_number("port", port, 1, UINT16_MAX);
	}
	free(copy);
}

static void
run_find_peer(const char *name)
{
	for (size_t i = 0; i < sizeof(client_peers) / sizeof(client_peers[0]); i++)
		if (strcmp(client_peers[i].name, name) == 0)
			options.peer = &client_peers[i];
	if (options.peer == NULL)
		bench_fatal("--peer is plain or socket.io");
}

static void
run_check_options(void)
{
	if (!options.hold && options.events == 0)
		bench_fatal("--events or --hold is missing");
	if (options.any_order && options.hold)
		bench_fatal("--any-order does not go with --hold");
	if (options.returns && (options.bare || options.hold || options.stalled > 0))
		bench_fatal("--return goes with none of --bare, --hold, --stalled");
	if ((options.topics != NULL) != (options.groups_each > 0))
		bench_fatal("--topics and --groups-each go together");
	if (options.message[0] != '{' || options.message[strlen(options.message) - 1] != '}')
		bench_fatal("--message must be a JSON object");
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
	const struct bench_option table[] = {BENCH_OPTION_TEXT("port", &options.port_list),
	    BENCH_OPTION_NUMBER("clients", &options.clients, 1, 1000000),
	    BENCH_OPTION_NUMBER("events", &options.events, 1, INT32_MAX),
	    BENCH_OPTION_NUMBER("patience", &options.patience, 1, 3600),
	    BENCH_OPTION_NUMBER("stalled", &options.stalled, 0, 1000000),
	    BENCH_OPTION_NUMBER("at-once", &options.at_once, 1, 1000000),
	    BENCH_OPTION_NUMBER("groups-each", &options.groups_each, 1, CLIENT_GROUPS_MAX),
	    BENCH_OPTION_TEXT("token", &options.token), BENCH_OPTION_TEXT("tokens", &options.tokens_file),
	    BENCH_OPTION_TEXT("message", &options.message), BENCH_OPTION_TEXT("seq-key", &options.seq_key),
	    BENCH_OPTION_TEXT("commits", &options.commits), BENCH_OPTION_TEXT("topics", &options.topics_file),
	    BENCH_OPTION_TEXT("path", &options.path), BENCH_OPTION_TEXT("peer", &options.peer_name),
	    BENCH_OPTION_FLAG("bare", &options.bare), BENCH_OPTION_FLAG("hold", &options.hold),
	    BENCH_OPTION_FLAG("return", &options.returns), BENCH_OPTION_FLAG("any-order", &options.any_order),
	    BENCH_OPTION_FLAG("tls", &options.tls), BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (options.port_list == NULL)
		bench_fatal("--port is missing");
	run_parse_ports(options.port_list);
	if (options.tokens_file != NULL)
		options.tokens = bench_read_lines(options.tokens_file, &options.token_count);
	if (options.topics_file != NULL)
		options.topics = bench_read_lines(options.topics_file, &options.topic_count);
	if (options.peer_name != NULL)
		run_find_peer(options.peer_name);
	run_check_options();
}

int
main(int argc, char **argv)
{
	double open_seconds, cpu_seconds;
	size_t size;

	run_parse_options(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	bench_ws_raise_descriptors();
	size = (size_t)(options.clients + options.stalled) * sizeof(*run.clients);
	run.clients = bench_realloc(NULL, size);
	memset(run.clients, 0, size);
	if (options.commits != NULL)
		run_map_commits();
	run.epoll = epoll_create1(0);
	open_seconds = run_open_all(options.at_once);
	run_stall();
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
