/*
 * The one LISTEN session of a node. Beside listening it only sends the node's heartbeats; it is proven by
 * their coming back, and made anew when they stay away.
 */
#ifndef PGRELAY_PG_PG_LISTEN_H
#define PGRELAY_PG_PG_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

struct pg_listen;

#define PG_LISTEN_PARAMS 4 /* of the statement that sends a heartbeat */

struct pg_listen_ops {
	/* LISTEN is committed: a heartbeat that is sent from now on will come back. */
	void (*on_listening)(void *arg);
	/* The session is lost: what is sent from now on is not heard. */
	void (*on_lost)(void *arg);
	/* The server has taken what pg_listen_notify() sent. */
	void (*on_notified)(void *arg);
	/* Sends this NOTIFY over another session, and has on_notified called behind it; see
	 * pg_listen_notify(). False: not now. */
	bool (*notify_elsewhere)(void *arg, const char *sql, const char *const params[PG_LISTEN_PARAMS]);
	/* A NOTIFY payload, valid during the call. */
	void (*on_event)(void *arg, const char *payload, size_t len);
	void (*on_heartbeat)(void *arg, const char *payload, size_t len);
	/* Octets that wait for clients: when a turn has brought many, they are written to before more is taken. */
	size_t (*waiting_bytes)(void *arg);
};

/* Connects and listens on the channels of the settings from now on. The caller releases it with
 * pg_listen_free(). */
struct pg_listen *pg_listen_new(const char *conninfo, const struct pg_listen_ops *ops, void *arg);
void pg_listen_free(struct pg_listen *listen);

/*
 * Sends a heartbeat, a JSON object that gets the fields "epoch" and "snapshot" at the server, over the
 * session itself, so that nothing else's slowness can hold it up. False: not now, the session is not up or
 * has one under way. The server also signs it ("hmac"), with the key whose blocks inner and outer are
 * (secret_signing_blocks()); inner NULL: it does not.
 *
 * Behind a pooler it goes over another session: in transaction mode a backend that is not ours has listened,
 * and what is sent by it comes back to the sender, while what others send is lost.
 */
bool pg_listen_notify(struct pg_listen *listen, const char *payload, const char *inner, const char *outer);
/* Our own heartbeat has come back: the session hears. */
void pg_listen_prove(struct pg_listen *listen);
/*
 * Has no heartbeat come back for probe_timeout? Then the session is made anew, with a log line that tells the
 * likely cause. Asked once in a probe_interval.
 */
void pg_listen_check(struct pg_listen *listen);
/* The process was stopped or busy: silence until now proves nothing. */
void pg_listen_excuse(struct pg_listen *listen);

/* Listening, and proven since. */
bool pg_listen_is_proven(const struct pg_listen *listen);
/* Why not; "" when it is. */
const char *pg_listen_error(const struct pg_listen *listen);

#endif
