/*
 * The nodes that are heard of (docs/cluster.md, section 2): what their heartbeats tell, whose they are, and
 * whether they live.
 */
#ifndef PGRELAY_CLUSTER_NODE_H
#define PGRELAY_CLUSTER_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

/* In the order of the metrics that count their heartbeats. */
enum node_kind {
	NODE_SELF,
	NODE_PEER,     /* signed with our secret, of our cluster */
	NODE_UNSIGNED, /* of our cluster */
	NODE_FORGED,   /* of our cluster, but not signed with our secret, changed, or played again */
	NODE_SKEWED,   /* signed, with a clock that is too far off */
	NODE_DOUBLE,   /* signed, and two claim its id */
	NODE_FOREIGN,  /* of another cluster */
	NODE_AWX,      /* AWX's three fields only */
	NODE_KINDS
};
enum node_state { NODE_ONLINE, NODE_OFFLINE, NODE_DEAD };

/* A heartbeat, valid while it is handed on. */
struct beat {
	const char *node; /* of AWX's: hostname */
	const char *cluster, *hostname, *ip, *version;
	const char *reason; /* of a forged one: what is wrong */
	uint64_t boot;
	int64_t counter, time_us;
	int port;
	bool awx, tls, offline;
	bool sealed; /* it has a signature, which */
	bool right;  /* is right; of our cluster only */
	bool own;    /* this node's, and the last that it sent */
};

struct node {
	char *key; /* in the table */
	char *id;
	char *cluster, *version;
	char *host; /* where it is dialled, with the port */
	int port;
	bool tls;
	enum node_kind kind;
	enum node_state state;
	uint64_t boot, former_boot;
	int64_t counter, former_counter, time_us;
	int64_t heard_ms;
	int64_t double_ms; /* when two were last heard under this id; 0: never */
	int64_t skew_ms;   /* its clock less ours, about */
	UT_hash_handle hh;
};

struct node_ops {
	/* Behind each heartbeat, with what is known by then, and when a node is found dead. */
	void (*heard)(const struct node *node);
	/* There is a peer that may not know this node yet. */
	void (*met)(void);
	/* It is not known any more. */
	void (*forgotten)(const char *id);
};
void node_init(const char *self_id, uint64_t self_boot, const struct node_ops *ops);
void node_free_all(void);

/* Notes a heartbeat; returns whose it is. */
enum node_kind node_take(const struct beat *beat);

const char *node_self_id(void);
uint64_t node_self_boot(void);

/* All of them in the order in which they were first heard: NULL first. */
const struct node *node_next(const struct node *node);
/* Do two claim this id, be it this node's own? */
bool node_is_double(const char *id);
/* A peer by its id; NULL when there is none, online or not. */
const struct node *node_find_peer(const char *id);

const char *node_kind_name(enum node_kind kind);
const char *node_state_name(enum node_state state);

#endif
