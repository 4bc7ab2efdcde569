/* Turns of the event loop and what runs at their end: src/core/loop.c. */
#include "config.h"
#include "core/loop.h"
#include "core/mem.h"

#include "tap.h"

#include <event2/event.h>
#include <unistd.h>

/* What happened, one letter each. */
static char happened[256];

static void
note(char c)
{
	size_t len = strlen(happened);

	if (len + 1 < sizeof(happened))
		happened[len] = c;
}

static void
forget(void)
{
	memset(happened, 0, sizeof(happened));
}

/* A task that notes its letter and then does what its test wants. */
struct doer {
	struct loop_task task;
	char letter;
	int again; /* queues itself so many times more */
	struct doer *queues, *cancels;
	char *releases;
	bool stops;
};

static void
release_note(void *ptr)
{
	note(*(char *)ptr);
}

static void
doer_run(void *arg)
{
	struct doer *d = arg;

	note(d->letter);
	if (d->again > 0) {
		d->again--;
		loop_task_queue(&d->task);
	}
	if (d->queues != NULL)
		loop_task_queue(&d->queues->task);
	if (d->cancels != NULL)
		loop_task_cancel(&d->cancels->task);
	if (d->releases != NULL)
		loop_release(release_note, d->releases);
	if (d->stops)
		loop_stop();
}

static void
doer_init(struct doer *d, char letter)
{
	*d = (struct doer){.letter = letter};
	loop_task_init(&d->task, doer_run, d);
}

static void
test_order(void)
{
	struct doer a, b, c;

	doer_init(&a, 'a');
	doer_init(&b, 'b');
	doer_init(&c, 'c');
	forget();
	loop_settle();
	is_str(happened, "", "without tasks nothing happens");
	loop_task_queue(&b.task);
	loop_task_queue(&a.task);
	loop_task_queue(&c.task);
	loop_task_queue(&b.task);
	loop_task_queue(&b.task);
	loop_settle();
	is_str(happened, "bac", "tasks run in the order they were queued in, each once");
	forget();
	loop_settle();
	is_str(happened, "", "and not again");
	loop_task_queue(&b.task);
	loop_settle();
	is_str(happened, "b", "unless they are queued again");
}

static void
test_cancel(void)
{
	struct doer d[4];

	for (int i = 0; i < 4; i++)
		doer_init(&d[i], (char)('a' + i));
	for (int which = 0; which < 4; which++) {
		char want[8] = "", *p = want;

		forget();
		for (int i = 0; i < 4; i++) {
			loop_task_queue(&d[i].task);
			if (i != which)
				*p++ = (char)('a' + i);
		}
		loop_task_cancel(&d[which].task);
		loop_task_cancel(&d[which].task);
		loop_settle();
		is_str(happened, want, "task %d of 4 cancelled, twice", which + 1);
	}
	forget();
	loop_task_queue(&d[0].task);
	loop_task_queue(&d[1].task);
	loop_task_cancel(&d[1].task);
	loop_task_queue(&d[2].task);
	loop_task_cancel(&d[0].task);
	loop_task_queue(&d[0].task);
	loop_settle();
	is_str(happened, "ca", "queueing behind a cancelled last one, and anew");
}

static void
test_inside(void)
{
	struct doer a, b, c;

	doer_init(&a, 'a');
	doer_init(&b, 'b');
	doer_init(&c, 'c');
	a.again = 2;
	a.queues = &b;
	forget();
	loop_task_queue(&a.task);
	loop_settle();
	is_str(happened, "a", "what a task queues is the next turn's, itself or another");
	loop_settle();
	is_str(happened, "aab", "it runs then");
	loop_settle();
	loop_settle();
	is_str(happened, "aabab", "and what was in the turn already is in it once");
	forget();
	a.queues = NULL;
	a.cancels = &c;
	loop_task_queue(&a.task);
	loop_task_queue(&b.task);
	loop_task_queue(&c.task);
	loop_settle();
	is_str(happened, "ab", "a task cancels a later one of its turn, the last");
	forget();
	a.cancels = &b;
	loop_task_queue(&a.task);
	loop_task_queue(&b.task);
	loop_task_queue(&c.task);
	loop_settle();
	is_str(happened, "ac", "or one in the middle");
	forget();
	a.cancels = &a;
	loop_task_queue(&a.task);
	loop_settle();
	is_str(happened, "a", "or itself, which runs already");
	forget();
	a.cancels = &b;
	a.queues = &b;
	loop_task_queue(&a.task);
	loop_settle();
	loop_settle();
	is_str(happened, "a", "or what it has just queued for the next turn");
}

