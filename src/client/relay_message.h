/*
 * What AWX's wsrelay pushes, checked: the group, the payload, and the topic that these are here
 * (docs/cluster.md, section 6).
 */
#ifndef PGRELAY_CLIENT_RELAY_MESSAGE_H
#define PGRELAY_CLIENT_RELAY_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "relay/event.h"

struct relay_message {
	const char *error; /* what is wrong with it, a constant; NULL: nothing, and the rest holds */
	bool ignored;      /* it is nobody's, and nothing but group holds */
	const char *group;
	struct slice payload; /* one JSON object, as it came */
	struct topic topic;   /* the one that emit_channel_notification() would make of it */
};

/* The caller releases it with relay_message_free(). */
struct relay_message *relay_message_parse(const char *text, size_t len);
void relay_message_free(struct relay_message *message);

#endif
