/*
 * Clients that are too slow. What waits for one is bounded in octets (queue_limit) and in age (queue_age),
 * and what waits for all of them together in octets of memory (queue_memory): blocks that nothing else keeps,
 * each once, the queues' own arrays, and what is encrypted already. Past a bound a session is closed, or
 * loses what waits for it and is told, as `overflow` says.
 *
 * When queue_memory is passed those go that hold the oldest blocks, for only when all who hold a block are
 * gone it is free. This looks at all sessions, so it makes room for an eighth at once, and is not done again
 * soon where it could not. Whoever has taken all that there was at the end of the turn before is left alone.
 */
#include "config.h"
#include "client/session_private.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/transport.h"

#include <stdlib.h>

#define SLOW_LOG_SECONDS 10

static const struct {
	enum metric closed, overflowed;
	const char *text;
} slow_bounds[] = {
    [SESSION_PAST_LIMIT] = {METRIC_SESSIONS_CLOSED_SLOW_LIMIT_TOTAL, METRIC_SESSIONS_OVERFLOWED_LIMIT_TOTAL,
	"too slow: more than queue_limit was waiting"},
    [SESSION_PAST_AGE] = {METRIC_SESSIONS_CLOSED_SLOW_AGE_TOTAL, METRIC_SESSIONS_OVERFLOWED_AGE_TOTAL,
	"too slow: a message has waited for longer than queue_age"},
    [SESSION_PAST_MEMORY] = {METRIC_SESSIONS_CLOSED_SLOW_MEMORY_TOTAL,
	METRIC_SESSIONS_OVERFLOWED_MEMORY_TOTAL, "too slow: the node's queue_memory is used up"},
};

static struct {
	struct loop_task task;
	int64_t turn_ms;  /* when this turn's sending began */
	int64_t again_ms; /* there was not enough to let go: not before then */
} slow_relief;

/* ---- one of them ---- */

static void
slow_drop_messages(struct session *s, enum session_bound bound)
{
	if (!s->overflowed)
		log_info(s->subject, "%s; it is dropped", slow_bounds[bound].text);
	metrics[slow_bounds[bound].overflowed] += !s->overflowed;
	sendq_truncate(&s->queue);
	s->behind_ms = 0;
	session_gap(s, "overflow", NULL);
	s->overflowed = true;
	loop_task_queue(&s->flush);
}

void
session_overflow(struct session *s, enum session_bound bound)
{
	session_drop_late(s);
	if (conf.overflow == CONF_OVERFLOW_GAP && s->dialect->labels != NULL) {
		slow_drop_messages(s, bound);
		return;
	}
	metrics[slow_bounds[bound].closed]++;
	sendq_truncate(&s->queue);
	session_close(s, WS_CLOSE_TRY_AGAIN, slow_bounds[bound].text);
}

/* Past the bound? What is being sent right now does not count: one large message is no backlog. */
void
session_check_backlog(struct session *s)
{
	size_t late = s->late != NULL ? s->late->held_bytes : 0;

	session_check_memory();
	if (s->state == SESSION_OPEN && sendq_backlog(&s->queue) + late > (size_t)conf.queue_limit_bytes)
		session_overflow(s, SESSION_PAST_LIMIT);
}

/* Tickets hold no memory, so a burst of them is given the time that a client has; who stays behind for longer
 * is as slow as any other. */
static bool
slow_is_long_behind(struct session *s, int64_t now)
{
	if (sendq_backlog(&s->queue) + s->queue.ticket_bytes <= (size_t)conf.queue_limit_bytes)
		s->behind_ms = 0;
	else if (s->behind_ms == 0)
		s->behind_ms = now;
	return s->behind_ms != 0 && now - s->behind_ms > conf.write_timeout_ms;
}

/* Who is on its way back is given no more than it takes, but not by us alone: the log must be read, too. */
static bool
slow_is_late(struct session *s, int64_t now)
{
	if (s->resume != NULL)
		sendq_forgive(&s->queue);
	return conf.queue_age_ms > 0 && sendq_age_ms(&s->queue, now) > conf.queue_age_ms;
}

bool
session_overflow_in_time(struct session *s, int64_t now)
{
	session_check_memory();
	if (slow_is_long_behind(s, now))
		session_overflow(s, SESSION_PAST_LIMIT);
	else if (slow_is_late(s, now))
		session_overflow(s, SESSION_PAST_AGE);
	else
		return false;
	return true;
}

/* ---- all of them ---- */

struct slow_session {
	uint64_t oldest; /* block */
	struct session *session;
};

static bool
slow_memory_is_above(int64_t bytes)
{
	return metrics[METRIC_QUEUE_MEMORY_BYTES] > (double)bytes;
}

