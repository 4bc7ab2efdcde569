/*
 * Resuming. States:
 *
 * - WAITING: the client's marker is not in the history. Two markers of ours, J and K, sent after the client
 *   came, will tell: by J the client's marker has come by, or lies before the history.
 * - READING: the log is read from the client's position up to K's snapshot. Who lies far behind lets others go
 *   first, and who is slow is put back while others wait: one cursor, genuine or not, must not cost everybody.
 * - WALKING: what is in the history behind the client's marker, or behind J, is taken, as far as there is room.
 *   At its end the client is done, when a marker of ours has come by that was sent after the client came: until
 *   then the client may have had, from another node, what is still to come here.
 *
 * resume_enter() alone writes ->state.
 */
#include "config.h"
#include "relay/resume.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/dispatch.h"
#include "relay/history.h"
#include "relay/log_reader.h"
#include "relay/stream.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define RESUME_MAGIC     0x4e50513eu
#define RESUME_PACE_ROWS 64
#define RESUME_PACE_MS   2
#define RESUME_PATIENCE  10 /* markers without a snapshot */
/* One reading is for so many, that it stays short for those who need little. */
#define RESUME_READ_XIPS   2000
#define RESUME_READ_POINTS 1000
#define RESUME_LIGHT_XIPS  50
#define RESUME_NEAR_XIDS   5000 /* so far back costs little */
#define RESUME_PASSES      3    /* so often somebody lets others go first */
#define RESUME_SLOW_MS     2000 /* so long the slow ones are waited for, while others wait */

#define RESUME_SLICE_EVENTS 4096
#define RESUME_TURN_US      5000

enum resume_state { RESUME_WAITING, RESUME_READING, RESUME_WALKING };

struct resume {
	unsigned magic;
	enum resume_state state;
	TAILQ_ENTRY(resume) entry;
	struct position position;
	struct hub_member *member;
	const struct resume_ops *ops;
	void *arg;
	int64_t after;        /* our last heartbeat before: J must be a later one */
	history_place place;  /* WALKING */
	history_place joined; /* where the history ended when the client came */
	bool ready;           /* WAITING: the log must be read for it */
	unsigned passes;      /* so often others went first */
	size_t point;         /* READING: which of the reading's points is ours */
	bool told;            /* of a gap that the log has */
	bool full;            /* WALKING, WAITING: waits for resume_continue() */
	bool early;           /* WALKING: at the end, waits for a marker */
	int visited;
};

/* A marker of ours, as it came by. */
struct resume_marker {
	int64_t counter;
	history_place place;
	struct snapshot seen, announced;
};

/* What one reading is for. */
struct resume_plan {
	struct log_range range;
	struct log_point points[RESUME_READ_POINTS];
	size_t point_count, clients, xips;
	struct topic patterns[LOG_READER_PATTERNS];
	size_t pattern_count; /* LOG_READER_PATTERNS + 1: too many */
	const struct resume *last;
};

static struct {
	TAILQ_HEAD(resume_list, resume) list;
	void (*want_marker)(void);
	int64_t (*last_marker)(void);
	struct resume_marker j, k;
	int64_t passed;       /* the last marker of ours that came by */
	bool paired;          /* j and k came by one after the other, live */
	unsigned blind;       /* so many markers in a row had no snapshot */
	history_place behind; /* READING: where those who read go on in the history */
	uint64_t xid;         /* of the row that is being dispatched */
	bool deferred;
	bool reading; /* the log, for those in that state */
	unsigned long rows;
	size_t unpaced_bytes; /* since slow clients were last looked for */
	int64_t paused_ms;    /* when the reading was paused for them */
	int64_t waited_ms;    /* and how long it had been before */
	struct event *pace;
	struct loop_task walk;
	struct resume *visiting; /* whose event is being queued */
} resumes;

static void resume_try_reading(void);

static void
resume_enter(struct resume *r, enum resume_state state)
{
	r->state = state;
	r->ready = r->full = r->early = false;
	switch (state) {
	case RESUME_WAITING:
		r->after = resumes.last_marker();
		resumes.want_marker();
		break;
	case RESUME_READING:
		r->passes = 0;
		break;
	case RESUME_WALKING:
		loop_task_queue(&resumes.walk);
		break;
	}
}

