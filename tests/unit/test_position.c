/* Positions and cursors: src/relay/position.c. */
#include "config.h"
#include "core/mem.h"
#include "relay/position.h"

#include "stream_model.h"
#include "tap.h"

#define TEXT(s) s, sizeof(s) - 1

static const struct snapshot no_snapshot;
static const struct idset no_ids;

static bool
parse(struct position *p, const char *text, size_t len)
{
	char *copy = tap_copy(text, len);
	bool good = position_parse(p, (struct slice){copy, len});

	free(copy);
	return good;
}

static bool
position_is_zero(const struct position *p)
{
	return *p->epoch == '\0' && p->marker.boot == 0 && p->marker.counter == 0 &&
	       !snapshot_is_set(&p->seen) && p->seen.xip == NULL && !snapshot_is_set(&p->announced) &&
	       p->announced.xip == NULL && p->before.ranges == NULL && p->before.count == 0 &&
	       p->since.ranges == NULL && p->since.count == 0 && p->told.ranges == NULL &&
	       p->told.count == 0 && !p->paired;
}

static bool
snapshots_are_same(const struct snapshot *a, const struct snapshot *b)
{
	char *x = snapshot_text(a), *y = snapshot_text(b);
	bool same = strcmp(x, y) == 0;

	free(x);
	free(y);
	return same;
}

static bool
sets_are_same(const struct idset *a, const struct idset *b)
{
	return tap_same_octets(
	    a->ranges, a->count * sizeof(*a->ranges), b->ranges, b->count * sizeof(*b->ranges));
}

static void
all_ids(const struct position *p, struct idset *ids)
{
	idset_copy(ids, &p->told);
	idset_add_set(ids, &p->before);
	idset_add_set(ids, &p->since);
}

/* Do both say the same, however the ids are divided? */
static bool
positions_are_same(const struct position *a, const struct position *b)
{
	struct idset x = {0}, y = {0};
	bool same;

	all_ids(a, &x);
	all_ids(b, &y);
	same = strcmp(a->epoch, b->epoch) == 0 && a->marker.boot == b->marker.boot &&
	       a->marker.counter == b->marker.counter && snapshots_are_same(&a->seen, &b->seen) &&
	       snapshots_are_same(&a->announced, &b->announced) && sets_are_same(&x, &y);
	idset_clear(&x);
	idset_clear(&y);
	return same;
}

/* A position of marker 0x10.COUNTER. */
static void
set(struct position *p, int64_t counter, const char *seen, const char *announced)
{
	struct snapshot s = model_parse(seen), a = announced != NULL ? model_parse(announced) : no_snapshot;
	struct marker marker = {0x10, counter};

	position_set(p, &marker, MODEL_EPOCH, &s, &a, &no_ids);
	snapshot_clear(&s);
	snapshot_clear(&a);
}

/* A heartbeat; seen NULL: it tells no snapshot. */
static void
pass(struct position *p, int64_t counter, const char *epoch, const char *seen)
{
	struct snapshot s = seen != NULL ? model_parse(seen) : no_snapshot;
	struct marker marker = {0x10, counter};

	position_pass(p, &marker, epoch, &s, &s);
	snapshot_clear(&s);
}

/* ---- the rules by which a position moves ---- */

static bool
seen_is(const struct position *p, const char *want)
{
	char *text = snapshot_text(&p->seen);
	bool same = strcmp(text, want) == 0;

	if (!same)
		diag("seen is %s, not %s", text, want);
	free(text);
	return same;
}

static void
test_set(void)
{
	struct position p = {0};
	struct idset ids = {0};
	struct marker marker = {7, 8};
	struct snapshot s = model_parse("10:20:12"), a = model_parse("10:15:");

	position_add(&p, 99);
	ok(position_has(&p, 99) && !position_has(&p, 98), "a zeroed position takes ids");
	idset_add(&p.told, 90, 90);
	idset_add(&ids, 50, 52);
	position_set(&p, &marker, MODEL_EPOCH, &s, &a, &ids);
	ok(p.marker.boot == 7 && p.marker.counter == 8 && strcmp(p.epoch, MODEL_EPOCH) == 0,
	    "a position that is set is at the marker");
	ok(seen_is(&p, "10:20:12") && snapshots_are_same(&p.announced, &a), "with its snapshots");
	ok(position_has(&p, 50) && position_has(&p, 52) && !position_has(&p, 53) && !position_has(&p, 99) &&
		!position_has(&p, 90),
	    "with the ids that were given, and none of its former ones");
	ok(p.paired && p.since.count == 0, "all since the marker is known: nothing");
	snapshot_clear(&s);
	idset_clear(&ids);
	ok(seen_is(&p, "10:20:12") && position_has(&p, 51), "all is its own copy");
	position_add(&p, 60);
	position_set(&p, &marker, MODEL_EPOCH, &a, &a, &p.since);
	ok(position_has(&p, 60) && !position_has(&p, 51), "the ids may be those since its marker");
	position_add(&p, 61);
	position_set(&p, &marker, MODEL_EPOCH, &a, &a, &p.before);
	ok(position_has(&p, 60) && !position_has(&p, 61), "or those before it");
	snapshot_clear(&a);
	position_clear(&p);
	ok(position_is_zero(&p), "a cleared position is zeroed");
	position_clear(&p);
}

