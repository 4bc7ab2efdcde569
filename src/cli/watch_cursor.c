/*
 * Two lists: what has come behind the last cursor on this connection (since), and what had come behind it
 * before the connection was lost (again). A message of the second that comes again moves to the first.
 *
 * Messages come again in the order of the first time, up to transactions that overlapped. So when between two
 * cursors there were new messages and none of the second list, the rest of it does not come any more: there
 * was a gap. It is forgotten, lest a later message of the same text be taken for one of them.
 */
#include "config.h"
#include "cli/watch_cursor.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct watch_known {
	TAILQ_ENTRY(watch_known) entry;
	size_t len;
	char text[];
};
TAILQ_HEAD(watch_known_list, watch_known);

struct watch_cursor {
	char *text;
	size_t bytes, limit_bytes; /* of both lists */
	struct watch_known_list since, again;
	bool had_new, had_known; /* since the last cursor */
};

static size_t
watch_known_bytes(const struct watch_known *k)
{
	return sizeof(*k) + k->len;
}

static void
watch_known_drop(struct watch_cursor *c, struct watch_known_list *list, struct watch_known *k)
{
	TAILQ_REMOVE(list, k, entry);
	c->bytes -= watch_known_bytes(k);
	free(k);
}

static void
watch_known_clear(struct watch_cursor *c, struct watch_known_list *list)
{
	struct watch_known *k;

	while ((k = TAILQ_FIRST(list)) != NULL)
		watch_known_drop(c, list, k);
}

static void
watch_known_add(struct watch_cursor *c, const char *text, size_t len)
{
	struct watch_known *k = mem_alloc(sizeof(*k) + len);

	k->len = len;
	memcpy(k->text, text, len);
	TAILQ_INSERT_TAIL(&c->since, k, entry);
	c->bytes += watch_known_bytes(k);
	while (c->bytes > c->limit_bytes) /* what is yet to come again is kept */
		watch_known_drop(c, &c->since, TAILQ_FIRST(&c->since));
}

static struct watch_known *
watch_known_find(const struct watch_known_list *list, const char *text, size_t len)
{
	struct watch_known *k;

	TAILQ_FOREACH (k, list, entry)
		if (k->len == len && memcmp(k->text, text, len) == 0)
			break;
	return k;
}

/* ---- public ---- */

struct watch_cursor *
watch_cursor_new(size_t limit_bytes)
{
	struct watch_cursor *c = mem_zalloc(sizeof(*c));

	c->limit_bytes = limit_bytes;
	TAILQ_INIT(&c->since);
	TAILQ_INIT(&c->again);
	return c;
}

void
watch_cursor_free(struct watch_cursor *c)
{
	if (c == NULL)
		return;
	watch_cursor_forget(c);
	free(c);
}

const char *
watch_cursor_text(const struct watch_cursor *c)
{
	return c->text;
}

void
watch_cursor_move(struct watch_cursor *c, const char *text)
{
	free(c->text);
	c->text = mem_strdup(text);
	watch_known_clear(c, &c->since);
	if (c->had_new && !c->had_known)
		watch_known_clear(c, &c->again);
	c->had_new = c->had_known = false;
}

bool
watch_cursor_take(struct watch_cursor *c, const char *text, size_t len)
{
	struct watch_known *k;

	if (c->text == NULL)
		return true;
	k = watch_known_find(&c->again, text, len);
	if (k == NULL) {
		c->had_new = true;
		watch_known_add(c, text, len);
		return true;
	}
	c->had_known = true;
	TAILQ_REMOVE(&c->again, k, entry);
	TAILQ_INSERT_TAIL(&c->since, k, entry);
	return false;
}

void
watch_cursor_rewind(struct watch_cursor *c)
{
	TAILQ_CONCAT(&c->since, &c->again, entry);
	TAILQ_CONCAT(&c->again, &c->since, entry);
	c->had_new = c->had_known = false;
}

void
watch_cursor_forget(struct watch_cursor *c)
{
	watch_known_clear(c, &c->since);
	watch_known_clear(c, &c->again);
	free(c->text);
	c->text = NULL;
	c->had_new = c->had_known = false;
}
