/* Events as Digital Rebar's clients post them: src/client/drp_post.c. */
#include "config.h"
#include "client/drp_post.h"
#include "core/mem.h"
#include "relay/publish_body.h"

#include <jansson.h>

#include "tap.h"

/* What becomes of it, without what is always the same; the caller releases both. */
static char *
convert(const char *text, size_t len, char error[JSON_SCAN_ERROR])
{
	char *copy = tap_copy(text, len), *body, *ended = NULL;
	size_t body_len = 0;

	error[0] = '\0';
	body = drp_post_convert(copy, len, "user:bob", &body_len, error);
	free(copy);
	if (body != NULL)
		ended = mem_strndup(body, body_len);
	free(body);
	return ended;
}

/* ---- good ones ---- */

#define BODY(key, object, original, time)                                                                    \
	"{\"type\":\"a\",\"action\":\"b\",\"key\":" key                                                      \
	",\"payload\":{\"group_name\":\"a\",\"action\":\"b\",\"key\":" key ",\"object\":" object             \
	",\"original\":" original "," time "\"principal\":\"user:bob\"}}"

static const struct good_row {
	const char *what, *posted, *body;
} good_rows[] = {
    {"the least", "{\"Type\":\"a\",\"Action\":\"b\"}", BODY("\"\"", "null", "null", "")},
    {"all fields, as Go sends them",
	"{\"Time\":\"0001-01-01T00:00:00Z\",\"Type\":\"a\",\"Action\":\"b\",\"Key\":\"k.1\",\"Principal\":"
	"\"user:eve\",\"Object\":{\"x\": 1},\"Original\":null}",
	BODY("\"k.1\"", "{\"x\": 1}", "null", "\"time\":\"0001-01-01T00:00:00Z\",")},
    {"numbers keep their digits",
	"{\"Type\":\"a\",\"Action\":\"b\",\"Object\":[12345678901234567890.10],\"Original\":1e3}",
	BODY("\"\"", "[12345678901234567890.10]", "1e3", "")},
    {"escapes stay", "{\"Type\":\"a\",\"Action\":\"b\",\"Key\":\"\\u00e4\\\"\",\"Object\":\"\\n\"}",
	BODY("\"\\u00e4\\\"\"", "\"\\n\"", "null", "")},
    {"what else there is is passed over",
	"{\"Type\":\"a\",\"Foo\":[{\"Type\":7}],\"Action\":\"b\",\"payload\":1,\"principal\":{}}",
	BODY("\"\"", "null", "null", "")},
    {"the case of names, as in Go", "{\"type\":\"a\",\"ACTION\":\"b\",\"k\\u0065y\":\"c\",\"oBject\":true}",
	BODY("\"c\"", "true", "null", "")},
    {"of equal names the last", "{\"Type\":\"x\",\"Action\":\"b\",\"Object\":1,\"Type\":\"a\",\"Object\":2}",
	BODY("\"\"", "2", "null", "")},
    {"null is as if it were not there",
	"{\"Type\":\"a\",\"Action\":\"b\",\"Key\":null,\"Time\":null,\"Object\":null}",
	BODY("\"\"", "null", "null", "")},
    {"white space around it", " \n{ \"Type\" : \"a\" , \"Action\" : \"b\" , \"Object\" : { } } \t",
	BODY("\"\"", "{ }", "null", "")},
};

static void
test_good(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(good_rows); i++) {
		const struct good_row *row = &good_rows[i];
		struct publish_body_error wrong = {"", -1};
		struct publish_body checked;
		char error[JSON_SCAN_ERROR], *body = convert(row->posted, strlen(row->posted), error);

		is_str(body, row->body, "%s: %s", row->what, row->posted);
		ok(body != NULL && publish_body_check(body, strlen(body), &checked, &wrong),
		    "and it can be published: %s%s", error, wrong.text);
		free(body);
	}
}

/* ---- bad ones ---- */

#define POSTED(more) "{\"Type\":\"a\",\"Action\":\"b\"," more "}"
#define NO_TIME      "Time must be as in RFC 3339, such as \"2026-11-22T10:00:00Z\", or be left out"

