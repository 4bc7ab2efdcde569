/* Scanning JSON. Invariant: no octet outside of the text is read, whatever stands in it. */
#include "config.h"
#include "core/json_scan.h"
#include "core/mem.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
json_scan_init(struct json_scan *s, const char *text, size_t len)
{
	*s = (struct json_scan){.start = text, .p = text, .end = text + len};
}

/* ---- mistakes ---- */

bool
json_scan_fail(struct json_scan *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->error, sizeof(s->error), fmt, ap);
	va_end(ap);
	return false;
}

bool
json_scan_fail_here(struct json_scan *s, const char *what)
{
	return json_scan_fail(s, "not JSON: %s at octet %zu", what, (size_t)(s->p - s->start));
}

/* ---- characters ---- */

static int
json_scan_peek(const struct json_scan *s)
{
	return s->p < s->end ? (unsigned char)*s->p : -1;
}

static void
json_scan_space(struct json_scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

int
json_scan_next(struct json_scan *s)
{
	json_scan_space(s);
	return json_scan_peek(s);
}

/* ---- numbers ---- */

static size_t
json_scan_digits(struct json_scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - from);
}

/* *exponent is cut off beyond JSON_SCAN_ZEROS. */
static bool
json_scan_exponent(struct json_scan *s, long *exponent)
{
	bool negative;
	const char *from;

	s->p++;
	negative = json_scan_peek(s) == '-';
	if (negative || json_scan_peek(s) == '+')
		s->p++;
	from = s->p;
	if (json_scan_digits(s) == 0)
		return json_scan_fail_here(s, "an exponent without digits");
	for (; from < s->p && *exponent <= JSON_SCAN_ZEROS; from++)
		*exponent = *exponent * 10 + *from - '0';
	s->zeros += (size_t)*exponent;
	if (negative)
		*exponent = -*exponent;
	return true;
}

/* One such number would have the whole batch refused, for jsonb holds numbers as numeric does; and it writes
 * them out without an exponent. */
static bool
json_scan_check_number(struct json_scan *s, size_t whole, size_t fraction, long exponent)
{
	if ((long)whole + exponent > JSON_SCAN_WHOLE || (long)fraction - exponent > JSON_SCAN_FRACTION)
		return json_scan_fail(s, "a number with more digits than PostgreSQL can hold");
	if (s->zeros > JSON_SCAN_ZEROS)
		return json_scan_fail(
		    s, "numbers with exponents would take more than %d digits", JSON_SCAN_ZEROS);
	return true;
}

static bool
json_scan_number(struct json_scan *s)
{
	size_t whole = 1, fraction = 0;
	long exponent = 0;

	if (*s->p == '-')
		s->p++;
	if (json_scan_peek(s) == '0')
		s->p++;
	else if ((whole = json_scan_digits(s)) == 0)
		return json_scan_fail_here(s, "a number without digits");
	if (json_scan_peek(s) == '.') {
		s->p++;
		if ((fraction = json_scan_digits(s)) == 0)
			return json_scan_fail_here(s, "a point without digits");
	}
	if ((json_scan_peek(s) == 'e' || json_scan_peek(s) == 'E') && !json_scan_exponent(s, &exponent))
		return false;
	return json_scan_check_number(s, whole, fraction, exponent);
}

/* ---- strings ---- */

