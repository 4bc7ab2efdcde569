/*
 * This node's heartbeats (docs/protocol.md, section 3): sent by NOTIFY over the query session, looked for on
 * the LISTEN session. That makes them the proof that events would come through, too.
 */
#ifndef PGRELAY_CLUSTER_HEARTBEAT_H
#define PGRELAY_CLUSTER_HEARTBEAT_H

#include <stdbool.h>
#include <stddef.h>

struct pg_listen;
struct pg_query_pool;

/* Sends one each probe_interval. address is HOST:PORT as others reach this node. */
void heartbeat_start(struct pg_query_pool *pool, struct pg_listen *listen, const char *address);
/* Sends one now, if it can be sent: the sessions have just come up. */
void heartbeat_hasten(void);
/* Says that this node is going (action "offline") and sends no more; done is called when that is out, or
 * cannot be. */
void heartbeat_stop(void (*done)(void));
/* Frees what it holds. */
void heartbeat_free(void);

/* What came on the heartbeat channel, from whomever. */
void heartbeat_receive(const char *payload, size_t len);

#endif
