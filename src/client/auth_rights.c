/*
 * Asking what users may see, and what they may publish.
 *
 * Questions about one user that have not gone out are put as one, an auth_batch; those about several users go
 * out many at a time (auth_queue). Invariant: only a batch that has not been sent takes questions, so no
 * answer of the database is older than its question. A batch owns its patterns, each of them once; a question
 * points to them. One without questions is released.
 *
 * What is allowed of a pattern may be known already (auth_cache). A change of rights makes that forgotten
 * before sessions ask again.
 *
 * An answer is told to so many questions a turn, and what comes of it goes out before the next ones are: a
 * user may have thousands of sessions.
 */
#include "config.h"
#include "client/auth.h"
#include "client/auth_cache.h"
#include "client/auth_private.h"
#include "client/auth_queue.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#define AUTH_QUESTION_MAGIC 0xa9e57104u
#define AUTH_BATCH_PATTERNS 1000 /* a question that has more is alone */
#define AUTH_KEPT_PATTERNS  16   /* batches with more would push the others' out of the cache */
#define AUTH_TOLD_A_TURN    128
#define AUTH_RIGHTS_LEAST   10000 /* that a session may hold in any case */
#define AUTH_RIGHTS_EACH    10    /* for each group that it may be in */

struct auth_pattern {
	UT_hash_handle hh;
	size_t first, count;                 /* its rights, in the batch's; valid while it is answered */
	const struct auth_question *counted; /* this question has it already */
	char text[];
};

struct auth_question {
	unsigned magic;
	TAILQ_ENTRY(auth_question) entry;
	struct auth_batch *batch;
	auth_rights_done done;
	void *arg;
	size_t count;
	struct auth_pattern *patterns[];
};

struct auth_batch_key {
	int64_t user_id;
	int64_t publish; /* not to see; as wide as the other, for the key has no holes */
};

struct auth_batch {
	UT_hash_handle hh; /* while it takes questions */
	TAILQ_ENTRY(auth_batch) entry;
	struct auth_batch_key key;
	bool open; /* takes questions */
	struct auth_place place;
	char id[24], most[24], *array; /* what is sent */
	struct auth_pattern *patterns;
	struct auth_right
	    *rights; /* NULL before the answer; in the order of `requested`, their texts are ours */
	size_t right_count;
	struct loop_task tell;
	TAILQ_HEAD(, auth_question) questions;
};

static struct auth_batch *auth_open_batches;
static TAILQ_HEAD(, auth_batch) auth_unsent = TAILQ_HEAD_INITIALIZER(auth_unsent);
static struct loop_task auth_send_task;
static struct auth_queue auth_rights_queues[2]; /* to see, to publish */

static void auth_batch_tell(void *arg);

/* ---- batches ---- */

static struct auth_batch *
auth_batch_new(struct auth_batch_key key)
{
	struct auth_batch *b = mem_zalloc(sizeof(*b));

	b->key = key;
	TAILQ_INIT(&b->questions);
	loop_task_init(&b->tell, auth_batch_tell, b);
	return b;
}

static void
auth_batch_shut(struct auth_batch *b)
{
	if (b->open)
		HASH_DEL(auth_open_batches, b);
	b->open = false;
}

static struct auth_queue *
auth_batch_queue(const struct auth_batch *b)
{
	return &auth_rights_queues[b->key.publish];
}

static bool
auth_batch_is_under_way(const struct auth_batch *b)
{
	return b->place.waits || b->place.query != NULL;
}

static void
auth_batch_drop_rights(struct auth_batch *b)
{
	for (size_t i = 0; i < b->right_count; i++)
		free((char *)(uintptr_t)b->rights[i].allowed);
	free(b->rights);
	b->rights = NULL;
	b->right_count = 0;
}

static void
auth_batch_free(struct auth_batch *b)
{
	struct auth_pattern *p, *next;

	assert(TAILQ_EMPTY(&b->questions) && !b->open && !auth_batch_is_under_way(b));
	HASH_ITER(hh, b->patterns, p, next)
	{
		HASH_DEL(b->patterns, p);
		free(p);
	}
	auth_batch_drop_rights(b);
	free(b->array);
	free(b);
}

