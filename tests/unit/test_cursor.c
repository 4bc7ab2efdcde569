/*
 * Cursors of positions that go on: what src/relay/position.c keeps of the one that it made last changes none,
 * and what a position was can be told afterwards. Against printf.
 */
#include "config.h"
#include "core/mem.h"
#include "relay/position.h"

#include "stream_model.h"
#include "tap.h"

#define IDS       700
#define POSITIONS 3
#define TEXT_MAX  (64 * 1024)

/* ---- a cursor, written the long way ---- */

struct text {
	char octets[TEXT_MAX];
	size_t len;
};

static void TAP_PRINTF(2, 3) write_text(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	t->len += (size_t)vsnprintf(t->octets + t->len, sizeof(t->octets) - t->len, fmt, ap);
	va_end(ap);
}

static void
write_snapshot(struct text *t, const struct snapshot *s)
{
	write_text(t, "%" PRIu64 ":%" PRIu64 ":", s->xmin, s->xmax);
	for (size_t i = 0; i < s->count; i++)
		write_text(t, i > 0 ? ",%" PRIu64 : "%" PRIu64, s->xip[i]);
}

static void
write_ids(struct text *t, const bool has[IDS])
{
	int64_t last = 0;

	for (int64_t first = 1, end; first < IDS; first = end) {
		for (end = first; end < IDS && has[end] == has[first]; end++)
			;
		if (!has[first])
			continue;
		write_text(t, last > 0 ? ",%" PRId64 : "%" PRId64, first - last);
		if (end - first > 1)
			write_text(t, "_%" PRId64, end - 1 - first);
		last = end - 1;
	}
}

static void
write_cursor(struct text *t, const struct position *p)
{
	bool has[IDS];

	t->len = 0;
	write_text(t, "1.%s.%016" PRIx64 ".%" PRId64, p->epoch, p->marker.boot, p->marker.counter);
	if (p->last_id > 0)
		write_text(t, "_%" PRId64 "_%" PRId64, p->last_id, p->last_time_us);
	write_text(t, ".");
	write_snapshot(t, &p->seen);
	write_text(t, ".");
	if (!snapshot_is_set(&p->announced))
		write_text(t, "-");
	else if (snapshot_covers(&p->announced, &p->seen) && snapshot_covers(&p->seen, &p->announced) &&
		 p->announced.xmin == p->seen.xmin)
		write_text(t, "s");
	else
		write_snapshot(t, &p->announced);
	write_text(t, ".");
	for (int64_t id = 0; id < IDS; id++)
		has[id] = position_has(p, id);
	write_ids(t, has);
}

static bool
formats_right(const struct position *p)
{
	static struct text want;
	char text[POSITION_TEXT_MAX];
	size_t len = position_format(p, text);

	write_cursor(&want, p);
	if (*p->epoch == '\0' || want.len >= POSITION_TEXT_MAX ||
	    p->before.count + p->since.count + p->told.count > 500)
		return len == 0;
	if (tap_same_octets(text, len, want.octets, want.len) && text[len] == '\0')
		return true;
	diag("got %.*s", (int)len, text);
	diag("wanted %s", want.octets);
	return false;
}

/* ---- positions that go on ---- */

/* Few different ones, so that the next is often the same, or nearly. */
static struct snapshot
random_snapshot(struct tap_random *r)
{
	static const char *const texts[] = {"10:20:", "10:20:12", "10:20:13", "10:20:12,15", "10:21:12,15",
	    "11:20:12,15", "4294967297:18446744073709:4294967300"};
	char text[SNAPSHOT_TEXT_MAX];
	size_t n;

	if (tap_random(r, 20) > 0)
		return model_parse(texts[tap_random(r, ARRAY_LENGTH(texts))]);
	n = (size_t)sprintf(text, "1:9999:1000");
	for (uint32_t xid = 1001, end = 1000 + tap_random(r, 900); xid < end; xid++)
		n += (size_t)sprintf(text + n, ",%" PRIu32, xid);
	return model_parse(text);
}

static void
move_marker(struct tap_random *r, struct position *p)
{
	static const char *const epochs[] = {MODEL_EPOCH, "7710862416247324902.2", "1.1"};
	const char *epoch = epochs[tap_random(r, ARRAY_LENGTH(epochs))];
	struct marker marker = {tap_random(r, 2), tap_random(r, 3)};
	struct snapshot seen = random_snapshot(r), announced = {0};
	struct idset ids = {0};

	if (tap_random(r, 3) == 0)
		announced = random_snapshot(r);
	else if (tap_random(r, 2) == 0)
		snapshot_copy(&announced, &seen);
	if (tap_random(r, 4) > 0)
		position_pass(p, &marker, epoch, &seen, &announced);
	else
		position_set(p, &marker, epoch, &seen, &announced, &ids);
	snapshot_clear(&seen);
	snapshot_clear(&announced);
}

