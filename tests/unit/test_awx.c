/* AWX's groups and the messages that ask for them: src/client/awx_group.c and awx_request.c
 * (docs/protocol.md, section 4.4). */
#include "config.h"
#include "client/awx_group.h"
#include "client/awx_request.h"
#include "core/mem.h"
#include "relay/event.h"

#include "tap.h"

#define TEXT(s) s, sizeof(s) - 1
#define UUID    "0123abcd-ef01-2345-6789-ABCDEF012345"
#define TEN(s)  s s s s s s s s s s
#define WORD_63 TEN("abcdef") "xyz"
#define DENIED  "access denied to channel"
#define NO_JSON "message is not a JSON object"

/* ---- groups ---- */

static const struct split_row {
	const char *group, *name, *value;
} split_rows[] = {
    {"jobs-status_changed", "jobs", "status_changed"},
    {"job_events-42", "job_events", "42"},
    {"my-type-42", "my-type", "42"},
    {"my-type-new", "my", "type-new"},
    {"my-type-" UUID, "my-type", UUID},
    {"t-" UUID, "t", UUID},
    {"my-type-0123abcd-ef01-2345-6789-ABCDEF01234", "my", "type-0123abcd-ef01-2345-6789-ABCDEF01234"},
    {"my-type-0123abcd-ef01-2345-6789-ABCDEF01234g", "my", "type-0123abcd-ef01-2345-6789-ABCDEF01234g"},
    {"my-0123abcd-ef01-2345-6789-012345678901", "my", "0123abcd-ef01-2345-6789-012345678901"},
    {"my-type-0123abcd_ef01-2345-6789-012345678901", "my-type-0123abcd_ef01-2345-6789", "012345678901"},
    {"a-1-2", "a-1", "2"},
    {"a--1", "a-", "1"},
    {"--1", "-", "1"},
    {"a-b-", "a", "b-"},
    {"a-1x", "a", "1x"},
    {"a-1-x", "a", "1-x"},
    {"a-b-c", "a", "b-c"},
    {"a-99999999999999999999999", "a", "99999999999999999999999"},
    {"a-b.c", "a", "b.c"},
    {"", NULL, NULL},
    {"-", NULL, NULL},
    {"a-", NULL, NULL},
    {"-a", NULL, NULL},
    {"-1", NULL, NULL},
    {"42", NULL, NULL},
    {"jobs", NULL, NULL},
    {UUID, "0123abcd", "ef01-2345-6789-ABCDEF012345"},
    {"-" UUID, NULL, NULL},
};

static void
test_split(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(split_rows); i++) {
		const struct split_row *row = &split_rows[i];
		char *group = tap_copy(row->group, strlen(row->group) + 1), *name = NULL, *value = NULL;

		is_int(awx_group_split(group, &name, &value), row->name != NULL, "\"%s\" is %s group",
		    row->group, row->name != NULL ? "a" : "no");
		if (row->name != NULL) {
			is_str(name, row->name, "its name");
			is_str(value, row->value, "its value");
		}
		free(group);
		free(name);
		free(value);
	}
}

static const struct pattern_row {
	const char *name, *value, *pattern;
} pattern_rows[] = {
    {"jobs", "status_changed", "jobs.status_changed.*"},
    {"job_events", "42", "job_events.*.42"},
    {"job_events", "007", "job_events.*.007"},
    {"job_events", UUID, "job_events.*." UUID},
    {"job_events", "0123abcd-ef01-2345-6789-ABCDEF01234", "job_events.0123abcd-ef01-2345-6789-ABCDEF01234.*"},
    {"job_events", "0123abcd-ef01-2345-6789_ABCDEF012345",
	"job_events.0123abcd-ef01-2345-6789_ABCDEF012345.*"},
    {"my-type", "-1", "my-type.-1.*"},
    {WORD_63, WORD_63, WORD_63 "." WORD_63 ".*"},
    {WORD_63 "x", "a", NULL},
    {"a", WORD_63 "x", NULL},
    {"", "a", NULL},
    {"a", "", NULL},
    {"a", "*", NULL},
    {"*", "1", NULL},
    {"*", "*", NULL},
    {"a", "1.5", NULL},
    {"a", "b.c", NULL},
    {"a.b", "1", NULL},
    {"a", "b c", NULL},
    {"a", "b,c", NULL},
    {"a", "%2A", NULL},
    {"a", "\xc3\xa4", NULL},
    {"a", "1\n", NULL},
};

