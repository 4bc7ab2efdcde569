/*
 * What the node has delivered lately, in the stream's order: events, wanted or not, and the markers between
 * them. A client that comes back, here or from another node, gets from it what it missed. Bounded in octets
 * (history_limit) and age (history_age).
 */
#ifndef PGRELAY_RELAY_HISTORY_H
#define PGRELAY_RELAY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/msg.h"
#include "relay/position.h"

void history_init(void);
void history_free(void);
/* Forgets everything: what comes now does not follow what was. */
void history_reset(void);

/* Forgets everything, because it was another past of the database's: cursors from then are of no use. */
void history_void(void);
bool history_is_void(const struct marker *marker);

/* Appends events: so many records, valid ones of kind RECORD_EVENT, as lines with a newline between them,
 * which are copied. xid is their transaction where it is known, else 0. */
void history_add(struct slice records, size_t count, uint64_t xid);
/* One whose payload is behind a ticket, of which it takes a reference. */
void history_add_ticket(const struct record *record, uint64_t xid, struct ticket *ticket);
/* Appends a marker. With an epoch and a snapshot (copied) it is one of ours, by which a reader's position
 * goes on. */
void history_add_marker(const struct marker *marker, const char *epoch, const struct snapshot *seen,
    const struct snapshot *announced);

/* A place: that of the event or marker with this serial number. They are numbered without holes, but for one
 * at each reset. */
typedef uint64_t history_place;

/* Appends a gap, which was told to those who were here; both are copied, types may be NULL. */
void history_add_gap(const char *reason, const char *types);

/* The place behind a marker; false when it is not here, or events behind it have been let go. */
bool history_find(const struct marker *marker, history_place *place);
/* The place behind all. */
history_place history_end(void);

/* Called with an event, or a gap, which is valid during the call; false ends the walk behind it. */
typedef bool (*history_visit)(void *arg, struct msg *msg);
/*
 * Walks from *place to the end, or until visit ends it, and moves *place on. position, the reader's own,
 * passes the markers and holds the events walked over; visit is not called for events that it held before.
 * False: the place has been let go.
 */
bool history_walk(history_place *place, struct position *position, history_visit visit, void *arg);

#endif
