/* Checking what is to be published: src/relay/publish_body.c, against jansson's idea of JSON as well. */
#include "config.h"
#include "relay/publish_body.h"
#include "core/json_scan.h"
#include "core/mem.h"

#include <jansson.h>

#include "tap.h"

#define EVENT      "{\"type\":\"a\",\"action\":\"b\",\"key\":\"c\",\"payload\":{}}"
#define PAYLOAD(p) "{\"type\":\"a\",\"action\":\"b\",\"key\":\"c\",\"payload\":" p "}"
#define KEY(k)     "{\"type\":\"a\",\"action\":\"b\",\"key\":" k ",\"payload\":{}}"
#define TYPE(t)    "{\"type\":" t ",\"action\":\"b\",\"key\":\"c\",\"payload\":{}}"
#define X10        "xxxxxxxxxx"
#define X50        X10 X10 X10 X10 X10
#define X250       X50 X50 X50 X50 X50

static bool
check(const char *body, size_t len, size_t *events, struct publish_body_error *error)
{
	char *copy = tap_copy(body, len);
	struct publish_body checked;
	bool passed = publish_body_check(copy, len, &checked, error);

	*events = checked.events;

	free(copy);
	return passed;
}

static const struct good_row {
	const char *body;
	size_t events;
} good_rows[] = {
    {EVENT, 1},
    {" \t\r\n" EVENT "\n", 1},
    {"[" EVENT "]", 1},
    {"[ " EVENT " , " EVENT ",\n" EVENT "]", 3},
    {"{\"payload\":{},\"key\":\"\",\"action\":\"b\",\"type\":\"a\"}", 1},
    {"{\"payload\":{},\"action\":\"b\",\"type\":\"a\"}", 1},
    {"{\"\\u0074ype\":\"\\u0061\",\"action\":\"b\",\"key\":\"c\",\"payload\":{}}", 1},
    {KEY("\"" X250 "xxxxx\""), 1},
    {KEY("\"\\u00e4 * , % . \xc3\xa4 \xf0\x9f\x90\x98\""), 1},
    {TYPE("\"A-z_9\""), 1},
    {PAYLOAD("{\"n\": 123456789012345678901234567890, \"x\": -0.10e+5, \"type\": 1, \"type\": 2}"), 1},
    {PAYLOAD("{\"a\":[1,[],{},null,true,false,\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]}"), 1},
    {PAYLOAD("{\"a\":\"\\ud83d\\udc18\", \"b\":\"\x7f\"}"), 1},
    {PAYLOAD("{\"a\":[1e131071, 0.1e-16382, -0e0, 12.5E+3]}"), 1},
};

static void
test_good(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(good_rows); i++) {
		const struct good_row *row = &good_rows[i];
		struct publish_body_error error = {"", -1};
		size_t events = 0;

		ok(check(row->body, strlen(row->body), &events, &error) && events == row->events,
		    "%s is %zu events: %s", row->body, row->events, error.text);
	}
}

