/*
 * This node's heartbeats (docs/protocol.md, section 3): sent and looked for on the
 * LISTEN session. That makes them the proof that events would come through, too.
 */
#ifndef PGRELAY_CLUSTER_HEARTBEAT_H
#define PGRELAY_CLUSTER_HEARTBEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct beat;
struct json_t;
struct pg_listen;

/* This node's id and its boot: random, another one each time it starts. address is HOST:PORT, or
 * wss://HOST:PORT, as others reach this node; a wildcard goes out as null. */
void heartbeat_init(const char *address);
const char *heartbeat_node(void);
/* Where others are told to reach it; NULL for a wildcard. */
const char *heartbeat_host(void);
uint64_t heartbeat_boot(void);
/* Sends one each probe_interval. */
void heartbeat_start(struct pg_listen *listen);
/* The session has just begun to listen: sends one. */
void heartbeat_begin(void);
/* Sends one now, or as soon as the one under way has come back. */
void heartbeat_hasten(void);
/* The number of the last one that was sent. */
int64_t heartbeat_counter(void);
/* The server has taken the last one. */
void heartbeat_on_notified(void);
/* Says that this node is going (action "offline") and sends no more. */
void heartbeat_stop(void);
/* That is out, or cannot be said. */
bool heartbeat_has_ended(void);
/* Frees what it holds. */
void heartbeat_free(void);

/* Reads one, and its signature, into *beat, whose texts are the value's that is returned; the caller releases
 * that with json_decref(). NULL: it is none. */
struct json_t *heartbeat_read(const char *payload, size_t len, struct beat *beat);

/* What came on the heartbeat channel, from whomever. */
void heartbeat_receive(const char *payload, size_t len);

#endif