static struct auth_pattern *
auth_batch_find(const struct auth_batch *b, const char *text)
{
	struct auth_pattern *p;

	HASH_FIND_STR(b->patterns, text, p);
	return p;
}

static struct auth_pattern *
auth_batch_add(struct auth_batch *b, const char *text)
{
	struct auth_pattern *p = auth_batch_find(b, text);
	size_t len = strlen(text);

	if (p != NULL)
		return p;
	p = mem_zalloc(sizeof(*p) + len + 1);
	memcpy(p->text, text, len + 1);
	HASH_ADD_KEYPTR(hh, b->patterns, p->text, len, p);
	return p;
}

static bool
auth_batch_has_room(const struct auth_batch *b, const char *const *patterns, size_t count)
{
	size_t total = HASH_COUNT(b->patterns);

	if (total == 0 || total + count <= AUTH_BATCH_PATTERNS)
		return true;
	for (size_t i = 0; i < count && total <= AUTH_BATCH_PATTERNS; i++)
		total += auth_batch_find(b, patterns[i]) == NULL;
	return total <= AUTH_BATCH_PATTERNS;
}

static struct auth_batch *
auth_batch_for(struct auth_batch_key key, const char *const *patterns, size_t count)
{
	struct auth_batch *b;

	HASH_FIND(hh, auth_open_batches, &key, sizeof(key), b);
	if (b != NULL && auth_batch_has_room(b, patterns, count))
		return b;
	if (b != NULL)
		auth_batch_shut(b);
	b = auth_batch_new(key);
	b->open = true;
	HASH_ADD(hh, auth_open_batches, key, sizeof(b->key), b);
	TAILQ_INSERT_TAIL(&auth_unsent, b, entry);
	loop_task_queue(&auth_send_task);
	return b;
}

size_t
auth_rights_max(void)
{
	size_t most = AUTH_RIGHTS_EACH * (size_t)conf.max_groups;

	return most > AUTH_RIGHTS_LEAST ? most : AUTH_RIGHTS_LEAST;
}

/* So many rows a batch reads: a pattern without wildcards has one at most, and may be one of many. */
static size_t
auth_batch_rows_max(const struct auth_batch *b)
{
	return auth_rights_max() + HASH_COUNT(b->patterns);
}

/* ---- questions ---- */

static void
auth_question_enter(struct auth_question *q, struct auth_batch *b)
{
	q->batch = b;
	TAILQ_INSERT_TAIL(&b->questions, q, entry);
}

static void
auth_question_free(struct auth_question *q)
{
	q->magic = 0;
	free(q);
}

static struct auth_question *
auth_question_new(
    struct auth_batch_key key, const char *const *patterns, size_t count, auth_rights_done done, void *arg)
{
	struct auth_question *q = mem_zalloc(sizeof(*q) + count * sizeof(q->patterns[0]));
	struct auth_batch *b = auth_batch_for(key, patterns, count);

	q->magic = AUTH_QUESTION_MAGIC;
	q->done = done;
	q->arg = arg;
	q->count = count;
	for (size_t i = 0; i < count; i++)
		q->patterns[i] = auth_batch_add(b, patterns[i]);
	auth_question_enter(q, b);
	return q;
}

struct auth_question *
auth_authorize(int64_t user_id, const char *const *patterns, size_t count, auth_rights_done done, void *arg)
{
	return auth_question_new((struct auth_batch_key){user_id, false}, patterns, count, done, arg);
}

struct auth_question *
auth_authorize_publish(
    int64_t user_id, const char *const *patterns, size_t count, auth_rights_done done, void *arg)
{
	return auth_question_new((struct auth_batch_key){user_id, true}, patterns, count, done, arg);
}