static void
test_release(void)
{
	static char x = 'x', y = 'y';
	struct doer a, b;

	doer_init(&a, 'a');
	doer_init(&b, 'b');
	a.releases = &x;
	b.releases = &y;
	forget();
	loop_task_queue(&a.task);
	loop_task_queue(&b.task);
	loop_settle();
	ok(strncmp(happened, "ab", 2) == 0 && strlen(happened) == 4,
	    "memory is released after all tasks of the turn");
	forget();
	loop_release(release_note, &x);
	is_str(happened, "", "and never at once");
	loop_settle();
	is_str(happened, "x", "but at the end of the turn");
	loop_release(free, mem_alloc(10));
	loop_settle();
}

/* ---- turns ---- */

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct doer *d = arg;

	note('t');
	loop_task_queue(&d->task);
	note('u');
}

static void
test_run(void)
{
	struct timeval soon = {0, 1000};
	struct event *timer;
	struct doer a;
	int64_t before = loop_now_ms(), before_us = loop_now_us();

	doer_init(&a, 'a');
	forget();
	loop_run();
	is_str(happened, "", "a loop with nothing to wait for ends");
	a.again = 3;
	loop_task_queue(&a.task);
	loop_run();
	is_str(happened, "aaaa", "tasks alone keep it turning until there are none");
	forget();
	timer = evtimer_new(loop_base(), on_timer, &a);
	evtimer_add(timer, &soon);
	loop_run();
	is_str(happened, "tua", "a task runs at the end of the turn in which a timer queued it");
	ok(loop_now_us() > before_us && loop_now_ms() >= before, "clocks go forward");
	forget();
	soon.tv_usec = 30000;
	evtimer_add(timer, &soon);
	before = loop_now_ms();
	loop_run();
	ok(loop_now_ms() - before >= 25, "the turn's clock is the one after waiting");
	event_free(timer);
}

static void
test_stop(void)
{
	struct timeval long_after = {3600, 0};
	struct event *timer;
	struct doer a;

	doer_init(&a, 'a');
	forget();
	timer = evtimer_new(loop_base(), on_timer, &a);
	evtimer_add(timer, &long_after);
	a.stops = true;
	a.again = 100;
	loop_task_queue(&a.task);
	loop_run();
	is_str(happened, "a", "loop_stop() ends it, whatever it waits for");
	event_free(timer);
	loop_task_cancel(&a.task);
}

/* A hundred tasks of a millisecond each. */
static struct doer slow[100];
static int slow_done, passes;
static struct loop_task pass;

static void
slow_run(void *arg)
{
	int64_t until_us = loop_now_us() + 1000;

	while (loop_now_us() < until_us)
		continue;
	if (++slow_done == (int)ARRAY_LENGTH(slow))
		loop_stop();
}

static void
on_every_pass(evutil_socket_t fd, short what, void *arg)
{
	struct timeval none = {0, 0};

	passes += slow_done > 0 && loop_is_behind();
	event_add(*(struct event **)arg, &none);
}

static void
pass_run(void *arg)
{
	*(int *)arg = slow_done;
}

static void
test_shares(void)
{
	struct timeval none = {0, 0};
	struct event *every;
	int after = -1;

	loop_init();
	every = evtimer_new(loop_base(), on_every_pass, &every);
	event_add(every, &none);
	for (size_t i = 0; i < ARRAY_LENGTH(slow); i++) {
		loop_task_init(&slow[i].task, slow_run, NULL);
		loop_task_queue(&slow[i].task);
	}
	loop_task_init(&pass, pass_run, &after);
	loop_task_queue(&pass);
	ok(!loop_is_behind(), "before a turn ends nothing is behind");
	loop_run();
	ok(slow_done == (int)ARRAY_LENGTH(slow) && passes >= 3,
	    "much work is done in shares: timers ran %d times between", passes);
	event_free(every);
	loop_free();
	is_int(after, slow_done, "in the order in which it was asked for");
}

static void
test_share_used(void)
{
	int64_t start_us = loop_now_us();

	loop_init();
	ok(!loop_share_is_used(), "a share begins when it is asked for");
	while (!loop_share_is_used())
		continue;
	ok(loop_now_us() - start_us >= 1000, "and lasts for a while");
	loop_settle();
	ok(!loop_share_is_used(), "the next pass has another one");
	loop_free();
}

/* What is left when the loop goes is done. */
static void
test_free(void)
{
	static char x = 'x';
	struct doer a;

	doer_init(&a, 'a');
	loop_init();
	forget();
	loop_task_queue(&a.task);
	loop_release(release_note, &x);
	loop_free();
	is_str(happened, "ax", "freeing the loop does what is queued");
	loop_init();
	loop_run();
	ok(loop_base() != NULL, "and it can be made anew");
	loop_free();
}

int
main(void)
{
	loop_init();
	test_order();
	test_cancel();
	test_inside();
	test_release();
	test_run();
	test_stop();
	loop_free();
	test_free();
	test_shares();
	test_share_used();
	return tap_end();
}
