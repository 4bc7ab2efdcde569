/*
 * The AWX dialect.
 *
 * Requests are done one after the other, each with one question to the database (what may this user see of
 * these groups?). While one is under way the session reads nothing more, so the list of requests holds at
 * most what had been read by then. The new set is in force before the reply is queued: an event that comes
 * later comes behind the reply.
 */
#include "config.h"
#include "client/dialect_awx.h"
#include "client/auth.h"
#include "client/awx_request.h"
#include "client/groups.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define AWX_MAGIC       0xa3c0a3c0u
#define AWX_MAX_PENDING 16 /* while it is waited for what was missed */

struct awx_pending {
	STAILQ_ENTRY(awx_pending) entry;
	struct awx_request *request; /* NULL: rights have changed, ask again for what there is */
};

struct awx_state {
	unsigned magic;
	struct session *session;
	STAILQ_HEAD(, awx_pending) pending; /* the first is under way */
	struct groups *groups;
	struct pg_query *query;           /* for jobs' status */
	int pending_count;                /* came while resuming */
	bool asking_again, ask_once_more; /* for rights, while resuming */
	bool resuming;                    /* the first request waits for what was missed */
	bool logged;                      /* a request; a client may make very many */
};

static void awx_next(struct awx_state *a);

static struct awx_state *
awx_check(void *state)
{
	struct awx_state *a = state;

	assert(a->magic == AWX_MAGIC);
	return a;
}

static void
awx_send_json(struct awx_state *a, json_t *message)
{
	char *text = json_dumps(message, 0);

	if (text == NULL)
		log_fatal("out of memory");
	session_send_text(a->session, text, strlen(text));
	free(text);
	json_decref(message);
}

static void
awx_send_error(struct awx_state *a, const char *error)
{
	metrics[METRIC_MESSAGES_INVALID_TOTAL]++;
	awx_send_json(a, json_pack("{ss}", "error", error));
}

static void
awx_send_too_many(struct awx_state *a)
{
	char *error = groups_too_many();

	awx_send_error(a, error);
	free(error);
}

/* ---- answering ---- */

/* Tells what the groups are now. */
static void
awx_send_reply(struct awx_state *a)
{
	char *reply = groups_tell(a->groups);

	session_send_text(a->session, reply, strlen(reply));
	free(reply);
}

static void
awx_deny(struct awx_state *a, const struct awx_group *g)
{
	char *error = awx_group_denial(g);

	log_debug(session_subject(a->session), "group \"%s\" is not granted", g->label);
	awx_send_error(a, error);
	free(error);
}

/* The session's patterns are in force: tells the client what came of its groups. */
static void
awx_answer(struct awx_state *a, const struct awx_request *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (!groups_has(a->groups, r->groups[i].label))
			awx_deny(a, &r->groups[i]);
	awx_send_reply(a);
	log_line(a->logged ? LOG_DEBUG : LOG_INFO, session_subject(a->session),
	    "in %zu of %zu groups asked for", groups_count(a->groups), r->count);
	a->logged = true;
}

static void
awx_on_status(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct awx_state *a = awx_check(arg);

	a->query = NULL;
	if (status != PG_QUERY_OK)
		auth_report_failure("for a job's status", error);
	for (int i = 0; status == PG_QUERY_OK && i < pg_result_rows(result); i++)
		session_send_text(a->session, pg_result_text(result, i, 0), pg_result_length(result, i, 0));
	awx_next(a);
}

/* Asks for the jobs' present status, of those groups that were joined. */
static void
awx_ask_status(struct awx_state *a, const struct awx_request *r)
{
	const char **patterns = mem_alloc(sizeof(*patterns) * r->count);
	size_t count = 0;

	for (size_t i = 0; i < r->count; i++)
		if (groups_has(a->groups, r->groups[i].label))
			patterns[count++] = r->groups[i].pattern;
	a->query = auth_job_status(patterns, count, awx_on_status, a);
	free(patterns);
}

/* What the request asked for beside the groups; then it is done. */
static void
awx_finish(struct awx_state *a, const struct awx_request *r)
{
	if (r->status && groups_count(a->groups) > 0)
		awx_ask_status(a, r);
	else
		awx_next(a);
}

/* First what was missed, then the present status: it may be newer. */
static void
awx_resume(struct awx_state *a, struct awx_request *r)
{
	a->resuming = r->resume && groups_count(a->groups) > 0;
	if (a->resuming)
		session_resume(a->session, &r->position);
	if (r->cursors)
		session_want_cursors(a->session);
	if (a->resuming)
		session_pause(a->session, false);
	else
		awx_finish(a, r);
}

static void
awx_resumed(void *state)
{
	struct awx_state *a = awx_check(state);

	a->resuming = false;
	if (a->asking_again)
		return; /* awx_on_asked_meanwhile() goes on */
	a->pending_count = 0;
	session_pause(a->session, true);
	awx_finish(a, STAILQ_FIRST(&a->pending)->request);
}

static void
awx_on_authorized(void *arg, enum groups_outcome outcome, const struct topic *patterns, size_t count)
{
	struct awx_state *a = awx_check(arg);
	struct awx_request *r = STAILQ_FIRST(&a->pending)->request;

	if (outcome != GROUPS_KNOWN) {
		if (outcome == GROUPS_TOO_MANY)
			awx_send_too_many(a);
		else
			awx_send_error(
			    a, "the database cannot be asked now; the groups are unchanged, try again");
		awx_next(a);
		return;
	}
	session_set_patterns(a->session, patterns, count);
	awx_answer(a, r);
	awx_resume(a, r);
}

