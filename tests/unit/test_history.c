/*
 * What a node has delivered lately: src/relay/history.c, against a list of all that was ever appended; and with
 * positions, for clients that come from another node with its cursors.
 */
#include "config.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/ws.h"
#include "pg/pg_query.h"
#include "relay/history.h"
#include "relay/ticket.h"

#include "stream_model.h"
#include "tap.h"

#define MB          (1024 * 1024)
#define HOUR_MS     (3600 * 1000)
#define ITEMS       60000
#define PAYLOAD_MAX 200000
#define WORD_63     "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

/* What has been appended: an item for each place. */
static struct item {
	int64_t id; /* 0: a marker */
	unsigned topic;
	size_t len;
	struct ticket *ticket;
} items[ITEMS];
static history_place items_first; /* the place of items[0] */
static size_t item_count;

static char long_topics[300][EVENT_TOPIC_MAX + 1];

static const struct snapshot no_snapshot;

/* ---- appending ---- */

static void
begin(void)
{
	history_init();
	conf.history_limit_bytes = 64 * MB;
	conf.history_age_ms = HOUR_MS;
	items_first = history_end();
	item_count = 0;
}

static void
end(const char *name)
{
	history_free();
	msg_release_blocks();
	is_int((long long)metrics[METRIC_HISTORY_BYTES], 0, "no memory is left: %s", name);
}

/* Those from 300 on are the same but for their stops. */
static const char *
topic_text(unsigned topic)
{
	static const char *const tight[] = {"ab.c.d", "a.bc.d", "a.b.cd", "abc.d.", "ab.cd.", "a.b.cd."};

	return topic < ARRAY_LENGTH(long_topics) ? long_topics[topic]
						 : tight[topic - ARRAY_LENGTH(long_topics)];
}

static void
topics_init(void)
{
	for (unsigned i = 0; i < ARRAY_LENGTH(long_topics); i++) {
		int n = sprintf(
		    long_topics[i], "%.*s.%.*s.", 1 + (int)(i % 63), WORD_63, 1 + (int)(i / 5 % 63), WORD_63);

		for (unsigned k = 0; k < i % 256; k++)
			n += sprintf(
			    long_topics[i] + n, i % 3 == 0 ? "%%20" : "%c", 'a' + (int)((i + k) % 26));
	}
}

/* At least two octets. */
static const char *
payload_of(int64_t id, size_t len)
{
	static char octets[PAYLOAD_MAX];

	memset(octets, (char)('a' + id % 26), len);
	for (size_t i = 1; i < len && i < 16; i++)
		octets[i] = (char)('A' + (id + (int64_t)i) % 26);
	octets[0] = '{';
	octets[len - 1] = '}';
	return octets;
}

static int64_t
time_of(int64_t id)
{
	return 1700000000000000 + id * 7;
}

static struct item *
item_new(int64_t id)
{
	if (item_count == ITEMS)
		abort();
	items[item_count] = (struct item){.id = id};
	return &items[item_count++];
}

/* Records that are appended together. */
static struct {
	char text[PAYLOAD_MAX + 2 * EVENT_TOPIC_MAX];
	size_t len, count;
} row;

static void
row_add(int64_t id, unsigned topic_number, size_t len)
{
	struct item *item = item_new(id);

	item->topic = topic_number;
	item->len = len;
	row.len += (size_t)snprintf(row.text + row.len, sizeof(row.text) - row.len,
	    "%s%s %" PRId64 " %" PRId64 " %s %.*s", row.count > 0 ? "\n" : "", id % 3 == 0 ? "e" : "u", id,
	    time_of(id), topic_text(topic_number), (int)len, payload_of(id, len));
	row.count++;
}

/* From a copy that is gone afterwards. */
static void
row_end(void)
{
	char *copy = tap_copy(row.text, row.len);

	history_add((struct slice){copy, row.len}, row.count, 0);
	free(copy);
	row.len = row.count = 0;
}

static void
add_event(int64_t id, unsigned topic_number, size_t len)
{
	row_add(id, topic_number, len);
	row_end();
}

static struct marker
add_marker(uint64_t boot, int64_t counter)
{
	struct marker marker = {boot, counter};

	item_new(0);
	history_add_marker(&marker, "", &no_snapshot, &no_snapshot);
	return marker;
}