/* The four digits of \uXXXX; -1 when they are none. */
static int
json_scan_hex(struct json_scan *s)
{
	int value = 0;

	for (int i = 0; i < 4; i++, s->p++) {
		int c = json_scan_peek(s);

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
json_scan_codepoint(struct json_scan *s)
{
	int high = json_scan_hex(s), low;

	if (high < 0)
		return json_scan_fail_here(s, "\\u without four hexadecimal digits");
	if (high == 0)
		return json_scan_fail_here(s, "\\u0000, which PostgreSQL cannot hold,");
	if (high < 0xd800 || high > 0xdfff)
		return true;
	if (high < 0xdc00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u') {
		s->p += 2;
		low = json_scan_hex(s);
		if (low >= 0xdc00 && low <= 0xdfff)
			return true;
	}
	return json_scan_fail_here(s, "half of a surrogate pair");
}

static bool
json_scan_escape(struct json_scan *s)
{
	int c;

	s->p++;
	c = json_scan_peek(s);
	if (c < 0 || strchr("\"\\/bfnrtu", c) == NULL || c == '\0')
		return json_scan_fail_here(s, "an unknown escape");
	s->p++;
	return c != 'u' || json_scan_codepoint(s);
}

/* One character of more than one octet. */
static bool
json_scan_utf8(struct json_scan *s)
{
	size_t len = slice_utf8_octets((struct slice){s->p, (size_t)(s->end - s->p)});

	if (len == 0)
		return json_scan_fail_here(s, "something that is not UTF-8");
	s->p += len;
	return true;
}

/* Takes characters that stand for themselves. */
static void
json_scan_plain(struct json_scan *s)
{
	const char *p = s->p, *end = s->end;

	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
		p++;
	s->p = p;
}

/* Takes what is none. */
static bool
json_scan_special(struct json_scan *s, int c)
{
	if (c < 0)
		return json_scan_fail_here(s, "a string without an end");
	if (c < 0x20)
		return json_scan_fail_here(s, "a control character in a string");
	return c == '\\' ? json_scan_escape(s) : json_scan_utf8(s);
}

bool
json_scan_string(struct json_scan *s, struct slice *text)
{
	const char *from;
	int c;

	if (json_scan_next(s) != '"')
		return json_scan_fail_here(s, "a string in quotes is missing");
	from = ++s->p;
	for (;;) {
		json_scan_plain(s);
		c = json_scan_peek(s);
		if (c == '"')
			break;
		if (!json_scan_special(s, c))
			return false;
	}
	if (text != NULL)
		*text = (struct slice){from, (size_t)(s->p - from)};
	s->p++;
	return true;
}

char *
json_scan_text(struct slice written, size_t max)
{
	char *quoted, *text = NULL;
	json_t *value;

	if (written.len > max)
		return NULL;
	if (written.len == 0 || memchr(written.ptr, '\\', written.len) == NULL)
		return mem_strndup(written.ptr, written.len);
	quoted = mem_printf("\"%.*s\"", (int)written.len, written.ptr);
	value = json_loads(quoted, JSON_DECODE_ANY, NULL);
	if (value != NULL)
		text = mem_strdup(json_string_value(value));
	json_decref(value);
	free(quoted);
	return text;
}

/* ---- arrays and objects ---- */

bool
json_scan_name(struct json_scan *s, struct slice *name)
{
	if (json_scan_next(s) != '"')
		return json_scan_fail_here(s, "a name in quotes is missing");
	if (!json_scan_string(s, name))
		return false;
	if (json_scan_next(s) != ':')
		return json_scan_fail_here(s, "a colon is missing");
	s->p++;
	return true;
}

static int
json_scan_closing(int bracket)
{
	return bracket == '{' ? '}' : ']';
}

bool
json_scan_enter(struct json_scan *s, int bracket, bool *more)
{
	if (json_scan_next(s) != bracket)
		return json_scan_fail_here(s, "a bracket is missing");
	s->p++;
	if (s->depth == JSON_SCAN_DEPTH)
		return json_scan_fail(s, "JSON that is nested more than %d deep", JSON_SCAN_DEPTH);
	*more = json_scan_next(s) != json_scan_closing(bracket);
	if (*more)
		s->depth++;
	else
		s->p++;
	return true;
}

bool
json_scan_more(struct json_scan *s, int bracket, bool *more)
{
	int c = json_scan_next(s);

	if (c != ',' && c != json_scan_closing(bracket))
		return json_scan_fail_here(s, c < 0 ? "an early end" : "a comma or a bracket is missing");
	s->p++;
	*more = c == ',';
	if (!*more)
		s->depth--;
	return true;
}

static bool
json_scan_members(struct json_scan *s, int bracket)
{
	bool more;

	if (!json_scan_enter(s, bracket, &more))
		return false;
	while (more)
		if ((bracket == '{' && !json_scan_name(s, NULL)) || !json_scan_value(s, NULL) ||
		    !json_scan_more(s, bracket, &more))
			return false;
	return true;
}

/* ---- values ---- */

static bool
json_scan_word(struct json_scan *s, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return json_scan_fail_here(s, "an unknown word");
	s->p += len;
	return true;
}

/* c is what it begins with. */
static bool
json_scan_any(struct json_scan *s, int c)
{
	switch (c) {
	case '{':
	case '[':
		return json_scan_members(s, c);
	case '"':
		return json_scan_string(s, NULL);
	case 't':
		return json_scan_word(s, "true");
	case 'f':
		return json_scan_word(s, "false");
	case 'n':
		return json_scan_word(s, "null");
	default:
		if (c == '-' || (c >= '0' && c <= '9'))
			return json_scan_number(s);
		return json_scan_fail_here(s, c < 0 ? "an early end" : "an unexpected character");
	}
}

bool
json_scan_value(struct json_scan *s, struct slice *text)
{
	int c = json_scan_next(s);
	const char *from = s->p;

	if (!json_scan_any(s, c))
		return false;
	if (text != NULL)
		*text = (struct slice){from, (size_t)(s->p - from)};
	return true;
}
