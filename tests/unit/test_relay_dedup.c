/* What several relays bring: src/client/relay_dedup.c, against a model that remembers all. */
#include "config.h"
#include "client/relay_dedup.h"

#include "tap.h"

static bool
pass(uint64_t relay, const char *group, const char *text, int64_t now_ms)
{
	return relay_dedup_pass(relay, group, (struct slice){text, strlen(text)}, now_ms);
}

static void
test_once(void)
{
	ok(pass(1, "a-1", "x", 0), "what nobody brought before");
	ok(!pass(2, "a-1", "x", 1), "is brought by another one");
	ok(!pass(3, "a-1", "x", 2), "and a third");
	ok(pass(2, "a-2", "x", 3), "another group is another message");
	ok(pass(2, "a-1", "y", 4), "and so is another text");
	ok(pass(2, "a-1y", "", 5), "and so is what only looks alike");
	ok(pass(2, "a-1", "", 6), "an empty one, too");
	ok(!pass(1, "a-1", "", 7), "which is known again");
	is_int((long long)relay_dedup_count(), 5, "five were delivered");
	relay_dedup_free();
}

static void
test_repeated(void)
{
	ok(pass(1, "a-1", "x", 0) && pass(1, "a-1", "x", 0) && pass(1, "a-1", "x", 0),
	    "one brings it three times");
	ok(!pass(2, "a-1", "x", 1) && !pass(2, "a-1", "x", 1) && !pass(2, "a-1", "x", 1),
	    "so does another one");
	ok(pass(2, "a-1", "x", 2), "whose fourth is more than there were");
	ok(!pass(1, "a-1", "x", 3), "and is the first one's fourth");
	relay_dedup_free();
}

static void
test_time(void)
{
	ok(pass(1, "a-1", "x", 1000), "what was brought");
	ok(!pass(2, "a-1", "x", 60999), "is the same within a minute");
	ok(pass(3, "a-1", "x", 61000), "and not after one");
	ok(!pass(1, "a-1", "x", 61001), "when it counts anew for all");
	ok(!pass(2, "a-1", "x", 61002), "whenever they brought the former one");
	relay_dedup_free();
	for (int64_t t = 0; t < 1000000; t += 25000)
		if (!pass(1, "a-1", "x", t))
			ok(false, "again at %lld", (long long)t);
	ok(!pass(2, "a-1", "x", 975001) && !pass(2, "a-1", "x", 975001) && !pass(2, "a-1", "x", 975001) &&
		pass(2, "a-1", "x", 975001),
	    "of what comes ever again, the last minute's count");
	relay_dedup_age(975001 + 60000);
	is_int((long long)relay_dedup_count(), 0, "after a minute nothing is remembered");
	relay_dedup_free();
}

static void
test_forget(void)
{
	ok(pass(1, "a-1", "x", 0) && pass(1, "a-1", "x", 0), "a relay brings it twice");
	relay_dedup_forget(1);
	relay_dedup_forget(7);
	ok(!pass(2, "a-1", "x", 1) && !pass(2, "a-1", "x", 1) && pass(2, "a-1", "x", 1),
	    "when it has gone, that is still known");
	relay_dedup_forget(2);
	relay_dedup_forget(2);
	relay_dedup_free();
}

static void
test_bound(void)
{
	char text[24];
	bool all = true;

	for (int i = 0; i < RELAY_DEDUP_MAX + 10; i++) {
		snprintf(text, sizeof(text), "%d", i);
		all = all && pass(1, "a-1", text, 0);
	}
	ok(all, "more than fit are delivered all the same");
	is_int((long long)relay_dedup_count(), RELAY_DEDUP_MAX, "so many are remembered");
	ok(pass(2, "a-1", "0", 0), "the oldest are not");
	ok(!pass(2, "a-1", "100009", 0) && !pass(2, "a-1", "5000", 0), "the others are");
	all = true;
	for (int i = 0; i < 2 * RELAY_DEDUP_MAX; i++)
		all = all && pass(1, "a-1", "x", 0);
	ok(all, "one that is brought without end by one relay");
	is_int((long long)relay_dedup_count(), RELAY_DEDUP_MAX, "takes no more");
	ok(!pass(2, "a-1", "x", 0), "and is known");
	relay_dedup_free();
}

/* ---- at random ---- */

#define MODEL_RELAYS 5
#define MODEL_TEXTS  4
#define MODEL_STEPS  40000

/* A delivery; who has brought it, too. */
struct delivery {
	int64_t time_ms;
	int text;
	bool brought[MODEL_RELAYS];
};

static bool
model_pass(struct delivery *all, size_t *count, int relay, int text, int64_t now_ms)
{
	struct delivery *fresh;

	for (size_t i = *count > 1000 ? *count - 1000 : 0; i < *count; i++) {
		struct delivery *d = &all[i];

		if (d->text != text || d->time_ms <= now_ms - RELAY_DEDUP_MS || d->brought[relay])
			continue;
		d->brought[relay] = true;
		return false;
	}
	fresh = &all[(*count)++];
	*fresh = (struct delivery){.time_ms = now_ms, .text = text};
	fresh->brought[relay] = true;
	return true;
}

static void
test_random(void)
{
	static struct delivery all[MODEL_STEPS];
	struct tap_random random = {4711};
	size_t count = 0, differ = 0;
	int64_t now_ms = 0;

	diag("seed 4711");
	for (int i = 0; i < MODEL_STEPS; i++) {
		int relay = (int)tap_random(&random, MODEL_RELAYS),
		    text = (int)tap_random(&random, MODEL_TEXTS);
		char name[2] = {(char)('a' + text), '\0'};

		now_ms +=
		    tap_random(&random, 50) == 0 ? tap_random(&random, 90000) : tap_random(&random, 1000);
		if (model_pass(all, &count, relay, text, now_ms) !=
		    pass((uint64_t)relay + 1, "a-1", name, now_ms))
			differ++;
	}
	is_int((long long)differ, 0, "%d messages of %d relays pass as in the model, which lets %zu pass",
	    MODEL_STEPS, MODEL_RELAYS, count);
	relay_dedup_free();
}

int
main(void)
{
	test_once();
	test_repeated();
	test_time();
	test_forget();
	test_bound();
	test_random();
	return tap_end();
}
