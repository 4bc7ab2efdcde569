/* Scanning JSON: src/core/json_scan.c and json_members.c, the latter against jansson. What publishing makes of the
 * grammar is in test_publish_body.c. */
#include "config.h"
#include "core/json_members.h"
#include "core/json_scan.h"
#include "core/mem.h"

#include <jansson.h>

#include "tap.h"

static char *
text_of(struct slice s)
{
	return mem_strndup(s.ptr, s.len);
}

/* ---- scanning ---- */

static const struct value_row {
	const char *text, *value, *error;
} value_rows[] = {
    {" {\"a\" : [1, 2]} ,", "{\"a\" : [1, 2]}", NULL},
    {"\n\"a\\\"b\" ", "\"a\\\"b\"", NULL},
    {"12345678901234567890.50,", "12345678901234567890.50", NULL},
    {"null", "null", NULL},
    {"[]]", "[]", NULL},
    {"", NULL, "not JSON: an early end at octet 0"},
    {"nul", NULL, "not JSON: an unknown word at octet 0"},
    {"{\"a\":}", NULL, "not JSON: an unexpected character at octet 5"},
    {"[1 2]", NULL, "not JSON: a comma or a bracket is missing at octet 3"},
    {"\"a", NULL, "not JSON: a string without an end at octet 2"},
    {"\"\xc3\"", NULL, "not JSON: something that is not UTF-8 at octet 1"},
};

static void
test_values(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(value_rows); i++) {
		const struct value_row *row = &value_rows[i];
		char *copy = tap_copy(row->text, strlen(row->text)), *got;
		struct slice value = {"", 0};
		struct json_scan s;
		bool passed;

		json_scan_init(&s, copy, strlen(row->text));
		passed = json_scan_value(&s, &value);
		got = passed ? text_of(value) : NULL;
		is_str(got, row->value, "the value at the head of %s", row->text);
		is_str(passed ? NULL : s.error, row->error, "what is wrong with %s", row->text);
		free(got);
		free(copy);
	}
}

static void
test_members_one_by_one(void)
{
	static const char text[] = "{ \"a\" : \"\\u0062\", \"c\":[{}] }";
	struct slice name, value;
	struct json_scan s;
	bool more;
	char *got;

	json_scan_init(&s, text, strlen(text));
	ok(json_scan_enter(&s, '{', &more) && more, "an object with members is entered");
	ok(json_scan_name(&s, &name) && slice_is(name, "a"), "the first name");
	ok(json_scan_string(&s, &value) && slice_is(value, "\\u0062"), "its string, as it is written");
	got = json_scan_text(value, 6);
	is_str(got, "b", "and without its escapes");
	free(got);
	ok(json_scan_text(value, 5) == NULL, "but not when it is longer than is wanted");
	ok(json_scan_more(&s, '{', &more) && more, "there is another one");
	ok(json_scan_name(&s, &name) && json_scan_value(&s, &value) && slice_is(value, "[{}]"), "an array");
	ok(json_scan_more(&s, '{', &more) && !more, "and no more");
	is_int(json_scan_next(&s), -1, "then the text is over");
	is_int(s.depth, 0, "and nothing is open");
}

/* ---- members ---- */

static const struct members_row {
	const char *text, *members;
} members_rows[] = {
    {"{}", ""},
    {" { } ", ""},
    {"", ""},
    {"[\"a\", 1]", ""},
    {"null", ""},
    {"{\"a\":1}", "a=1;"},
    {" {\"a\" : 1 , \"b\" : \"x\" }", "a=1;b=\"x\";"},
    {"{\"a\": {\"b\": [1, {\"c\": \"}]\"}]}, \"d\": []}", "a={\"b\": [1, {\"c\": \"}]\"}]};d=[];"},
    {"{\"a\\\"b\": \"\\\\\", \"c\": \"\\\\\\\"\"}", "a\\\"b=\"\\\\\";c=\"\\\\\\\"\";"},
    {"{\"\": null, \"\": true}", "=null;=true;"},
    /* what is no JSON */
    {"{\"a\":1", "a=1;"},
    {"{\"a\":", ""},
    {"{\"a\"", ""},
    {"{\"a", ""},
    {"{\"a\":\"b", ""},
    {"{\"a\":[1,{}", ""},
    {"{\"a\\\"", ""},
    {"{a:1}", ""},
    {"{\"a\":1}}}", "a=1;"},
};

static char *
members_of(const char *text, size_t len)
{
	char *copy = tap_copy(text, len), *all = mem_strdup("");
	struct json_members m = json_members_of((struct slice){copy, len});
	struct slice name, value;

	while (json_members_next(&m, &name, &value)) {
		char *longer =
		    mem_printf("%s%.*s=%.*s;", all, (int)name.len, name.ptr, (int)value.len, value.ptr);

		free(all);
		all = longer;
	}
	ok(!json_members_next(&m, &name, &value), "and once more there are none");
	free(copy);
	return all;
}

