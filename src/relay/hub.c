/*
 * The pattern index.
 *
 * A pattern is three parts, each a literal or '*': eight shapes. The table is one chained hash over all
 * shapes; an event is looked up once for each shape that is in use. Each pattern heads the list of its
 * subscriptions; a subscription is in that list and in its member's, so both are taken apart without
 * searching. The hash is seeded: keys come from clients.
 *
 * Most events match few patterns, and there may be very many: so each bucket has a set of 32 bits, in which
 * each pattern in it has three, by its hash. These sets lie close together, in the processor's cache, while
 * each pattern that is looked at is far away. Most patterns have one subscription, which lies in them.
 */
#include "config.h"
#include "relay/hub.h"
#include "client/drp_event.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/slab.h"
#include "relay/ticket.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Of a shape, bit 0: the type is a literal, bit 1: the action, bit 2: the key. */
#define HUB_ALL_SHAPES   0xffu
#define HUB_TYPED_SHAPES 0xaau /* bit 0 of the shape */
#define HUB_MIN_BUCKETS  64

struct hub_subscription {
	struct hub_subscription *next_of_pattern, **prev_of_pattern;
	struct hub_subscription *next_of_member;
	struct hub_pattern *pattern;
	struct hub_member *member;
};

struct hub_pattern {
	struct hub_pattern *next; /* in the bucket */
	uint32_t hash;
	uint16_t key_len;
	uint8_t shape, type_len;
	struct hub_subscription *subscriptions;
	struct hub_subscription own; /* one of them; without a member: none */
	uint8_t action_len;
	bool found;  /* while patterns change, or a member is selected: the member has it */
	bool wanted; /* while they change: it is to stay */
	char text[]; /* type, action, key without separators */
};

static struct {
	struct hub_pattern **buckets;
	uint32_t *bits; /* of each bucket: those of the patterns in it */
	size_t bucket_count, pattern_count;
	size_t shape_counts[HUB_SHAPES];
	unsigned shapes;    /* bit n: there are patterns of shape n */
	size_t alias_count; /* patterns of types under which events of other types are found */
	uint64_t seed;
	uint64_t stamp;
	uint64_t version; /* how many patterns have come */
} hub;

/* ---- hashing ---- */

struct hub_hashes {
	uint64_t part[3];
};

static void
hub_hash_topic(const struct topic *t, struct hub_hashes *h)
{
	h->part[0] = hash_octets(t->type, hub.seed ^ 1);
	h->part[1] = hash_octets(t->action, hub.seed ^ 2);
	h->part[2] = hash_octets(t->key, hub.seed ^ 3);
}