void
auth_question_cancel(struct auth_question *q)
{
	struct auth_batch *b = q->batch;

	assert(q->magic == AUTH_QUESTION_MAGIC);
	TAILQ_REMOVE(&b->questions, q, entry);
	auth_question_free(q);
	if (!TAILQ_EMPTY(&b->questions) || !auth_batch_is_under_way(b))
		return; /* one of this turn is released at its end, one that is told likewise */
	auth_queue_leave(auth_batch_queue(b), &b->place);
	auth_batch_shut(b);
	auth_batch_free(b);
}

/* ---- answers ---- */

static int
auth_compare_rights(const void *a, const void *b)
{
	return strcmp(((const struct auth_right *)a)->requested, ((const struct auth_right *)b)->requested);
}

static void
auth_batch_add_right(struct auth_batch *b, const struct auth_pattern *p, const char *allowed)
{
	if ((b->right_count & (b->right_count - 1)) == 0) /* full, or none yet */
		b->rights = mem_resize(b->rights, sizeof(*b->rights) * (2 * b->right_count + 1));
	b->rights[b->right_count++] = (struct auth_right){p->text, mem_strdup(allowed)};
}

/* What was not asked for is left out. */
static void
auth_batch_read_right(struct auth_batch *b, const char *requested, const char *allowed)
{
	struct auth_pattern *p = requested != NULL ? auth_batch_find(b, requested) : NULL;

	if (requested == NULL || allowed == NULL)
		log_warning("query", "the function that authorizes returned a null; it is left out");
	else if (p != NULL)
		auth_batch_add_right(b, p, allowed);
}

static void
auth_batch_sort(struct auth_batch *b)
{
	if (b->right_count > 1)
		qsort(b->rights, b->right_count, sizeof(*b->rights), auth_compare_rights);
	for (size_t i = 0; i < b->right_count; i++) {
		struct auth_pattern *p = auth_batch_find(b, b->rights[i].requested);

		if (p->count++ == 0)
			p->first = i;
	}
}

static void
auth_batch_read(struct auth_batch *b, const struct auth_rows *rows)
{
	for (int i = rows->first; i < rows->first + rows->count; i++)
		auth_batch_read_right(
		    b, pg_result_text(rows->result, i, 1), pg_result_text(rows->result, i, 2));
	auth_batch_sort(b);
}

/* ---- what is known ---- */

/* The caller releases its ptr with free(). */
static struct slice
auth_batch_known_key(const struct auth_batch *b, const struct auth_pattern *p)
{
	size_t text_len = strlen(p->text), len = 1 + sizeof(b->key) + text_len;
	char *key = mem_alloc(len);

	key[0] = 'r'; /* tells it from the keys of tokens */
	memcpy(key + 1, &b->key, sizeof(b->key));
	memcpy(key + 1 + sizeof(b->key), p->text, text_len);
	return (struct slice){key, len};
}

/* What is allowed, each text with its end. Nothing is no answer to keep. */
static void
auth_batch_keep_pattern(const struct auth_batch *b, const struct auth_pattern *p)
{
	struct slice key = auth_batch_known_key(b, p);
	size_t len = 0;
	char *answer, *at;

	for (size_t i = p->first; i < p->first + p->count; i++)
		len += strlen(b->rights[i].allowed) + 1;
	at = answer = mem_alloc(len);
	for (size_t i = p->first; i < p->first + p->count; i++)
		at = stpcpy(at, b->rights[i].allowed) + 1;
	auth_cache_keep(key, b->key.user_id, (struct slice){answer, len}, -1, b->place.asked, loop_now_ms());
	free(answer);
	free((char *)(uintptr_t)key.ptr);
}

static void
auth_batch_keep(const struct auth_batch *b)
{
	struct auth_pattern *p, *next;

	if (HASH_COUNT(b->patterns) > AUTH_KEPT_PATTERNS)
		return;
	HASH_ITER(hh, b->patterns, p, next)
	{
		if (p->count > 0)
			auth_batch_keep_pattern(b, p);
	}
}

