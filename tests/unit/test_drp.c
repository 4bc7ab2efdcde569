/*
 * The Digital Rebar dialect's parts (docs/drp.md): commands and patterns (drp_command.c), what is registered
 * (drp_registrations.c), rights (drp_rights.c), events (drp_event.c) and times (rfc3339.c).
 */
#include "config.h"
#include "client/drp_command.h"
#include "client/drp_event.h"
#include "client/drp_registrations.h"
#include "client/drp_rights.h"
#include "core/mem.h"
#include "core/rfc3339.h"
#include "relay/hub.h"

#include "tap.h"

static struct slice
slice_of(const char *text)
{
	return (struct slice){text, strlen(text)};
}

/* ---- commands ---- */

static void
test_commands(void)
{
	static const struct {
		const char *text;
		enum drp_command_kind kind;
		const char *pattern;
	} rows[] = {
	    {"register a.b.c", DRP_REGISTER, "a.b.c"},
	    {"deregister a.b.c", DRP_DEREGISTER, "a.b.c"},
	    {" \r\n\tregister a.b.c \n", DRP_REGISTER, "a.b.c"},
	    {"register  a.b.c", DRP_REGISTER, " a.b.c"},
	    {"register a b.c.d", DRP_REGISTER, "a b.c.d"},
	    {"register a.b.c\nregister d.e.f", DRP_REGISTER, "a.b.c\nregister d.e.f"},
	    {"register", DRP_NO_COMMAND, ""},
	    {"register ", DRP_NO_COMMAND, ""},
	    {"REGISTER a.b.c", DRP_NO_COMMAND, "a.b.c"},
	    {"hello", DRP_NO_COMMAND, ""},
	    {"", DRP_NO_COMMAND, ""},
	    {" ", DRP_NO_COMMAND, ""},
	    {"register\ta.b.c", DRP_NO_COMMAND, ""},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		struct drp_command c = drp_command_parse(slice_of(rows[i].text));

		ok(c.kind == rows[i].kind && slice_is(c.pattern, rows[i].pattern), "command \"%s\"",
		    rows[i].text);
	}
}

/* The patterns with spaces between; the caller releases it. */
static char *
expanded(const char *pattern)
{
	struct drp_patterns patterns;
	const char *error;
	char *text;

	if (!drp_patterns_expand(slice_of(pattern), &patterns, &error))
		return mem_strdup("-");
	text = mem_strdup("");
	for (size_t i = 0; i < patterns.count; i++) {
		char *more = mem_printf("%s%s%s", text, i > 0 ? " " : "", patterns.list[i]);

		free(text);
		text = more;
	}
	drp_patterns_clear(&patterns);
	return text;
}

static void
test_patterns(void)
{
	static const struct {
		const char *pattern, *expanded;
	} rows[] = {
	    {"machines.update.u1", "machines.update.u1"},
	    {"*.*.*", "*.*.*"},
	    {"files.*.a.b.c", "files.*.a.b.c"},
	    {"machines,jobs.*.*", "machines.*.* jobs.*.*"},
	    {"machines , jobs.*.*", "machines.*.* jobs.*.*"},
	    {"a,b.c,d.e,f", "a.c.e a.c.f a.d.e a.d.f b.c.e b.c.f b.d.e b.d.f"},
	    {"a,*.b.c", "*.b.c"},
	    {"a.b.x,*", "a.b.*"},
	    {"a.b.x\\2y", "a.b.x%2Cy"},
	    {"a.b.x\\1y,z", "a.b.x.y a.b.z"},
	    {"a.b.\\3", "a.b.%2A"},
	    {"a.b.mach*", "a.b.mach%2A"},
	    {"a.b.50% of it", "a.b.50%25%20of%20it"},
	    {"a.b.\\4", "a.b.\\4"},
	    {"a.b.\\", "a.b.\\"},
	    {"a.b.", "a.b."},
	    {"a.b.x,,y", "a.b.x a.b. a.b.y"},
	    {"a,mach*.b.c", "a.b.c"},
	    {"mach*.b.c", "-"},
	    {"machines", "-"},
	    {"machines.update", "-"},
	    {"", "-"},
	    {"a..c", "-"},
	    {" a.b.c", "a.b.c"},
	    {"a b.c.d", "-"},
	    {"\\1.b.c", "-"},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		char *text = expanded(rows[i].pattern);

		is_str(text, rows[i].expanded, "pattern \"%s\"", rows[i].pattern);
		free(text);
	}
}

