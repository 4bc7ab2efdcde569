/*
 * Topics that came lately. An event's has mostly come before: then its text need not be looked at again, nor
 * the index for who wants it when nobody did.
 */
#ifndef PGRELAY_RELAY_RECENT_H
#define PGRELAY_RELAY_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/event.h"

#define RECENT_WORDS    14                     /* 128 octets with the rest */
#define RECENT_TEXT_MAX (RECENT_WORDS * 8 - 1) /* octets; longer ones are not kept */

struct recent_topic {
	uint64_t unwanted; /* the hub's version as of which nobody wanted it; 0: not known */
	uint8_t len, type_len, action_len;
	uint64_t words[RECENT_WORDS]; /* the text, eight octets each, zeros behind its end */
};

/*
 * Takes a topic without wildcards and the space behind it off a line, as topic_parse() does a text. *recent is
 * what is known of the topic, until the next call; NULL where it is not kept.
 */
bool recent_take(struct slice *line, struct topic *topic, struct recent_topic **recent);

#endif
