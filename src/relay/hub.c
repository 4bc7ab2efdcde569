/*
 * The pattern index.
 *
 * A pattern is three parts, each a literal or '*': eight shapes. The table is one chained hash over all
 * shapes; an event is looked up once for each shape that is in use. Each pattern heads the list of its
 * subscriptions; a subscription is in that list and in its member's, so both are taken apart without
 * searching. The hash is seeded: keys come from clients.
 */
#include "config.h"
#include "relay/hub.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define HUB_SHAPES      8 /* bit 0: type is literal, bit 1: action, bit 2: key */
#define HUB_MIN_BUCKETS 64

struct hub_subscription {
	struct hub_subscription *next_of_pattern, **prev_of_pattern;
	struct hub_subscription *next_of_member;
	struct hub_pattern *pattern;
	struct hub_member *member;
	bool wanted;
};

struct hub_pattern {
	struct hub_pattern *next; /* in the bucket */
	struct hub_subscription *subscriptions;
	struct hub_subscription
	    *found; /* while hub_set_patterns() runs, or a member is selected: its subscription */
	uint32_t hash;
	uint8_t shape, type_len, action_len;
	uint16_t key_len;
	char text[]; /* type, action, key without separators */
};

static struct {
	struct hub_pattern **buckets;
	size_t bucket_count, pattern_count;
	size_t shape_counts[HUB_SHAPES];
	uint64_t seed;
	uint64_t stamp;
} hub;

/* ---- hashing ---- */

