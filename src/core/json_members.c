/*
 * The members of an object. Invariant: p never passes end, so that nothing is read outside of the text, whatever
 * stands in it.
 */
#include "config.h"
#include "core/json_members.h"

#include <string.h>

static void
json_members_space(struct json_members *m)
{
	while (m->p < m->end && (*m->p == ' ' || *m->p == '\n' || *m->p == '\t' || *m->p == '\r'))
		m->p++;
}

/* Takes the character, white space before it included. */
static bool
json_members_take(struct json_members *m, char c)
{
	json_members_space(m);
	if (m->p == m->end || *m->p != c)
		return false;
	m->p++;
	return true;
}

static bool
json_members_fail(struct json_members *m)
{
	m->p = m->end;
	return false;
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

/* p is at the opening quote, and gets behind the closing one. */
static bool
json_members_skip_string(struct json_members *m)
{
	const char *from = m->p + 1, *quote = m->p;

	do {
		quote++;
		quote = memchr(quote, '"', (size_t)(m->end - quote));
		if (quote == NULL)
			return json_members_fail(m);
	} while (json_quote_is_escaped(from, quote));
	m->p = quote + 1;
	return true;
}

/* p is at the opening bracket, and gets behind the closing one. */
static bool
json_members_skip_nest(struct json_members *m)
{
	size_t depth = 0;

	while (m->p < m->end) {
		char c = *m->p;

		if (c == '"') {
			if (!json_members_skip_string(m))
				return false;
			continue;
		}
		m->p++;
		if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && --depth == 0)
			return true;
	}
	return false;
}

/* p gets behind the value that it is at. */
static bool
json_members_skip(struct json_members *m)
{
	const char *from = m->p;

	if (m->p == m->end)
		return false;
	if (*m->p == '"')
		return json_members_skip_string(m);
	if (*m->p == '{' || *m->p == '[')
		return json_members_skip_nest(m);
	while (m->p < m->end && strchr(",}] \n\t\r", *m->p) == NULL)
		m->p++;
	return m->p > from;
}

struct json_members
json_members_of(struct slice object)
{
	struct json_members m = {object.ptr, object.ptr + object.len};

	if (!json_members_take(&m, '{'))
		json_members_fail(&m);
	return m;
}

bool
json_members_next(struct json_members *m, struct slice *name, struct slice *value)
{
	const char *from;

	json_members_take(m, ',');
	json_members_space(m);
	from = m->p + 1;
	if (m->p == m->end || *m->p != '"' || !json_members_skip_string(m))
		return json_members_fail(m);
	*name = (struct slice){from, (size_t)(m->p - 1 - from)};
	if (!json_members_take(m, ':'))
		return json_members_fail(m);
	json_members_space(m);
	from = m->p;
	if (!json_members_skip(m))
		return json_members_fail(m);
	*value = (struct slice){from, (size_t)(m->p - from)};
	return true;
}

bool
json_value_is_string(struct slice value, struct slice *text)
{
	if (value.len < 2 || value.ptr[0] != '"')
		return false;
	*text = (struct slice){value.ptr + 1, value.len - 2};
	return true;
}