static void
test_rows(void)
{
	struct position p = {0};

	set(&p, 1, "10:20:12", "10:15:11");
	position_add(&p, 500);
	ok(position_has_row(&p, 13, false, 1) && !position_has_row(&p, 12, false, 1) &&
		!position_has_row(&p, 20, false, 1),
	    "a row is held when the snapshot sees its transaction");
	ok(position_has_row(&p, 12, true, 1) && !position_has_row(&p, 11, true, 1) &&
		!position_has_row(&p, 15, true, 1),
	    "a deferred one by the other snapshot");
	ok(position_has_row(&p, 12, false, 500) && position_has_row(&p, 30, true, 500),
	    "either when its id is held");
	set(&p, 1, "10:20:12", NULL);
	ok(position_has_row(&p, 13, true, 1) && !position_has_row(&p, 12, true, 1),
	    "without the other snapshot a deferred one is judged as all");
	position_clear(&p);
}

static void
test_pass(void)
{
	struct position p = {0};

	set(&p, 1, "10:10:", NULL);
	position_add(&p, 100);
	pass(&p, 2, MODEL_EPOCH, "10:20:15");
	ok(p.marker.counter == 2 && seen_is(&p, "10:20:15"), "a heartbeat becomes the base");
	ok(position_has(&p, 100) && p.since.count == 0,
	    "what came since the one before it is held by its id");
	position_add(&p, 101);
	pass(&p, 3, MODEL_EPOCH, "12:30:");
	ok(!position_has(&p, 100) && position_has(&p, 101), "after one more it is not: the snapshot sees it");
	pass(&p, 4, MODEL_EPOCH, "14:30:");
	pass(&p, 5, MODEL_EPOCH, "16:30:");
	ok(p.before.count == 0 && p.since.count == 0 && p.marker.counter == 5,
	    "when nothing comes no ids are left");
	position_clear(&p);
}

static void
test_pass_without_snapshot(void)
{
	static const struct {
		const char *name, *epoch, *seen;
	} rows[] = {{"a snapshot", MODEL_EPOCH, NULL}, {"an epoch", "", "10:90:"}, {"both", "", NULL}};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		struct position p = {0};

		set(&p, 1, "10:10:", NULL);
		position_add(&p, 100);
		pass(&p, 2, rows[i].epoch, rows[i].seen);
		position_add(&p, 101);
		pass(&p, 3, rows[i].epoch, rows[i].seen);
		position_add(&p, 102);
		ok(p.marker.counter == 1 && seen_is(&p, "10:10:") && strcmp(p.epoch, MODEL_EPOCH) == 0,
		    "a heartbeat without %s is no base", rows[i].name);
		ok(position_has(&p, 100) && position_has(&p, 101) && position_has(&p, 102),
		    "all ids are held");
		pass(&p, 4, MODEL_EPOCH, "20:20:");
		ok(p.marker.counter == 4 && position_has(&p, 102), "the next one with them is");
		ok(!position_has(&p, 100) && !position_has(&p, 101), "what came before the last one goes");
		position_clear(&p);
	}
}

/* What was heard before this node's first heartbeat need not be visible in its next one's snapshot. */
static void
test_pass_unpaired(void)
{
	char cursor[POSITION_TEXT_MAX];
	struct position p = {0}, q = {0};
	size_t len;

	set(&q, 1, "10:10:", NULL);
	position_add(&q, 100);
	len = position_format(&q, cursor);
	ok(parse(&p, cursor, len) && !p.paired, "a position from a cursor knows no heartbeat of this node's");
	position_add(&p, 101);
	pass(&p, 7, MODEL_EPOCH, "30:30:");
	ok(p.marker.counter == 1 && seen_is(&p, "10:10:"), "the first one is no base");
	ok(position_has(&p, 100) && position_has(&p, 101), "and all ids are held");
	position_add(&p, 102);
	pass(&p, 8, MODEL_EPOCH, "40:40:");
	ok(p.marker.counter == 8 && seen_is(&p, "40:40:"), "the second one is");
	ok(!position_has(&p, 101) && position_has(&p, 102), "what came before the first one goes");
	ok(position_has(&p, 100), "but not what the cursor told, which may still be to come here");
	p.paired = false;
	position_add(&p, 103);
	pass(&p, 9, MODEL_EPOCH, "50:50:");
	ok(p.marker.counter == 8 && position_has(&p, 103), "nor is the first one after a break");
	position_clear(&p);
	position_clear(&q);
}