static struct marker
add_own_marker(int64_t counter, const char *seen)
{
	struct marker marker = {1, counter};
	struct snapshot s = model_parse(seen);

	item_new(0);
	history_add_marker(&marker, MODEL_EPOCH, &s, &s);
	snapshot_clear(&s);
	return marker;
}

/* ---- walking ---- */

struct reader {
	struct position position;
	history_place place;
	history_place at;   /* before the item that must come next */
	size_t count, page; /* visited; how many a page has, 0: all */
	bool right;
};

static struct reader
reader_at(history_place place)
{
	return (struct reader){.place = place, .at = place, .right = true};
}

static bool
topic_is(const struct topic *t, const char *text)
{
	char got[EVENT_TOPIC_MAX + 8];

	snprintf(got, sizeof(got), "%.*s.%.*s.%.*s", (int)t->type.len, t->type.ptr, (int)t->action.len,
	    t->action.ptr, (int)t->key.len, t->key.ptr);
	return strcmp(got, text) == 0;
}

static bool
frame_is_right(struct msg *msg, const struct item *item)
{
	uint8_t header[WS_FRAME_HEADER_MAX];
	size_t header_len = ws_frame_header(header, item->len);
	struct span frame = msg_frame(msg, MSG_FORM_AWX);
	const uint8_t *data = block_data(frame.block) + frame.offset;

	return tap_same_octets(
		   msg->payload.ptr, msg->payload.len, payload_of(item->id, item->len), item->len) &&
	       tap_same_octets(data, header_len, header, header_len) &&
	       tap_same_octets(
		   data + header_len, frame.length - header_len, msg->payload.ptr, msg->payload.len);
}

static bool
msg_is_item(struct msg *msg, const struct item *item)
{
	if (msg->id != item->id || msg->time_us != time_of(item->id) ||
	    msg->logged != (item->ticket != NULL || item->id % 3 == 0) || msg->missed ||
	    msg->ticket != item->ticket || !topic_is(msg->topic, topic_text(item->topic)))
		return false;
	if (item->ticket != NULL)
		return msg->frames[MSG_FORM_AWX].block == NULL && msg->payload.len == 0;
	return frame_is_right(msg, item);
}

/* The next item that is an event and was not held: is this it? */
static bool
reader_visit(void *arg, struct msg *msg)
{
	struct reader *r = arg;

	while (r->at < items_first + item_count && items[r->at - items_first].id == 0)
		r->at++;
	if (r->at == items_first + item_count || !msg_is_item(msg, &items[r->at - items_first])) {
		diag("event %" PRId64 " is not what was appended at %" PRIu64, msg->id, r->at);
		r->right = false;
		return false;
	}
	r->at++;
	r->count++;
	return r->page == 0 || r->count % r->page != 0;
}

/* A walk; false when its place has been let go. */
static bool
reader_walk(struct reader *r)
{
	history_place before = r->place;
	size_t count = r->count;
	bool here = history_walk(&r->place, &r->position, reader_visit, r);

	if (!here && (r->place != before || r->count != count))
		r->right = false;
	return here;
}

/* How many events a walk from here on visits; -1 when one is not right. */
static long long
walk_from(history_place place)
{
	struct reader r = reader_at(place);
	bool here = reader_walk(&r);

	position_clear(&r.position);
	return here && r.right && r.place == history_end() ? (long long)r.count : -1;
}

static bool
is_here(history_place place)
{
	struct reader r = reader_at(place);
	bool here;

	r.page = 1;
	here = reader_walk(&r);
	position_clear(&r.position);
	if (!r.right)
		abort();
	return here;
}

/* ---- tests ---- */

static void
test_empty(void)
{
	struct marker none = {1, 1};
	history_place place;

	begin();
	is_int((long long)metrics[METRIC_HISTORY_BYTES], 0, "an empty history has no memory");
	ok(!history_find(&none, &place), "and no marker");
	is_int(walk_from(history_end()), 0, "a walk from its end visits nothing");
	history_reset();
	is_int((long long)metrics[METRIC_HISTORY_BYTES], 0, "it can be reset");
	end("an empty history");
}