static void
test_members(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(members_rows); i++) {
		char *got = members_of(members_rows[i].text, strlen(members_rows[i].text));

		is_str(got, members_rows[i].members, "the members of %s", members_rows[i].text);
		free(got);
	}
}

static void
test_strings(void)
{
	struct slice text;

	ok(json_value_is_string((struct slice){"\"ab\"", 4}, &text) && slice_is(text, "ab"), "a string");
	ok(json_value_is_string((struct slice){"\"\"", 2}, &text) && text.len == 0, "an empty one");
	ok(!json_value_is_string((struct slice){"17", 2}, &text), "a number is none");
	ok(!json_value_is_string((struct slice){"", 0}, &text), "nothing is none");
}

/* ---- against jansson ---- */

static json_t *make_value(struct tap_random *r, int depth);

static json_t *
make_string(struct tap_random *r)
{
	static const char *const pieces[] = {
	    "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "a", "\xc3\xa4", "\n"};
	char text[64] = "";

	for (uint32_t n = tap_random(r, 8); n > 0; n--)
		strcat(text, pieces[tap_random(r, ARRAY_LENGTH(pieces))]);
	return json_string(text);
}

static json_t *
make_object(struct tap_random *r, int depth)
{
	json_t *object = json_object();

	for (uint32_t n = tap_random(r, 5); n > 0; n--) {
		json_t *name = make_string(r);

		json_object_set_new(object, json_string_value(name), make_value(r, depth - 1));
		json_decref(name);
	}
	return object;
}

static json_t *
make_value(struct tap_random *r, int depth)
{
	json_t *array;

	switch (tap_random(r, depth > 0 ? 6 : 4)) {
	case 0:
		return json_null();
	case 1:
		return json_integer(tap_random(r, 1000));
	case 2:
		return json_real(0.5);
	case 3:
		return make_string(r);
	case 4:
		return make_object(r, depth);
	default:
		array = json_array();
		for (uint32_t n = tap_random(r, 4); n > 0; n--)
			json_array_append_new(array, make_value(r, depth - 1));
		return array;
	}
}

/* Does what comes out have the object's members, each with its value? */
static bool
members_are_those(const json_t *object, const char *text, size_t len)
{
	struct json_members m = json_members_of((struct slice){text, len});
	struct slice name, value;
	size_t count = 0;
	bool same = true;

	for (; json_members_next(&m, &name, &value); count++) {
		char *decoded = json_scan_text(name, len);
		json_t *got = json_loadb(value.ptr, value.len, JSON_DECODE_ANY, NULL);

		same = same && decoded != NULL && json_equal(got, json_object_get(object, decoded));
		json_decref(got);
		free(decoded);
	}
	return same && count == json_object_size(object);
}

static void
test_against_jansson(void)
{
	struct tap_random r = {20261122};
	int differ = 0, members = 0;

	diag("seed %llu", (unsigned long long)r.state);
	for (int i = 0; i < 20000; i++) {
		json_t *object = make_object(&r, 4);
		char *text = json_dumps(object, i % 3 == 0 ? JSON_INDENT(1) : i % 3 == 1 ? JSON_COMPACT : 0);
		char *copy = tap_copy(text, strlen(text));

		members += (int)json_object_size(object);
		if (!members_are_those(object, copy, strlen(text)) && differ++ == 0)
			diag("%s", text);
		free(copy);
		free(text);
		json_decref(object);
	}
	is_int(differ, 0, "of 20000 objects with %d members jansson and the scan find the same", members);
	ok(members > 20000, "the objects are not mostly empty");
}

/* Cut anywhere, it ends; that nothing is read behind the end the sanitizers see. */
static void
test_cut_anywhere(void)
{
	static const char text[] =
	    "{\"a\\\\\": {\"b\": [1, \"}\\\"\", null]}, \"c\": \"d\\\\\", \"e\": -1.5e3}";
	size_t most = 0;

	for (size_t len = 0; len <= strlen(text); len++) {
		char *copy = tap_copy(text, len);
		struct json_members m = json_members_of((struct slice){copy, len});
		struct slice name, value;
		size_t count = 0;

		while (json_members_next(&m, &name, &value))
			count++;
		most = count > most ? count : most;
		free(copy);
	}
	is_int((long long)most, 3, "the whole text has three members, and no part of it more");
}

int
main(void)
{
	test_values();
	test_members_one_by_one();
	test_members();
	test_strings();
	test_against_jansson();
	test_cut_anywhere();
	return tap_end();
}
