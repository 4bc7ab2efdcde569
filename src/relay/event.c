/* Records, topics and patterns: splitting without copying. Invariant: whatever stands in the input, no octet
 * outside of it is read. */
#include "config.h"
#include "relay/event.h"

#include <stdlib.h>
#include <string.h>

/* The octets that a key's written form must encode: they separate records, fields, lists or stand for a
 * wildcard. */
static bool
topic_octet_is_special(unsigned char c)
{
	return c == ' ' || c == '%' || c == '*' || c == ',';
}

static bool
topic_octet_is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

static bool
topic_octet_is_word(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       c == '-';
}

bool
topic_is_word(struct slice s)
{
	if (s.len == 0 || s.len > EVENT_WORD_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!topic_octet_is_word((unsigned char)s.ptr[i]))
			return false;
	return true;
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

		if (!topic_octet_is_special(c)) {
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

/* A written key encodes just the special octets, in one way, so that equal keys are equal octets. */
static bool
topic_written_key_is_valid(struct slice key)
{
	size_t decoded = 0;

	for (size_t i = 0; i < key.len; i++, decoded++) {
		unsigned char c = (unsigned char)key.ptr[i];

		if (topic_octet_is_control(c))
			return false;
		if (c == '%') {
			if (key.len - i < 3 ||
			    (memcmp(key.ptr + i, "%20", 3) != 0 && memcmp(key.ptr + i, "%25", 3) != 0 &&
				memcmp(key.ptr + i, "%2A", 3) != 0 && memcmp(key.ptr + i, "%2C", 3) != 0))
				return false;
			i += 2;
		} else if (topic_octet_is_special(c)) {
			return false;
		}
	}
	return decoded <= EVENT_KEY_MAX;
}

bool
topic_parse(struct slice text, bool wildcards, struct topic *topic)
{
	if (!slice_cut(&text, '.', &topic->type) || !slice_cut(&text, '.', &topic->action))
		return false;
	topic->key = text;
	return (topic_is_word(topic->type) || (wildcards && topic_is_wildcard(topic->type))) &&
	       (topic_is_word(topic->action) || (wildcards && topic_is_wildcard(topic->action))) &&
	       (topic_written_key_is_valid(topic->key) || (wildcards && topic_is_wildcard(topic->key)));
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

static bool
record_parse_head(struct slice *line, struct record *r)
{
	struct slice id, time, topic;

	return slice_cut(line, ' ', &id) && slice_cut(line, ' ', &time) && slice_cut(line, ' ', &topic) &&
	       slice_to_int64(id, &r->id) && r->id > 0 && r->id < INT64_MAX &&
	       slice_to_int64(time, &r->time_us) && topic_parse(topic, false, &r->topic);
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
	struct slice kind;

	if (!slice_cut(&line, ' ', &kind)) {
		kind = line;
		line.len = 0;
	}
	if (kind.len == 0)
		return RECORD_MALFORMED;
	if (kind.len != 1)
		return RECORD_UNKNOWN;
	switch (kind.ptr[0]) {
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
	record->kind = record_parse(line, record);
	return true;
}