static void
test_copy(void)
{
	struct position p = {0}, q = {0};

	set(&p, 1, "10:20:12,13", "10:15:11");
	position_add(&p, 100);
	pass(&p, 2, MODEL_EPOCH, "11:20:12");
	position_add(&p, 200);
	idset_add(&p.told, 70, 71);
	position_copy(&q, &p);
	ok(positions_are_same(&p, &q) && sets_are_same(&p.before, &q.before) && p.paired == q.paired,
	    "a copy is the same");
	position_add(&p, 300);
	pass(&p, 3, MODEL_EPOCH, "30:30:");
	ok(!positions_are_same(&p, &q) && seen_is(&q, "11:20:12") && position_has(&q, 200) &&
		!position_has(&q, 300),
	    "and stays where it was");
	position_copy(&q, &p);
	ok(positions_are_same(&p, &q), "a copy replaces what was there");
	position_clear(&p);
	ok(seen_is(&q, "30:30:"), "and stays when the first one is cleared");
	position_clear(&q);
}

/* ---- text ---- */

static bool
text_is_cursor(const char *text, size_t len)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:,._-";

	return len > 0 && len < POSITION_TEXT_MAX && strlen(text) == len && strspn(text, alphabet) == len;
}

/* Is this position's text what is wanted, and does it come back from it? */
static bool
formats_as(const struct position *p, const char *want)
{
	char text[POSITION_TEXT_MAX];
	size_t len = position_format(p, text);
	struct position back = {0};
	bool right = tap_same_octets(text, len, want, strlen(want)) && text_is_cursor(text, len) &&
		     parse(&back, text, len) && positions_are_same(p, &back);

	if (!right)
		diag("got %.*s, wanted %s", (int)len, text, want);
	position_clear(&back);
	return right;
}

static void
test_format(void)
{
	char text[POSITION_TEXT_MAX];
	struct position p = {0};
	struct idset ids = {0};
	struct marker marker = {UINT64_C(0x5f1d0a2b3c4d5e6f), 17};
	struct snapshot s = model_parse("812:815:813"), other = model_parse("800:814:");

	position_add(&p, 4);
	is_int((long long)position_format(&p, text), 0, "no cursor without a base");
	position_set(&p, &marker, MODEL_EPOCH, &s, &s, &no_ids);
	ok(formats_as(&p, "1.7710862416247324902.1.5f1d0a2b3c4d5e6f.17.812:815:813.s."),
	    "a cursor at a marker, both snapshots the same");
	idset_add(&ids, 100, 104);
	idset_add(&ids, 106, 106);
	position_set(&p, &marker, MODEL_EPOCH, &s, &no_snapshot, &ids);
	position_add(&p, 107);
	position_add(&p, 200);
	ok(formats_as(&p, "1.7710862416247324902.1.5f1d0a2b3c4d5e6f.17.812:815:813.-.100_4,2_1,93"),
	    "without the second one, with ids from before and since the marker");
	marker = (struct marker){1, INT64_MAX};
	idset_reset(&ids);
	idset_add(&ids, 1, 1);
	idset_add(&ids, INT64_MAX - 1, INT64_MAX - 1);
	position_set(&p, &marker, "18446744073709551615.4294967295", &s, &other, &ids);
	ok(formats_as(&p,
	       "1.18446744073709551615.4294967295.0000000000000001.9223372036854775807.812:815:813."
	       "800:814:.1,9223372036854775805"),
	    "with two snapshots and the largest numbers");
	idset_reset(&ids);
	idset_add(&ids, 1, INT64_MAX - 1);
	position_set(&p, &marker, "0.0", &s, &s, &ids);
	ok(formats_as(&p, "1.0.0.0000000000000001.9223372036854775807.812:815:813.s.1_9223372036854775805"),
	    "with all ids there can be");
	snapshot_clear(&s);
	snapshot_clear(&other);
	idset_clear(&ids);
	position_clear(&p);
}

/* ---- limits ---- */

#define RANGES_MAX 500

static void
test_ranges_limit(void)
{
	char text[2 * POSITION_TEXT_MAX];
	struct position p = {0}, back = {0};
	size_t len;

	set(&p, 1, "10:10:", NULL);
	for (int64_t i = 1; i <= RANGES_MAX; i++)
		position_add(&p, 2 * i);
	len = position_format(&p, text);
	ok(len > 0 && parse(&back, text, len) && back.told.count == RANGES_MAX,
	    "%d ranges of ids are a cursor", RANGES_MAX);
	ok(positions_are_same(&p, &back), "which comes back");
	pass(&back, 2, MODEL_EPOCH, "10:10:");
	position_add(&back, 2 * RANGES_MAX + 2);
	is_int((long long)position_format(&back, text + len + 1), 0, "with one more it has none");
	position_clear(&back);
	memcpy(text + len, ",2", 3);
	ok(!parse(&back, text, len + 2) && position_is_zero(&back), "a cursor with one more is none");
	memcpy(text + len, ",1", 3);
	ok(!parse(&back, text, len + 2), "touching the last one or not");
	position_add(&p, 2 * RANGES_MAX + 2);
	is_int((long long)position_format(&p, text), 0, "a position with one more has no cursor now");
	pass(&p, 2, MODEL_EPOCH, "11:11:");
	is_int((long long)position_format(&p, text), 0, "nor behind a heartbeat");
	pass(&p, 3, MODEL_EPOCH, "12:12:");
	ok(position_format(&p, text) > 0, "after one more it has one again");
	position_clear(&p);
}

