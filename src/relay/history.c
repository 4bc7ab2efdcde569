/*
 * History: a list of chunks, each with some hundred entries and their topics. The front is let go chunk by
 * chunk. Frames stay in the shared blocks in which the sessions got them, so that keeping one costs a
 * reference.
 */
#include "config.h"
#include "relay/history.h"
#include "core/conf.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/ws.h"
#include "relay/ticket.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HISTORY_CHUNK_ENTRIES 256
#define HISTORY_VOIDED        64 /* nodes */
#define HISTORY_TOPICS_FIRST  4096

struct history_entry {
	int64_t id; /* 0: a marker */
	int64_t time_us;
	uint64_t xid;
	union {
		struct span frame; /* the AWX frame; block NULL: ticket */
		struct history_marker *marker;
	};
	struct ticket *ticket;
	uint32_t topic; /* offset in the chunk's topics */
	uint8_t type_len, action_len;
	uint16_t key_len;
	bool logged;
};

struct history_marker {
	TAILQ_ENTRY(history_marker) entry;
	struct marker marker;
	history_place place; /* behind it */
	char epoch[POSITION_EPOCH_SIZE];
	struct snapshot seen, announced;
	char *gap, *gap_types; /* it is no marker, but a gap */
};

struct history_chunk {
	TAILQ_ENTRY(history_chunk) entry;
	history_place first;
	size_t count, bytes;
	int64_t newest_ms;
	char *topics;
	uint32_t topics_used, topics_size;
	struct history_entry entries[HISTORY_CHUNK_ENTRIES];
};

static struct {
	TAILQ_HEAD(history_chunks, history_chunk) chunks;
	TAILQ_HEAD(history_markers, history_marker) markers;
	history_place end;
	size_t bytes;
	int64_t now_ms; /* as of the last marker or new chunk: the clock costs as much as all the rest */
	struct marker
	    voided[HISTORY_VOIDED]; /* of each node that sent markers: the last one of the other past */
	size_t voided_count;
} history;

static void
history_count(int64_t delta)
{
	history.bytes = (size_t)((int64_t)history.bytes + delta);
	metrics[METRIC_HISTORY_BYTES] = (double)history.bytes;
}

static void
history_drop_entry(struct history_entry *e)
{
	if (e->id == 0) {
		TAILQ_REMOVE(&history.markers, e->marker, entry);
		snapshot_clear(&e->marker->seen);
		snapshot_clear(&e->marker->announced);
		free(e->marker->gap);
		free(e->marker->gap_types);
		free(e->marker);
	} else if (e->ticket != NULL) {
		ticket_unref(e->ticket);
	} else {
		block_unref(e->frame.block);
	}
}

static void
history_drop_chunk(struct history_chunk *c)
{
	for (size_t i = 0; i < c->count; i++)
		history_drop_entry(&c->entries[i]);
	history_count(-(int64_t)c->bytes);
	TAILQ_REMOVE(&history.chunks, c, entry);
	free(c->topics);
	free(c);
}

/* The newest chunk stays, whatever its size. */
static void
history_trim(void)
{
	struct history_chunk *c;
	int64_t oldest_ms = loop_now_ms() - conf.history_age_ms;

	while ((c = TAILQ_FIRST(&history.chunks)) != NULL && TAILQ_NEXT(c, entry) != NULL &&
	       (history.bytes > (size_t)conf.history_limit_bytes || c->newest_ms < oldest_ms))
		history_drop_chunk(c);
}

static void
history_chunk_grow(struct history_chunk *c, size_t bytes)
{
	c->bytes += bytes;
	history_count((int64_t)bytes);
}

static struct history_chunk *
history_chunk_new(void)
{
	struct history_chunk *c = mem_alloc(sizeof(*c));

	history.now_ms = loop_now_ms();
	c->first = history.end;
	c->count = c->bytes = 0;
	c->topics_used = 0;
	c->topics_size = HISTORY_TOPICS_FIRST;
	c->topics = mem_alloc(c->topics_size);
	TAILQ_INSERT_TAIL(&history.chunks, c, entry);
	history_chunk_grow(c, sizeof(*c) + c->topics_size);
	history_trim();
	return c;
}

