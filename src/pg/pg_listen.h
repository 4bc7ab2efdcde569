/*
 * The one LISTEN session of a node. It does nothing but listen; it is proven by the node's own heartbeat
 * coming back, and made anew when that stays away.
 */
#ifndef PGRELAY_PG_PG_LISTEN_H
#define PGRELAY_PG_PG_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

struct pg_listen;

struct pg_listen_ops {
	/* LISTEN is committed: a heartbeat sent from now on will come back. */
	void (*on_listening)(void *arg);
	/* A NOTIFY payload, valid during the call. */
	void (*on_event)(void *arg, const char *payload, size_t len);
	void (*on_heartbeat)(void *arg, const char *payload, size_t len);
};

/* Connects and listens on the channels of the settings from now on. The caller releases it with
 * pg_listen_free(). */
struct pg_listen *pg_listen_new(const char *conninfo, const struct pg_listen_ops *ops, void *arg);
void pg_listen_free(struct pg_listen *listen);

/* Our own heartbeat has come back: the session hears. */
void pg_listen_prove(struct pg_listen *listen);
/*
 * Is a heartbeat overdue by more than probe_timeout? Then the session is made anew. Asked after each
 * heartbeat that was sent; sending is set to false when none could be sent, for then silence proves nothing.
 */
void pg_listen_check(struct pg_listen *listen, bool sending);

/* Listening, and proven since. */
bool pg_listen_is_proven(const struct pg_listen *listen);
/* Why not; "" when it is. */
const char *pg_listen_error(const struct pg_listen *listen);

#endif
