/* Parsing what AWX clients send. */
#include "config.h"
#include "client/awx_request.h"
#include "core/mem.h"
#include "relay/event.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static char *
awx_request_deny(void)
{
	return mem_strdup("access denied to channel");
}

void
awx_request_free(struct awx_request *r)
{
	awx_groups_clear(&r->groups, &r->count);
	position_clear(&r->position);
	free(r->xrftoken);
	free(r->error);
	free(r);
}

/* The text of a group's value; NULL when it is neither string nor integer. The caller releases it. */
static char *
awx_request_value(const json_t *item)
{
	if (json_is_integer(item))
		return mem_printf("%" JSON_INTEGER_FORMAT, json_integer_value(item));
	/* a NUL inside would cut the text: no topic holds one */
	if (json_is_string(item) && strlen(json_string_value(item)) == json_string_length(item))
		return mem_strdup(json_string_value(item));
	return NULL;
}

static void
awx_request_add(struct awx_request *r, json_t *seen, const char *name, const char *value)
{
	struct awx_group *g = &r->groups[r->count];

	awx_group_make(g, name, value);
	if (json_object_get(seen, g->label) != NULL) {
		awx_group_clear(g);
		return;
	}
	json_object_set_new_nocheck(seen, g->label, json_true());
	r->count++;
}

static size_t
awx_request_count(json_t *groups)
{
	const char *name;
	json_t *values;
	size_t n = 0;

	json_object_foreach (groups, name, values)
		n += json_array_size(values);
	return n;
}

/* What is longer can be no part of a topic; it is not copied, once for each of its values. */
static bool
awx_request_fits(const char *name, const char *value)
{
	return strlen(name) <= EVENT_WORD_MAX && strlen(value) <= EVENT_KEY_MAX;
}

static char *
awx_request_take_groups(struct awx_request *r, json_t *groups, json_t *seen)
{
	const char *name;
	json_t *values, *item;
	size_t i;

	json_object_foreach (groups, name, values) {
		if (!json_is_array(values))
			return awx_request_deny();
		json_array_foreach (values, i, item) {
			char *value = awx_request_value(item);

			if (value == NULL || !awx_request_fits(name, value)) {
				free(value);
				return awx_request_deny();
			}
			awx_request_add(r, seen, name, value);
			free(value);
		}
	}
	return NULL;
}

static char *
awx_request_take_cursor(struct awx_request *r, const json_t *cursor)
{
	r->cursors = cursor != NULL;
	r->resume = json_is_string(cursor);
	if (cursor == NULL || json_is_true(cursor))
		return NULL;
	if (!r->resume)
		return mem_strdup("cursor must be true, or the last cursor received");
	if (!position_parse(
		&r->position, (struct slice){json_string_value(cursor), json_string_length(cursor)}))
		return mem_strdup("this is no cursor; give the last one received, unchanged");
	return NULL;
}

static char *
awx_request_take(struct awx_request *r, json_t *root, size_t max_groups)
{
	json_t *groups = json_object_get(root, "groups"), *seen;
	const char *xrftoken = json_string_value(json_object_get(root, "xrftoken"));
	char *error;
	size_t count;

	if (!json_is_object(root))
		return mem_strdup("message is not a JSON object");
	r->xrftoken = xrftoken != NULL ? mem_strdup(xrftoken) : NULL;
	r->status = json_is_true(json_object_get(root, "status"));
	r->ignored = groups == NULL;
	if (r->ignored)
		return NULL;
	if (!json_is_object(groups))
		return awx_request_deny();
	error = awx_request_take_cursor(r, json_object_get(root, "cursor"));
	if (error != NULL)
		return error;
	count = awx_request_count(groups);
	if (count > max_groups)
		return mem_printf("too many groups: at most %zu", max_groups);
	r->groups = mem_zalloc(count * sizeof(*r->groups));
	seen = json_object();
	error = awx_request_take_groups(r, groups, seen);
	json_decref(seen);
	return error;
}

struct awx_request *
awx_request_parse(const char *text, size_t len, size_t max_groups)
{
	struct awx_request *r = mem_zalloc(sizeof(*r));
	json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);

	r->error = awx_request_take(r, root, max_groups);
	if (r->error != NULL)
		awx_groups_clear(&r->groups, &r->count);
	json_decref(root);
	return r;
}