/* A position whose cursor would be so long. */
static void
position_of_length(struct position *p, size_t len)
{
	char snapshot[SNAPSHOT_TEXT_MAX], text[POSITION_TEXT_MAX];
	size_t n = (size_t)sprintf(snapshot, "1000:9999:1000"), now;
	int64_t counter = 1;

	set(p, 0, snapshot, NULL);
	now = position_format(p, text);
	for (int xid = 1001; now + 5 <= len; xid++, now += 5)
		n += (size_t)sprintf(snapshot + n, ",%d", xid);
	for (; now < len; now++)
		counter *= 10;
	set(p, counter, snapshot, NULL);
}

static void
test_length_limit(void)
{
	char text[POSITION_TEXT_MAX + 32];
	struct position p = {0}, back = {0};
	size_t len = POSITION_TEXT_MAX - 1;

	memset(text, '!', sizeof(text));
	position_of_length(&p, len);
	is_int((long long)position_format(&p, text), (long long)len, "a cursor of %zu octets", len);
	ok(text_is_cursor(text, len) && text[len + 1] == '!', "is written with its NUL, and no more");
	ok(parse(&back, text, len) && positions_are_same(&p, &back), "and comes back");
	position_clear(&back);
	memcpy(text + len, "1", 2);
	ok(!parse(&back, text, len + 1) && position_is_zero(&back), "a longer one is none");
	position_add(&p, 1);
	memset(text, '!', sizeof(text));
	is_int((long long)position_format(&p, text), 0,
	    "a position that needs one octet more for its ids has none");
	ok(text[POSITION_TEXT_MAX] == '!', "and nothing is written behind the buffer");
	for (int64_t id = 3; id < 600; id += 3)
		position_add(&p, id);
	is_int((long long)position_format(&p, text), 0, "nor one that needs many");
	ok(text[POSITION_TEXT_MAX] == '!', "and nothing is written behind the buffer");
	for (size_t more = 1; more < 8; more++) {
		position_of_length(&p, len + more);
		if (position_format(&p, text) != 0 || text[POSITION_TEXT_MAX] != '!')
			len = 0;
	}
	ok(len > 0, "nor one that needs more for its snapshot");
	position_clear(&p);
}

/* ---- what is no cursor ---- */

enum { FORMAT, SYSTEM, TIMELINE, BOOT, COUNTER, SEEN, ANNOUNCED, IDS, FIELDS };

static const char *const good_fields[FIELDS] = {
    "1", "7710862416247324902", "1", "5f1d0a2b3c4d5e6f", "17", "812:815:813", "800:814:", "100_4,2_1,93"};

