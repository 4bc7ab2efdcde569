/*
 * The Digital Rebar dialect.
 *
 * Commands are done one after the other. Those to register need a question to the database (what may this
 * user see of the patterns?), one for as many as have come in a row; while it is under way further ones wait,
 * and when these are many the session reads nothing more. When rights have changed, all registrations are
 * asked about again, behind the question under way, whose answer may be older. The patterns are in force
 * before the acknowledgement is queued.
 *
 * What a session may see of all that it has registered is at most auth_rights_max() patterns. An answer that
 * is too long does not tell which of several commands is to blame: then each is asked about by itself.
 */
#include "config.h"
#include "client/dialect_drp.h"
#include "client/auth.h"
#include "client/drp_command.h"
#include "client/drp_event.h"
#include "client/drp_registrations.h"
#include "client/drp_rights.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define DRP_MAGIC        0xd4bd4b00u
#define DRP_OWN_TYPE     "pgrelay"
#define DRP_PING_MOST_MS 54000
#define DRP_WAITING_MAX  65536 /* octets of commands that wait while the session still reads: pings, a close */
#define DRP_READ_MOST    (256 * 1024) /* what one read may add to these, beside one message that is large */

struct drp_pending {
	STAILQ_ENTRY(drp_pending) entry;
	struct drp_command command; /* its pattern is in text */
	size_t len;
	char text[];
};

struct drp_state {
	unsigned magic;
	struct session *session;
	STAILQ_HEAD(, drp_pending) pending;
	size_t waiting;                 /* octets of these */
	struct auth_question *question; /* about the first `asked` of them; 0: about what is registered */
	size_t asked;
	size_t one_by_one; /* the first so many of them are asked about one at a time */
	struct drp_registrations registrations;
	bool ask_again; /* rights have changed */
	bool blind;     /* they leave so much of what is registered that nothing is seen */
};

static void drp_pump(struct drp_state *d);

static struct drp_state *
drp_check(void *state)
{
	struct drp_state *d = state;

	assert(d->magic == DRP_MAGIC);
	return d;
}

static void
drp_drop_first(struct drp_state *d)
{
	struct drp_pending *p = STAILQ_FIRST(&d->pending);

	STAILQ_REMOVE_HEAD(&d->pending, entry);
	d->waiting -= sizeof(*p) + p->len;
	free(p);
}

/* ---- telling ---- */

static void
drp_send(struct drp_state *d, const char *type, const char *action, struct slice key, const char *object)
{
	char *text = drp_event_own(type, action, key, object);

	session_send_text(d->session, text, strlen(text));
	free(text);
}

static void
drp_acknowledge(struct drp_state *d, const struct drp_command *command)
{
	drp_send(d, "websocket", command->kind == DRP_REGISTER ? "register" : "deregister", command->pattern,
	    "null");
}

static void
drp_send_object(struct drp_state *d, const char *action, struct slice key, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);

	if (text == NULL)
		log_fatal("out of memory");
	drp_send(d, DRP_OWN_TYPE, action, key, text);
	free(text);
	json_decref(object);
}

static void
drp_send_error(struct drp_state *d, struct slice key, const char *error)
{
	metrics[METRIC_MESSAGES_INVALID_TOTAL]++;
	drp_send_object(d, "error", key, json_pack("{ss}", "Message", error));
}

/* ---- registering ---- */

static const char drp_refused[] =
    "the database has refused to tell what this user may see; nothing is registered";
static const char drp_too_many[] =
    "too many patterns: of what a session registers a user's grants may leave 10000, or ten times the node's "
    "setting max_groups; deregister some, or register narrower ones";

/* NULL, or why it cannot be registered. */
static const char *
drp_register_new(struct drp_state *d, struct slice text, const struct drp_patterns *patterns,
    const struct drp_rights *rights)
{
	struct drp_seen seen = {0};
	struct drp_registration one = {
	    text, (uint16_t)patterns->count, 0, (uint32_t)drp_rights_count(rights, patterns)};

	if (d->registrations.allowed + one.allowed > auth_rights_max())
		return drp_too_many;
	one.seen = drp_rights_find(rights, patterns, &seen);
	session_add_patterns(d->session, seen.topics, seen.count);
	drp_registrations_add(&d->registrations, &one);
	if (seen.count == 0)
		drp_send(d, DRP_OWN_TYPE, "denied", text, "null");
	drp_seen_clear(&seen);
	return NULL;
}

