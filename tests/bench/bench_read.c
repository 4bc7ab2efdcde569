/*
 * The bare limit of catching up: reads what the log holds between two snapshots, as a node does it, and
 * throws it away.
 */
#include "config.h"
#include "bench_common.h"
#include "bench_db.h"
#include "bench_options.h"

#include <inttypes.h>
#include <stdio.h>

static struct {
	const char *database, *since, *until;
} options = {.database = ""};

static struct {
	int64_t rows, octets, first_us;
} got;

static void
read_row(const PGresult *result)
{
	if (got.rows++ == 0)
		got.first_us = bench_now_us();
	got.octets += PQgetlength(result, 0, 2);
}

static void
read_rows(PGconn *conn)
{
	const char *params[] = {options.since, options.until};
	PGresult *result;

	if (!PQsendQueryParams(conn,
		"SELECT xid, deferred, record FROM pgrelay.log_read($1::pg_snapshot, $1::pg_snapshot, "
		"$2::pg_snapshot, "
		"$2::pg_snapshot, NULL, NULL, NULL)",
		2, NULL, params, NULL, NULL, 0) ||
	    !PQsetSingleRowMode(conn))
		bench_fatal("%s", PQerrorMessage(conn));
	while ((result = PQgetResult(conn)) != NULL) {
		if (PQresultStatus(result) == PGRES_SINGLE_TUPLE)
			read_row(result);
		else if (PQresultStatus(result) != PGRES_TUPLES_OK)
			bench_fatal("%s", PQerrorMessage(conn));
		PQclear(result);
	}
}

static void
read_parse_options(int argc, char **argv)
{
	const struct bench_option table[] = {BENCH_OPTION_TEXT("database", &options.database),
	    BENCH_OPTION_TEXT("since", &options.since), BENCH_OPTION_TEXT("until", &options.until),
	    BENCH_OPTIONS_END};

	bench_parse_options(argc, argv, table);
	if (options.since == NULL || options.until == NULL)
		bench_fatal("--since and --until are wanted: snapshots");
}

int
main(int argc, char **argv)
{
	int64_t start_us;
	PGconn *conn;

	read_parse_options(argc, argv);
	start_us = bench_now_us();
	conn = bench_db_connect(options.database);
	bench_db_command(conn, "SET enable_seqscan = off; SET jit = off");
	read_rows(conn);
	printf("{\"rows\": %" PRId64 ", \"octets\": %" PRId64
	       ", \"first_seconds\": %.6f, \"seconds\": %.6f}\n",
	    got.rows, got.octets, (double)(got.first_us - start_us) / 1e6,
	    (double)(bench_now_us() - start_us) / 1e6);
	PQfinish(conn);
	return 0;
}
