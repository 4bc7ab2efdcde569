/*
 * Groups of a client. Invariant: while question is set one is under way, and done is its; wanted is NULL
 * when it is about the groups that there are.
 *
 * Those that are shown are in a list, in the order of their sessions' numbers; a watcher knows of those that
 * stand before its `next`. Only groups_replace() changes `current`.
 */
#include "config.h"
#include "client/groups.h"
#include "client/auth.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAGIC       0x62095e75u
#define GROUPS_SHARED      64 /* sets that may be had by more than one */
#define GROUPS_SHARED_SIZE 64 /* groups of such a one at most */

struct groups {
	unsigned magic;
	int64_t user_id;
	json_t *current; /* label to pattern */
	json_t *told;    /* what the client takes for the current ones */
	struct auth_question *question;
	const struct awx_group *wanted;
	size_t wanted_count;
	groups_done done;
	void *arg;
	uint64_t session; /* 0: not shown */
	TAILQ_ENTRY(groups) shown;
};

static TAILQ_HEAD(groups_list, groups) groups_shown = TAILQ_HEAD_INITIALIZER(groups_shown);
static TAILQ_HEAD(, groups_watcher) groups_watchers = TAILQ_HEAD_INITIALIZER(groups_watchers);

static void groups_send_again(struct groups *g);
static void groups_replace(struct groups *g, json_t *groups);
static void groups_hide(struct groups *g);

static struct groups *
groups_check(void *arg)
{
	struct groups *g = arg;

	assert(g->magic == GROUPS_MAGIC);
	return g;
}

struct groups *
groups_new(int64_t user_id)
{
	struct groups *g = mem_zalloc(sizeof(*g));

	g->magic = GROUPS_MAGIC;
	g->user_id = user_id;
	g->current = json_object();
	g->told = json_object();
	return g;
}

void
groups_free(struct groups *g)
{
	if (g->question != NULL)
		auth_question_cancel(g->question);
	groups_hide(g);
	json_decref(g->current);
	json_decref(g->told);
	g->magic = 0;
	free(g);
}

/* ---- answers ---- */

/* The patterns that were asked for and are allowed, as a set; patterns gets what is allowed of them, which
 * points into the answer. */
static json_t *
groups_read_allowed(const struct auth_answer *answer, struct topic *patterns, size_t *count)
{
	json_t *requested = json_object();

	*count = 0;
	for (size_t i = 0; i < answer->count; i++) {
		const struct auth_right *right = &answer->rights[i];

		if (!topic_parse(
			(struct slice){right->allowed, strlen(right->allowed)}, true, &patterns[*count])) {
			log_warning("query", "%s returned a pattern that is none; it is left out",
			    conf.authorize_function);
			continue;
		}
		++*count;
		json_object_set_new_nocheck(requested, right->requested, json_true());
	}
	return requested;
}

static json_t *
groups_wanted_of(const struct groups *g, json_t *allowed)
{
	json_t *groups = json_object();

	for (size_t i = 0; i < g->wanted_count; i++) {
		const struct awx_group *w = &g->wanted[i];

		if (w->pattern != NULL && json_object_get(allowed, w->pattern) != NULL)
			json_object_set_new_nocheck(groups, w->label, json_string_nocheck(w->pattern));
	}
	return groups;
}

static json_t *
groups_current_of(const struct groups *g, json_t *allowed)
{
	json_t *groups = json_object(), *pattern;
	const char *label;

	json_object_foreach (g->current, label, pattern)
		if (json_object_get(allowed, json_string_value(pattern)) != NULL)
			json_object_set_nocheck(groups, label, pattern);
	return groups;
}

static void
groups_take(struct groups *g, const struct auth_answer *answer)
{
	struct topic *patterns = mem_alloc(sizeof(*patterns) * answer->count);
	size_t count;
	json_t *allowed = groups_read_allowed(answer, patterns, &count);
	json_t *groups = g->wanted != NULL ? groups_wanted_of(g, allowed) : groups_current_of(g, allowed);

	json_decref(allowed);
	groups_replace(g, groups);
	g->done(g->arg, GROUPS_KNOWN, patterns, count);
	free(patterns);
}

char *
groups_too_many(void)
{
	return mem_printf(
	    "too many patterns: this user's grants leave more than %zu of these groups; ask for "
	    "fewer groups",
	    auth_rights_max());
}

/* Of wanted ones the former groups stay; of those that are there it is not known which of them are allowed. */
static void
groups_refuse(struct groups *g, enum groups_outcome outcome)
{
	if (g->wanted == NULL)
		groups_clear(g);
	g->done(g->arg, outcome, NULL, 0);
}