/* rights NULL: there is no answer, for this reason. */
static const char *
drp_try_to_register(
    struct drp_state *d, struct slice text, const struct drp_rights *rights, const char *refusal)
{
	struct drp_patterns patterns;
	const char *error;

	if (text.len > DRP_REGISTRATION_MAX || d->registrations.used + text.len > DRP_REGISTRATIONS_MAX)
		return "too long: a pattern has at most 65,535 octets, all of a session together 256 kB";
	if (!drp_patterns_expand(text, &patterns, &error))
		return error;
	if (d->registrations.patterns + patterns.count > (size_t)conf.max_groups)
		error = "too many patterns: the node's setting max_groups says how many a session may have";
	else if (rights == NULL)
		error = refusal;
	else
		error = drp_register_new(d, text, &patterns, rights);
	drp_patterns_clear(&patterns);
	return error;
}

static void
drp_register(struct drp_state *d, const struct drp_command *command, const struct drp_rights *rights,
    const char *refusal)
{
	const char *error = NULL;

	if (!drp_registrations_has(&d->registrations, command->pattern))
		error = drp_try_to_register(d, command->pattern, rights, refusal);
	if (error != NULL)
		drp_send_error(d, command->pattern, error);
	drp_acknowledge(d, command);
}

/* ---- deregistering ---- */

/* Those that other registrations stand for stay. */
static bool
drp_is_covered(void *arg, const struct topic *pattern)
{
	return drp_seen_covers(arg, pattern);
}

static void
drp_retain(struct drp_state *d)
{
	struct drp_registration one;
	struct drp_seen left = {0};
	size_t at = 0;

	while (drp_registrations_next(&d->registrations, &at, &one))
		drp_seen_add_text(&left, one.text);
	drp_seen_sort(&left);
	session_retain_patterns(d->session, drp_is_covered, &left);
	drp_seen_clear(&left);
}

/* As many commands to deregister as stand in a row. */
static void
drp_deregister(struct drp_state *d)
{
	bool removed = false;
	struct drp_pending *p;
	size_t count = 0;

	STAILQ_FOREACH (p, &d->pending, entry) {
		if (p->command.kind != DRP_DEREGISTER)
			break;
		if (drp_registrations_remove(&d->registrations, p->command.pattern))
			removed = true;
		count++;
	}
	if (removed)
		drp_retain(d);
	d->ask_again |= removed && d->blind;
	for (; count > 0; count--) {
		drp_acknowledge(d, &STAILQ_FIRST(&d->pending)->command);
		drp_drop_first(d);
	}
}

/* ---- changed rights ---- */

static void
drp_note_change(json_t *changes, const struct drp_registration *one, uint32_t seen)
{
	if (seen != one->seen)
		json_array_append_new(json_object_get(changes, seen == 0 ? "Denied" : "Changed"),
		    json_stringn_nocheck(one->text.ptr, one->text.len));
}

static void
drp_tell_changes(struct drp_state *d, json_t *changes)
{
	if (json_array_size(json_object_get(changes, "Denied")) > 0 ||
	    json_array_size(json_object_get(changes, "Changed")) > 0)
		drp_send_object(d, "rights", (struct slice){"", 0}, json_incref(changes));
	json_decref(changes);
}

/* What the rights leave of one registration; seen gets it, unless it is NULL. */
static struct drp_registration
drp_look_at(const struct drp_registration *one, const struct drp_rights *rights, struct drp_seen *seen)
{
	struct drp_registration now = {one->text, one->patterns, 0, 0};
	struct drp_patterns patterns;
	const char *error;

	if (rights == NULL || !drp_patterns_expand(one->text, &patterns, &error))
		return now;
	now.allowed = (uint32_t)drp_rights_count(rights, &patterns);
	if (seen != NULL)
		now.seen = drp_rights_find(rights, &patterns, seen);
	drp_patterns_clear(&patterns);
	return now;
}

/* Is it no more than a session may have? */
static bool
drp_rights_fit(const struct drp_state *d, const struct drp_rights *rights)
{
	size_t at = 0, allowed = 0;
	struct drp_registration one;

	if (rights->count * d->registrations.patterns <= auth_rights_max())
		return true; /* a pattern has all of them at the most */
	while (drp_registrations_next(&d->registrations, &at, &one))
		allowed += drp_look_at(&one, rights, NULL).allowed;
	return allowed <= auth_rights_max();
}

