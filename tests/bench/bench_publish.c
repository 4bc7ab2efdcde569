/*
 * The publisher: events with a time stamp, put in right before the statement that emits them.
 *
 *   without --raw   each event is a transaction of its own: BEGIN, SELECT pgrelay.emit(...), COMMIT, as an
 * application does it; with --commits FILE the time of each COMMIT goes into that file
 *   --raw           NOTIFYs with records that it packs itself, --batch events a transaction: all that costs a
 * writer time apart from PostgreSQL's own NOTIFY is left out
 *
 * --before TEXT --after TEXT (with --raw): each NOTIFY is one event, between these instead of a record: for
 * other programs that listen on --channel. --topics FILE (with --raw): the events take the topics of its
 * lines in turns, instead of one for all. --rate transactions a second, by an absolute time table; 0: one
 * after the other. Prints how long the statements took, how long COMMIT until it was answered, both, and the
 * processor time of the server's backend.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_db.h"
#include "bench_event.h"
#include "bench_histogram.h"
#include "bench_options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUBLISH_NOTIFY_MAX 7999
#define PUBLISH_RECORD_MAX 7000 /* octets of an event that is packed into a NOTIFY */
#define PUBLISH_EVENT_MAX  100000000
#define PUBLISH_HEAD_MAX   512 /* octets of a record before its payload */
#define PUBLISH_PIPELINE   64  /* statements sent before their results are read */

static struct {
	const char *database, *channel;
	int64_t events, batch, rate, octets;
	bool raw;
	const char *commits, *before, *after; /* before: NULL: a record */
	const char *topics_file;
	char **topics;
	int64_t topic_count;
} publish = {.database = "", .channel = "pgrelay", .events = 1000, .batch = 1, .octets = 300};

static PGconn *publish_conn;
static struct histogram publish_statement_times, publish_commit_times, publish_transaction_times;
static int64_t *publish_commits; /* by sequence number; NULL: not wanted */
static int64_t publish_seq;      /* of the latest event */
static int64_t publish_notifications;

static void
publish_check(PGresult *result)
{
	bench_db_check(publish_conn, result);
}

static void
publish_connect(void)
{
	publish_conn = bench_db_connect(publish.database);
	publish_check(
	    PQprepare(publish_conn, "emit", "SELECT pgrelay.emit('bench', 'tick', '1', $1)", 1, NULL));
	publish_check(PQprepare(publish_conn, "notify", "SELECT pg_notify($1, $2)", 2, NULL));
}

/* ---- by pgrelay.emit ---- */

static void
publish_emit(void)
{
	static char *payload;
	size_t octets = (size_t)publish.octets;
	const char *values[1];

	if (payload == NULL)
		payload = bench_realloc(NULL, octets + 1);
	values[0] = payload;
	bench_event_write(payload, octets, bench_now_us(), ++publish_seq);
	payload[octets] = '\0';
	bench_db_command(publish_conn, "BEGIN");
	publish_check(PQexecPrepared(publish_conn, "emit", 1, values, NULL, NULL, 0));
	publish_notifications++;
}

/* ---- by NOTIFY ---- */

static const char *
publish_topic(int64_t seq)
{
	return publish.topics != NULL ? publish.topics[(seq - 1) % publish.topic_count] : "bench.tick.1";
}

/* What stands in front of the next event's payload. Returns its length. */
static size_t
publish_head(char *head, int64_t now_us, bool first)
{
	int len = publish.before != NULL
		      ? snprintf(head, PUBLISH_HEAD_MAX, "%s", publish.before)
		      : snprintf(head, PUBLISH_HEAD_MAX, "%se %" PRId64 " %" PRId64 " %s ", first ? "" : "\n",
			    publish_seq + 1, now_us, publish_topic(publish_seq + 1));

	if (len >= PUBLISH_HEAD_MAX)
		bench_fatal("a topic is too long");
	return (size_t)len;
}

/* As many events as fit, at most `left`; returns how many. */
static int64_t
publish_pack(char *packet, int64_t left)
{
	size_t len = 0, octets = (size_t)publish.octets,
	       after_len = publish.before != NULL ? strlen(publish.after) : 0;
	int64_t n;

	for (n = 0; n < left; n++) {
		char head[PUBLISH_HEAD_MAX];
		int64_t now = bench_now_us();
		size_t head_len = publish_head(head, now, n == 0);

		if (len + head_len + octets + after_len > PUBLISH_NOTIFY_MAX ||
		    (n > 0 && publish.before != NULL))
			break;
		memcpy(packet + len, head, head_len);
		len += head_len;
		bench_event_write(packet + len, octets, now, ++publish_seq);
		len += octets;
	}
	memcpy(packet + len, publish.before != NULL ? publish.after : "", after_len + 1);
	return n;
}

static void
publish_end_pipeline(int statements)
{
	if (!PQpipelineSync(publish_conn))
		bench_fatal("%s", PQerrorMessage(publish_conn));
	for (int i = 0; i < statements; i++) {
		publish_check(PQgetResult(publish_conn));
		PQclear(PQgetResult(publish_conn)); /* the NULL between two statements */
	}
	publish_check(PQgetResult(publish_conn));
}