struct resume *
resume_new(struct position *position, struct hub_member *member, const struct resume_ops *ops, void *arg)
{
	struct resume *r = mem_zalloc(sizeof(*r));

	r->magic = RESUME_MAGIC;
	r->position = *position;
	*position = (struct position){0};
	r->member = member;
	r->ops = ops;
	r->arg = arg;
	r->joined = history_end();
	r->after = resumes.last_marker();
	TAILQ_INSERT_TAIL(&resumes.list, r, entry);
	metrics[METRIC_RESUMES_TOTAL]++;
	resume_enter(r, history_find(&r->position.marker, &r->place) ? RESUME_WALKING : RESUME_WAITING);
	return r;
}

static size_t
resume_count(enum resume_state state)
{
	struct resume *r;
	size_t n = 0;

	TAILQ_FOREACH (r, &resumes.list, entry)
		n += r->state == state;
	return n;
}

static void
resume_stop_reading(void)
{
	resumes.reading = false;
	event_del(resumes.pace);
	log_reader_stop();
}

/* Of those who read, the last one switches off the light. */
void
resume_cancel(struct resume *r)
{
	assert(r->magic == RESUME_MAGIC);
	TAILQ_REMOVE(&resumes.list, r, entry);
	if (resumes.reading && resume_count(RESUME_READING) == 0) {
		resume_stop_reading();
		resumes.want_marker(); /* and so on to those who wait */
	}
	position_clear(&r->position);
	r->magic = 0;
	free(r);
}

const struct position *
resume_position(const struct resume *r)
{
	return &r->position;
}

/* ---- walking ---- */

static bool
resume_visit(void *arg, struct msg *msg)
{
	struct resume *r = arg;

	resumes.visiting = r;
	if (msg->gap != NULL)
		r->ops->gap(r->arg, msg->gap, msg->gap_types);
	else if (hub_selects(msg->topic))
		r->ops->push(r->arg, msg);
	resumes.visiting = NULL;
	r->full = r->ops->room(r->arg) == 0;
	return !r->full && ++r->visited < RESUME_SLICE_EVENTS;
}

/* One slice. */
static void
resume_walk(struct resume *r)
{
	bool whole;

	assert(r->magic == RESUME_MAGIC && r->state == RESUME_WALKING);
	r->visited = 0;
	hub_select(r->member);
	whole = history_walk(&r->place, &r->position, resume_visit, r);
	hub_unselect(r->member);
	if (!whole && *r->position.epoch != '\0') {
		resume_enter(r, RESUME_WAITING); /* the log has it */
		return;
	}
	if (!whole) {
		r->ops->gap(r->arg, "history", NULL);
		r->place = history_end();
	}
	if (r->place == history_end() && resumes.passed <= r->after) {
		r->early = true;
		resumes.want_marker();
	} else if (r->place == history_end()) {
		void (*done)(void *) = r->ops->done;
		void *owner = r->arg;

		resume_cancel(r);
		done(owner);
	}
}

/* A walk may be long, and a thousand clients may come at once: they take turns, and leave time for others. */
static void
resume_walk_all(void *arg)
{
	int64_t deadline_us = loop_now_us() + RESUME_TURN_US;
	struct resume *r, *next, *last = TAILQ_LAST(&resumes.list, resume_list);
	bool more = false;

	for (r = TAILQ_FIRST(&resumes.list); r != NULL; r = next) {
		bool is_last = r == last;

		next = is_last ? NULL : TAILQ_NEXT(r, entry);
		if (r->state != RESUME_WALKING || r->full || r->early)
			continue;
		if (loop_now_us() > deadline_us) {
			more = true;
			break;
		}
		TAILQ_REMOVE(&resumes.list, r, entry);
		TAILQ_INSERT_TAIL(&resumes.list, r, entry);
		more = true; /* perhaps it is done; the next turn will tell */
		resume_walk(r);
	}
	if (more)
		loop_task_queue(&resumes.walk);
}

void
resume_continue(struct resume *r)
{
	assert(r->magic == RESUME_MAGIC);
	if (!r->full)
		return;
	r->full = false;
	if (r->state == RESUME_WALKING)
		loop_task_queue(&resumes.walk);
	else
		resumes.want_marker();
}

