/*
 * Tickets: events whose payload was too big for a NOTIFY. A ticket is in the send queues of those who want
 * the event, and its payload is had from another node or read from the log when it comes to the head of the
 * first of them. However many queues hold it, it is had once, and kept while the cache has room for it; when
 * it has been let go, a queue that comes to it later has it again.
 */
#ifndef PGRELAY_RELAY_TICKET_H
#define PGRELAY_RELAY_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "relay/msg.h"

struct pg_query_pool;
struct ticket;

/* Where payloads are had, before the log is asked. */
struct ticket_source {
	/* Asks for the payload elsewhere; ticket_fetched() follows, never from inside. NULL: the log is to be
	 * asked. */
	void *(*fetch)(struct ticket *ticket);
	void (*cancel)(void *fetch);
	/* This node has read the payload from the log. */
	void (*was_read)(struct ticket *ticket);
};
/* Where payloads are read; before the first ticket. source may be NULL. */
void ticket_init(struct pg_query_pool *pool, const struct ticket_source *source);

/* topic in its written form, sha256 64 hexadecimal digits, origin in its written form as well; all are
 * copied. While there is a ticket for the same event it is that one. The caller owns one reference. */
struct ticket *ticket_new(
    int64_t id, const struct topic *topic, size_t octets, const char *sha256, struct slice origin);
/* Of a payload that is at hand, which the ticket has then, or will have. The caller owns one reference. */
struct ticket *ticket_new_of(
    int64_t id, const struct topic *topic, struct slice payload, struct slice origin);
/* When its event was emitted, microseconds since 1970; 0 until it is told. */
void ticket_set_time(struct ticket *ticket, int64_t time_us);
void ticket_ref(struct ticket *ticket);
void ticket_unref(struct ticket *ticket);

/* In its written form. */
const char *ticket_topic(const struct ticket *ticket);
/* Of its payload. */
size_t ticket_octets(const struct ticket *ticket);
int64_t ticket_id(const struct ticket *ticket);
/* 64 hexadecimal digits, without a NUL. */
const char *ticket_sha256(const struct ticket *ticket);
/* The node that published the event, in its written form; "-" for none. */
const char *ticket_origin(const struct ticket *ticket);

enum ticket_state { TICKET_UNREAD, TICKET_READING, TICKET_READY, TICKET_FAILED };
enum ticket_state ticket_state(const struct ticket *ticket);

/* Only when ready. The caller owns the reference to the block. */
struct span ticket_frame(struct ticket *ticket, enum msg_form form);
/* Only when ready; valid as long as the ticket is. */
struct slice ticket_present(const struct ticket *ticket);
/* The payload in a frame of the AWX form. */
struct slice ticket_payload(const struct ticket *ticket, struct span frame);

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
/* It will be waited for soon: its payload is asked for elsewhere, if the source knows where. The log is left
 * until somebody waits. */
void ticket_prefetch(struct ticket *ticket);
/* The same for another node that wants it: it is read from the log and nowhere else. False, and nothing is
 * done, when it is being asked for elsewhere. */
bool ticket_wait_for_log(struct ticket *ticket, struct ticket_waiter *waiter);

/* For the source: what came; ptr NULL: it could not be had, and the log is asked. */
void ticket_fetched(struct ticket *ticket, struct slice payload);

#endif