static const struct bad_row {
	const char *body, *error;
	long index;
} bad_rows[] = {
    {"", "the body is empty: an event is wanted, or a list of them", -1},
    {" \n", "the body is empty: an event is wanted, or a list of them", -1},
    {"[]", "a list without an event", -1},
    {"7", "an event must be a JSON object with type, action, key and payload", 0},
    {"[" EVENT ",null]", "an event must be a JSON object with type, action, key and payload", 1},
    {"[" EVENT ",[" EVENT "]]", "an event must be a JSON object with type, action, key and payload", 1},
    {"{}", "an event without type", 0},
    {"{\"type\":\"a\"}", "an event without action", 0},
    {"{\"type\":\"a\",\"action\":\"b\",\"key\":\"\"}", "an event without payload", 0},
    {"{\"type\":\"a\",\"type\":\"a\"}", "an event with two fields \"type\"", 0},
    {"{\"type\":\"a\",\"t\\u0079pe\":\"a\"}", "an event with two fields \"type\"", 0},
    {"{\"Type\":\"a\"}", "an event has no field \"Type\"", 0},
    {"{\"type \":\"a\"}", "an event has no field \"type \"", 0},
    {TYPE("\"\""), "type must be 1 to 63 letters (A-Z), digits, hyphens and underscores", 0},
    {TYPE("\"a.b\""), "type must be 1 to 63 letters (A-Z), digits, hyphens and underscores", 0},
    {TYPE("\"" X50 X10 "xxxx\""), "type must be 1 to 63 letters (A-Z), digits, hyphens and underscores", 0},
    {TYPE("1"), "type must be a string", 0},
    {TYPE("null"), "type must be a string", 0},
    {KEY("null"), "key must be a string", 0},
    {KEY("\"" X250 X10 "\""), "a key has at most 255 octets and no control characters", 0},
    {KEY("\"" X250 X250 X250 X250 X250 X250 X250 X250 "\""),
	"a key has at most 255 octets and no control characters", 0},
    {KEY("\"\\u0001\""), "a key has at most 255 octets and no control characters", 0},
    {KEY("\"\x7f\""), "a key has at most 255 octets and no control characters", 0},
    {PAYLOAD("[]"), "payload must be a JSON object", 0},
    {PAYLOAD("null"), "payload must be a JSON object", 0},
    {PAYLOAD("\"{}\""), "payload must be a JSON object", 0},
    {PAYLOAD("{\"a\":\"\\u0000\"}"), "not JSON: \\u0000, which PostgreSQL cannot hold, at octet 57", 0},
    {PAYLOAD("{\"a\":\"\\ud83d\"}"), "not JSON: half of a surrogate pair at octet 57", 0},
    {PAYLOAD("{\"a\":\"\\udc18\\ud83d\"}"), "not JSON: half of a surrogate pair at octet 57", 0},
    {PAYLOAD("{\"a\":1e131072}"), "a number with more digits than PostgreSQL can hold", 0},
    {PAYLOAD("{\"a\":10e131071}"), "a number with more digits than PostgreSQL can hold", 0},
    {PAYLOAD("{\"a\":1e-16384}"), "a number with more digits than PostgreSQL can hold", 0},
    {PAYLOAD("{\"a\":0.11e-16382}"), "a number with more digits than PostgreSQL can hold", 0},
    {PAYLOAD("{\"a\":1e-99999999999999999999}"), "a number with more digits than PostgreSQL can hold", 0},
    {PAYLOAD("{\"a\":[1e131071,1e131071,1e131071,1e131071,1e131071,1e131071,1e131071,1e131071]}"),
	"numbers with exponents would take more than 1000000 digits", 0},
    {EVENT "x", "not JSON: something behind the end at octet 48", -1},
    {"[" EVENT, "not JSON: an early end at octet 49", -1},
    {"[" EVENT "," EVENT "}", "not JSON: a comma or a bracket is missing at octet 98", -1},
    {"[" EVENT "," EVENT ",]", "an event must be a JSON object with type, action, key and payload", 2},
    {"{\"type\":\"a\",}", "not JSON: a name in quotes is missing at octet 12", 0},
    {"{\"type\" \"a\"}", "not JSON: a colon is missing at octet 8", 0},
};

static void
test_bad(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(bad_rows); i++) {
		const struct bad_row *row = &bad_rows[i];
		struct publish_body_error error = {"", -2};
		size_t events;
		bool passed = check(row->body, strlen(row->body), &events, &error);

		is_str(passed ? "passed" : error.text, row->error, "refusing %s", row->body);
		is_int(error.index, row->index, "the index of the event in %s", row->body);
	}
}

static void
test_a_nul(void)
{
	struct publish_body_error error;
	static const char body[] = EVENT "\0" EVENT;
	size_t events;

	ok(!check(body, sizeof(body) - 1, &events, &error), "a NUL behind the event is refused");
	ok(!check(PAYLOAD("{\"a\":\"\0\"}"), sizeof(PAYLOAD("{\"a\":\"\0\"}")) - 1, &events, &error),
	    "a NUL in a string is refused");
}

/* A list of so many events. */
static char *
make_list(size_t count, size_t *len)
{
	char *text = mem_alloc(count * sizeof(EVENT) + 2), *p = text;

	for (size_t i = 0; i < count; i++)
		p += sprintf(p, "%s%s", i == 0 ? "[" : ",", EVENT);
	*p++ = ']';
	*len = (size_t)(p - text);
	return text;
}

