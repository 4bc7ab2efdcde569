/*
 * The way from NOTIFY to the sockets, to be measured from outside: hot_path.py runs this under callgrind or
 * perf. It has a node's inside (stream, dispatch, hub, history, sessions, send queues) and real sockets;
 * PostgreSQL and HTTP are left out. hot_take() and hot_send() are what is counted.
 *
 *     hot_path --list                       the scenarios
 *     hot_path --build                      what the figures depend on
 *     hot_path SCENARIO [TIMES [CTL ACK]]   TIMES as many payloads; CTL and ACK are perf's control descriptors
 *
 * Each run does the same, to the instruction: nothing in it is random, and no clock tells what is done.
 */
#include "config.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/transport.h"
#include "relay/history.h"
#include "relay/hub.h"
#include "relay/msg.h"
#include "relay/resume.h"
#include "relay/stream.h"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD_MAX   7999
#define RECORD_MAX    400
#define WARM_PAYLOADS 20          /* before it counts: then the history lets go of as much as comes */
#define HISTORY_BYTES (96 * 1024) /* so little that they fill it */
#define FIRST_ID      1000000
#define FIRST_TIME_US 1700000000000000

enum record_style { RECORD_PLAIN, RECORD_DRP, RECORD_ENVELOPE };

struct scenario {
	const char *name, *what;
	int sessions;
	int groups; /* of each session's own; 0: all are in one */
	bool unwanted;
	enum record_style style;
	int record_octets;
	int payloads;
	enum msg_form form;
	bool tls;
};

static const struct scenario scenarios[] = {
    {"unwanted", "records of 300 octets that nobody wants; 1,000 sessions want others", 1000, 1, true,
	RECORD_PLAIN, 300, 100, MSG_FORM_AWX, false},
    {"unwanted_small", "the same with records of 80 octets", 1000, 1, true, RECORD_PLAIN, 80, 40,
	MSG_FORM_AWX, false},
    {"one_group_100", "100 sessions in one group, records of 300 octets", 100, 0, false, RECORD_PLAIN, 300,
	40, MSG_FORM_AWX, false},
    {"one_group_1000", "1,000 sessions in one group", 1000, 0, false, RECORD_PLAIN, 300, 10, MSG_FORM_AWX,
	false},
    {"own_groups_1000", "1,000 sessions, each in five groups of its own", 1000, 5, false, RECORD_PLAIN, 300,
	100, MSG_FORM_AWX, false},
    {"sse_100", "100 event streams in one group, with cursors", 100, 0, false, RECORD_PLAIN, 300, 40,
	MSG_FORM_SSE, false},
    {"drp_100", "100 sessions of the Digital Rebar dialect with all jobs and one machine's", 100, 0, false,
	RECORD_DRP, 300, 40, MSG_FORM_DRP, false},
    {"sse_1", "one event stream: a record with what its frame costs", 1, 0, false, RECORD_PLAIN, 300, 40,
	MSG_FORM_SSE, false},
    {"drp_1", "one session of the Digital Rebar dialect, records as watch() writes them", 1, 0, false,
	RECORD_ENVELOPE, 300, 40, MSG_FORM_DRP, false},
    {"broadcast_1", "one relay of AWX's", 1, 0, false, RECORD_PLAIN, 300, 40, MSG_FORM_BROADCAST, false},
    {"tls_100", "100 sessions in one group over TLS, without OpenSSL's part", 100, 0, false, RECORD_PLAIN,
	300, 40, MSG_FORM_AWX, true},
};

/* The hub's seed: the same in each run, for how long its chains are depends on it. */
int
RAND_bytes(unsigned char *buf, int num)
{
	memset(buf, 0x5a, (size_t)num);
	return 1;
}

/* ---- what a node tells its parts ---- */

static void
on_access(int64_t user_id)
{
}

static void
on_news(void)
{
}

static int64_t
last_marker(void)
{
	return 0;
}

static size_t
cursor_source(const struct msg *msg, char *out, size_t size)
{
	return stream_cursor_at(&msg->place, out);
}

static const struct stream_ops stream_ops = {on_access, on_news, on_news, on_news};

