/* Timers for very many: src/core/wheel.c, against the clock. */
#include "config.h"
#include "core/loop.h"
#include "core/wheel.h"

#include "tap.h"

#define TIMERS   200
#define SLACK_MS 2000 /* a busy machine's */

static struct wheel wheel;
static struct timer {
	struct wheel_entry entry;
	int64_t due_ms, called_ms;
	int calls;
} timers[TIMERS];
static struct timer again, gone, late;
static int left;

static void
on_due(struct wheel_entry *entry)
{
	struct timer *t = (struct timer *)entry;

	t->called_ms = loop_now_ms();
	t->calls++;
	if (t == &again && t->calls < 3) {
		t->due_ms = loop_now_ms() + 100;
		wheel_schedule(&wheel, &t->entry, t->due_ms);
		return;
	}
	if (t == &timers[0])
		wheel_cancel(&gone.entry);
	if (--left == 0)
		loop_stop();
}

static void
schedule(struct timer *t, int64_t in_ms)
{
	t->due_ms = loop_now_ms() + in_ms;
	wheel_schedule(&wheel, &t->entry, t->due_ms);
}

int
main(void)
{
	struct tap_random random = {3};
	bool early = false, tardy = false, once = true;

	loop_init();
	wheel_init(&wheel, on_due);
	for (int i = 0; i < TIMERS; i++)
		schedule(&timers[i], i == 0 ? 1 : (int64_t)tap_random(&random, 1500));
	left = TIMERS + 1;
	schedule(&again, 100);
	schedule(&gone, 1200);
	schedule(&late, (int64_t)WHEEL_SLOTS * WHEEL_TICK_MS * 3);
	schedule(&timers[TIMERS - 1], 10);
	wheel_schedule(&wheel, &timers[TIMERS - 2].entry, timers[TIMERS - 2].due_ms + 60000);
	loop_run();
	for (int i = 0; i < TIMERS; i++) {
		early = early || timers[i].called_ms < timers[i].due_ms;
		tardy = tardy || timers[i].called_ms > timers[i].due_ms + 2 * WHEEL_TICK_MS + SLACK_MS;
		once = once && timers[i].calls == 1;
	}
	ok(!early, "none is called before it is due");
	ok(!tardy, "nor much later, also where it was to be later, or is asked for later as well");
	ok(once, "and each once");
	is_int(again.calls, 3, "one schedules itself again from inside");
	is_int(gone.calls, 0, "one that was cancelled from inside another's call is not called");
	is_int(late.calls, 0, "nor one that is due when the wheel has gone round several times");
	ok(late.entry.due_ms != 0, "it is still there");
	wheel_cancel(&late.entry);
	wheel_cancel(&late.entry);
	ok(late.entry.due_ms == 0, "and can be cancelled, twice");
	wheel_free(&wheel);
	loop_free();
	return tap_end();
}