static bool
auth_batch_recall_pattern(struct auth_batch *b, const struct auth_pattern *p)
{
	struct slice key = auth_batch_known_key(b, p);
	const struct slice *answer = auth_cache_find(key, loop_now_ms());

	free((char *)(uintptr_t)key.ptr);
	if (answer == NULL)
		return false;
	for (size_t at = 0; at < answer->len; at += strlen(answer->ptr + at) + 1)
		auth_batch_add_right(b, p, answer->ptr + at);
	return true;
}

/* True when all of them are known; they are its rights then. */
static bool
auth_batch_recall(struct auth_batch *b)
{
	bool known = HASH_COUNT(b->patterns) <= AUTH_KEPT_PATTERNS;
	struct auth_pattern *p, *next;

	HASH_ITER(hh, b->patterns, p, next)
	{
		known = known && auth_batch_recall_pattern(b, p);
	}
	metrics[known ? METRIC_AUTH_CACHE_HITS_TOTAL : METRIC_AUTH_CACHE_MISSES_TOTAL]++;
	if (known)
		auth_batch_sort(b);
	else
		auth_batch_drop_rights(b);
	return known;
}

/* ---- telling ---- */

/* The question's part of them. */
static void
auth_question_answer(struct auth_question *q, const struct auth_right *all)
{
	size_t size = 0, count = 0;
	struct auth_right *rights;
	struct auth_answer answer = {PG_QUERY_OK, NULL, 0, "", false};

	for (size_t i = 0; i < q->count; i++)
		size += q->patterns[i]->count;
	rights = mem_alloc(sizeof(*rights) * size);
	for (size_t i = 0; i < q->count; i++) {
		struct auth_pattern *p = q->patterns[i];

		if (p->counted == q || p->count == 0)
			continue;
		p->counted = q;
		memcpy(&rights[count], &all[p->first], p->count * sizeof(*rights));
		count += p->count;
	}
	answer.rights = rights;
	answer.count = count;
	answer.too_many = count > auth_rights_max();
	q->done(q->arg, &answer);
	free(rights);
}

static struct auth_question *
auth_batch_take_first(struct auth_batch *b)
{
	struct auth_question *q = TAILQ_FIRST(&b->questions);

	if (q != NULL)
		TAILQ_REMOVE(&b->questions, q, entry);
	return q;
}

/* Releases the batch when all have been told. */
static void
auth_batch_tell(void *arg)
{
	struct auth_batch *b = arg;
	struct auth_question *q;

	for (int n = 0; n < AUTH_TOLD_A_TURN && (q = auth_batch_take_first(b)) != NULL; n++) {
		auth_question_answer(q, b->rights);
		auth_question_free(q);
	}
	if (TAILQ_EMPTY(&b->questions))
		auth_batch_free(b);
	else
		loop_task_queue(&b->tell);
}

static void
auth_batch_fail(struct auth_batch *b, struct auth_answer answer)
{
	struct auth_question *q;

	while ((q = auth_batch_take_first(b)) != NULL) {
		q->done(q->arg, &answer);
		auth_question_free(q);
	}
}

/* The server refused to answer, or has too much to say: one of several may be to blame. Each is asked by
 * itself. */
static void
auth_batch_part(struct auth_batch *b)
{
	struct auth_question *q;

	while ((q = auth_batch_take_first(b)) != NULL) {
		struct auth_batch *alone = auth_batch_new(b->key);

		for (size_t i = 0; i < q->count; i++)
			q->patterns[i] = auth_batch_add(alone, q->patterns[i]->text);
		auth_question_enter(q, alone);
		auth_queue_enter(auth_batch_queue(alone), &alone->place);
	}
}

static struct auth_batch *
auth_batch_of(struct auth_place *place)
{
	return (struct auth_batch *)((char *)place - offsetof(struct auth_batch, place));
}

