/*
 * Positions and cursors. A cursor's fields are separated by full stops:
 *
 *   1 . system identifier . timeline . boot . counter_id_time . seen . announced . ids
 *
 * id and time, microseconds since 1970, are the last logged event's, left out when there is none. announced is
 * "s" when it is the same as seen, "-" when it is not set. ids are the ranges of all ids, by differences: each
 * is FIRST or FIRST_MORE, FIRST counted from the end of the range before it.
 */
#include "config.h"
#include "relay/position.h"
#include "core/decimal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define POSITION_FIELDS     8
#define POSITION_MAX_RANGES 500

void
position_clear(struct position *p)
{
	snapshot_clear(&p->seen);
	snapshot_clear(&p->announced);
	idset_clear(&p->before);
	idset_clear(&p->since);
	idset_clear(&p->told);
	*p = (struct position){0};
}

void
position_copy(struct position *to, const struct position *from)
{
	memcpy(to->epoch, from->epoch, sizeof(to->epoch));
	to->marker = from->marker;
	to->paired = from->paired;
	to->last_id = from->last_id;
	to->last_time_us = from->last_time_us;
	snapshot_copy(&to->seen, &from->seen);
	snapshot_copy(&to->announced, &from->announced);
	idset_copy(&to->before, &from->before);
	idset_copy(&to->since, &from->since);
	idset_copy(&to->told, &from->told);
}

bool
position_has(const struct position *p, int64_t id)
{
	return idset_has(&p->since, id) || idset_has(&p->before, id) || idset_has(&p->told, id);
}

bool
position_has_row(const struct position *p, uint64_t xid, bool deferred, int64_t id)
{
	const struct snapshot *s = deferred && snapshot_is_set(&p->announced) ? &p->announced : &p->seen;

	return snapshot_sees(s, xid) || position_has(p, id);
}

struct position_place
position_place(const struct position *p)
{
	size_t ranges = p->since.count;

	return (struct position_place){
	    ranges, ranges > 0 ? p->since.ranges[ranges - 1].last : 0, p->last_id, p->last_time_us};
}

static void
position_rebase(struct position *p, const struct marker *marker, const char *epoch,
    const struct snapshot *seen, const struct snapshot *announced)
{
	snprintf(p->epoch, sizeof(p->epoch), "%s", epoch);
	p->marker = *marker;
	snapshot_copy(&p->seen, seen);
	snapshot_copy(&p->announced, announced);
}

void
position_set(struct position *p, const struct marker *marker, const char *epoch, const struct snapshot *seen,
    const struct snapshot *announced, const struct idset *ids)
{
	position_rebase(p, marker, epoch, seen, announced);
	if (ids != &p->before)
		idset_copy(&p->before, ids);
	idset_reset(&p->since);
	idset_reset(&p->told);
	p->paired = true;
}

/* What was told stays: it may lie behind markers to come. */
void
position_pass(struct position *p, const struct marker *marker, const char *epoch, const struct snapshot *seen,
    const struct snapshot *announced)
{
	if (p->paired && *epoch != '\0' && snapshot_is_set(seen)) {
		position_rebase(p, marker, epoch, seen, announced);
		idset_reset(&p->before);
	}
	idset_add_set(&p->before, &p->since);
	idset_reset(&p->since);
	p->paired = true;
}

/* ---- text ---- */

/* So many transactions take up a cursor's length, whatever their numbers. */
#define POSITION_MAX_OPEN (POSITION_TEXT_MAX / 2)

#define POSITION_BASE_MAX  (POSITION_EPOCH_SIZE + 48)
#define POSITION_RANGE_MAX (2 * DECIMAL_MAX + 2)

/* A snapshot in memory of its own. */
struct position_view {
	struct snapshot snapshot;
	uint64_t xip[POSITION_MAX_OPEN];
};

/*
 * The cursor that was made last, in pieces, and what each was made of: that is compared, so it may have been
 * any position's. From one event to the next mostly the last range alone is another. A length of
 * POSITION_TEXT_MAX, or more: too long.
 */
static struct {
	char epoch[POSITION_EPOCH_SIZE];
	struct marker marker;
	char base[POSITION_BASE_MAX]; /* 1.EPOCH.BOOT.COUNTER */
	size_t base_len;

	struct position_view seen, announced;
	char snapshots[POSITION_TEXT_MAX]; /* .SEEN.ANNOUNCED. */
	size_t snapshots_len;

	struct idset_range ranges[POSITION_MAX_RANGES];
	uint16_t ends[POSITION_MAX_RANGES]; /* of each range in ids */
	size_t count;
	char ids[POSITION_TEXT_MAX + POSITION_RANGE_MAX];
} position_made;

static void
position_make_base(const struct position *p)
{
	if (position_made.base_len > 0 && strcmp(position_made.epoch, p->epoch) == 0 &&
	    position_made.marker.boot == p->marker.boot && position_made.marker.counter == p->marker.counter)
		return;
	memcpy(position_made.epoch, p->epoch, sizeof(p->epoch));
	position_made.marker = p->marker;
	position_made.base_len = (size_t)snprintf(position_made.base, sizeof(position_made.base),
	    "1.%s.%016" PRIx64 ".%" PRId64, p->epoch, p->marker.boot, p->marker.counter);
	assert(position_made.base_len < sizeof(position_made.base));
}

