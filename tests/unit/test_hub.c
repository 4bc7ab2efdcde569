/* Who gets what: the pattern index, src/relay/hub.c, against a list that is searched from end to end. */
#include "config.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/hub.h"

#include "tap.h"

#define MEMBERS      24
#define PATTERNS_MAX 12
#define MANY         10000

/* A member, and what the naive matcher knows of it. */
struct member {
	struct hub_member hub;
	char patterns[PATTERNS_MAX][64];
	size_t count; /* repeated ones included */
	int got;
	struct msg *msg;
};

static struct member members[MEMBERS];

static void
member_deliver(struct hub_member *h, struct msg_run *run)
{
	struct member *m = (struct member *)h;

	m->got += (int)run->count;
	m->msg = run->msgs;
}

static void
members_init(void)
{
	hub_init();
	memset(members, 0, sizeof(members));
	for (int i = 0; i < MEMBERS; i++)
		members[i].hub.deliver = member_deliver;
}

static struct topic
topic_of(const char *text)
{
	struct topic t;

	if (!topic_parse((struct slice){text, strlen(text)}, true, &t))
		abort();
	return t;
}

/* Subscribes from a copy that is gone afterwards: the hub keeps its own. */
static void
member_set(struct member *m, const char *const *patterns, size_t count)
{
	struct topic topics[PATTERNS_MAX] = {0};
	char *copies[PATTERNS_MAX];

	for (size_t i = 0; i < count; i++) {
		copies[i] = tap_copy(patterns[i], strlen(patterns[i]) + 1);
		topics[i] = topic_of(copies[i]);
	}
	hub_set_patterns(&m->hub, topics, count);
	for (size_t i = 0; i < count; i++) {
		memset(copies[i], '!', strlen(copies[i]));
		free(copies[i]);
	}
}

static size_t
deliver(const char *text)
{
	struct topic t = topic_of(text);
	struct msg msg = {.topic = &t, .payload = {"{}", 2}};
	size_t n;

	for (int i = 0; i < MEMBERS; i++) {
		members[i].got = 0;
		members[i].msg = NULL;
	}
	n = hub_deliver(&msg);
	for (int i = 0; i < MEMBERS; i++)
		if (members[i].got > 0 && members[i].msg != &msg)
			abort();
	return n;
}

static bool
selects(const struct member *m, const char *text)
{
	struct topic t = topic_of(text);
	bool selected;

	hub_select(&m->hub);
	selected = hub_selects(&t);
	hub_unselect(&m->hub);
	if (hub_selects(&t))
		abort(); /* nobody is selected now */
	return selected;
}

static bool
wants(const char *text)
{
	bool wanted = false;

	for (int i = 0; i < MEMBERS && !wanted; i++)
		wanted = selects(&members[i], text);
	return wanted;
}

#define SET(m, ...)                                                                                          \
	do {                                                                                                 \
		const char *const list[] = {__VA_ARGS__};                                                    \
		member_set(m, list, ARRAY_LENGTH(list));                                                     \
	} while (0)

static void
members_clear(void)
{
	for (int i = 0; i < MEMBERS; i++)
		hub_set_patterns(&members[i].hub, NULL, 0);
}

/* ---- each shape by itself ---- */

static const char *const shapes[] = {"*.*.*", "a.*.*", "*.b.*", "a.b.*", "*.*.c", "a.*.c", "*.b.c", "a.b.c"};

static void
test_shapes(void)
{
	static const char *const topics[] = {
	    "x.y.z", "a.y.z", "x.b.z", "a.b.z", "x.y.c", "a.y.c", "x.b.c", "a.b.c"};

	members_init();
	for (unsigned shape = 0; shape < 8; shape++) {
		unsigned matched = 0, wanted = 0;

		SET(&members[0], shapes[shape]);
		for (unsigned topic = 0; topic < 8; topic++) {
			matched |= deliver(topics[topic]) == 1 ? 1u << topic : 0;
			wanted |= (topic & shape) == shape
				      ? 1u << topic
				      : 0; /* bit by bit: a part that the pattern names */
			if (wants(topics[topic]) != ((topic & shape) == shape))
				matched = ~0u;
		}
		is_int(matched, wanted, "%s matches what it must", shapes[shape]);
	}
	members_clear();
	for (unsigned shape = 0; shape < 8; shape++)
		SET(&members[shape], shapes[shape]);
	is_int((long long)deliver("a.b.c"), 8, "an event finds all eight shapes at once");
	is_int((long long)deliver("x.y.z"), 1, "an event that only *.*.* matches");
	members_clear();
	hub_free();
}