/* Rights had changed: what is not allowed any more has been left, and the client is told. */
static void
awx_narrow(struct awx_state *a, enum groups_outcome outcome, const struct topic *patterns, size_t count)
{
	session_set_patterns(a->session, patterns, count);
	if (outcome == GROUPS_TOO_MANY)
		awx_send_too_many(a);
	if (groups_have_shrunk(a->groups))
		awx_send_reply(a);
}

static void
awx_on_asked_again(void *arg, enum groups_outcome outcome, const struct topic *patterns, size_t count)
{
	struct awx_state *a = awx_check(arg);

	awx_narrow(a, outcome, patterns, count);
	awx_next(a);
}

/* The same, while the client gets what it missed: that may take long, and rights do not wait. */
static void
awx_on_asked_meanwhile(void *arg, enum groups_outcome outcome, const struct topic *patterns, size_t count)
{
	struct awx_state *a = awx_check(arg);

	awx_narrow(a, outcome, patterns, count);
	a->asking_again = a->ask_once_more;
	a->ask_once_more = false;
	if (a->asking_again)
		groups_ask_again(a->groups, awx_on_asked_meanwhile, a);
	else if (!a->resuming)
		awx_resumed(a);
}

/* ---- requests ---- */

static void
awx_drop_first(struct awx_state *a)
{
	struct awx_pending *p = STAILQ_FIRST(&a->pending);

	STAILQ_REMOVE_HEAD(&a->pending, entry);
	if (p->request != NULL)
		awx_request_free(p->request);
	free(p);
}

/* Answers what needs no question to the database; true when one was asked. */
static bool
awx_start(struct awx_state *a, const struct awx_request *r)
{
	if (r == NULL) {
		groups_ask_again(a->groups, awx_on_asked_again, a);
		return true;
	}
	if (r->error != NULL) {
		awx_send_error(a, r->error);
	} else if (r->ignored) {
		return false;
	} else if (!credential_csrf_matches(session_credential(a->session), r->xrftoken)) {
		awx_send_error(a, "access denied to channel");
	} else if (r->resume && groups_count(a->groups) > 0) {
		awx_send_error(a, "a cursor is taken with the first groups of a connection only");
	} else if (r->count == 0) {
		session_set_patterns(a->session, NULL, 0);
		groups_clear(a->groups);
		awx_answer(a, r);
		if (r->cursors)
			session_want_cursors(a->session);
	} else {
		groups_ask(a->groups, r->groups, r->count, awx_on_authorized, a);
		return true;
	}
	return false;
}

static void
awx_pump(struct awx_state *a)
{
	while (!STAILQ_EMPTY(&a->pending) && !awx_start(a, STAILQ_FIRST(&a->pending)->request))
		awx_drop_first(a);
	session_pause(a->session, !STAILQ_EMPTY(&a->pending));
}

/* The first request is done. */
static void
awx_next(struct awx_state *a)
{
	awx_drop_first(a);
	awx_pump(a);
}

static void
awx_enqueue(struct awx_state *a, struct awx_request *request)
{
	struct awx_pending *p = mem_zalloc(sizeof(*p));
	bool idle = STAILQ_EMPTY(&a->pending);

	p->request = request;
	STAILQ_INSERT_TAIL(&a->pending, p, entry);
	if (idle)
		awx_pump(a);
	else if (a->resuming && ++a->pending_count >= AWX_MAX_PENDING)
		session_pause(a->session, true);
}

static void
awx_message(void *state, const char *text, size_t len)
{
	awx_enqueue(awx_check(state), awx_request_parse(text, len, (size_t)conf.max_groups));
}

static void
awx_access_changed(void *state)
{
	struct awx_state *a = awx_check(state);

	if (a->asking_again) {
		a->ask_once_more = true;
	} else if (a->resuming) {
		a->asking_again = true;
		groups_ask_again(a->groups, awx_on_asked_meanwhile, a);
	} else {
		awx_enqueue(a, NULL);
	}
}

/* ---- life ---- */

static void *
awx_open(struct session *session, void *request)
{
	struct awx_state *a = mem_zalloc(sizeof(*a));

	a->magic = AWX_MAGIC;
	a->session = session;
	STAILQ_INIT(&a->pending);
	a->groups = groups_new(session_user_id(session));
	groups_show(a->groups, session_number(session));
	awx_send_json(a, json_pack("{sb sI}", "accept", 1, "user", (json_int_t)session_user_id(session)));
	return a;
}

static char *
awx_labels(void *state, groups_concern concerns, const void *arg)
{
	return groups_labels(awx_check(state)->groups, concerns, arg);
}

static bool
awx_in_group(void *state, const char *label)
{
	return groups_has(awx_check(state)->groups, label);
}

static void
awx_close(void *state)
{
	struct awx_state *a = awx_check(state);

	if (a->query != NULL)
		pg_query_cancel(a->query);
	groups_free(a->groups);
	while (!STAILQ_EMPTY(&a->pending))
		awx_drop_first(a);
	a->magic = 0;
	free(a);
}

const struct dialect dialect_awx = {
    .form = MSG_FORM_AWX,
    .deflated_form = MSG_FORM_AWX_DEFLATED,
    .open = awx_open,
    .message = awx_message,
    .access_changed = awx_access_changed,
    .labels = awx_labels,
    .in_group = awx_in_group,
    .resumed = awx_resumed,
    .close = awx_close,
    .transport = SESSION_WEBSOCKET,
};