size_t
resume_cursor(char out[POSITION_TEXT_MAX])
{
	return position_format(&resumes.visiting->position, out);
}

bool
resume_is_visiting(void)
{
	return resumes.visiting != NULL;
}

/* ---- reading the log ---- */

void
resume_take(struct resume *r, struct msg *msg)
{
	assert(r->magic == RESUME_MAGIC);
	if (r->state != RESUME_READING ||
	    position_has_row(&r->position, resumes.xid, resumes.deferred, msg->id))
		return;
	position_add_logged(&r->position, msg->id, msg->time_us);
	resumes.visiting = r;
	r->ops->push(r->arg, msg);
	resumes.visiting = NULL;
}

/* The position says nothing here: the client goes on from where it came. */
static void
resume_start_over(struct resume *r, const char *reason)
{
	r->ops->gap(r->arg, reason, NULL);
	position_clear(&r->position);
	r->place = r->joined;
	resume_enter(r, RESUME_WALKING);
}

static bool
resume_on_reach(void *arg, const char *const *reasons, const char *exempt)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry) {
		if (r->state != RESUME_READING || r->told)
			continue;
		r->told = true;
		if (reasons[r->point] != NULL && strcmp(reasons[r->point], "restored") == 0)
			resume_start_over(r, "restored");
		else if (reasons[r->point] != NULL)
			r->ops->gap(r->arg, reasons[r->point], NULL);
		else if (*exempt != '\0')
			r->ops->gap(r->arg, "exempt", exempt);
	}
	return resume_count(RESUME_READING) > 0;
}

static bool
resume_any_is_behind(void)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry)
		if (r->state == RESUME_READING && r->ops->is_behind(r->arg))
			return true;
	return false;
}

/* Is there anybody whom those who are behind keep from what it missed? */
static bool
resume_any_suffers(void)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry)
		if ((r->state == RESUME_WAITING && !r->full) ||
		    (r->state == RESUME_READING && !r->ops->is_behind(r->arg)))
			return true;
	return false;
}

/* They keep what they have got; what is left is read for them when they have taken it. */
static void
resume_put_back_slow(void)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry) {
		if (r->state != RESUME_READING || !r->ops->is_behind(r->arg))
			continue;
		resume_enter(r, RESUME_WAITING);
		r->full = true;
	}
	if (resume_count(RESUME_READING) > 0) {
		log_reader_pause(false);
		return;
	}
	resume_stop_reading();
	resume_try_reading();
}

static void
resume_on_pace(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = {0, RESUME_PACE_MS * 1000};
	int64_t waited_ms = resumes.waited_ms + loop_now_ms() - resumes.paused_ms;

	if (!resume_any_is_behind()) {
		resumes.waited_ms = waited_ms;
		log_reader_pause(false);
	} else if (waited_ms > RESUME_SLOW_MS && resume_any_suffers()) {
		resumes.waited_ms = waited_ms;
		resume_put_back_slow();
	} else {
		event_add(resumes.pace, &tv);
	}
}

static void
resume_on_row(void *arg, uint64_t xid, bool deferred, const struct record *record)
{
	struct timeval tv = {0, RESUME_PACE_MS * 1000};

	resumes.xid = xid;
	resumes.deferred = deferred;
	dispatch_missed(record);
	resumes.unpaced_bytes += record->payload.len;
	if (++resumes.rows % RESUME_PACE_ROWS != 0 &&
	    resumes.unpaced_bytes <= (size_t)conf.queue_limit_bytes / 8)
		return;
	resumes.unpaced_bytes = 0;
	if (resume_any_is_behind()) {
		resumes.paused_ms = loop_now_ms();
		log_reader_pause(true);
		event_add(resumes.pace, &tv);
	}
}

static void
resume_on_read(void *arg)
{
	struct resume *r;

	resumes.reading = false;
	event_del(resumes.pace);
	TAILQ_FOREACH (r, &resumes.list, entry) {
		if (r->state != RESUME_READING)
			continue;
		r->place = resumes.behind;
		r->position.paired = false;
		resume_enter(r, RESUME_WALKING);
	}
	resume_try_reading();
}

static void
resume_on_refused(void *arg)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry)
		if (r->state == RESUME_READING)
			r->ops->gap(r->arg, "log", NULL);
	resume_on_read(arg);
}

