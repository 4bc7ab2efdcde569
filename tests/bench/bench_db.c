/* The bench's sessions with PostgreSQL. */
#include "config.h"
#include "bench_db.h"
#include "bench_common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

PGconn *
bench_db_connect(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		bench_fatal("%s", PQerrorMessage(conn));
	return conn;
}

void
bench_db_check(PGconn *conn, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_PIPELINE_SYNC)
		bench_fatal("%s", PQerrorMessage(conn));
	PQclear(result);
}

void
bench_db_command(PGconn *conn, const char *sql)
{
	bench_db_check(conn, PQexec(conn, sql));
}

PGconn *
bench_db_listen(const char *conninfo, const char *channel)
{
	PGconn *conn = bench_db_connect(conninfo);
	char *name = PQescapeIdentifier(conn, channel, strlen(channel)), *sql;

	if (name == NULL || asprintf(&sql, "LISTEN %s", name) < 0)
		bench_fatal("out of memory");
	bench_db_command(conn, sql);
	free(sql);
	PQfreemem(name);
	return conn;
}

void
bench_db_read(PGconn *conn, void (*take)(const char *payload))
{
	PGnotify *notify;

	if (!PQconsumeInput(conn))
		bench_fatal("%s", PQerrorMessage(conn));
	while ((notify = PQnotifies(conn)) != NULL) {
		take(notify->extra);
		PQfreemem(notify);
	}
}