static bool
visit_sse(void *arg, struct msg *msg)
{
	struct span frame = msg_frame(msg, MSG_FORM_SSE);
	const char *data = (const char *)block_data(frame.block) + frame.offset;
	size_t *right = arg;

	*right += frame.length == msg->payload.len + 8 && memcmp(data, "data: ", 6) == 0 &&
		  memcmp(data + 6, msg->payload.ptr, msg->payload.len) == 0;
	return true;
}

static void
test_payloads(void)
{
	static const size_t lens[] = {2, 3, 125, 126, 127, 65535, 65536, 65537, 200000};
	struct position p = {0};
	history_place first, place;
	size_t sse = 0, octets = 0;

	begin();
	first = place = history_end();
	for (size_t i = 0; i < ARRAY_LENGTH(lens); i++) {
		add_event((int64_t)i + 1, 0, lens[i]);
		octets += lens[i];
		ok(metrics[METRIC_HISTORY_BYTES] > (double)octets,
		    "a payload of %zu octets takes memory that counts", lens[i]);
		is_int(walk_from(first), (long long)i + 1, "and comes back");
	}
	ok(metrics[METRIC_HISTORY_BYTES] > (double)(2 * octets), "so do the frames that were wanted");
	history_walk(&place, &p, visit_sse, &sse);
	is_int((long long)sse, ARRAY_LENGTH(lens), "each can be made a server-sent event");
	position_clear(&p);
	end("payloads");
}

/* The first visitor's frame is the next one's, too. */
static bool
visit_block(void *arg, struct msg *msg)
{
	*(const struct block **)arg = msg_frame(msg, MSG_FORM_AWX).block;
	return true;
}

static bool
visit_nothing(void *arg, struct msg *msg)
{
	*(bool *)arg = msg->frames[MSG_FORM_AWX].block == NULL;
	return true;
}

static void
test_sharing(void)
{
	const struct block *got[2] = {NULL, NULL};
	bool nothing = false;

	begin();
	add_event(1, 0, 50000);
	for (int i = -1; i < 2; i++) {
		history_place place = items_first;
		struct position p = {0};

		history_walk(
		    &place, &p, i < 0 ? visit_nothing : visit_block, i < 0 ? (void *)&nothing : &got[i]);
		position_clear(&p);
	}
	ok(nothing, "no frame is made before somebody wants it");
	ok(got[0] != NULL && got[0] == got[1], "and then one for all");
	end("a frame");
}

/* A block that the history keeps is not in the queues' bound: nothing else may lie in it. */
static void
test_apart(void)
{
	struct msg live = {.payload = {"{}", 2}};
	const struct block *kept = NULL;
	struct position p = {0};
	history_place place;

	begin();
	add_event(1, 0, 10);
	(void)msg_frame(&live, MSG_FORM_AWX);
	place = items_first;
	history_walk(&place, &p, visit_block, &kept);
	ok(kept != NULL && kept != live.frames[MSG_FORM_AWX].block,
	    "its frames lie in other blocks than those of what comes");
	msg_done(&live);
	position_clear(&p);
	end("blocks apart");
}

/* That somebody comes back takes nothing from who comes later. */
static void
test_looks(void)
{
	double text;

	begin();
	for (int64_t id = 1; id <= 5000; id++)
		add_event(id, 3, 300);
	text = metrics[METRIC_HISTORY_BYTES];
	conf.history_limit_bytes = (int64_t)text + 200000;
	is_int(walk_from(items_first), 5000, "all of it is walked");
	ok(metrics[METRIC_HISTORY_BYTES] <= text + 200000, "what is made for that stays within the limit");
	add_marker(2, 1);
	is_int(walk_from(items_first), 5000, "and all of it is still there");
	end("looks");
}

static void
test_rows(void)
{
	int64_t id = 0;

	begin();
	for (int count = 1; count <= 100; count++) {
		for (int i = 0; i < count; i++, id++)
			row_add(id + 1, (unsigned)(id * 7 % 306), 2 + (size_t)(id % 50));
		row_end();
		if (count % 10 == 0)
			add_marker(1, count);
	}
	is_int(walk_from(items_first), id, "records that came together come back one by one");
	for (history_place place = items_first; place < history_end(); place += 97)
		if (walk_from(place) < 0)
			id = 0;
	ok(id > 0, "from the middle of a row, too");
	end("rows");
}

