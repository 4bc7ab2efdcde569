/*
 * A slot is a tick of time, modulo WHEEL_SLOTS. What is due later than the wheel reaches lies in its last slot, and is
 * laid again when that comes by.
 */
#include "config.h"
#include "core/wheel.h"
#include "core/log.h"
#include "core/loop.h"

#include <event2/event.h>
#include <string.h>

/* The tick by which all that is due at this time has been called. */
static int64_t
wheel_tick_of(int64_t ms)
{
	return (ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
}

static void
wheel_lay(struct wheel *w, struct wheel_entry *e)
{
	int64_t tick = wheel_tick_of(e->due_ms);

	if (tick <= w->tick)
		tick = w->tick + 1;
	if (tick > w->tick + WHEEL_SLOTS - 1)
		tick = w->tick + WHEEL_SLOTS - 1;
	LIST_INSERT_HEAD(&w->slots[tick % WHEEL_SLOTS], e, entry);
}

void
wheel_cancel(struct wheel_entry *e)
{
	if (e->due_ms == 0)
		return;
	LIST_REMOVE(e, entry);
	e->due_ms = 0;
}

void
wheel_schedule(struct wheel *w, struct wheel_entry *e, int64_t due_ms)
{
	if (due_ms < 1)
		due_ms = 1;
	if (e->due_ms != 0 && e->due_ms <= due_ms)
		return;
	wheel_cancel(e);
	e->due_ms = due_ms;
	wheel_lay(w, e);
}

/* Calls may change the slot's list: so the first is taken until it is empty. Nothing is laid into it meanwhile, for
 * this tick counts as done. */
static void
wheel_run(struct wheel *w, int64_t now)
{
	struct wheel_entry *e;

	while ((e = LIST_FIRST(&w->slots[w->tick % WHEEL_SLOTS])) != NULL) {
		LIST_REMOVE(e, entry);
		if (e->due_ms > now) {
			wheel_lay(w, e);
			continue;
		}
		e->due_ms = 0;
		w->call(e);
	}
}

static void
wheel_on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct wheel *w = arg;
	int64_t now = loop_now_ms(), last = now / WHEEL_TICK_MS;

	if (last - w->tick > WHEEL_SLOTS) /* the process stood still: once around is enough */
		w->tick = last - WHEEL_SLOTS;
	while (w->tick < last) {
		w->tick++;
		wheel_run(w, now);
	}
}

void
wheel_init(struct wheel *w, void (*call)(struct wheel_entry *entry))
{
	struct timeval tv = {WHEEL_TICK_MS / 1000, WHEEL_TICK_MS % 1000 * 1000};

	memset(w, 0, sizeof(*w));
	w->call = call;
	w->tick = loop_now_ms() / WHEEL_TICK_MS;
	w->event = event_new(loop_base(), -1, EV_PERSIST, wheel_on_tick, w);
	if (w->event == NULL)
		log_fatal("could not create a timer");
	event_add(w->event, &tv);
}

void
wheel_free(struct wheel *w)
{
	event_free(w->event);
	w->event = NULL;
}
