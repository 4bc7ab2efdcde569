/*
 * A query owns an array of its places; one that has left, or has been answered, is NULL there. Invariant: a
 * place waits, or is in one query, or has been answered.
 *
 * At most AUTH_QUERIES are under way, so that others get at the query session in between, and the next one is
 * full when very many ask. How many places fill it is found out: a function of a site's own may take long, and
 * many calls of it in one query would all be late.
 */
#include "config.h"
#include "client/auth_queue.h"
#include "client/auth_cache.h"
#include "client/auth_private.h"
#include "core/conf.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define AUTH_QUERIES      2
#define AUTH_PLACES_FIRST 16
#define AUTH_PLACES_MOST  128
#define AUTH_QUERY_BYTES  (64 * 1024) /* what one asks is less, or is alone */
#define AUTH_QUERY_ROWS   20000       /* of several places; one that has more by itself gets them */
#define AUTH_SHORT_MS     20          /* below: the next one may have twice as many places */
#define AUTH_LONG_MS      100         /* above: half as many */

struct auth_query {
	TAILQ_ENTRY(auth_query) entry; /* while it is to be sent again */
	struct auth_queue *queue;
	struct pg_query *query; /* NULL: not sent, or answered */
	bool answering;
	int64_t sent_ms;
	size_t count, left; /* places, and those of them that are not NULL */
	struct auth_place *places[];
};

static void
auth_queue_look(struct auth_queue *queue)
{
	if (!TAILQ_EMPTY(&queue->waiting) || !TAILQ_EMPTY(&queue->again))
		loop_task_queue(&queue->pump);
}

/* ---- queries ---- */

static struct auth_query *
auth_query_new(struct auth_queue *queue, size_t room)
{
	struct auth_query *q = mem_zalloc(sizeof(*q) + room * sizeof(q->places[0]));

	q->queue = queue;
	return q;
}

static void
auth_query_add(struct auth_query *q, struct auth_place *place)
{
	place->query = q;
	q->places[q->count++] = place;
	q->left++;
}

static void
auth_query_take_out(struct auth_query *q, size_t i)
{
	q->places[i]->query = NULL;
	q->places[i] = NULL;
	q->left--;
}

/* Nobody waits for it any more. */
static void
auth_query_abandon(struct auth_query *q)
{
	struct auth_queue *queue = q->queue;

	if (q->query != NULL) {
		pg_query_cancel(q->query);
		queue->under_way--;
	} else {
		TAILQ_REMOVE(&queue->again, q, entry);
	}
	free(q);
	auth_queue_look(queue);
}

/* ---- answers ---- */

static void
auth_place_answer(struct auth_queue *queue, struct auth_place *place, const struct auth_rows *rows)
{
	metrics[METRIC_AUTH_PENDING]--;
	queue->ops->answered(place, rows);
}

/* The rows from *row on that are of place i. */
static void
auth_query_answer(struct auth_query *q, size_t i, struct auth_rows *rows, int *row)
{
	struct auth_place *place = q->places[i];
	const char *index;

	rows->first = *row;
	while (*row < pg_result_rows(rows->result) &&
	       (index = pg_result_text(rows->result, *row, 0)) != NULL && strtoul(index, NULL, 10) == i + 1)
		++*row;
	rows->count = *row - rows->first;
	if (place == NULL)
		return;
	auth_query_take_out(q, i);
	auth_place_answer(q->queue, place, rows);
}

static void
auth_query_answer_all(struct auth_query *q, struct auth_rows rows)
{
	int row = 0;

	for (size_t i = 0; i < q->count; i++)
		auth_query_answer(q, i, &rows, &row);
}

/* Those that are late, or all of them. */
static void
auth_query_fail(struct auth_query *q, struct auth_rows rows, bool late_only)
{
	int64_t now = loop_now_ms();

	for (size_t i = 0; i < q->count; i++) {
		struct auth_place *place = q->places[i];

		if (place == NULL || (late_only && place->deadline_ms > now))
			continue;
		auth_query_take_out(q, i);
		auth_place_answer(q->queue, place, &rows);
	}
}