static void
test_pattern(void)
{
	char digits[EVENT_KEY_MAX + 2], *pattern;
	struct topic t;

	for (size_t i = 0; i < ARRAY_LENGTH(pattern_rows); i++) {
		const struct pattern_row *row = &pattern_rows[i];

		pattern = awx_group_pattern(row->name, row->value);
		is_str(pattern, row->pattern, "the pattern of \"%s\", \"%s\"", row->name, row->value);
		if (pattern != NULL)
			ok(topic_parse((struct slice){pattern, strlen(pattern)}, true, &t), "is a pattern");
		free(pattern);
	}
	memset(digits, '9', sizeof(digits));
	digits[EVENT_KEY_MAX] = '\0';
	pattern = awx_group_pattern("a", digits);
	ok(pattern != NULL && topic_parse((struct slice){pattern, strlen(pattern)}, true, &t),
	    "a number of 255 digits is a key");
	free(pattern);
	digits[EVENT_KEY_MAX] = '9';
	digits[EVENT_KEY_MAX + 1] = '\0';
	is_str(awx_group_pattern("a", digits), NULL, "one of 256 is none");
}

/* ---- requests ---- */

static struct awx_request *
parse(const char *text, size_t len, size_t max_groups)
{
	char *copy = tap_copy(text, len);
	struct awx_request *r = awx_request_parse(copy, len, max_groups);

	free(copy);
	return r;
}

/* The groups as "label=pattern" each, or what else the request is. The caller releases it. */
static char *
request_text(const struct awx_request *r)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (r->error != NULL)
		fprintf(out, "error: %s", r->error);
	else if (r->ignored)
		fputs("ignored", out);
	for (size_t i = 0; i < r->count; i++)
		fprintf(out, "%s%s=%s", i > 0 ? " " : "", r->groups[i].label,
		    r->groups[i].pattern != NULL ? r->groups[i].pattern : "-");
	fclose(out);
	return text;
}

