/*
 * Timers for very many, by a wheel: one event of the loop's for all of them, and what is not due costs nothing. They are
 * coarse: one is called up to a tick late.
 */
#ifndef PGRELAY_CORE_WHEEL_H
#define PGRELAY_CORE_WHEEL_H

#include <stdint.h>
#include <sys/queue.h>

struct event;

#define WHEEL_SLOTS   256
#define WHEEL_TICK_MS 250

/* Embedded in whoever is called; zeroed: not scheduled. */
struct wheel_entry {
	LIST_ENTRY(wheel_entry) entry;
	int64_t due_ms; /* 0: not scheduled */
};

struct wheel {
	LIST_HEAD(, wheel_entry) slots[WHEEL_SLOTS];
	int64_t tick; /* the last one that is done */
	/* It is due, and not scheduled any more; it may schedule, cancel and free any entry. */
	void (*call)(struct wheel_entry *entry);
	struct event *event;
};

/* call is made from now on, from the loop. */
void wheel_init(struct wheel *wheel, void (*call)(struct wheel_entry *entry));
/* Nothing is scheduled any more. */
void wheel_free(struct wheel *wheel);

/* At this time of the loop's clock, unless it is scheduled for an earlier one already. */
void wheel_schedule(struct wheel *wheel, struct wheel_entry *entry, int64_t due_ms);
void wheel_cancel(struct wheel_entry *entry);

#endif