static int64_t
random_id(struct tap_random *r, const struct position *p)
{
	const struct idset *ids = &p->since;
	int64_t last = ids->count > 0 ? ids->ranges[ids->count - 1].last : 1 + tap_random(r, 50);
	int64_t id = last + 1 + (tap_random(r, 3) == 0 ? tap_random(r, 3) : 0);

	return id < IDS && tap_random(r, 10) > 0 ? id : 1 + tap_random(r, IDS - 1);
}

static void
move(struct tap_random *r, struct position *p, const struct position *other)
{
	switch (tap_random(r, 30)) {
	case 0:
		move_marker(r, p);
		break;
	case 1:
		position_copy(p, other);
		break;
	case 2:
		idset_add_set(&p->told, &other->since);
		break;
	case 3:
		p->last_id = 0;
		break;
	case 4:
		idset_reset(&p->told);
		break;
	case 5:
		for (int64_t id = 1, step = 1 + tap_random(r, 3); id < IDS; id += step)
			position_add(p, id);
		break;
	case 6 ... 10:
		position_add(p, random_id(r, p));
		break;
	default:
		position_add_logged(p, random_id(r, p), (int64_t)tap_random(r, 9) << tap_random(r, 50));
	}
}

static void
test_going_on(void)
{
	static struct position positions[POSITIONS];
	struct tap_random random = {20261122};
	int wrong = 0, cursors = 0;

	diag("seed 20261122");
	for (int i = 0; i < 60000 && wrong == 0; i++) {
		struct position *p =
		    &positions[tap_random(&random, tap_random(&random, 5) > 0 ? 1 : POSITIONS)];
		char text[POSITION_TEXT_MAX];

		move(&random, p, &positions[tap_random(&random, POSITIONS)]);
		wrong += !formats_right(p);
		cursors += position_format(p, text) > 0;
	}
	is_int(wrong, 0, "the cursors of %d positions that go on are as written the long way", POSITIONS);
	ok(cursors > 20000, "mostly there is one: %d", cursors);
	for (int i = 0; i < POSITIONS; i++)
		position_clear(&positions[i]);
}

/* ---- what a position was ---- */

#define PLACES 40

struct kept_place {
	struct position_place place;
	char text[POSITION_TEXT_MAX];
	size_t len;
};

static bool
places_are_right(struct tap_random *r, const struct position *p, const struct kept_place *kept, size_t count)
{
	for (size_t i = 0; i < 2 * count; i++) {
		const struct kept_place *k = &kept[tap_random(r, (uint32_t)count)];
		char text[POSITION_TEXT_MAX];
		size_t len = position_format_at(p, &k->place, text);

		if (tap_same_octets(text, len, k->text, k->len))
			continue;
		diag("got %.*s", (int)len, text);
		diag("wanted %.*s", (int)k->len, k->text);
		return false;
	}
	return true;
}

static void
test_places(void)
{
	static struct kept_place kept[PLACES];
	static struct position positions[2];
	struct position *p = positions;
	struct tap_random random = {7};
	size_t count = 0, asked = 0;
	bool right = true;

	diag("seed 7");
	for (int i = 0; i < 20000 && right; i++) {
		int64_t id = random_id(&random, p);

		if (!position_is_behind(p, id) || count == PLACES) {
			asked += count;
			right = places_are_right(&random, p, kept, count) && formats_right(p);
			count = 0;
			move(&random, p, &positions[1]);
			move(&random, &positions[1], p);
			continue;
		}
		if (tap_random(&random, 2) == 0)
			position_add(p, id);
		else
			position_add_logged(p, id, id * 1000);
		kept[count].place = position_place(p);
		kept[count].len = position_format(p, kept[count].text);
		count++;
	}
	ok(right, "what a position was, in any order, as long as what was added came behind: %zu times",
	    asked);
	ok(asked > 5000, "that is not seldom");
	position_clear(&positions[0]);
	position_clear(&positions[1]);
}

static void
test_place_of_none(void)
{
	struct position p = {0};
	struct snapshot s = model_parse("3:3:");
	struct marker marker = {1, 1};
	struct position_place empty;
	char text[POSITION_TEXT_MAX];

	ok(position_is_behind(&p, 1), "any id is behind none");
	position_set(&p, &marker, "1.1", &s, &s, &(struct idset){0});
	empty = position_place(&p);
	position_add(&p, 5);
	ok(!position_is_behind(&p, 5) && !position_is_behind(&p, 4) && position_is_behind(&p, 6),
	    "behind one are those that are larger");
	position_format_at(&p, &empty, text);
	is_str(text, "1.1.1.0000000000000001.1.3:3:.s.", "before the first id there was none");
	position_format(&p, text);
	is_str(text, "1.1.1.0000000000000001.1.3:3:.s.5", "now there is one");
	snapshot_clear(&s);
	position_clear(&p);
}

int
main(void)
{
	test_going_on();
	test_places();
	test_place_of_none();
	return tap_end();
}
