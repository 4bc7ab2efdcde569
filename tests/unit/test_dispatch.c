/*
 * From records to members and the history: src/relay/dispatch.c with hub.c, history.c and recent.c, against a list of
 * what was dispatched. Subscriptions change between payloads; topics repeat, ids go backwards, some payloads are away.
 */
#include "config.h"
#include "core/conf.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/dispatch.h"
#include "relay/history.h"
#include "relay/hub.h"
#include "relay/idset.h"
#include "relay/ticket.h"

#include "tap.h"

#define MEMBERS      6
#define PATTERNS     4
#define PAYLOADS     3000
#define EVENTS       60000
#define RECORDS_MOST 60
#define SHA          "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct member {
	struct hub_member hub;
	char patterns[PATTERNS][64];
	size_t count;
	int64_t want[RECORDS_MOST], got[RECORDS_MOST];
	size_t want_count, got_count;
};

static struct member members[MEMBERS];
static struct event {
	int64_t id;
	uint64_t xid;
	bool ticket;
	char topic[64];
} events[EVENTS];
static size_t event_count;
static struct position position;
static history_place first;
static struct tap_random random_numbers = {161803};

static uint32_t
number(uint32_t below)
{
	return tap_random(&random_numbers, below);
}

static struct topic
topic_of(const char *text)
{
	struct topic t;

	if (!topic_parse((struct slice){text, strlen(text)}, true, &t))
		abort();
	return t;
}

static void
random_topic(char out[64], bool pattern, uint32_t keys)
{
	static const char *const types[] = {"job_events", "x", "projects"}, *const actions[] = {"a", "b"};
	char key[16];

	snprintf(key, sizeof(key), "%u", number(keys));
	snprintf(out, 64, "%s.%s.%s", pattern && number(5) == 0 ? "*" : types[number(3)],
	    pattern && number(3) == 0 ? "*" : actions[number(2)], pattern && number(3) == 0 ? "*" : key);
}

static void
member_subscribe(struct member *m)
{
	struct topic topics[PATTERNS];

	m->count = number(3) == 0 ? 0 : number(PATTERNS + 1);
	for (size_t i = 0; i < m->count; i++) {
		random_topic(m->patterns[i], true, 6);
		topics[i] = topic_of(m->patterns[i]);
	}
	hub_set_patterns(&m->hub, topics, m->count);
}

static bool
member_wants(const struct member *m, const char *text)
{
	struct topic t = topic_of(text);

	for (size_t i = 0; i < m->count; i++) {
		struct topic pattern = topic_of(m->patterns[i]);

		if (topic_matches(&pattern, &t))
			return true;
	}
	return false;
}

static void
member_deliver(struct hub_member *hub, struct msg_run *run)
{
	struct member *m = (struct member *)hub;

	for (size_t i = 0; i < run->count; i++) {
		if (m->got_count == RECORDS_MOST)
			abort();
		m->got[m->got_count++] = run->msgs[i].id;
	}
}

/* ---- payloads ---- */

static struct {
	char text[16384];
	size_t len;
} payload;

static void
payload_add(const char *line)
{
	payload.len += (size_t)snprintf(payload.text + payload.len, sizeof(payload.text) - payload.len,
	    "%s%s", payload.len > 0 ? "\n" : "", line);
}

static void
payload_add_event(const char *topic, int64_t id, uint64_t xid, bool ticket)
{
	char line[256];

	if (ticket)
		snprintf(
		    line, sizeof(line), "t %lld 1700000000000000 %s 9000 " SHA " -", (long long)id, topic);
	else
		snprintf(line, sizeof(line), "%s %lld 1700000000000000 %s {\"id\": %lld}",
		    number(2) ? "e" : "u", (long long)id, topic, (long long)id);
	payload_add(line);
	if (event_count == EVENTS)
		abort();
	events[event_count] = (struct event){.id = id, .xid = xid, .ticket = ticket};
	strcpy(events[event_count++].topic, topic);
	for (size_t i = 0; i < MEMBERS; i++)
		if (member_wants(&members[i], topic))
			members[i].want[members[i].want_count++] = id;
}

/* Ids mostly grow. */
static int64_t
next_id(void)
{
	static struct idset used;
	static int64_t last = 1000;
	int64_t id = number(30) == 0 ? last - number(500) : last + 1 + (number(5) == 0 ? number(4) : 0);

	while (idset_has(&used, id))
		id++;
	idset_add(&used, id, id);
	if (id > last)
		last = id;
	return id;
}

static void
payload_make(void)
{
	uint32_t count = 1 + number(number(3) == 0 ? RECORDS_MOST : 5), stays = 1 + number(20);
	uint64_t xid = 0;
	char topic[64], line[32];

	payload.len = 0;
	random_topic(topic, false, 6);
	for (uint32_t i = 0; i < count; i++) {
		if (number(25) == 0) {
			xid = 1 + number(1000);
			snprintf(line, sizeof(line), "x %llu", (unsigned long long)xid);
			payload_add(line);
			continue;
		}
		if (number(50) == 0)
			payload_add(number(2) ? "e nothing" : "unheard of");
		if (number(stays) == 0)
			random_topic(topic, false, number(2) ? 6 : 3000);
		payload_add_event(topic, next_id(), xid, number(15) == 0);
	}
}

