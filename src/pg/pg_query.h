/*
 * Queries in pipeline mode over one session: any number may be under way, answers come in the order of the
 * questions, each query is a transaction of its own, and an error stays with the query that made it.
 */
#ifndef PGRELAY_PG_PG_QUERY_H
#define PGRELAY_PG_PG_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pg_result PGresult; /* libpq's */
struct pg_query_pool;
struct pg_query;

enum pg_query_status {
	PG_QUERY_OK,    /* result holds the rows */
	PG_QUERY_ERROR, /* the server refused: result holds its error */
	PG_QUERY_LOST   /* no answer: the session was lost (the query may have been done), or query_timeout
			   passed */
};
/* result is NULL with PG_QUERY_LOST and belongs to the module; error is one line, "" with PG_QUERY_OK. */
typedef void (*pg_query_done)(
    void *arg, enum pg_query_status status, const PGresult *result, const char *error);

/* The pool keeps its session up from now on. on_state (may be NULL) is told when it comes up or goes down.
 * The caller releases it with pg_query_pool_free(). */
struct pg_query_pool *pg_query_pool_new(
    const char *subject, const char *conninfo, void (*on_state)(void *arg, bool up), void *arg);
/* Queries under way get no answer any more. */
void pg_query_pool_free(struct pg_query_pool *pool);
bool pg_query_pool_is_up(const struct pg_query_pool *pool);
/* Why it is not up; "" when it is. */
const char *pg_query_pool_error(const struct pg_query_pool *pool);
/* For how long queries have been waiting at the server without any answer; 0 when none is. Past 30 s the
 * session is made anew by itself. */
int64_t pg_query_pool_stalled_ms(const struct pg_query_pool *pool);
/*
 * Bounds each of the queries that are sent from now on, until the session is lost: so long the server may
 * compute, and wait for a lock (0: as it is set there), in ms. Nothing happens while the session is down. That
 * the server refuses is logged.
 */
void pg_query_pool_set_timeouts(struct pg_query_pool *pool, int64_t statement_ms, int64_t lock_ms);

/*
 * Sends a query with text parameters (copied; NULL is SQL's). While the session is down it waits, at most
 * timeout_ms (0: without end), for it to come up. done is called exactly once, never from inside this call,
 * unless the query is cancelled first. The returned query is valid until then.
 */
struct pg_query *pg_query_send(struct pg_query_pool *pool, const char *sql, int nparams,
    const char *const *params, long timeout_ms, pg_query_done done, void *arg);
/*
 * The same for a query that may as well be done twice: when the session is lost under it, it waits for the
 * next one and is sent again, within its time. But not for ever: one that has lost four sessions gets
 * PG_QUERY_LOST.
 */
struct pg_query *pg_query_ask(struct pg_query_pool *pool, const char *sql, int nparams,
    const char *const *params, long timeout_ms, pg_query_done done, void *arg);
/* done will not be called; the server may still do the query. */
void pg_query_cancel(struct pg_query *query);

/* The text form of an array of these texts, NULL is SQL's; the caller releases it with free(). */
char *pg_query_text_array(const char *const *items, size_t count);

/* Reading a result: the text of a field, NULL for SQL's null. */
int pg_result_rows(const PGresult *result);
const char *pg_result_text(const PGresult *result, int row, int column);
size_t pg_result_length(const PGresult *result, int row, int column);
/* SQLSTATE of a PG_QUERY_ERROR's result; "" where there is none. */
const char *pg_result_sqlstate(const PGresult *result);

#endif