/* Our heartbeat: the ids that were delivered before the one before it are in its snapshot. */
static void
beat(void)
{
	static struct marker marker = {1, 0};
	char seen[64];

	marker.counter++;
	snprintf(seen, sizeof(seen), "%d:%d:", 1000 + (int)marker.counter, 1000 + (int)marker.counter);
	stream_on_marker(&marker, true, "7710862416247324902.1", seen);
}

static void
node_begin(void)
{
	char *error;

	if (!conf_load("/dev/null", &error))
		log_fatal("%s", error);
	conf.history_limit_bytes = HISTORY_BYTES;
	log_set_level(LOG_ERROR);
	loop_init();
	hub_init();
	history_init();
	resume_init(on_news, last_marker);
	stream_init(&stream_ops);
	msg_set_cursor_source(cursor_source);
	session_init();
	beat();
}

static void
node_end(void)
{
	session_free_all();
	loop_settle();
	stream_free();
	resume_free();
	history_free();
	hub_free();
	msg_release_blocks();
	loop_free();
	conf_free();
}

/* ---- sessions ---- */

struct client {
	int number, fd, session_fd; /* both ends of the session's connection */
	SSL *ssl, *session_ssl;
};

static const struct scenario *scenario;
static struct client *clients;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static struct topic
topic_of(const char *text)
{
	struct topic t;

	if (!topic_parse((struct slice){text, strlen(text)}, true, &t))
		log_fatal("\"%s\" is no pattern", text);
	return t;
}

static void *
dialect_open(struct session *session, void *request)
{
	struct client *c = request;
	char text[8][64];
	struct topic patterns[8];
	int n = 0;

	if (scenario->style != RECORD_PLAIN) {
		strcpy(text[n++], "jobs.*.*");
		sprintf(text[n++], "machine_jobs.*.4f6c2a10-0000-4000-8000-%012d", c->number);
	} else if (scenario->groups == 0) {
		strcpy(text[n++], "job_events.*.7");
	} else {
		for (; n < scenario->groups; n++)
			sprintf(text[n], "job_events.*.%d", c->number * scenario->groups + n);
	}
	for (int i = 0; i < n; i++)
		patterns[i] = topic_of(text[i]);
	session_set_patterns(session, patterns, (size_t)n);
	if (scenario->form == MSG_FORM_SSE)
		session_want_cursors(session);
	return c;
}

static void
dialect_message(void *state, const char *text, size_t len)
{
}

static void
dialect_close(void *state)
{
}

static void
carrier_free(void *carrier)
{
	struct client *c = carrier;

	close(c->fd);
	close(c->session_fd);
	SSL_free(c->session_ssl);
	SSL_free(c->ssl);
}

static unsigned
psk_of_client(
    SSL *ssl, const char *hint, char *identity, unsigned identity_size, unsigned char *psk, unsigned size)
{
	snprintf(identity, identity_size, "client");
	memset(psk, 'k', 16);
	return 16;
}

static unsigned
psk_of_server(SSL *ssl, const char *identity, unsigned char *psk, unsigned size)
{
	memset(psk, 'k', 16);
	return 16;
}