static const struct field_row {
	int field;
	const char *text;
	size_t len;
	const char *back; /* as it is written; NULL: malformed */
} field_rows[] = {
    {FORMAT, TEXT(""), NULL},
    {FORMAT, TEXT("0"), NULL},
    {FORMAT, TEXT("2"), NULL},
    {FORMAT, TEXT("01"), NULL},
    {FORMAT, TEXT("11"), NULL},
    {FORMAT, TEXT(" 1"), NULL},
    {FORMAT, TEXT("1\0"), NULL},
    {FORMAT, TEXT("\0"), NULL},
    {SYSTEM, TEXT("1"), "1"},
    {SYSTEM, TEXT("18446744073709551615"), "18446744073709551615"},
    {SYSTEM, TEXT("184467440737095516150"), NULL},
    {SYSTEM, TEXT(""), NULL},
    {SYSTEM, TEXT("-1"), NULL},
    {SYSTEM, TEXT("12a"), NULL},
    {SYSTEM, TEXT("1 "), NULL},
    {SYSTEM, TEXT("1\0"), NULL},
    {SYSTEM, TEXT("%s%n"), NULL},
    {TIMELINE, TEXT("4294967295"), "4294967295"},
    {TIMELINE, TEXT("007"), "7"},
    {TIMELINE, TEXT("4294967296"), NULL},
    {TIMELINE, TEXT("99999999999999999999"), NULL},
    {TIMELINE, TEXT(""), NULL},
    {TIMELINE, TEXT("-1"), NULL},
    {TIMELINE, TEXT("+1"), NULL},
    {TIMELINE, TEXT("1 "), NULL},
    {TIMELINE, TEXT("1\0"), NULL},
    {TIMELINE, TEXT("0x1"), NULL},
    {BOOT, TEXT("0000000000000000"), "0000000000000000"},
    {BOOT, TEXT("ffffffffffffffff"), "ffffffffffffffff"},
    {BOOT, TEXT(""), NULL},
    {BOOT, TEXT("5f1d0a2b3c4d5e6"), NULL},
    {BOOT, TEXT("5f1d0a2b3c4d5e6f0"), NULL},
    {BOOT, TEXT("5F1D0A2B3C4D5E6F"), NULL},
    {BOOT, TEXT("5f1d0a2b3c4d5e6g"), NULL},
    {BOOT, TEXT("5f1d0a2b3c4d5e6\0"), NULL},
    {BOOT, TEXT("-f1d0a2b3c4d5e6f"), NULL},
    {COUNTER, TEXT("0"), "0"},
    {COUNTER, TEXT("9223372036854775807"), "9223372036854775807"},
    {COUNTER, TEXT("9223372036854775808"), NULL},
    {COUNTER, TEXT("9999999999999999999"), NULL},
    {COUNTER, TEXT("18446744073709551617"), NULL},
    {COUNTER, TEXT(""), NULL},
    {COUNTER, TEXT("-1"), NULL},
    {COUNTER, TEXT("1e1"), NULL},
    {COUNTER, TEXT("1\n"), NULL},
    {SEEN, TEXT("812:812:"), "812:812:"},
    {SEEN, TEXT("812:4294967297:813,900,4294967296"), "812:4294967297:813,900,4294967296"},
    {SEEN, TEXT(""), NULL},
    {SEEN, TEXT("s"), NULL},
    {SEEN, TEXT("-"), NULL},
    {SEEN, TEXT("0:0:"), NULL},
    {SEEN, TEXT("812"), NULL},
    {SEEN, TEXT("812:815"), NULL},
    {SEEN, TEXT("815:812:"), NULL},
    {SEEN, TEXT("812:815:811"), NULL},
    {SEEN, TEXT("812:815:815"), NULL},
    {SEEN, TEXT("812:815:814,813"), NULL},
    {SEEN, TEXT("812:815:813,"), NULL},
    {SEEN, TEXT("4294967296:4294967297:"), NULL},
    {SEEN, TEXT("9223372036854775809:9223372036854775809:"), NULL},
    {SEEN, TEXT("812:815:813 "), NULL},
    {ANNOUNCED, TEXT("s"), "s"},
    {ANNOUNCED, TEXT("-"), "-"},
    {ANNOUNCED, TEXT("812:815:813"), "s"},
    {ANNOUNCED, TEXT(""), NULL},
    {ANNOUNCED, TEXT("S"), NULL},
    {ANNOUNCED, TEXT("ss"), NULL},
    {ANNOUNCED, TEXT("--"), NULL},
    {ANNOUNCED, TEXT("x"), NULL},
    {ANNOUNCED, TEXT("0:0:"), NULL},
    {ANNOUNCED, TEXT("815:812:"), NULL},
    {ANNOUNCED, TEXT("800:814"), NULL},
    {ANNOUNCED, TEXT("s\0"), NULL},
    {IDS, TEXT(""), ""},
    {IDS, TEXT("1"), "1"},
    {IDS, TEXT("007_003"), "7_3"},
    {IDS, TEXT("5,1"), "5_1"},
    {IDS, TEXT("5_2,1_2,9"), "5_5,9"},
    {IDS, TEXT("9223372036854775806"), "9223372036854775806"},
    {IDS, TEXT("9223372036854775804,2"), "9223372036854775804,2"},
    {IDS, TEXT("1_9223372036854775805"), "1_9223372036854775805"},
    {IDS, TEXT("9223372036854775807"), NULL},
    {IDS, TEXT("9223372036854775808"), NULL},
    {IDS, TEXT("1_9223372036854775806"), NULL},
    {IDS, TEXT("9223372036854775806,1"), NULL},
    {IDS, TEXT("9223372036854775804,3"), NULL},
    {IDS, TEXT("9223372036854775805,9"), NULL},
    {IDS, TEXT("9223372036854775806,9"), NULL},
    {IDS, TEXT("9223372036854775806_1"), NULL},
    {IDS, TEXT("9223372036854775806_9"), NULL},
    {IDS, TEXT("9223372036854775800_9"), NULL},
    {IDS, TEXT("1,9223372036854775806"), NULL},
    {IDS, TEXT("99999999999999999999"), NULL},
    {IDS, TEXT("0"), NULL},
    {IDS, TEXT("0_5"), NULL},
    {IDS, TEXT("5,0"), NULL},
    {IDS, TEXT("5_0"), NULL},
    {IDS, TEXT("5_"), NULL},
    {IDS, TEXT("_5"), NULL},
    {IDS, TEXT("_"), NULL},
    {IDS, TEXT("5__1"), NULL},
    {IDS, TEXT("5_1_1"), NULL},
    {IDS, TEXT("5,"), NULL},
    {IDS, TEXT(","), NULL},
    {IDS, TEXT(",5"), NULL},
    {IDS, TEXT("5,,5"), NULL},
    {IDS, TEXT("5,_5"), NULL},
    {IDS, TEXT("5_,5"), NULL},
    {IDS, TEXT("-5"), NULL},
    {IDS, TEXT("5-9"), NULL},
    {IDS, TEXT("5, 6"), NULL},
    {IDS, TEXT("5 "), NULL},
    {IDS, TEXT("5:6"), NULL},
    {IDS, TEXT("a"), NULL},
    {IDS, TEXT("5\0"), NULL},
    {IDS, TEXT("\0"), NULL},
};

