/* What the database says that a user may see, for the patterns of the Digital Rebar dialect. */
#ifndef PGRELAY_CLIENT_DRP_RIGHTS_H
#define PGRELAY_CLIENT_DRP_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/auth.h"
#include "client/drp_command.h"
#include "client/groups.h"
#include "relay/event.h"

/* An answer, so that one pattern's part of it is found fast. */
struct drp_rights {
	struct auth_right *sorted;
	size_t count;
};
/* The answer stays the caller's, and there until the rights are cleared. */
void drp_rights_init(struct drp_rights *rights, const struct auth_answer *answer);
void drp_rights_clear(struct drp_rights *rights);

/* How many rights there are for these patterns, those that others cover as well. */
size_t drp_rights_count(const struct drp_rights *rights, const struct drp_patterns *patterns);

/* Patterns; each with a text of its own. */
struct drp_seen {
	struct topic *topics;
	size_t count;
};
/* Appends what may be seen of these patterns; returns a digest of it, 0 for nothing. */
uint32_t drp_rights_find(
    const struct drp_rights *rights, const struct drp_patterns *patterns, struct drp_seen *seen);
/* Appends what a pattern as it came stands for. */
void drp_seen_add_text(struct drp_seen *seen, struct slice text);
void drp_seen_clear(struct drp_seen *seen);

/* Sorts them, for drp_seen_covers(). */
void drp_seen_sort(struct drp_seen *seen);
/* Is all that this pattern matches matched by one of them? */
bool drp_seen_covers(const struct drp_seen *sorted, const struct topic *pattern);
/* Does one of the patterns that this one, as it came, stands for concern somebody? */
bool drp_text_concerns(struct slice text, groups_concern concerns, const void *arg);

#endif