static uint64_t
hub_mix(uint64_t h, uint64_t v)
{
	__uint128_t product =
	    (__uint128_t)(h ^ v ^ UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t
hub_hash_part(struct slice part, uint64_t salt)
{
	uint64_t h = hub_mix(hub.seed ^ salt, part.len);
	const char *p = part.ptr;
	size_t left = part.len;

	for (; left >= 8; p += 8, left -= 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		h = hub_mix(h, v);
	}
	if (left > 0) {
		uint64_t v = 0;

		memcpy(&v, p, left);
		h = hub_mix(h, v);
	}
	return h;
}

struct hub_hashes {
	uint64_t part[3];
};

static void
hub_hash_topic(const struct topic *t, struct hub_hashes *h)
{
	h->part[0] = hub_hash_part(t->type, 1);
	h->part[1] = hub_hash_part(t->action, 2);
	h->part[2] = hub_hash_part(t->key, 3);
}

static uint32_t
hub_hash_shape(const struct hub_hashes *h, unsigned shape)
{
	uint64_t sum = shape;

	for (unsigned i = 0; i < 3; i++)
		if (shape & (1u << i))
			sum += h->part[i];
	return (uint32_t)(hub_mix(sum, hub.seed) >> 32);
}

static unsigned
hub_shape(const struct topic *pattern)
{
	return (topic_is_wildcard(pattern->type) ? 0 : 1u) | (topic_is_wildcard(pattern->action) ? 0 : 2u) |
	       (topic_is_wildcard(pattern->key) ? 0 : 4u);
}

/* ---- the table ---- */

static bool
hub_part_equals(const char *text, size_t len, struct slice part)
{
	return len == part.len && memcmp(text, part.ptr, len) == 0;
}

static bool
hub_pattern_equals(const struct hub_pattern *p, unsigned shape, const struct topic *t)
{
	return p->shape == shape && (!(shape & 1) || hub_part_equals(p->text, p->type_len, t->type)) &&
	       (!(shape & 2) || hub_part_equals(p->text + p->type_len, p->action_len, t->action)) &&
	       (!(shape & 4) || hub_part_equals(p->text + p->type_len + p->action_len, p->key_len, t->key));
}

static struct hub_pattern *
hub_find(uint32_t hash, unsigned shape, const struct topic *t)
{
	struct hub_pattern *p = hub.buckets[hash & (hub.bucket_count - 1)];

	while (p != NULL && !(p->hash == hash && hub_pattern_equals(p, shape, t)))
		p = p->next;
	return p;
}

static void
hub_link(struct hub_pattern *p)
{
	struct hub_pattern **bucket = &hub.buckets[p->hash & (hub.bucket_count - 1)];

	p->next = *bucket;
	*bucket = p;
}

static void
hub_resize(size_t bucket_count)
{
	struct hub_pattern **old = hub.buckets;
	size_t old_count = hub.bucket_count;

	hub.buckets = mem_zalloc(bucket_count * sizeof(struct hub_pattern *));
	hub.bucket_count = bucket_count;
	for (size_t i = 0; i < old_count; i++) {
		struct hub_pattern *next;

		for (struct hub_pattern *p = old[i]; p != NULL; p = next) {
			next = p->next;
			hub_link(p);
		}
	}
	free(old);
}

static struct hub_pattern *
hub_pattern_new(const struct topic *t, unsigned shape, uint32_t hash)
{
	size_t type_len = shape & 1 ? t->type.len : 0, action_len = shape & 2 ? t->action.len : 0,
	       key_len = shape & 4 ? t->key.len : 0;
	struct hub_pattern *p = mem_alloc(sizeof(*p) + type_len + action_len + key_len);

	*p = (struct hub_pattern){.hash = hash,
	    .shape = (uint8_t)shape,
	    .type_len = (uint8_t)type_len,
	    .action_len = (uint8_t)action_len,
	    .key_len = (uint16_t)key_len};
	memcpy(p->text, t->type.ptr, type_len);
	memcpy(p->text + type_len, t->action.ptr, action_len);
	memcpy(p->text + type_len + action_len, t->key.ptr, key_len);
	return p;
}

static struct hub_pattern *
hub_intern(const struct topic *t)
{
	struct hub_hashes hashes;
	unsigned shape = hub_shape(t);
	struct hub_pattern *p;
	uint32_t hash;

	hub_hash_topic(t, &hashes);
	hash = hub_hash_shape(&hashes, shape);
	p = hub_find(hash, shape, t);
	if (p != NULL)
		return p;
	if (hub.pattern_count >= hub.bucket_count)
		hub_resize(hub.bucket_count * 2);
	p = hub_pattern_new(t, shape, hash);
	hub_link(p);
	hub.shape_counts[shape]++;
	hub.pattern_count++;
	metrics[METRIC_PATTERNS]++;
	return p;
}

static void
hub_forget(struct hub_pattern *p)
{
	struct hub_pattern **at = &hub.buckets[p->hash & (hub.bucket_count - 1)];

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	hub.shape_counts[p->shape]--;
	hub.pattern_count--;
	metrics[METRIC_PATTERNS]--;
	free(p);
	if (hub.bucket_count > HUB_MIN_BUCKETS && hub.pattern_count < hub.bucket_count / 8)
		hub_resize(hub.bucket_count / 2);
}

void
hub_init(void)
{
	if (RAND_bytes((unsigned char *)&hub.seed, sizeof(hub.seed)) != 1)
		log_fatal("no random numbers are to be had");
	hub_resize(HUB_MIN_BUCKETS);
}

void
hub_free(void)
{
	assert(hub.pattern_count == 0);
	free(hub.buckets);
	memset(&hub, 0, sizeof(hub));
}

/* ---- subscriptions ---- */

static void
hub_subscribe(struct hub_member *m, struct hub_pattern *p)
{
	struct hub_subscription *s = mem_alloc(sizeof(*s));

	*s = (struct hub_subscription){p->subscriptions, &p->subscriptions, m->subscriptions, p, m, true};
	if (p->subscriptions != NULL)
		p->subscriptions->prev_of_pattern = &s->next_of_pattern;
	p->subscriptions = s;
	m->subscriptions = s;
	p->found = s;
	m->count++;
	metrics[METRIC_SUBSCRIPTIONS]++;
}

/* s is out of its member's list already. */
static void
hub_unsubscribe(struct hub_subscription *s)
{
	struct hub_pattern *p = s->pattern;

	*s->prev_of_pattern = s->next_of_pattern;
	if (s->next_of_pattern != NULL)
		s->next_of_pattern->prev_of_pattern = s->prev_of_pattern;
	s->member->count--;
	metrics[METRIC_SUBSCRIPTIONS]--;
	free(s);
	if (p->subscriptions == NULL)
		hub_forget(p);
}

void
hub_set_patterns(struct hub_member *m, const struct topic *patterns, size_t count)
{
	struct hub_subscription **at;

	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member) {
		s->wanted = false;
		s->pattern->found = s;
	}
	for (size_t i = 0; i < count; i++) {
		struct hub_pattern *p = hub_intern(&patterns[i]);

		if (p->found == NULL)
			hub_subscribe(m, p);
		p->found->wanted = true;
	}
	for (at = &m->subscriptions; *at != NULL;) {
		struct hub_subscription *s = *at;

		s->pattern->found = NULL;
		if (s->wanted) {
			at = &s->next_of_member;
		} else {
			*at = s->next_of_member;
			hub_unsubscribe(s);
		}
	}
}

static struct topic
hub_pattern_topic(const struct hub_pattern *p)
{
	static const struct slice any = {"*", 1};
	const char *action = p->text + p->type_len, *key = action + p->action_len;

	return (struct topic){p->shape & 1 ? (struct slice){p->text, p->type_len} : any,
	    p->shape & 2 ? (struct slice){action, p->action_len} : any,
	    p->shape & 4 ? (struct slice){key, p->key_len} : any};
}

static bool
hub_has_listed(const struct topic *patterns, size_t count, const struct hub_pattern *p)
{
	for (size_t i = 0; i < count; i++)
		if (hub_shape(&patterns[i]) == p->shape && hub_pattern_equals(p, p->shape, &patterns[i]))
			return true;
	return false;
}

size_t
hub_list(const struct hub_member *m, struct topic *patterns, size_t count, size_t max)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL && count <= max;
	     s = s->next_of_member) {
		if (hub_has_listed(patterns, count, s->pattern))
			continue;
		if (count < max)
			patterns[count] = hub_pattern_topic(s->pattern);
		count++;
	}
	return count;
}

