/*
 * One asynchronous database session (a libpq connection) that keeps itself alive: it tries one host of the
 * connection string after the other, the one where a session of this process came up last first, each with a
 * connect_timeout of its own; when none takes it, it tries again after a capped doubling back-off with
 * jitter. What is done over it is its owner's business (pg_listen, pg_query).
 */
#ifndef PGRELAY_PG_PG_SESSION_H
#define PGRELAY_PG_PG_SESSION_H

#include <stdbool.h>

typedef struct pg_conn PGconn; /* libpq's */
struct pg_session;

struct pg_session_ops {
	/* Connected, in libpq's nonblocking mode. */
	void (*on_up)(void *arg, PGconn *conn);
	/* Lost, or no host took us; reason is one line. The next attempt comes by itself. */
	void (*on_down)(void *arg, const char *reason);
	/* PQconsumeInput() has succeeded: take what has come. pg_session_reset() may be called from here. */
	void (*on_input)(void *arg, PGconn *conn);
};

/* subject names the session in the log and, behind "pgrelay ", in pg_stat_activity. The caller releases it
 * with pg_session_free(). */
struct pg_session *pg_session_new(
    const char *subject, const char *conninfo, const struct pg_session_ops *ops, void *arg);
/* In any state, and from inside any callback. */
void pg_session_free(struct pg_session *session);

/* Makes the first attempt in this turn. */
void pg_session_start(struct pg_session *session);
/* Gives the connection up, with one log line that holds the reason, and makes it anew. Nothing unless up. */
void pg_session_reset(struct pg_session *session, const char *reason);
/* After PQsend...(): sends what libpq holds, now or as soon as the socket takes it. */
void pg_session_flush(struct pg_session *session);

/* While paused nothing is read: the server waits, and TCP holds what is under way. Ends by itself when the
 * session is lost. */
void pg_session_pause(struct pg_session *session, bool paused);

/* The session has proven useful: the next loss starts with a short pause, and is logged. */
void pg_session_settle(struct pg_session *session);

/* NULL unless up. */
PGconn *pg_session_conn(const struct pg_session *session);
/* Why it is not up; "" when it is. */
const char *pg_session_error(const struct pg_session *session);

#endif
