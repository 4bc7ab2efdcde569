/*
 * Checking the body of a publishing request: RFC 8259's grammar, strictly as PostgreSQL's jsonb has it
 * (UTF-8, no NUL, no half of a surrogate pair), and in it events with their four fields, each once. A scan
 * over the text; the first mistake ends it.
 */
#include "config.h"
#include "relay/publish_body.h"
#include "core/mem.h"
#include "relay/event.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PUBLISH_BODY_TEXT_MAX (6 * EVENT_KEY_MAX + 2) /* of a string that is looked into: all of it \uXXXX */
#define PUBLISH_BODY_SHOWN    64                      /* octets of a name in a message */

struct publish_scan {
	const char *start, *p, *end;
	int depth;
	size_t zeros;
	long index; /* of the event that is looked at; -1: none */
	struct publish_body_error *error;
};

static bool publish_scan_value(struct publish_scan *s);

static bool __attribute__((format(printf, 2, 3)))
publish_scan_fail(struct publish_scan *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->error->text, sizeof(s->error->text), fmt, ap);
	va_end(ap);
	s->error->index = s->index;
	return false;
}

static bool
publish_scan_fail_here(struct publish_scan *s, const char *what)
{
	return publish_scan_fail(s, "not JSON: %s at octet %zu", what, (size_t)(s->p - s->start));
}

/* ---- JSON ---- */

static int
publish_scan_peek(const struct publish_scan *s)
{
	return s->p < s->end ? (unsigned char)*s->p : -1;
}

static void
publish_scan_space(struct publish_scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

/* The next character behind white space. */
static int
publish_scan_next(struct publish_scan *s)
{
	publish_scan_space(s);
	return publish_scan_peek(s);
}

static size_t
publish_scan_digits(struct publish_scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - from);
}

/* *exponent is cut off beyond PUBLISH_BODY_ZEROS. */
static bool
publish_scan_exponent(struct publish_scan *s, long *exponent)
{
	bool negative;
	const char *from;

	s->p++;
	negative = publish_scan_peek(s) == '-';
	if (negative || publish_scan_peek(s) == '+')
		s->p++;
	from = s->p;
	if (publish_scan_digits(s) == 0)
		return publish_scan_fail_here(s, "an exponent without digits");
	for (; from < s->p && *exponent <= PUBLISH_BODY_ZEROS; from++)
		*exponent = *exponent * 10 + *from - '0';
	s->zeros += (size_t)*exponent;
	if (negative)
		*exponent = -*exponent;
	return true;
}

/* One such number would have the whole batch refused, for jsonb holds numbers as numeric does; and it writes
 * them out without an exponent. */
static bool
publish_check_number(struct publish_scan *s, size_t whole, size_t fraction, long exponent)
{
	if ((long)whole + exponent > PUBLISH_BODY_WHOLE || (long)fraction - exponent > PUBLISH_BODY_FRACTION)
		return publish_scan_fail(s, "a number with more digits than PostgreSQL can hold");
	if (s->zeros > PUBLISH_BODY_ZEROS)
		return publish_scan_fail(
		    s, "numbers with exponents would take more than %d digits", PUBLISH_BODY_ZEROS);
	return true;
}

static bool
publish_scan_number(struct publish_scan *s)
{
	size_t whole = 1, fraction = 0;
	long exponent = 0;

	if (*s->p == '-')
		s->p++;
	if (publish_scan_peek(s) == '0')
		s->p++;
	else if ((whole = publish_scan_digits(s)) == 0)
		return publish_scan_fail_here(s, "a number without digits");
	if (publish_scan_peek(s) == '.') {
		s->p++;
		if ((fraction = publish_scan_digits(s)) == 0)
			return publish_scan_fail_here(s, "a point without digits");
	}
	if ((publish_scan_peek(s) == 'e' || publish_scan_peek(s) == 'E') &&
	    !publish_scan_exponent(s, &exponent))
		return false;
	return publish_check_number(s, whole, fraction, exponent);
}

static bool
publish_scan_word(struct publish_scan *s, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return publish_scan_fail_here(s, "an unknown word");
	s->p += len;
	return true;
}

