/* What a client of the Digital Rebar dialect says (docs/drp.md, section 2). */
#ifndef PGRELAY_CLIENT_DRP_COMMAND_H
#define PGRELAY_CLIENT_DRP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "core/slice.h"

enum drp_command_kind { DRP_REGISTER, DRP_DEREGISTER, DRP_NO_COMMAND };

struct drp_command {
	enum drp_command_kind kind;
	struct slice pattern; /* as it came; a part of the text */
};

struct drp_command drp_command_parse(struct slice text);

#define DRP_COMMAND_PATTERNS 1000 /* that one command stands for, at most */

/*
 * The patterns that a command's pattern stands for, in their written form, each once a place. False: it can match
 * nothing, or stands for too many, and *error, which need not be released, says which.
 */
struct drp_patterns {
	char **list; /* each a text of its own */
	size_t count;
};
bool drp_patterns_expand(struct slice pattern, struct drp_patterns *patterns, const char **error);
void drp_patterns_clear(struct drp_patterns *patterns);

#endif