static const struct request_row {
	const char *name, *text;
	size_t len;
	const char *groups;
} request_rows[] = {
    {"two kinds of groups",
	TEXT("{\"groups\": {\"jobs\": [\"status_changed\", \"summary\"], \"job_events\": [123, \"456\"]}}"),
	"jobs-status_changed=jobs.status_changed.* jobs-summary=jobs.summary.* "
	"job_events-123=job_events.*.123 "
	"job_events-456=job_events.*.456"},
    {"no groups at all", TEXT("{\"groups\": {}}"), ""},
    {"a kind without values", TEXT("{\"groups\": {\"jobs\": []}}"), ""},
    {"a number and the same as a string", TEXT("{\"groups\": {\"a\": [1, \"1\", 1]}}"), "a-1=a.*.1"},
    {"the same label by other ways", TEXT("{\"groups\": {\"a-b\": [\"c\"], \"a\": [\"b-c\"]}}"),
	"a-b-c=a-b.c.*"},
    {"a negative number", TEXT("{\"groups\": {\"a\": [-5]}}"), "a--5=a.-5.*"},
    {"zero", TEXT("{\"groups\": {\"a\": [0, -0]}}"), "a-0=a.*.0"},
    {"the largest integer", TEXT("{\"groups\": {\"a\": [9223372036854775807, -9223372036854775808]}}"),
	"a-9223372036854775807=a.*.9223372036854775807 a--9223372036854775808=a.-9223372036854775808.*"},
    {"a huge number as a string", TEXT("{\"groups\": {\"a\": [\"9223372036854775808\"]}}"),
	"a-9223372036854775808=a.*.9223372036854775808"},
    {"a UUID", TEXT("{\"groups\": {\"a\": [\"" UUID "\"]}}"), "a-" UUID "=a.*." UUID},
    {"what can be no topic", TEXT("{\"groups\": {\"a b\": [1], \"a\": [\"\", \"x y\", \"*\"], \"\": [2]}}"),
	"a b-1=- a-=- a-x y=- a-*=- -2=-"},
    {"escapes in strings", TEXT("{\"gr\\u006fups\": {\"\\u0061\": [\"\\u0062\"]}}"), "a-b=a.b.*"},
    {"beside other members", TEXT("{\"x\": [{}], \"groups\": {\"a\": [1]}, \"y\": null}"), "a-1=a.*.1"},
    {"whitespace around", TEXT(" \r\n\t{ \"groups\" : { \"a\" : [ 1 ] } } \n"), "a-1=a.*.1"},
    {"groups twice: the last", TEXT("{\"groups\": {\"a\": [1]}, \"groups\": {\"b\": [2]}}"), "b-2=b.*.2"},
    {"an object without groups", TEXT("{\"xrftoken\": \"x\"}"), "ignored"},
    {"an empty object", TEXT("{}"), "ignored"},
    {"Groups in another case", TEXT("{\"Groups\": {\"a\": [1]}}"), "ignored"},
    {"groups that are a list", TEXT("{\"groups\": [\"jobs\"]}"), "error: " DENIED},
    {"groups that are null", TEXT("{\"groups\": null}"), "error: " DENIED},
    {"groups that are a string", TEXT("{\"groups\": \"jobs\"}"), "error: " DENIED},
    {"a value that is a string", TEXT("{\"groups\": {\"jobs\": \"status_changed\"}}"), "error: " DENIED},
    {"a value that is a number", TEXT("{\"groups\": {\"jobs\": 1}}"), "error: " DENIED},
    {"a value that is an object", TEXT("{\"groups\": {\"jobs\": {}}}"), "error: " DENIED},
    {"a value that is null", TEXT("{\"groups\": {\"jobs\": null}}"), "error: " DENIED},
    {"an element that is a float", TEXT("{\"groups\": {\"a\": [1.5]}}"), "error: " DENIED},
    {"an element that is a whole float", TEXT("{\"groups\": {\"a\": [1.0]}}"), "error: " DENIED},
    {"an element that is an exponent", TEXT("{\"groups\": {\"a\": [1e3]}}"), "error: " DENIED},
    {"an element that is true", TEXT("{\"groups\": {\"a\": [true]}}"), "error: " DENIED},
    {"an element that is null", TEXT("{\"groups\": {\"a\": [null]}}"), "error: " DENIED},
    {"an element that is a list", TEXT("{\"groups\": {\"a\": [[1]]}}"), "error: " DENIED},
    {"an element that is an object", TEXT("{\"groups\": {\"a\": [{}]}}"), "error: " DENIED},
    {"a good one before a wrong one", TEXT("{\"groups\": {\"a\": [1], \"b\": [2, true]}}"), "error: " DENIED},
    {"a NUL in an element", TEXT("{\"groups\": {\"a\": [\"1\\u0000\"]}}"), "error: " DENIED},
    {"a list", TEXT("[{\"groups\": {}}]"), "error: " NO_JSON},
    {"a string", TEXT("\"groups\""), "error: " NO_JSON},
    {"a number", TEXT("42"), "error: " NO_JSON},
    {"null", TEXT("null"), "error: " NO_JSON},
    {"nothing", TEXT(""), "error: " NO_JSON},
    {"a word", TEXT("hello"), "error: " NO_JSON},
    {"two objects", TEXT("{} {}"), "error: " NO_JSON},
    {"a comma too many", TEXT("{\"groups\": {},}"), "error: " NO_JSON},
    {"single quotes", TEXT("{'groups': {}}"), "error: " NO_JSON},
    {"a NUL behind", TEXT("{\"groups\": {}}\0"), "error: " NO_JSON},
    {"a NUL in a name", TEXT("{\"groups\": {\"a\\u0000b\": [1]}}"), "error: " NO_JSON},
    {"text that is not UTF-8", TEXT("{\"groups\": {\"a\": [\"\xff\"]}}"), "error: " NO_JSON},
    {"half a surrogate pair", TEXT("{\"groups\": {\"a\": [\"\\ud83d\"]}}"), "error: " NO_JSON},
};