static uint32_t
hub_hash_shape(const struct hub_hashes *h, unsigned shape)
{
	uint64_t sum = shape;

	for (unsigned i = 0; i < 3; i++)
		if (shape & (1u << i))
			sum += h->part[i];
	return (uint32_t)(hash_mix(sum, hub.seed) >> 32);
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

/* By the high bits of the hash: the low ones tell the bucket. */
static uint32_t
hub_bits(uint32_t hash)
{
	return UINT32_C(1) << (hash >> 27) | UINT32_C(1) << (hash >> 22 & 31) |
	       UINT32_C(1) << (hash >> 17 & 31);
}

static struct hub_pattern *
hub_find(uint32_t hash, unsigned shape, const struct topic *t)
{
	size_t at = hash & (hub.bucket_count - 1);
	struct hub_pattern *p;

	if ((hub.bits[at] & hub_bits(hash)) != hub_bits(hash))
		return NULL;
	p = hub.buckets[at];
	while (p != NULL && !(p->hash == hash && hub_pattern_equals(p, shape, t)))
		p = p->next;
	return p;
}

static void
hub_link(struct hub_pattern *p)
{
	size_t at = p->hash & (hub.bucket_count - 1);

	p->next = hub.buckets[at];
	hub.buckets[at] = p;
	hub.bits[at] |= hub_bits(p->hash);
}

static void
hub_resize(size_t bucket_count)
{
	struct hub_pattern **old = hub.buckets;
	size_t old_count = hub.bucket_count;

	free(hub.bits);
	hub.buckets = mem_zalloc(bucket_count * sizeof(struct hub_pattern *));
	hub.bits = mem_zalloc(bucket_count * sizeof(*hub.bits));
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

/* The text begins within the last octets of the struct's size. */
static size_t
hub_pattern_size(size_t text_len)
{
	size_t size = offsetof(struct hub_pattern, text) + text_len;

	return size > sizeof(struct hub_pattern) ? size : sizeof(struct hub_pattern);
}

static struct hub_pattern *
hub_pattern_new(const struct topic *t, unsigned shape, uint32_t hash)
{
	size_t type_len = shape & 1 ? t->type.len : 0, action_len = shape & 2 ? t->action.len : 0,
	       key_len = shape & 4 ? t->key.len : 0;
	struct hub_pattern *p = slab_alloc(hub_pattern_size(type_len + action_len + key_len));

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

static bool
hub_is_alias(const struct hub_pattern *p)
{
	return (p->shape & 1) && drp_event_is_alias((struct slice){p->text, p->type_len});
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
	if (hub.pattern_count >= 2 * hub.bucket_count)
		hub_resize(hub.bucket_count * 2);
	p = hub_pattern_new(t, shape, hash);
	hub_link(p);
	hub.shape_counts[shape]++;
	hub.shapes |= 1u << shape;
	hub.alias_count += hub_is_alias(p);
	hub.pattern_count++;
	hub.version++;
	metrics[METRIC_PATTERNS]++;
	return p;
}

static void
hub_unlink(const struct hub_pattern *p)
{
	size_t at = p->hash & (hub.bucket_count - 1);
	struct hub_pattern **next = &hub.buckets[at];

	hub.bits[at] = 0;
	while (*next != NULL) {
		if (*next == p) {
			*next = p->next;
		} else {
			hub.bits[at] |= hub_bits((*next)->hash);
			next = &(*next)->next;
		}
	}
}

static void
hub_forget(struct hub_pattern *p)
{
	hub_unlink(p);
	if (--hub.shape_counts[p->shape] == 0)
		hub.shapes &= ~(1u << p->shape);
	hub.alias_count -= hub_is_alias(p);
	hub.pattern_count--;
	metrics[METRIC_PATTERNS]--;
	slab_free(p, hub_pattern_size((size_t)p->type_len + p->action_len + p->key_len));
	if (hub.bucket_count > HUB_MIN_BUCKETS && hub.pattern_count < hub.bucket_count / 8)
		hub_resize(hub.bucket_count / 2);
}

void
hub_init(void)
{
	if (RAND_bytes((unsigned char *)&hub.seed, sizeof(hub.seed)) != 1)
		log_fatal("no random numbers are to be had");
	hub_resize(HUB_MIN_BUCKETS);
	hub.version = 1;
}

void
hub_free(void)
{
	assert(hub.pattern_count == 0);
	free(hub.buckets);
	free(hub.bits);
	memset(&hub, 0, sizeof(hub));
}

/* ---- subscriptions ---- */

static void
hub_subscribe(struct hub_member *m, struct hub_pattern *p)
{
	struct hub_subscription *s = p->own.member == NULL ? &p->own : slab_alloc(sizeof(*s));

	*s = (struct hub_subscription){p->subscriptions, &p->subscriptions, m->subscriptions, p, m};
	if (p->subscriptions != NULL)
		p->subscriptions->prev_of_pattern = &s->next_of_pattern;
	p->subscriptions = s;
	m->subscriptions = s;
	p->found = true;
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
	if (s == &p->own)
		s->member = NULL;
	else
		slab_free(s, sizeof(*s));
	if (p->subscriptions == NULL)
		hub_forget(p);
}

/* Those that are there are wanted so far, or not; hub_sift() follows. */
static void
hub_begin_change(struct hub_member *m, bool wanted)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member) {
		s->pattern->wanted = wanted;
		s->pattern->found = true;
	}
}

static void
hub_want(struct hub_member *m, const struct topic *patterns, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct hub_pattern *p = hub_intern(&patterns[i]);

		if (!p->found)
			hub_subscribe(m, p);
		p->wanted = true;
	}
}

/* Those that are not wanted go. */
static void
hub_sift(struct hub_member *m)
{
	struct hub_subscription **at;

	for (at = &m->subscriptions; *at != NULL;) {
		struct hub_subscription *s = *at;

		s->pattern->found = false;
		if (s->pattern->wanted) {
			at = &s->next_of_member;
		} else {
			*at = s->next_of_member;
			hub_unsubscribe(s);
		}
	}
}

void
hub_set_patterns(struct hub_member *m, const struct topic *patterns, size_t count)
{
	hub_begin_change(m, false);
	hub_want(m, patterns, count);
	hub_sift(m);
}

void
hub_add_patterns(struct hub_member *m, const struct topic *patterns, size_t count)
{
	hub_begin_change(m, true);
	hub_want(m, patterns, count);
	hub_sift(m);
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

void
hub_retain(struct hub_member *m, hub_keep keep, void *arg)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member) {
		struct topic pattern = hub_pattern_topic(s->pattern);

		s->pattern->wanted = keep(arg, &pattern);
	}
	hub_sift(m);
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
		s->pattern->found = true;
}

void
hub_unselect(const struct hub_member *m)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member)
		s->pattern->found = false;
}

