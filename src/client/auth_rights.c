/*
 * Asking what users may see, and what they may publish.
 *
 * Questions about one user that are asked in the same turn of the loop share a query, an auth_batch. Invariant:
 * only a batch that has not been sent takes questions, so no answer is older than its question: rights may have
 * changed in between. A batch owns its patterns, each of them once; a question points to them. One without
 * questions is released.
 *
 * An answer is told to so many questions a turn, and what comes of it goes out before the next ones are: a user
 * may have thousands of sessions.
 */
#include "config.h"
#include "client/auth.h"
#include "client/auth_private.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#define AUTH_QUESTION_MAGIC 0xa9e57104u
#define AUTH_BATCH_PATTERNS 1000 /* a question that has more is alone */
#define AUTH_TOLD_A_TURN    128

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
	bool open;              /* takes questions */
	struct pg_query *query; /* NULL: not sent, or answered */
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

static void
auth_batch_free(struct auth_batch *b)
{
	struct auth_pattern *p, *next;

	assert(TAILQ_EMPTY(&b->questions) && !b->open && b->query == NULL);
	HASH_ITER(hh, b->patterns, p, next)
	{
		HASH_DEL(b->patterns, p);
		free(p);
	}
	for (size_t i = 0; i < b->right_count; i++)
		free((char *)(uintptr_t)b->rights[i].allowed);
	free(b->rights);
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
	if (!TAILQ_EMPTY(&b->questions) || b->query == NULL)
		return; /* one that has not been sent is released when it is to be, one that is told likewise */
	pg_query_cancel(b->query);
	b->query = NULL;
	auth_batch_free(b);
}

/* ---- answers ---- */

static int
auth_compare_rights(const void *a, const void *b)
{
	return strcmp(((const struct auth_right *)a)->requested, ((const struct auth_right *)b)->requested);
}

/* What was not asked for is left out. */
static void
auth_batch_add_right(struct auth_batch *b, const char *requested, const char *allowed)
{
	struct auth_pattern *p = requested != NULL ? auth_batch_find(b, requested) : NULL;

	if (requested == NULL || allowed == NULL)
		log_warning("query", "the function that authorizes returned a null; it is left out");
	else if (p != NULL)
		b->rights[b->right_count++] = (struct auth_right){p->text, mem_strdup(allowed)};
}

static void
auth_batch_read(struct auth_batch *b, const PGresult *result)
{
	b->rights = mem_alloc(sizeof(*b->rights) * (size_t)pg_result_rows(result));
	for (int i = 0; i < pg_result_rows(result); i++)
		auth_batch_add_right(b, pg_result_text(result, i, 0), pg_result_text(result, i, 1));
	qsort(b->rights, b->right_count, sizeof(*b->rights), auth_compare_rights);
	for (size_t i = 0; i < b->right_count; i++) {
		struct auth_pattern *p = auth_batch_find(b, b->rights[i].requested);

		if (p->count++ == 0)
			p->first = i;
	}
}

/* The question's part of them. */
static void
auth_question_answer(struct auth_question *q, const struct auth_right *all)
{
	size_t size = 0, count = 0;
	struct auth_right *rights;
	struct auth_answer answer = {PG_QUERY_OK, NULL, 0, ""};

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
auth_batch_fail(struct auth_batch *b, enum pg_query_status status, const char *error)
{
	struct auth_answer answer = {status, NULL, 0, error};
	struct auth_question *q;

	while ((q = auth_batch_take_first(b)) != NULL) {
		q->done(q->arg, &answer);
		auth_question_free(q);
	}
}

static void auth_batch_send(struct auth_batch *b);

/* The server refused to answer: one of several may be to blame. Each is asked by itself. */
static void
auth_batch_part(struct auth_batch *b)
{
	struct auth_question *q;

	while ((q = auth_batch_take_first(b)) != NULL) {
		struct auth_batch *alone = auth_batch_new(b->key);

		for (size_t i = 0; i < q->count; i++)
			q->patterns[i] = auth_batch_add(alone, q->patterns[i]->text);
		auth_question_enter(q, alone);
		auth_batch_send(alone);
	}
}

static void
auth_batch_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct auth_batch *b = arg;

	b->query = NULL;
	if (status == PG_QUERY_OK) {
		auth_batch_read(b, result);
		auth_batch_tell(b);
		return;
	}
	if (status == PG_QUERY_ERROR && TAILQ_NEXT(TAILQ_FIRST(&b->questions), entry) != NULL)
		auth_batch_part(b);
	else
		auth_batch_fail(b, status, error);
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
auth_batch_send(struct auth_batch *b)
{
	char *sql = mem_printf("SELECT requested, allowed FROM %s($1::bigint, $2::text[])",
	    b->key.publish ? "pgrelay.authorize_publish" : conf.authorize_function);
	char *array = auth_batch_array(b);
	char id[24];
	const char *params[] = {id, array};

	snprintf(id, sizeof(id), "%" PRId64, b->key.user_id);
	b->query =
	    pg_query_ask(auth_pool(), sql, 2, params, (long)conf.query_timeout_ms, auth_batch_on_answer, b);
	free(array);
	free(sql);
}

/* At the end of the turn. */
static void
auth_rights_send(void *arg)
{
	struct auth_batch *b;

	while ((b = TAILQ_FIRST(&auth_unsent)) != NULL) {
		TAILQ_REMOVE(&auth_unsent, b, entry);
		auth_batch_shut(b);
		if (TAILQ_EMPTY(&b->questions))
			auth_batch_free(b);
		else
			auth_batch_send(b);
	}
}

/* ---- life ---- */

void
auth_rights_init(void)
{
	loop_task_init(&auth_send_task, auth_rights_send, NULL);
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
}
