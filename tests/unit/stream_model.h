/*
 * A small server, for the tests of positions: transactions that begin, emit and end at random, heartbeats and
 * an announcer whose snapshots are older than their commit, and the queue in which listeners hear what has
 * committed. Each node hears it at its own pace, and the model knows which events each has heard.
 */
#ifndef PGRELAY_TESTS_STREAM_MODEL_H
#define PGRELAY_TESTS_STREAM_MODEL_H

#include "core/mem.h"
#include "relay/position.h"

#include "tap.h"

#include <inttypes.h>

#define MODEL_EPOCH  "7710862416247324902.1"
#define MODEL_EVENTS 3000
#define MODEL_QUEUE  4000
#define MODEL_OPEN   12 /* transactions at a time */
#define MODEL_NODES  2

struct model_event {
	uint64_t xid;
	bool deferred, committed;
	size_t announced; /* 1 + number of the batch */
};

enum model_kind { MODEL_EVENT, MODEL_BATCH, MODEL_MARKER };

/* What listeners hear. */
struct model_heard {
	enum model_kind kind;
	int64_t id;   /* event */
	size_t batch; /* its events are announced here */
	int node;     /* marker */
	struct marker marker;
	bool told;                /* marker: with its snapshot */
	struct snapshot snapshot; /* marker; batch: its second one */
};

struct model_node {
	struct position position;
	struct snapshot announced;
	size_t heard; /* of the queue */
	int64_t counter;
	bool beating; /* a heartbeat is under way, with this snapshot */
	struct snapshot beat;
	bool has[MODEL_EVENTS]; /* by id */
};

struct model {
	struct tap_random random;
	uint64_t next_xid, open[MODEL_OPEN];
	size_t open_count;
	int64_t next_id;
	struct model_event events[MODEL_EVENTS]; /* by id */
	struct model_heard queue[MODEL_QUEUE];
	size_t queued, batches;
	bool announcing;
	struct snapshot until, batch_until; /* of the last batch; of the one under way */
	struct model_node nodes[MODEL_NODES];
};

static inline struct snapshot
model_parse(const char *text)
{
	struct snapshot s = {0};

	if (!snapshot_parse(&s, (struct slice){text, strlen(text)}))
		abort();
	return s;
}

static inline int
model_compare_xids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What a statement sees now. */
static inline struct snapshot
model_snapshot(struct model *m)
{
	char text[64 + 24 * MODEL_OPEN];
	size_t n;

	qsort(m->open, m->open_count, sizeof(*m->open), model_compare_xids);
	n = (size_t)sprintf(
	    text, "%" PRIu64 ":%" PRIu64 ":", m->open_count > 0 ? m->open[0] : m->next_xid, m->next_xid);
	for (size_t i = 0; i < m->open_count; i++)
		n += (size_t)sprintf(text + n, i > 0 ? ",%" PRIu64 : "%" PRIu64, m->open[i]);
	return model_parse(text);
}

/* All nodes begin with the same empty server. */
static inline struct model *
model_new(uint64_t seed)
{
	static const struct idset none;
	struct model *m = mem_zalloc(sizeof(*m));

	m->random.state = seed;
	m->next_xid = 3;
	m->next_id = 1;
	m->until = model_snapshot(m);
	for (int i = 0; i < MODEL_NODES; i++) {
		struct model_node *n = &m->nodes[i];
		struct marker marker = {(uint64_t)i + 1, n->counter++};

		snapshot_copy(&n->announced, &m->until);
		position_set(&n->position, &marker, MODEL_EPOCH, &m->until, &m->until, &none);
	}
	return m;
}

static inline void
model_free(struct model *m)
{
	for (size_t i = 0; i < m->queued; i++)
		snapshot_clear(&m->queue[i].snapshot);
	for (int i = 0; i < MODEL_NODES; i++) {
		position_clear(&m->nodes[i].position);
		snapshot_clear(&m->nodes[i].announced);
		snapshot_clear(&m->nodes[i].beat);
	}
	snapshot_clear(&m->until);
	snapshot_clear(&m->batch_until);
	free(m);
}

static inline bool
model_is_full(const struct model *m)
{
	return m->next_id >= MODEL_EVENTS - 4 || m->queued >= MODEL_QUEUE - MODEL_EVENTS / 4;
}

static inline struct model_heard *
model_queue(struct model *m, enum model_kind kind)
{
	struct model_heard *h = &m->queue[m->queued++];

	if (m->queued > MODEL_QUEUE)
		abort();
	h->kind = kind;
	return h;
}

/* ---- what happens at the server ---- */

