/*
 * Checking the body of a publishing request: JSON, and in it events with their four fields, each once. A scan
 * over the text; the first mistake ends it.
 */
#include "config.h"
#include "relay/publish_body.h"
#include "core/json_scan.h"
#include "relay/event.h"

#include <stdlib.h>
#include <string.h>

#define PUBLISH_BODY_TEXT_MAX (6 * EVENT_KEY_MAX + 2) /* of a string that is looked into: all of it \uXXXX */
#define PUBLISH_BODY_SHOWN    64                      /* octets of a name in a message */

enum publish_field {
	PUBLISH_TYPE,
	PUBLISH_ACTION,
	PUBLISH_KEY,
	PUBLISH_PAYLOAD,
	PUBLISH_FIELDS,
	PUBLISH_UNKNOWN = PUBLISH_FIELDS
};
static const char *const publish_fields[PUBLISH_FIELDS] = {"type", "action", "key", "payload"};

static enum publish_field
publish_field_of(struct slice written)
{
	char *name = json_scan_text(written, PUBLISH_BODY_TEXT_MAX);
	int field = PUBLISH_TYPE;

	while (field < PUBLISH_FIELDS && (name == NULL || strcmp(name, publish_fields[field]) != 0))
		field++;
	free(name);
	return (enum publish_field)field;
}

static bool
publish_check_text(struct json_scan *s, enum publish_field field, struct slice written)
{
	char *text = json_scan_text(written, PUBLISH_BODY_TEXT_MAX);
	struct slice slice = {text, text != NULL ? strlen(text) : 0};
	bool ok = text != NULL &&
		  (field == PUBLISH_KEY ? topic_key_is_valid(slice.ptr, slice.len) : topic_is_word(slice));

	free(text);
	if (ok)
		return true;
	if (field == PUBLISH_KEY)
		return json_scan_fail(
		    s, "a key has at most %d octets and no control characters", EVENT_KEY_MAX);
	return json_scan_fail(s, "%s must be 1 to %d letters (A-Z), digits, hyphens and underscores",
	    publish_fields[field], EVENT_WORD_MAX);
}

static bool
publish_scan_field(struct json_scan *s, enum publish_field field)
{
	int c = json_scan_next(s);
	struct slice text;

	if (field == PUBLISH_PAYLOAD)
		return c == '{' || c < 0 ? json_scan_value(s, NULL)
					 : json_scan_fail(s, "payload must be a JSON object");
	if (c != '"')
		return json_scan_fail(s, "%s must be a string", publish_fields[field]);
	return json_scan_string(s, &text) && publish_check_text(s, field, text);
}

/* seen is a set of enum publish_field. A key that is left out is empty. */
static bool
publish_check_seen(struct json_scan *s, unsigned seen)
{
	for (int field = 0; field < PUBLISH_FIELDS; field++)
		if (field != PUBLISH_KEY && (seen & (1u << field)) == 0)
			return json_scan_fail(s, "an event without %s", publish_fields[field]);
	return true;
}

static bool
publish_fail_field(struct json_scan *s, struct slice name)
{
	size_t len = name.len < PUBLISH_BODY_SHOWN ? name.len : PUBLISH_BODY_SHOWN;

	while (len > 0 && len < name.len && ((unsigned char)name.ptr[len] & 0xc0) == 0x80)
		len--;
	return json_scan_fail(s, "an event has no field \"%.*s\"", (int)len, name.ptr);
}

static bool
publish_scan_event(struct json_scan *s)
{
	unsigned seen = 0;
	bool more;

	if (json_scan_next(s) != '{')
		return json_scan_fail(s, "an event must be a JSON object with type, action, key and payload");
	if (!json_scan_enter(s, '{', &more))
		return false;
	while (more) {
		struct slice name;
		enum publish_field field;

		if (!json_scan_name(s, &name))
			return false;
		field = publish_field_of(name);
		if (field == PUBLISH_UNKNOWN)
			return publish_fail_field(s, name);
		if ((seen & (1u << field)) != 0)
			return json_scan_fail(s, "an event with two fields \"%s\"", publish_fields[field]);
		seen |= 1u << field;
		if (!publish_scan_field(s, field) || !json_scan_more(s, '{', &more))
			return false;
	}
	return publish_check_seen(s, seen);
}

/* *index is the event's that is looked at. */
static bool
publish_scan_list(struct json_scan *s, size_t *events, long *index)
{
	bool more;

	if (!json_scan_enter(s, '[', &more))
		return false;
	if (!more)
		return json_scan_fail(s, "a list without an event");
	while (more) {
		if (*events == PUBLISH_BODY_EVENTS)
			return json_scan_fail(s, "more than %d events in one request", PUBLISH_BODY_EVENTS);
		*index = (long)(*events)++;
		if (!publish_scan_event(s))
			return false;
		*index = -1;
		if (!json_scan_more(s, '[', &more))
			return false;
	}
	return true;
}

static bool
publish_scan_body(struct json_scan *s, size_t *events, long *index)
{
	int c = json_scan_next(s);

	if (c < 0)
		return json_scan_fail(s, "the body is empty: an event is wanted, or a list of them");
	if (c == '[') {
		if (!publish_scan_list(s, events, index))
			return false;
	} else {
		*index = 0;
		*events = 1;
		if (!publish_scan_event(s))
			return false;
		*index = -1;
	}
	return json_scan_next(s) < 0 || json_scan_fail_here(s, "something behind the end");
}

bool
publish_body_check(const char *text, size_t len, struct publish_body *body, struct publish_body_error *error)
{
	struct json_scan s;
	long index = -1;
	bool ok;

	json_scan_init(&s, text, len);
	*body = (struct publish_body){0, 0};
	ok = publish_scan_body(&s, &body->events, &index);
	if (ok) {
		body->octets = len + s.zeros;
	} else {
		error->index = index;
		memcpy(error->text, s.error, sizeof(error->text));
	}
	return ok;
}
