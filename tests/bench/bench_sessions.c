/*
 * Many sessions of one node, which do what they are told: lines on standard input, each answered by a line of
 * JSON when it is done.
 *
 *   send FILE         lines of the file are "SESSION TEXT": the session sends the text, which is acknowledged.
 *                     A session's lines stand together and go out at once; done when all are acknowledged
 *   events N          until N events have come, to all together, since the last time
 *   told N SINCE      until N sessions have been told that their rights have changed since that time (in
 *                     microseconds since 1970), and how long after it
 *   closed N SINCE    the same: until N have got a close frame with 1008
 *
 * Each session has the token of a line of --tokens FILE, in turns. Before the first command all are opened; at
 * the end of standard input a last line tells of what was not to be expected.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_histogram.h"
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

#define SESSIONS_READ_SIZE   (64 * 1024)
#define SESSIONS_AT_ONCE     64 /* are being opened, or wait for acknowledgements */
#define SESSIONS_EPOLL_BATCH 256
#define SESSIONS_LINE_MAX    4096
#define SESSIONS_CLOSE_CODE  1008
#define SESSIONS_PATIENCE_MS 120000

enum state { CONNECTING, UPGRADING, GREETING, OPEN, CLOSED };

struct session {
	int fd;
	enum state state;
	int unacknowledged;
	int64_t told_us, closed_us; /* the last time; 0: not */
	uint8_t *rest;              /* an incomplete frame */
	size_t rest_len;
};

/* What tells one frame of a dialect from another. */
struct manner {
	const char *name, *path, *greeting, *acknowledged, *told, *error;
};

static const struct manner manners[] = {
    {"drp", "/api/v3/ws", NULL, "\"Type\":\"websocket\"", "\"Type\":\"pgrelay\",\"Action\":\"rights\"",
	"\"Type\":\"pgrelay\""},
    {"awx", "/websocket/", "\"accept\": true", "\"groups_joined\": [\"", "\"groups_left\": [\"",
	"{\"error\""},
};

static struct {
	int64_t port, sessions;
	const char *dialect, *tokens_file;
	const struct manner *manner;
	char **tokens;
	int64_t token_count;
} options = {.sessions = 1, .dialect = "drp"};

static struct {
	struct session *sessions;
	int epoll;
	int64_t started, opened, busy; /* busy: wait for acknowledgements */
	int64_t acknowledged, events, told, closed;
	int64_t deadline_us; /* of the command at hand */
	bool asked;          /* something is to be read on standard input */
} run;

/* ---- a session ---- */

static void
session_watch(struct session *s, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = s};

	if (epoll_ctl(run.epoll, operation, s->fd, &event) < 0)
		bench_fatal("could not watch a socket: %m");
}

static void
session_connect(struct session *s, int64_t number)
{
	s->state = CONNECTING;
	s->fd = bench_ws_connect((uint16_t)options.port, number);
	session_watch(s, EPOLL_CTL_ADD, EPOLLOUT);
}

static void
session_connected(struct session *s)
{
	const char *token = options.tokens[(s - run.sessions) % options.token_count];

	bench_ws_connected(s->fd);
	session_watch(s, EPOLL_CTL_MOD, EPOLLIN);
	s->state = UPGRADING;
	if (!bench_ws_send_upgrade(s->fd, (uint16_t)options.port, options.manner->path, token))
		bench_fatal("could not send a request: %m");
}

static void
session_opened(struct session *s)
{
	s->state = OPEN;
	run.opened++;
}

static void
session_close(struct session *s)
{
	s->state = CLOSED;
	close(s->fd);
}

static void
session_take_close(struct session *s, const struct bench_frame *frame, int64_t now_us)
{
	int code = bench_frame_close_code(frame);

	if (s->state != OPEN || code != SESSIONS_CLOSE_CODE)
		bench_fatal("a session was closed with %d: %.*s", code,
		    frame->len > 2 ? (int)frame->len - 2 : 0, frame->payload + 2);
	s->closed_us = now_us;
	run.closed++;
	(void)bench_ws_send_frame(s->fd, FRAME_CLOSE, frame->payload, frame->len);
	session_close(s);
}

static void
session_take_text(struct session *s, const struct bench_frame *frame, int64_t now_us)
{
	const struct manner *m = options.manner;

	if (s->state == GREETING && bench_frame_holds(frame, m->greeting)) {
		session_opened(s);
	} else if (s->unacknowledged > 0 && bench_frame_holds(frame, m->acknowledged)) {
		run.acknowledged++;
		run.busy -= --s->unacknowledged == 0;
	} else if (bench_frame_holds(frame, m->told)) {
		s->told_us = now_us;
		run.told++;
	} else if (s->state != OPEN || bench_frame_holds(frame, m->error)) {
		bench_fatal("unexpected: %.*s", (int)frame->len, frame->payload);
	} else {
		run.events++;
	}
}

