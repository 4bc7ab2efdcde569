/* AWX's groups. */
#include "config.h"
#include "client/awx_group.h"
#include "core/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define UUID_LEN 36

static bool
awx_group_is_number(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return len > 0;
}

static bool
awx_group_is_uuid(const char *s, size_t len)
{
	if (len != UUID_LEN)
		return false;
	for (int i = 0; i < UUID_LEN; i++) {
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return true;
}

bool
awx_group_value_is_key(const char *value, size_t len)
{
	return awx_group_is_number(value, len) || awx_group_is_uuid(value, len);
}

char *
awx_group_pattern(const char *name, const char *value)
{
	bool is_key = awx_group_value_is_key(value, strlen(value));

	if (!topic_is_word((struct slice){name, strlen(name)}))
		return NULL;
	if (is_key)
		return strlen(value) <= EVENT_KEY_MAX ? mem_printf("%s.*.%s", name, value) : NULL;
	if (!topic_is_word((struct slice){value, strlen(value)}))
		return NULL;
	return mem_printf("%s.%s.*", name, value);
}

void
awx_group_make(struct awx_group *g, const char *name, const char *value)
{
	*g = (struct awx_group){mem_printf("%s-%s", name, value), awx_group_pattern(name, value),
	    mem_strdup(name), mem_strdup(value)};
}

void
awx_group_clear(struct awx_group *g)
{
	free(g->label);
	free(g->pattern);
	free(g->name);
	free(g->value);
}

void
awx_groups_clear(struct awx_group **groups, size_t *count)
{
	for (size_t i = 0; i < *count; i++)
		awx_group_clear(&(*groups)[i]);
	free(*groups);
	*groups = NULL;
	*count = 0;
}

char *
awx_group_denial(const struct awx_group *g)
{
	return mem_printf("access denied to channel %s for resource id %s", g->name, g->value);
}

bool
awx_group_split(const char *group, char **name, char **value)
{
	size_t len = strlen(group);
	const char *hyphen = strrchr(group, '-');

	if (len > UUID_LEN && group[len - UUID_LEN - 1] == '-' &&
	    awx_group_is_uuid(group + len - UUID_LEN, UUID_LEN))
		hyphen = group + len - UUID_LEN - 1;
	else if (hyphen != NULL && !awx_group_is_number(hyphen + 1, strlen(hyphen + 1)))
		hyphen = strchr(group, '-');
	if (hyphen == NULL || hyphen == group || hyphen[1] == '\0')
		return false;
	*name = mem_strndup(group, (size_t)(hyphen - group));
	*value = mem_strdup(hyphen + 1);
	return true;
}

/* ---- the way back ---- */

static bool
awx_group_is_of_events(struct slice type)
{
	static const char ending[] = "_events";
	size_t len = sizeof(ending) - 1;

	return type.len > len && memcmp(type.ptr + type.len - len, ending, len) == 0;
}

/*
 * emit_channel_notification() makes TYPE-KEY a topic whose action is the payload's "event", else "message".
 * PostgreSQL writes jsonb in one way.
 */
static bool
awx_group_is_action_of_payload(struct slice action, struct slice payload)
{
	char *member = mem_printf("\"event\": \"%.*s\"", (int)action.len, action.ptr);
	bool is = memmem(payload.ptr, payload.len, member, strlen(member)) != NULL;

	free(member);
	return is;
}

static bool
awx_group_is_by_key(const struct topic *t, struct slice payload)
{
	if (awx_group_is_of_events(t->type))
		return t->key.len > 0;
	if (!awx_group_value_is_key(t->key.ptr, t->key.len))
		return false;
	return (t->action.len == strlen("message") && memcmp(t->action.ptr, "message", t->action.len) == 0) ||
	       awx_group_is_action_of_payload(t->action, payload);
}

size_t
awx_group_of_topic(const struct topic *t, struct slice payload, char out[AWX_GROUP_MAX])
{
	char *p = mempcpy(out, t->type.ptr, t->type.len);

	*p++ = '-';
	if (awx_group_is_by_key(t, payload))
		p += topic_decode_key(t->key, p);
	else
		p = mempcpy(p, t->action.ptr, t->action.len);
	return (size_t)(p - out);
}