/* The next entry, zeroed, in *chunk. */
static struct history_entry *
history_append(struct history_chunk **chunk)
{
	struct history_chunk *c = TAILQ_LAST(&history.chunks, history_chunks);
	struct history_entry *e;

	if (c == NULL || c->count == HISTORY_CHUNK_ENTRIES)
		c = history_chunk_new();
	c->newest_ms = history.now_ms;
	e = &c->entries[c->count++];
	*e = (struct history_entry){0};
	history.end++;
	*chunk = c;
	return e;
}

static bool
history_topic_equals(const struct history_chunk *c, const struct history_entry *e, const struct topic *t)
{
	const char *text = c->topics + e->topic;

	return e->id != 0 && e->type_len == t->type.len && e->action_len == t->action.len &&
	       e->key_len == t->key.len && memcmp(text, t->type.ptr, t->type.len) == 0 &&
	       memcmp(text + e->type_len, t->action.ptr, t->action.len) == 0 &&
	       memcmp(text + e->type_len + e->action_len, t->key.ptr, t->key.len) == 0;
}

/* Mostly it is that of the event before. */
static void
history_keep_topic(struct history_chunk *c, struct history_entry *e, const struct topic *t)
{
	size_t len = t->type.len + t->action.len + t->key.len;
	char *text;

	e->type_len = (uint8_t)t->type.len;
	e->action_len = (uint8_t)t->action.len;
	e->key_len = (uint16_t)t->key.len;
	if (c->count > 1 && history_topic_equals(c, e - 1, t)) {
		e->topic = e[-1].topic;
		return;
	}
	if (c->topics_used + len > c->topics_size) {
		c->topics = mem_resize(c->topics, (size_t)c->topics_size * 2);
		history_chunk_grow(c, c->topics_size);
		c->topics_size *= 2;
	}
	e->topic = c->topics_used;
	text = c->topics + c->topics_used;
	memcpy(text, t->type.ptr, t->type.len);
	memcpy(text + t->type.len, t->action.ptr, t->action.len);
	memcpy(text + t->type.len + t->action.len, t->key.ptr, t->key.len);
	c->topics_used += (uint32_t)len;
}

void
history_add(struct msg *msg)
{
	struct history_chunk *c;
	struct history_entry *e = history_append(&c);

	history_keep_topic(c, e, msg->topic);
	e->id = msg->id;
	e->time_us = msg->time_us;
	e->xid = msg->xid;
	e->logged = msg->logged;
	if (msg->ticket != NULL) {
		e->ticket = msg->ticket;
		ticket_ref(e->ticket);
		return;
	}
	e->frame = msg_frame(msg, MSG_FORM_AWX);
	block_ref(e->frame.block);
	history_chunk_grow(c, e->frame.length);
}

void
history_add_marker(const struct marker *marker, const char *epoch, const struct snapshot *seen,
    const struct snapshot *announced)
{
	struct history_chunk *c;
	struct history_entry *e;
	struct history_marker *m = mem_zalloc(sizeof(*m));

	history.now_ms = loop_now_ms();
	e = history_append(&c);
	m->marker = *marker;
	m->place = history.end;
	snapshot_copy(&m->seen, seen);
	snapshot_copy(&m->announced, announced);
	memcpy(m->epoch, epoch, strlen(epoch) + 1);
	e->marker = m;
	TAILQ_INSERT_TAIL(&history.markers, m, entry);
	history_chunk_grow(c, sizeof(*m) + (m->seen.count + m->announced.count) * sizeof(*m->seen.xip));
	history_trim();
}

void
history_add_gap(const char *reason, const char *types)
{
	static const struct marker nobodys;
	static const struct snapshot none;
	struct history_marker *m;

	history_add_marker(&nobodys, "", &none, &none);
	m = TAILQ_LAST(&history.markers, history_markers);
	m->gap = mem_strdup(reason);
	m->gap_types = types != NULL ? mem_strdup(types) : NULL;
}