/* The good cursor with one field replaced; returns its length. */
static size_t
cursor_with(int field, const char *with, size_t with_len, char *text)
{
	size_t n = 0;

	for (int i = 0; i < FIELDS; i++) {
		const char *part = i == field ? with : good_fields[i];
		size_t len = i == field ? with_len : strlen(part);

		if (i > 0)
			text[n++] = '.';
		memcpy(text + n, part, len);
		n += len;
	}
	text[n] = '\0';
	return n;
}

static void
test_fields(void)
{
	static const char *const names[] = {
	    "version", "system identifier", "timeline", "boot", "counter", "seen", "announced", "ids"};

	for (size_t i = 0; i < ARRAY_LENGTH(field_rows); i++) {
		const struct field_row *row = &field_rows[i];
		char text[512], want[512], back[POSITION_TEXT_MAX];
		size_t len = cursor_with(row->field, row->text, row->len, text);
		struct position p = {0};
		bool good = parse(&p, text, len);

		if (row->back == NULL) {
			ok(!good && position_is_zero(&p), "%s \"%s\" is malformed", names[row->field],
			    row->text);
		} else {
			size_t want_len = cursor_with(row->field, row->back, strlen(row->back), want);

			ok(good && tap_same_octets(back, position_format(&p, back), want, want_len),
			    "%s \"%s\"", names[row->field], row->text);
		}
		position_clear(&p);
	}
}

static void
test_whole_texts(void)
{
	char good[512], text[600];
	size_t len = cursor_with(-1, "", 0, good);
	struct position p = {0};
	bool right = true;

	ok(parse(&p, good, len), "the good cursor is one");
	position_clear(&p);
	for (size_t n = 0; n < len; n++) {
		bool ends_in_ids = n > len - strlen(good_fields[IDS]) - 1;
		bool whole = ends_in_ids && good[n - 1] != ',' && good[n - 1] != '_';
		bool taken = parse(&p, good, n);

		if (taken != (whole || n == len - strlen(good_fields[IDS]))) {
			diag("the first %zu octets are %s", n, taken ? "taken" : "not");
			right = false;
		}
		position_clear(&p);
	}
	ok(right, "its beginnings are none, unless cut between ids or within one");
	for (size_t n = 1; n <= len; n++) {
		right = !parse(&p, good + n, len - n) && right;
		position_clear(&p);
	}
	ok(right, "its ends are none");
	memcpy(text, good, len);
	for (int c = 0; c < 256; c++) {
		text[len] = (char)c;
		right = parse(&p, text, len + 1) == (c >= '0' && c <= '9') && right;
		position_clear(&p);
	}
	ok(right, "nor with anything but a digit behind it");
	memcpy(text + 1, good, len);
	for (int c = 0; c < 256; c++) {
		text[0] = (char)c;
		right = !parse(&p, text, len + 1) && right;
		position_clear(&p);
	}
	ok(right, "nor with anything before it");
	ok(!position_parse(&p, (struct slice){NULL, 0}), "nothing is none");
	ok(!parse(&p, TEXT(".......")) && !parse(&p, TEXT("1.......")) && !parse(&p, TEXT("........")),
	    "stops alone are none");
	len = (size_t)sprintf(text, "%s.", good);
	ok(!parse(&p, text, len), "nor is one with a field more");
	ok(position_is_zero(&p), "what is no cursor leaves no position");
}

/* ---- round trips ---- */

static uint64_t
random_number(struct tap_random *random)
{
	uint64_t n = (uint64_t)tap_random(random, UINT32_MAX) << 32 | tap_random(random, UINT32_MAX);

	return n >> tap_random(random, 64);
}