static void
test_topics(void)
{
	history_place first;
	int64_t id = 0;

	begin();
	first = history_end();
	for (unsigned i = 0; i < 3000; i++)
		add_event(++id, i % ARRAY_LENGTH(long_topics), 10);
	is_int(walk_from(first), 3000, "3000 topics, of up to hundreds of octets, come back");
	end("many topics");

	begin();
	first = history_end();
	for (unsigned i = 0; i < 600; i++)
		add_event(++id, ARRAY_LENGTH(long_topics) + i * i % 6, 10);
	add_marker(1, 1);
	add_event(++id, ARRAY_LENGTH(long_topics), 10);
	is_int(walk_from(first), 601, "topics that are the same but for their stops are told apart");
	end("topics that are alike");
}

static void
test_markers(void)
{
	struct marker early, late, foreign, same, other = {9, 1};
	history_place place, at = 0;

	begin();
	add_event(1, 0, 10);
	early = add_own_marker(1, "10:10:");
	add_event(2, 0, 10);
	add_event(3, 0, 10);
	foreign = add_marker(2, 1);
	add_event(4, 0, 10);
	late = add_own_marker(2, "12:12:");
	ok(history_find(&early, &place) && walk_from(place) == 3, "from a marker on, what is behind it");
	ok(history_find(&foreign, &place) && walk_from(place) == 1, "from another node's, too");
	ok(history_find(&late, &place) && place == history_end(), "the last one is at the end");
	ok(!history_find(&other, &at) && at == 0, "a marker that has not come by is not found");
	other = (struct marker){1, 3};
	ok(!history_find(&other, &at), "nor is a later one of the same node");
	other = (struct marker){2, 2};
	ok(!history_find(&other, &at), "nor one with another's counter");
	same = add_marker(2, 1);
	add_event(5, 0, 10);
	ok(history_find(&same, &place) && walk_from(place) == 1,
	    "of two that are the same the later one counts");
	for (int64_t i = 10; i < 2000; i++) {
		add_event(i, 0, 10);
		add_marker(3, i);
	}
	other = (struct marker){3, 1500};
	ok(history_find(&other, &place) && walk_from(place) == 499, "of two thousand each is found");
	ok(history_find(&early, &place) && walk_from(place) == 4 + 1990, "the oldest, too");
	end("markers");
}

/* What a walk does to the reader's position. */
static void
test_positions(void)
{
	struct marker first, second, third;
	struct reader r;

	begin();
	first = add_own_marker(1, "10:10:");
	add_event(1, 0, 10);
	add_event(2, 0, 10);
	r = reader_at(items_first);
	ok(history_find(&first, &r.place), "a reader begins behind a marker");
	position_add(&r.position, 3);
	ok(reader_walk(&r) && r.right && r.count == 2, "and visits what is there");
	ok(position_has(&r.position, 1) && position_has(&r.position, 2),
	    "its position holds what it walked over");
	add_marker(2, 1);
	add_event(3, 0, 10);
	add_event(4, 0, 10);
	r.at += 2; /* past the marker and 3 */
	ok(reader_walk(&r) && r.right && r.count == 3, "what its position held it does not visit");
	ok(*r.position.epoch == '\0' && position_has(&r.position, 1),
	    "another node's marker is none of its own");
	second = add_own_marker(2, "20:20:");
	add_event(5, 0, 10);
	ok(reader_walk(&r) && *r.position.epoch == '\0', "the first of this node's is not yet its base");
	add_event(6, 0, 10);
	third = add_own_marker(3, "30:40:35");
	add_event(7, 0, 10);
	ok(reader_walk(&r) && r.right && r.place == history_end(), "the second one");
	ok(strcmp(r.position.epoch, MODEL_EPOCH) == 0 && r.position.marker.counter == third.counter &&
		r.position.marker.boot == third.boot && r.position.seen.xmax == 40 &&
		r.position.announced.count == 1,
	    "is its base, with all that it tells");
	ok(position_has(&r.position, 5) && position_has(&r.position, 6) && position_has(&r.position, 7) &&
		!position_has(&r.position, 4),
	    "ids are held from the one before it on");
	ok(history_find(&second, &r.place) && !history_find(&(struct marker){1, 4}, &r.place),
	    "all of them are still places");
	position_clear(&r.position);
	end("positions");
}

