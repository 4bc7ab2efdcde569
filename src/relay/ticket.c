/*
 * Tickets and the cache of their payloads.
 *
 * UNREAD -> READING -> READY -> UNREAD (let go by the cache) ...; READING -> FAILED when the log does not
 * have the payload any more, or has another one. While READING it is either fetched by the source or read from
 * the log. Losing the database session is no failure: the read is simply asked again. A payload is kept as its
 * AWX frame, from which the others are made when first asked for.
 */
#include "config.h"
#include "relay/ticket.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include <assert.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define TICKET_MAGIC       0x71c4e701u
#define TICKET_LOG_SECONDS 10
#define TICKET_CACHE_BYTES (64u * 1024 * 1024)

TAILQ_HEAD(ticket_waiters, ticket_waiter);

struct ticket {
	unsigned magic, refs;
	int64_t id;
	int64_t time_us; /* 0: not told */
	char *topic;
	size_t octets;
	char sha256[EVENT_SHA256_HEX];
	char *origin;
	enum ticket_state state;
	bool from_log;                      /* no other node is asked */
	struct span frames[MSG_FORM_COUNT]; /* READY: the AWX frame, and what others have been made */
	struct pg_query *query;             /* READING, from the log */
	void *fetch;                        /* READING, from elsewhere */
	struct ticket_waiters waiters;
	TAILQ_ENTRY(ticket) cached; /* READY */
	UT_hash_handle hh;          /* by id; hh.tbl is NULL when another one has its place */
};

static struct {
	struct pg_query_pool *pool;
	const struct ticket_source *source;
	struct ticket *by_id;
	TAILQ_HEAD(, ticket) list; /* READY ones, the one longest there first */
	size_t bytes;
} ticket_cache;

static void ticket_read(struct ticket *t);
static void ticket_read_log(struct ticket *t);

void
ticket_init(struct pg_query_pool *pool, const struct ticket_source *source)
{
	ticket_cache.pool = pool;
	ticket_cache.source = source;
	TAILQ_INIT(&ticket_cache.list);
}

/* A forged one, of another topic or length than the event's, must not get its payload. */
static struct ticket *
ticket_find(int64_t id, const char *topic, size_t octets, const char *sha256)
{
	struct ticket *t;

	HASH_FIND(hh, ticket_cache.by_id, &id, sizeof(id), t);
	return t != NULL && t->octets == octets && memcmp(t->sha256, sha256, sizeof(t->sha256)) == 0 &&
		       strcmp(t->topic, topic) == 0
		   ? t
		   : NULL;
}

/* A second one with the id of another event is somebody's forgery. */
static void
ticket_index(struct ticket *t)
{
	struct ticket *other;

	HASH_FIND(hh, ticket_cache.by_id, &t->id, sizeof(t->id), other);
	if (other == NULL)
		HASH_ADD(hh, ticket_cache.by_id, id, sizeof(t->id), t);
}

struct ticket *
ticket_new(int64_t id, const struct topic *topic, size_t octets, const char *sha256, struct slice origin)
{
	char *text = mem_printf("%.*s.%.*s.%.*s", (int)topic->type.len, topic->type.ptr,
	    (int)topic->action.len, topic->action.ptr, (int)topic->key.len, topic->key.ptr);
	struct ticket *t = ticket_find(id, text, octets, sha256);

	if (t != NULL) {
		free(text);
		t->refs++;
		return t;
	}
	t = mem_zalloc(sizeof(*t));
	t->magic = TICKET_MAGIC;
	t->refs = 1;
	t->id = id;
	t->octets = octets;
	t->topic = text;
	t->origin = mem_strndup(origin.ptr, origin.len);
	memcpy(t->sha256, sha256, sizeof(t->sha256));
	TAILQ_INIT(&t->waiters);
	ticket_index(t);
	return t;
}

void
ticket_set_time(struct ticket *t, int64_t time_us)
{
	assert(t->magic == TICKET_MAGIC);
	t->time_us = time_us;
}

struct slice
ticket_present(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC && t->state == TICKET_READY);
	return ticket_payload(t, t->frames[MSG_FORM_AWX]);
}

void
ticket_ref(struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	t->refs++;
}

/* It counts against the cache's bound. */
static struct span
ticket_keep(struct span frame)
{
	block_keep(frame.block);
	block_unref(frame.block);
	return frame;
}

static void
ticket_drop_frames(struct ticket *t)
{
	for (int i = 0; i < MSG_FORM_COUNT; i++) {
		if (t->frames[i].block == NULL)
			continue;
		ticket_cache.bytes -= t->frames[i].length;
		block_unkeep(t->frames[i].block);
		t->frames[i].block = NULL;
	}
}

