/* Patterns that were asked for, and those that are allowed. */
#include "config.h"
#include "client/drp_rights.h"
#include "client/drp_event.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

/* ---- the answer ---- */

static int
drp_rights_compare(const void *a, const void *b)
{
	const struct auth_right *x = a, *y = b;

	return strcmp(x->requested, y->requested);
}

void
drp_rights_init(struct drp_rights *rights, const struct auth_answer *answer)
{
	rights->count = answer->count;
	rights->sorted = mem_alloc((answer->count + 1) * sizeof(*rights->sorted));
	if (answer->count > 0)
		memcpy(rights->sorted, answer->rights, answer->count * sizeof(*rights->sorted));
	qsort(rights->sorted, rights->count, sizeof(*rights->sorted), drp_rights_compare);
}

void
drp_rights_clear(struct drp_rights *rights)
{
	free(rights->sorted);
	*rights = (struct drp_rights){NULL, 0};
}

/* The first one of this pattern; rights->count when there is none. */
static size_t
drp_rights_first(const struct drp_rights *rights, const char *requested)
{
	size_t low = 0, high = rights->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(rights->sorted[middle].requested, requested) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- patterns ---- */

static bool
drp_seen_add(struct drp_seen *seen, const char *text)
{
	char *copy = mem_strdup(text);
	struct topic topic;

	if (!topic_parse((struct slice){copy, strlen(copy)}, true, &topic)) {
		free(copy);
		return false;
	}
	seen->topics = mem_resize(seen->topics, (seen->count + 1) * sizeof(*seen->topics));
	seen->topics[seen->count++] = topic; /* its type is where the copy begins */
	return true;
}

void
drp_seen_clear(struct drp_seen *seen)
{
	for (size_t i = 0; i < seen->count; i++)
		free((char *)(uintptr_t)seen->topics[i].type.ptr);
	free(seen->topics);
	*seen = (struct drp_seen){NULL, 0};
}

/* FNV-1a, 32 bits. */
static uint32_t
drp_digest(const char *text)
{
	uint32_t h = UINT32_C(2166136261);

	for (; *text != '\0'; text++)
		h = (h ^ (unsigned char)*text) * UINT32_C(16777619);
	return h;
}

static int
drp_slice_compare(struct slice a, struct slice b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int
drp_topic_compare(const void *a, const void *b)
{
	const struct topic *x = a, *y = b;
	int order = drp_slice_compare(x->key, y->key);

	if (order == 0)
		order = drp_slice_compare(x->action, y->action);
	return order != 0 ? order : drp_slice_compare(x->type, y->type);
}

void
drp_seen_sort(struct drp_seen *seen)
{
	if (seen->count > 0)
		qsort(seen->topics, seen->count, sizeof(*seen->topics), drp_topic_compare);
}

/* Is the pattern one of them, with those of its parts made wildcards that the bits of wild say? */
static bool
drp_seen_has(const struct drp_seen *sorted, const struct topic *pattern, int wild)
{
	static const struct slice any = {"*", 1};
	struct topic topic = {
	    wild & 1 ? any : pattern->type, wild & 2 ? any : pattern->action, wild & 4 ? any : pattern->key};

	return sorted->count > 0 &&
	       bsearch(&topic, sorted->topics, sorted->count, sizeof(topic), drp_topic_compare) != NULL;
}

bool
drp_seen_covers(const struct drp_seen *sorted, const struct topic *pattern)
{
	for (int wild = 0; wild < 8; wild++)
		if (drp_seen_has(sorted, pattern, wild))
			return true;
	return false;
}

/* Is it there once more, or is there one that matches all that it does, and more? */
static bool
drp_seen_is_spare(const struct drp_seen *sorted, size_t i)
{
	const struct topic *t = &sorted->topics[i];
	int is_wild = (topic_is_wildcard(t->type) ? 1 : 0) | (topic_is_wildcard(t->action) ? 2 : 0) |
		      (topic_is_wildcard(t->key) ? 4 : 0);

	if (i > 0 && drp_topic_compare(t, t - 1) == 0)
		return true;
	for (int wild = 1; wild < 8; wild++)
		if ((wild & is_wild) == 0 && drp_seen_has(sorted, t, wild))
			return true;
	return false;
}

/* What is allowed of one pattern. */
static void
drp_rights_gather(const struct drp_rights *rights, const char *requested, struct drp_seen *allowed)
{
	size_t at = drp_rights_first(rights, requested);

	for (; at < rights->count && strcmp(rights->sorted[at].requested, requested) == 0; at++)
		if (!drp_seen_add(allowed, rights->sorted[at].allowed))
			log_warning("query", "%s returned a pattern that is none; it is left out",
			    conf.authorize_function);
}

size_t
drp_rights_count(const struct drp_rights *rights, const struct drp_patterns *patterns)
{
	size_t count = 0;

	for (size_t i = 0; i < patterns->count; i++) {
		size_t at = drp_rights_first(rights, patterns->list[i]);

		for (; at < rights->count && strcmp(rights->sorted[at].requested, patterns->list[i]) == 0;
		     at++)
			count++;
	}
	return count;
}

/* The sum of the digests: in whatever order the patterns come it is the same. What a wider one covers does not
 * count, for it shows nothing more. */
static uint32_t
drp_seen_move(struct drp_seen *seen, struct drp_seen *allowed)
{
	uint32_t sum = 0;

	drp_seen_sort(allowed);
	for (size_t i = 0; i < allowed->count; i++) {
		const char *text = allowed->topics[i].type.ptr;

		if (!drp_seen_is_spare(allowed, i) && drp_seen_add(seen, text))
			sum += drp_digest(text);
	}
	drp_seen_clear(allowed);
	return sum;
}

uint32_t
drp_rights_find(const struct drp_rights *rights, const struct drp_patterns *patterns, struct drp_seen *seen)
{
	struct drp_seen allowed = {0};
	size_t before = seen->count;
	uint32_t sum = 0;

	for (size_t i = 0; i < patterns->count; i++) {
		drp_rights_gather(rights, patterns->list[i], &allowed);
		sum += drp_seen_move(seen, &allowed);
	}
	return seen->count == before ? 0 : sum != 0 ? sum : 1;
}

void
drp_seen_add_text(struct drp_seen *seen, struct slice text)
{
	struct drp_patterns patterns;
	const char *error;

	if (!drp_patterns_expand(text, &patterns, &error))
		return;
	for (size_t i = 0; i < patterns.count; i++)
		(void)drp_seen_add(seen, patterns.list[i]);
	drp_patterns_clear(&patterns);
}

/* What finds jobs by their machine is concerned by any job. */
bool
drp_text_concerns(struct slice text, groups_concern concerns, const void *arg)
{
	static const struct slice jobs = {"jobs", 4}, any = {"*", 1};
	struct drp_seen seen = {0};
	bool found = false;

	drp_seen_add_text(&seen, text);
	for (size_t i = 0; i < seen.count && !found; i++) {
		struct topic topic = seen.topics[i];

		if (drp_event_is_alias(topic.type))
			topic = (struct topic){jobs, topic.action, any};
		found = concerns == NULL || concerns(arg, &topic);
	}
	drp_seen_clear(&seen);
	return found;
}
