/*
 * The bare limit of the intake: LISTEN with libpq, count the records, and throw them away. Ends with the last of
 * --events.
 */
#include "config.h"
#include "bench_common.h"

#include <getopt.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTEN_PATIENCE_MS 10000

static struct {
	const char *database, *channel;
	int64_t events;
} options = {.database = "", .channel = "pgrelay"};

static struct {
	int64_t events, notifications, first_us, last_us;
} run;

static PGconn *
listen_connect(void)
{
	PGconn *conn = PQconnectdb(options.database);
	char *channel, *sql;
	PGresult *result;

	if (PQstatus(conn) != CONNECTION_OK)
		bench_fatal("%s", PQerrorMessage(conn));
	channel = PQescapeIdentifier(conn, options.channel, strlen(options.channel));
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
	PGnotify *notify;

	if (!PQconsumeInput(conn))
		bench_fatal("%s", PQerrorMessage(conn));
	while ((notify = PQnotifies(conn)) != NULL) {
		listen_count(notify->extra);
		PQfreemem(notify);
	}
	if (run.events == 0)
		return;
	run.last_us = bench_now_us();
	if (run.first_us == 0)
		run.first_us = run.last_us;
}

static void
listen_parse_options(int argc, char **argv)
{
	static const struct option table[] = {{"database", required_argument, NULL, 'd'},
	    {"channel", required_argument, NULL, 'c'}, {"events", required_argument, NULL, 'n'},
	    {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 'd':
			options.database = optarg;
			break;
		case 'c':
			options.channel = optarg;
			break;
		case 'n':
			options.events = bench_parse_number("events", optarg, 1, INT32_MAX);
			break;
		default:
			exit(2);
		}
	}
	if (options.events == 0)
		bench_fatal("--events is missing");
}

int
main(int argc, char **argv)
{
	struct pollfd fd = {.events = POLLIN};
	PGconn *conn;

	listen_parse_options(argc, argv);
	conn = listen_connect();
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