/* The one place that changes the state. */
static void
ticket_enter(struct ticket *t, enum ticket_state state)
{
	if (t->state == TICKET_READY) {
		TAILQ_REMOVE(&ticket_cache.list, t, cached);
		ticket_drop_frames(t);
	}
	if (t->state == TICKET_READING)
		metrics[METRIC_TICKETS_PENDING]--;
	t->state = state;
	switch (state) {
	case TICKET_UNREAD:
	case TICKET_FAILED:
		break;
	case TICKET_READING:
		metrics[METRIC_TICKETS_PENDING]++;
		ticket_read(t);
		break;
	case TICKET_READY:
		TAILQ_INSERT_TAIL(&ticket_cache.list, t, cached);
		ticket_cache.bytes += t->frames[MSG_FORM_AWX].length;
		break;
	}
}

void
ticket_unref(struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC && t->refs > 0);
	if (--t->refs > 0)
		return;
	assert(TAILQ_EMPTY(&t->waiters));
	if (t->query != NULL)
		pg_query_cancel(t->query);
	if (t->fetch != NULL)
		ticket_cache.source->cancel(t->fetch);
	ticket_enter(t, TICKET_UNREAD);
	if (t->hh.tbl != NULL)
		HASH_DEL(ticket_cache.by_id, t);
	t->magic = 0;
	free(t->topic);
	free(t->origin);
	free(t);
}

const char *
ticket_topic(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	return t->topic;
}

size_t
ticket_octets(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	return t->octets;
}

int64_t
ticket_id(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	return t->id;
}

const char *
ticket_sha256(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	return t->sha256;
}

const char *
ticket_origin(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	return t->origin;
}

enum ticket_state
ticket_state(const struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	return t->state;
}

/* The newest stays, whatever its size: its waiters are about to take it. */
static void
ticket_trim_cache(void)
{
	struct ticket *oldest;

	while (ticket_cache.bytes > TICKET_CACHE_BYTES &&
	       (oldest = TAILQ_FIRST(&ticket_cache.list)) != NULL && TAILQ_NEXT(oldest, cached) != NULL)
		ticket_enter(oldest, TICKET_UNREAD);
}

static void
ticket_wake_waiters(struct ticket *t)
{
	struct ticket_waiter *w;

	ticket_ref(t); /* a waiter may drop the last reference */
	while ((w = TAILQ_FIRST(&t->waiters)) != NULL) {
		ticket_unwait(w);
		w->wake(w);
	}
	ticket_unref(t);
}

static void
ticket_digest(struct slice payload, char hex[EVENT_SHA256_HEX + 1])
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)payload.ptr, payload.len, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static bool
ticket_digest_is_right(const struct ticket *t, struct slice payload)
{
	char hex[EVENT_SHA256_HEX + 1];

	if (payload.len != t->octets)
		return false;
	ticket_digest(payload, hex);
	return memcmp(hex, t->sha256, sizeof(t->sha256)) == 0;
}

static void
ticket_fail(struct ticket *t, const char *reason)
{
	static struct log_limit limit;
	unsigned long more;

	if (!t->from_log && log_limit_pass(&limit, TICKET_LOG_SECONDS, &more))
		log_warning("query",
		    "the payload of event %lld is lost to its subscribers: %s (%lu more such losses)",
		    (long long)t->id, reason, more);
	metrics[METRIC_TICKETS_FAILED_TOTAL] += !t->from_log; /* else it is the asking node's to tell */
	ticket_enter(t, TICKET_FAILED);
	ticket_wake_waiters(t);
}

/* The payload is the right one. */
static void
ticket_take(struct ticket *t, struct slice payload)
{
	assert(payload.len == t->octets);
	t->frames[MSG_FORM_AWX] = ticket_keep(msg_make_frame(MSG_FORM_AWX, NULL, 0, payload));
	ticket_enter(t, TICKET_READY);
	ticket_trim_cache();
	ticket_wake_waiters(t);
}

static void
ticket_take_read(struct ticket *t, struct slice payload)
{
	if (!ticket_digest_is_right(t, payload)) {
		ticket_fail(t, "what the log holds is not what its ticket announced");
		return;
	}
	ticket_ref(t);
	ticket_take(t, payload);
	if (ticket_cache.source != NULL && t->state == TICKET_READY)
		ticket_cache.source->was_read(t);
	ticket_unref(t);
}

struct ticket *
ticket_new_of(int64_t id, const struct topic *topic, struct slice payload, struct slice origin)
{
	char hex[EVENT_SHA256_HEX + 1];
	struct ticket *t;

	ticket_digest(payload, hex);
	t = ticket_new(id, topic, payload.len, hex, origin);
	if (t->fetch != NULL)
		ticket_cache.source->cancel(t->fetch);
	if (t->fetch != NULL || t->state == TICKET_UNREAD) {
		t->fetch = NULL;
		ticket_take(t, payload);
	}
	return t;
}

/* lock_timeout and statement_timeout of the query session: somebody holds the log, which does not lose the
 * payload. */