static void
position_keep_view(struct position_view *view, const struct snapshot *s)
{
	if (s->count > 0)
		memcpy(view->xip, s->xip, s->count * sizeof(*s->xip));
	view->snapshot = (struct snapshot){s->xmin, s->xmax, view->xip, s->count};
}

static void
position_make_snapshots(const struct position *p)
{
	char *text = position_made.snapshots;
	size_t n = 0, size = sizeof(position_made.snapshots) - 2; /* a stop, and a letter or one more */

	if (position_made.snapshots_len > 0 && snapshot_is_equal(&position_made.seen.snapshot, &p->seen) &&
	    snapshot_is_equal(&position_made.announced.snapshot, &p->announced))
		return;
	position_keep_view(&position_made.seen, &p->seen);
	position_keep_view(&position_made.announced, &p->announced);
	text[n++] = '.';
	n += snapshot_write(&p->seen, text + n, size - n);
	text[n++] = '.';
	if (!snapshot_is_set(&p->announced))
		text[n++] = '-';
	else if (snapshot_is_equal(&p->announced, &p->seen))
		text[n++] = 's';
	else if (n < size)
		n += snapshot_write(&p->announced, text + n, size - n);
	if (n < size)
		text[n++] = '.';
	position_made.snapshots_len = n < size ? n : POSITION_TEXT_MAX;
}

#define POSITION_SETS 4

/* Which of the sets goes on first? NULL: all are at their ends. */
static struct idset *
position_next_set(struct idset sets[POSITION_SETS])
{
	struct idset *next = NULL;

	for (int i = 0; i < POSITION_SETS; i++)
		if (sets[i].count > 0 && (next == NULL || sets[i].ranges->first < next->ranges->first))
			next = &sets[i];
	return next;
}

/* The ranges of all ids. */
static size_t
position_unite(
    const struct position *p, const struct position_place *at, struct idset_range out[POSITION_MAX_RANGES])
{
	struct idset sets[POSITION_SETS] = {p->before, p->told}, *set;
	struct idset_range last;
	size_t count = 0;

	if (at->ranges > 0) {
		last = (struct idset_range){p->since.ranges[at->ranges - 1].first, at->last};
		sets[2] = (struct idset){p->since.ranges, at->ranges - 1, 0};
		sets[3] = (struct idset){&last, 1, 0};
	}
	while ((set = position_next_set(sets)) != NULL) {
		struct idset_range r = *set->ranges++;

		set->count--;
		if (count == 0 || r.first > out[count - 1].last + 1)
			out[count++] = r;
		else if (r.last > out[count - 1].last)
			out[count - 1].last = r.last;
	}
	return count;
}

static size_t
position_write_range(char *out, int64_t last, const struct idset_range *r)
{
	size_t n = decimal_write(out, (uint64_t)(r->first - last));

	if (r->last > r->first) {
		out[n++] = '_';
		n += decimal_write(out + n, (uint64_t)(r->last - r->first));
	}
	return n;
}

/* Returns their length. */
static size_t
position_make_ids(const struct position *p, const struct position_place *at)
{
	struct idset_range ranges[POSITION_MAX_RANGES];
	size_t count = position_unite(p, at, ranges), same = 0, n;

	while (same < count && same < position_made.count &&
	       ranges[same].first == position_made.ranges[same].first &&
	       ranges[same].last == position_made.ranges[same].last)
		same++;
	n = same > 0 ? position_made.ends[same - 1] : 0;
	for (; same < count && n < POSITION_TEXT_MAX; same++) {
		if (same > 0)
			position_made.ids[n++] = ',';
		n += position_write_range(
		    position_made.ids + n, same > 0 ? ranges[same - 1].last : 0, &ranges[same]);
		position_made.ranges[same] = ranges[same];
		position_made.ends[same] = (uint16_t)n;
	}
	position_made.count = same;
	return n;
}

static size_t
position_write_last(const struct position_place *at, char *out)
{
	size_t n = 0;

	if (at->last_id <= 0)
		return 0;
	out[n++] = '_';
	n += decimal_write(out + n, (uint64_t)at->last_id);
	out[n++] = '_';
	return n + decimal_write(out + n, (uint64_t)at->last_time_us);
}

size_t
position_format_at(const struct position *p, const struct position_place *at, char out[POSITION_TEXT_MAX])
{
	char last[2 * (DECIMAL_MAX + 1)];
	size_t last_len, ids_len, n;

	if (*p->epoch == '\0' || p->before.count + at->ranges + p->told.count > POSITION_MAX_RANGES ||
	    p->seen.count > POSITION_MAX_OPEN || p->announced.count > POSITION_MAX_OPEN)
		return 0;
	position_make_base(p);
	position_make_snapshots(p);
	ids_len = position_make_ids(p, at);
	last_len = position_write_last(at, last);
	n = position_made.base_len + last_len + position_made.snapshots_len + ids_len;
	if (n >= POSITION_TEXT_MAX)
		return 0;
	out = mempcpy(out, position_made.base, position_made.base_len);
	out = mempcpy(out, last, last_len);
	out = mempcpy(out, position_made.snapshots, position_made.snapshots_len);
	out = mempcpy(out, position_made.ids, ids_len);
	*out = '\0';
	return n;
}