/* count elements "k0,k1,..."; the caller releases it. */
static char *
list_of(const char *head, int count)
{
	char *text = mem_strdup(head);

	for (int i = 0; i < count; i++) {
		char *more = mem_printf("%s%sk%d", text, i > 0 ? "," : "", i);

		free(text);
		text = more;
	}
	return text;
}

static void
test_too_many(void)
{
	struct drp_patterns patterns;
	const char *error;
	char *most = list_of("a.b.", DRP_COMMAND_PATTERNS), *more = list_of("a.b.", DRP_COMMAND_PATTERNS + 1),
	     *product = list_of("a,b.c.", DRP_COMMAND_PATTERNS / 2 + 1);

	ok(drp_patterns_expand(slice_of(most), &patterns, &error) && patterns.count == DRP_COMMAND_PATTERNS,
	    "a list of as many as there may be");
	drp_patterns_clear(&patterns);
	ok(!drp_patterns_expand(slice_of(more), &patterns, &error) && strstr(error, "1000") != NULL,
	    "one more is too many");
	ok(!drp_patterns_expand(slice_of(product), &patterns, &error), "the product of lists counts");
	free(most);
	free(more);
	free(product);
}

/* ---- registrations ---- */

static void
add(struct drp_registrations *r, const char *text, uint16_t patterns)
{
	struct drp_registration one = {slice_of(text), patterns, 7, 10};

	drp_registrations_add(r, &one);
}

static void
test_registrations(void)
{
	struct drp_registrations r = {0};
	struct drp_registration one;
	size_t at = 0;

	ok(!drp_registrations_has(&r, slice_of("a.b.c")) && !drp_registrations_next(&r, &at, &one),
	    "nothing is registered at first");
	add(&r, "a.b.c", 1);
	add(&r, "a,b.c.d", 2);
	add(&r, "*.*.*", 1);
	is_int((long long)r.patterns, 4, "what they stand for is counted");
	ok(drp_registrations_has(&r, slice_of("a,b.c.d")) && !drp_registrations_has(&r, slice_of("a.b.cc")) &&
		!drp_registrations_has(&r, slice_of("a.b.")),
	    "the very text is found");
	ok(drp_registrations_remove(&r, slice_of("a,b.c.d")) && !drp_registrations_remove(&r, slice_of("x")),
	    "one is taken back, once");
	is_int((long long)r.patterns, 2, "and what it stood for");
	is_int((long long)r.allowed, 20, "and what the user may see of it");
	ok(drp_registrations_next(&r, &at, &one) && slice_is(one.text, "a.b.c") && one.seen == 7,
	    "the first is still there");
	drp_registrations_see(&r, &one, 9, 500);
	ok(drp_registrations_next(&r, &at, &one) && slice_is(one.text, "*.*.*") && one.seen == 7 &&
		!drp_registrations_next(&r, &at, &one),
	    "and the last");
	at = 0;
	ok(drp_registrations_next(&r, &at, &one) && one.seen == 9 && one.patterns == 1,
	    "what is seen of one changes");
	is_int((long long)r.allowed, 510, "and how much of all");
	drp_registrations_clear(&r);
}

/* ---- rights ---- */

static void
test_rights(void)
{
	static const struct auth_right given[] = {
	    {"b.*.*", "b.x.*"}, {"a.*.*", "a.y.*"}, {"b.*.*", "b.z.*"}, {"c.*.*", "no pattern"}};
	static const struct auth_right turned[] = {{"b.*.*", "b.z.*"}, {"b.*.*", "b.x.*"}};
	struct auth_answer answer = {PG_QUERY_OK, given, 3, "", false},
			   other = {PG_QUERY_OK, turned, 2, "", false};
	struct drp_rights rights, again;
	struct drp_patterns patterns;
	struct drp_seen seen = {0};
	const char *error;
	uint32_t digest;

	drp_rights_init(&rights, &answer);
	drp_rights_init(&again, &other);
	ok(drp_patterns_expand(slice_of("b,c.*.*"), &patterns, &error), "two patterns");
	is_int((long long)drp_rights_count(&rights, &patterns), 2, "which have two rights");
	digest = drp_rights_find(&rights, &patterns, &seen);
	ok(digest != 0 && seen.count == 2 && slice_is(seen.topics[0].action, "x"),
	    "what is allowed of the one is found");
	ok(drp_rights_find(&again, &patterns, &seen) == digest, "in whatever order it comes");
	drp_patterns_clear(&patterns);
	ok(drp_patterns_expand(slice_of("d.*.*"), &patterns, &error) &&
		drp_rights_find(&rights, &patterns, &seen) == 0,
	    "of the other nothing");
	drp_patterns_clear(&patterns);
	drp_seen_clear(&seen);
	drp_rights_clear(&rights);
	drp_rights_clear(&again);
}