static void
test_requests(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(request_rows); i++) {
		const struct request_row *row = &request_rows[i];
		struct awx_request *r = parse(row->text, row->len, 1000);
		char *text = request_text(r);

		is_str(text, row->groups, "%s", row->name);
		if (r->error != NULL && (r->count != 0 || r->groups != NULL))
			ok(false, "%s: an error leaves no groups", row->name);
		free(text);
		awx_request_free(r);
	}
}

/* A number that no integer holds: some refusal, whichever. */
static void
test_huge_number(void)
{
	struct awx_request *r = parse(TEXT("{\"groups\": {\"a\": [99999999999999999999]}}"), 1000);

	ok(r->error != NULL && r->count == 0, "a number past 64 bits is refused");
	awx_request_free(r);
}

static void
test_members(void)
{
	struct awx_request *r =
	    parse(TEXT("{\"groups\": {\"my-type\": [\"x\"]}, \"xrftoken\": \"C\", \"status\": true}"), 1000);

	is_str(r->xrftoken, "C", "xrftoken");
	ok(r->status, "status");
	ok(!r->ignored && r->count == 1, "beside groups");
	is_str(r->groups[0].name, "my-type", "a group's name");
	is_str(r->groups[0].value, "x", "and value");
	awx_request_free(r);
	r = parse(TEXT("{\"groups\": {}, \"xrftoken\": 5, \"status\": 1}"), 1000);
	is_str(r->xrftoken, NULL, "an xrftoken that is no string is none");
	ok(!r->status, "nor is a status true that is not");
	awx_request_free(r);
	r = parse(TEXT("{\"xrftoken\": \"C\", \"groups\": []}"), 1000);
	is_str(r->xrftoken, "C", "xrftoken of a message with an error");
	awx_request_free(r);
	r = parse(TEXT("{\"xrftoken\": \"\"}"), 1000);
	is_str(r->xrftoken, "", "an empty xrftoken");
	awx_request_free(r);
}

static void
check_limit(const char *text, size_t max, const char *error)
{
	struct awx_request *r = parse(text, strlen(text), max);

	is_str(r->error, error, "at most %zu groups: %s", max, text);
	awx_request_free(r);
}

static void
test_limit(void)
{
	check_limit("{\"groups\": {\"a\": [1, 2], \"b\": [3]}}", 3, NULL);
	check_limit("{\"groups\": {\"a\": [1, 2], \"b\": [3, 4]}}", 3, "too many groups: at most 3");
	check_limit("{\"groups\": {\"a\": [1, 2, 3, 4]}}", 3, "too many groups: at most 3");
	check_limit("{\"groups\": {}}", 1, NULL);
	check_limit("{\"groups\": {\"a\": 1, \"b\": 2}}", 1, DENIED);
}

/* Deep, and wide: what a client can size. */
static void
test_large(void)
{
	size_t len = 1024 * 1024;
	char *text = mem_alloc(len);
	struct awx_request *r;

	memset(text, '[', len);
	r = parse(text, len, 1000);
	is_str(r->error, NO_JSON, "a megabyte of brackets");
	awx_request_free(r);
	memset(text, ' ', len);
	memcpy(text, "{\"groups\": {\"a\": [1", 19);
	for (size_t i = 19; i + 5 < len; i += 2)
		memcpy(text + i, ",1", 2);
	memcpy(text + len - 3, "]}}", 3);
	r = parse(text, len, 1000);
	is_str(r->error, "too many groups: at most 1000", "a megabyte of groups");
	awx_request_free(r);
	free(text);
}

