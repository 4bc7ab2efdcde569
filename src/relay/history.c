/*
 * History: a list of chunks, each with some hundred parts and their text. A part is a marker, a ticket, or
 * the records of events that came in a row, as they came: who comes back is rare, and only then are they
 * looked into, and their frames made, for all who come. The front is let go chunk by chunk.
 */
#include "config.h"
#include "relay/history.h"
#include "core/conf.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/ticket.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HISTORY_CHUNK_PARTS 128
#define HISTORY_VOIDED      64 /* nodes */
#define HISTORY_TEXT_FIRST  4096u
#define HISTORY_TEXT_MOST   (64u * 1024) /* of more than one part */

struct history_event {
	int64_t id;
	int64_t time_us;
	struct span frame;       /* the AWX frame; block NULL: nobody has wanted it yet */
	uint32_t topic, payload; /* offsets in the part's text */
	uint32_t payload_len;
	uint16_t topic_len;
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

enum history_kind { HISTORY_EVENTS, HISTORY_TICKET, HISTORY_MARKER };

struct history_part {
	enum history_kind kind;
	uint32_t first; /* place, from the chunk's on */
	uint32_t count; /* of places */
	uint32_t text, text_len;
	uint64_t xid;
	union {
		struct history_event *events; /* NULL: not looked into */
		struct history_marker *marker;
		struct {
			struct ticket *ticket;
			int64_t id, time_us;
		};
	};
};

struct history_chunk {
	TAILQ_ENTRY(history_chunk) entry;
	history_place first;
	size_t part_count, bytes;
	size_t looked_bytes; /* of these, what looking into its parts has cost */
	int64_t newest_ms;
	char *text;
	uint32_t text_used, text_size;
	struct history_part parts[HISTORY_CHUNK_PARTS];
};

static struct {
	TAILQ_HEAD(history_chunks, history_chunk) chunks;
	TAILQ_HEAD(history_markers, history_marker) markers;
	history_place end;
	size_t bytes, looked_bytes;
	int64_t now_ms; /* as of the last marker or new chunk: the clock costs as much as all the rest */
	struct marker
	    voided[HISTORY_VOIDED]; /* of each node that sent markers: the last one of the other past */
	size_t voided_count;
	struct history_chunk *spare; /* the one let go last, for the next one to be made */
} history;

static void
history_count(int64_t delta)
{
	history.bytes = (size_t)((int64_t)history.bytes + delta);
	metrics[METRIC_HISTORY_BYTES] = (double)history.bytes;
}

static void
history_chunk_grow(struct history_chunk *c, size_t bytes)
{
	c->bytes += bytes;
	history_count((int64_t)bytes);
}

static void
history_look_grow(struct history_chunk *c, size_t bytes)
{
	history_chunk_grow(c, bytes);
	c->looked_bytes += bytes;
	history.looked_bytes += bytes;
}

/* ---- letting go ---- */

static void
history_marker_free(struct history_marker *m)
{
	TAILQ_REMOVE(&history.markers, m, entry);
	snapshot_clear(&m->seen);
	snapshot_clear(&m->announced);
	free(m->gap);
	free(m->gap_types);
	free(m);
}

static void
history_events_free(struct history_event *events, size_t count)
{
	for (size_t i = 0; events != NULL && i < count; i++)
		if (events[i].frame.block != NULL)
			block_unkeep(events[i].frame.block);
	free(events);
}

/* The text stays. */
static void
history_look_away(struct history_chunk *c)
{
	for (struct history_part *p = c->parts; c->looked_bytes > 0 && p < c->parts + c->part_count; p++) {
		if (p->kind != HISTORY_EVENTS)
			continue;
		history_events_free(p->events, p->count);
		p->events = NULL;
	}
	history_count(-(int64_t)c->looked_bytes);
	history.looked_bytes -= c->looked_bytes;
	c->bytes -= c->looked_bytes;
	c->looked_bytes = 0;
}

static void
history_drop_part(struct history_part *p)
{
	switch (p->kind) {
	case HISTORY_EVENTS:
		break;
	case HISTORY_TICKET:
		ticket_unref(p->ticket);
		break;
	case HISTORY_MARKER:
		history_marker_free(p->marker);
		break;
	}
}

static void
history_chunk_free(struct history_chunk *c)
{
	if (c == NULL)
		return;
	free(c->text);
	free(c);
}

/*
 * With its memory. Where events come in fast one chunk is let go for each that is made: going through malloc(),
 * that memory, which no cache holds, would come back as what libpq puts the next payloads into.
 */
static void
history_keep_spare(struct history_chunk *c)
{
	if (c->text_size > HISTORY_TEXT_MOST) {
		history_chunk_free(c);
		return;
	}
	history_chunk_free(history.spare);
	history.spare = c;
}

static void
history_drop_chunk(struct history_chunk *c)
{
	history_look_away(c);
	for (size_t i = 0; i < c->part_count; i++)
		history_drop_part(&c->parts[i]);
	history_count(-(int64_t)c->bytes);
	TAILQ_REMOVE(&history.chunks, c, entry);
	history_keep_spare(c);
}

static bool
history_is_large(void)
{
	return history.bytes > (size_t)conf.history_limit_bytes;
}

/* That somebody comes back must not make it reach less far: what was made for them goes first, and is made
 * anew. */
static void
history_trim_looks(void)
{
	struct history_chunk *c;

	TAILQ_FOREACH (c, &history.chunks, entry) {
		if (history.looked_bytes == 0 || !history_is_large())
			return;
		history_look_away(c);
	}
}

/* The newest chunk stays, whatever its size. */
static void
history_trim(void)
{
	struct history_chunk *c;
	int64_t oldest_ms = loop_now_ms() - conf.history_age_ms;

	history_trim_looks();
	while ((c = TAILQ_FIRST(&history.chunks)) != NULL && TAILQ_NEXT(c, entry) != NULL &&
	       (history_is_large() || c->newest_ms < oldest_ms))
		history_drop_chunk(c);
}

/* ---- appending ---- */

/* As large as the one before it has become. */
static uint32_t
history_text_size(const struct history_chunk *before)
{
	if (before == NULL || before->text_size < HISTORY_TEXT_FIRST)
		return HISTORY_TEXT_FIRST;
	return before->text_size < HISTORY_TEXT_MOST ? before->text_size : HISTORY_TEXT_MOST;
}

/* With room for so much text, at least. */
static struct history_chunk *
history_chunk_alloc(uint32_t text_size)
{
	struct history_chunk *c = history.spare;

	history.spare = NULL;
	if (c != NULL && c->text_size >= text_size)
		return c;
	history_chunk_free(c);
	c = mem_alloc(sizeof(*c));
	c->text_size = text_size;
	c->text = mem_alloc(text_size);
	return c;
}

static struct history_chunk *
history_chunk_new(void)
{
	struct history_chunk *c =
	    history_chunk_alloc(history_text_size(TAILQ_LAST(&history.chunks, history_chunks)));

	history.now_ms = loop_now_ms();
	c->first = history.end;
	c->part_count = c->bytes = c->looked_bytes = 0;
	c->text_used = 0;
	TAILQ_INSERT_TAIL(&history.chunks, c, entry);
	history_chunk_grow(c, sizeof(*c) + c->text_size);
	history_trim();
	return c;
}

/* The next part, of so many places, with so much text. */
static struct history_part *
history_append(enum history_kind kind, size_t count, size_t text_len, struct history_chunk **chunk)
{
	struct history_chunk *c = TAILQ_LAST(&history.chunks, history_chunks);
	struct history_part *p;

	if (c == NULL || c->part_count == HISTORY_CHUNK_PARTS ||
	    (c->text_used > 0 && c->text_used + text_len > HISTORY_TEXT_MOST))
		c = history_chunk_new();
	c->newest_ms = history.now_ms;
	p = &c->parts[c->part_count++];
	*p = (struct history_part){.kind = kind,
	    .first = (uint32_t)(history.end - c->first),
	    .count = (uint32_t)count,
	    .text = c->text_used,
	    .text_len = (uint32_t)text_len};
	history.end += count;
	*chunk = c;
	return p;
}

static void
history_keep_text(struct history_chunk *c, struct slice text)
{
	uint32_t size = c->text_size;

	while (size - c->text_used < text.len)
		size *= 2;
	if (size > c->text_size) {
		c->text = mem_resize(c->text, size);
		history_chunk_grow(c, size - c->text_size);
		c->text_size = size;
	}
	memcpy(c->text + c->text_used, text.ptr, text.len);
	c->text_used += (uint32_t)text.len;
}

void
history_add(struct slice records, size_t count, uint64_t xid)
{
	struct history_chunk *c;
	struct history_part *p = history_append(HISTORY_EVENTS, count, records.len, &c);

	p->xid = xid;
	history_keep_text(c, records);
}

void
history_add_ticket(const struct record *r, uint64_t xid, struct ticket *ticket)
{
	struct history_chunk *c;
	struct history_part *p = history_append(HISTORY_TICKET, 1, 0, &c);

	p->xid = xid;
	p->id = r->id;
	p->time_us = r->time_us;
	p->ticket = ticket;
	ticket_ref(ticket);
}

void
history_add_marker(const struct marker *marker, const char *epoch, const struct snapshot *seen,
    const struct snapshot *announced)
{
	struct history_chunk *c;
	struct history_marker *m = mem_zalloc(sizeof(*m));

	history.now_ms = loop_now_ms();
	history_append(HISTORY_MARKER, 1, 0, &c)->marker = m;
	m->marker = *marker;
	m->place = history.end;
	snapshot_copy(&m->seen, seen);
	snapshot_copy(&m->announced, announced);
	memcpy(m->epoch, epoch, strlen(epoch) + 1);
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

/* ---- walking ---- */

/* Its records have been looked at before they came here. */
static void
history_look_into(struct history_chunk *c, struct history_part *p)
{
	const char *text = c->text + p->text;
	struct slice rest = {text, p->text_len};
	struct record r;

	p->events = mem_alloc(p->count * sizeof(*p->events));
	for (size_t i = 0; i < p->count; i++) {
		if (!record_next(&rest, &r) || r.kind != RECORD_EVENT)
			abort();
		p->events[i] = (struct history_event){.id = r.id,
		    .time_us = r.time_us,
		    .topic = (uint32_t)(r.topic.type.ptr - text),
		    .topic_len = (uint16_t)(r.topic.key.ptr + r.topic.key.len - r.topic.type.ptr),
		    .payload = (uint32_t)(r.payload.ptr - text),
		    .payload_len = (uint32_t)r.payload.len,
		    .logged = r.logged};
	}
	history_look_grow(c, p->count * sizeof(*p->events));
}

/* The frame that it has made is kept for the others. */
static bool
history_visit_event(struct history_chunk *c, const struct history_part *p, struct history_event *e,
    history_visit visit, void *arg)
{
	const char *text = c->text + p->text;
	struct topic topic;
	struct msg msg = {.topic = &topic,
	    .id = e->id,
	    .xid = p->xid,
	    .time_us = e->time_us,
	    .payload = {text + e->payload, e->payload_len},
	    .logged = e->logged,
	    .kept = true,
	    .frames[MSG_FORM_AWX] = e->frame};
	bool more;

	if (!topic_parse((struct slice){text + e->topic, e->topic_len}, false, &topic))
		abort();
	if (e->frame.block != NULL)
		block_ref(e->frame.block);
	more = visit(arg, &msg);
	if (e->frame.block == NULL && msg.frames[MSG_FORM_AWX].block != NULL) {
		e->frame = msg.frames[MSG_FORM_AWX];
		block_keep(e->frame.block);
		history_look_grow(c, e->frame.length);
	}
	msg_done(&msg);
	return more;
}

static bool
history_visit_ticket(const struct history_part *p, history_visit visit, void *arg)
{
	const char *text = ticket_topic(p->ticket);
	struct topic topic;
	struct msg msg = {.topic = &topic,
	    .id = p->id,
	    .xid = p->xid,
	    .time_us = p->time_us,
	    .ticket = p->ticket,
	    .logged = true};

	if (!topic_parse((struct slice){text, strlen(text)}, false, &topic))
		abort();
	return visit(arg, &msg);
}

static bool
history_visit_marker(
    const struct history_marker *m, struct position *position, history_visit visit, void *arg)
{
	if (m->gap != NULL) {
		struct msg msg = {.gap = m->gap, .gap_types = m->gap_types};

		return visit(arg, &msg);
	}
	if (*m->epoch != '\0')
		position_pass(position, &m->marker, m->epoch, &m->seen, &m->announced);
	return true;
}

/* False: it was held before. */
static bool
history_note(struct position *position, int64_t id, int64_t time_us, bool logged)
{
	if (position_has(position, id))
		return false;
	if (logged)
		position_add_logged(position, id, time_us);
	else
		position_add(position, id);
	return true;
}

/* The n-th place of a part. */
static bool
history_walk_place(struct history_chunk *c, struct history_part *p, size_t n, struct position *position,
    history_visit visit, void *arg)
{
	struct history_event *e;

	switch (p->kind) {
	case HISTORY_MARKER:
		return history_visit_marker(p->marker, position, visit, arg);
	case HISTORY_TICKET:
		return !history_note(position, p->id, p->time_us, true) ||
		       history_visit_ticket(p, visit, arg);
	case HISTORY_EVENTS:
		if (p->events == NULL)
			history_look_into(c, p);
		e = &p->events[n];
		return !history_note(position, e->id, e->time_us, e->logged) ||
		       history_visit_event(c, p, e, visit, arg);
	}
	abort();
}

static bool
history_walk_chunk(
    struct history_chunk *c, history_place *place, struct position *position, history_visit visit, void *arg)
{
	bool more = true;

	for (struct history_part *p = c->parts; more && p < c->parts + c->part_count; p++)
		for (size_t n; more && (n = (size_t)(*place - c->first) - p->first) < p->count; (*place)++)
			more = history_walk_place(c, p, n, position, visit, arg);
	return more;
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
	for (; c != NULL && more; c = TAILQ_NEXT(c, entry))
		more = history_walk_chunk(c, place, position, visit, arg);
	history_trim_looks();
	return true;
}

void
history_reset(void)
{
	struct history_chunk *c;

	while ((c = TAILQ_FIRST(&history.chunks)) != NULL)
		history_drop_chunk(c);
	history_chunk_free(history.spare);
	history.spare = NULL;
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