size_t
position_format(const struct position *p, char out[POSITION_TEXT_MAX])
{
	struct position_place now = position_place(p);

	return position_format_at(p, &now, out);
}

/* A decimal number that is at most max and takes the whole text. */
static bool
position_parse_number(struct slice text, int64_t max, int64_t *number)
{
	int64_t n = 0;

	if (text.len == 0 || text.len > 19)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		int digit = text.ptr[i] - '0';

		if (digit < 0 || digit > 9 || digit > max || n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*number = n;
	return true;
}

static bool
position_parse_boot(struct slice text, uint64_t *boot)
{
	*boot = 0;
	for (size_t i = 0; i < text.len; i++) {
		const char *digits = "0123456789abcdef", *digit = memchr(digits, text.ptr[i], 16);

		if (digit == NULL)
			return false;
		*boot = *boot << 4 | (uint64_t)(digit - digits);
	}
	return text.len == 16;
}

static struct slice
position_cut(struct slice *rest, char at)
{
	const char *end = rest->len > 0 ? memchr(rest->ptr, at, rest->len) : NULL;
	struct slice part = {rest->ptr, end != NULL ? (size_t)(end - rest->ptr) : rest->len};
	size_t taken = part.len + (end != NULL);

	*rest = (struct slice){rest->ptr + taken, rest->len - taken};
	return part;
}

static bool
position_parse_ids(struct idset *ids, struct slice text)
{
	int64_t last = 0;

	if (text.len > 0 && text.ptr[text.len - 1] == ',')
		return false;
	while (text.len > 0) {
		struct slice range = position_cut(&text, ','), more = range, first = position_cut(&more, '_');
		int64_t gap, length = 0;

		if (ids->count == POSITION_MAX_RANGES ||
		    !position_parse_number(first, INT64_MAX - 1 - last, &gap) || gap == 0)
			return false;
		if (first.len < range.len &&
		    (!position_parse_number(more, INT64_MAX - 1 - last - gap, &length) || length == 0))
			return false;
		idset_add(ids, last + gap, last + gap + length);
		last += gap + length;
	}
	return true;
}

static bool
position_parse_snapshots(struct position *p, struct slice seen, struct slice announced)
{
	if (!snapshot_parse(&p->seen, seen))
		return false;
	if (announced.len == 1 && *announced.ptr == '-')
		return true;
	if (announced.len == 1 && *announced.ptr == 's')
		snapshot_copy(&p->announced, &p->seen);
	else
		return snapshot_parse(&p->announced, announced);
	return true;
}

/* COUNTER or COUNTER_ID_TIME */
static bool
position_parse_place(struct position *p, struct slice text)
{
	struct slice counter = position_cut(&text, '_'), id = position_cut(&text, '_');

	if (!position_parse_number(counter, INT64_MAX, &p->marker.counter))
		return false;
	if (counter.ptr + counter.len == id.ptr) /* no underscore */
		return true;
	return position_parse_number(id, INT64_MAX - 1, &p->last_id) && p->last_id > 0 &&
	       position_parse_number(text, INT64_MAX, &p->last_time_us);
}

static bool
position_parse_fields(struct position *p, const struct slice fields[POSITION_FIELDS])
{
	int64_t number;

	if (fields[0].len != 1 || *fields[0].ptr != '1' || fields[1].len > 20 || fields[1].len == 0 ||
	    !position_parse_number(fields[2], UINT32_MAX, &number))
		return false;
	for (size_t i = 0; i < fields[1].len; i++)
		if (fields[1].ptr[i] < '0' || fields[1].ptr[i] > '9')
			return false;
	snprintf(p->epoch, sizeof(p->epoch), "%.*s.%" PRId64, (int)fields[1].len, fields[1].ptr, number);
	return position_parse_boot(fields[3], &p->marker.boot) && position_parse_place(p, fields[4]) &&
	       position_parse_snapshots(p, fields[5], fields[6]) && position_parse_ids(&p->told, fields[7]);
}

bool
position_parse(struct position *p, struct slice text)
{
	struct slice fields[POSITION_FIELDS];
	size_t stops = 0;
	bool ok;

	for (size_t i = 0; i < text.len; i++)
		stops += text.ptr[i] == '.';
	if (text.len >= POSITION_TEXT_MAX || stops != POSITION_FIELDS - 1)
		return false;
	for (size_t i = 0; i < POSITION_FIELDS; i++)
		fields[i] = position_cut(&text, '.');
	ok = position_parse_fields(p, fields);
	if (!ok)
		position_clear(p);
	return ok;
}