/* One of them may be to blame. What is left of it is asked again, ahead of what waits. */
static void
auth_query_part(struct auth_query *q)
{
	struct auth_query *half[2] = {auth_query_new(q->queue, q->left), auth_query_new(q->queue, q->left)};
	size_t left = q->left;

	for (size_t i = 0, n = 0; i < q->count; i++)
		if (q->places[i] != NULL)
			auth_query_add(half[n++ >= (left + 1) / 2], q->places[i]);
	for (int i = 1; i >= 0; i--) {
		if (half[i]->count > 0)
			TAILQ_INSERT_HEAD(&q->queue->again, half[i], entry);
		else
			free(half[i]);
	}
}

/* A query that was not full tells only whether it took long. */
static void
auth_queue_learn(struct auth_queue *queue, const struct auth_query *q, bool answered)
{
	int64_t since = q->sent_ms > queue->answered_ms ? q->sent_ms : queue->answered_ms;
	int64_t took_ms = loop_now_ms() - since;

	queue->answered_ms = loop_now_ms();
	if (!answered || took_ms > AUTH_LONG_MS)
		queue->most = queue->most > 1 ? queue->most / 2 : 1;
	else if (took_ms < AUTH_SHORT_MS && q->count >= queue->most && queue->most < AUTH_PLACES_MOST)
		queue->most *= 2;
}

static void
auth_query_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct auth_query *q = arg;
	struct auth_queue *queue = q->queue;
	struct auth_rows rows = {.status = status, .result = result, .error = error};

	q->query = NULL;
	q->answering = true;
	queue->under_way--;
	auth_queue_learn(queue, q, status != PG_QUERY_LOST);
	if (status != PG_QUERY_OK)
		auth_query_fail(q, rows, q->left > 1);
	else if (q->count == 1 || pg_result_rows(result) < AUTH_QUERY_ROWS)
		auth_query_answer_all(q, rows);
	if (q->left > 0)
		auth_query_part(q);
	free(q);
	auth_queue_look(queue);
}

/* ---- sending ---- */

static size_t
auth_place_prepare(struct auth_queue *queue, struct auth_place *place, const char *params[AUTH_QUEUE_PARAMS])
{
	size_t bytes = 0;

	queue->ops->prepare(place, params);
	for (int i = 0; i < queue->ops->params; i++)
		bytes += strlen(params[i]);
	return bytes;
}

static char *
auth_query_sql(const struct auth_query *q)
{
	char *sql = q->queue->ops->sql(), *bounded;

	if (q->count == 1)
		return sql;
	bounded = mem_printf("%s LIMIT %d", sql, AUTH_QUERY_ROWS);
	free(sql);
	return bounded;
}

static void
auth_query_send(struct auth_query *q, const char *parts[][AUTH_PLACES_MOST])
{
	struct auth_queue *queue = q->queue;
	char *sql = auth_query_sql(q), *params[AUTH_QUEUE_PARAMS] = {NULL};
	int64_t now = loop_now_ms(), deadline = INT64_MAX;

	for (int i = 0; i < queue->ops->params; i++)
		params[i] = pg_query_text_array(parts[i], q->count);
	for (size_t i = 0; i < q->count; i++) {
		q->places[i]->asked = auth_cache_version();
		if (q->places[i]->deadline_ms < deadline)
			deadline = q->places[i]->deadline_ms;
	}
	q->sent_ms = now;
	q->query = pg_query_ask(auth_pool(), sql, queue->ops->params, (const char *const *)params,
	    deadline > now ? (long)(deadline - now) : 1, auth_query_on_answer, q);
	queue->under_way++;
	metrics[METRIC_AUTH_QUERIES_TOTAL]++;
	metrics[METRIC_AUTH_QUESTIONS_TOTAL] += (double)q->count;
	for (int i = 0; i < queue->ops->params; i++)
		free(params[i]);
	free(sql);
}

