/* AWX's groups: NAME-VALUE, and the pattern that each stands for (docs/protocol.md, section 4.4). */
#ifndef PGRELAY_CLIENT_AWX_GROUP_H
#define PGRELAY_CLIENT_AWX_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "relay/event.h"

struct awx_group {
	char *label;   /* job_events-42 */
	char *pattern; /* job_events.*.42; NULL when it can be no topic's: nobody may see it */
	char *name, *value;
};

/* name and value are copied; the caller releases it with awx_group_clear(). */
void awx_group_make(struct awx_group *group, const char *name, const char *value);
void awx_group_clear(struct awx_group *group);
/* A list of them, on the heap: clears each, releases it, and sets it to NULL and *count to 0. */
void awx_groups_clear(struct awx_group **groups, size_t *count);
/* What a client is told about a group that it may not see. The caller releases it with free(). */
char *awx_group_denial(const struct awx_group *group);

/* The pattern of a group, in its written form; NULL when NAME or VALUE cannot be part of a topic. The caller
 * releases it with free(). */
char *awx_group_pattern(const char *name, const char *value);

/* Splits a group written in one piece: before a trailing UUID or number, else at the first hyphen. The caller
 * releases both with free(). */
bool awx_group_split(const char *group, char **name, char **value);

/* Digits only, or a UUID: such a VALUE is a key. */
bool awx_group_value_is_key(const char *value, size_t len);

/*
 * The group that AWX would tell an event in (docs/cluster.md, section 6); returns its length, there is no NUL.
 */
#define AWX_GROUP_MAX (EVENT_WORD_MAX + 1 + EVENT_KEY_MAX)
size_t awx_group_of_topic(const struct topic *topic, struct slice payload, char out[AWX_GROUP_MAX]);

#endif
