/* AWX's groups. */
#include "config.h"
#include "client/awx_group.h"
#include "core/mem.h"
#include "relay/event.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define UUID_LEN 36

static bool
awx_group_is_number(const char *s)
{
	return *s != '\0' && strspn(s, "0123456789") == strlen(s);
}

static bool
awx_group_is_uuid(const char *s)
{
	if (strlen(s) != UUID_LEN)
		return false;
	for (int i = 0; i < UUID_LEN; i++) {
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return true;
}

char *
awx_group_pattern(const char *name, const char *value)
{
	bool is_key = awx_group_is_number(value) || awx_group_is_uuid(value);

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

	if (len > UUID_LEN && group[len - UUID_LEN - 1] == '-' && awx_group_is_uuid(group + len - UUID_LEN))
		hyphen = group + len - UUID_LEN - 1;
	else if (hyphen != NULL && !awx_group_is_number(hyphen + 1))
		hyphen = strchr(group, '-');
	if (hyphen == NULL || hyphen == group || hyphen[1] == '\0')
		return false;
	*name = mem_strndup(group, (size_t)(hyphen - group));
	*value = mem_strdup(hyphen + 1);
	return true;
}
