/*
 * Topics that came lately: pairs of places, of which a topic's hash names one. The first has the one of the
 * two that came there last; who comes anew takes it, and the one that was second goes.
 */
#include "config.h"
#include "relay/recent.h"
#include "core/hash.h"

#include <string.h>

#define RECENT_PAIRS 2048 /* a power of two; of 256 octets each */

struct recent_pair {
	struct recent_topic topics[2];
};

static _Alignas(64) struct recent_pair recent_pairs[RECENT_PAIRS]; /* a topic is in a cache line or two */

static bool
recent_is(const struct recent_topic *r, struct slice text)
{
	return r->len == text.len && memcmp(r->text, text.ptr, text.len) == 0;
}

/* NULL: it is not there. */
static struct recent_topic *
recent_find(struct recent_pair *pair, struct slice text)
{
	return recent_is(&pair->topics[0], text)   ? &pair->topics[0]
	       : recent_is(&pair->topics[1], text) ? &pair->topics[1]
						   : NULL;
}

static void
recent_split(const struct recent_topic *r, struct slice text, struct topic *topic)
{
	const char *action = text.ptr + r->type_len + 1, *key = action + r->action_len + 1;

	topic->type = (struct slice){text.ptr, r->type_len};
	topic->action = (struct slice){action, r->action_len};
	topic->key = (struct slice){key, (size_t)(text.ptr + text.len - key)};
}

static struct recent_topic *
recent_keep(struct recent_pair *pair, struct slice text, const struct topic *topic)
{
	struct recent_topic *r = &pair->topics[0];

	pair->topics[1] = pair->topics[0];
	r->unwanted = 0;
	r->len = (uint8_t)text.len;
	r->type_len = (uint8_t)topic->type.len;
	r->action_len = (uint8_t)topic->action.len;
	memcpy(r->text, text.ptr, text.len);
	return r;
}

bool
recent_parse(struct slice text, struct topic *topic, struct recent_topic **recent)
{
	struct recent_pair *pair;

	*recent = NULL;
	if (text.len == 0 || text.len > RECENT_TEXT_MAX)
		return topic_parse(text, false, topic);
	pair = &recent_pairs[hash_octets(text, 0) >> 32 & (RECENT_PAIRS - 1)];
	*recent = recent_find(pair, text);
	if (*recent != NULL) {
		recent_split(*recent, text, topic);
		return true;
	}
	if (!topic_parse(text, false, topic))
		return false;
	*recent = recent_keep(pair, text, topic);
	return true;
}