static void
publish_notify(int64_t events)
{
	char packet[PUBLISH_NOTIFY_MAX + 1];
	const char *values[] = {publish.channel, packet};
	int statements = 0;

	bench_db_command(publish_conn, "BEGIN");
	if (!PQenterPipelineMode(publish_conn))
		bench_fatal("%s", PQerrorMessage(publish_conn));
	while (events > 0) {
		events -= publish_pack(packet, events);
		if (!PQsendQueryPrepared(publish_conn, "notify", 2, values, NULL, NULL, 0))
			bench_fatal("%s", PQerrorMessage(publish_conn));
		publish_notifications++;
		if (++statements == PUBLISH_PIPELINE) {
			publish_end_pipeline(statements);
			statements = 0;
		}
	}
	publish_end_pipeline(statements);
	PQexitPipelineMode(publish_conn);
}

/* ---- the time table ---- */

static void
publish_transaction(int64_t events)
{
	int64_t start_us = bench_now_us(), commit_us, end_us;

	if (publish.raw)
		publish_notify(events);
	else
		publish_emit();
	commit_us = bench_now_us();
	if (publish_commits != NULL)
		publish_commits[publish_seq] = commit_us;
	bench_db_command(publish_conn, "COMMIT");
	end_us = bench_now_us();
	histogram_add(&publish_statement_times, commit_us - start_us);
	histogram_add(&publish_commit_times, end_us - commit_us);
	histogram_add(&publish_transaction_times, end_us - start_us);
}

static void
publish_all(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	while (publish_seq < publish.events) {
		int64_t left = publish.events - publish_seq;

		if (publish.rate > 0)
			bench_wait_next(&at, publish.rate);
		publish_transaction(left < publish.batch ? left : publish.batch);
	}
}

/* Processor time of the server's process, which is on this host. */
static double
publish_backend_seconds(void)
{
	char path[64];
	int64_t ns = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", PQbackendPID(publish_conn));
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%" SCNd64, &ns) != 1)
		bench_fatal("could not read \"%s\": %m", path);
	fclose(file);
	return (double)ns / 1e9;
}

static void
publish_print_times(const char *name, const struct histogram *h, const char *end)
{
	printf("\"%s\": {", name);
	histogram_print(h, "");
	printf("}%s", end);
}

static void
publish_parse_options(int argc, char **argv)
{
	const struct bench_option table[] = {BENCH_OPTION_TEXT("database", &publish.database),
	    BENCH_OPTION_TEXT("channel", &publish.channel),
	    BENCH_OPTION_NUMBER("events", &publish.events, 1, INT32_MAX),
	    BENCH_OPTION_NUMBER("batch", &publish.batch, 1, INT32_MAX),
	    BENCH_OPTION_NUMBER("rate", &publish.rate, 0, 1000000),
	    BENCH_OPTION_NUMBER("octets", &publish.octets, BENCH_EVENT_MIN, PUBLISH_EVENT_MAX),
	    BENCH_OPTION_TEXT("commits", &publish.commits), BENCH_OPTION_TEXT("before", &publish.before),
	    BENCH_OPTION_TEXT("after", &publish.after), BENCH_OPTION_TEXT("topics", &publish.topics_file),
	    BENCH_OPTION_FLAG("raw", &publish.raw), BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (publish.topics_file != NULL)
		publish.topics = bench_read_lines(publish.topics_file, &publish.topic_count);
	if (publish.batch > 1 && (!publish.raw || publish.commits != NULL))
		bench_fatal("--batch goes with --raw, and without --commits");
	if ((publish.topics != NULL || publish.before != NULL) && !publish.raw)
		bench_fatal("--topics and --before go with --raw");
	if ((publish.before != NULL) != (publish.after != NULL) || (publish.before && publish.topics))
		bench_fatal("--before and --after go together, and without --topics");
	if (publish.raw && publish.octets > PUBLISH_RECORD_MAX)
		bench_fatal("--raw goes with --octets up to %d", PUBLISH_RECORD_MAX);
}

int
main(int argc, char **argv)
{
	double backend_seconds;
	int64_t start_us;

	publish_parse_options(argc, argv);
	publish_connect();
	if (publish.commits != NULL)
		publish_commits = bench_event_map_commits(publish.commits, publish.events);
	backend_seconds = publish_backend_seconds();
	start_us = bench_now_us();
	publish_all();
	printf("{\"events\": %" PRId64 ", \"transactions\": %" PRId64 ", \"notifications\": %" PRId64
	       ", \"seconds\": %.6f, \"backend_seconds\": %.6f, ",
	    publish_seq, publish_commit_times.count, publish_notifications,
	    (double)(bench_now_us() - start_us) / 1e6, publish_backend_seconds() - backend_seconds);
	publish_print_times("statement", &publish_statement_times, ", ");
	publish_print_times("commit", &publish_commit_times, ", ");
	publish_print_times("transaction", &publish_transaction_times, "}\n");
	PQfinish(publish_conn);
	return 0;
}
