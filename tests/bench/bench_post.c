/*
 * The publisher over HTTP: POST /api/v1/events on keep-alive connections, the next request on each as soon as
 * the last one has been answered, or, with --rate, so many requests a second by an absolute time table, on
 * one connection. Prints the rate, and how long the answers took. --path PATH posts bare payloads to another
 * program instead.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_event.h"
#include "bench_histogram.h"
#include "bench_options.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define POST_CONNECTIONS_MAX 1000
#define POST_BATCH_MAX       10000
#define POST_OCTETS_MAX      7000
#define POST_ANSWER_MAX      (256 * 1024)
#define POST_PATIENCE_MS     10000

static const char post_event_head[] =
    "{\"type\": \"bench\", \"action\": \"tick\", \"key\": \"1\", \"payload\": ";

static struct {
	int64_t port, connections, requests, batch, octets, rate; /* rate: 0: none */
	const char *token, *path;                                 /* path: NULL: pgrelay's */
} options = {.connections = 1, .requests = 1000, .batch = 1, .octets = 300, .token = ""};

struct post {
	int64_t sent_us; /* 0: nothing is under way */
	size_t answer_len;
	char *answer;
};

static struct {
	struct post *posts;
	struct pollfd *fds;
	int64_t sent, answered, seq;
	char *body;
	struct histogram times;
} run;

/* ---- asking ---- */

static void
post_send(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			bench_fatal("could not send a request: %m");
		data += n;
		len -= (size_t)n;
	}
}

/* Returns its length. */
static size_t
post_write_body(char *body)
{
	size_t octets = (size_t)options.octets;
	char *p = body;

	if (options.path != NULL) {
		bench_event_write(body, octets, bench_now_us(), ++run.seq);
		return octets;
	}
	if (options.batch > 1)
		*p++ = '[';
	for (int64_t i = 0; i < options.batch; i++) {
		if (i > 0)
			*p++ = ',';
		p = stpcpy(p, post_event_head);
		bench_event_write(p, octets, bench_now_us(), ++run.seq);
		p += octets;
		*p++ = '}';
	}
	if (options.batch > 1)
		*p++ = ']';
	return (size_t)(p - body);
}

static void
post_ask(size_t i)
{
	size_t body_len;
	char head[1024];
	int len;

	run.posts[i].sent_us = bench_now_us();
	body_len = post_write_body(run.body);
	len = snprintf(head, sizeof(head),
	    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%" PRId64 "\r\nAuthorization: Bearer %s\r\n"
	    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	    options.path != NULL ? options.path : "/api/v1/events", options.port, options.token, body_len);
	if (len < 0 || (size_t)len >= sizeof(head))
		bench_fatal("the token is too long");
	memmove(run.body + len, run.body, body_len);
	memcpy(run.body, head, (size_t)len);
	post_send(run.fds[i].fd, run.body, (size_t)len + body_len);
	run.sent++;
}

/* ---- the answers ---- */

/* Octets of the whole answer; 0: its head is not there yet. */
static size_t
post_answer_size(const struct post *p)
{
	static const char wanted[] = "\r\nContent-Length:";
	const char *end = memmem(p->answer, p->answer_len, "\r\n\r\n", 4), *length;

	if (end == NULL)
		return 0;
	length = strcasestr(p->answer, wanted);
	if (length == NULL || length > end)
		bench_fatal("an answer without its length: %s", p->answer);
	return (size_t)(end + 4 - p->answer) + (size_t)strtoul(length + sizeof(wanted) - 1, NULL, 10);
}

static bool
post_succeeded(const char *answer)
{
	if (options.path != NULL)
		return strncmp(answer, "HTTP/1.1 20", 11) == 0;
	return strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && strstr(answer, "\r\n\r\n{\"ids\": [") != NULL;
}

static void
post_take_answer(size_t i)
{
	struct post *p = &run.posts[i];

	if (!post_succeeded(p->answer))
		bench_fatal("refused: %.1000s", p->answer);
	histogram_add(&run.times, bench_now_us() - p->sent_us);
	p->sent_us = 0;
	p->answer_len = 0;
	run.answered++;
	if (options.rate == 0 && run.sent < options.requests)
		post_ask(i);
}