static SSL *
tls_new(bool server, int fd)
{
	static SSL_CTX *contexts[2];
	SSL_CTX **ctx = &contexts[server];
	SSL *ssl;

	if (*ctx == NULL) {
		*ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
		SSL_CTX_set_min_proto_version(*ctx, TLS1_3_VERSION);
		SSL_CTX_set_ciphersuites(*ctx, "TLS_AES_128_GCM_SHA256");
		SSL_CTX_set_psk_client_callback(*ctx, psk_of_client);
		SSL_CTX_set_psk_server_callback(*ctx, psk_of_server);
	}
	ssl = SSL_new(*ctx);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
		log_fatal("no TLS");
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

static void
tls_shake_hands(struct client *c)
{
	c->session_ssl = tls_new(true, c->session_fd);
	c->ssl = tls_new(false, c->fd);
	for (int i = 0; i < 10 && !(SSL_is_init_finished(c->ssl) && SSL_is_init_finished(c->session_ssl));
	     i++) {
		SSL_do_handshake(c->ssl);
		SSL_do_handshake(c->session_ssl);
	}
	if (!SSL_is_init_finished(c->session_ssl))
		log_fatal("the TLS handshake failed");
}

static void
client_open(struct client *c, int number)
{
	static struct dialect dialect = {
	    .open = dialect_open, .message = dialect_message, .close = dialect_close};
	struct session_user user = {.id = SESSION_PEER_ID, .name = "profile", .expires_ms = -1};
	struct session_socket socket = {.carrier = c, .carrier_free = carrier_free};
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
		die("could not open sockets (ulimit -n must be 4096 at least)");
	*c = (struct client){.number = number, .fd = fds[1], .session_fd = fds[0]};
	socket.transport.fd = fds[0];
	if (scenario->tls) {
		tls_shake_hands(c);
		socket.transport.ssl = c->session_ssl;
	}
	dialect.form = dialect.deflated_form = scenario->form;
	dialect.transport = scenario->form == MSG_FORM_SSE ? SESSION_STREAM : SESSION_WEBSOCKET;
	session_open(&socket, "127.0.0.1:1", &dialect, &user, "HTTP/1.1 101\r\n\r\n", c, NULL, 0);
}

static void
clients_open(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 4096) {
		files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	clients = mem_zalloc(sizeof(*clients) * (size_t)scenario->sessions);
	for (int i = 0; i < scenario->sessions; i++)
		client_open(&clients[i], i);
}

static size_t
clients_drain(void)
{
	static char buf[65536];
	size_t octets = 0;

	for (int i = 0; i < scenario->sessions; i++) {
		ssize_t n;

		while ((n = recv(clients[i].fd, buf, sizeof(buf), 0)) > 0)
			octets += (size_t)n;
	}
	return octets;
}

/* ---- payloads ---- */

static int64_t next_id = FIRST_ID;

/* xorshift32: 0 ... below - 1, the same in each run. */
static int
number_below(int below)
{
	static uint32_t state = 2463534242u;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return (int)(state % (uint32_t)below);
}

static int
group_of_record(void)
{
	int groups = scenario->sessions * scenario->groups;

	if (groups == 0)
		return 7;
	return number_below(groups) + (scenario->unwanted ? 1000000 : 0);
}

static int
record_write_plain(char *out)
{
	return sprintf(out, "e %lld %lld job_events.updated.%d {\"counter\": %d, \"stdout\": \"",
	    (long long)next_id, (long long)(FIRST_TIME_US + next_id), group_of_record(),
	    1000 + number_below(9000));
}

static int
record_write_drp(char *out)
{
	return sprintf(out,
	    "e %lld %lld jobs.update.6a1e0001-0000-4000-8000-%012d {\"State\":\"running\","
	    "\"Machine\":\"4f6c2a10-0000-4000-8000-%012d\",\"Task\":\"",
	    (long long)next_id, (long long)(FIRST_TIME_US + next_id), number_below(1000),
	    number_below(scenario->sessions));
}

static int
record_write_envelope(char *out)
{
	int job = number_below(1000);

	return sprintf(out,
	    "e %lld %lld jobs.update.6a1e0001-0000-4000-8000-%012d "
	    "{\"key\": \"6a1e0001-0000-4000-8000-%012d\", \"action\": \"update\", \"object\": {"
	    "\"State\": \"running\", \"ExitState\": \"\", \"Current\": true, \"Task\": \"",
	    (long long)next_id, (long long)(FIRST_TIME_US + next_id), job, job);
}

/* Filled up to the length that it is to have. */
static size_t
record_write(char *out)
{
	static int (*const writers[])(char *) = {record_write_plain, record_write_drp, record_write_envelope};
	const char *ending = scenario->style == RECORD_ENVELOPE ? "\"}, \"original\": null}" : "\"}";
	int len = writers[scenario->style](out);

	next_id++;
	for (; len < scenario->record_octets - (int)strlen(ending); len++)
		out[len] = (char)('a' + len % 26);
	return (size_t)(stpcpy(out + len, ending) - out);
}

static size_t
payload_write(char out[PAYLOAD_MAX], long *records)
{
	char record[RECORD_MAX];
	size_t used = 0, len;

	for (; used + (size_t)scenario->record_octets + 1 <= PAYLOAD_MAX; (*records)++) {
		if (used > 0)
			out[used++] = '\n';
		len = record_write(record);
		memcpy(out + used, record, len);
		used += len;
	}
	return used;
}

/* ---- what is counted ---- */

static volatile long counted;

/* Something is left to do behind the call, else it would be a jump. */
__attribute__((noinline)) static void
hot_take(const char *payload, size_t len)
{
	stream_on_payload(payload, len);
	counted++;
}

__attribute__((noinline)) static void
hot_send(void)
{
	loop_settle();
	counted++;
}

/* perf's --control: descriptors for commands and their answers; -1: there is no perf. */
static int control_fd = -1, answer_fd = -1;

static void
control(const char *command)
{
	char answer[16];

	if (control_fd < 0)
		return;
	if (write(control_fd, command, strlen(command)) < 0 || read(answer_fd, answer, sizeof(answer)) <= 0)
		die("perf does not answer");
}

struct tally {
	long records;
	double deliveries, sent_octets;
	size_t octets;
};

static void
run_payload(bool hot, struct tally *t)
{
	char payload[PAYLOAD_MAX];
	size_t len = payload_write(payload, &t->records);

	if (hot) {
		control("enable\n");
		hot_take(payload, len);
		hot_send();
		control("disable\n");
	} else {
		stream_on_payload(payload, len);
		loop_settle();
	}
	t->octets += clients_drain();
}

static void
run(int payloads, bool hot, struct tally *t)
{
	*t = (struct tally){0};
	t->deliveries = -metrics[METRIC_DELIVERIES_TOTAL];
	t->sent_octets = -metrics[METRIC_SENT_BYTES_TOTAL];
	for (int i = 0; i < payloads; i++) {
		if (i % 8 == 0)
			beat();
		run_payload(hot, t);
	}
	t->deliveries += metrics[METRIC_DELIVERIES_TOTAL];
	t->sent_octets += metrics[METRIC_SENT_BYTES_TOTAL];
}

/* Has everybody got everything? Else it is another program that was measured. */
static bool
tally_is_right(const struct tally *t)
{
	long each = scenario->unwanted ? 0 : scenario->groups > 0 ? 1 : scenario->sessions;

	return t->deliveries == (double)(t->records * each) && (each == 0) == (t->octets == 0) &&
	       (scenario->tls ? (double)t->octets > t->sent_octets : (double)t->octets == t->sent_octets);
}

static int
run_scenario(int times)
{
	struct tally t;
	bool right;

	node_begin();
	clients_open();
	loop_settle();
	clients_drain();
	run(WARM_PAYLOADS, false, &t);
	run(scenario->payloads * times, true, &t);
	right = tally_is_right(&t);
	printf("%ld %.0f\n", t.records, t.deliveries);
	if (!right)
		fprintf(stderr,
		    "%ld records, %.0f deliveries, %.0f octets sent and %zu received: that is wrong\n",
		    t.records, t.deliveries, t.sent_octets, t.octets);
	node_end();
	free(clients);
	return right ? 0 : 1;
}

/* ---- the command ---- */

static int
print_build(void)
{
#ifdef __clang__
	printf("clang %d", __clang_major__);
#else
	printf("gcc %d", __GNUC__);
#endif
#ifdef __x86_64__
	printf(", x86_64");
#else
	printf(", another machine than x86_64");
#endif
	printf(", glibc %s, %s\n", gnu_get_libc_version(), PROFILE_CFLAGS);
	return 0;
}

static int
print_list(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(scenarios); i++)
		printf("%s %s\n", scenarios[i].name, scenarios[i].what);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--build") == 0)
		return print_build();
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return print_list();
	for (size_t i = 0; argc > 1 && i < ARRAY_LENGTH(scenarios); i++)
		if (strcmp(argv[1], scenarios[i].name) == 0)
			scenario = &scenarios[i];
	if (scenario == NULL || argc == 4 || argc > 5) {
		fprintf(stderr, "usage: hot_path --list | --build | SCENARIO [TIMES [CTL ACK]]\n");
		return 2;
	}
	if (argc == 5) {
		control_fd = atoi(argv[3]);
		answer_fd = atoi(argv[4]);
	}
	return run_scenario(argc > 2 ? atoi(argv[2]) : 1);
}