static void
session_take_frame(struct session *s, const struct bench_frame *frame, int64_t now_us)
{
	if (frame->opcode == FRAME_TEXT)
		session_take_text(s, frame, now_us);
	else if (frame->opcode == FRAME_PING)
		(void)bench_ws_send_frame(s->fd, FRAME_PONG, frame->payload, frame->len);
	else if (frame->opcode == FRAME_CLOSE)
		session_take_close(s, frame, now_us);
}

static size_t
session_take_answer(struct session *s, const uint8_t *data, size_t len)
{
	size_t taken = bench_ws_read_answer(data, len);

	if (taken == 0)
		return 0;
	s->state = GREETING;
	if (options.manner->greeting == NULL)
		session_opened(s);
	return taken;
}

/* Returns how many octets have been taken; an incomplete frame stays. */
static size_t
session_take(struct session *s, const uint8_t *data, size_t len, int64_t now_us)
{
	struct bench_frame frame;
	size_t taken = 0, size;

	if (s->state == UPGRADING)
		taken = session_take_answer(s, data, len);
	while (s->state >= GREETING && s->state != CLOSED &&
	       bench_ws_read_frame(data + taken, len - taken, &frame, &size)) {
		taken += size;
		session_take_frame(s, &frame, now_us);
	}
	return taken;
}

/* data holds the rest already. */
static void
session_keep_rest(struct session *s, const uint8_t *data, size_t len)
{
	if (len == 0 && s->rest_len == 0)
		return;
	s->rest = bench_realloc(s->rest, len);
	memcpy(s->rest, data, len);
	s->rest_len = len;
}