/* ---- delivery ---- */

void
hub_select(const struct hub_member *m)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member)
		s->pattern->found = s;
}

void
hub_unselect(const struct hub_member *m)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member)
		s->pattern->found = NULL;
}

bool
hub_selects(const struct topic *t)
{
	struct hub_hashes hashes;

	hub_hash_topic(t, &hashes);
	for (unsigned shape = 0; shape < HUB_SHAPES; shape++) {
		const struct hub_pattern *p;

		if (hub.shape_counts[shape] == 0)
			continue;
		p = hub_find(hub_hash_shape(&hashes, shape), shape, t);
		if (p != NULL && p->found != NULL)
			return true;
	}
	return false;
}

static size_t
hub_deliver_pattern(const struct hub_pattern *p, struct msg *msg)
{
	size_t n = 0;

	for (struct hub_subscription *s = p->subscriptions; s != NULL; s = s->next_of_pattern) {
		if (s->member->stamp == hub.stamp)
			continue;
		s->member->stamp = hub.stamp;
		s->member->deliver(s->member, msg);
		n++;
	}
	return n;
}

size_t
hub_deliver(struct msg *msg)
{
	struct hub_hashes hashes;
	size_t n = 0;

	hub.stamp++;
	hub_hash_topic(msg->topic, &hashes);
	for (unsigned shape = 0; shape < HUB_SHAPES; shape++) {
		const struct hub_pattern *p;

		if (hub.shape_counts[shape] == 0)
			continue;
		p = hub_find(hub_hash_shape(&hashes, shape), shape, msg->topic);
		if (p != NULL)
			n += hub_deliver_pattern(p, msg);
	}
	metrics[METRIC_DELIVERIES_TOTAL] += (double)n;
	return n;
}
