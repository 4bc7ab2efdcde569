/*
 * Events that are posted. A member's name counts whatever its case, and of equal ones the last, as in Go's reading
 * of JSON; null is as if it were not there. Nothing is decoded but names.
 */
#include "config.h"
#include "client/drp_post.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/rfc3339.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum drp_field {
	DRP_TYPE,
	DRP_ACTION,
	DRP_KEY,
	DRP_TIME,
	DRP_OBJECT,
	DRP_ORIGINAL,
	DRP_FIELDS,
	DRP_OTHER = DRP_FIELDS
};
static const char *const drp_fields[DRP_FIELDS] = {"Type", "Action", "Key", "Time", "Object", "Original"};
#define DRP_NAME_MAX 64 /* octets of a name that is looked into: "Original" may be all of it \uXXXX */

/* ---- reading ---- */

static enum drp_field
drp_post_field(struct slice written)
{
	char *name = json_scan_text(written, DRP_NAME_MAX);
	int field = DRP_TYPE;

	while (field < DRP_FIELDS && (name == NULL || strcasecmp(name, drp_fields[field]) != 0))
		field++;
	free(name);
	return (enum drp_field)field;
}

static bool
drp_post_is_there(struct slice value)
{
	return value.len > 0 && !slice_is(value, "null");
}

static bool
drp_post_is_string(struct slice value)
{
	return value.len > 0 && value.ptr[0] == '"';
}

/* values is indexed by enum drp_field; what is not there is empty. */
static bool
drp_post_check(struct json_scan *s, const struct slice *values)
{
	static const enum drp_field strings[] = {DRP_TYPE, DRP_ACTION, DRP_KEY, DRP_TIME};
	struct slice time = values[DRP_TIME];

	for (size_t i = 0; i < ARRAY_LENGTH(strings); i++)
		if (drp_post_is_there(values[strings[i]]) && !drp_post_is_string(values[strings[i]]))
			return json_scan_fail(s, "%s must be a string", drp_fields[strings[i]]);
	if (!drp_post_is_there(values[DRP_TYPE]) || !drp_post_is_there(values[DRP_ACTION]))
		return json_scan_fail(s, "an event without %s",
		    drp_fields[drp_post_is_there(values[DRP_TYPE]) ? DRP_ACTION : DRP_TYPE]);
	if (drp_post_is_there(time) && !rfc3339_is_valid((struct slice){time.ptr + 1, time.len - 2}))
		return json_scan_fail(
		    s, "Time must be as in RFC 3339, such as \"2026-11-22T10:00:00Z\", or be left out");
	return true;
}

static bool
drp_post_scan(struct json_scan *s, struct slice *values)
{
	bool more;

	if (json_scan_next(s) != '{')
		return json_scan_fail(s, "an event must be a JSON object with Type, Action, Key and Object");
	if (!json_scan_enter(s, '{', &more))
		return false;
	while (more) {
		struct slice name, value;
		enum drp_field field;

		if (!json_scan_name(s, &name) || !json_scan_value(s, &value) ||
		    !json_scan_more(s, '{', &more))
			return false;
		field = drp_post_field(name);
		if (field != DRP_OTHER)
			values[field] = value;
	}
	if (json_scan_next(s) >= 0)
		return json_scan_fail_here(s, "something behind the end");
	return drp_post_check(s, values);
}

/* ---- writing ---- */

static void
drp_post_put(FILE *out, const char *name, struct slice value, const char *otherwise)
{
	if (drp_post_is_there(value))
		fprintf(out, "\"%s\":%.*s", name, (int)value.len, value.ptr);
	else
		fprintf(out, "\"%s\":%s", name, otherwise);
}

static void
drp_post_put_principal(FILE *out, const char *principal)
{
	json_t *value = json_string(principal);

	fputs("\"principal\":", out);
	if (value == NULL || json_dumpf(value, out, JSON_ENCODE_ANY) != 0)
		fputs("\"unknown\"", out);
	json_decref(value);
}

static void
drp_post_put_topic(FILE *out, const char *type_name, const struct slice *values)
{
	drp_post_put(out, type_name, values[DRP_TYPE], "");
	fputc(',', out);
	drp_post_put(out, "action", values[DRP_ACTION], "");
	fputc(',', out);
	drp_post_put(out, "key", values[DRP_KEY], "\"\"");
	fputc(',', out);
}

static void
drp_post_put_event(FILE *out, const struct slice *values, const char *principal)
{
	fputc('{', out);
	drp_post_put_topic(out, "type", values);
	fputs("\"payload\":{", out);
	drp_post_put_topic(out, "group_name", values);
	drp_post_put(out, "object", values[DRP_OBJECT], "null");
	fputc(',', out);
	drp_post_put(out, "original", values[DRP_ORIGINAL], "null");
	fputc(',', out);
	if (drp_post_is_there(values[DRP_TIME])) {
		drp_post_put(out, "time", values[DRP_TIME], "");
		fputc(',', out);
	}
	drp_post_put_principal(out, principal);
	fputs("}}", out);
}

char *
drp_post_convert(
    const char *text, size_t len, const char *principal, size_t *body_len, char error[JSON_SCAN_ERROR])
{
	struct slice values[DRP_FIELDS] = {{NULL, 0}};
	struct json_scan s;
	char *body = NULL;
	FILE *out;

	json_scan_init(&s, text, len);
	if (!drp_post_scan(&s, values)) {
		memcpy(error, s.error, JSON_SCAN_ERROR);
		return NULL;
	}
	out = open_memstream(&body, body_len);
	if (out == NULL)
		log_fatal("out of memory");
	drp_post_put_event(out, values, principal);
	if (fclose(out) != 0)
		log_fatal("out of memory");
	return body;
}