/* Every prefix of a good message, and every octet at each of its positions. */
static void
test_noise(void)
{
	static const char good[] = "{\"groups\": {\"jobs\": [\"status_changed\"], \"job_events\": [123, "
				   "\"456\"]}, \"xrftoken\": \"C\"}";
	char text[sizeof(good)];
	size_t len = sizeof(good) - 1, taken = 0, refused = 0;
	bool right = true;

	for (size_t n = 0; n < len; n++) {
		struct awx_request *r = parse(good, n, 1000);

		right = right && r->error != NULL && strcmp(r->error, NO_JSON) == 0 && r->count == 0;
		awx_request_free(r);
	}
	ok(right, "no prefix of a message is one");
	memcpy(text, good, len);
	for (size_t at = 0; at < len; at++) {
		for (int c = 0; c < 256; c++) {
			struct awx_request *r;

			text[at] = (char)c;
			r = parse(text, len, 1000);
			taken += r->error == NULL;
			refused += r->error != NULL && r->count == 0;
			awx_request_free(r);
		}
		text[at] = good[at];
	}
	ok(taken + refused == len * 256 && taken > len && refused > len,
	    "every octet at every position: %zu taken, %zu refused", taken, refused);
}

/* ---- groups of topics ---- */

static const struct topic_row {
	const char *topic, *payload, *group;
} topic_rows[] = {
    {"job_events.runner_on_ok.42", "{}", "job_events-42"},
    {"job_events.message.42", "{\"event\": \"x\"}", "job_events-42"},
    {"my_events.x.a%20b%2A%2C%25c", "{}", "my_events-a b*,%c"},
    {"my_events.x.", "{}", "my_events-x"},
    {"_events.x.7", "{}", "_events-x"},
    {"events.x.7", "{}", "events-x"},
    {"jobs.status_changed.42", "{\"status\": \"running\"}", "jobs-status_changed"},
    {"jobs.status_changed.42", "{\"event\": \"status_changes\"}", "jobs-status_changed"},
    {"jobs.message.42", "{}", "jobs-42"},
    {"jobs.message." UUID, "{}", "jobs-" UUID},
    {"jobs.message.web1", "{}", "jobs-message"},
    {"jobs.message.", "{}", "jobs-message"},
    {"jobs.messages.42", "{}", "jobs-messages"},
    {"jobs.verbose.42", "{\"n\": 1, \"event\": \"verbose\"}", "jobs-42"},
    {"jobs.verbose.42x", "{\"event\": \"verbose\"}", "jobs-verbose"},
    {"my-type.new.", "{}", "my-type-new"},
    {WORD_63 "." WORD_63 ".x", "{}", WORD_63 "-" WORD_63},
};

static void
test_group_of_topic(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(topic_rows); i++) {
		const struct topic_row *row = &topic_rows[i];
		char *topic = tap_copy(row->topic, strlen(row->topic)),
		     *payload = tap_copy(row->payload, strlen(row->payload));
		char *out = malloc(AWX_GROUP_MAX);
		struct topic t;
		size_t len;

		if (out == NULL || !topic_parse((struct slice){topic, strlen(row->topic)}, false, &t))
			abort();
		len = awx_group_of_topic(&t, (struct slice){payload, strlen(row->payload)}, out);
		ok(tap_same_octets(out, len, row->group, strlen(row->group)), "%s with %s is of %s",
		    row->topic, row->payload, row->group);
		free(topic);
		free(payload);
		free(out);
	}
}

static void
test_longest_group(void)
{
	static const char type[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcd_events";
	char *out = malloc(AWX_GROUP_MAX), key[3 * EVENT_KEY_MAX];
	struct topic t = {{type, sizeof(type) - 1}, {"x", 1}, {key, sizeof(key)}};
	bool all = true;

	if (out == NULL)
		abort();
	for (size_t i = 0; i < sizeof(key); i += 3)
		memcpy(key + i, "%2A", 3);
	is_int((long long)awx_group_of_topic(&t, (struct slice){"{}", 2}, out), AWX_GROUP_MAX,
	    "the longest group");
	for (size_t i = 64; i < AWX_GROUP_MAX; i++)
		all = all && out[i] == '*';
	ok(all, "has its key decoded");
	free(out);
}

int
main(void)
{
	test_group_of_topic();
	test_longest_group();
	test_split();
	test_pattern();
	test_requests();
	test_huge_number();
	test_members();
	test_limit();
	test_large();
	test_noise();
	return tap_end();
}