static inline void
model_emit(struct model *m, uint64_t xid)
{
	for (uint32_t n = tap_random(&m->random, 4); n > 0; n--)
		m->events[m->next_id++] =
		    (struct model_event){.xid = xid, .deferred = tap_random(&m->random, 3) == 0};
}

static inline void
model_end(struct model *m, size_t at)
{
	uint64_t xid = m->open[at];
	bool commits = tap_random(&m->random, 8) > 0;

	m->open[at] = m->open[--m->open_count];
	for (int64_t id = 1; commits && id < m->next_id; id++) {
		if (m->events[id].xid != xid)
			continue;
		m->events[id].committed = true;
		if (!m->events[id].deferred)
			model_queue(m, MODEL_EVENT)->id = id;
	}
}

static inline void
model_write(struct model *m)
{
	uint32_t what = tap_random(&m->random, 3);

	if (what == 0 && m->open_count < MODEL_OPEN)
		m->open[m->open_count++] = m->next_xid++;
	else if (what == 1 && m->open_count > 0)
		model_emit(m, m->open[tap_random(&m->random, (uint32_t)m->open_count)]);
	else if (what == 2 && m->open_count > 0 && tap_random(&m->random, 2) == 0)
		model_end(m, tap_random(&m->random, (uint32_t)m->open_count));
}

/* One half of a heartbeat: its snapshot, or its commit. */
static inline void
model_beat(struct model *m, int node)
{
	struct model_node *n = &m->nodes[node];
	struct model_heard *h;

	if (!n->beating) {
		snapshot_clear(&n->beat);
		n->beat = model_snapshot(m);
		n->beating = true;
		return;
	}
	for (size_t i = n->heard; i < m->queued; i++)
		if (m->queue[i].kind == MODEL_MARKER && m->queue[i].node == node)
			return; /* the last one has not come back */
	h = model_queue(m, MODEL_MARKER);
	h->node = node;
	h->marker = (struct marker){(uint64_t)node + 1, n->counter++};
	h->told = tap_random(&m->random, 6) > 0;
	snapshot_copy(&h->snapshot, &n->beat);
	n->beating = false;
}

/* One half of an announcement, likewise. */
static inline void
model_announce(struct model *m)
{
	size_t batch;

	m->announcing = !m->announcing;
	if (m->announcing) {
		snapshot_clear(&m->batch_until);
		m->batch_until = model_snapshot(m);
		return;
	}
	batch = ++m->batches;
	for (int64_t id = 1; id < m->next_id; id++) {
		struct model_event *e = &m->events[id];

		if (e->committed && e->deferred && snapshot_sees(&m->batch_until, e->xid) &&
		    !snapshot_sees(&m->until, e->xid))
			e->announced = batch;
	}
	snapshot_copy(&m->until, &m->batch_until);
	snapshot_copy(&model_queue(m, MODEL_BATCH)->snapshot, &m->until);
	m->queue[m->queued - 1].batch = batch;
}

/* ---- what a node hears ---- */

static inline void
model_node_take(struct model_node *n, int64_t id)
{
	if (n->has[id])
		abort();
	n->has[id] = true;
	position_add(&n->position, id);
}

/* The next item of the queue, or NULL; the node's position has moved. */
static inline const struct model_heard *
model_hear(struct model *m, int node)
{
	struct model_node *n = &m->nodes[node];
	const struct model_heard *h = &m->queue[n->heard];
	static const struct snapshot none;

	if (n->heard == m->queued)
		return NULL;
	n->heard++;
	switch (h->kind) {
	case MODEL_EVENT:
		model_node_take(n, h->id);
		break;
	case MODEL_BATCH:
		for (int64_t id = 1; id < m->next_id; id++)
			if (m->events[id].announced == h->batch)
				model_node_take(n, id);
		snapshot_copy(&n->announced, &h->snapshot);
		break;
	case MODEL_MARKER:
		if (h->node == node)
			position_pass(&n->position, &h->marker, h->told ? MODEL_EPOCH : "",
			    h->told ? &h->snapshot : &none, &n->announced);
		break;
	}
	return h;
}

/* Does p hold just these events, of all that are in the log? */
static inline bool
model_position_is_exact(const struct model *m, const struct position *p, const bool *has)
{
	for (int64_t id = 1; id < m->next_id; id++) {
		const struct model_event *e = &m->events[id];

		if (e->committed && position_has_row(p, e->xid, e->deferred, id) != has[id]) {
			diag("event %" PRId64 " of transaction %" PRIu64 " is %s", id, e->xid,
			    has[id] ? "forgotten" : "held, but was never heard");
			return false;
		}
	}
	return true;
}

#endif
