/*
 * The dialect of server-sent events. Its client says all it has to say in its request; what happens later are
 * events, and changed rights. One question about rights is under way at a time: however often they change
 * meanwhile, one more follows.
 */
#include "config.h"
#include "client/dialect_sse.h"
#include "core/log.h"
#include "core/mem.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SSE_MAGIC 0x55e55e00u

struct sse_state {
	unsigned magic;
	struct session *session;
	struct groups *groups;
	bool asking, ask_again; /* for rights; once more */
};

static struct sse_state *
sse_check(void *state)
{
	struct sse_state *e = state;

	assert(e->magic == SSE_MAGIC);
	return e;
}

/* data is one line. */
static void
sse_send(struct sse_state *e, const char *event, const char *data)
{
	char *text = mem_printf("event: %s\ndata: %s\n\n", event, data);

	session_send_octets(e->session, text, strlen(text));
	free(text);
}

static void
sse_send_groups(struct sse_state *e)
{
	char *groups = groups_tell(e->groups);

	sse_send(e, "groups", groups);
	free(groups);
}

/* Releases the error. */
static void
sse_send_denied(struct sse_state *e, char *error)
{
	json_t *message = json_pack("{ss}", "error", error);
	char *text = json_dumps(message, 0);

	if (text == NULL)
		log_fatal("out of memory");
	sse_send(e, "denied", text);
	json_decref(message);
	free(error);
	free(text);
}

static void
sse_deny(struct sse_state *e, const struct awx_group *g)
{
	log_debug(session_subject(e->session), "group \"%s\" is not granted", g->label);
	sse_send_denied(e, awx_group_denial(g));
}

/* ---- changed rights ---- */

static void sse_access_changed(void *state);

static void
sse_on_asked_again(void *arg, enum groups_outcome outcome, const struct topic *patterns, size_t count)
{
	struct sse_state *e = sse_check(arg);

	e->asking = false;
	session_set_patterns(e->session, patterns, count);
	if (outcome == GROUPS_TOO_MANY)
		sse_send_denied(e, groups_too_many());
	if (groups_have_shrunk(e->groups))
		sse_send_groups(e);
	if (e->ask_again)
		sse_access_changed(e);
}

static void
sse_access_changed(void *state)
{
	struct sse_state *e = sse_check(state);

	e->ask_again = e->asking;
	if (e->asking)
		return;
	e->asking = true;
	groups_ask_again(e->groups, sse_on_asked_again, e);
}

/* ---- life ---- */

static void
sse_greet(struct sse_state *e, const struct sse_request *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (!groups_has(e->groups, r->groups[i].label))
			sse_deny(e, &r->groups[i]);
	sse_send_groups(e);
	log_info(
	    session_subject(e->session), "in %zu of %zu groups asked for", groups_count(e->groups), r->count);
}

static void *
sse_open(struct session *session, void *request)
{
	struct sse_opening *o = request;
	struct sse_state *e = mem_zalloc(sizeof(*e));

	e->magic = SSE_MAGIC;
	e->session = session;
	e->groups = o->groups;
	groups_show(e->groups, session_number(session));
	session_set_patterns(session, o->patterns, o->count);
	sse_greet(e, o->request);
	if (o->request->resume)
		session_resume(session, &o->request->position);
	session_want_cursors(session);
	return e;
}

static char *
sse_labels(void *state, groups_concern concerns, const void *arg)
{
	return groups_labels(sse_check(state)->groups, concerns, arg);
}

static bool
sse_in_group(void *state, const char *label)
{
	return groups_has(sse_check(state)->groups, label);
}

static void
sse_close(void *state)
{
	struct sse_state *e = sse_check(state);

	groups_free(e->groups);
	e->magic = 0;
	free(e);
}

const struct dialect dialect_sse = {
    .form = MSG_FORM_SSE,
    .open = sse_open,
    .access_changed = sse_access_changed,
    .labels = sse_labels,
    .in_group = sse_in_group,
    .close = sse_close,
    .transport = SESSION_STREAM,
};