static const struct log_reader_ops resume_reader_ops = {
    resume_on_reach, resume_on_row, resume_on_read, resume_on_refused};

/* Cursors come from clients: what one of them claims to have seen must not take anything from another. */
static void
resume_widen(struct snapshot *since, const struct snapshot *s)
{
	if (snapshot_is_set(since))
		snapshot_intersect(since, s);
	else
		snapshot_copy(since, s);
}

static const struct snapshot *
resume_announced(const struct resume *r)
{
	return snapshot_is_set(&r->position.announced) ? &r->position.announced : &r->position.seen;
}

/* How many transactions lie between its position and now. */
static uint64_t
resume_depth(const struct resume *r)
{
	uint64_t seen = r->position.seen.xmax, announced = resume_announced(r)->xmax;
	uint64_t from = seen < announced ? seen : announced, until = resumes.k.seen.xmax;

	return from < until ? until - from : 0;
}

static size_t
resume_xips(const struct resume *r)
{
	return r->position.seen.count + resume_announced(r)->count;
}

static bool
resume_snapshots_are_equal(const struct snapshot *a, const struct snapshot *b)
{
	return snapshot_covers(a, b) && snapshot_covers(b, a);
}

/* Many clients come back with the same cursor. */
static bool
resume_is_like(const struct resume *r, const struct resume *other)
{
	return other != NULL && r->position.last_id == other->position.last_id &&
	       r->position.last_time_us == other->position.last_time_us &&
	       resume_snapshots_are_equal(&r->position.seen, &other->position.seen) &&
	       resume_snapshots_are_equal(resume_announced(r), resume_announced(other));
}

static void
resume_plan_point(struct resume_plan *p, const struct resume *r)
{
	p->points[p->point_count++] = (struct log_point){
	    &r->position.seen, resume_announced(r), r->position.last_id, r->position.last_time_us};
	p->xips += resume_xips(r);
	resume_widen(&p->range.since, &r->position.seen);
	resume_widen(&p->range.deferred_since, resume_announced(r));
}

static bool
resume_plan_has_room(const struct resume_plan *p, const struct resume *r)
{
	return p->clients == 0 ||
	       (p->point_count < RESUME_READ_POINTS && p->xips + resume_xips(r) <= RESUME_READ_XIPS);
}

static void
resume_plan_add(struct resume_plan *p, struct resume *r)
{
	bool is_new = !resume_is_like(r, p->last);

	if (is_new && !resume_plan_has_room(p, r))
		return;
	if (is_new)
		resume_plan_point(p, r);
	r->point = p->point_count - 1;
	p->last = r;
	p->clients++;
	p->pattern_count = hub_list(r->member, p->patterns, p->pattern_count, LOG_READER_PATTERNS);
	resume_enter(r, RESUME_READING);
}

/*
 * Whose turn it is: who lies nearest, or has let others go first often enough. NULL: nobody waits for the log.
 */
static struct resume *
resume_choose(void)
{
	struct resume *r, *nearest = NULL;

	TAILQ_FOREACH (r, &resumes.list, entry) {
		if (!r->ready)
			continue;
		if (r->passes >= RESUME_PASSES)
			return r;
		if (nearest == NULL || resume_depth(r) < resume_depth(nearest))
			nearest = r;
	}
	return nearest;
}

/* For whom the log need not be read much farther back goes along; those with few open transactions first. */
static void
resume_plan_fill(struct resume_plan *p, uint64_t depth)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry)
		if (r->ready && resume_depth(r) <= depth && resume_xips(r) <= RESUME_LIGHT_XIPS)
			resume_plan_add(p, r);
	TAILQ_FOREACH (r, &resumes.list, entry)
		if (r->ready && resume_depth(r) <= depth)
			resume_plan_add(p, r);
	TAILQ_FOREACH (r, &resumes.list, entry)
		r->passes += r->ready;
}