static void
groups_on_answer(void *arg, const struct auth_answer *answer)
{
	struct groups *g = groups_check(arg);

	g->question = NULL;
	if (answer->too_many) {
		groups_refuse(g, GROUPS_TOO_MANY);
		return;
	}
	if (answer->status == PG_QUERY_OK) {
		groups_take(g, answer);
		return;
	}
	auth_report_failure(
	    g->wanted != NULL ? "what a client may see" : "what a client may still see", answer->error);
	if (g->wanted == NULL && answer->status == PG_QUERY_LOST)
		groups_send_again(g);
	else
		groups_refuse(g, g->wanted != NULL ? GROUPS_UNKNOWN : GROUPS_KNOWN);
}

/* ---- questions ---- */

static void
groups_send(struct groups *g, const char *const *patterns, size_t count)
{
	assert(g->question == NULL);
	g->question = auth_authorize(g->user_id, patterns, count, groups_on_answer, g);
}

void
groups_ask(struct groups *g, const struct awx_group *wanted, size_t wanted_count, groups_done done, void *arg)
{
	const char **patterns = mem_alloc(sizeof(*patterns) * wanted_count);
	size_t count = 0;

	for (size_t i = 0; i < wanted_count; i++)
		if (wanted[i].pattern != NULL)
			patterns[count++] = wanted[i].pattern;
	g->wanted = wanted;
	g->wanted_count = wanted_count;
	g->done = done;
	g->arg = arg;
	groups_send(g, patterns, count);
	free(patterns);
}

static void
groups_send_again(struct groups *g)
{
	const char **patterns = mem_alloc(sizeof(*patterns) * json_object_size(g->current));
	const char *label;
	json_t *pattern;
	size_t count = 0;

	json_object_foreach (g->current, label, pattern)
		patterns[count++] = json_string_value(pattern);
	groups_send(g, patterns, count);
	free(patterns);
}

void
groups_ask_again(struct groups *g, groups_done done, void *arg)
{
	g->wanted = NULL;
	g->wanted_count = 0;
	g->done = done;
	g->arg = arg;
	groups_send_again(g);
}

void
groups_clear(struct groups *g)
{
	assert(g->question == NULL);
	groups_replace(g, json_object());
}

/* ---- the set ---- */

bool
groups_has(const struct groups *g, const char *label)
{
	return json_object_get(g->current, label) != NULL;
}

size_t
groups_count(const struct groups *g)
{
	return json_object_size(g->current);
}

char *
groups_labels(const struct groups *g, groups_concern concerns, const void *arg)
{
	json_t *list = json_array(), *pattern;
	const char *label;
	char *text = NULL;

	json_object_foreach (g->current, label, pattern) {
		struct slice written = {json_string_value(pattern), json_string_length(pattern)};
		struct topic parts;

		if (concerns == NULL || (topic_parse(written, true, &parts) && concerns(arg, &parts)))
			json_array_append_new(list, json_string_nocheck(label));
	}
	if (json_array_size(list) > 0) {
		text = json_dumps(list, 0);
		if (text == NULL)
			log_fatal("out of memory");
	}
	json_decref(list);
	return text;
}

bool
groups_have_shrunk(const struct groups *g)
{
	return json_object_size(g->current) < json_object_size(g->told);
}

/* Text that grows. */
struct groups_text {
	char *octets;
	size_t len, size;
};

static void
groups_text_add(struct groups_text *t, const char *octets, size_t len)
{
	if (t->len + len >= t->size) {
		t->size = 2 * (t->len + len) + 256;
		t->octets = mem_resize(t->octets, t->size);
	}
	memcpy(t->octets + t->len, octets, len);
	t->len += len;
	t->octets[t->len] = '\0';
}

/* Most labels need no escapes. */
static bool
groups_label_is_plain(const char *label)
{
	for (const char *p = label; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == '"' || *p == '\\')
			return false;
	return true;
}

static void
groups_text_add_label(struct groups_text *t, const char *label)
{
	json_t *string;
	char *escaped;

	if (groups_label_is_plain(label)) {
		groups_text_add(t, "\"", 1);
		groups_text_add(t, label, strlen(label));
		groups_text_add(t, "\"", 1);
		return;
	}
	string = json_string_nocheck(label);
	escaped = json_dumps(string, JSON_ENCODE_ANY);
	if (escaped == NULL)
		log_fatal("out of memory");
	groups_text_add(t, escaped, strlen(escaped));
	free(escaped);
	json_decref(string);
}

/* "name": [the labels of set that are not in other] */
static void
groups_text_add_difference(struct groups_text *t, const char *name, json_t *set, json_t *other)
{
	const char *label;
	json_t *value;
	bool first = true;

	groups_text_add_label(t, name);
	groups_text_add(t, ": [", 3);
	json_object_foreach (set, label, value) {
		if (json_object_get(other, label) != NULL)
			continue;
		if (!first)
			groups_text_add(t, ", ", 2);
		groups_text_add_label(t, label);
		first = false;
	}
	groups_text_add(t, "]", 1);
}

