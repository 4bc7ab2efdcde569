/*
 * A database session for the commands that do one thing and end: libpq's blocking calls. A result or an error
 * is kept in the session until its next call.
 */
#ifndef PGRELAY_PG_PG_SYNC_H
#define PGRELAY_PG_PG_SYNC_H

#include <stdbool.h>
#include <stddef.h>

struct pg_sync;

/* Texts belong to the session; "" where there is none. */
struct pg_sync_error {
	const char *sqlstate; /* "" too when the session itself failed */
	const char *message;  /* one line */
	const char *detail;
	const char *hint;
};

/* severity as "warning"; message and hint are one line, "" for no hint. */
typedef void (*pg_sync_notice)(void *arg, const char *severity, const char *message, const char *hint);

/* Not connected yet. conninfo is a libpq string or URI; name appears in pg_stat_activity. The caller releases
 * it with pg_sync_free(). */
struct pg_sync *pg_sync_new(const char *conninfo, const char *name, pg_sync_notice on_notice, void *arg);
void pg_sync_free(struct pg_sync *pg);

bool pg_sync_connect(struct pg_sync *pg, long timeout_ms) __attribute__((warn_unused_result));

/* One statement with text parameters; NULL is SQL's. */
bool pg_sync_query(struct pg_sync *pg, const char *sql, int nparams, const char *const *params)
    __attribute__((warn_unused_result));
/* Any number of statements, in one transaction unless they say otherwise. */
bool pg_sync_script(struct pg_sync *pg, const char *sql) __attribute__((warn_unused_result));

/* Of the last query; the text is NULL for SQL's null. */
int pg_sync_rows(const struct pg_sync *pg);
int pg_sync_columns(const struct pg_sync *pg);
const char *pg_sync_column_name(const struct pg_sync *pg, int column);
const char *pg_sync_text(const struct pg_sync *pg, int row, int column);

/* Waits for a notification, dropping others. False when it does not come in time, or the session is lost:
 * then there is an error. */
bool pg_sync_wait(struct pg_sync *pg, const char *channel, const char *payload, long timeout_ms)
    __attribute__((warn_unused_result));

/* Hands on what comes on the channel until the time is over. False: the session is lost, there is an error.
 */
typedef void (*pg_sync_take)(void *arg, const char *payload);
bool pg_sync_gather(struct pg_sync *pg, const char *channel, long time_ms, pg_sync_take take, void *arg)
    __attribute__((warn_unused_result));

/* A password as PostgreSQL keeps it (SCRAM-SHA-256), made here, so that it need not travel. NULL: there is an
 * error. The caller releases it with free(). */
char *pg_sync_encrypt_password(struct pg_sync *pg, const char *password) __attribute__((warn_unused_result));

const struct pg_sync_error *pg_sync_error(const struct pg_sync *pg);
/* As libpq tells it, 150004; 0 when not connected. */
int pg_sync_server_version(const struct pg_sync *pg);
/* The name of the schema is missing in the database, or is older than this program: the last error means
 * that. */
bool pg_sync_lacks_schema(const struct pg_sync *pg);

#endif
