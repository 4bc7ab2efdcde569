/*
 * The bare limit of the intake: LISTEN with libpq, count the records, and throw them away. Ends with the last
 * of --events.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_db.h"
#include "bench_options.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define LISTEN_PATIENCE_MS 10000

static struct {
	const char *database, *channel;
	int64_t events;
} options = {.database = "", .channel = "pgrelay"};

static struct {
	int64_t events, notifications, first_us, last_us;
} run;

static void
listen_count(const char *text)
{
	if (*text != 'e')
		return; /* what nodes tell each other */
	run.notifications++;
	for (; text != NULL; text = strchr(text + 1, '\n'))
		run.events++;
}

static void
listen_take(PGconn *conn)
{
	bench_db_read(conn, listen_count);
	if (run.events == 0)
		return;
	run.last_us = bench_now_us();
	if (run.first_us == 0)
		run.first_us = run.last_us;
}

static void
listen_parse_options(int argc, char **argv)
{
	const struct bench_option table[] = {BENCH_OPTION_TEXT("database", &options.database),
	    BENCH_OPTION_TEXT("channel", &options.channel),
	    BENCH_OPTION_NUMBER("events", &options.events, 1, INT32_MAX), BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (options.events == 0)
		bench_fatal("--events is missing");
}

int
main(int argc, char **argv)
{
	struct pollfd fd = {.events = POLLIN};
	PGconn *conn;

	listen_parse_options(argc, argv);
	conn = bench_db_listen(options.database, options.channel);
	fd.fd = PQsocket(conn);
	puts("ready");
	fflush(stdout);
	while (run.events < options.events) {
		if (poll(&fd, 1, run.events > 0 ? LISTEN_PATIENCE_MS : -1) <= 0)
			bench_fatal(
			    "only %" PRId64 " of %" PRId64 " events have come", run.events, options.events);
		listen_take(conn);
	}
	printf("{\"events\": %" PRId64 ", \"notifications\": %" PRId64
	       ", \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	    run.events, run.notifications, (double)(run.last_us - run.first_us) / 1e6, bench_cpu_seconds());
	PQfinish(conn);
	return 0;
}