static bool
concerned(const void *arg, const struct topic *pattern)
{
	return topic_matches(pattern, arg);
}

static void
test_concern(void)
{
	struct topic topic;

	ok(topic_parse(slice_of("jobs.update.j1"), false, &topic), "a job's topic");
	ok(drp_text_concerns(slice_of("a,jobs.*.*"), concerned, &topic), "one of a list is concerned");
	ok(drp_text_concerns(slice_of("machine_jobs.update.m1"), concerned, &topic),
	    "so is who asks for a machine's jobs");
	ok(!drp_text_concerns(slice_of("machine_jobs.create.m1"), concerned, &topic),
	    "unless by another action");
	ok(!drp_text_concerns(slice_of("machines.*.*"), concerned, &topic), "others are not");
	ok(drp_text_concerns(slice_of("machines.*.*"), NULL, NULL), "all are when all is meant");
}

/* ---- events ---- */

#define MOMENT INT64_C(1763805600123450) /* 2025-11-22T10:00:00.12345Z */

static char *
event_text(const char *topic_text, const char *payload)
{
	struct drp_event event;
	struct topic topic;
	char *text = mem_strdup("");

	if (!topic_parse(slice_of(topic_text), false, &topic))
		return text;
	drp_event_make(&event, &topic, MOMENT, slice_of(payload));
	for (int i = 0; i < DRP_EVENT_PARTS; i++) {
		char *more = mem_printf("%s%.*s", text, (int)event.parts[i].len, event.parts[i].ptr);

		free(text);
		text = more;
	}
	return text;
}

#define EVENT(key, principal, object, original)                                                              \
	"{\"Time\":\"2025-11-22T10:00:00.12345Z\",\"Type\":\"machines\",\"Action\":\"update\",\"Key\":" key  \
	",\"Principal\":" principal ",\"Object\":" object ",\"Original\":" original "}"

static void
test_events(void)
{
	static const struct {
		const char *what, *topic, *payload, *event;
	} rows[] = {
	    {"a payload is the object", "machines.update.u1", "{\"a\": 1.50}",
		EVENT("\"u1\"", "\"unknown\"", "{\"a\": 1.50}", "null")},
	    {"an envelope", "machines.update.u1",
		"{\"group_name\": \"machines\", \"action\": \"update\", \"key\": \"u1\", \"object\": {\"a\": "
		"[1, {}]}, \"original\": {\"a\": 0}}",
		EVENT("\"u1\"", "\"unknown\"", "{\"a\": [1, {}]}", "{\"a\": 0}")},
	    {"an envelope in jsonb's order", "machines.update.u1",
		"{\"key\": \"u1\", \"action\": \"update\", \"object\": \"text\", \"principal\": "
		"\"user:\\u00e9\"}",
		EVENT("\"u1\"", "\"user:\\u00e9\"", "\"text\"", "null")},
	    {"an object of null", "machines.update.u1",
		"{\"key\": \"u1\", \"action\": \"update\", \"object\": null}",
		EVENT("\"u1\"", "\"unknown\"", "null", "null")},
	    {"another action: no envelope", "machines.update.u1",
		"{\"key\": \"u1\", \"action\": \"create\", \"object\": 1}",
		EVENT("\"u1\"", "\"unknown\"", "{\"key\": \"u1\", \"action\": \"create\", \"object\": 1}",
		    "null")},
	    {"a key that is no string: no envelope", "machines.update.u1",
		"{\"key\": 1, \"action\": \"update\", \"object\": 1}",
		EVENT(
		    "\"u1\"", "\"unknown\"", "{\"key\": 1, \"action\": \"update\", \"object\": 1}", "null")},
	    {"a principal that is no string", "machines.update.u1",
		"{\"key\": \"u1\", \"action\": \"update\", \"object\": 1, \"principal\": {}}",
		EVENT("\"u1\"", "\"unknown\"", "1", "null")},
	    {"a time that is none", "machines.update.u1",
		"{\"key\": \"u1\", \"action\": \"update\", \"object\": 1, \"time\": \"yesterday\"}",
		EVENT("\"u1\"", "\"unknown\"", "1", "null")},
	    {"a key is decoded, and quoted", "machines.update.a%20b.\"c\\%2C%25", "{}",
		EVENT("\"a b.\\\"c\\\\,%\"", "\"unknown\"", "{}", "null")},
	    {"no key", "machines.update.", "{}", EVENT("\"\"", "\"unknown\"", "{}", "null")},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		char *text = event_text(rows[i].topic, rows[i].payload);

		is_str(text, rows[i].event, "%s", rows[i].what);
		free(text);
	}
}