/* rights NULL: nothing is seen any more. */
static void
drp_review(struct drp_state *d, const struct drp_rights *rights)
{
	json_t *changes = json_pack("{s[]s[]}", "Denied", "Changed");
	struct drp_registration one, now;
	struct drp_seen seen = {0};
	size_t at = 0;

	while (drp_registrations_next(&d->registrations, &at, &one)) {
		now = drp_look_at(&one, rights, &seen);
		drp_note_change(changes, &one, now.seen);
		drp_registrations_see(&d->registrations, &one, now.seen, now.allowed);
	}
	session_set_patterns(d->session, seen.topics, seen.count);
	drp_seen_clear(&seen);
	drp_tell_changes(d, changes);
}

static void
drp_take_review(struct drp_state *d, const struct drp_rights *rights, bool too_many)
{
	d->blind = too_many || (rights != NULL && !drp_rights_fit(d, rights));
	if (d->blind)
		drp_send_error(d, (struct slice){"", 0}, drp_too_many);
	drp_review(d, d->blind ? NULL : rights);
}

/* ---- questions ---- */

/* rights NULL: there are none, for this reason. */
static void
drp_take_answer(struct drp_state *d, const struct drp_rights *rights, const char *refusal)
{
	if (d->asked == 0)
		drp_take_review(d, rights, refusal == drp_too_many);
	for (; d->asked > 0; d->asked--) {
		drp_register(d, &STAILQ_FIRST(&d->pending)->command, rights, refusal);
		drp_drop_first(d);
		d->one_by_one -= d->one_by_one > 0;
	}
}

static void
drp_on_answer(void *arg, const struct auth_answer *answer)
{
	struct drp_state *d = drp_check(arg);
	struct drp_rights rights;

	d->question = NULL;
	if (answer->too_many && d->asked > 1) {
		d->one_by_one = d->asked;
	} else if (answer->too_many) {
		drp_take_answer(d, NULL, drp_too_many);
	} else if (answer->status == PG_QUERY_OK) {
		drp_rights_init(&rights, answer);
		drp_take_answer(d, &rights, NULL);
		drp_rights_clear(&rights);
	} else {
		auth_report_failure("what a client may see", answer->error);
		if (answer->status == PG_QUERY_ERROR)
			drp_take_answer(d, NULL, drp_refused);
		else if (d->asked == 0)
			d->ask_again = true;
	}
	drp_pump(d);
}

static void
drp_ask(struct drp_state *d, const struct drp_patterns *patterns)
{
	d->question = auth_authorize(session_user_id(d->session), (const char *const *)patterns->list,
	    patterns->count, drp_on_answer, d);
}

/* Appends what a pattern stands for. */
static void
drp_gather(struct drp_patterns *all, struct slice text)
{
	struct drp_patterns some;
	const char *error;

	if (text.len > DRP_REGISTRATION_MAX || !drp_patterns_expand(text, &some, &error))
		return;
	all->list = mem_resize(all->list, (all->count + some.count) * sizeof(*all->list));
	memcpy(all->list + all->count, some.list, some.count * sizeof(*all->list));
	all->count += some.count;
	free(some.list);
}

static void
drp_ask_again(struct drp_state *d)
{
	struct drp_patterns all = {NULL, 0};
	struct drp_registration one;
	size_t at = 0;

	d->ask_again = false;
	while (drp_registrations_next(&d->registrations, &at, &one))
		drp_gather(&all, one.text);
	if (all.count > 0)
		drp_ask(d, &all);
	drp_patterns_clear(&all);
}

/* About as many commands to register as stand in a row; what needs no question has its answer at once. */
static void
drp_ask_to_register(struct drp_state *d)
{
	struct drp_patterns all = {NULL, 0};
	struct drp_rights none = {0};
	struct drp_pending *p;

	STAILQ_FOREACH (p, &d->pending, entry) {
		if (p->command.kind != DRP_REGISTER || all.count >= DRP_COMMAND_PATTERNS ||
		    (d->one_by_one > 0 && d->asked > 0))
			break;
		if (!drp_registrations_has(&d->registrations, p->command.pattern))
			drp_gather(&all, p->command.pattern);
		d->asked++;
	}
	if (all.count > 0)
		drp_ask(d, &all);
	else
		drp_take_answer(d, &none, NULL);
	drp_patterns_clear(&all);
}