static void
auth_batch_on_rows(struct auth_place *place, const struct auth_rows *rows)
{
	struct auth_batch *b = auth_batch_of(place);

	bool too_many = rows->status == PG_QUERY_OK && (size_t)rows->count > auth_batch_rows_max(b);

	auth_batch_shut(b); /* it may not have gone out in time */
	if (rows->status == PG_QUERY_OK && !too_many) {
		auth_batch_read(b, rows);
		auth_batch_keep(b);
		auth_batch_tell(b);
		return;
	}
	if (rows->status != PG_QUERY_LOST && TAILQ_NEXT(TAILQ_FIRST(&b->questions), entry) != NULL)
		auth_batch_part(b);
	else
		auth_batch_fail(b, (struct auth_answer){rows->status, NULL, 0, rows->error, too_many});
	auth_batch_free(b);
}

/* ---- sending ---- */

static char *
auth_batch_array(const struct auth_batch *b)
{
	const char **texts = mem_alloc(sizeof(*texts) * HASH_COUNT(b->patterns));
	struct auth_pattern *p, *next;
	size_t count = 0;
	char *array;

	HASH_ITER(hh, b->patterns, p, next)
	{
		texts[count++] = p->text;
	}
	array = pg_query_text_array(texts, count);
	free(texts);
	return array;
}

static void
auth_batch_prepare(struct auth_place *place, const char *params[AUTH_QUEUE_PARAMS])
{
	struct auth_batch *b = auth_batch_of(place);

	auth_batch_shut(b);
	snprintf(b->id, sizeof(b->id), "%" PRId64, b->key.user_id);
	snprintf(b->most, sizeof(b->most), "%zu", auth_batch_rows_max(b) + 1);
	if (b->array == NULL)
		b->array = auth_batch_array(b);
	params[0] = b->id;
	params[1] = b->array;
	params[2] = b->most;
}

static char *
auth_rights_sql(const char *function)
{
	return mem_printf(
	    "SELECT q.n, a.requested, a.allowed FROM unnest($1::bigint[], $2::text[], $3::bigint[]) "
	    "WITH ORDINALITY AS q (user_id, patterns, most, n) "
	    "CROSS JOIN LATERAL (SELECT r.requested, r.allowed "
	    "FROM %s(q.user_id, q.patterns::text[]) AS r LIMIT q.most) AS a ORDER BY q.n",
	    function);
}

static char *
auth_see_sql(void)
{
	return auth_rights_sql(conf.authorize_function);
}

static char *
auth_publish_sql(void)
{
	return auth_rights_sql("pgrelay.authorize_publish");
}

static const struct auth_queue_ops auth_rights_ops[2] = {
    {3, auth_see_sql, auth_batch_prepare, auth_batch_on_rows},
    {3, auth_publish_sql, auth_batch_prepare, auth_batch_on_rows},
};

/* At the end of the turn. */
static void
auth_rights_send(void *arg)
{
	struct auth_batch *b;

	while ((b = TAILQ_FIRST(&auth_unsent)) != NULL) {
		TAILQ_REMOVE(&auth_unsent, b, entry);
		if (!TAILQ_EMPTY(&b->questions) && !auth_batch_recall(b)) {
			auth_queue_enter(auth_batch_queue(b), &b->place);
			continue;
		}
		auth_batch_shut(b);
		if (TAILQ_EMPTY(&b->questions))
			auth_batch_free(b);
		else
			auth_batch_tell(b);
	}
}

/* ---- life ---- */

void
auth_rights_init(void)
{
	loop_task_init(&auth_send_task, auth_rights_send, NULL);
	for (size_t i = 0; i < ARRAY_LENGTH(auth_rights_queues); i++)
		auth_queue_init(&auth_rights_queues[i], &auth_rights_ops[i]);
}

void
auth_rights_free(void)
{
	struct auth_batch *b;

	loop_task_cancel(&auth_send_task);
	while ((b = TAILQ_FIRST(&auth_unsent)) != NULL) {
		TAILQ_REMOVE(&auth_unsent, b, entry);
		auth_batch_shut(b);
		auth_batch_free(b);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(auth_rights_queues); i++)
		auth_queue_free(&auth_rights_queues[i]);
}
