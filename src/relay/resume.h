/*
 * Clients that come back with a cursor: each gets what it missed, from the history when its marker is there,
 * else from the log, and then is one of those who get events as they come. Those who wait for the log share
 * one reading of it.
 */
#ifndef PGRELAY_RELAY_RESUME_H
#define PGRELAY_RELAY_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/hub.h"
#include "relay/position.h"

struct resume;

struct resume_ops {
	/* Queues the event. */
	void (*push)(void *arg, struct msg *msg);
	/* How many octets more may be queued now. */
	size_t (*room)(void *arg);
	/* Does it take what is queued, but more slowly than it comes? */
	bool (*is_behind)(void *arg);
	/* Something is missing; types NULL: whatever the type, else separated by spaces. */
	void (*gap)(void *arg, const char *reason, const char *types);
	/* The client has everything; the resume is gone. From now on it gets what comes. */
	void (*done)(void *arg);
};

void resume_init(void (*want_marker)(void), int64_t (*last_marker)(void));
void resume_free(void);

/* position is moved; member's patterns are in force and matched against, its deliver is ours to forward by
 * resume_take(). Nothing is called from inside. The caller releases it with resume_cancel(), unless done. */
struct resume *resume_new(
    struct position *position, struct hub_member *member, const struct resume_ops *ops, void *arg);
void resume_cancel(struct resume *resume);

/* There is room again. */
void resume_continue(struct resume *resume);
/* An event that is delivered to those who come back (msg->missed). */
void resume_take(struct resume *resume, struct msg *msg);
/* How far this client is. */
const struct position *resume_position(const struct resume *resume);
/* Is an event being queued for one of them; and what is the cursor behind it? 0 when there is none. */
bool resume_is_visiting(void);
size_t resume_cursor(char out[POSITION_TEXT_MAX]);

/* The stream: a marker of ours has come by; and, it is not live any more. */
void resume_on_marker(const struct marker *marker, const struct snapshot *seen);
void resume_suspend(void);

#endif
