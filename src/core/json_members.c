/*
 * The members of an object. Invariant: p never passes end, so that nothing is read outside of the text,
 * whatever stands in it.
 */
#include "config.h"
#include "core/json_members.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* In each function here p is where the text goes on; NULL: it has ended too early. */

static const char *
json_skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

#define JSON_STRING_SHORT 16
#define JSON_EACH(octet)  (UINT64_C(0x0101010101010101) * (octet))

/* The lowest bit that is set belongs to the first octet that is zero; 0: none is. */
static uint64_t
json_zeros(uint64_t octets)
{
	return (octets - JSON_EACH(1)) & ~octets & JSON_EACH(0x80);
}

/* An odd number of backslashes before it takes its meaning from a quote. */
static bool
json_quote_is_escaped(const char *from, const char *quote)
{
	const char *p = quote;

	while (p > from && p[-1] == '\\')
		p--;
	return (quote - p) % 2 != 0;
}

static const char *
json_skip_long_string(const char *from, const char *end)
{
	const char *quote = from - 1;

	do {
		quote++;
		quote = memchr(quote, '"', (size_t)(end - quote));
		if (quote == NULL)
			return NULL;
	} while (json_quote_is_escaped(from, quote));
	return quote + 1;
}

/* From behind the opening quote to behind the closing one. Mostly that is near: then by eight octets. */
static const char *
json_skip_string(const char *from, const char *end)
{
	for (const char *p = from; end - p >= 8 && p - from < JSON_STRING_SHORT; p += 8) {
		uint64_t octets, hits;

		memcpy(&octets, p, sizeof(octets));
		octets = le64toh(octets);
		hits = json_zeros(octets ^ JSON_EACH('"')) | json_zeros(octets ^ JSON_EACH('\\'));
		if (hits == 0)
			continue;
		p += __builtin_ctzll(hits) / 8;
		if (*p == '"')
			return p + 1;
		break;
	}
	return json_skip_long_string(from, end);
}

/* From the opening bracket to behind the closing one. */
static const char *
json_skip_nest(const char *p, const char *end)
{
	size_t depth = 0;

	while (p != NULL && p < end)
		switch (*p++) {
		case '"':
			p = json_skip_string(p, end);
			break;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (--depth == 0)
				return p;
			break;
		}
	return NULL;
}

/* A number or a word. */
static const char *
json_skip_word(const char *p, const char *end)
{
	const char *from = p;

	while (p < end && *p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\n' && *p != '\t' &&
	       *p != '\r')
		p++;
	return p > from ? p : NULL;
}

static const char *
json_skip_value(const char *p, const char *end)
{
	if (p < end && *p == '"')
		return json_skip_string(p + 1, end);
	if (p < end && (*p == '{' || *p == '['))
		return json_skip_nest(p, end);
	return json_skip_word(p, end);
}

struct json_members
json_members_of(struct slice object)
{
	const char *end = object.ptr + object.len, *p = json_skip_space(object.ptr, end);

	return (struct json_members){p < end && *p == '{' ? p + 1 : end, end};
}

/* Both slices, and what is behind them; NULL: there is no member. */
static const char *
json_take_member(const char *p, const char *end, struct slice *name, struct slice *value)
{
	const char *from;

	p = json_skip_space(p, end);
	if (p < end && *p == ',')
		p = json_skip_space(p + 1, end);
	from = p + 1;
	if (p == end || *p != '"' || (p = json_skip_string(from, end)) == NULL)
		return NULL;
	*name = (struct slice){from, (size_t)(p - 1 - from)};
	p = json_skip_space(p, end);
	if (p == end || *p != ':')
		return NULL;
	from = json_skip_space(p + 1, end);
	p = json_skip_value(from, end);
	if (p != NULL)
		*value = (struct slice){from, (size_t)(p - from)};
	return p;
}

bool
json_members_next(struct json_members *m, struct slice *name, struct slice *value)
{
	const char *p = json_take_member(m->p, m->end, name, value);

	m->p = p != NULL ? p : m->end;
	return p != NULL;
}

bool
json_value_is_string(struct slice value, struct slice *text)
{
	if (value.len < 2 || value.ptr[0] != '"')
		return false;
	*text = (struct slice){value.ptr + 1, value.len - 2};
	return true;
}