/* The four digits of \uXXXX; -1 when they are none. */
static int
publish_scan_hex(struct publish_scan *s)
{
	int value = 0;

	for (int i = 0; i < 4; i++, s->p++) {
		int c = publish_scan_peek(s);

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			value = value * 16 + (c | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/* Behind "\u". */
static bool
publish_scan_codepoint(struct publish_scan *s)
{
	int high = publish_scan_hex(s), low;

	if (high < 0)
		return publish_scan_fail_here(s, "\\u without four hexadecimal digits");
	if (high == 0)
		return publish_scan_fail_here(s, "\\u0000, which PostgreSQL cannot hold,");
	if (high < 0xd800 || high > 0xdfff)
		return true;
	if (high < 0xdc00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u') {
		s->p += 2;
		low = publish_scan_hex(s);
		if (low >= 0xdc00 && low <= 0xdfff)
			return true;
	}
	return publish_scan_fail_here(s, "half of a surrogate pair");
}

static bool
publish_scan_escape(struct publish_scan *s)
{
	int c;

	s->p++;
	c = publish_scan_peek(s);
	if (c < 0 || strchr("\"\\/bfnrtu", c) == NULL || c == '\0')
		return publish_scan_fail_here(s, "an unknown escape");
	s->p++;
	return c != 'u' || publish_scan_codepoint(s);
}

/* RFC 3629: one character of more than one octet. */
static bool
publish_scan_utf8(struct publish_scan *s)
{
	const unsigned char *p = (const unsigned char *)s->p;
	size_t left = (size_t)(s->end - s->p), len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	if (p[0] < 0xc2 || p[0] > 0xf4 || left < len || (p[0] == 0xe0 && p[1] < 0xa0) ||
	    (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return publish_scan_fail_here(s, "something that is not UTF-8");
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return publish_scan_fail_here(s, "something that is not UTF-8");
	s->p += len;
	return true;
}

/* *text, where it is wanted, gets what lies between the quotes, as it is written. */
static bool
publish_scan_string(struct publish_scan *s, struct slice *text)
{
	const char *from = ++s->p;

	for (;;) {
		int c = publish_scan_peek(s);
		bool ok = true;

		if (c == '"')
			break;
		if (c < 0)
			return publish_scan_fail_here(s, "a string without an end");
		if (c < 0x20)
			return publish_scan_fail_here(s, "a control character in a string");
		if (c == '\\')
			ok = publish_scan_escape(s);
		else if (c >= 0x80)
			ok = publish_scan_utf8(s);
		else
			s->p++;
		if (!ok)
			return false;
	}
	if (text != NULL)
		*text = (struct slice){from, (size_t)(s->p - from)};
	s->p++;
	return true;
}

/* A name and its colon. */
static bool
publish_scan_name(struct publish_scan *s, struct slice *name)
{
	if (publish_scan_next(s) != '"')
		return publish_scan_fail_here(s, "a name in quotes is missing");
	if (!publish_scan_string(s, name))
		return false;
	if (publish_scan_next(s) != ':')
		return publish_scan_fail_here(s, "a colon is missing");
	s->p++;
	return true;
}

/* Behind a member: is there another one? *more is false behind the last, which takes the bracket. */
static bool
publish_scan_more(struct publish_scan *s, int bracket, bool *more)
{
	int c = publish_scan_next(s);

	if (c != ',' && c != bracket)
		return publish_scan_fail_here(s, c < 0 ? "an early end" : "a comma or a bracket is missing");
	s->p++;
	*more = c == ',';
	return true;
}

/* A whole array or object, from its bracket on. */
static bool
publish_scan_members(struct publish_scan *s, int bracket)
{
	bool more = true;

	s->p++;
	if (++s->depth > PUBLISH_BODY_DEPTH)
		return publish_scan_fail(s, "JSON that is nested more than %d deep", PUBLISH_BODY_DEPTH);
	if (publish_scan_next(s) == bracket) {
		s->p++;
		more = false;
	}
	while (more)
		if ((bracket == '}' && !publish_scan_name(s, NULL)) || !publish_scan_value(s) ||
		    !publish_scan_more(s, bracket, &more))
			return false;
	s->depth--;
	return true;
}

static bool
publish_scan_value(struct publish_scan *s)
{
	int c = publish_scan_next(s);

	switch (c) {
	case '{':
		return publish_scan_members(s, '}');
	case '[':
		return publish_scan_members(s, ']');
	case '"':
		return publish_scan_string(s, NULL);
	case 't':
		return publish_scan_word(s, "true");
	case 'f':
		return publish_scan_word(s, "false");
	case 'n':
		return publish_scan_word(s, "null");
	default:
		if (c == '-' || (c >= '0' && c <= '9'))
			return publish_scan_number(s);
		return publish_scan_fail_here(s, c < 0 ? "an early end" : "an unexpected character");
	}
}

/* ---- events ---- */

enum publish_field {
	PUBLISH_TYPE,
	PUBLISH_ACTION,
	PUBLISH_KEY,
	PUBLISH_PAYLOAD,
	PUBLISH_FIELDS,
	PUBLISH_UNKNOWN = PUBLISH_FIELDS
};
static const char *const publish_fields[PUBLISH_FIELDS] = {"type", "action", "key", "payload"};

/* A string's own text; NULL when it is longer than anything that is looked for. The caller releases it. */
static char *
publish_text(struct slice written)
{
	char *quoted, *text = NULL;
	json_t *value;

	if (written.len > PUBLISH_BODY_TEXT_MAX)
		return NULL;
	quoted = mem_printf("\"%.*s\"", (int)written.len, written.ptr);
	value = json_loads(quoted, JSON_DECODE_ANY, NULL);
	if (value != NULL)
		text = mem_strdup(json_string_value(value));
	json_decref(value);
	free(quoted);
	return text;
}

static enum publish_field
publish_field_of(struct slice written)
{
	char *name = publish_text(written);
	int field = PUBLISH_TYPE;

	while (field < PUBLISH_FIELDS && (name == NULL || strcmp(name, publish_fields[field]) != 0))
		field++;
	free(name);
	return (enum publish_field)field;
}

static bool
publish_check_text(struct publish_scan *s, enum publish_field field, struct slice written)
{
	char *text = publish_text(written);
	struct slice slice = {text, text != NULL ? strlen(text) : 0};
	bool ok = text != NULL &&
		  (field == PUBLISH_KEY ? topic_key_is_valid(slice.ptr, slice.len) : topic_is_word(slice));

	free(text);
	if (ok)
		return true;
	if (field == PUBLISH_KEY)
		return publish_scan_fail(
		    s, "a key has at most %d octets and no control characters", EVENT_KEY_MAX);
	return publish_scan_fail(s, "%s must be 1 to %d letters (A-Z), digits, hyphens and underscores",
	    publish_fields[field], EVENT_WORD_MAX);
}

static bool
publish_scan_field(struct publish_scan *s, enum publish_field field)
{
	int c = publish_scan_next(s);
	struct slice text;

	if (field == PUBLISH_PAYLOAD)
		return c == '{' || c < 0 ? publish_scan_value(s)
					 : publish_scan_fail(s, "payload must be a JSON object");
	if (c != '"')
		return publish_scan_fail(s, "%s must be a string", publish_fields[field]);
	return publish_scan_string(s, &text) && publish_check_text(s, field, text);
}

/* seen is a set of enum publish_field. A key that is left out is empty. */
static bool
publish_check_seen(struct publish_scan *s, unsigned seen)
{
	for (int field = 0; field < PUBLISH_FIELDS; field++)
		if (field != PUBLISH_KEY && (seen & (1u << field)) == 0)
			return publish_scan_fail(s, "an event without %s", publish_fields[field]);
	return true;
}

static bool
publish_fail_field(struct publish_scan *s, struct slice name)
{
	size_t len = name.len < PUBLISH_BODY_SHOWN ? name.len : PUBLISH_BODY_SHOWN;

	while (len > 0 && len < name.len && ((unsigned char)name.ptr[len] & 0xc0) == 0x80)
		len--;
	return publish_scan_fail(s, "an event has no field \"%.*s\"", (int)len, name.ptr);
}

static bool
publish_scan_event(struct publish_scan *s)
{
	unsigned seen = 0;
	bool more = true;

	if (publish_scan_next(s) != '{')
		return publish_scan_fail(
		    s, "an event must be a JSON object with type, action, key and payload");
	s->p++;
	s->depth++;
	if (publish_scan_next(s) == '}')
		return publish_check_seen(s, seen);
	while (more) {
		struct slice name;
		enum publish_field field;

		if (!publish_scan_name(s, &name))
			return false;
		field = publish_field_of(name);
		if (field == PUBLISH_UNKNOWN)
			return publish_fail_field(s, name);
		if ((seen & (1u << field)) != 0)
			return publish_scan_fail(s, "an event with two fields \"%s\"", publish_fields[field]);
		seen |= 1u << field;
		if (!publish_scan_field(s, field) || !publish_scan_more(s, '}', &more))
			return false;
	}
	s->depth--;
	return publish_check_seen(s, seen);
}

static bool
publish_scan_list(struct publish_scan *s, size_t *events)
{
	bool more = true;

	s->p++;
	s->depth++;
	if (publish_scan_next(s) == ']')
		return publish_scan_fail(s, "a list without an event");
	while (more) {
		if (*events == PUBLISH_BODY_EVENTS)
			return publish_scan_fail(
			    s, "more than %d events in one request", PUBLISH_BODY_EVENTS);
		s->index = (long)(*events)++;
		if (!publish_scan_event(s))
			return false;
		s->index = -1;
		if (!publish_scan_more(s, ']', &more))
			return false;
	}
	return true;
}

bool
publish_body_check(const char *text, size_t len, struct publish_body *body, struct publish_body_error *error)
{
	struct publish_scan s = {text, text, text + len, 0, 0, -1, error};
	int c = publish_scan_next(&s);

	*body = (struct publish_body){0, 0};
	if (c < 0)
		return publish_scan_fail(&s, "the body is empty: an event is wanted, or a list of them");
	if (c == '[') {
		if (!publish_scan_list(&s, &body->events))
			return false;
	} else {
		s.index = 0;
		body->events = 1;
		if (!publish_scan_event(&s))
			return false;
		s.index = -1;
	}
	if (publish_scan_next(&s) >= 0)
		return publish_scan_fail_here(&s, "something behind the end");
	body->octets = len + s.zeros;
	return true;
}
