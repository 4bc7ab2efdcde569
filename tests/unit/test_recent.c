/* Topics that came lately: src/relay/recent.c, against topic_parse(). */
#include "config.h"
#include "core/mem.h"
#include "relay/recent.h"

#include "tap.h"

static bool
same_slice(struct slice a, struct slice b)
{
	return a.ptr == b.ptr && a.len == b.len;
}

/* Does it take the text off, and answer as topic_parse() does? The line is a copy that is gone afterwards. */
static bool
takes(const char *text, const char *behind, struct recent_topic **recent)
{
	char whole[2 * EVENT_TOPIC_MAX];
	size_t len = strlen(text), size = (size_t)snprintf(whole, sizeof(whole), "%s%s", text, behind);
	char *copy = tap_copy(whole, size);
	struct slice rest = {copy, size};
	struct topic got, want;
	bool valid = *behind == ' ' && topic_parse((struct slice){copy, len}, false, &want);
	bool right = recent_take(&rest, &got, recent) == valid;

	if (right && valid)
		right = same_slice(got.type, want.type) && same_slice(got.action, want.action) &&
			same_slice(got.key, want.key) && rest.ptr == copy + len + 1 &&
			rest.len == size - len - 1;
	free(copy);
	return right;
}

static bool
is_right(const char *text, struct recent_topic **recent)
{
	return takes(text, " {}", recent);
}

static void
test_texts(void)
{
	static const char *const texts[] = {"a.b.c", "a.b.", "job_events.insert.4711", "ab.c.d", "a.bc.d",
	    "a.b.cd", "", ".", "..", "a", "a.b", "a..c", ".b.c", "a.b.*", "*.b.c", "a.b.%20", "a.b.%2",
	    "a.b.c.d", "a.b.1234567", "a.b.12345678", "a.b.123456789"};
	struct recent_topic *recent;
	char longest[EVENT_TOPIC_MAX + 1];
	bool right = true;

	for (int again = 0; again < 2; again++)
		for (size_t i = 0; i < ARRAY_LENGTH(texts); i++)
			if (!is_right(texts[i], &recent) || !takes(texts[i], " ", &recent) ||
			    !takes(texts[i], "", &recent) || !takes(texts[i], "     {\"a\": 1}  ", &recent)) {
				diag("\"%s\"", texts[i]);
				right = false;
			}
	ok(right, "topics, and what is none, the first time and the second, whatever stands behind them");
	for (size_t len = 1; len <= 255; len++) {
		snprintf(longest, sizeof(longest), "a.b.%0*d", (int)len, 7);
		right = right && is_right(longest, &recent) && is_right(longest, &recent) &&
			(recent != NULL) == (strlen(longest) <= RECENT_TEXT_MAX);
	}
	ok(right, "of any length; those that are too long are not kept");
}

static void
test_memory(void)
{
	struct recent_topic *recent, *again;

	ok(is_right("memory.of.1", &recent) && recent != NULL && recent->unwanted == 0,
	    "nothing is known of a new one");
	recent->unwanted = 17;
	ok(is_right("memory.of.1", &again) && again == recent && again->unwanted == 17,
	    "what is noted is found again");
	ok(is_right("memory.of.2", &again) && again->unwanted == 0, "another one's is not taken for it");
}

/* Many more than there is room for, so that each place is taken over and over. */
static void
test_many(void)
{
	struct tap_random random = {271828};
	struct recent_topic *recent;
	unsigned long known = 0;
	bool right = true;

	diag("seed 271828");
	for (int i = 0; right && i < 300000; i++) {
		uint32_t n = tap_random(&random, 30000);
		char text[64];

		snprintf(text, sizeof(text), "%s.t%u.%u", n % 7 == 0 ? "long_type_of_events" : "t", n % 5, n);
		right = is_right(text, &recent) && (recent->unwanted == 0 || recent->unwanted == n + 1);
		known += recent->unwanted != 0;
		recent->unwanted = n + 1;
	}
	ok(right, "of 30,000 topics each has what was noted of it, or nothing");
	ok(known > 10000 && known < 290000, "%lu of 300,000 were there", known);
}

int
main(void)
{
	test_texts();
	test_memory();
	test_many();
	return tap_end();
}