static void
test_the_number_of_events(void)
{
	struct publish_body_error error;
	size_t len, events;
	char *text = make_list(10000, &len);

	ok(check(text, len, &events, &error) && events == 10000, "10000 events are taken");
	free(text);
	text = make_list(10001, &len);
	ok(!check(text, len, &events, &error), "10001 are not");
	is_str(error.text, "more than 10000 events in one request", "and it is said");
	free(text);
}

/* An event whose payload holds so many arrays in each other. */
static char *
make_nest(int depth, size_t *len)
{
	size_t n = (size_t)depth;
	char *text = mem_alloc(2 * n + 100),
	     *p = text + sprintf(text, "{\"type\":\"a\",\"action\":\"b\",\"payload\":{\"a\":");

	memset(p, '[', n);
	memset(p + n, ']', n);
	p += 2 * n;
	p += sprintf(p, "}}");
	*len = (size_t)(p - text);
	return text;
}

static void
test_depth(void)
{
	struct publish_body_error error;
	size_t len, events;
	char *text = make_nest(JSON_SCAN_DEPTH - 2, &len);

	ok(check(text, len, &events, &error), "512 levels are taken");
	free(text);
	text = make_nest(JSON_SCAN_DEPTH - 1, &len);
	ok(!check(text, len, &events, &error), "513 are not");
	is_str(error.text, "JSON that is nested more than 512 deep", "and it is said");
	free(text);
}

/* ---- against jansson ---- */

static const char *const seeds[] = {
    "{\"a\":[1,-2.5e3,\"\\u00e4\\ud83d\\udc18\\n\",true,false,null,{\"b\":{}}]}",
    "{\"\xc3\xa4\":\"\xf0\x9f\x90\x98 \xed\x9f\xbf \xee\x80\x80\",\"c\" : [ ] , \"d\":0.0}",
    "{\"x\":[[[[\"\\\\\\\"\\/\\b\\f\\r\\t\"]]],-0,10,1E2,0.5]}",
};
static const char salt[] = "{}[]\",:\\u0dD89eE+-.tfnrl \n\x80\xbf\xc2\xed\xa0\xf4";

static size_t
spoil(struct tap_random *r, char *text, size_t len)
{
	for (uint32_t n = tap_random(r, 3) + 1; n > 0 && len > 1; n--) {
		size_t at = tap_random(r, (uint32_t)len);

		switch (tap_random(r, 3)) {
		case 0:
			text[at] = salt[tap_random(r, sizeof(salt) - 1)];
			break;
		case 1:
			memmove(text + at, text + at + 1, --len - at);
			break;
		default:
			memmove(text + at + 1, text + at, len++ - at);
			text[at] = salt[tap_random(r, sizeof(salt) - 1)];
			break;
		}
	}
	return len;
}

/* What both say of a payload, mutated. */
static void
test_against_jansson(void)
{
	struct tap_random r = {20261122};
	int differ = 0, good = 0, bad = 0;

	diag("seed %llu", (unsigned long long)r.state);
	for (int i = 0; i < 200000; i++) {
		const char *seed = seeds[tap_random(&r, ARRAY_LENGTH(seeds))];
		char payload[256], body[400];
		size_t len = strlen(seed), events;
		struct publish_body_error error = {"", -1};
		json_error_t reason;
		json_t *json;
		bool passed;

		memcpy(payload, seed, len);
		len = spoil(&r, payload, len);
		json = json_loadb(payload, len, 0, &reason);
		snprintf(body, sizeof(body), "{\"type\":\"a\",\"action\":\"b\",\"payload\":%.*s}", (int)len,
		    payload);
		passed = check(body, strlen(body), &events, &error);
		if (json == NULL && json_error_code(&reason) == json_error_numeric_overflow)
			continue; /* a double holds less */
		if (passed != (json != NULL && json_is_object(json)) && differ++ == 0)
			diag("jansson %s, the check %s (%s): %.*s", json != NULL ? "passes" : "refuses",
			    passed ? "passes" : "refuses", error.text, (int)len, payload);
		good += passed;
		bad += !passed;
		json_decref(json);
	}
	is_int(differ, 0, "of 200000 payloads jansson and the check say the same");
	ok(good > 1000 && bad > 1000, "%d were good and %d bad", good, bad);
}

int
main(void)
{
	test_good();
	test_bad();
	test_a_nul();
	test_the_number_of_events();
	test_depth();
	test_against_jansson();
	return tap_end();
}
