/* Telling messages apart. Those of the bundled schema have a group_name; the node's own have none, nor need
 * the users' have one. */
#include "config.h"
#include "cli/watch_message.h"
#include "core/mem.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

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
