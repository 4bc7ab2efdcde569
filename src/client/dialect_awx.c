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

#define AWX_MAGIC 0xa3c0a3c0u

struct awx_pending {
	STAILQ_ENTRY(awx_pending) entry;
	struct awx_request *request; /* NULL: rights have changed, ask again for what there is */
};

struct awx_state {
	unsigned magic;
	struct session *session;
	STAILQ_HEAD(, awx_pending) pending; /* the first is under way while query is set */
	struct pg_query *query;
	json_t *groups; /* the present ones, label to pattern */
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

/* ---- answering ---- */

/* The labels of set that are not in other, as a list. */
static json_t *
awx_difference(json_t *set, json_t *other)
{
	json_t *list = json_array();
	const char *label;
	json_t *value;

	json_object_foreach (set, label, value)
		if (json_object_get(other, label) == NULL)
			json_array_append_new(list, json_string_nocheck(label));
	return list;
}

static void
awx_send_reply(struct awx_state *a, json_t *groups)
{
	json_t *none = json_object();
	json_t *reply = json_pack("{so so so}", "groups_current", awx_difference(groups, none), "groups_left",
	    awx_difference(a->groups, groups), "groups_joined", awx_difference(groups, a->groups));

	json_decref(none);
	json_decref(a->groups);
	a->groups = groups;
	awx_send_json(a, reply);
}

static void
awx_deny(struct awx_state *a, const struct awx_group *g)
{
	char *error = mem_printf("access denied to channel %s for resource id %s", g->name, g->value);

	log_debug(session_subject(a->session), "group \"%s\" is not granted", g->label);
	awx_send_error(a, error);
	free(error);
}

/* The patterns that were asked for and are allowed, as a set; what is allowed of them becomes the session's
 * patterns. */
static json_t *
awx_take_allowed(struct awx_state *a, const PGresult *result)
{
	int rows = pg_result_rows(result);
	struct topic *patterns = mem_alloc(sizeof(*patterns) * (size_t)rows);
	json_t *requested = json_object();
	size_t count = 0;

	for (int i = 0; i < rows; i++) {
		const char *ask = pg_result_text(result, i, 0), *allowed = pg_result_text(result, i, 1);

		if (ask == NULL || allowed == NULL ||
		    !topic_parse((struct slice){allowed, strlen(allowed)}, true, &patterns[count])) {
			log_warning(session_subject(a->session),
			    "%s returned a pattern that is none; it is left out", conf.authorize_function);
			continue;
		}
		count++;
		json_object_set_new_nocheck(requested, ask, json_true());
	}
	session_set_patterns(a->session, patterns, count);
	free(patterns);
	return requested;
}

/* The session's patterns are in force: tells the client what came of its groups. */
static void
awx_answer(struct awx_state *a, const struct awx_request *r, json_t *allowed)
{
	json_t *groups = json_object();

	for (size_t i = 0; i < r->count; i++) {
		const struct awx_group *g = &r->groups[i];

		if (g->pattern != NULL && json_object_get(allowed, g->pattern) != NULL)
			json_object_set_new_nocheck(groups, g->label, json_string_nocheck(g->pattern));
		else
			awx_deny(a, g);
	}
	json_decref(allowed);
	awx_send_reply(a, groups);
	log_info(session_subject(a->session), "in %zu of %zu groups asked for", json_object_size(a->groups),
	    r->count);
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
		if (json_object_get(a->groups, r->groups[i].label) != NULL)
			patterns[count++] = r->groups[i].pattern;
	a->query = auth_job_status(patterns, count, awx_on_status, a);
	free(patterns);
}

static void
awx_on_authorized(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct awx_state *a = awx_check(arg);
	struct awx_request *r = STAILQ_FIRST(&a->pending)->request;

	a->query = NULL;
	if (status != PG_QUERY_OK) {
		auth_report_failure("what a client may see", error);
		awx_send_error(a, "the database cannot be asked now; the groups are unchanged, try again");
		awx_next(a);
		return;
	}
	awx_answer(a, r, awx_take_allowed(a, result));
	if (r->status && json_object_size(a->groups) > 0)
		awx_ask_status(a, r);
	else
		awx_next(a);
}

/* ---- changed rights ---- */

static void awx_ask_again(struct awx_state *a);

/* What is not allowed any more is left, and the client told. A question that got no answer is asked again;
 * one that was refused leaves nothing. */
static void
awx_on_asked_again(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct awx_state *a = awx_check(arg);
	json_t *allowed, *groups, *pattern;
	const char *label;

	a->query = NULL;
	if (status != PG_QUERY_OK)
		auth_report_failure("what a client may still see", error);
	if (status == PG_QUERY_LOST) {
		awx_ask_again(a);
		return;
	}
	if (status == PG_QUERY_ERROR)
		session_set_patterns(a->session, NULL, 0);
	allowed = status == PG_QUERY_OK ? awx_take_allowed(a, result) : json_object();
	groups = json_object();
	json_object_foreach (a->groups, label, pattern)
		if (json_object_get(allowed, json_string_value(pattern)) != NULL)
			json_object_set_nocheck(groups, label, pattern);
	json_decref(allowed);
	if (json_object_size(groups) < json_object_size(a->groups))
		awx_send_reply(a, groups);
	else
		json_decref(groups);
	awx_next(a);
}

static void
awx_ask_again(struct awx_state *a)
{
	const char **patterns = mem_alloc(sizeof(*patterns) * json_object_size(a->groups));
	const char *label;
	json_t *pattern;
	size_t count = 0;

	json_object_foreach (a->groups, label, pattern)
		patterns[count++] = json_string_value(pattern);
	a->query = auth_authorize(session_user_id(a->session), patterns, count, awx_on_asked_again, a);
	free(patterns);
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

static void
awx_ask_rights(struct awx_state *a, const struct awx_request *r)
{
	const char **patterns = mem_alloc(sizeof(*patterns) * r->count);
	size_t count = 0;

	for (size_t i = 0; i < r->count; i++)
		if (r->groups[i].pattern != NULL)
			patterns[count++] = r->groups[i].pattern;
	a->query = auth_authorize(session_user_id(a->session), patterns, count, awx_on_authorized, a);
	free(patterns);
}

/* Answers what needs no question to the database; true when one was asked. */
static bool
awx_start(struct awx_state *a, const struct awx_request *r)
{
	if (r == NULL) {
		awx_ask_again(a);
		return true;
	}
	if (r->error != NULL) {
		awx_send_error(a, r->error);
	} else if (r->ignored) {
		return false;
	} else if (!credential_csrf_matches(session_credential(a->session), r->xrftoken)) {
		awx_send_error(a, "access denied to channel");
	} else if (r->count == 0) {
		session_set_patterns(a->session, NULL, 0);
		awx_answer(a, r, json_object());
	} else {
		awx_ask_rights(a, r);
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
}

static void
awx_message(void *state, const char *text, size_t len)
{
	awx_enqueue(awx_check(state), awx_request_parse(text, len, (size_t)conf.max_groups));
}

static void
awx_access_changed(void *state)
{
	awx_enqueue(awx_check(state), NULL);
}

/* ---- life ---- */

static void *
awx_open(struct session *session)
{
	struct awx_state *a = mem_zalloc(sizeof(*a));

	a->magic = AWX_MAGIC;
	a->session = session;
	STAILQ_INIT(&a->pending);
	a->groups = json_object();
	awx_send_json(a, json_pack("{sb sI}", "accept", 1, "user", (json_int_t)session_user_id(session)));
	return a;
}

static void
awx_close(void *state)
{
	struct awx_state *a = awx_check(state);

	if (a->query != NULL)
		pg_query_cancel(a->query);
	while (!STAILQ_EMPTY(&a->pending))
		awx_drop_first(a);
	json_decref(a->groups);
	a->magic = 0;
	free(a);
}

const struct dialect dialect_awx = {MSG_FORM_AWX, awx_open, awx_message, awx_access_changed, awx_close};
