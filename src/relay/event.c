/* Records, topics and patterns: splitting without copying. Invariant: whatever stands in the input, no octet
 * outside of it is read. */
#include "config.h"
#include "relay/event.h"
#include "relay/recent.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_DIGITS_MAX 19 /* of an int64_t */

/* What an octet may stand in as it is. In keys some are encoded, for they separate records, fields, lists or
 * are a wildcard: a space, '%', '*' and ','. */
#define IN_KEY  1
#define IN_WORD 2
static const unsigned char topic_octets[256] = {
    ['!' ... '$'] = IN_KEY,
    ['&' ... ')'] = IN_KEY,
    ['+'] = IN_KEY,
    ['-'] = IN_KEY | IN_WORD,
    ['.' ... '/'] = IN_KEY,
    ['0' ... '9'] = IN_KEY | IN_WORD,
    [':' ... '@'] = IN_KEY,
    ['A' ... 'Z'] = IN_KEY | IN_WORD,
    ['[' ... '^'] = IN_KEY,
    ['_'] = IN_KEY | IN_WORD,
    ['`'] = IN_KEY,
    ['a' ... 'z'] = IN_KEY | IN_WORD,
    ['{' ... '~'] = IN_KEY,
    [0x80 ... 0xff] = IN_KEY,
};

static bool
topic_octet_is(char c, unsigned char kind)
{
	return topic_octets[(unsigned char)c] & kind;
}

static bool
topic_octet_is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

/* Behind the octets of s, from `at` on, that may stand in such a place. */
static size_t
topic_span(struct slice s, size_t at, unsigned char kind)
{
	const char *p = s.ptr + at, *end = s.ptr + s.len;

	while (p < end && topic_octet_is(*p, kind))
		p++;
	return (size_t)(p - s.ptr);
}

bool
topic_is_word(struct slice s)
{
	return s.len > 0 && s.len <= EVENT_WORD_MAX && topic_span(s, 0, IN_WORD) == s.len;
}

bool
topic_is_wildcard(struct slice part)
{
	return part.len == 1 && part.ptr[0] == '*';
}

bool
topic_key_is_valid(const char *key, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (topic_octet_is_control((unsigned char)key[i]))
			return false;
	return len <= EVENT_KEY_MAX;
}

size_t
topic_encode_key(const char *key, size_t len, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	char *p = out;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)key[i];

		if (topic_octet_is(key[i], IN_KEY)) {
			*p++ = (char)c;
			continue;
		}
		*p++ = '%';
		*p++ = hex[c >> 4];
		*p++ = hex[c & 15];
	}
	return (size_t)(p - out);
}

size_t
topic_decode_key(struct slice written, char *out)
{
	char *p = out;

	for (size_t i = 0; i < written.len; i++) {
		if (written.ptr[i] == '%' && written.len - i > 2) {
			*p++ = (char)strtol(
			    (const char[]){written.ptr[i + 1], written.ptr[i + 2], '\0'}, NULL, 16);
			i += 2;
		} else {
			*p++ = written.ptr[i];
		}
	}
	return (size_t)(p - out);
}

static inline struct slice
slice_behind(struct slice s, size_t len)
{
	return (struct slice){s.ptr + len, s.len - len};
}

/* A type, or an action, and the full stop behind it. */
static inline bool
topic_take_word(struct slice *s, bool wildcards, struct slice *word)
{
	size_t len = topic_span(*s, 0, IN_WORD);

	if (len == 0 && wildcards && s->len > 0 && *s->ptr == '*')
		len = 1;
	if (len == 0 || len > EVENT_WORD_MAX || len == s->len || s->ptr[len] != '.')
		return false;
	*word = (struct slice){s->ptr, len};
	*s = slice_behind(*s, len + 1);
	return true;
}

/* Of an octet that must be encoded, in the one way in which it is, so that equal keys are equal octets. */
static bool
topic_is_escape(struct slice s)
{
	return s.len >= 3 && (memcmp(s.ptr, "%20", 3) == 0 || memcmp(s.ptr, "%25", 3) == 0 ||
				 memcmp(s.ptr, "%2A", 3) == 0 || memcmp(s.ptr, "%2C", 3) == 0);
}

/* A key in its written form, up to where there can be none. */
static inline bool
topic_take_key(struct slice *s, bool wildcards, struct slice *key)
{
	size_t len = topic_span(*s, 0, IN_KEY), escapes = 0;

	while (len < s->len && topic_is_escape(slice_behind(*s, len))) {
		len = topic_span(*s, len + 3, IN_KEY);
		escapes++;
	}
	if (len == 0 && wildcards && s->len > 0 && *s->ptr == '*')
		len = 1;
	*key = (struct slice){s->ptr, len};
	*s = slice_behind(*s, len);
	return len - 2 * escapes <= EVENT_KEY_MAX;
}

static inline bool
topic_take(struct slice *s, bool wildcards, struct topic *topic)
{
	return topic_take_word(s, wildcards, &topic->type) && topic_take_word(s, wildcards, &topic->action) &&
	       topic_take_key(s, wildcards, &topic->key);
}

bool
topic_parse(struct slice text, bool wildcards, struct topic *topic)
{
	return topic_take(&text, wildcards, topic) && text.len == 0;
}

static bool
topic_part_matches(struct slice pattern, struct slice part)
{
	return topic_is_wildcard(pattern) ||
	       (pattern.len == part.len && memcmp(pattern.ptr, part.ptr, part.len) == 0);
}

bool
topic_matches(const struct topic *pattern, const struct topic *topic)
{
	return topic_part_matches(pattern->type, topic->type) &&
	       topic_part_matches(pattern->action, topic->action) &&
	       topic_part_matches(pattern->key, topic->key);
}