static void
random_snapshot(struct tap_random *random, struct snapshot *s)
{
	uint64_t xmin = (random_number(random) >> 3) + 3, xmax;
	char text[1024];
	size_t n;

	xmin += (uint32_t)xmin == 0;
	xmax = xmin + tap_random(random, 40);
	xmax += (uint32_t)xmax == 0;
	n = (size_t)sprintf(text, "%" PRIu64 ":%" PRIu64 ":", xmin, xmax);
	for (uint64_t xid = xmin, first = true; xid < xmax; xid++)
		if (tap_random(random, 4) == 0) {
			n += (size_t)sprintf(text + n, first ? "%" PRIu64 : ",%" PRIu64, xid);
			first = false;
		}
	snapshot_clear(s);
	*s = model_parse(text);
}

static void
random_ids(struct tap_random *random, struct idset *ids)
{
	int64_t id = 0;

	idset_reset(ids);
	for (uint32_t n = tap_random(random, 20); n > 0; n--) {
		int64_t gap = 1 + (int64_t)(random_number(random) >> 8), more = 0;

		if (tap_random(random, 2) == 0)
			more = (int64_t)(random_number(random) >> 8);
		if (id > INT64_MAX - 1 - gap - more)
			break;
		idset_add(ids, id + gap, id + gap + more);
		id += gap + more;
	}
}

static void
random_position(struct tap_random *random, struct position *p)
{
	char epoch[POSITION_EPOCH_SIZE];
	struct marker marker = {random_number(random), (int64_t)(random_number(random) >> 1)};
	struct snapshot s = {0}, a = {0};
	struct idset ids = {0};

	snprintf(epoch, sizeof(epoch), "%" PRIu64 ".%" PRIu32, random_number(random),
	    (uint32_t)random_number(random));
	random_snapshot(random, &s);
	if (tap_random(random, 3) == 0)
		snapshot_copy(&a, &s);
	else if (tap_random(random, 2) == 0)
		random_snapshot(random, &a);
	random_ids(random, &ids);
	position_set(p, &marker, epoch, &s, &a, &ids);
	random_ids(random, &p->since);
	snapshot_clear(&s);
	snapshot_clear(&a);
	idset_clear(&ids);
}

static void
test_round_trips(void)
{
	struct tap_random random = {31337};
	struct position p = {0};
	bool right = true;

	diag("seed 31337");
	for (int round = 0; round < 5000 && right; round++) {
		char text[POSITION_TEXT_MAX];
		struct position back = {0};
		size_t len;

		random_position(&random, &p);
		len = position_format(&p, text);
		right = text_is_cursor(text, len) && parse(&back, text, len) &&
			positions_are_same(&p, &back) && back.before.count == 0 && back.since.count == 0;
		if (!right)
			diag("%.*s", (int)len, text);
		position_clear(&back);
	}
	ok(right, "5000 random positions come back from their cursors");
	position_clear(&p);
}

/* ---- changed cursors ---- */

/* Whatever is taken is written in its one way, not longer, and comes back from that. */
static bool
parse_is_sound(const char *text, size_t len, bool *taken)
{
	struct position p = {0}, back = {0};
	char again[POSITION_TEXT_MAX];
	size_t again_len;
	bool right;

	*taken = parse(&p, text, len);
	if (!*taken)
		return position_is_zero(&p);
	again_len = position_format(&p, again);
	right = text_is_cursor(again, again_len) && again_len <= len && parse(&back, again, again_len) &&
		positions_are_same(&p, &back) && !p.paired && p.before.count == 0 && p.since.count == 0;
	for (size_t i = 0; i < p.told.count; i++)
		right = right && p.told.ranges[i].first > 0 &&
			p.told.ranges[i].last >= p.told.ranges[i].first && p.told.ranges[i].last < INT64_MAX;
	if (!right)
		diag("%.*s", (int)len, text);
	position_clear(&p);
	position_clear(&back);
	return right;
}

static void
test_every_octet(void)
{
	char good[512];
	size_t len = cursor_with(-1, "", 0, good), total = 0, count = 0;
	bool right = true, taken;

	for (size_t at = 0; at < len; at++) {
		char was = good[at];

		for (int c = 0; c < 256; c++) {
			good[at] = (char)c;
			right = parse_is_sound(good, len, &taken) && right;
			count += taken;
			total++;
		}
		good[at] = was;
	}
	ok(right && count > 0 && count < total, "every octet at every position: %zu of %zu are cursors",
	    count, total);
}

/* Replaces, inserts, takes away, doubles and moves. Returns the new length. */
static size_t
mutate(struct tap_random *random, char *text, size_t len, size_t size)
{
	static const char alphabet[] = "0123456789019990,_.:-s ax\0";
	size_t at = tap_random(random, (uint32_t)len + 1), n = 1 + tap_random(random, 6);
	char c = alphabet[tap_random(random, sizeof(alphabet) - 1)];

	switch (tap_random(random, 4)) {
	case 0:
		if (at < len)
			text[at] = c;
		return len;
	case 1:
		if (len == size)
			return len;
		memmove(text + at + 1, text + at, len - at);
		text[at] = c;
		return len + 1;
	case 2:
		if (n > len - at)
			n = len - at;
		memmove(text + at, text + at + n, len - at - n);
		return len - n;
	default:
		if (n > len - at)
			n = len - at;
		if (n > size - len)
			return len;
		memmove(text + at + n, text + at, len - at);
		return len + n;
	}
}

