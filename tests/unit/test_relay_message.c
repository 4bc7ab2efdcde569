/* What AWX's wsrelay pushes: src/client/relay_message.c. */
#include "config.h"
#include "client/relay_message.h"
#include "core/mem.h"

#include "tap.h"

#define UUID     "0123abcd-ef01-2345-6789-ABCDEF012345"
#define TEN(s)   s s s s s s s s s s
#define WORD_63  TEN("abcdef") "xyz"
#define DIGITS   TEN("0123456789")
#define KEY_255  DIGITS DIGITS TEN("01234") "56789"
#define LEFT_255 TEN(TEN("x")) TEN(TEN("y")) TEN("zzzzz") "-ends"

static struct relay_message *
parse(const char *text)
{
	char *copy = tap_copy(text, strlen(text));
	struct relay_message *m = relay_message_parse(copy, strlen(text));

	free(copy); /* it keeps what it needs */
	return m;
}

static void
check_topic(const char *group, const char *payload, const char *want)
{
	char *escaped = mem_zalloc(2 * strlen(payload) + 1), *out = escaped, *text, *topic;
	struct relay_message *m;

	for (const char *p = payload; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			*out++ = '\\';
		*out++ = *p;
	}
	text =
	    mem_printf("{\"group\": \"%s\", \"message\": {\"type\": \"internal.message\", \"text\": \"%s\"}}",
		group, escaped);
	m = parse(text);
	is_str(m->error, NULL, "%s with %s is taken", group, payload);
	topic = m->error != NULL ? NULL
				 : mem_printf("%.*s %.*s %.*s", (int)m->topic.type.len, m->topic.type.ptr,
				       (int)m->topic.action.len, m->topic.action.ptr, (int)m->topic.key.len,
				       m->topic.key.ptr);
	is_str(topic, want, "its topic");
	is_str(m->group, group, "its group");
	ok(tap_same_octets(m->payload.ptr, m->payload.len, payload, strlen(payload)),
	    "its payload is as it came");
	relay_message_free(m);
	free(topic);
	free(text);
	free(escaped);
}

static void
test_topics(void)
{
	check_topic("job_events-123", "{}", "job_events message 123");
	check_topic("job_events-123", "{\"event\": \"runner_on_ok\"}", "job_events runner_on_ok 123");
	check_topic("job_events-123", "{\"event\": \"two words\"}", "job_events message 123");
	check_topic("job_events-123", "{\"event\": \"\"}", "job_events message 123");
	check_topic("job_events-123", "{\"event\": 7, \"id\": 9}", "job_events message 123");
	check_topic("job_events-" UUID, "{}", "job_events message " UUID);
	check_topic("my-type-7", "{ \"a\" :  1.50 }", "my-type message 7");
	check_topic("jobs-status_changed", "{}", "jobs status_changed ");
	check_topic("jobs-status_changed", "{\"id\": 5}", "jobs status_changed 5");
	check_topic("jobs-status_changed", "{\"id\": 5, \"unified_job_id\": 42}", "jobs status_changed 42");
	check_topic("jobs-status_changed", "{\"id\": 5, \"unified_job_id\": null}", "jobs status_changed 5");
	check_topic("jobs-status_changed", "{\"unified_job_id\": -9223372036854775808}",
	    "jobs status_changed -9223372036854775808");
	check_topic("inventories-status_changed", "{\"inventory_id\": 8}", "inventories status_changed 8");
	check_topic("a-b", "{\"id\": \"a b*,%.c\"}", "a b a%20b%2A%2C%25.c");
	check_topic("a-b", "{\"id\": \"a\\u0001b\"}", "a b ");
	check_topic("a-b", "{\"id\": true, \"inventory_id\": 7}", "a b ");
	check_topic("a-b", "{\"id\": 1.5}", "a b ");
	check_topic("a-b", "{\"id\": \"" LEFT_255 "\"}", "a b " LEFT_255);
	check_topic("a-b", "{\"id\": \"" LEFT_255 "x\"}", "a b ");
	check_topic("a-b", "{\"n\": \"\\u0000\"}", "a b ");
	check_topic("a-b", "{\"n\": \"\xc3\xa4\xf0\x9f\x98\x80\"}", "a b ");
	check_topic(WORD_63 "-" WORD_63, "{}", WORD_63 " " WORD_63 " ");
	check_topic("a-" KEY_255, "{}", "a message " KEY_255);
}

static const char *const invalid[] = {"", " ", "x", "null", "7", "[]", "{", "\"x\"", "{}x", "{} {}",
    "{\"group\": \"a-1\"}", "{\"message\": {\"text\": \"{}\"}}",
    "{\"group\": 5, \"message\": {\"text\": \"{}\"}}", "{\"group\": \"a-1\", \"message\": \"{}\"}",
    "{\"group\": \"a-1\", \"message\": []}", "{\"group\": \"a-1\", \"message\": {}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": {}}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": \"\"}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": \"[]\"}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": \"7\"}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": \"{}{}\"}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": \"{\"}}",
    "{\"group\": \"a-1\", \"message\": {\"text\": \"{\\u0000}\"}}",
    "{\"group\": \"\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a-\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"-1\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a.b-1\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"*-1\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a-*\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a-b.c\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a b-1\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a-1\\u0000\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"" WORD_63 "x-1\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a-" WORD_63 "x\", \"message\": {\"text\": \"{}\"}}",
    "{\"group\": \"a-" KEY_255 "0\", \"message\": {\"text\": \"{}\"}}"};

static void
test_invalid(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(invalid); i++) {
		struct relay_message *m = parse(invalid[i]);

		ok(m->error != NULL, "refused: %.60s", invalid[i]);
		relay_message_free(m);
	}
}

static void
test_ignored(void)
{
	static const char *const texts[] = {"{\"group\": \"metrics\"}",
	    "{\"group\": \"metrics\", \"message\": {\"text\": \"{}\"}}",
	    "{\"group\": \"metrics\", \"message\": 7}"};

	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		struct relay_message *m = parse(texts[i]);

		ok(m->error == NULL && m->ignored, "nobody's: %s", texts[i]);
		relay_message_free(m);
	}
}

int
main(void)
{
	test_topics();
	test_invalid();
	test_ignored();
	return tap_end();
}