static void
post_read(size_t i)
{
	struct post *p = &run.posts[i];
	ssize_t n = recv(run.fds[i].fd, p->answer + p->answer_len, POST_ANSWER_MAX - p->answer_len, 0);

	if (n <= 0)
		bench_fatal(n < 0 ? "could not read an answer: %m" : "the server has closed a connection");
	p->answer_len += (size_t)n;
	p->answer[p->answer_len] = '\0';
	if (p->sent_us == 0 || p->answer_len == POST_ANSWER_MAX)
		bench_fatal("unexpected answer: %.1000s", p->answer);
	if (post_answer_size(p) == p->answer_len)
		post_take_answer(i);
}

/* ---- the loop ---- */

static int
post_connect(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		bench_fatal("could not connect: %m");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void
post_open_all(void)
{
	size_t count = (size_t)options.connections;

	run.fds = bench_realloc(NULL, count * sizeof(*run.fds));
	run.posts = bench_realloc(NULL, count * sizeof(*run.posts));
	memset(run.posts, 0, count * sizeof(*run.posts));
	for (size_t i = 0; i < count; i++) {
		run.posts[i].answer = bench_realloc(NULL, POST_ANSWER_MAX + 1);
		run.fds[i] = (struct pollfd){.fd = post_connect(), .events = POLLIN};
	}
	run.body = bench_realloc(
	    NULL, 1024 + 2 + (size_t)options.batch * (sizeof(post_event_head) + (size_t)options.octets + 2));
}

static void
post_take(void)
{
	size_t count = (size_t)options.connections;

	if (poll(run.fds, (nfds_t)count, POST_PATIENCE_MS) <= 0)
		bench_fatal("no answer within %d s", POST_PATIENCE_MS / 1000);
	for (size_t i = 0; i < count; i++)
		if (run.fds[i].revents != 0)
			post_read(i);
}

static void
post_all(void)
{
	for (int64_t i = 0; i < options.connections && run.sent < options.requests; i++)
		post_ask((size_t)i);
	while (run.answered < options.requests)
		post_take();
}

static void
post_by_table(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	while (run.answered < options.requests) {
		bench_wait_next(&at, options.rate);
		post_ask(0);
		while (run.answered < run.sent)
			post_take();
	}
}

static void
post_parse_options(int argc, char **argv)
{
	const struct bench_option table[] = {BENCH_OPTION_NUMBER("port", &options.port, 1, UINT16_MAX),
	    BENCH_OPTION_TEXT("token", &options.token),
	    BENCH_OPTION_NUMBER("connections", &options.connections, 1, POST_CONNECTIONS_MAX),
	    BENCH_OPTION_NUMBER("requests", &options.requests, 1, INT32_MAX),
	    BENCH_OPTION_NUMBER("batch", &options.batch, 1, POST_BATCH_MAX),
	    BENCH_OPTION_NUMBER("octets", &options.octets, BENCH_EVENT_MIN, POST_OCTETS_MAX),
	    BENCH_OPTION_NUMBER("rate", &options.rate, 1, 1000000), BENCH_OPTION_TEXT("path", &options.path),
	    BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (options.port == 0)
		bench_fatal("--port is missing");
	if (options.path != NULL && options.batch > 1)
		bench_fatal("--path goes without --batch");
	if (options.rate > 0 && options.connections > 1)
		bench_fatal("--rate goes without --connections");
}

int
main(int argc, char **argv)
{
	int64_t start_us;
	double seconds;

	post_parse_options(argc, argv);
	post_open_all();
	start_us = bench_now_us();
	if (options.rate > 0)
		post_by_table();
	else
		post_all();
	seconds = (double)(bench_now_us() - start_us) / 1e6;
	printf("{\"requests\": %" PRId64 ", \"events\": %" PRId64
	       ", \"seconds\": %.6f, \"requests_per_second\": %.0f, \"events_per_second\": %.0f, ",
	    run.answered, run.seq, seconds, (double)run.answered / seconds, (double)run.seq / seconds);
	histogram_print(&run.times, "");
	printf(", \"cpu_seconds\": %.6f}\n", bench_cpu_seconds());
	return 0;
}
