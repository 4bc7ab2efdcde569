/* The event loop and what runs at the end of each of its turns. */
#include "config.h"
#include "core/loop.h"
#include "core/log.h"
#include "core/mem.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <time.h>

#define LOOP_SHARE_US     10000
#define LOOP_TASKS_A_LOOK 16 /* at the clock */

struct loop_garbage {
	struct loop_garbage *next;
	void (*release)(void *ptr);
	void *ptr;
};

static struct event_base *loop_event_base;
static struct loop_task *loop_tasks, **loop_tasks_tail = &loop_tasks;
static struct loop_task loop_tasks_end; /* behind those of the turn that is ending; queued while they run */
static struct loop_garbage *loop_garbage_list;
static int64_t loop_share_end_us;  /* 0: nobody has asked in this pass */
static int64_t loop_turn_began_ms; /* its work */
static bool loop_stopping;

static int64_t
loop_clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void
loop_init(void)
{
	assert(loop_event_base == NULL);
	loop_event_base = event_base_new();
	if (loop_event_base == NULL)
		log_fatal("could not create the event loop");
	loop_stopping = false;
}

struct event_base *
loop_base(void)
{
	return loop_event_base;
}

void
loop_task_init(struct loop_task *task, void (*run)(void *arg), void *arg)
{
	*task = (struct loop_task){.run = run, .arg = arg};
}

void
loop_task_queue(struct loop_task *task)
{
	if (task->prev != NULL)
		return;
	task->next = NULL;
	task->prev = loop_tasks_tail;
	*loop_tasks_tail = task;
	loop_tasks_tail = &task->next;
}

void
loop_task_cancel(struct loop_task *task)
{
	if (task->prev == NULL)
		return;
	*task->prev = task->next;
	if (task->next != NULL)
		task->next->prev = task->prev;
	else
		loop_tasks_tail = task->prev;
	task->prev = NULL;
}

void
loop_release(void (*release)(void *ptr), void *ptr)
{
	struct loop_garbage *g = mem_alloc(sizeof(*g));

	*g = (struct loop_garbage){loop_garbage_list, release, ptr};
	loop_garbage_list = g;
}

bool
loop_task_is_queued(const struct loop_task *task)
{
	return task->prev != NULL;
}

/* To a few ms, where the system has that: it costs much less, and is asked for each notification. */
static int64_t
loop_coarse_us(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
	return loop_clock_us(CLOCK_MONOTONIC_COARSE);
#else
	return loop_now_us();
#endif
}

bool
loop_share_is_used(void)
{
	int64_t now_us = loop_coarse_us();

	if (loop_share_end_us == 0)
		loop_share_end_us = now_us + LOOP_SHARE_US;
	return now_us >= loop_share_end_us;
}

int64_t
loop_turn_ms(void)
{
	return loop_turn_began_ms;
}

bool
loop_is_behind(void)
{
	return loop_task_is_queued(&loop_tasks_end);
}

/*
 * Tasks queued from here on are the next turn's: the sentinel ends this turn's list. What has not run after its
 * share of time goes on in the next pass.
 */
static void
loop_run_tasks(bool all)
{
	int64_t until_us = loop_coarse_us() + LOOP_SHARE_US;

	if (!loop_is_behind())
		loop_turn_began_ms = loop_now_ms();
	loop_task_queue(&loop_tasks_end);
	for (unsigned n = 1; loop_tasks != &loop_tasks_end; n++) {
		struct loop_task *task = loop_tasks;

		loop_task_cancel(task);
		task->run(task->arg);
		if (!all && n % LOOP_TASKS_A_LOOK == 0 && loop_coarse_us() >= until_us)
			return;
	}
	loop_task_cancel(&loop_tasks_end);
}

static void
loop_run_garbage(void)
{
	while (loop_garbage_list != NULL) {
		struct loop_garbage *g = loop_garbage_list;

		loop_garbage_list = g->next;
		g->release(g->ptr);
		free(g);
	}
}

static void
loop_end_pass(bool all)
{
	loop_run_tasks(all);
	if (!loop_is_behind())
		loop_run_garbage();
	loop_share_end_us = 0;
}

void
loop_run(void)
{
	while (!loop_stopping) {
		int flags = EVLOOP_ONCE | (loop_tasks != NULL ? EVLOOP_NONBLOCK : 0);
		int rc = event_base_loop(loop_event_base, flags);

		if (rc < 0)
			log_fatal("the event loop failed");
		if (rc > 0 && loop_tasks == NULL)
			break; /* nothing is left that could ever happen */
		loop_end_pass(false);
	}
}

void
loop_stop(void)
{
	loop_stopping = true;
	if (loop_event_base != NULL)
		event_base_loopbreak(loop_event_base);
}

void
loop_settle(void)
{
	loop_end_pass(true);
}

void
loop_free(void)
{
	loop_settle();
	event_base_free(loop_event_base);
	loop_event_base = NULL;
}

int64_t
loop_now_us(void)
{
	return loop_clock_us(CLOCK_MONOTONIC);
}

int64_t
loop_now_ms(void)
{
	return loop_now_us() / 1000;
}