static void
drp_do_first(struct drp_state *d)
{
	const struct drp_command *command = &STAILQ_FIRST(&d->pending)->command;

	switch (command->kind) {
	case DRP_REGISTER:
		drp_ask_to_register(d);
		return;
	case DRP_DEREGISTER:
		drp_deregister(d);
		return;
	case DRP_NO_COMMAND:
		drp_send_error(d, (struct slice){"", 0},
		    "this is no command; register TYPE.ACTION.KEY and deregister TYPE.ACTION.KEY are");
		drp_drop_first(d);
		return;
	}
}

/* A client whose question takes long, for the database is away, say, must have its pings answered meanwhile. */
static void
drp_pace(struct drp_state *d)
{
	session_pause(d->session, d->question != NULL && d->waiting > DRP_WAITING_MAX);
}

static void
drp_pump(struct drp_state *d)
{
	d->asked = 0;
	while (d->question == NULL && (d->ask_again || !STAILQ_EMPTY(&d->pending))) {
		if (d->ask_again)
			drp_ask_again(d);
		else
			drp_do_first(d);
	}
	drp_pace(d);
}

/* ---- the session's calls ---- */

/* No more than this is there when the session reads no further, unless it was compressed: then one read
 * brings a thousand times as much. */
static bool
drp_is_crowded(const struct drp_state *d)
{
	return d->question != NULL &&
	       d->waiting > DRP_WAITING_MAX + DRP_READ_MOST + (size_t)conf.max_message_bytes;
}

static void
drp_message(void *state, const char *text, size_t len)
{
	struct drp_state *d = drp_check(state);
	struct drp_pending *p;

	if (drp_is_crowded(d)) {
		session_close(
		    d->session, WS_CLOSE_TOO_BIG, "too much that was compressed waits for the database");
		return; /* d is gone */
	}
	p = mem_alloc(sizeof(*p) + len);
	if (len > 0)
		memcpy(p->text, text, len);
	p->len = len;
	p->command = drp_command_parse((struct slice){p->text, len});
	STAILQ_INSERT_TAIL(&d->pending, p, entry);
	d->waiting += sizeof(*p) + len;
	if (d->question == NULL)
		drp_pump(d);
	else
		drp_pace(d);
}

static void
drp_access_changed(void *state)
{
	struct drp_state *d = drp_check(state);

	d->ask_again = true;
	if (d->question == NULL)
		drp_pump(d);
}

/* The registrations that stand for a pattern that is concerned. */
static char *
drp_labels(void *state, groups_concern concerns, const void *arg)
{
	struct drp_state *d = drp_check(state);
	struct drp_registration one;
	json_t *list = json_array();
	char *text = NULL;
	size_t at = 0;

	while (drp_registrations_next(&d->registrations, &at, &one))
		if (one.seen != 0 && drp_text_concerns(one.text, concerns, arg))
			json_array_append_new(list, json_stringn_nocheck(one.text.ptr, one.text.len));
	if (json_array_size(list) > 0)
		text = json_dumps(list, JSON_COMPACT);
	json_decref(list);
	return text;
}

static char *
drp_gap(const char *labels, const char *reason)
{
	char *object = mem_printf("{\"Patterns\":%s}", labels);
	char *text = drp_event_own(DRP_OWN_TYPE, "gap", (struct slice){reason, strlen(reason)}, object);

	free(object);
	return text;
}

static void *
drp_open(struct session *session, void *request)
{
	struct drp_state *d = mem_zalloc(sizeof(*d));

	d->magic = DRP_MAGIC;
	d->session = session;
	STAILQ_INIT(&d->pending);
	return d;
}

static void
drp_close(void *state)
{
	struct drp_state *d = drp_check(state);

	if (d->question != NULL)
		auth_question_cancel(d->question);
	while (!STAILQ_EMPTY(&d->pending))
		drp_drop_first(d);
	drp_registrations_clear(&d->registrations);
	d->magic = 0;
	free(d);
}

const struct dialect dialect_drp = {
    .form = MSG_FORM_DRP,
    .deflated_form = MSG_FORM_DRP_DEFLATED,
    .open = drp_open,
    .message = drp_message,
    .access_changed = drp_access_changed,
    .labels = drp_labels,
    .gap = drp_gap,
    .close = drp_close,
    .transport = SESSION_WEBSOCKET,
    .drp = true,
    .binary = SESSION_BINARY_IGNORED,
    .ping_interval_most_ms = DRP_PING_MOST_MS,
};