static void
test_pages(void)
{
	static const size_t pages[] = {1, 2, 7, 255, 256, 257, 999, 1000, 1001};

	begin();
	for (int64_t id = 1; id <= 1000; id++) {
		add_event(id, (unsigned)id % 300, 20);
		if (id % 10 == 0)
			add_marker(2, id);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(pages); i++) {
		struct reader r = reader_at(items_first);
		size_t walks = 0;
		bool right = true;

		r.page = pages[i];
		while (right && r.place != history_end()) {
			size_t count = r.count;

			right = reader_walk(&r) && r.right && walks++ <= 1001;
			right = right && (r.count - count == r.page ||
					     (r.place == history_end() && r.count - count < r.page));
			right = right && (r.place == r.at || r.place == history_end());
		}
		ok(right && r.count == 1000, "by pages of %zu each event comes once, in %zu walks", r.page,
		    walks);
		position_clear(&r.position);
	}
	end("pages");
}

/* ---- letting go ---- */

static void
test_limit(void)
{
	history_place oldest;
	struct marker early, late;
	double most = 0;

	begin();
	conf.history_limit_bytes = 10 * MB;
	for (int64_t id = 1; id <= 30000; id++) {
		add_event(id, 3, 1000);
		if (id % 100 == 0)
			add_marker(2, id);
		if (most < metrics[METRIC_HISTORY_BYTES])
			most = metrics[METRIC_HISTORY_BYTES];
	}
	ok(most > 10 * MB - 100000 && most < 10 * MB + 400000,
	    "30 MB of events take %.1f MB at most, with a limit of 10", most / MB);
	for (oldest = items_first; !is_here(oldest); oldest++)
		continue;
	ok(oldest > items_first + 15000, "the first places have been let go");
	ok(walk_from(oldest) >= 8500, "%lld events, nearly as many as fit, are here", walk_from(oldest));
	ok(is_here(oldest + 1) && is_here(oldest + 1000) && is_here(history_end()),
	    "all places behind are, too");
	early = (struct marker){2, 100};
	late = (struct marker){2, 29900};
	ok(!history_find(&early, &oldest), "markers go with their events");
	ok(history_find(&late, &oldest) && walk_from(oldest) == 100, "late ones are here");
	conf.history_limit_bytes = 1;
	add_marker(2, 30001);
	ok(metrics[METRIC_HISTORY_BYTES] < 400000, "with a lower limit more goes at the next marker");
	ok(is_here(history_end() - 1), "but the newest stays");
	for (int64_t id = 30001; id <= 31000; id++)
		add_event(id, 3, 1000);
	ok(metrics[METRIC_HISTORY_BYTES] < 400000 && is_here(history_end() - 1),
	    "nor does more come together");
	end("a limit");
}

/* Each marker that is found has everything behind it. */
static void
test_limit_markers(void)
{
	size_t found = 0;
	bool right = true;

	begin();
	conf.history_limit_bytes = 300000;
	for (int64_t id = 1; id <= 5000; id++) {
		add_event(id, 3, 100);
		add_marker(2, id);
	}
	for (int64_t id = 1; id <= 5000; id++) {
		struct marker marker = {2, id};
		history_place place;

		if (!history_find(&marker, &place)) {
			right = right && found == 0;
			continue;
		}
		found++;
		right = right && walk_from(place) == 5000 - id;
	}
	ok(right && found > 500 && found < 4000, "from each of the %zu markers that are here, all behind it",
	    found);
	end("markers and a limit");
}