static void
test_mutations(void)
{
	struct tap_random random = {20261122};
	struct position p = {0};
	size_t total = 0, count = 0;
	bool right = true, taken;

	diag("seed 20261122");
	for (int round = 0; round < 4000; round++) {
		char text[POSITION_TEXT_MAX + 64];
		size_t len;

		random_position(&random, &p);
		len = position_format(&p, text);
		for (int i = 0; i < 12; i++) {
			len = mutate(&random, text, len, sizeof(text));
			right = parse_is_sound(text, len, &taken) && right;
			count += taken;
			total++;
		}
	}
	ok(right && count > 0 && count < total, "random changes: %zu of %zu are cursors", count, total);
	position_clear(&p);
}

/* Numbers around each limit, in each place where one stands. */
static void
test_numbers(void)
{
	static const char *const numbers[] = {"0", "1", "2", "9", "10", "4294967295", "4294967296",
	    "4294967297", "9223372036854775804", "9223372036854775805", "9223372036854775806",
	    "9223372036854775807", "9223372036854775808", "18446744073709551609", "18446744073709551615",
	    "18446744073709551616"};
	struct tap_random random = {64};
	size_t total = 0, count = 0;
	bool right = true, taken;

	diag("seed 64");
	for (int round = 0; round < 60000; round++) {
		const char *n[9];
		char text[512];
		size_t len;

		for (size_t i = 0; i < ARRAY_LENGTH(n); i++)
			n[i] = numbers[tap_random(
			    &random, tap_random(&random, 2) == 0 ? 5 : ARRAY_LENGTH(numbers))];
		len =
		    (size_t)snprintf(text, sizeof(text), "1.%s.%s.0123456789abcdef.%s.3:%s:.s.%s_%s,%s,%s_%s",
			n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]);
		right = parse_is_sound(text, len, &taken) && right;
		count += taken;
		total++;
	}
	ok(right && count > 0 && count < total, "numbers at the limits: %zu of %zu are cursors", count,
	    total);
}

/* ---- a server, and who listens to it ---- */

static bool
replace_by_cursor(struct position *p, size_t *cursors)
{
	char text[POSITION_TEXT_MAX];
	size_t len = position_format(p, text);

	if (len == 0)
		return true; /* too many ids just now */
	position_clear(p);
	++*cursors;
	return parse(p, text, len);
}

/* Things happen in random order; the node's position must always say just what it has heard. */
static bool
follow(struct model *m, uint32_t cursors_every, size_t *checks, size_t *cursors)
{
	struct model_node *n = &m->nodes[0];

	while (!model_is_full(m)) {
		model_write(m);
		if (tap_random(&m->random, 5) == 0)
			model_beat(m, 0);
		if (tap_random(&m->random, 5) == 0)
			model_announce(m);
		while (tap_random(&m->random, 4) > 0 && model_hear(m, 0) != NULL)
			continue;
		if (tap_random(&m->random, 10) > 0)
			continue;
		++*checks;
		if (!model_position_is_exact(m, &n->position, n->has))
			return false;
		if (tap_random(&m->random, cursors_every) == 0 && !replace_by_cursor(&n->position, cursors))
			return false;
		if (!model_position_is_exact(m, &n->position, n->has))
			return false;
	}
	return true;
}

static void
test_following(void)
{
	size_t checks = 0, cursors = 0, markers = 0, batches = 0;
	bool right = true;

	for (uint64_t seed = 1; seed <= 12 && right; seed++) {
		struct model *m = model_new(seed * 7919);

		right = follow(m, seed % 3 == 0 ? 2 : 20, &checks, &cursors);
		if (!right)
			diag("seed %" PRIu64, seed * 7919);
		markers += (size_t)m->nodes[0].position.marker.counter;
		batches += m->batches;
		model_free(m);
	}
	diag("%zu cursors on the way, the bases are %zu markers on, %zu batches of deferred events", cursors,
	    markers, batches);
	ok(right && checks > 1000, "a position says just what has been heard: %zu times (seeds 7919 and on)",
	    checks);
	ok(cursors > 100 && markers > 1000 && batches > 1000,
	    "while its base moved on, and from its cursors");
}

int
main(void)
{
	test_set();
	test_rows();
	test_pass();
	test_pass_without_snapshot();
	test_pass_unpaired();
	test_copy();
	test_format();
	test_ranges_limit();
	test_length_limit();
	test_fields();
	test_whole_texts();
	test_round_trips();
	test_every_octet();
	test_mutations();
	test_numbers();
	test_following();
	return tap_end();
}
