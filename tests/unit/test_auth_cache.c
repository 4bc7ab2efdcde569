/* What is remembered of users, and what has changed: src/client/auth_cache.c. Times are in ms. */
#include "config.h"
#include "client/auth_cache.h"
#include "core/conf.h"
#include "core/metrics.h"

#include "tap.h"

static bool heard = true;

static bool
hears(void)
{
	return heard;
}

static struct slice
text(const char *s)
{
	return (struct slice){s, strlen(s)};
}

static void
keep(const char *key, int64_t user_id, const char *answer, int64_t life_ms, int64_t now_ms)
{
	auth_cache_keep(text(key), user_id, text(answer), life_ms, auth_cache_version(), now_ms);
}

static bool
knows(const char *key, const char *answer, int64_t now_ms)
{
	const struct slice *found = auth_cache_find(text(key), now_ms);

	return answer == NULL ? found == NULL : found != NULL && slice_is(*found, answer);
}

static void
begin(void)
{
	conf.authenticate_cache_ms = 5000;
	heard = true;
	auth_cache_init(hears);
}

static void
test_time(void)
{
	begin();
	keep("a", 1, "anna", -1, 1000);
	keep("b", 2, "bert", 700, 1000);
	keep("c", 3, "", 60000, 1000);
	ok(knows("a", "anna", 5999) && knows("c", "", 5999), "an answer is known for the setting's time");
	ok(knows("a", NULL, 6000) && knows("c", NULL, 6000), "and not for longer, however long it is good");
	ok(knows("b", NULL, 1700), "nor for longer than it is good");
	keep("d", 4, "dora", 0, 1000);
	ok(knows("d", NULL, 1000), "one that has expired is not kept");
	ok(knows("anna", NULL, 1000) && knows("", NULL, 1000), "what nobody kept is not known");
	keep("a", 1, "anna", -1, 10000);
	keep("a", 1, "anne", -1, 14000);
	ok(knows("a", "anne", 18999), "a newer answer takes the place of the former one");
	is_int((long long)metrics[METRIC_AUTH_CACHE_ENTRIES], 1, "which is gone, like all that has expired");
	auth_cache_free();
	is_int((long long)metrics[METRIC_AUTH_CACHE_ENTRIES], 0, "nothing is left");
}

static void
test_changes(void)
{
	uint64_t before;

	begin();
	keep("a", 1, "anna", -1, 0);
	keep("a2", 1, "anna", -1, 0);
	keep("b", 2, "bert", -1, 0);
	before = auth_cache_version();
	ok(!auth_cache_has_changed(1, before), "nothing has changed");
	auth_cache_forget_user(1);
	ok(knows("a", NULL, 1) && knows("a2", NULL, 1), "a user's change makes forget all of this user's");
	ok(knows("b", "bert", 1), "and nobody else's");
	ok(auth_cache_has_changed(1, before) && !auth_cache_has_changed(2, before),
	    "it is this user's change");
	ok(!auth_cache_has_changed(1, auth_cache_version()), "which those who ask now know of");
	auth_cache_keep(text("a"), 1, text("anna"), -1, before, 2);
	auth_cache_keep(text("c"), 3, text("carl"), -1, before, 2);
	ok(knows("a", NULL, 2), "an answer that the change has overtaken is not kept");
	ok(knows("c", "carl", 2), "one about somebody else is");
	auth_cache_forget_all();
	ok(knows("b", NULL, 3) && knows("c", NULL, 3), "everything can be forgotten");
	ok(auth_cache_has_changed(2, before) && auth_cache_has_changed(77, before),
	    "that is everybody's change");
	auth_cache_forget_user(99);
	ok(auth_cache_has_changed(99, before), "also a user of whom nothing was known may change");
	auth_cache_free();
}

static void
test_many_changes(void)
{
	uint64_t before;
	bool known = true;

	begin();
	before = auth_cache_version();
	auth_cache_forget_user(7);
	for (int64_t id = 100; id < 163; id++) {
		known = known && auth_cache_has_changed(7, before) && !auth_cache_has_changed(8, before);
		auth_cache_forget_user(id);
	}
	ok(known, "each of some changes is known, and whose it was");
	auth_cache_forget_user(163);
	ok(auth_cache_has_changed(8, before), "after more than these, anybody may have changed");
	ok(!auth_cache_has_changed(8, before + 1), "for those who asked after the first of them, not");
	auth_cache_free();
}

static void
test_bounds(void)
{
	char key[32], *large = malloc(1024 * 1024 + 1);
	int found = 0;

	begin();
	keep("often", 1, "used", -1, 0);
	for (int i = 0; i < AUTH_CACHE_ENTRIES + 100; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		keep(key, i % 1000, "x", -1, 0);
		knows("often", "used", 0);
	}
	is_int((long long)metrics[METRIC_AUTH_CACHE_ENTRIES], AUTH_CACHE_ENTRIES, "so many are kept at most");
	ok(knows("key 100", NULL, 0) && knows("key 101", "x", 0), "those that were used least recently go");
	ok(knows("often", "used", 0), "one that is used stays");
	memset(large, 'x', 1024 * 1024);
	large[1024 * 1024] = '\0';
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "large %d", i);
		keep(key, 5, large, -1, 0);
	}
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "large %d", i);
		found += knows(key, large, 0);
	}
	is_int(found, 7, "nor do they take more than 8 MB");
	ok(knows("large 19", large, 0), "the last one is there");
	free(large);
	auth_cache_free();
}

static void
test_off(void)
{
	begin();
	keep("a", 1, "anna", -1, 0);
	heard = false;
	ok(knows("a", NULL, 1), "nothing is known while changes are not heard of");
	keep("b", 2, "bert", -1, 1);
	heard = true;
	ok(knows("b", NULL, 2), "nor is anything kept then");
	conf.authenticate_cache_ms = 0;
	ok(knows("a", NULL, 2), "nor is anything known with authenticate_cache = 0s");
	keep("c", 3, "carl", -1, 2);
	conf.authenticate_cache_ms = 5000;
	ok(knows("c", NULL, 3), "nor kept");
	conf.authenticate_cache_ms = 0;
	auth_cache_forget_user(4);
	ok(auth_cache_has_changed(4, auth_cache_version() - 1), "but changes are known all the same");
	auth_cache_free();
}

int
main(void)
{
	test_time();
	test_changes();
	test_many_changes();
	test_bounds();
	test_off();
	return tap_end();
}
