/*
 * Positions in the stream of events, and cursors, their text form (docs/protocol.md, "Cursors").
 *
 * A position says exactly which events have been delivered: those of the transactions that its snapshots see,
 * and those whose ids it holds. So going on from there needs no order between transactions, neither in a
 * node's memory, where the marker tells the place, nor in the log, where the snapshots do.
 */
#ifndef PGRELAY_RELAY_POSITION_H
#define PGRELAY_RELAY_POSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/idset.h"
#include "relay/snapshot.h"

#define POSITION_EPOCH_SIZE 40   /* "<system identifier>.<timeline>" and a NUL */
#define POSITION_TEXT_MAX   4096 /* a cursor's longest text */

/* A heartbeat, as a place in the stream. */
struct marker {
	uint64_t boot; /* of the node that sent it */
	int64_t counter;
};

struct position {
	char epoch[POSITION_EPOCH_SIZE]; /* "": no position yet */
	struct marker marker;
	struct snapshot seen;      /* by events announced at commit */
	struct snapshot announced; /* by deferred ones; not set: as seen */
	struct idset before;       /* ids delivered before the marker since our marker before it */
	struct idset since;        /* and since the marker */
	struct idset told;    /* by the cursor that it came from; this node may not have heard them yet */
	int64_t last_id;      /* the last event delivered that the log has; 0: none */
	int64_t last_time_us; /* its time, since 1970: by the two a log of another past is known */
	bool paired;          /* `since` holds all ids since a marker of ours */
};

void position_clear(struct position *p);
void position_copy(struct position *to, const struct position *from);

/* Has this event, of a transaction whose id is not known, been delivered since shortly before the marker? */
bool position_has(const struct position *p, int64_t id);
/* Has it been, as far as a row of the log tells? */
bool position_has_row(const struct position *p, uint64_t xid, bool deferred, int64_t id);
/* It is delivered. */
static inline void
position_add(struct position *p, int64_t id)
{
	idset_add_one(&p->since, id);
}

/* The same, of an event that the log has. */
static inline void
position_add_logged(struct position *p, int64_t id, int64_t time_us)
{
	position_add(p, id);
	p->last_id = id;
	p->last_time_us = time_us;
}

/*
 * A heartbeat of our own has come by: epoch and seen, where it told them, become the position's base, if
 * `since` reaches back to the one before it; for what was heard before that one is visible in seen. announced
 * is what deferred events were delivered up to.
 */
void position_pass(struct position *p, const struct marker *marker, const char *epoch,
    const struct snapshot *seen, const struct snapshot *announced);
/* The same, but base in any case: all that seen and announced see, and what is in ids, has been delivered. */
void position_set(struct position *p, const struct marker *marker, const char *epoch,
    const struct snapshot *seen, const struct snapshot *announced, const struct idset *ids);

/*
 * How far a position was at some moment. From what it is now that can be told as long as nothing but ids has
 * been added since, and each of them was behind all ids in `since`.
 */
struct position_place {
	size_t ranges; /* in `since` */
	int64_t last;  /* where the last of them ended; ranges 0: 0 */
	int64_t last_id, last_time_us;
};
struct position_place position_place(const struct position *p);
static inline bool
position_is_behind(const struct position *p, int64_t id)
{
	return p->since.count == 0 || id > p->since.ranges[p->since.count - 1].last;
}

/* Writes the cursor and a NUL, at most POSITION_TEXT_MAX octets, and returns its length; 0 when there is none
 * now, or it does not fit. */
size_t position_format(const struct position *p, char out[POSITION_TEXT_MAX]);
/* The same of what the position was. */
size_t position_format_at(
    const struct position *p, const struct position_place *place, char out[POSITION_TEXT_MAX]);
/* Parses a cursor into *p, which must be cleared or zero; false when it is none. */
bool position_parse(struct position *p, struct slice text);

#endif