static void
resume_read(struct resume *first)
{
	struct resume_plan *p = mem_zalloc(sizeof(*p));

	resume_plan_add(p, first);
	resume_plan_fill(p, 2 * resume_depth(first) + RESUME_NEAR_XIDS);
	snapshot_copy(&p->range.until, &resumes.k.seen);
	snapshot_copy(&p->range.deferred_until, &resumes.j.announced);
	resumes.behind = resumes.j.place;
	resumes.waited_ms = 0;
	log_info("stream", "the log is read for %zu that came back", p->clients);
	metrics[METRIC_RESUMES_LOG_TOTAL] += (double)p->clients;
	resumes.reading = true;
	log_reader_start(
	    &p->range, p->points, p->point_count, p->patterns, p->pattern_count, &resume_reader_ops, NULL);
	free(p);
}

/* J has come by: either the client's marker has, too, or the log must be read; but not for a client of
 * another database. */
static bool
resume_needs_log(struct resume *r)
{
	if (history_find(&r->position.marker, &r->place)) {
		resume_enter(r, RESUME_WALKING);
		return false;
	}
	if (history_is_void(&r->position.marker)) {
		resume_start_over(r, "restored");
		return false;
	}
	if (strcmp(r->position.epoch, stream_position()->epoch) != 0) {
		resume_start_over(r, "epoch");
		return false;
	}
	return true;
}

static void
resume_try_reading(void)
{
	struct resume *r;
	bool wanted = false;

	if (log_reader_is_busy() || !stream_is_live())
		return;
	TAILQ_FOREACH (r, &resumes.list, entry) {
		bool told = resumes.paired && r->after < resumes.j.counter;

		if (r->state != RESUME_WAITING || r->full)
			continue;
		wanted = wanted || !told;
		r->ready = told && (r->ready || resume_needs_log(r));
	}
	if (wanted && resumes.blind == 0)
		resumes.want_marker();
	r = resume_choose();
	if (r != NULL)
		resume_read(r);
}

static void
resume_go_on(void)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry) {
		if (!r->early)
			continue;
		r->early = false;
		loop_task_queue(&resumes.walk);
	}
}

/* No position can be compared with the log as long as so many transactions are open. */
static void
resume_give_up(void)
{
	struct resume *r;

	TAILQ_FOREACH (r, &resumes.list, entry) {
		if (r->state != RESUME_WAITING || r->after >= resumes.j.counter)
			continue;
		if (history_find(&r->position.marker, &r->place))
			resume_enter(r, RESUME_WALKING);
		else
			resume_start_over(r, "snapshot");
	}
}

void
resume_on_marker(const struct marker *marker, const struct snapshot *seen)
{
	struct resume_marker *j = &resumes.j, *k = &resumes.k;
	struct resume_marker old = *j;

	resumes.paired = k->counter > 0 && snapshot_is_set(seen);
	*j = *k;
	*k = old;
	k->counter = marker->counter;
	k->place = history_end();
	snapshot_copy(&k->seen, seen);
	snapshot_copy(&k->announced, stream_announced());
	resumes.passed = marker->counter;
	resumes.blind = snapshot_is_set(seen) ? 0 : resumes.blind + 1;
	resume_go_on();
	if (resumes.blind > RESUME_PATIENCE)
		resume_give_up();
	resume_try_reading();
}

/* What was read stays with those who got it. */
void
resume_suspend(void)
{
	struct resume *r;

	resumes.paired = false;
	resumes.k.counter = 0;
	if (resumes.reading)
		resume_stop_reading();
	TAILQ_FOREACH (r, &resumes.list, entry) {
		r->ready = false;
		if (r->state == RESUME_READING)
			resume_enter(r, RESUME_WAITING);
	}
}

void
resume_init(void (*want_marker)(void), int64_t (*last_marker)(void))
{
	memset(&resumes, 0, sizeof(resumes));
	TAILQ_INIT(&resumes.list);
	resumes.want_marker = want_marker;
	resumes.last_marker = last_marker;
	loop_task_init(&resumes.walk, resume_walk_all, NULL);
	resumes.pace = evtimer_new(loop_base(), resume_on_pace, NULL);
	if (resumes.pace == NULL)
		log_fatal("could not create a timer");
}

void
resume_free(void)
{
	assert(TAILQ_EMPTY(&resumes.list));
	loop_task_cancel(&resumes.walk);
	event_free(resumes.pace);
	snapshot_clear(&resumes.j.seen);
	snapshot_clear(&resumes.j.announced);
	snapshot_clear(&resumes.k.seen);
	snapshot_clear(&resumes.k.announced);
	memset(&resumes, 0, sizeof(resumes));
}