/* The number that eight digits make: neighbours are joined into pairs, these into fours, these into the
 * number. */
static inline uint64_t
record_join_eight(uint64_t v)
{
	v ^= UINT64_C(0x3030303030303030);
	v = (v * (1 + (10 << 8))) >> 8 & UINT64_C(0x00ff00ff00ff00ff);
	v = (v * (1 + (100 << 16))) >> 16 & UINT64_C(0x0000ffff0000ffff);
	return (v * (1 + (UINT64_C(10000) << 32))) >> 32;
}

/* What is no digit is more than 9 with '0' taken off. */
static inline bool
record_are_digits(uint64_t v)
{
	v ^= UINT64_C(0x3030303030303030);
	return (((v + UINT64_C(0x7676767676767676)) | v) & UINT64_C(0x8080808080808080)) == 0;
}

/* The eight octets that a number began with last, and what they make. */
struct record_eight {
	uint64_t octets, number;
};

/* From one record to the next, ids and times mostly begin alike. */
static struct {
	struct record_eight id, time;
} record_last = {.id = {UINT64_C(0x3030303030303030), 0}, .time = {UINT64_C(0x3030303030303030), 0}};

/* The digits that p begins with, eight or sixteen of them at most; returns how many. */
static inline size_t
record_take_eights(const char *p, struct record_eight *last, uint64_t *n)
{
	uint64_t v = slice_load_eight(p);

	if (v != last->octets) {
		if (!record_are_digits(v))
			return 0;
		*last = (struct record_eight){v, record_join_eight(v)};
	}
	*n = last->number;
	v = slice_load_eight(p + 8);
	if (!record_are_digits(v))
		return 8;
	*n = *n * 100000000 + record_join_eight(v);
	return 16;
}

/* Takes off a number and the space behind it. 19 digits do not overflow 64 bits, but may 63. */
static inline bool
record_take_number(struct slice *line, struct record_eight *last, int64_t *out)
{
	uint64_t n = 0;
	size_t at = line->len >= 16 ? record_take_eights(line->ptr, last, &n) : 0;

	for (; at < line->len && line->ptr[at] >= '0' && line->ptr[at] <= '9'; at++) {
		if (at == RECORD_DIGITS_MAX)
			return false;
		n = n * 10 + (uint64_t)(line->ptr[at] - '0');
	}
	if (at == 0 || n > INT64_MAX || at == line->len || line->ptr[at] != ' ')
		return false;
	*line = slice_behind(*line, at + 1);
	*out = (int64_t)n;
	return true;
}

static inline bool
record_parse_head(struct slice *line, struct record *r)
{
	return record_take_number(line, &record_last.id, &r->id) && r->id > 0 && r->id < INT64_MAX &&
	       record_take_number(line, &record_last.time, &r->time_us) &&
	       recent_take(line, &r->topic, &r->recent);
}

static bool
record_parse_event(struct slice line, bool logged, struct record *r)
{
	r->logged = logged;
	if (!record_parse_head(&line, r))
		return false;
	r->payload = line;
	return line.len >= 2 && line.ptr[0] == '{' && line.ptr[line.len - 1] == '}';
}

static bool
record_parse_ticket(struct slice line, struct record *r)
{
	struct slice octets;
	int64_t n;

	r->logged = true;
	if (!record_parse_head(&line, r) || !slice_cut(&line, ' ', &octets) ||
	    !slice_cut(&line, ' ', &r->sha256))
		return false;
	r->origin = line;
	if (!slice_to_int64(octets, &n) || n > UINT32_MAX / 2 || !slice_is_hex(r->sha256, EVENT_SHA256_HEX) ||
	    line.len == 0)
		return false;
	r->payload_octets = (size_t)n;
	return true;
}

/* The snapshots are looked at by who uses them. */
static bool
record_parse_deferred(struct slice line, struct record *r)
{
	if (!slice_cut(&line, ' ', &r->since))
		return false;
	r->until = line;
	return r->since.len > 0 && r->until.len > 0;
}

static bool
record_parse_transaction(struct slice line, struct record *r)
{
	int64_t xid;

	if (!slice_to_int64(line, &xid) || xid == 0)
		return false;
	r->xid = (uint64_t)xid;
	return true;
}

static enum record_kind
record_parse(struct slice line, struct record *r)
{
	char kind;

	if (line.len == 0 || *line.ptr == ' ')
		return RECORD_MALFORMED;
	if (line.len > 1 && line.ptr[1] != ' ')
		return RECORD_UNKNOWN;
	kind = *line.ptr;
	line = slice_behind(line, line.len > 1 ? 2 : 1);
	switch (kind) {
	case 'e':
	case 'u':
		return record_parse_event(line, kind == 'e', r) ? RECORD_EVENT : RECORD_MALFORMED;
	case 't':
		return record_parse_ticket(line, r) ? RECORD_TICKET : RECORD_MALFORMED;
	case 'a':
		return slice_to_int64(line, &r->user_id) ? RECORD_ACCESS : RECORD_MALFORMED;
	case 's':
		return line.len == 0 ? RECORD_SETTINGS : RECORD_MALFORMED;
	case 'd':
		return record_parse_deferred(line, r) ? RECORD_DEFERRED : RECORD_MALFORMED;
	case 'x':
		return record_parse_transaction(line, r) ? RECORD_TRANSACTION : RECORD_MALFORMED;
	default:
		return RECORD_UNKNOWN;
	}
}

bool
record_next(struct slice *rest, struct record *record)
{
	struct slice line;

	if (rest->len == 0)
		return false;
	if (!slice_cut(rest, '\n', &line)) {
		line = *rest;
		rest->len = 0;
	}
	record->line = line;
	record->kind = record_parse(line, record);
	return true;
}
