/*
 * The event loop: libevent's, plus work at the end of each turn. A turn is a pass over the descriptors and
 * timers that were ready, and the work that this brought; where that is much, it is done in several passes,
 * so that others are not kept waiting. Sending is such work (everything a turn brought goes out with one call
 * a session), and so is releasing memory: an object is never freed inside its own callback.
 */
#ifndef PGRELAY_CORE_LOOP_H
#define PGRELAY_CORE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;

void loop_init(void);
struct event_base *loop_base(void);

/* Turns until loop_stop(), or until no descriptor, timer, signal or task is left. */
void loop_run(void);
void loop_stop(void);
/* Runs what is queued, outside of a turn. */
void loop_settle(void);
/* The same, and releases the base. */
void loop_free(void);

/* Work at the end of this turn, once however often it is asked for; embedded in its owner. From inside the
 * work itself: at the end of the next turn. */
struct loop_task {
	struct loop_task *next, **prev; /* prev is NULL when not queued */
	void (*run)(void *arg);
	void *arg;
};
void loop_task_init(struct loop_task *task, void (*run)(void *arg), void *arg);
void loop_task_queue(struct loop_task *task);
void loop_task_cancel(struct loop_task *task);
bool loop_task_is_queued(const struct loop_task *task);

/* For who takes in as much as there is: has it had its share of this pass, 10 ms since it was first asked? */
bool loop_share_is_used(void);
/* Is there work left of the turn before? Who makes more of it waits, by a task. */
bool loop_is_behind(void);
/* For work at a turn's end: when this began, by the monotonic clock. */
int64_t loop_turn_ms(void);

/* release(ptr) after this turn's tasks. */
void loop_release(void (*release)(void *ptr), void *ptr);

/* Monotonic clock. */
int64_t loop_now_ms(void);
int64_t loop_now_us(void);

#endif