static void
test_age(void)
{
	struct marker marker;
	history_place place;
	int64_t now_ms;
	double bytes;

	begin();
	marker = add_marker(2, 1);
	for (int64_t id = 1; id <= 1000; id++)
		add_event(id, 3, 100);
	is_int(walk_from(items_first), 1000, "what is younger than an hour is here");
	conf.history_age_ms = 1;
	for (now_ms = loop_now_ms(); loop_now_ms() < now_ms + 3;)
		continue;
	bytes = metrics[METRIC_HISTORY_BYTES];
	is_int(walk_from(items_first), 1000, "what has become old is here until something comes");
	for (int64_t id = 1001; id <= 1300; id++)
		add_event(id, 3, 100);
	add_marker(2, 2);
	ok(!is_here(items_first) && metrics[METRIC_HISTORY_BYTES] < bytes, "then it is let go");
	ok(!history_find(&marker, &place), "and its marker");
	marker = (struct marker){2, 2};
	ok(history_find(&marker, &place) && is_here(history_end() - 1), "what is new is here");
	end("an age");
}

static void
test_reset(void)
{
	struct marker marker;
	history_place first, last, place;

	begin();
	first = history_end();
	for (int64_t id = 1; id <= 1000; id++)
		add_event(id, (unsigned)id % 300, 100);
	marker = add_own_marker(1, "10:20:11,12");
	last = history_end();
	history_reset();
	is_int((long long)metrics[METRIC_HISTORY_BYTES], 0, "a reset history has no memory");
	ok(!history_find(&marker, &place), "no marker");
	ok(!is_here(first) && !is_here(last - 1), "none of its places");
	ok(!is_here(last), "nor its former end");
	items_first = place = history_end();
	item_count = 0;
	add_event(1, 0, 10);
	ok(walk_from(place) == 1 && !is_here(last), "what comes then does not follow what was");
	end("a reset history");
}

/* ---- tickets ---- */

static void
on_wake(struct ticket_waiter *waiter)
{
	abort(); /* its database is away for ever */
}