static void
test_time_is_kept(void)
{
	char *text = event_text("machines.update.u1",
	    "{\"key\": \"u1\", \"action\": \"update\", \"object\": 1, \"time\": "
	    "\"2019-02-03T04:05:06.000000007-06:00\"}");

	ok(strncmp(text, "{\"Time\":\"2019-02-03T04:05:06.000000007-06:00\",", 46) == 0,
	    "the time that an envelope tells is kept");
	free(text);
}

static void
test_aliases(void)
{
	static const char bare[] = "{\"Uuid\": \"j1\", \"Machine\": \"m1\", \"WorkOrder\": \"\"}",
			  in_envelope[] =
			      "{\"key\": \"j1\", \"action\": \"update\", \"object\": {\"WorkOrder\": "
			      "\"w,1\"}, \"Machine\": \"m2\"}";
	struct drp_alias aliases[DRP_EVENT_ALIASES];
	struct topic topic;

	ok(topic_parse(slice_of("jobs.update.j1"), false, &topic) && drp_event_has_aliases(&topic),
	    "jobs are found in other ways, too");
	is_int((long long)drp_event_aliases(&topic, slice_of(bare), aliases), 1,
	    "in one, where the work order is empty");
	ok(slice_is(aliases[0].topic.type, "machine_jobs") && slice_is(aliases[0].topic.action, "update") &&
		slice_is(aliases[0].topic.key, "m1"),
	    "by their machine");
	is_int((long long)drp_event_aliases(&topic, slice_of(in_envelope), aliases), 1,
	    "of an envelope its object tells");
	ok(slice_is(aliases[0].topic.type, "work_order_jobs") && slice_is(aliases[0].topic.key, "w%2C1"),
	    "by their work order");
	is_int((long long)drp_event_aliases(&topic,
		   slice_of("{\"WorkOrder\": \"w1\", \"Machine\": \"m1\", \"Machine\": \"m2\"}"), aliases),
	    2, "both ways, each once");
	ok(slice_is(aliases[0].topic.key, "m1") && slice_is(aliases[1].topic.key, "w1"),
	    "by what comes first of the same name");
	ok(topic_parse(slice_of("machines.update.m1"), false, &topic) && !drp_event_has_aliases(&topic) &&
		drp_event_aliases(&topic, slice_of(bare), aliases) == 0,
	    "machines are not");
}

/* ---- who gets jobs ---- */

static int got;
static bool got_conditional;

static void
deliver(struct hub_member *member, struct msg_run *run)
{
	got++;
	got_conditional = run->msgs->conditional;
}

static int
deliver_job(const char *topic_text, const char *payload, struct ticket *ticket)
{
	struct topic topic;
	struct msg msg = {.topic = &topic, .payload = slice_of(payload), .ticket = ticket};

	got = 0;
	if (topic_parse(slice_of(topic_text), false, &topic))
		(void)hub_deliver(&msg);
	return got;
}

static void
subscribe(struct hub_member *member, const char *pattern)
{
	struct topic topic;

	if (topic_parse(slice_of(pattern), true, &topic))
		hub_add_patterns(member, &topic, 1);
}