static void
test_once(void)
{
	members_init();
	member_set(&members[0], shapes, 8);
	is_int((long long)members[0].hub.count, 8, "a member with eight patterns has eight subscriptions");
	is_int((long long)deliver("a.b.c"), 1, "a member with eight matching patterns counts once");
	is_int(members[0].got, 1, "and gets the event once");
	is_int((long long)deliver("a.b.c"), 1, "and gets the next one, too");
	SET(&members[0], "a.b.c", "a.b.c", "a.*.c", "a.b.c");
	is_int((long long)members[0].hub.count, 2, "repeated patterns are one subscription");
	is_int((long long)metrics[METRIC_SUBSCRIPTIONS], 2, "the gauge of subscriptions says so");
	is_int((long long)metrics[METRIC_PATTERNS], 2, "the gauge of patterns, too");
	SET(&members[1], "a.b.c");
	is_int((long long)metrics[METRIC_PATTERNS], 2, "a pattern of two members is one");
	is_int((long long)metrics[METRIC_SUBSCRIPTIONS], 3, "and two subscriptions");
	is_int((long long)deliver("a.b.c"), 2, "both get the event");
	members_clear();
	hub_free();
}

/* ---- one member's patterns ---- */

static void
test_select(void)
{
	struct topic both = topic_of("a.b.both"), first = topic_of("a.b.first"),
		     second = topic_of("a.b.second");

	members_init();
	hub_select(&members[0].hub);
	ok(!hub_selects(&both), "a member without patterns selects nothing");
	hub_unselect(&members[0].hub);
	SET(&members[0], "a.b.first", "a.b.both", "*.*.both");
	SET(&members[1], "a.b.second", "a.b.both");
	ok(!hub_selects(&both) && !hub_selects(&first), "while no member is selected nothing is");
	hub_select(&members[0].hub);
	ok(hub_selects(&first) && hub_selects(&both) && hub_selects(&first), "what a member has is selected");
	ok(!hub_selects(&second), "what another one has is not");
	is_int((long long)deliver("a.b.both"), 2, "it makes no difference to deliveries");
	hub_unselect(&members[0].hub);
	hub_select(&members[1].hub);
	ok(hub_selects(&second) && hub_selects(&both) && !hub_selects(&first), "then another member's are");
	hub_unselect(&members[1].hub);
	ok(!hub_selects(&second) && !hub_selects(&both), "then none");
	SET(&members[0], "a.b.second");
	is_int((long long)members[0].hub.count, 1, "after that a member's set is replaced as ever");
	ok(selects(&members[0], "a.b.second") && !selects(&members[0], "a.b.first"),
	    "and selects what it has then");
	members_clear();
	hub_free();
}

/* ---- replacing ---- */

static void
test_replace(void)
{
	members_init();
	SET(&members[0], "a.b.left", "a.b.kept");
	SET(&members[1], "a.b.left");
	SET(&members[0], "a.b.kept", "a.b.joined");
	is_int((long long)deliver("a.b.kept"), 1, "what was kept is still there");
	is_int((long long)deliver("a.b.joined"), 1, "what was joined has come");
	deliver("a.b.left");
	ok(members[0].got == 0 && members[1].got == 1, "what was left has gone, for that member alone");
	is_int((long long)members[0].hub.count, 2, "the member's count is the new set's");
	hub_set_patterns(&members[1].hub, NULL, 0);
	ok(!wants("a.b.left"), "nobody wants what the last one has left");
	is_int((long long)metrics[METRIC_PATTERNS], 2, "and the pattern is forgotten");
	SET(&members[0], "a.b.kept", "a.b.joined");
	is_int((long long)deliver("a.b.joined"), 1, "the same set again changes nothing");
	hub_set_patterns(&members[0].hub, NULL, 0);
	ok(members[0].hub.subscriptions == NULL && members[0].hub.count == 0, "an empty set leaves all");
	ok(!wants("a.b.kept") && deliver("a.b.kept") == 0, "nothing is delivered after that");
	is_int((long long)metrics[METRIC_PATTERNS], 0, "no pattern is left");
	is_int((long long)metrics[METRIC_SUBSCRIPTIONS], 0, "no subscription is left");
	hub_free();
}