static const struct bad_row {
	const char *posted, *error;
} bad_rows[] = {
    {"", "an event must be a JSON object with Type, Action, Key and Object"},
    {"null", "an event must be a JSON object with Type, Action, Key and Object"},
    {"[{\"Type\":\"a\",\"Action\":\"b\"}]",
	"an event must be a JSON object with Type, Action, Key and Object"},
    {"{}", "an event without Type"},
    {"{\"Type\":null,\"Action\":\"b\"}", "an event without Type"},
    {"{\"Type\":\"a\"}", "an event without Action"},
    {"{\"Type\":1,\"Action\":\"b\"}", "Type must be a string"},
    {"{\"Type\":\"a\",\"Action\":[]}", "Action must be a string"},
    {POSTED("\"Key\":7"), "Key must be a string"},
    {POSTED("\"Time\":7"), "Time must be a string"},
    {POSTED("\"Time\":\"\""), NO_TIME},
    {POSTED("\"Time\":\"yesterday\""), NO_TIME},
    {POSTED("\"Object\":"), "not JSON: an unexpected character at octet 34"},
    {POSTED("\"Object\":01"), "not JSON: a comma or a bracket is missing at octet 35"},
    {POSTED("\"Object\":\"\\u0000\""), "not JSON: \\u0000, which PostgreSQL cannot hold, at octet 41"},
    {"{\"Type\":\"a\",\"Action\":\"b\"", "not JSON: an early end at octet 24"},
    {"{\"Type\":\"a\",\"Action\":\"b\"}x", "not JSON: something behind the end at octet 25"},
    {"{\"Type\":\"a\",\"Action\":\"b\"}{}", "not JSON: something behind the end at octet 25"},
};

static void
test_bad(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(bad_rows); i++) {
		char error[JSON_SCAN_ERROR];
		char *body = convert(bad_rows[i].posted, strlen(bad_rows[i].posted), error);

		is_str(body != NULL ? body : error, bad_rows[i].error, "refusing %s", bad_rows[i].posted);
		free(body);
	}
}

/* What is left to publish_body_check(). */
static void
test_topics(void)
{
	static const char *const posted[] = {"{\"Type\":\"a.b\",\"Action\":\"b\"}",
	    "{\"Type\":\"a\",\"Action\":\"\"}", "{\"Type\":\"a\",\"Action\":\"b\",\"Key\":\"\\u0001\"}"};

	for (size_t i = 0; i < ARRAY_LENGTH(posted); i++) {
		struct publish_body_error wrong = {"", -1};
		struct publish_body checked;
		char error[JSON_SCAN_ERROR], *body = convert(posted[i], strlen(posted[i]), error);

		ok(body != NULL && !publish_body_check(body, strlen(body), &checked, &wrong),
		    "%s cannot be published: %s", posted[i], wrong.text);
		free(body);
	}
}

static void
test_principals(void)
{
	static const char posted[] = "{\"Type\":\"a\",\"Action\":\"b\"}";
	static const char *const principals[] = {"runner:1-2", "user:\"\\\xc3\xa4", ""};

	for (size_t i = 0; i < ARRAY_LENGTH(principals); i++) {
		char error[JSON_SCAN_ERROR];
		size_t len = 0;
		char *body = drp_post_convert(posted, strlen(posted), principals[i], &len, error);
		json_t *event = json_loadb(body, len, 0, NULL);
		json_t *payload = json_object_get(event, "payload");

		is_str(json_string_value(json_object_get(payload, "principal")), principals[i],
		    "the principal \"%s\"", principals[i]);
		json_decref(event);
		free(body);
	}
}

/* Any octet is cut off or changed: it is refused, or what comes out is JSON. The sanitizers see the rest. */
static void
test_spoiled(void)
{
	static const char posted[] = "{\"Time\":\"2026-11-22T10:00:00.5+01:00\",\"Type\":\"a\",\"Action\":"
				     "\"b\",\"Key\":\"c\\n\",\"Object\":[1,{\"x\":"
				     "\"\\\\\"}],\"Original\":{\"\\u0022\":null}}";
	static const char salt[] = "{}[]\",:\\u0 \x80";
	size_t len = strlen(posted);
	int good = 0, bad = 0, broken = 0;

	for (size_t at = 0; at < len * sizeof(salt); at++) {
		char spoiled[sizeof(posted)], error[JSON_SCAN_ERROR], *body;
		bool cut = at % sizeof(salt) == sizeof(salt) - 1;
		json_t *event;

		memcpy(spoiled, posted, sizeof(posted));
		if (!cut)
			spoiled[at / sizeof(salt)] = salt[at % sizeof(salt)];
		body = convert(spoiled, cut ? at / sizeof(salt) : len, error);
		event = body != NULL ? json_loads(body, 0, NULL) : NULL;
		good += body != NULL;
		bad += body == NULL;
		broken += body != NULL ? event == NULL : error[0] == '\0';
		json_decref(event);
		free(body);
	}
	is_int(broken, 0, "each is refused with an error, or becomes JSON");
	ok(good > 100 && bad > 100, "%d were taken and %d refused", good, bad);
}

int
main(void)
{
	test_good();
	test_bad();
	test_topics();
	test_principals();
	test_spoiled();
	return tap_end();
}
