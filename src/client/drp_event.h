/* Events as clients of the Digital Rebar dialect get them (docs/drp.md, section 3). */
#ifndef PGRELAY_CLIENT_DRP_EVENT_H
#define PGRELAY_CLIENT_DRP_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/event.h"

#define DRP_EVENT_PARTS 7
#define DRP_EVENT_HEAD  2048 /* octets in front of the principal, at most */

/* An event's JSON in pieces: what belongs to the payload is not copied. */
struct drp_event {
	char head[DRP_EVENT_HEAD];
	struct slice parts[DRP_EVENT_PARTS]; /* the first one is the head */
};

/* payload is JSON; the parts point into it. time_us: microseconds since 1970. */
void drp_event_make(
    struct drp_event *event, const struct topic *topic, int64_t time_us, struct slice payload);

/* One of our own, of now: key is any text, object JSON. The caller releases it with free(). */
char *drp_event_own(const char *type, const char *action, struct slice key, const char *object);

/*
 * Jobs are also found by their machine and work order ("Machines' jobs"): the topics under which the event of this
 * topic is found so. Returns how many there are.
 */
#define DRP_EVENT_ALIASES 2
struct drp_alias {
	struct topic topic; /* its key is in written */
	char written[3 * EVENT_KEY_MAX];
};
size_t drp_event_aliases(
    const struct topic *topic, struct slice payload, struct drp_alias aliases[DRP_EVENT_ALIASES]);
/* Is it of a type that has such ways? */
bool drp_event_has_aliases(const struct topic *topic);
/* Is it a type of those topics? */
bool drp_event_is_alias(struct slice type);

#endif
