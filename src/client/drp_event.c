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
#include <stdlib.h>
#include <string.h>

#define DRP_EVENT_UNKNOWN "\"unknown\""

/* ---- the payload ---- */

/* What an envelope tells; ptr NULL where it does not. Values as they are written. */
enum drp_member { DRP_ACTION, DRP_KEY, DRP_OBJECT, DRP_ORIGINAL, DRP_PRINCIPAL, DRP_TIME, DRP_MEMBERS };

struct drp_envelope {
	struct slice values[DRP_MEMBERS];
};

static const struct slice drp_member_names[DRP_MEMBERS] = {
    {"action", 6}, {"key", 3}, {"object", 6}, {"original", 8}, {"principal", 9}, {"time", 4}};

static bool
drp_name_is(struct slice name, struct slice wanted)
{
	return name.len == wanted.len && memcmp(name.ptr, wanted.ptr, name.len) == 0;
}

static void
drp_envelope_take(struct drp_envelope *e, struct slice name, struct slice value)
{
	for (int i = 0; i < DRP_MEMBERS; i++)
		if (drp_name_is(name, drp_member_names[i]))
			e->values[i] = value;
}

static struct drp_envelope
drp_envelope_read(struct slice payload)
{
	struct json_members m = json_members_of(payload);
	struct drp_envelope e = {0};
	struct slice name, value;

	while (json_members_next(&m, &name, &value))
		drp_envelope_take(&e, name, value);
	return e;
}

static bool
drp_envelope_is_one(const struct drp_envelope *e, const struct topic *t)
{
	struct slice text;

	return e->values[DRP_OBJECT].ptr != NULL && json_value_is_string(e->values[DRP_KEY], &text) &&
	       json_value_is_string(e->values[DRP_ACTION], &text) && drp_name_is(text, t->action);
}

/* ---- the event ---- */

/* As it stands inside of a JSON string; keys have no control characters. */
static char *
drp_event_quote_key(char *out, struct slice written)
{
	char key[EVENT_KEY_MAX];
	size_t len;

	if (memchr(written.ptr, '%', written.len) == NULL && memchr(written.ptr, '"', written.len) == NULL &&
	    memchr(written.ptr, '\\', written.len) == NULL)
		return mempcpy(out, written.ptr, written.len);
	len = topic_decode_key(written, key);
	for (size_t i = 0; i < len; i++) {
		if (key[i] == '"' || key[i] == '\\')
			*out++ = '\\';
		*out++ = key[i];
	}
	return out;
}

static struct slice
drp_event_time(struct slice told, int64_t time_us, char buf[RFC3339_SIZE])
{
	struct slice text;

	if (json_value_is_string(told, &text) && rfc3339_is_valid(text))
		return text;
	return (struct slice){buf, rfc3339_format(time_us, buf)};
}

static struct slice
drp_event_head(struct drp_event *event, const struct topic *t, struct slice time)
{
	char *p = event->head;

	assert(
	    time.len + t->type.len + t->action.len + t->key.len + EVENT_KEY_MAX + 80 <= sizeof(event->head));
	p = stpcpy(p, "{\"Time\":\"");
	p = mempcpy(p, time.ptr, time.len);
	p = stpcpy(p, "\",\"Type\":\"");
	p = mempcpy(p, t->type.ptr, t->type.len);
	p = stpcpy(p, "\",\"Action\":\"");
	p = mempcpy(p, t->action.ptr, t->action.len);
	p = stpcpy(p, "\",\"Key\":\"");
	p = drp_event_quote_key(p, t->key);
	p = stpcpy(p, "\",\"Principal\":");
	return (struct slice){event->head, (size_t)(p - event->head)};
}

void
drp_event_make(struct drp_event *event, const struct topic *t, int64_t time_us, struct slice payload)
{
	static const struct slice object = {",\"Object\":", 10}, original = {",\"Original\":", 12},
				  unknown = {DRP_EVENT_UNKNOWN, sizeof(DRP_EVENT_UNKNOWN) - 1},
				  null = {"null", 4};
	char buf[RFC3339_SIZE];
	struct drp_envelope e = drp_envelope_read(payload);
	struct slice text;

	if (!drp_envelope_is_one(&e, t))
		e = (struct drp_envelope){.values[DRP_OBJECT] = payload};
	event->parts[0] = drp_event_head(event, t, drp_event_time(e.values[DRP_TIME], time_us, buf));
	event->parts[1] =
	    json_value_is_string(e.values[DRP_PRINCIPAL], &text) ? e.values[DRP_PRINCIPAL] : unknown;
	event->parts[2] = object;
	event->parts[3] = e.values[DRP_OBJECT];
	event->parts[4] = original;
	event->parts[5] = e.values[DRP_ORIGINAL].ptr != NULL ? e.values[DRP_ORIGINAL] : null;
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
	struct slice type, member;
} drp_alias_kinds[DRP_EVENT_ALIASES] = {
    {{"machine_jobs", 12}, {"Machine", 7}}, {{"work_order_jobs", 15}, {"WorkOrder", 9}}};

bool
drp_event_has_aliases(const struct topic *t)
{
	return slice_is(t->type, "jobs");
}

bool
drp_event_is_alias(struct slice type)
{
	for (int i = 0; i < DRP_EVENT_ALIASES; i++)
		if (drp_name_is(type, drp_alias_kinds[i].type))
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
	alias->topic = (struct topic){
	    kind->type, t->action, {alias->written, topic_encode_key(text.ptr, text.len, alias->written)}};
	return true;
}

/* The first of equal ones counts. */
static void
drp_alias_take(struct slice values[DRP_EVENT_ALIASES], struct slice name, struct slice value)
{
	for (int i = 0; i < DRP_EVENT_ALIASES; i++)
		if (values[i].ptr == NULL && drp_name_is(name, drp_alias_kinds[i].member))
			values[i] = value;
}

/* What a payload says itself, and what its object says, should it be an envelope. */
static void
drp_alias_find(const struct topic *t, struct slice payload, struct slice values[DRP_EVENT_ALIASES])
{
	struct json_members m = json_members_of(payload);
	struct drp_envelope e = {0};
	struct slice name, value;

	while (json_members_next(&m, &name, &value)) {
		drp_envelope_take(&e, name, value);
		drp_alias_take(values, name, value);
	}
	if (!drp_envelope_is_one(&e, t))
		return;
	memset(values, 0, DRP_EVENT_ALIASES * sizeof(*values));
	m = json_members_of(e.values[DRP_OBJECT]);
	while (json_members_next(&m, &name, &value))
		drp_alias_take(values, name, value);
}

size_t
drp_event_aliases(const struct topic *t, struct slice payload, struct drp_alias aliases[DRP_EVENT_ALIASES])
{
	struct slice values[DRP_EVENT_ALIASES] = {{NULL, 0}};
	size_t count = 0;

	if (!drp_event_has_aliases(t))
		return 0;
	drp_alias_find(t, payload, values);
	for (int i = 0; i < DRP_EVENT_ALIASES; i++)
		count += drp_alias_make(&aliases[count], t, &drp_alias_kinds[i], values[i]);
	return count;
}
