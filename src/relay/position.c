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
#include "core/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

void
position_add(struct position *p, int64_t id)
{
	idset_add(&p->since, id, id);
}

void
position_add_logged(struct position *p, int64_t id, int64_t time_us)
{
	position_add(p, id);
	p->last_id = id;
	p->last_time_us = time_us;
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

static size_t
position_format_ids(const struct position *p, char *out, size_t size)
{
	struct idset ids = {0};
	int64_t last = 0;
	size_t n = 0;

	idset_copy(&ids, &p->before);
	idset_add_set(&ids, &p->since);
	idset_add_set(&ids, &p->told);
	for (size_t i = 0; i < ids.count && n < size; i++) {
		const struct idset_range *r = &ids.ranges[i];

		n += (size_t)snprintf(out + n, size - n, i > 0 ? ",%" PRId64 : "%" PRId64, r->first - last);
		if (r->last > r->first && n < size)
			n += (size_t)snprintf(out + n, size - n, "_%" PRId64, r->last - r->first);
		last = r->last;
	}
	idset_clear(&ids);
	return n;
}

size_t
position_format(const struct position *p, char out[POSITION_TEXT_MAX])
{
	char *seen, *announced = NULL, last[48] = "";
	size_t n;

	if (*p->epoch == '\0' || p->before.count + p->since.count + p->told.count > POSITION_MAX_RANGES)
		return 0;
	seen = snapshot_text(&p->seen);
	if (snapshot_is_set(&p->announced))
		announced = snapshot_text(&p->announced);
	if (p->last_id > 0)
		snprintf(last, sizeof(last), "_%" PRId64 "_%" PRId64, p->last_id, p->last_time_us);
	n = (size_t)snprintf(out, POSITION_TEXT_MAX, "1.%s.%016" PRIx64 ".%" PRId64 "%s.%s.%s.", p->epoch,
	    p->marker.boot, p->marker.counter, last, seen,
	    announced == NULL              ? "-"
	    : strcmp(announced, seen) == 0 ? "s"
					   : announced);
	free(seen);
	free(announced);
	if (n >= POSITION_TEXT_MAX)
		return 0;
	n += position_format_ids(p, out + n, POSITION_TEXT_MAX - n);
	return n < POSITION_TEXT_MAX ? n : 0;
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