/* A half: those that have left it in between leave no gap. */
static void
auth_queue_send_again(struct auth_queue *queue)
{
	const char *parts[AUTH_QUEUE_PARAMS][AUTH_PLACES_MOST], *own[AUTH_QUEUE_PARAMS];
	struct auth_query *q = TAILQ_FIRST(&queue->again);
	size_t count = 0;

	TAILQ_REMOVE(&queue->again, q, entry);
	for (size_t i = 0; i < q->count; i++) {
		if (q->places[i] == NULL)
			continue;
		auth_place_prepare(queue, q->places[i], own);
		for (int p = 0; p < queue->ops->params; p++)
			parts[p][count] = own[p];
		q->places[count++] = q->places[i];
	}
	q->count = count;
	auth_query_send(q, parts);
}

static void
auth_queue_send_next(struct auth_queue *queue)
{
	const char *parts[AUTH_QUEUE_PARAMS][AUTH_PLACES_MOST], *own[AUTH_QUEUE_PARAMS];
	struct auth_query *q = auth_query_new(queue, queue->most);
	struct auth_place *place;
	size_t bytes = 0;

	while (q->count < queue->most && (place = TAILQ_FIRST(&queue->waiting)) != NULL) {
		bytes += auth_place_prepare(queue, place, own);
		if (q->count > 0 && bytes > AUTH_QUERY_BYTES)
			break;
		TAILQ_REMOVE(&queue->waiting, place, entry);
		place->waits = false;
		for (int p = 0; p < queue->ops->params; p++)
			parts[p][q->count] = own[p];
		auth_query_add(q, place);
	}
	auth_query_send(q, parts);
}

/* Of those that wait the first ones are the oldest. */
static void
auth_queue_expire(struct auth_queue *queue)
{
	struct auth_rows rows = {.status = PG_QUERY_LOST, .error = "query_timeout passed"};
	int64_t now = loop_now_ms();
	struct auth_place *place;

	while ((place = TAILQ_FIRST(&queue->waiting)) != NULL && place->deadline_ms <= now) {
		TAILQ_REMOVE(&queue->waiting, place, entry);
		place->waits = false;
		auth_place_answer(queue, place, &rows);
	}
}

/* At the end of the turn. */
static void
auth_queue_pump(void *arg)
{
	struct auth_queue *queue = arg;

	auth_queue_expire(queue);
	while (queue->under_way < AUTH_QUERIES && !TAILQ_EMPTY(&queue->again))
		auth_queue_send_again(queue);
	while (queue->under_way < AUTH_QUERIES && !TAILQ_EMPTY(&queue->waiting))
		auth_queue_send_next(queue);
}

/* ---- public ---- */

void
auth_queue_init(struct auth_queue *queue, const struct auth_queue_ops *ops)
{
	memset(queue, 0, sizeof(*queue));
	queue->ops = ops;
	queue->most = AUTH_PLACES_FIRST;
	TAILQ_INIT(&queue->waiting);
	TAILQ_INIT(&queue->again);
	loop_task_init(&queue->pump, auth_queue_pump, queue);
}

void
auth_queue_free(struct auth_queue *queue)
{
	assert(TAILQ_EMPTY(&queue->waiting) && TAILQ_EMPTY(&queue->again) && queue->under_way == 0);
	loop_task_cancel(&queue->pump);
}

void
auth_queue_enter(struct auth_queue *queue, struct auth_place *place)
{
	assert(!place->waits && place->query == NULL);
	place->waits = true;
	place->deadline_ms = loop_now_ms() + conf.query_timeout_ms;
	TAILQ_INSERT_TAIL(&queue->waiting, place, entry);
	metrics[METRIC_AUTH_PENDING]++;
	loop_task_queue(&queue->pump);
}

void
auth_queue_leave(struct auth_queue *queue, struct auth_place *place)
{
	struct auth_query *q = place->query;

	metrics[METRIC_AUTH_PENDING] -= place->waits || q != NULL;
	if (place->waits)
		TAILQ_REMOVE(&queue->waiting, place, entry);
	place->waits = false;
	if (q == NULL)
		return;
	for (size_t i = 0; i < q->count; i++)
		if (q->places[i] == place)
			auth_query_take_out(q, i);
	if (q->left == 0 && !q->answering)
		auth_query_abandon(q);
}
