/*
 * Records of the event channel, topics and patterns (docs/protocol.md, sections 1 and 2). Nothing here
 * allocates or copies: a record points into the payload it was split from. Keys stay in their written form
 * all the way, so that nothing is decoded on the way from NOTIFY to the index.
 */
#ifndef PGRELAY_RELAY_EVENT_H
#define PGRELAY_RELAY_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

#define EVENT_WORD_MAX   63
#define EVENT_KEY_MAX    255                /* octets, decoded */
#define EVENT_TOPIC_MAX  (2 * 64 + 3 * 255) /* octets, written */
#define EVENT_SHA256_HEX 64

/* Also a pattern: then a part that is a wildcard is the one character '*', which a literal never is. */
struct topic {
	struct slice type, action, key; /* key in its written form */
};

struct recent_topic;

enum record_kind {
	RECORD_EVENT,
	RECORD_TICKET,
	RECORD_ACCESS,
	RECORD_SETTINGS,
	RECORD_DEFERRED,
	RECORD_TRANSACTION,
	RECORD_UNKNOWN,
	RECORD_MALFORMED
};

struct record {
	enum record_kind kind;
	struct slice line; /* all of it */
	int64_t id;        /* event, ticket */
	int64_t time_us;   /* since 1970; event, ticket */
	struct topic topic;
	struct recent_topic *recent; /* event, ticket: what is known of the topic (recent.h); NULL: nothing */
	bool logged;                 /* event, ticket: the log has it */
	struct slice payload;        /* event */
	size_t payload_octets;       /* ticket */
	struct slice sha256, origin; /* ticket */
	int64_t user_id;             /* access */
	struct slice since, until;   /* deferred: snapshots */
	uint64_t xid;                /* transaction */
};

/* Takes the next record off a NOTIFY payload; false when nothing is left. `recent` is good until the next
 * call. */
bool record_next(struct slice *rest, struct record *record);

/* Splits a topic or pattern in its written form; false when a part is not what it must be. '*' alone is taken
 * as a part only with wildcards. */
bool topic_parse(struct slice text, bool wildcards, struct topic *topic);

/* Does this pattern match it? */
bool topic_matches(const struct topic *pattern, const struct topic *topic);

bool topic_is_word(struct slice s);
bool topic_is_wildcard(struct slice part);

/* The written form of a key: writes at most 3 * len octets, returns how many. */
size_t topic_encode_key(const char *key, size_t len, char *out);
/* And back: writes at most EVENT_KEY_MAX octets, returns how many. */
size_t topic_decode_key(struct slice written, char *out);
/* Is it a key: short enough, no control characters? UTF-8 is the caller's business. */
bool topic_key_is_valid(const char *key, size_t len);

#endif