bool
history_find(const struct marker *marker, history_place *place)
{
	struct history_marker *m;

	TAILQ_FOREACH_REVERSE(m, &history.markers, history_markers, entry)
	{
		if (m->marker.boot == marker->boot && m->marker.counter == marker->counter) {
			*place = m->place;
			return true;
		}
	}
	return false;
}

history_place
history_end(void)
{
	return history.end;
}

/* Its payload is the frame without the header (RFC 6455, section 5.2). */
static struct slice
history_payload(struct span frame)
{
	const uint8_t *data = block_data(frame.block) + frame.offset;
	size_t header = data[1] == 127 ? 10 : data[1] == 126 ? 4 : 2;

	return (struct slice){(const char *)data + header, frame.length - header};
}

static bool
history_visit_event(
    const struct history_chunk *c, const struct history_entry *e, history_visit visit, void *arg)
{
	const char *text = c->topics + e->topic;
	struct topic topic = {{text, e->type_len}, {text + e->type_len, e->action_len},
	    {text + e->type_len + e->action_len, e->key_len}};
	struct msg msg = {.topic = &topic,
	    .id = e->id,
	    .xid = e->xid,
	    .time_us = e->time_us,
	    .ticket = e->ticket,
	    .logged = e->logged};
	bool more;

	if (e->ticket == NULL) {
		msg.payload = history_payload(e->frame);
		msg.frames[MSG_FORM_AWX] = e->frame;
		block_ref(e->frame.block);
	}
	more = visit(arg, &msg);
	msg_done(&msg);
	return more;
}

static bool
history_walk_entry(const struct history_chunk *c, const struct history_entry *e, struct position *position,
    history_visit visit, void *arg)
{
	if (e->id == 0 && e->marker->gap != NULL) {
		struct msg msg = {.gap = e->marker->gap, .gap_types = e->marker->gap_types};

		return visit(arg, &msg);
	}
	if (e->id == 0) {
		if (*e->marker->epoch != '\0')
			position_pass(position, &e->marker->marker, e->marker->epoch, &e->marker->seen,
			    &e->marker->announced);
		return true;
	}
	if (position_has(position, e->id))
		return true;
	if (e->logged)
		position_add_logged(position, e->id, e->time_us);
	else
		position_add(position, e->id);
	return history_visit_event(c, e, visit, arg);
}

bool
history_walk(history_place *place, struct position *position, history_visit visit, void *arg)
{
	struct history_chunk *c;
	bool more = true;

	TAILQ_FOREACH_REVERSE(c, &history.chunks, history_chunks, entry)
	if (c->first <= *place)
		break;
	if (c == NULL)
		return *place == history.end;
	for (; c != NULL && more; c = TAILQ_NEXT(c, entry)) {
		for (size_t i = (size_t)(*place - c->first); more && i < c->count; i++, (*place)++)
			more = history_walk_entry(c, &c->entries[i], position, visit, arg);
	}
	return true;
}

void
history_reset(void)
{
	struct history_chunk *c;

	while ((c = TAILQ_FIRST(&history.chunks)) != NULL)
		history_drop_chunk(c);
	history.end++; /* so that the place behind all that was is gone, too */
}

static void
history_void_marker(const struct marker *m)
{
	size_t i = 0;

	while (i < history.voided_count && history.voided[i].boot != m->boot)
		i++;
	if (i == HISTORY_VOIDED)
		return;
	history.voided[i] = *m;
	if (i == history.voided_count)
		history.voided_count++;
}

void
history_void(void)
{
	const struct history_marker *m;

	TAILQ_FOREACH (m, &history.markers, entry)
		history_void_marker(&m->marker);
	history_reset();
}

bool
history_is_void(const struct marker *marker)
{
	for (size_t i = 0; i < history.voided_count; i++)
		if (history.voided[i].boot == marker->boot && marker->counter <= history.voided[i].counter)
			return true;
	return false;
}

void
history_init(void)
{
	TAILQ_INIT(&history.chunks);
	TAILQ_INIT(&history.markers);
	history.end = 0;
	history.bytes = 0;
	history.voided_count = 0;
}

void
history_free(void)
{
	history_reset();
}
