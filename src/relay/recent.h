/*
 * Topics that came lately. An event's has mostly come before: then its text need not be looked at again, nor
 * the index for who wants it when nobody did.
 */
#ifndef PGRELAY_RELAY_RECENT_H
#define PGRELAY_RELAY_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/event.h"

#define RECENT_TEXT_MAX 117 /* octets; longer ones are not kept */

struct recent_topic {
	uint64_t unwanted; /* the hub's version as of which nobody wanted it; 0: not known */
	uint8_t len, type_len, action_len;
	char text[RECENT_TEXT_MAX];
};

/*
 * topic_parse() without wildcards. *recent is what is known of the topic, until the next call; NULL where it
 * is not kept.
 */
bool recent_parse(struct slice text, struct topic *topic, struct recent_topic **recent);

#endif