/* By hand: thousands of sessions may be told at once. */
char *
groups_tell(struct groups *g)
{
	struct groups_text text = {NULL, 0, 0};

	groups_text_add(&text, "{", 1);
	groups_text_add_difference(&text, "groups_current", g->current, NULL);
	groups_text_add(&text, ", ", 2);
	groups_text_add_difference(&text, "groups_left", g->told, g->current);
	groups_text_add(&text, ", ", 2);
	groups_text_add_difference(&text, "groups_joined", g->current, g->told);
	groups_text_add(&text, "}", 1);
	json_decref(g->told);
	g->told = json_incref(g->current);
	return text.octets;
}

/* ---- watchers ---- */

static bool
groups_watcher_knows(const struct groups_watcher *w, const struct groups *g)
{
	return w->next == NULL || g->session < w->next->session;
}

/* This watcher, or all who know of g. */
static void
groups_tell_labels(const struct groups *g, struct groups_watcher *one, bool joined, json_t *labels)
{
	char *text = json_dumps(labels, 0);
	struct groups_watcher *w;

	if (text == NULL)
		log_fatal("out of memory");
	if (one != NULL) {
		one->told(one, g->session, joined, text);
	} else {
		TAILQ_FOREACH (w, &groups_watchers, entry)
			if (groups_watcher_knows(w, g))
				w->told(w, g->session, joined, text);
	}
	free(text);
}

/* Tells the labels of set that are not in other, in portions. */
static void
groups_tell_difference(
    const struct groups *g, struct groups_watcher *one, bool joined, json_t *set, json_t *other)
{
	json_t *portion = json_array(), *value;
	size_t left = json_object_size(set);
	const char *label;

	json_object_foreach (set, label, value) {
		left--;
		if (json_object_get(other, label) == NULL)
			json_array_append_new(portion, json_string_nocheck(label));
		if (json_array_size(portion) == 0 || (json_array_size(portion) < GROUPS_TOLD_MAX && left > 0))
			continue;
		groups_tell_labels(g, one, joined, portion);
		json_array_clear(portion);
	}
	json_decref(portion);
}

/* Many sessions are in the same groups: they share a set, which nobody changes. Returns what to have instead of
 * this one. */
static json_t *
groups_share(json_t *set)
{
	static json_t *shared[GROUPS_SHARED];
	const char *label = json_object_iter_key(json_object_iter(set));
	unsigned hash = (unsigned)json_object_size(set);
	json_t **slot;

	if (label == NULL || json_object_size(set) > GROUPS_SHARED_SIZE)
		return set;
	for (const char *p = label; *p != '\0'; p++)
		hash = 31 * hash + (unsigned char)*p;
	slot = &shared[hash % GROUPS_SHARED];
	if (*slot != NULL && json_equal(*slot, set)) {
		json_decref(set);
		return json_incref(*slot);
	}
	json_decref(*slot);
	*slot = json_incref(set);
	return set;
}

/* The one place that changes the set. */
static void
groups_replace(struct groups *g, json_t *groups)
{
	json_t *old = g->current;

	g->current = groups_share(groups);
	groups = g->current;
	if (g->session != 0 && !TAILQ_EMPTY(&groups_watchers)) {
		groups_tell_difference(g, NULL, true, groups, old);
		groups_tell_difference(g, NULL, false, old, groups);
	}
	json_decref(old);
}

void
groups_show(struct groups *g, uint64_t session)
{
	assert(g->session == 0 && session > 0);
	g->session = session;
	TAILQ_INSERT_TAIL(&groups_shown, g, shown);
	if (!TAILQ_EMPTY(&groups_watchers))
		groups_tell_difference(g, NULL, true, g->current, NULL);
}

static void
groups_hide(struct groups *g)
{
	struct groups_watcher *w;

	if (g->session == 0)
		return;
	groups_replace(g, json_object());
	TAILQ_FOREACH (w, &groups_watchers, entry)
		if (w->next == g)
			w->next = TAILQ_NEXT(g, shown);
	TAILQ_REMOVE(&groups_shown, g, shown);
}

void
groups_watch(struct groups_watcher *w)
{
	w->next = TAILQ_FIRST(&groups_shown);
	TAILQ_INSERT_TAIL(&groups_watchers, w, entry);
}

void
groups_unwatch(struct groups_watcher *w)
{
	TAILQ_REMOVE(&groups_watchers, w, entry);
}

bool
groups_watch_next(struct groups_watcher *w)
{
	struct groups *g = w->next;

	if (g == NULL)
		return false;
	w->next = TAILQ_NEXT(g, shown);
	groups_tell_difference(g, w, true, g->current, NULL);
	return true;
}
