/*
 * PostgreSQL's snapshots, as pg_current_snapshot() writes them (PostgreSQL's documentation, section 9.26.12,
 * "pg_snapshot Components"): which transactions had committed at some moment. Aborted ones count as visible;
 * no row is theirs.
 */
#ifndef PGRELAY_RELAY_SNAPSHOT_H
#define PGRELAY_RELAY_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/event.h"

/* What snapshot_parse() takes: a heartbeat, or a cursor, holds one. */
#define SNAPSHOT_TEXT_MAX 7000

struct snapshot {
	uint64_t xmin, xmax; /* below xmin: all visible; from xmax on: none. Both 0: no snapshot */
	uint64_t *xip;       /* between them, these are not visible; ascending */
	size_t count;
};

/* Parses "XMIN:XMAX:XIP,..." into *snapshot, which must be cleared or zero. False when it is none: then
 * *snapshot is as before. */
bool snapshot_parse(struct snapshot *snapshot, struct slice text);
/* Writes the same form, without a NUL, and returns its length; size when it takes that or more. */
size_t snapshot_write(const struct snapshot *snapshot, char *text, size_t size);
/* The same, on the heap; the caller releases it with free(). */
char *snapshot_text(const struct snapshot *snapshot);
void snapshot_copy(struct snapshot *to, const struct snapshot *from);
void snapshot_clear(struct snapshot *snapshot);
bool snapshot_is_set(const struct snapshot *snapshot);
bool snapshot_is_equal(const struct snapshot *snapshot, const struct snapshot *other);

bool snapshot_sees(const struct snapshot *snapshot, uint64_t xid);
/* It sees from now on only what the other sees, too. */
void snapshot_intersect(struct snapshot *snapshot, const struct snapshot *other);
/* Does this one see all that the other sees? For two of one server: was it taken no earlier? */
bool snapshot_covers(const struct snapshot *snapshot, const struct snapshot *other);

#endif