static void
session_read(struct session *s)
{
	static uint8_t buffer[2 * SESSIONS_READ_SIZE];
	ssize_t n;
	size_t len, taken;

	if (s->rest_len > SESSIONS_READ_SIZE)
		bench_fatal("a frame is too long");
	if (s->rest_len > 0)
		memcpy(buffer, s->rest, s->rest_len);
	n = recv(s->fd, buffer + s->rest_len, SESSIONS_READ_SIZE, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		bench_fatal("the node has hung up");
	len = s->rest_len + (size_t)n;
	taken = session_take(s, buffer, len, bench_now_us());
	session_keep_rest(s, buffer + taken, len - taken);
}

/* ---- the loop ---- */

/* False: nothing has come. */
static bool
run_wait(int timeout_ms)
{
	struct epoll_event events[SESSIONS_EPOLL_BATCH];
	int n = epoll_wait(run.epoll, events, SESSIONS_EPOLL_BATCH, timeout_ms);

	for (int i = 0; i < n; i++) {
		struct session *s = events[i].data.ptr;

		if (s == NULL)
			run.asked = true;
		else if (s->state == CONNECTING)
			session_connected(s);
		else if (s->state != CLOSED)
			session_read(s);
	}
	return n != 0;
}

/* What is waited for must come; pings do in any case. */
static void
run_turn(void)
{
	(void)run_wait(SESSIONS_PATIENCE_MS);
	if (bench_now_us() > run.deadline_us)
		bench_fatal("what is waited for does not come; opened: %" PRId64 ", acknowledged: %" PRId64
			    ", events: %" PRId64 ", told: %" PRId64 ", closed: %" PRId64,
		    run.opened, run.acknowledged, run.events, run.told, run.closed);
}

/* Returns the time. */
static int64_t
run_start(void)
{
	int64_t now_us = bench_now_us();

	run.deadline_us = now_us + SESSIONS_PATIENCE_MS * INT64_C(1000);
	return now_us;
}

static double
seconds_since(int64_t start_us)
{
	return (double)(bench_now_us() - start_us) / 1e6;
}

static void
run_open_all(void)
{
	int64_t start_us = run_start();

	while (run.opened < options.sessions) {
		while (run.started < options.sessions && run.started - run.opened < SESSIONS_AT_ONCE) {
			session_connect(&run.sessions[run.started], run.started);
			run.started++;
		}
		run_turn();
	}
	printf("{\"sessions\": %" PRId64 ", \"seconds\": %.6f}\n", run.opened, seconds_since(start_us));
}

/* ---- commands ---- */

static void
send_line(char *line, struct session **last)
{
	char *text;
	int64_t number = strtoll(line, &text, 10);
	struct session *s;

	if (*text != ' ' || number < 0 || number >= options.sessions)
		bench_fatal("\"SESSION TEXT\" is wanted, not \"%s\"", line);
	s = &run.sessions[number];
	while (s != *last && run.busy >= SESSIONS_AT_ONCE)
		run_turn();
	*last = s;
	run.busy += s->unacknowledged++ == 0;
	if (!bench_ws_send_frame(s->fd, FRAME_TEXT, text + 1, strlen(text + 1)))
		bench_fatal("could not send a message: %m");
}

static void
command_send(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[SESSIONS_LINE_MAX];
	struct session *last = NULL;
	int64_t start_us = run_start(), before = run.acknowledged;

	if (file == NULL)
		bench_fatal("could not open file \"%s\": %m", path);
	while (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		send_line(line, &last);
	}
	fclose(file);
	while (run.busy > 0)
		run_turn();
	printf("{\"acknowledged\": %" PRId64 ", \"seconds\": %.6f}\n", run.acknowledged - before,
	    seconds_since(start_us));
}

static void
command_events(int64_t wanted)
{
	(void)run_start();
	while (run.events < wanted)
		run_turn();
	printf("{\"events\": %" PRId64 "}\n", run.events);
	run.events = 0;
}

static void
print_times(const struct histogram *h)
{
	printf("{\"sessions\": %" PRId64 ", ", h->count);
	histogram_print(h, "");
	puts("}");
}

/* count: run.told or run.closed. */
static void
command_changed(const int64_t *count, int64_t wanted, int64_t since_us)
{
	static struct histogram times;

	(void)run_start();
	while (*count < wanted)
		run_turn();
	memset(&times, 0, sizeof(times));
	for (int64_t i = 0; i < options.sessions; i++) {
		const struct session *s = &run.sessions[i];
		int64_t at_us = count == &run.told ? s->told_us : s->closed_us;

		if (at_us >= since_us)
			histogram_add(&times, at_us - since_us);
	}
	print_times(&times);
	run.told = run.closed = 0;
}

static void
run_command(char *line)
{
	char *argument = strchr(line, ' ');
	int64_t number, since_us;

	line[strcspn(line, "\n")] = '\0';
	number = since_us = 0;
	if (argument != NULL)
		number = strtoll(argument, &argument, 10);
	if (argument != NULL)
		since_us = strtoll(argument, NULL, 10);
	if (strncmp(line, "send ", 5) == 0)
		command_send(line + 5);
	else if (strncmp(line, "events ", 7) == 0)
		command_events(number);
	else if (strncmp(line, "told ", 5) == 0)
		command_changed(&run.told, number, since_us);
	else if (strncmp(line, "closed ", 7) == 0)
		command_changed(&run.closed, number, since_us);
	else
		bench_fatal("unknown command: %s", line);
}

/* Meanwhile pings are answered. One line comes at a time: the next one when the last has been answered. */
static void
run_commands(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	char *line = NULL;
	size_t size = 0;

	if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
		bench_fatal("a pipe is wanted as standard input: %m");
	for (;;) {
		while (!run.asked)
			(void)run_wait(-1);
		run.asked = false;
		if (getline(&line, &size, stdin) <= 0)
			break;
		run_command(line);
	}
	free(line);
}

/* ---- options ---- */

static void
parse_dialect(const char *name)
{
	for (size_t i = 0; i < sizeof(manners) / sizeof(manners[0]); i++)
		if (strcmp(manners[i].name, name) == 0) {
			options.manner = &manners[i];
			return;
		}
	bench_fatal("--dialect is drp or awx");
}

static void
parse_options(int argc, char **argv)
{
	const struct bench_option table[] = {BENCH_OPTION_NUMBER("port", &options.port, 1, UINT16_MAX),
	    BENCH_OPTION_NUMBER("sessions", &options.sessions, 1, 1000000),
	    BENCH_OPTION_TEXT("tokens", &options.tokens_file), BENCH_OPTION_TEXT("dialect", &options.dialect),
	    BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (options.port == 0 || options.tokens_file == NULL)
		bench_fatal("--port and --tokens are wanted");
	options.tokens = bench_read_lines(options.tokens_file, &options.token_count);
	parse_dialect(options.dialect);
}

int
main(int argc, char **argv)
{
	parse_options(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	bench_ws_raise_descriptors();
	run.sessions = bench_realloc(NULL, (size_t)options.sessions * sizeof(*run.sessions));
	memset(run.sessions, 0, (size_t)options.sessions * sizeof(*run.sessions));
	run.epoll = epoll_create1(0);
	run_open_all();
	run_commands();
	printf("{\"events\": %" PRId64 ", \"told\": %" PRId64 ", \"closed\": %" PRId64 "}\n", run.events,
	    run.told, run.closed);
	return 0;
}
