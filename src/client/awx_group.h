/* AWX's groups: NAME-VALUE, and the pattern that each stands for (docs/protocol.md, section 4.4). */
#ifndef PGRELAY_CLIENT_AWX_GROUP_H
#define PGRELAY_CLIENT_AWX_GROUP_H

#include <stdbool.h>

/* The pattern of a group, in its written form; NULL when NAME or VALUE cannot be part of a topic. The caller
 * releases it with free(). */
char *awx_group_pattern(const char *name, const char *value);

/* Splits a group written in one piece: before a trailing UUID or number, else at the first hyphen. The caller
 * releases both with free(). */
bool awx_group_split(const char *group, char **name, char **value);

#endif
