/*
 * Tickets: events whose payload was too big for a NOTIFY. A ticket is in the send queues of those who want
 * the event, and its payload is read from the log when it comes to the head of the first of them. However
 * many queues hold it, it is read once, and kept while the cache has room for it; when it has been let go, a
 * queue that comes to it later reads it again.
 */
#ifndef PGRELAY_RELAY_TICKET_H
#define PGRELAY_RELAY_TICKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "relay/msg.h"

struct pg_query_pool;
struct ticket;

/* Where payloads are read; before the first ticket. */
void ticket_init(struct pg_query_pool *pool);

/* topic in its written form, sha256 64 hexadecimal digits; both are copied. The caller owns one reference. */
struct ticket *ticket_new(int64_t id, const struct topic *topic, size_t octets, const char *sha256);
void ticket_ref(struct ticket *ticket);
void ticket_unref(struct ticket *ticket);

/* In its written form. */
const char *ticket_topic(const struct ticket *ticket);
/* Of its payload. */
size_t ticket_octets(const struct ticket *ticket);

enum ticket_state { TICKET_UNREAD, TICKET_READING, TICKET_READY, TICKET_FAILED };
enum ticket_state ticket_state(const struct ticket *ticket);

/* Only when ready. The caller owns the reference to the block. */
struct span ticket_frame(struct ticket *ticket, enum msg_form form);

/* Embedded in who waits. wake is called once, when the ticket is ready or has failed; it must not wait again
 * for the same ticket from inside. */
struct ticket_waiter {
	TAILQ_ENTRY(ticket_waiter) entry;
	struct ticket *ticket; /* NULL when not waiting */
	void (*wake)(struct ticket_waiter *waiter);
};
/* Reads the payload if need be. Only when it is unread or being read. */
void ticket_wait(struct ticket *ticket, struct ticket_waiter *waiter);
void ticket_unwait(struct ticket_waiter *waiter);

#endif
