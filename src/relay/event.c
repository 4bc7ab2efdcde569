/* Records, topics and patterns: splitting without copying. Invariant: whatever stands in the input, no octet
 * outside of it is read. */
#include "config.h"
#include "relay/event.h"
#include "relay/recent.h"

#include <endian.h>
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

static struct slice
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

/*
 * The number that the digits in the first eight octets make, and how many digits there are: with '0' taken
 * off, what is no digit is more than 9. Digits move to the end, with zeros before them; neighbours are joined
 * into pairs, these into fours, these into the number.
 */
static inline uint64_t
record_eight_digits(const char *p, unsigned *digits)
{
	uint64_t v, others;

	memcpy(&v, p, sizeof(v));
	v = le64toh(v) ^ UINT64_C(0x3030303030303030);
	others = ((v + UINT64_C(0x7676767676767676)) | v) & UINT64_C(0x8080808080808080);
	*digits = others != 0 ? (unsigned)__builtin_ctzll(others) / 8 : 8;
	if (*digits == 0)
		return 0;
	v <<= 64 - 8 * *digits;
	v = (v * (1 + (10 << 8))) >> 8 & UINT64_C(0x00ff00ff00ff00ff);
	v = (v * (1 + (100 << 16))) >> 16 & UINT64_C(0x0000ffff0000ffff);
	return (v * (1 + (UINT64_C(10000) << 32))) >> 32;
}

static uint64_t
record_few_digits(const char *p, size_t len, unsigned *digits)
{
	uint64_t n = 0;

	for (*digits = 0; *digits < len && p[*digits] >= '0' && p[*digits] <= '9'; ++*digits)
		n = n * 10 + (uint64_t)(p[*digits] - '0');
	return n;
}

/* Takes off the digits that s begins with. 19 do not overflow 64 bits, but may 63. */
static inline bool
record_take_number(struct slice *s, int64_t *out)
{
	static const uint64_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
	uint64_t n = 0, part;
	unsigned digits;
	size_t at = 0;

	do {
		size_t left = s->len - at;

		part = left >= 8 ? record_eight_digits(s->ptr + at, &digits)
				 : record_few_digits(s->ptr + at, left, &digits);
		n = n * tens[digits] + part;
		at += digits;
	} while (digits == 8 && at <= RECORD_DIGITS_MAX);
	if (at == 0 || at > RECORD_DIGITS_MAX || n > INT64_MAX)
		return false;
	*s = (struct slice){s->ptr + at, s->len - at};
	*out = (int64_t)n;
	return true;
}

/* What ends a field. */
static bool
record_take_space(struct slice *line)
{
	if (line->len == 0 || *line->ptr != ' ')
		return false;
	*line = slice_behind(*line, 1);
	return true;
}

static bool
record_parse_head(struct slice *line, struct record *r)
{
	struct slice topic;

	return record_take_number(line, &r->id) && r->id > 0 && r->id < INT64_MAX &&
	       record_take_space(line) && record_take_number(line, &r->time_us) && record_take_space(line) &&
	       slice_cut(line, ' ', &topic) && recent_parse(topic, &r->topic, &r->recent);
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
		return record_parse_event(line, true, r) ? RECORD_EVENT : RECORD_MALFORMED;
	case 'u':
		return record_parse_event(line, false, r) ? RECORD_EVENT : RECORD_MALFORMED;
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