/* A list in the middle of which members come and go. */
static void
test_neighbours(void)
{
	members_init();
	for (int i = 0; i < MEMBERS; i++)
		SET(&members[i], "a.b.c");
	for (int i = 1; i < MEMBERS; i += 2)
		hub_set_patterns(&members[i].hub, NULL, 0);
	is_int((long long)deliver("a.b.c"), MEMBERS / 2, "every second member of a pattern has gone");
	hub_set_patterns(&members[0].hub, NULL, 0);
	hub_set_patterns(&members[MEMBERS - 2].hub, NULL, 0);
	is_int((long long)deliver("a.b.c"), MEMBERS / 2 - 2, "the first and the last, too");
	members_clear();
	ok(!wants("a.b.c"), "and the rest");
	hub_free();
}

/* Parts are kept one behind the other: what looks the same then must not be the same. */
static void
test_borders(void)
{
	members_init();
	SET(&members[0], "ab.c.d");
	ok(deliver("a.bc.d") == 0 && deliver("ab.cd.") == 0 && deliver("ab.c.d") == 1,
	    "parts are compared each by itself");
	SET(&members[0], "a.*.b");
	ok(deliver("a.b.") == 0 && deliver("ab.x.") == 0 && deliver("a.x.b") == 1, "around a wildcard, too");
	SET(&members[0], "a.b.");
	ok(deliver("a.b.x") == 0 && deliver("a.b.") == 1, "an empty key is a key, not a wildcard");
	SET(&members[0], "a.b.%2A");
	ok(deliver("a.b.x") == 0 && deliver("a.b.%2A") == 1, "a literal asterisk is no wildcard");
	SET(&members[0], "a.b.c.d");
	ok(deliver("a.b.c") == 0 && deliver("a.b.c.d") == 1, "a key holds dots");
	SET(&members[0], "a.b.\xc3\xa4");
	ok(deliver("a.b.\xc3\xb6") == 0 && deliver("a.b.\xc3\xa4") == 1, "a key holds UTF-8");
	members_clear();
	hub_free();
}

/* ---- random sets against the naive matcher ---- */

static const char *const words[] = {"a", "b", "ab", "bc", "abcdefgh", "abcdefghi"};
static const char *const keys[] = {"", "a", "bc", "12345678", "123456789", "1.2", "%2A", "x%20y"};

static void
random_topic(struct tap_random *random, bool wildcards, char *text, size_t size)
{
	const char *parts[3];

	parts[0] = words[tap_random(random, ARRAY_LENGTH(words))];
	parts[1] = words[tap_random(random, ARRAY_LENGTH(words))];
	parts[2] = keys[tap_random(random, ARRAY_LENGTH(keys))];
	for (int i = 0; i < 3; i++)
		if (wildcards && tap_random(random, 3) == 0)
			parts[i] = "*";
	snprintf(text, size, "%s.%s.%s", parts[0], parts[1], parts[2]);
}

static bool
naive_part(struct slice pattern, struct slice part)
{
	return topic_is_wildcard(pattern) || tap_same_octets(pattern.ptr, pattern.len, part.ptr, part.len);
}

static bool
naive_match(const struct member *m, const char *text)
{
	struct topic t = topic_of(text);

	for (size_t i = 0; i < m->count; i++) {
		struct topic p = topic_of(m->patterns[i]);

		if (naive_part(p.type, t.type) && naive_part(p.action, t.action) && naive_part(p.key, t.key))
			return true;
	}
	return false;
}

static size_t
naive_subscriptions(const struct member *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->count; i++) {
		bool repeated = false;

		for (size_t j = 0; j < i; j++)
			repeated = repeated || strcmp(m->patterns[i], m->patterns[j]) == 0;
		n += !repeated;
	}
	return n;
}

static void
random_set(struct tap_random *random, struct member *m)
{
	const char *list[PATTERNS_MAX];

	m->count = tap_random(random, 3) == 0 ? 0 : tap_random(random, PATTERNS_MAX + 1);
	for (size_t i = 0; i < m->count; i++) {
		random_topic(random, true, m->patterns[i], sizeof(m->patterns[i]));
		list[i] = m->patterns[i];
	}
	member_set(m, list, m->count);
}

