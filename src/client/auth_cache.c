/*
 * Answers by key, each in three places: a hash table, a list by use, and its user's list. Invariant: a user
 * has one answer at least. The last changes are in a ring, so that an answer which was under way is good in
 * spite of a change that was somebody else's.
 */
#include "config.h"
#include "client/auth_cache.h"
#include "core/conf.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#define AUTH_CACHE_CHANGES 64

struct cached_user {
	UT_hash_handle hh;
	int64_t id;
	LIST_HEAD(, cached_answer) answers;
};

struct cached_answer {
	UT_hash_handle hh;
	TAILQ_ENTRY(cached_answer) used;
	LIST_ENTRY(cached_answer) of_user;
	struct cached_user *user;
	int64_t until_ms;
	size_t bytes;
	struct slice answer;
	char octets[]; /* the key, and the answer behind it */
};

static struct {
	bool (*hears)(void);
	struct cached_answer *answers;
	struct cached_user *users;
	TAILQ_HEAD(cached_answers, cached_answer) used; /* the latest last */
	size_t bytes;
	uint64_t version, all_changed;
	int64_t changed[AUTH_CACHE_CHANGES]; /* whose was version n: at n modulo that */
} cache;

void
auth_cache_init(bool (*hears)(void))
{
	memset(&cache, 0, sizeof(cache));
	cache.hears = hears;
	TAILQ_INIT(&cache.used);
}

/* ---- answers ---- */

static struct cached_user *
auth_cache_user(int64_t id)
{
	struct cached_user *u;

	HASH_FIND(hh, cache.users, &id, sizeof(id), u);
	return u;
}

static struct cached_user *
auth_cache_user_new(int64_t id)
{
	struct cached_user *u = mem_zalloc(sizeof(*u));

	u->id = id;
	HASH_ADD(hh, cache.users, id, sizeof(u->id), u);
	return u;
}

static void
auth_cache_drop(struct cached_answer *a)
{
	struct cached_user *u = a->user;

	HASH_DEL(cache.answers, a);
	TAILQ_REMOVE(&cache.used, a, used);
	LIST_REMOVE(a, of_user);
	cache.bytes -= a->bytes;
	metrics[METRIC_AUTH_CACHE_ENTRIES]--;
	free(a);
	if (!LIST_EMPTY(&u->answers))
		return;
	HASH_DEL(cache.users, u);
	free(u);
}

static void
auth_cache_drop_all(void)
{
	struct cached_answer *a;

	while ((a = TAILQ_FIRST(&cache.used)) != NULL)
		auth_cache_drop(a);
}

void
auth_cache_free(void)
{
	auth_cache_drop_all();
}

/* ---- changes ---- */

uint64_t
auth_cache_version(void)
{
	return cache.version;
}

bool
auth_cache_has_changed(int64_t user_id, uint64_t since)
{
	if (since < cache.all_changed || cache.version - since > AUTH_CACHE_CHANGES)
		return true;
	for (uint64_t n = since + 1; n <= cache.version; n++)
		if (cache.changed[n % AUTH_CACHE_CHANGES] == user_id)
			return true;
	return false;
}

void
auth_cache_forget_user(int64_t user_id)
{
	struct cached_user *u = auth_cache_user(user_id);

	cache.changed[++cache.version % AUTH_CACHE_CHANGES] = user_id;
	if (u == NULL)
		return;
	while (LIST_NEXT(LIST_FIRST(&u->answers), of_user) != NULL)
		auth_cache_drop(LIST_FIRST(&u->answers));
	auth_cache_drop(LIST_FIRST(&u->answers)); /* and the user with its last one */
}

void
auth_cache_forget_all(void)
{
	cache.all_changed = ++cache.version;
	auth_cache_drop_all();
}

/* ---- finding and keeping ---- */

static bool
auth_cache_is_on(void)
{
	return conf.authenticate_cache_ms > 0 && (cache.hears == NULL || cache.hears());
}

static struct cached_answer *
auth_cache_get(struct slice key)
{
	struct cached_answer *a;

	HASH_FIND(hh, cache.answers, key.ptr, key.len, a);
	return a;
}

const struct slice *
auth_cache_find(struct slice key, int64_t now_ms)
{
	struct cached_answer *a = auth_cache_is_on() ? auth_cache_get(key) : NULL;

	if (a != NULL && now_ms >= a->until_ms) {
		auth_cache_drop(a);
		a = NULL;
	}
	if (a == NULL)
		return NULL;
	TAILQ_REMOVE(&cache.used, a, used);
	TAILQ_INSERT_TAIL(&cache.used, a, used);
	return &a->answer;
}

static void
auth_cache_add(struct slice key, int64_t user_id, struct slice answer, int64_t until_ms)
{
	struct cached_answer *a = mem_zalloc(sizeof(*a) + key.len + answer.len);
	struct cached_user *u = auth_cache_user(user_id);

	memcpy(a->octets, key.ptr, key.len);
	if (answer.len > 0)
		memcpy(a->octets + key.len, answer.ptr, answer.len);
	a->answer = (struct slice){a->octets + key.len, answer.len};
	a->until_ms = until_ms;
	a->bytes = sizeof(*a) + key.len + answer.len;
	a->user = u != NULL ? u : auth_cache_user_new(user_id);
	LIST_INSERT_HEAD(&a->user->answers, a, of_user);
	TAILQ_INSERT_TAIL(&cache.used, a, used);
	HASH_ADD_KEYPTR(hh, cache.answers, a->octets, key.len, a);
	cache.bytes += a->bytes;
	metrics[METRIC_AUTH_CACHE_ENTRIES]++;
}

void
auth_cache_keep(
    struct slice key, int64_t user_id, struct slice answer, int64_t life_ms, uint64_t asked, int64_t now_ms)
{
	struct cached_answer *former = auth_cache_get(key);

	if (former != NULL)
		auth_cache_drop(former);
	if (!auth_cache_is_on() || life_ms == 0 || auth_cache_has_changed(user_id, asked))
		return;
	if (life_ms < 0 || life_ms > conf.authenticate_cache_ms)
		life_ms = conf.authenticate_cache_ms;
	auth_cache_add(key, user_id, answer, now_ms + life_ms);
	while (HASH_COUNT(cache.answers) > AUTH_CACHE_ENTRIES || cache.bytes > AUTH_CACHE_BYTES)
		auth_cache_drop(TAILQ_FIRST(&cache.used));
}
