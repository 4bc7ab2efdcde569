/*
 * What waits for one client, in order: spans of shared blocks, and tickets that hold their place until their
 * payload is there. Pushing costs no allocation and no copy while the queue is short, and none for a run of
 * frames that lie in one block.
 */
#ifndef PGRELAY_RELAY_SENDQ_H
#define PGRELAY_RELAY_SENDQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/msg.h"
#include "relay/ticket.h"

struct transport;

struct sendq_item {
	struct ticket *ticket; /* NULL: span */
	struct span span;
	bool conditional; /* a ticket that counts only where `admits` says so */
	uint32_t held;    /* octets of the block, where the item before it does not hold the same one */
};

#define SENDQ_INLINE 2

struct sendq;
struct sendq_ops {
	/* A ticket at the head has been resolved, and flushing makes sense again. */
	void (*wake)(struct sendq *q);
	/* What takes the place of a ticket that failed, block NULL for nothing; the reference passes. */
	struct span (*lost)(struct sendq *q, const struct ticket *ticket);
	/* Of a conditional message, now that its payload is there: is it to go out? */
	bool (*admits)(struct sendq *q, const struct ticket *ticket);
};

struct sendq {
	struct sendq_item *items; /* a ring: inline_items or on the heap */
	uint32_t head, count, capacity;
	enum msg_form form;
	size_t bytes;        /* of the spans */
	size_t held_bytes;   /* of the blocks that the spans hold in memory */
	size_t ticket_bytes; /* of the tickets' payloads, which are still in the database */
	/* The mark: all that was pushed up to a time. When it has been sent a new one is set. */
	int64_t mark_ms;     /* 0: nothing waits that has been flushed once */
	int64_t mark_octets; /* of it, tickets' payloads included, that are not sent yet */
	int64_t waits_ms;    /* since when the head is a ticket that is being read; 0: it is not */
	struct ticket_waiter waiter;
	const struct sendq_ops *ops; /* NULL: nobody is told */
	struct sendq_item inline_items[SENDQ_INLINE];
};

/* ops may be NULL where no ticket comes. */
void sendq_init(struct sendq *q, enum msg_form form, const struct sendq_ops *ops);
/* Drops everything. */
void sendq_clear(struct sendq *q);
/* Drops everything but the span at the head, of which a part may have gone out: what is pushed next starts at
 * a frame's boundary. */
void sendq_truncate(struct sendq *q);

void sendq_push_msg(struct sendq *q, struct msg *msg);
/* Of a plain run; false: nothing was pushed, each is to be pushed for itself. */
bool sendq_push_run(struct sendq *q, struct msg_run *run);
/* Shared octets. */
void sendq_push_span(struct sendq *q, struct span span);
/* For this client alone; copied. */
void sendq_push_octets(struct sendq *q, const void *data, size_t len);

/* Spans that wait in from wait in to from now on, behind what is there; from holds no ticket. */
void sendq_move(struct sendq *from, struct sendq *to);

/* Octets of memory held by what is behind the run that is being sent. */
size_t sendq_backlog(struct sendq *q);
/* For how long something has waited that the peer could have taken: at least so long, and for less than twice
 * that. The time for which a ticket at the head is being read does not count. */
int64_t sendq_age_ms(const struct sendq *q, int64_t now);
/* What waits counts as pushed just now. */
void sendq_forgive(struct sendq *q);
/* The number of the block that has been held for longest; UINT64_MAX: none is held. */
uint64_t sendq_oldest_block(const struct sendq *q);

enum sendq_result {
	SENDQ_EMPTY,   /* all is sent */
	SENDQ_BLOCKED, /* the socket is full: again when it is writable */
	SENDQ_WAITING, /* for a ticket: wake will be called */
	SENDQ_MORE,    /* this turn's share is sent: again in the next turn */
	SENDQ_ERROR    /* errno tells */
};
/* Writes what it can. sent is increased by the octets written. */
enum sendq_result sendq_flush(struct sendq *q, struct transport *transport, size_t *sent);

#endif