static bool
delivery_is_right(const char *text)
{
	size_t delivered = deliver(text), wanted = 0;
	bool right = true;

	for (int i = 0; i < MEMBERS; i++) {
		bool match = naive_match(&members[i], text);

		right = right && members[i].got == match && selects(&members[i], text) == match;
		wanted += match;
	}
	if (!right || delivered != wanted)
		diag("%s: delivered to %zu, wanted by %zu", text, delivered, wanted);
	return right && delivered == wanted;
}

static void
test_random(void)
{
	struct tap_random random = {4711};
	bool right = true, counted = true;
	size_t subscriptions;

	members_init();
	diag("seed 4711");
	for (int round = 0; round < 5000; round++) {
		struct member *m = &members[tap_random(&random, MEMBERS)];
		char text[64];

		random_set(&random, m);
		counted = counted && m->hub.count == naive_subscriptions(m);
		for (int i = 0; i < 4; i++) {
			random_topic(&random, false, text, sizeof(text));
			right = delivery_is_right(text) && right;
		}
		subscriptions = 0;
		for (int i = 0; i < MEMBERS; i++)
			subscriptions += members[i].hub.count;
		counted = counted && metrics[METRIC_SUBSCRIPTIONS] == (double)subscriptions;
	}
	ok(right,
	    "5000 random sets, 20000 random events: just those who match, each once; selected, they say so");
	ok(counted, "the subscriptions are counted right all along");
	members_clear();
	is_int((long long)metrics[METRIC_SUBSCRIPTIONS], 0, "no subscription is left");
	is_int((long long)metrics[METRIC_PATTERNS], 0, "no pattern is left");
	hub_free();
}

/* ---- the table's size ---- */

/* The first count of these: type.action.N, every fourth with a wildcard. */
static void
set_many(struct member *m, size_t count)
{
	struct topic *topics = mem_alloc(sizeof(*topics) * MANY);
	char(*texts)[48] = mem_alloc(sizeof(*texts) * MANY);

	for (size_t i = 0; i < count; i++) {
		snprintf(texts[i], sizeof(texts[i]), "job_events.%s.%zu", i % 4 == 0 ? "*" : "new", i);
		topics[i] = topic_of(texts[i]);
	}
	hub_set_patterns(&m->hub, topics, count);
	free(texts);
	free(topics);
}

/* How many of the events 0..MANY-1 are delivered to so many members. */
static size_t
count_delivered(size_t to)
{
	size_t n = 0;
	char text[48];

	for (size_t i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "job_events.new.%zu", i);
		n += deliver(text) == to;
	}
	return n;
}

/* The patterns' written forms, with spaces between, or "too many". */
static const char *
listed(size_t first, size_t last, size_t max)
{
	static char text[1024];
	struct topic patterns[PATTERNS_MAX];
	size_t count = 0, used = 0;

	for (size_t i = first; i <= last; i++)
		count = hub_list(&members[i].hub, patterns, count, max);
	if (count > max)
		return count == max + 1 ? "too many" : "more than that";
	text[0] = '\0';
	for (size_t i = 0; i < count; i++)
		used +=
		    (size_t)snprintf(text + used, sizeof(text) - used, "%s%.*s.%.*s.%.*s", i > 0 ? " " : "",
			(int)patterns[i].type.len, patterns[i].type.ptr, (int)patterns[i].action.len,
			patterns[i].action.ptr, (int)patterns[i].key.len, patterns[i].key.ptr);
	return text;
}

static void
test_list(void)
{
	members_init();
	is_str(listed(0, 0, 4), "", "a member without patterns lists none");
	for (size_t i = 0; i < ARRAY_LENGTH(shapes); i++) {
		const char *shape[] = {shapes[i]};

		member_set(&members[0], shape, 1);
		is_str(listed(0, 0, 1), shapes[i], "a pattern %s is listed as it was given", shapes[i]);
	}
	SET(&members[0], "a.b.%2A");
	SET(&members[1], "a.b.%2A", "a.b.*");
	SET(&members[2], "a.b.*");
	is_str(listed(0, 2, 2), "a.b.%2A a.b.*", "what several have is listed once");
	is_str(listed(0, 2, 1), "too many", "there may be more than fit");
	is_str(listed(0, 0, 0), "too many", "or none fits");
	members_clear();
	hub_free();
}

