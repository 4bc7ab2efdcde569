/*
 * Sets of event ids, as ranges. Ids come from one sequence, so the events heard since some moment are a few
 * ranges, with holes for transactions that are still open, and for those that rolled back.
 */
#ifndef PGRELAY_RELAY_IDSET_H
#define PGRELAY_RELAY_IDSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idset_range {
	int64_t first, last;
};

struct idset {
	struct idset_range *ranges; /* ascending, never touching */
	size_t count, capacity;
};

/* A zeroed set is empty. Ids are positive. */
void idset_add(struct idset *set, int64_t first, int64_t last);
/* The same of one; mostly it is the next one behind them all. */
static inline void
idset_add_one(struct idset *set, int64_t id)
{
	if (set->count > 0 && set->ranges[set->count - 1].last == id - 1)
		set->ranges[set->count - 1].last = id;
	else
		idset_add(set, id, id);
}

void idset_add_set(struct idset *set, const struct idset *other);
bool idset_has(const struct idset *set, int64_t id);
/* Empties it; its memory stays. */
void idset_reset(struct idset *set);
void idset_copy(struct idset *to, const struct idset *from);
/* Empties it and releases its memory. */
void idset_clear(struct idset *set);

#endif