static bool
keep_jobs(void *arg, const struct topic *pattern)
{
	return slice_is(pattern->type, "jobs");
}

static void
test_hub(void)
{
	static const char job[] = "{\"Machine\": \"m1\"}";
	struct hub_member member = {.deliver = deliver};
	struct ticket *some = (struct ticket *)&member; /* never looked into */
	struct topic topic;

	hub_init();
	subscribe(&member, "machine_jobs.update.m1");
	is_int(deliver_job("jobs.update.j1", job, NULL), 1, "a machine's job is found");
	is_int(deliver_job("jobs.create.j1", job, NULL), 0, "by another action it is not");
	is_int(deliver_job("jobs.update.j1", "{\"Machine\": \"m2\"}", NULL), 0, "nor is another machine's");
	is_int(deliver_job("machines.update.m1", job, NULL), 0, "nor what is no job");
	is_int(deliver_job("jobs.create.j1", "", some), 1, "whoever might want a ticket gets it");
	ok(got_conditional, "on condition");
	ok(topic_parse(slice_of("jobs.update.j1"), false, &topic) &&
		hub_finds(&member, &topic, slice_of(job)) &&
		!hub_finds(&member, &topic, slice_of("{\"Machine\": \"m2\"}")),
	    "which is met when the payload says so");
	subscribe(&member, "jobs.*.j1");
	is_int((long long)member.count, 2, "a pattern is added to the other");
	is_int(deliver_job("jobs.update.j1", job, NULL), 1, "and an event comes once");
	ok(deliver_job("jobs.update.j1", "", some) == 1 && !got_conditional,
	    "a ticket, too, without condition");
	hub_retain(&member, keep_jobs, NULL);
	is_int((long long)member.count, 1, "one is left when the other is not kept");
	subscribe(&member, "*.*.m1");
	is_int(deliver_job("jobs.update.j2", job, NULL), 0, "any type's key m1 is not a machine of a job");
	hub_set_patterns(&member, NULL, 0);
	is_int(deliver_job("jobs.update.j1", "", some), 0, "in the end nobody wants it");
	hub_free();
}

/* ---- times ---- */

static void
test_times(void)
{
	static const struct {
		int64_t us;
		const char *text;
	} rows[] = {{0, "1970-01-01T00:00:00Z"}, {1, "1970-01-01T00:00:00.000001Z"},
	    {-1, "1969-12-31T23:59:59.999999Z"}, {MOMENT, "2025-11-22T10:00:00.12345Z"},
	    {INT64_C(951782400100000), "2000-02-29T00:00:00.1Z"}};
	static const char *const valid[] = {"2025-11-22T10:00:00Z", "2025-11-22T10:00:00.5+01:00",
	    "2025-11-22T23:59:59.123456789-12:30", "0001-01-01T00:00:00Z"},
				 *const invalid[] = {"", "2025-11-22", "2025-11-22T10:00:00",
				     "2025-11-22 10:00:00Z", "2025-13-22T10:00:00Z", "2025-11-32T10:00:00Z",
				     "2025-11-22T24:00:00Z", "2025-11-22T10:60:00Z", "2025-11-22T10:00:60Z",
				     "2025-11-22T10:00:00.Z", "2025-11-22T10:00:00.1234567890Z",
				     "2025-11-22T10:00:00Zx", "2025-11-22T10:00:00+1:00"};
	char text[RFC3339_SIZE];
	bool all = true, none = true;

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		rfc3339_format(rows[i].us, text);
		is_str(text, rows[i].text, "%lld us", (long long)rows[i].us);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(valid); i++)
		all = all && rfc3339_is_valid(slice_of(valid[i]));
	for (size_t i = 0; i < ARRAY_LENGTH(invalid); i++)
		none = none && !rfc3339_is_valid(slice_of(invalid[i]));
	ok(all, "what RFC 3339 allows is valid");
	ok(none, "and nothing else");
}

int
main(void)
{
	test_commands();
	test_patterns();
	test_too_many();
	test_registrations();
	test_rights();
	test_concern();
	test_events();
	test_time_is_kept();
	test_aliases();
	test_hub();
	test_times();
	return tap_end();
}
