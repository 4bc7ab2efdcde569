/*
 * Links: one WebSocket between two nodes, with a handshake in which each proves to the other that it has the
 * secret (docs/cluster.md, section 3). What travels on an open link is its owner's business, but for pings.
 */
#ifndef PGRELAY_CLUSTER_LINK_H
#define PGRELAY_CLUSTER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/session.h"
#include "relay/event.h"

#define LINK_PROTOCOL "pgrelay.link.1"

struct link;
struct node;

struct link_ops {
	/* The handshake is done. */
	void (*opened)(struct link *link);
	/* A message on an open link: a word, and what follows it; valid during the call. */
	void (*message)(struct link *link, struct slice word, struct slice rest);
	/* All that was sent has been handed to the socket. */
	void (*drained)(struct link *link);
	/*
	 * The link has ended, and is gone at the end of this turn; not after link_close(). Of one that this
	 * node dialled, and of one that was open. reason is one line.
	 */
	void (*ended)(struct link *link, const char *reason);
};

void link_init(const struct link_ops *ops);
/* The sessions are gone by then. */
void link_free_all(void);

/* Dials a node at its address; ended tells when that fails. */
struct link *link_dial(const struct node *node);
/* Ends it, with this close frame where it is open. */
void link_close(struct link *link, enum ws_close_code code, const char *reason);

/* Ends it because of what the other node sent, which its owner is told as well. */
void link_break(struct link *link, const char *reason);

/* Sends one message; while the link is not open it is dropped. */
void link_send(struct link *link, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same: head, a space, and body; in a binary message. */
void link_send_with(struct link *link, const char *head, struct slice body);
/* Octets that wait for the peer. */
size_t link_backlog(const struct link *link);

bool link_is_open(const struct link *link);
/* Was it this node that dialled? */
bool link_is_dialled(const struct link *link);
/* The other node's id; of an accepted link, once it is open. */
const char *link_node(const struct link *link);
/* The other node's. */
uint64_t link_boot(const struct link *link);

struct link_figures {
	int64_t age_ms;
	int64_t rtt_us; /* of the last ping; -1: none has come back yet */
	uint64_t sent_bytes, received_bytes;
};
struct link_figures link_figures(const struct link *link);

/* Who dials in here, behind the header `secret`. */
extern const struct dialect dialect_link;

#endif
