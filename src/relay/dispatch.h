/* From a record to those who subscribed to it. */
#ifndef PGRELAY_RELAY_DISPATCH_H
#define PGRELAY_RELAY_DISPATCH_H

#include "relay/event.h"
#include "relay/position.h"

/*
 * An event's or a ticket's record: into the history, and to everybody who wants it, at dispatch_flush() at
 * the latest; until then what the record points to must be there. xid is its transaction where the announcer
 * has told it, else
 * 0. position is the stream's behind it; until dispatch_flush() it goes on by ids behind all others only.
 */
void dispatch_event(const struct record *record, uint64_t xid, const struct position *position);
void dispatch_flush(void);
/* The same to those sessions alone that are on their way back, which missed it. */
void dispatch_missed(const struct record *record);
/*
 * What a relay of AWX's brought for a group (docs/cluster.md, section 6), of this topic here: to this node's
 * clients alone, at once.
 */
void dispatch_relayed(const char *group, const struct topic *topic, struct slice payload);
/* Counts a malformed record, and logs that at most once a minute. */
void dispatch_count_malformed(void);

#endif