static void
test_growth(void)
{
	members_init();
	set_many(&members[0], MANY);
	is_int((long long)metrics[METRIC_PATTERNS], MANY, "10000 patterns");
	is_int((long long)count_delivered(1), MANY, "each is found");
	ok(!wants("job_events.new.10000") && !wants("job_events.old.1") && wants("job_events.old.4"),
	    "and nothing else");
	set_many(&members[1], MANY / 2);
	is_int((long long)count_delivered(2), MANY / 2, "a second member has half of them");
	set_many(&members[0], 300);
	is_int((long long)metrics[METRIC_PATTERNS], MANY / 2, "the first one leaves most: the others' stay");
	is_int((long long)count_delivered(2), 300, "what both have is found");
	is_int((long long)count_delivered(1), MANY / 2 - 300, "what one has, too");
	set_many(&members[1], 10);
	is_int((long long)count_delivered(0), MANY - 300, "after the table has shrunk the rest is found");
	set_many(&members[1], 0);
	set_many(&members[0], 0);
	is_int((long long)count_delivered(0), MANY, "and in the end nothing");
	is_int((long long)metrics[METRIC_PATTERNS], 0, "no pattern is left");
	is_int((long long)metrics[METRIC_SUBSCRIPTIONS], 0, "no subscription is left");
	hub_free();
}

/* What nobody wanted is known not to be wanted, until a pattern comes. */
static void
test_version(void)
{
	struct topic t = topic_of("a.b.c"), job = topic_of("jobs.b.c");
	struct hub_match match;
	uint64_t version;

	members_init();
	ok(hub_version() != 0, "a version is not 0");
	ok(!hub_match(&t, &match) && match.count == 0 && !match.by_payload,
	    "without patterns nothing matches");
	version = hub_version();
	SET(&members[0], "x.y.z");
	ok(hub_version() != version, "a pattern that comes changes the version");
	version = hub_version();
	SET(&members[1], "x.y.z");
	ok(hub_version() == version, "a second member of it does not");
	members_clear();
	ok(hub_version() == version, "nor does one that goes");
	SET(&members[0], "a.*.c", "a.b.c", "*.*.*");
	ok(hub_match(&t, &match) && match.count == 3 && !match.by_payload,
	    "each pattern that matches is found");
	ok(hub_match(&job, &match) && match.count == 1 && !match.by_payload, "jobs too");
	version = hub_version();
	SET(&members[1], "machine_jobs.*.m");
	ok(hub_version() != version && hub_match(&job, &match) && match.by_payload,
	    "then what is in their payload may tell who wants them");
	members_clear();
	hub_free();
}

static void
test_run(void)
{
	struct topic t = topic_of("a.b.c");
	struct msg msgs[3] = {{.topic = &t, .payload = {"{}", 2}}, {.topic = &t, .payload = {"{}", 2}},
	    {.topic = &t, .payload = {"{}", 2}}};
	struct hub_match match;
	struct msg_run run;
	double before;

	members_init();
	SET(&members[0], "a.b.c", "a.*.*");
	SET(&members[1], "a.b.*");
	SET(&members[2], "b.*.*");
	before = metrics[METRIC_DELIVERIES_TOTAL];
	(void)hub_match(&t, &match);
	msg_run_init(&run, msgs, 3, true);
	is_int((long long)hub_deliver_run(&match, &run), 3, "three of a run are wanted");
	ok(members[0].got == 3 && members[1].got == 3 && members[2].got == 0, "each member gets them once");
	is_int((long long)(metrics[METRIC_DELIVERIES_TOTAL] - before), 6, "which is counted");
	members_clear();
	(void)hub_match(&t, &match);
	is_int((long long)hub_deliver_run(&match, &run), 0, "without members nobody gets any");
	hub_free();
}

int
main(void)
{
	test_version();
	test_run();
	test_shapes();
	test_once();
	test_select();
	test_replace();
	test_neighbours();
	test_borders();
	test_random();
	test_list();
	test_growth();
	return tap_end();
}