static bool
ticket_ran_out_of_time(enum pg_query_status status, const PGresult *result)
{
	const char *state = status == PG_QUERY_ERROR ? pg_result_sqlstate(result) : "";

	return strcmp(state, "55P03") == 0 || strcmp(state, "57014") == 0;
}

static void
ticket_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct ticket *t = arg;

	assert(t->magic == TICKET_MAGIC && t->state == TICKET_READING);
	t->query = NULL;
	if (ticket_ran_out_of_time(status, result)) {
		ticket_read_log(t);
		return;
	}
	metrics[METRIC_TICKETS_READ_TOTAL]++;
	if (status != PG_QUERY_OK)
		ticket_fail(t, error);
	else if (pg_result_rows(result) == 0 || pg_result_text(result, 0, 0) == NULL)
		ticket_fail(t,
		    "the log does not hold it (any more); is the schema's setting \"retention\" too short?");
	else
		ticket_take_read(
		    t, (struct slice){pg_result_text(result, 0, 0), pg_result_length(result, 0, 0)});
}

/* Without a time-out: the subscribers wait for this payload, however long the database is away. */
static void
ticket_read_log(struct ticket *t)
{
	char id[24];
	const char *params[] = {id, t->topic};

	snprintf(id, sizeof(id), "%lld", (long long)t->id);
	t->query = pg_query_ask(ticket_cache.pool, "SELECT pgrelay.event_payload($1::bigint, $2)", 2, params,
	    0, ticket_on_answer, t);
}

static void
ticket_read(struct ticket *t)
{
	if (t->fetch == NULL && !t->from_log && ticket_cache.source != NULL)
		t->fetch = ticket_cache.source->fetch(t);
	if (t->fetch == NULL)
		ticket_read_log(t);
}

void
ticket_fetched(struct ticket *t, struct slice payload)
{
	assert(t->magic == TICKET_MAGIC && t->state == TICKET_READING && t->fetch != NULL);
	t->fetch = NULL;
	if (payload.ptr != NULL && ticket_digest_is_right(t, payload)) {
		metrics[METRIC_PAYLOADS_FETCHED_TOTAL]++;
		ticket_take(t, payload);
		return;
	}
	if (payload.ptr != NULL) {
		metrics[METRIC_PAYLOADS_WRONG_TOTAL]++;
		metrics[METRIC_PAYLOADS_FALLBACK_TOTAL]++;
		log_warning("cluster",
		    "what another node gave for event %lld is not what its ticket announced; the log is read",
		    (long long)t->id);
	}
	if (TAILQ_EMPTY(&t->waiters))
		ticket_enter(t, TICKET_UNREAD);
	else
		ticket_read_log(t);
}

struct slice
ticket_payload(const struct ticket *t, struct span frame)
{
	const uint8_t *end = block_data(frame.block) + frame.offset + frame.length;

	return (struct slice){(const char *)end - t->octets, t->octets};
}

/* Out of the AWX frame. */
static void
ticket_make_frame(struct ticket *t, enum msg_form form)
{
	struct topic topic;

	if (!topic_parse((struct slice){t->topic, strlen(t->topic)}, false, &topic))
		abort(); /* it was made of one */
	t->frames[form] =
	    ticket_keep(msg_make_frame(form, &topic, t->time_us, ticket_payload(t, t->frames[MSG_FORM_AWX])));
	ticket_cache.bytes += t->frames[form].length;
}

struct span
ticket_frame(struct ticket *t, enum msg_form form)
{
	struct span *frame = &t->frames[form];

	assert(t->magic == TICKET_MAGIC && t->state == TICKET_READY);
	if (frame->block == NULL)
		ticket_make_frame(t, form);
	block_ref(frame->block);
	return *frame;
}

void
ticket_prefetch(struct ticket *t)
{
	assert(t->magic == TICKET_MAGIC);
	if (t->state != TICKET_UNREAD || t->from_log || ticket_cache.source == NULL)
		return;
	t->fetch = ticket_cache.source->fetch(t);
	if (t->fetch != NULL)
		ticket_enter(t, TICKET_READING);
}

void
ticket_wait(struct ticket *t, struct ticket_waiter *w)
{
	assert(t->magic == TICKET_MAGIC && w->ticket == NULL);
	assert(t->state == TICKET_UNREAD || t->state == TICKET_READING);
	w->ticket = t;
	TAILQ_INSERT_TAIL(&t->waiters, w, entry);
	if (t->state == TICKET_UNREAD)
		ticket_enter(t, TICKET_READING);
}

bool
ticket_wait_for_log(struct ticket *t, struct ticket_waiter *w)
{
	assert(t->magic == TICKET_MAGIC);
	if (t->fetch != NULL)
		return false;
	t->from_log = true;
	ticket_wait(t, w);
	return true;
}

void
ticket_unwait(struct ticket_waiter *w)
{
	if (w->ticket == NULL)
		return;
	TAILQ_REMOVE(&w->ticket->waiters, w, entry);
	w->ticket = NULL;
}
