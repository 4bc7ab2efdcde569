/*
 * Topics that came lately: pairs of places, of which a topic's hash names one. The first has the one of the
 * two that came there last; who comes anew takes it, and the one that was second goes.
 *
 * A topic's end is looked for, and its hash made, eight octets at a time in one go.
 */
#include "config.h"
#include "relay/recent.h"
#include "core/hash.h"

#include <string.h>

#define RECENT_PAIRS 4096 /* a power of two; of 256 octets each */

struct recent_pair {
	struct recent_topic topics[2];
};

static _Alignas(64) struct recent_pair recent_pairs[RECENT_PAIRS]; /* a topic is in a cache line or two */

/* A topic's text, as it lies in a line. */
struct recent_text {
	const char *ptr;
	size_t len;
	uint64_t end; /* its last octets, fewer than eight */
	uint64_t hash;
};

/* The eight octets from there on; zeros behind the end. */
static inline uint64_t
recent_load_within(struct slice s, size_t at)
{
	uint64_t v = 0;

	if (s.len - at >= 8)
		return slice_load_eight(s.ptr + at);
	memcpy(&v, s.ptr + at, s.len - at);
	return le64toh(v);
}

/* How many of the eight octets stand before the first space: what is 0 with a space taken off borrows. */
static inline unsigned
recent_count_to_space(uint64_t v)
{
	uint64_t zero = v ^ UINT64_C(0x2020202020202020);

	zero = (zero - UINT64_C(0x0101010101010101)) & ~zero & UINT64_C(0x8080808080808080);
	return zero != 0 ? (unsigned)__builtin_ctzll(zero) / 8 : 8;
}

/* What stands before the first space; false where there is none. */
static inline bool
recent_scan(struct slice line, struct recent_text *text)
{
	uint64_t v, hash = 0;
	unsigned count;
	size_t at = 0;

	for (; at < line.len; at += 8) {
		v = recent_load_within(line, at);
		count = recent_count_to_space(v);
		if (count < 8) {
			v &= (UINT64_C(1) << 8 * count) - 1;
			*text = (struct recent_text){line.ptr, at + count, v, hash_mix(hash, v)};
			return true;
		}
		hash = hash_mix(hash, v);
	}
	return false;
}

static inline bool
recent_is(const struct recent_topic *r, const struct recent_text *text)
{
	size_t words = text->len / 8;

	if (r->len != text->len)
		return false;
	for (size_t i = 0; i < words; i++)
		if (r->words[i] != slice_load_eight(text->ptr + 8 * i))
			return false;
	return r->words[words] == text->end;
}

/* NULL: it is not there. */
static inline struct recent_topic *
recent_find(struct recent_pair *pair, const struct recent_text *text)
{
	return recent_is(&pair->topics[0], text)   ? &pair->topics[0]
	       : recent_is(&pair->topics[1], text) ? &pair->topics[1]
						   : NULL;
}

static inline void
recent_split(const struct recent_topic *r, const struct recent_text *text, struct topic *topic)
{
	const char *action = text->ptr + r->type_len + 1, *key = action + r->action_len + 1;

	topic->type = (struct slice){text->ptr, r->type_len};
	topic->action = (struct slice){action, r->action_len};
	topic->key = (struct slice){key, (size_t)(text->ptr + text->len - key)};
}

static struct recent_topic *
recent_keep(struct recent_pair *pair, const struct recent_text *text, const struct topic *topic)
{
	struct recent_topic *r = &pair->topics[0];
	size_t words = text->len / 8;

	pair->topics[1] = pair->topics[0];
	r->unwanted = 0;
	r->len = (uint8_t)text->len;
	r->type_len = (uint8_t)topic->type.len;
	r->action_len = (uint8_t)topic->action.len;
	for (size_t i = 0; i < words; i++)
		r->words[i] = slice_load_eight(text->ptr + 8 * i);
	r->words[words] = text->end;
	return r;
}

/* One that is not there, or too long. */
static bool
recent_parse(struct recent_pair *pair, const struct recent_text *text, struct topic *topic,
    struct recent_topic **recent)
{
	*recent = NULL;
	if (!topic_parse((struct slice){text->ptr, text->len}, false, topic))
		return false;
	if (text->len <= RECENT_TEXT_MAX)
		*recent = recent_keep(pair, text, topic);
	return true;
}

bool
recent_take(struct slice *line, struct topic *topic, struct recent_topic **recent)
{
	struct recent_text text;
	struct recent_pair *pair;

	if (!recent_scan(*line, &text))
		return false;
	*line = (struct slice){line->ptr + text.len + 1, line->len - text.len - 1};
	pair = &recent_pairs[text.hash >> 32 & (RECENT_PAIRS - 1)];
	*recent = text.len > 0 ? recent_find(pair, &text) : NULL;
	if (*recent == NULL)
		return recent_parse(pair, &text, topic, recent);
	recent_split(*recent, &text, topic);
	return true;
}
