/*
 * An event's seven fields. Payloads are JSON: what stands in one goes out as it is written there, and nothing
 * of it is built or copied.
 */
#include "config.h"
#include "client/drp_event.h"
#include "core/json_members.h"
#include "core/mem.h"
#include "core/rfc3339.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRP_EVENT_UNKNOWN "\"unknown\""

/* ---- the payload ---- */

/* What an envelope tells; ptr NULL where it does not. Values as they are written. */
struct drp_envelope {
	struct slice action, key, object, original, principal, time;
};

static void
drp_envelope_read(struct drp_envelope *e, struct slice payload)
{
	const struct drp_envelope_member {
		const char *name;
		struct slice *value;
	} members[] = {{"action", &e->action}, {"key", &e->key}, {"object", &e->object},
	    {"original", &e->original}, {"principal", &e->principal}, {"time", &e->time}};
	struct json_members m = json_members_of(payload);
	struct slice name, value;

	memset(e, 0, sizeof(*e));
	while (json_members_next(&m, &name, &value))
		for (size_t i = 0; i < ARRAY_LENGTH(members); i++)
			if (slice_is(name, members[i].name))
				*members[i].value = value;
}

static bool
drp_envelope_is_one(const struct drp_envelope *e, const struct topic *t)
{
	struct slice text;

	return e->object.ptr != NULL && e->key.ptr != NULL && e->action.ptr != NULL &&
	       json_value_is_string(e->key, &text) && json_value_is_string(e->action, &text) &&
	       text.len == t->action.len && memcmp(text.ptr, t->action.ptr, text.len) == 0;
}

/* ---- the event ---- */

/* As it stands inside of a JSON string; keys have no control characters. */
static size_t
drp_event_quote_key(char *out, struct slice written)
{
	char key[EVENT_KEY_MAX], *p = out;
	size_t len = topic_decode_key(written, key);

	for (size_t i = 0; i < len; i++) {
		if (key[i] == '"' || key[i] == '\\')
			*p++ = '\\';
		*p++ = key[i];
	}
	return (size_t)(p - out);
}

static struct slice
drp_event_time(const struct drp_envelope *e, int64_t time_us, char buf[RFC3339_SIZE])
{
	struct slice text;

	if (e->time.ptr != NULL && json_value_is_string(e->time, &text) && rfc3339_is_valid(text))
		return text;
	return (struct slice){buf, rfc3339_format(time_us, buf)};
}

static struct slice
drp_event_head(struct drp_event *event, const struct topic *t, struct slice time)
{
	char key[2 * EVENT_KEY_MAX];
	size_t key_len = drp_event_quote_key(key, t->key);
	int len = snprintf(event->head, sizeof(event->head),
	    "{\"Time\":\"%.*s\",\"Type\":\"%.*s\",\"Action\":\"%.*s\",\"Key\":\"%.*s\",\"Principal\":",
	    (int)time.len, time.ptr, (int)t->type.len, t->type.ptr, (int)t->action.len, t->action.ptr,
	    (int)key_len, key);

	assert(len > 0 && (size_t)len < sizeof(event->head));
	return (struct slice){event->head, (size_t)len};
}

void
drp_event_make(struct drp_event *event, const struct topic *t, int64_t time_us, struct slice payload)
{
	static const struct slice object = {",\"Object\":", 10}, original = {",\"Original\":", 12},
				  unknown = {DRP_EVENT_UNKNOWN, sizeof(DRP_EVENT_UNKNOWN) - 1},
				  null = {"null", 4};
	char buf[RFC3339_SIZE];
	struct drp_envelope e;
	struct slice text;

	drp_envelope_read(&e, payload);
	if (!drp_envelope_is_one(&e, t)) {
		memset(&e, 0, sizeof(e));
		e.object = payload;
	}
	event->parts[0] = drp_event_head(event, t, drp_event_time(&e, time_us, buf));
	event->parts[1] =
	    e.principal.ptr != NULL && json_value_is_string(e.principal, &text) ? e.principal : unknown;
	event->parts[2] = object;
	event->parts[3] = e.object;
	event->parts[4] = original;
	event->parts[5] = e.original.ptr != NULL ? e.original : null;
	event->parts[6] = (struct slice){"}", 1};
}

char *
drp_event_own(const char *type, const char *action, struct slice key, const char *object)
{
	json_t *string = json_stringn_nocheck(key.ptr, key.len);
	char *quoted = json_dumps(string, JSON_ENCODE_ANY), time[RFC3339_SIZE], *text;

	json_decref(string);
	rfc3339_format(rfc3339_now_us(), time);
	text = mem_printf("{\"Time\":\"%s\",\"Type\":\"%s\",\"Action\":\"%s\",\"Key\":%s,\"Principal\":\"\","
			  "\"Object\":%s,\"Original\":null}",
	    time, type, action, quoted != NULL ? quoted : "\"\"", object);
	free(quoted);
	return text;
}

/* ---- jobs by their machine ---- */

static const struct drp_alias_kind {
	const char *type, *member;
} drp_alias_kinds[DRP_EVENT_ALIASES] = {{"machine_jobs", "Machine"}, {"work_order_jobs", "WorkOrder"}};

bool
drp_event_has_aliases(const struct topic *t)
{
	return slice_is(t->type, "jobs");
}

bool
drp_event_is_alias(struct slice type)
{
	for (int i = 0; i < DRP_EVENT_ALIASES; i++)
		if (slice_is(type, drp_alias_kinds[i].type))
			return true;
	return false;
}

/* Where the member names one, by a string without escapes, as a UUID is. */
static bool
drp_alias_make(
    struct drp_alias *alias, const struct topic *t, const struct drp_alias_kind *kind, struct slice value)
{
	struct slice text;

	if (!json_value_is_string(value, &text) || text.len == 0 ||
	    memchr(text.ptr, '\\', text.len) != NULL || !topic_key_is_valid(text.ptr, text.len))
		return false;
	alias->topic = (struct topic){{kind->type, strlen(kind->type)}, t->action,
	    {alias->written, topic_encode_key(text.ptr, text.len, alias->written)}};
	return true;
}

size_t
drp_event_aliases(const struct topic *t, struct slice payload, struct drp_alias aliases[DRP_EVENT_ALIASES])
{
	bool found[DRP_EVENT_ALIASES] = {false};
	struct slice name, value;
	struct json_members m;
	struct drp_envelope e;
	size_t count = 0;

	if (!drp_event_has_aliases(t))
		return 0;
	drp_envelope_read(&e, payload);
	m = json_members_of(drp_envelope_is_one(&e, t) ? e.object : payload);
	while (json_members_next(&m, &name, &value))
		for (int i = 0; i < DRP_EVENT_ALIASES; i++)
			if (!found[i] && slice_is(name, drp_alias_kinds[i].member)) {
				found[i] = true; /* the first of equal ones counts */
				count += drp_alias_make(&aliases[count], t, &drp_alias_kinds[i], value);
			}
	return count;
}