static struct ticket *
add_ticket(int64_t id, unsigned topic_number)
{
	struct item *item = item_new(id);
	const char *text = topic_text(topic_number);
	struct record r = {.kind = RECORD_TICKET, .id = id, .time_us = time_of(id)};

	if (!topic_parse((struct slice){text, strlen(text)}, false, &r.topic))
		abort();
	item->topic = topic_number;
	item->ticket = ticket_new(id, &r.topic, 9000,
	    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", (struct slice){"-", 1});
	history_add_ticket(&r, 0, item->ticket);
	return item->ticket;
}

static bool
visit_ticket(void *arg, struct msg *msg)
{
	int *right = arg;

	*right += ticket_octets(msg->ticket) == 9000 && strcmp(ticket_topic(msg->ticket), topic_text(7)) == 0;
	return true;
}

static void
test_tickets(void)
{
	struct pg_query_pool *pool;
	struct ticket_waiter waiter = {.wake = on_wake};
	struct position p = {0};
	history_place first, place;
	struct ticket *t;
	int right = 0;

	begin();
	loop_init();
	pool = pg_query_pool_new("query", "host=/nonexistent", NULL, NULL);
	ticket_init(pool, NULL);
	first = place = history_end();
	t = add_ticket(1, 7);
	ticket_wait(t, &waiter); /* it is being read, which ends with its last reference */
	ticket_unwait(&waiter);
	ticket_unref(t);
	is_int((long long)metrics[METRIC_TICKETS_PENDING], 1, "the history has a reference to a ticket");
	ok(history_walk(&place, &p, visit_ticket, &right) && right == 1, "which is there for who walks");
	add_event(2, 7, 100);
	ticket_unref(add_ticket(3, 7));
	ticket_unref(add_ticket(4, 8));
	add_event(5, 8, 100);
	is_int(walk_from(first), 5, "tickets and events come in order");
	is_int(walk_from(first), 5, "as often as they are asked for");
	history_reset();
	is_int((long long)metrics[METRIC_TICKETS_PENDING], 0, "a reset lets the ticket go");
	position_clear(&p);
	end("tickets");
	pg_query_pool_free(pool);
	loop_free();
}

/* ---- everything at random ---- */

#define READERS 8

static void
random_append(struct tap_random *random, int64_t *id, int64_t *counter)
{
	uint32_t what = tap_random(random, 20);
	size_t len = 2 + tap_random(random, 200);

	if (what < 2) {
		if (what == 0)
			add_own_marker(++*counter, "10:20:11,12,15");
		else
			add_marker(2, ++*counter);
		return;
	}
	if (tap_random(random, 50) == 0)
		len = 2 + tap_random(random, 70000);
	for (uint32_t n = what == 2 ? tap_random(random, 10) : 0; n > 0; n--)
		row_add(++*id, tap_random(random, 306), 2 + tap_random(random, 100));
	*id += 1 + (tap_random(random, 10) == 0);
	row_add(*id, what < 10 ? 5 : tap_random(random, 306), len);
	row_end();
}

static bool
random_walk(struct tap_random *random, struct reader *r, size_t *gone)
{
	if (r->place == 0) {
		position_clear(&r->position);
		*r = reader_at(items_first + tap_random(random, (uint32_t)item_count + 1));
	}
	r->page = tap_random(random, 3) == 0 ? 0 : 1 + tap_random(random, 400);
	if (reader_walk(r)) {
		if (r->place == history_end())
			r->at = r->place;
		return r->right && r->at == r->place;
	}
	++*gone;
	r->place = 0;
	return r->right && !is_here(items_first);
}

static void
test_random(void)
{
	struct tap_random random = {1848};
	struct reader readers[READERS] = {{.place = 0}};
	int64_t id = 0, counter = 0;
	size_t gone = 0, visited = 0, walks = 0;
	bool right = true;

	diag("seed 1848");
	begin();
	item_new(0); /* so that no place is 0 */
	add_marker(2, 0);
	item_count--;
	conf.history_limit_bytes = 4 * MB; /* with frames */
	while (right && item_count < 40000) {
		for (uint32_t n = tap_random(&random, 60); n > 0; n--)
			random_append(&random, &id, &counter);
		if (tap_random(&random, 2) == 0) {
			struct reader *r = &readers[tap_random(&random, READERS)];
			size_t count = r->place == 0 ? 0 : r->count;

			right = random_walk(&random, r, &gone);
			visited += r->place == 0 ? 0 : r->count - count;
			walks++;
		}
	}
	ok(right && gone > 50 && walks - gone > 200 && visited > 50000,
	    "%zu walks by %d readers, %zu of whose places had been let go: %zu events, each what it was",
	    walks, READERS, gone, visited);
	for (size_t i = 0; i < READERS; i++)
		position_clear(&readers[i].position);
	end("all of that");
}

/* ---- a client that comes from another node ---- */

/* Node 0 gives the cursors; node 1 has this history. */
struct client {
	struct position position;
	history_place place;
	bool has[MODEL_EVENTS];
	bool here;
	size_t visits, page;
	bool right;
};

static size_t order[MODEL_EVENTS], order_count; /* by id: in which order node 1 heard them, from 1 on */

static bool
client_visit(void *arg, struct msg *msg)
{
	static size_t last;
	struct client *c = arg;

	if (c->has[msg->id] || (c->visits > 0 && order[msg->id] <= last)) {
		diag("event %" PRId64 " comes %s", msg->id, c->has[msg->id] ? "again" : "out of order");
		c->right = false;
	}
	last = order[msg->id];
	c->has[msg->id] = true;
	return c->right && ++c->visits < c->page;
}

static void
node_append_event(int64_t id)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "u %" PRId64 " 0 a.b.c {}", id);

	order[id] = ++order_count;
	history_add((struct slice){text, (size_t)len}, 1, 0);
}

/* Node 1 hears the next item, and keeps it. */
static bool
node_hear(struct model *m)
{
	const struct model_heard *h = model_hear(m, 1);

	if (h == NULL)
		return false;
	switch (h->kind) {
	case MODEL_EVENT:
		node_append_event(h->id);
		break;
	case MODEL_BATCH:
		for (int64_t id = 1; id < m->next_id; id++)
			if (m->events[id].announced == h->batch)
				node_append_event(id);
		break;
	case MODEL_MARKER:
		history_add_marker(&h->marker, h->node == 1 && h->told ? MODEL_EPOCH : "",
		    h->node == 1 && h->told ? &h->snapshot : &no_snapshot,
		    h->node == 1 && h->told ? &m->nodes[1].announced : &no_snapshot);
		break;
	}
	return true;
}