static uint64_t
slow_oldest_block(const struct session *s)
{
	uint64_t queued = sendq_oldest_block(&s->queue);
	uint64_t late = s->late != NULL ? sendq_oldest_block(s->late) : UINT64_MAX;

	return queued < late ? queued : late;
}

static int
slow_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct slow_session *)a)->oldest, y = ((const struct slow_session *)b)->oldest;

	return x < y ? -1 : x > y;
}

/* Has something waited for longer than this turn? */
static bool
slow_is_behind(const struct session *s)
{
	return s->queue.mark_ms != 0 && s->queue.mark_ms < slow_relief.turn_ms;
}

/* Those for whom something has waited for longer than this turn, the one furthest behind first. The caller
 * releases it with free(). */
static struct slow_session *
slow_list(size_t *count)
{
	struct slow_session *list = mem_alloc(sessions.count * sizeof(*list));
	struct session *s;

	*count = 0;
	TAILQ_FOREACH (s, &sessions.list, entry)
		if ((s->queue.count > 0 && slow_is_behind(s)) || s->late != NULL)
			list[(*count)++] = (struct slow_session){slow_oldest_block(s), s};
	qsort(list, *count, sizeof(*list), slow_compare);
	return list;
}

/* What is behind the run that is being sent. False: there is nothing. */
static bool
slow_let_go_backlog(struct session *s)
{
	if (s->state != SESSION_OPEN || (s->queue.count == 1 && s->late == NULL))
		return false;
	session_overflow(s, SESSION_PAST_MEMORY);
	return true;
}

/* That as well, and so the connection. */
static bool
slow_let_go_all(struct session *s)
{
	if (s->state == SESSION_GONE || s->queue.count == 0)
		return false;
	metrics[METRIC_SESSIONS_CLOSED_SLOW_MEMORY_TOTAL] += s->state == SESSION_OPEN;
	session_abort(s, slow_bounds[SESSION_PAST_MEMORY].text);
	return true;
}

/* From the front of the list, until no more than so many octets are held. Returns of how many. */
static size_t
slow_let_go(const struct slow_session *list, size_t count, int64_t bytes, bool (*let_go)(struct session *s))
{
	size_t done = 0;

	for (size_t i = 0; i < count && slow_memory_is_above(bytes); i++)
		done += let_go(list[i].session);
	return done;
}

static void
slow_log(size_t count, double held)
{
	static struct log_limit limit;
	unsigned long more;

	if (log_limit_pass(&limit, SLOW_LOG_SECONDS, &more))
		log_warning(NULL,
		    "queue_memory was used up by what waits for clients, %.0f octets; %zu sessions were too "
		    "slow, "
		    "without them it is %.0f%s (%lu more since the last such line)",
		    held, count, metrics[METRIC_QUEUE_MEMORY_BYTES],
		    slow_memory_is_above(conf.queue_memory_bytes) ? ", still too much: raise queue_memory"
								  : "",
		    more);
}

static void
slow_relieve(void *arg)
{
	int64_t limit = conf.queue_memory_bytes, wanted = limit / 8 * 7;
	double held = metrics[METRIC_QUEUE_MEMORY_BYTES];
	struct slow_session *list;
	size_t count, done = 0;

	if (!slow_memory_is_above(limit))
		return;
	list = slow_list(&count);
	if (transport_waiting_bytes() < (double)wanted) /* else it would not help */
		done = slow_let_go(list, count, wanted, slow_let_go_backlog);
	if (slow_memory_is_above(limit))
		done += slow_let_go(list, count, wanted, slow_let_go_all);
	free(list);
	slow_log(done, held);
	if (slow_memory_is_above(wanted))
		slow_relief.again_ms = loop_now_ms() + WHEEL_TICK_MS;
}

/* After all have been sent what there is, of which else a turn's share would count against the others. */
static void
slow_await_sending(void *arg)
{
	slow_relief.turn_ms = loop_turn_ms();
	loop_release(slow_relieve, &slow_relief);
}

/* At the end of the next turn: by then each has had its chance to take what this one has brought. */
void
session_make_room(void)
{
	if (loop_now_ms() >= slow_relief.again_ms)
		loop_task_queue(&slow_relief.task);
}

void
session_slow_init(void)
{
	loop_task_init(&slow_relief.task, slow_await_sending, NULL);
	slow_relief.again_ms = 0;
	metrics[METRIC_QUEUE_MEMORY_LIMIT_BYTES] = (double)conf.queue_memory_bytes;
}

void
session_slow_settings_changed(void)
{
	metrics[METRIC_QUEUE_MEMORY_LIMIT_BYTES] = (double)conf.queue_memory_bytes;
}
