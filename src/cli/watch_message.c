/* Telling messages apart. Those of the bundled schema have a group_name; the node's own have none, nor need
 * the users' have one. */
#include "config.h"
#include "cli/watch_message.h"
#include "core/mem.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_CURSOR_MAX 4096

const char *
watch_message_text(const json_t *message, const char *field)
{
	const char *text = json_string_value(json_object_get(message, field));

	return text != NULL ? text : "";
}

int64_t
watch_message_number(const json_t *message, const char *field)
{
	return json_integer_value(json_object_get(message, field));
}

/* What we would send back. */
static bool
watch_message_is_cursor(const json_t *value)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:,._-";
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);

	return text != NULL && len > 0 && len <= WATCH_CURSOR_MAX && strspn(text, alphabet) == len;
}

static bool
watch_message_is_gap(const json_t *value)
{
	return json_is_array(json_object_get(value, "groups")) &&
	       json_is_string(json_object_get(value, "reason"));
}

static enum watch_kind
watch_message_kind_of_node(const json_t *message)
{
	if (json_is_true(json_object_get(message, "accept")))
		return WATCH_ACCEPT;
	if (json_is_true(json_object_get(message, "close")))
		return WATCH_REFUSAL;
	if (json_is_array(json_object_get(message, "groups_current")))
		return WATCH_JOINED;
	if (json_is_string(json_object_get(message, "error")))
		return WATCH_ERROR;
	if (json_object_size(message) == 1 && watch_message_is_cursor(json_object_get(message, "cursor")))
		return WATCH_CURSOR;
	if (json_object_size(message) == 1 && watch_message_is_gap(json_object_get(message, "gap")))
		return WATCH_GAP;
	return WATCH_OTHER;
}

/* Of the groups KIND_events the message has the job's id under KIND. */
static enum watch_kind
watch_message_kind_of_events(const json_t *message, const char *group, int64_t *job)
{
	static const char suffix[] = "_events";
	size_t len = strlen(group), tail = sizeof(suffix) - 1;
	char *kind;

	if (len <= tail || strcmp(group + len - tail, suffix) != 0)
		return WATCH_OTHER;
	kind = mem_strndup(group, len - tail);
	*job = watch_message_number(message, kind);
	free(kind);
	return *job > 0 ? WATCH_LINE : WATCH_OTHER;
}

enum watch_kind
watch_message_kind(const json_t *message, int64_t *job)
{
	const char *group = watch_message_text(message, "group_name");

	*job = 0;
	if (*group == '\0')
		return watch_message_kind_of_node(message);
	if (strcmp(group, "jobs") != 0)
		return watch_message_kind_of_events(message, group, job);
	*job = watch_message_number(message, "unified_job_id");
	if (*job > 0 && json_is_string(json_object_get(message, "status")))
		return WATCH_STATUS;
	if (*job > 0 && json_is_integer(json_object_get(message, "final_counter")))
		return WATCH_SUMMARY;
	return WATCH_OTHER;
}

const char *
watch_message_gap_meaning(const char *reason)
{
	static const struct {
		const char *reason, *meaning;
	} gaps[] = {
	    {"retention", "the log does not reach back so far"},
	    {"restored", "the database was restored, or a standby that lacked events was promoted"},
	    {"epoch", "the last position was that of another server or timeline"},
	    {"exempt", "events of a type that is not logged passed while the node heard nothing"},
	    {"unlogged", "the log is unlogged, and a crash or a promotion has emptied it"},
	    {"payload", "a big payload could not be had"},
	    {"overflow", "they were not taken fast enough"},
	    {"history", "what had been missed was not taken fast enough"},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(gaps); i++)
		if (strcmp(gaps[i].reason, reason) == 0)
			return gaps[i].meaning;
	return NULL;
}