/* With its cursor to node 1: is its marker there? */
static bool
client_come(struct client *c, const struct position *from)
{
	char cursor[POSITION_TEXT_MAX];
	size_t len = position_format(from, cursor);
	struct position p = {0};

	if (len == 0)
		return false;
	if (!position_parse(&p, (struct slice){cursor, len}))
		abort();
	position_clear(&c->position);
	c->position = p;
	c->here = history_find(&p.marker, &c->place);
	return c->here;
}

static void
client_walk(struct client *c, const struct model *m)
{
	c->visits = 0;
	c->page = tap_random(&((struct model *)(uintptr_t)m)->random, 4) == 0 ? 3 : SIZE_MAX;
	if (!history_walk(&c->place, &c->position, client_visit, c))
		c->right = false;
}

/* At the end it has what either node has heard. */
static bool
client_is_complete(const struct client *c, const struct model *m)
{
	for (int64_t id = 1; id < m->next_id; id++)
		if (m->nodes[1].has[id] && !c->has[id]) {
			diag("event %" PRId64 " is missing", id);
			return false;
		}
	return true;
}

struct tally {
	size_t came, came_again, walks, ends;
};

static bool
client_live(struct client *c, struct model *m, struct tally *tally)
{
	struct model_node *giver = &m->nodes[0];

	if (!c->here) {
		memcpy(c->has, giver->has, sizeof(c->has));
		tally->came += client_come(c, &giver->position);
		return true;
	}
	client_walk(c, m);
	tally->walks++;
	if (!c->right || !model_position_is_exact(m, &c->position, c->has))
		return false;
	if (c->place == history_end()) {
		tally->ends++;
		if (!client_is_complete(c, m))
			return false;
	}
	if (tap_random(&m->random, 8) == 0)
		c->here = false;
	else if (tap_random(&m->random, 4) == 0)
		tally->came_again += client_come(c, &c->position);
	return true;
}

static bool
follow(struct model *m, struct client *clients, size_t count, struct tally *tally)
{
	uint32_t lag = 1 + tap_random(&m->random, 6);

	while (!model_is_full(m)) {
		model_write(m);
		for (int node = 0; node < 2; node++)
			if (tap_random(&m->random, 6) == 0)
				model_beat(m, node);
		if (tap_random(&m->random, 8) == 0)
			model_announce(m);
		while (tap_random(&m->random, 4) > 0 && model_hear(m, 0) != NULL)
			continue;
		while (tap_random(&m->random, lag) > 0 && node_hear(m))
			continue;
		if (tap_random(&m->random, 4) == 0 &&
		    !client_live(&clients[tap_random(&m->random, (uint32_t)count)], m, tally))
			return false;
	}
	return true;
}

static void
test_clients(void)
{
	struct tally tally = {0};
	bool right = true;

	for (uint64_t seed = 1; seed <= 20 && right; seed++) {
		struct client clients[4];
		struct model *m = model_new(seed * 104729);

		begin();
		order_count = 0;
		memset(clients, 0, sizeof(clients));
		for (size_t i = 0; i < ARRAY_LENGTH(clients); i++)
			clients[i].right = true;
		right = follow(m, clients, ARRAY_LENGTH(clients), &tally);
		if (!right)
			diag("seed %" PRIu64, seed * 104729);
		for (size_t i = 0; i < ARRAY_LENGTH(clients); i++)
			position_clear(&clients[i].position);
		model_free(m);
		history_free();
	}
	ok(right, "clients with another node's cursors get what they missed, in order, each once; and "
		  "their positions say so (seeds 104729 and on)");
	ok(tally.came > 500 && tally.came_again > 500 && tally.walks > 5000 && tally.ends > 2000,
	    "%zu came, %zu again with the cursor they had then, %zu walks, %zu to the end", tally.came,
	    tally.came_again, tally.walks, tally.ends);
	msg_release_blocks();
}

int
main(void)
{
	char *error = NULL;

	if (!conf_load("/dev/null", &error))
		abort();
	log_set_level(LOG_ERROR);
	topics_init();
	test_empty();
	test_payloads();
	test_sharing();
	test_apart();
	test_looks();
	test_rows();
	test_topics();
	test_markers();
	test_positions();
	test_pages();
	test_limit();
	test_limit_markers();
	test_age();
	test_reset();
	test_tickets();
	test_random();
	test_clients();
	conf_free();
	return tap_end();
}
