/* Sets of event ids, as ranges. */
#include "config.h"
#include "relay/idset.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

/* The first range that ends at or behind id - 1, which id touches or which comes behind it. Mostly it is the
 * last one. */
static size_t
idset_find(const struct idset *set, int64_t id)
{
	size_t low = 0, high = set->count;

	if (high == 0 || set->ranges[high - 1].last < id - 1)
		return high;
	if (high == 1 || set->ranges[high - 2].last < id - 1)
		return high - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->ranges[middle].last < id - 1)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
idset_insert(struct idset *set, size_t at, struct idset_range range)
{
	if (set->count == set->capacity) {
		set->capacity = set->capacity > 0 ? set->capacity * 2 : 8;
		set->ranges = mem_resize(set->ranges, set->capacity * sizeof(*set->ranges));
	}
	memmove(&set->ranges[at + 1], &set->ranges[at], (set->count - at) * sizeof(*set->ranges));
	set->ranges[at] = range;
	set->count++;
}

void
idset_add(struct idset *set, int64_t first, int64_t last)
{
	size_t at, end;
	struct idset_range *r;

	at = end = idset_find(set, first);
	if (at == set->count || set->ranges[at].first > last + 1) {
		idset_insert(set, at, (struct idset_range){first, last});
		return;
	}
	r = &set->ranges[at];
	if (first < r->first)
		r->first = first;
	if (last <= r->last)
		return;
	/* it grows, perhaps into those behind it */
	for (end = at + 1; end < set->count && set->ranges[end].first <= last + 1; end++)
		if (set->ranges[end].last > last)
			last = set->ranges[end].last;
	r->last = last;
	memmove(&set->ranges[at + 1], &set->ranges[end], (set->count - end) * sizeof(*set->ranges));
	set->count -= end - at - 1;
}

void
idset_add_set(struct idset *set, const struct idset *other)
{
	for (size_t i = 0; i < other->count; i++)
		idset_add(set, other->ranges[i].first, other->ranges[i].last);
}

bool
idset_has(const struct idset *set, int64_t id)
{
	size_t at = idset_find(set, id);

	/* the one found may end just before id */
	for (; at < set->count && set->ranges[at].first <= id; at++)
		if (id <= set->ranges[at].last)
			return true;
	return false;
}

void
idset_reset(struct idset *set)
{
	set->count = 0;
}

void
idset_copy(struct idset *to, const struct idset *from)
{
	idset_reset(to);
	if (to->capacity < from->count) {
		to->capacity = from->count;
		to->ranges = mem_resize(to->ranges, to->capacity * sizeof(*to->ranges));
	}
	if (from->count > 0)
		memcpy(to->ranges, from->ranges, from->count * sizeof(*to->ranges));
	to->count = from->count;
}

void
idset_clear(struct idset *set)
{
	free(set->ranges);
	*set = (struct idset){0};
}
