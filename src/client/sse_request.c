/* Parsing what clients of server-sent events ask for. */
#include "config.h"
#include "client/sse_request.h"
#include "core/mem.h"
#include "relay/event.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SSE_REQUEST_EXAMPLE "/events?groups=job_events-42,jobs-status_changed"

void
sse_request_free(struct sse_request *r)
{
	awx_groups_clear(&r->groups, &r->count);
	position_clear(&r->position);
	free(r->error);
	free(r);
}

static size_t
sse_request_count(const char *groups)
{
	size_t n = 1;

	for (const char *p = strchr(groups, ','); p != NULL; p = strchr(p + 1, ','))
		n++;
	return n;
}

/* Takes one group; what is there already is passed over. False: it is none. */
static bool
sse_request_add(struct sse_request *r, json_t *seen, const char *text)
{
	struct awx_group *g = &r->groups[r->count];
	char *name, *value;
	bool ok;

	if (!awx_group_split(text, &name, &value))
		return false;
	ok = strlen(name) <= EVENT_WORD_MAX && strlen(value) <= EVENT_KEY_MAX;
	if (ok && json_object_get(seen, text) == NULL) {
		ok = json_object_set_new(seen, text, json_true()) == 0; /* UTF-8? */
		awx_group_make(g, name, value);
		r->count++;
	}
	free(name);
	free(value);
	return ok;
}

static char *
sse_request_take_groups(struct sse_request *r, const char *groups)
{
	json_t *seen = json_object();
	char *error = NULL;
	size_t n = 0;

	for (const char *p = groups; error == NULL && p != NULL; n++) {
		size_t len = strcspn(p, ",");
		char *text = mem_strndup(p, len);

		if (!sse_request_add(r, seen, text))
			error = mem_printf(
			    "group %zu in the URL is none; groups are NAME-VALUE, separated by commas, as in "
			    "%s",
			    n + 1, SSE_REQUEST_EXAMPLE);
		free(text);
		p = p[len] == ',' ? p + len + 1 : NULL;
	}
	json_decref(seen);
	return error;
}

static char *
sse_request_take(struct sse_request *r, const char *groups, const char *cursor, size_t max_groups)
{
	size_t count;

	if (groups == NULL || *groups == '\0')
		return mem_strdup("groups are wanted, as in " SSE_REQUEST_EXAMPLE);
	count = sse_request_count(groups);
	if (count > max_groups)
		return mem_printf("too many groups: at most %zu", max_groups);
	r->resume = cursor != NULL && *cursor != '\0';
	if (r->resume && !position_parse(&r->position, (struct slice){cursor, strlen(cursor)}))
		return mem_strdup("this is no cursor; give the last one received, unchanged");
	r->groups = mem_zalloc(count * sizeof(*r->groups));
	return sse_request_take_groups(r, groups);
}

/* A browser that comes back gives the URL as it was and the id that it saw last: that is the newer one. */
struct sse_request *
sse_request_parse(const char *groups, const char *cursor, const char *last_event_id, size_t max_groups)
{
	struct sse_request *r = mem_zalloc(sizeof(*r));

	r->error = sse_request_take(
	    r, groups, last_event_id != NULL && *last_event_id != '\0' ? last_event_id : cursor, max_groups);
	if (r->error != NULL)
		awx_groups_clear(&r->groups, &r->count);
	return r;
}