static void
hub_match_as(const struct topic *t, unsigned shapes, struct hub_match *match)
{
	unsigned left = hub.shapes & shapes;
	struct hub_hashes hashes;

	match->count = 0;
	match->by_payload = false;
	if (left == 0)
		return;
	hub_hash_topic(t, &hashes);
	for (; left != 0; left &= left - 1) {
		unsigned shape = (unsigned)__builtin_ctz(left);
		const struct hub_pattern *p = hub_find(hub_hash_shape(&hashes, shape), shape, t);

		if (p != NULL)
			match->patterns[match->count++] = p;
	}
}

bool
hub_match(const struct topic *t, struct hub_match *match)
{
	hub_match_as(t, HUB_ALL_SHAPES, match);
	match->by_payload = hub.alias_count > 0 && drp_event_has_aliases(t);
	return match->count > 0 || match->by_payload;
}

uint64_t
hub_version(void)
{
	return hub.version;
}

bool
hub_selects(const struct topic *t)
{
	struct hub_match match;

	hub_match_as(t, HUB_ALL_SHAPES, &match);
	for (unsigned i = 0; i < match.count; i++)
		if (match.patterns[i]->found)
			return true;
	return false;
}

/* Members lie anywhere: the next one's memory is fetched while this one is served. */
static size_t
hub_deliver_pattern(const struct hub_pattern *p, struct msg_run *run)
{
	struct hub_subscription *next;
	size_t n = 0;

	for (struct hub_subscription *s = p->subscriptions; s != NULL; s = next) {
		struct hub_member *m = s->member;

		next = s->next_of_pattern;
		if (next != NULL)
			__builtin_prefetch(next->member, 1);
		if (m->stamp == hub.stamp)
			continue;
		m->stamp = hub.stamp;
		m->deliver(m, run);
		n++;
	}
	return n;
}

static size_t
hub_deliver_match(const struct hub_match *match, struct msg_run *run)
{
	size_t n = 0;

	for (unsigned i = 0; i < match->count; i++)
		n += hub_deliver_pattern(match->patterns[i], run);
	return n;
}

static size_t
hub_deliver_aliases(struct msg_run *run)
{
	const struct msg *msg = run->msgs;
	struct drp_alias aliases[DRP_EVENT_ALIASES];
	size_t count = drp_event_aliases(msg->topic, msg->payload, aliases), n = 0;
	struct hub_match match;

	for (size_t i = 0; i < count; i++) {
		hub_match_as(&aliases[i].topic, HUB_TYPED_SHAPES, &match);
		n += hub_deliver_match(&match, run);
	}
	return n;
}

/* What is in the payload nobody knows yet: all who might want it get it, on condition. */
static size_t
hub_deliver_on_condition(struct msg_run *run)
{
	size_t n = 0;

	run->msgs->conditional = true;
	for (size_t i = 0; i < hub.bucket_count; i++)
		for (struct hub_pattern *p = hub.buckets[i]; p != NULL; p = p->next)
			if (hub_is_alias(p))
				n += hub_deliver_pattern(p, run);
	run->msgs->conditional = false;
	return n;
}

static size_t
hub_deliver_one(const struct hub_match *match, struct msg *msg)
{
	struct msg_run run;
	size_t n;

	msg_run_init(&run, msg, 1, false);
	hub.stamp++;
	n = hub_deliver_match(match, &run);
	if (match->by_payload)
		n += msg->ticket == NULL ? hub_deliver_aliases(&run) : hub_deliver_on_condition(&run);
	metrics[METRIC_DELIVERIES_TOTAL] += (double)n;
	return n;
}

size_t
hub_deliver(struct msg *msg)
{
	struct hub_match match;

	(void)hub_match(msg->topic, &match);
	if (msg->group != NULL)
		match.by_payload = false;
	return hub_deliver_one(&match, msg);
}

size_t
hub_deliver_run(const struct hub_match *match, struct msg_run *run)
{
	size_t n = 0;

	if (match->by_payload) {
		for (size_t i = 0; i < run->count; i++)
			n += hub_deliver_one(match, &run->msgs[i]) > 0;
		return n;
	}
	hub.stamp++;
	n = hub_deliver_match(match, run);
	metrics[METRIC_DELIVERIES_TOTAL] += (double)(n * run->count);
	return n > 0 ? run->count : 0;
}

static bool
hub_member_finds(const struct hub_member *m, const struct topic *alias)
{
	for (struct hub_subscription *s = m->subscriptions; s != NULL; s = s->next_of_member) {
		struct topic pattern = hub_pattern_topic(s->pattern);

		if (hub_is_alias(s->pattern) && topic_matches(&pattern, alias))
			return true;
	}
	return false;
}

bool
hub_finds(const struct hub_member *m, const struct topic *t, struct slice payload)
{
	struct drp_alias aliases[DRP_EVENT_ALIASES];
	size_t count = drp_event_aliases(t, payload, aliases);

	for (size_t i = 0; i < count; i++)
		if (hub_member_finds(m, &aliases[i].topic))
			return true;
	return false;
}