/* As the stream does it; what it points to is gone afterwards. */
static void
payload_dispatch(void)
{
	char *copy = tap_copy(payload.text, payload.len);
	struct slice rest = {copy, payload.len};
	uint64_t xid = 0;
	struct record r;

	while (record_next(&rest, &r)) {
		if (r.kind != RECORD_EVENT && r.kind != RECORD_TICKET) {
			dispatch_flush();
			if (r.kind == RECORD_TRANSACTION)
				xid = r.xid;
			continue;
		}
		if (!position_is_behind(&position, r.id))
			dispatch_flush();
		position_add(&position, r.id);
		dispatch_event(&r, xid, &position);
	}
	dispatch_flush();
	free(copy);
}

static bool
members_have_what_they_want(void)
{
	bool right = true;

	for (struct member *m = members; m < members + MEMBERS; m++) {
		if (m->got_count != m->want_count ||
		    memcmp(m->got, m->want, m->want_count * sizeof(*m->want)) != 0) {
			diag("member %d got %zu events instead of %zu, or others", (int)(m - members),
			    m->got_count, m->want_count);
			right = false;
		}
		m->got_count = m->want_count = 0;
	}
	return right;
}

/* ---- those who come back ---- */

struct walk {
	size_t at;
	bool right;
};

static bool
walk_visit(void *arg, struct msg *msg)
{
	struct walk *w = arg;
	const struct event *e = &events[w->at++];
	struct topic t = topic_of(e->topic);

	w->right = msg->id == e->id && msg->xid == e->xid && (msg->ticket != NULL) == e->ticket &&
		   topic_matches(&t, msg->topic);
	if (w->right && msg->ticket == NULL && number(2) == 0)
		(void)msg_frame(msg, MSG_FORM_AWX);
	return w->right && number(40) > 0;
}

static bool
walk_from(size_t at)
{
	struct walk w = {at, true};
	history_place place = first + at;
	struct position p = {0};

	while (w.right && place != history_end() && history_walk(&place, &p, walk_visit, &w))
		continue;
	position_clear(&p);
	return w.right && (place == history_end() ? w.at == event_count : w.at == at);
}

static void
test_model(void)
{
	size_t delivered = 0, walks = 0;
	bool right = true;

	diag("seed 161803");
	for (int i = 0; right && i < PAYLOADS && event_count < EVENTS - RECORDS_MOST; i++) {
		if (number(3) == 0)
			member_subscribe(&members[number(MEMBERS)]);
		payload_make();
		for (size_t m = 0; m < MEMBERS; m++)
			delivered += members[m].want_count;
		payload_dispatch();
		right = members_have_what_they_want();
		if (right && number(5) == 0) {
			right = walk_from(
			    event_count - number(event_count < 3000 ? (uint32_t)event_count + 1 : 3000));
			walks++;
		}
	}
	ok(right && event_count > 10000 && delivered > 10000,
	    "of %zu events each member gets those that it wants, %zu in all, in order", event_count,
	    delivered);
	ok(right && walks > 300, "and %zu who come back find all behind any place", walks);
}

static void
test_wanted_later(void)
{
	static const char *const lines[] = {
	    "u 900001 1 late.x.1 {}", "u 900002 1 late.x.1 {}", "u 900003 1 late.x.1 {}"};
	struct topic pattern = topic_of("late.x.1");
	struct hub_member *m = &members[0].hub;

	for (int i = 0; i < 3; i++) {
		struct slice rest = {lines[i], strlen(lines[i])};
		double unwanted = metrics[METRIC_EVENTS_UNWANTED_TOTAL];
		struct record r;

		hub_set_patterns(m, &pattern, i == 1 ? 1 : 0);
		members[0].got_count = 0;
		if (!record_next(&rest, &r))
			abort();
		dispatch_event(&r, 0, &position);
		dispatch_flush();
		ok(members[0].got_count == (i == 1) &&
			metrics[METRIC_EVENTS_UNWANTED_TOTAL] - unwanted == (i == 1 ? 0 : 1),
		    i == 1 ? "what nobody wanted, and somebody wants now, comes"
			   : "an event that nobody wants is counted");
	}
}

int
main(void)
{
	char *error = NULL;

	if (!conf_load("/dev/null", &error))
		abort();
	conf.history_limit_bytes = 300000;
	loop_init();
	hub_init();
	history_init();
	first = history_end();
	for (size_t i = 0; i < MEMBERS; i++)
		members[i].hub.deliver = member_deliver;
	test_model();
	for (size_t i = 0; i < MEMBERS; i++)
		hub_set_patterns(&members[i].hub, NULL, 0);
	test_wanted_later();
	history_free();
	msg_release_blocks();
	is_int((long long)metrics[METRIC_QUEUE_MEMORY_BYTES], 0, "no block is left");
	position_clear(&position);
	hub_free();
	loop_free();
	conf_free();
	return tap_end();
}
