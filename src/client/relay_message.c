/* Messages of AWX's wsrelay. */
#include "config.h"
#include "client/relay_message.h"
#include "client/awx_group.h"
#include "core/mem.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RELAY_MESSAGE_IGNORED "metrics"

struct relay_message_parts {
	struct relay_message message; /* first: it is what the caller has */
	json_t *json, *payload;
	char *name, *value;
	char key[3 * EVENT_KEY_MAX]; /* written */
};

/* ---- the topic ---- */

static void
relay_message_set_key(struct relay_message_parts *m, const char *key, size_t len)
{
	if (topic_key_is_valid(key, len))
		m->message.topic.key = (struct slice){m->key, topic_encode_key(key, len, m->key)};
}

/* NAME-VALUE with another VALUE than a key: what the payload is about is the key. */
static void
relay_message_find_key(struct relay_message_parts *m)
{
	static const char *const members[] = {"unified_job_id", "id", "inventory_id"};
	char number[24];

	for (size_t i = 0; i < ARRAY_LENGTH(members); i++) {
		json_t *value = json_object_get(m->payload, members[i]);

		if (value == NULL || json_is_null(value))
			continue;
		if (json_is_string(value))
			relay_message_set_key(m, json_string_value(value), json_string_length(value));
		if (json_is_integer(value))
			relay_message_set_key(m, number,
			    (size_t)snprintf(
				number, sizeof(number), "%" PRId64, (int64_t)json_integer_value(value)));
		return;
	}
}

static struct slice
relay_message_event(const struct relay_message_parts *m)
{
	json_t *event = json_object_get(m->payload, "event");
	struct slice word = {json_string_value(event), json_string_length(event)};

	return word.ptr != NULL && topic_is_word(word) ? word : (struct slice){"message", 7};
}

/* False: NAME or VALUE cannot be part of a topic, so the group is nobody's. */
static bool
relay_message_make_topic(struct relay_message_parts *m)
{
	struct topic *topic = &m->message.topic;
	struct slice value;

	if (!awx_group_split(m->message.group, &m->name, &m->value))
		return false;
	value = (struct slice){m->value, strlen(m->value)};
	topic->type = (struct slice){m->name, strlen(m->name)};
	topic->key = (struct slice){"", 0};
	if (!topic_is_word(topic->type) || value.len > EVENT_KEY_MAX)
		return false;
	if (awx_group_value_is_key(value.ptr, value.len)) {
		topic->action = relay_message_event(m);
		topic->key = value;
		return true;
	}
	topic->action = value;
	relay_message_find_key(m);
	return topic_is_word(value);
}

/* ---- the message ---- */

static const char *
relay_message_read(struct relay_message_parts *m, const char *text, size_t len)
{
	json_t *message, *payload;

	m->json = json_loadb(text, len, 0, NULL);
	if (!json_is_object(m->json))
		return "it is not a JSON object";
	m->message.group = json_string_value(json_object_get(m->json, "group"));
	if (m->message.group == NULL)
		return "it has no group";
	m->message.ignored = strcmp(m->message.group, RELAY_MESSAGE_IGNORED) == 0;
	if (m->message.ignored)
		return NULL;
	message = json_object_get(m->json, "message");
	payload = json_object_get(message, "text");
	if (!json_is_string(payload))
		return "it has no text in its message";
	m->message.payload = (struct slice){json_string_value(payload), json_string_length(payload)};
	m->payload = json_loadb(m->message.payload.ptr, m->message.payload.len, JSON_ALLOW_NUL, NULL);
	if (!json_is_object(m->payload))
		return "its text is not a JSON object";
	if (!relay_message_make_topic(m))
		return "its group is not of the form NAME-VALUE";
	return NULL;
}

struct relay_message *
relay_message_parse(const char *text, size_t len)
{
	struct relay_message_parts *m = mem_zalloc(sizeof(*m));

	m->message.error = relay_message_read(m, text, len);
	return &m->message;
}

void
relay_message_free(struct relay_message *message)
{
	struct relay_message_parts *m = (struct relay_message_parts *)message;

	json_decref(m->json);
	json_decref(m->payload);
	free(m->name);
	free(m->value);
	free(m);
}
