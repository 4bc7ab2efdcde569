/* Commands, and the lists and escapes in their patterns. */
#include "config.h"
#include "client/drp_command.h"
#include "core/mem.h"
#include "relay/event.h"

#include <stdlib.h>
#include <string.h>

#define DRP_SPACE " \t\r\n\v\f"

static struct slice
drp_trim(struct slice s)
{
	while (s.len > 0 && s.ptr[0] != '\0' && strchr(DRP_SPACE, s.ptr[0]) != NULL)
		s.ptr++, s.len--;
	while (s.len > 0 && s.ptr[s.len - 1] != '\0' && strchr(DRP_SPACE, s.ptr[s.len - 1]) != NULL)
		s.len--;
	return s;
}

struct drp_command
drp_command_parse(struct slice text)
{
	struct drp_command command = {DRP_NO_COMMAND, drp_trim(text)};
	struct slice word;

	if (!slice_cut(&command.pattern, ' ', &word))
		command.pattern = (struct slice){"", 0};
	else if (slice_is(word, "register"))
		command.kind = DRP_REGISTER;
	else if (slice_is(word, "deregister"))
		command.kind = DRP_DEREGISTER;
	return command;
}

/* ---- patterns ---- */

/* The values of one part of a pattern, in their written form. */
struct drp_part {
	char **values;
	size_t count;
};

static void
drp_part_clear(struct drp_part *part)
{
	for (size_t i = 0; i < part->count; i++)
		free(part->values[i]);
	free(part->values);
	*part = (struct drp_part){NULL, 0};
}

static void
drp_part_add(struct drp_part *part, char *value)
{
	part->values = mem_resize(part->values, (part->count + 1) * sizeof(*part->values));
	part->values[part->count++] = value;
}

/* \1 is a dot, \2 a comma, \3 an asterisk; returns the length. */
static size_t
drp_unescape(struct slice s, char *out)
{
	static const char meant[] = {'.', ',', '*'};
	char *p = out;

	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '\\' && i + 1 < s.len && s.ptr[i + 1] >= '1' && s.ptr[i + 1] <= '3')
			*p++ = meant[s.ptr[++i] - '1'];
		else
			*p++ = s.ptr[i];
	}
	return (size_t)(p - out);
}

/* NULL: no event has this. */
static char *
drp_literal(struct slice s, bool key)
{
	char *text = mem_alloc(s.len + 1), *written = NULL;
	size_t len = drp_unescape(s, text);

	if (key && topic_key_is_valid(text, len)) {
		written = mem_alloc(3 * len + 1);
		written[topic_encode_key(text, len, written)] = '\0';
	} else if (!key && topic_is_word((struct slice){text, len})) {
		written = mem_strndup(text, len);
	}
	free(text);
	return written;
}

/* False: too many. A list with an asterisk in it is one; what no event can have is left out. */
static bool
drp_part_read(struct drp_part *part, struct slice text, bool key)
{
	struct slice rest = text, item;
	bool more = true;

	while (more && part->count <= DRP_COMMAND_PATTERNS) {
		char *value;

		more = slice_cut(&rest, ',', &item);
		if (!more)
			item = rest;
		item = drp_trim(item);
		if (topic_is_wildcard(item)) {
			drp_part_clear(part);
			drp_part_add(part, mem_strdup("*"));
			return true;
		}
		value = drp_literal(item, key);
		if (value != NULL)
			drp_part_add(part, value);
	}
	return part->count <= DRP_COMMAND_PATTERNS;
}

static void
drp_patterns_multiply(struct drp_patterns *patterns, const struct drp_part parts[3])
{
	patterns->list = mem_alloc(parts[0].count * parts[1].count * parts[2].count * sizeof(char *));
	for (size_t i = 0; i < parts[0].count; i++)
		for (size_t j = 0; j < parts[1].count; j++)
			for (size_t k = 0; k < parts[2].count; k++)
				patterns->list[patterns->count++] = mem_printf(
				    "%s.%s.%s", parts[0].values[i], parts[1].values[j], parts[2].values[k]);
}

static const char *
drp_patterns_read(struct slice pattern, struct drp_part parts[3])
{
	static const char too_many[] = "the pattern's lists stand for more than 1000 patterns";
	struct slice type, action;

	if (!slice_cut(&pattern, '.', &type) || !slice_cut(&pattern, '.', &action))
		return "a pattern has three parts, TYPE.ACTION.KEY; each may be *";
	if (!drp_part_read(&parts[0], type, false) || !drp_part_read(&parts[1], action, false) ||
	    !drp_part_read(&parts[2], pattern, true))
		return too_many;
	if (parts[0].count == 0 || parts[1].count == 0)
		return "no event has such a type or action: they are words of 1 to 63 letters, digits, "
		       "underscores or hyphens, or *";
	if (parts[2].count == 0)
		return "no event has such a key: it has at most 255 octets, and no control characters";
	if (parts[0].count * parts[1].count * parts[2].count > DRP_COMMAND_PATTERNS)
		return too_many;
	return NULL;
}

bool
drp_patterns_expand(struct slice pattern, struct drp_patterns *patterns, const char **error)
{
	struct drp_part parts[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

	*patterns = (struct drp_patterns){NULL, 0};
	*error = drp_patterns_read(pattern, parts);
	if (*error == NULL)
		drp_patterns_multiply(patterns, parts);
	for (int i = 0; i < 3; i++)
		drp_part_clear(&parts[i]);
	return *error == NULL;
}

void
drp_patterns_clear(struct drp_patterns *patterns)
{
	for (size_t i = 0; i < patterns->count; i++)
		free(patterns->list[i]);
	free(patterns->list);
	*patterns = (struct drp_patterns){NULL, 0};
}
