/*
 * Deliveries are remembered one by one, in a ring, in the order of time, and counted in an entry for each
 * different message. In an entry they have serial numbers, and each relay has its place among them: behind the
 * last one that it has brought as well. Invariant: an entry's deliveries in the ring are those from `first` up
 * to `end`, and there is at least one.
 */
#include "config.h"
#include "client/relay_dedup.h"
#include "core/log.h"
#include "core/mem.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define RELAY_DEDUP_RING_FIRST 1024

struct dedup_place {
	uint64_t relay;
	uint64_t next; /* the serial number of the next one that it may bring, too */
};

struct dedup_entry {
	uint8_t digest[SHA256_DIGEST_LENGTH];
	uint64_t first, end;
	struct dedup_place *places;
	size_t place_count;
	UT_hash_handle hh;
};

struct dedup_delivery {
	int64_t time_ms;
	struct dedup_entry *entry;
};

static struct {
	struct dedup_entry *entries;
	struct dedup_delivery *ring;
	size_t head, count, capacity;
} dedup;

/* ---- entries ---- */

static void
dedup_digest(const char *group, struct slice payload, uint8_t out[SHA256_DIGEST_LENGTH])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(ctx, group, strlen(group) + 1) != 1 ||
	    EVP_DigestUpdate(ctx, payload.ptr, payload.len) != 1 || EVP_DigestFinal_ex(ctx, out, NULL) != 1)
		log_fatal("could not compute a digest");
	EVP_MD_CTX_free(ctx);
}

static struct dedup_entry *
dedup_entry_find(const char *group, struct slice payload)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct dedup_entry *e;

	dedup_digest(group, payload, digest);
	HASH_FIND(hh, dedup.entries, digest, sizeof(digest), e);
	if (e != NULL)
		return e;
	e = mem_zalloc(sizeof(*e));
	memcpy(e->digest, digest, sizeof(digest));
	HASH_ADD(hh, dedup.entries, digest, sizeof(e->digest), e);
	return e;
}

static void
dedup_entry_free(struct dedup_entry *e)
{
	HASH_DEL(dedup.entries, e);
	free(e->places);
	free(e);
}

static struct dedup_place *
dedup_entry_place(struct dedup_entry *e, uint64_t relay)
{
	for (size_t i = 0; i < e->place_count; i++)
		if (e->places[i].relay == relay)
			return &e->places[i];
	e->places = mem_resize(e->places, (e->place_count + 1) * sizeof(*e->places));
	e->places[e->place_count] = (struct dedup_place){relay, e->first};
	return &e->places[e->place_count++];
}

/* ---- deliveries ---- */

static void
dedup_forget_oldest(void)
{
	struct dedup_entry *e = dedup.ring[dedup.head].entry;

	dedup.head = (dedup.head + 1) & (dedup.capacity - 1);
	dedup.count--;
	if (++e->first == e->end)
		dedup_entry_free(e);
}

void
relay_dedup_age(int64_t now_ms)
{
	while (dedup.count > 0 && dedup.ring[dedup.head].time_ms <= now_ms - RELAY_DEDUP_MS)
		dedup_forget_oldest();
}

static void
dedup_grow(void)
{
	size_t capacity = dedup.capacity > 0 ? 2 * dedup.capacity : RELAY_DEDUP_RING_FIRST;
	struct dedup_delivery *ring = mem_alloc(capacity * sizeof(*ring));

	for (size_t i = 0; i < dedup.count; i++)
		ring[i] = dedup.ring[(dedup.head + i) & (dedup.capacity - 1)];
	free(dedup.ring);
	dedup.ring = ring;
	dedup.head = 0;
	dedup.capacity = capacity;
}

static void
dedup_remember(struct dedup_entry *e, int64_t now_ms)
{
	if (dedup.count == dedup.capacity)
		dedup_grow();
	dedup.ring[(dedup.head + dedup.count++) & (dedup.capacity - 1)] = (struct dedup_delivery){now_ms, e};
	e->end++;
	if (dedup.count > RELAY_DEDUP_MAX)
		dedup_forget_oldest();
}

bool
relay_dedup_pass(uint64_t relay, const char *group, struct slice payload, int64_t now_ms)
{
	struct dedup_entry *e;
	struct dedup_place *place;
	bool fresh;

	relay_dedup_age(now_ms);
	e = dedup_entry_find(group, payload);
	place = dedup_entry_place(e, relay);
	if (place->next < e->first)
		place->next = e->first;
	fresh = place->next == e->end;
	place->next++;
	if (fresh)
		dedup_remember(e, now_ms);
	return fresh;
}

/* ---- relays ---- */

void
relay_dedup_forget(uint64_t relay)
{
	struct dedup_entry *e, *next;

	HASH_ITER(hh, dedup.entries, e, next)
	{
		for (size_t i = 0; i < e->place_count; i++) {
			if (e->places[i].relay != relay)
				continue;
			e->places[i] = e->places[--e->place_count];
			break;
		}
	}
}

size_t
relay_dedup_count(void)
{
	return dedup.count;
}

void
relay_dedup_free(void)
{
	while (dedup.count > 0)
		dedup_forget_oldest();
	free(dedup.ring);
	memset(&dedup, 0, sizeof(dedup));
}
