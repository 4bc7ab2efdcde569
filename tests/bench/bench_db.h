/* The bench's sessions with PostgreSQL, by libpq, which block. All end the process when the server refuses. */
#ifndef BENCH_DB_H
#define BENCH_DB_H

#include <libpq-fe.h>

PGconn *bench_db_connect(const char *conninfo);
/* The same, and LISTEN. */
PGconn *bench_db_listen(const char *conninfo, const char *channel);

/* Releases the result; it must be one of success. */
void bench_db_check(PGconn *conn, PGresult *result);
void bench_db_command(PGconn *conn, const char *sql);

/* One read of the socket: take() gets the payload of each NOTIFY that is whole then. */
void bench_db_read(PGconn *conn, void (*take)(const char *payload));

#endif
