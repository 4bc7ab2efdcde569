/*
 * Reading the log of events back (docs/schema.md, "The log"), over a database session of its own that is
 * there only while it is needed. One reading at a time; rows come as the server sends them, and as fast as
 * they are taken.
 */
#ifndef PGRELAY_RELAY_LOG_READER_H
#define PGRELAY_RELAY_LOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/event.h"
#include "relay/snapshot.h"

#define LOG_READER_PATTERNS 64 /* more are sorted out here, not by the server */

/* Which events: those that until sees and since does not; of deferred ones by the other two. */
struct log_range {
	struct snapshot since, deferred_since, until, deferred_until;
};
void log_range_clear(struct log_range *range);

/* Somebody's position: does the log reach back to it? Both belong to the caller. */
struct log_point {
	const struct snapshot *seen, *announced; /* announced may be not set */
	/* An event that the log must hold if its database is the same; 0: not asked. */
	int64_t last_id, last_time_us;
};

struct log_reader_ops {
	/* How far the log reaches, for each of the points: a reason (docs/protocol.md, "Gaps"), or NULL when
	 * it holds all since; exempt are the types that are not logged, separated by spaces. False: no rows
	 * are wanted, on_done comes next. */
	bool (*on_reach)(void *arg, const char *const *reasons, const char *exempt);
	/* A row; valid during the call. */
	void (*on_row)(void *arg, uint64_t xid, bool deferred, const struct record *record);
	/* No more rows. The next reading may be begun from here. */
	void (*on_done)(void *arg);
	/* The server refuses, or for half a minute there has been no session for reading while the others are
	 * there: the log cannot be read. The same. */
	void (*on_refused)(void *arg);
};

/* others_work: are the node's other sessions there? */
void log_reader_init(const char *conninfo, bool (*others_work)(void));
void log_reader_free(void);

/*
 * Begins; range is moved, points (at least one) are copied. patterns NULL: all events. When the session is
 * lost the reading starts again from the beginning, on_reach and all: rows may come twice.
 */
void log_reader_start(struct log_range *range, const struct log_point *points, size_t point_count,
    const struct topic *patterns, size_t count, const struct log_reader_ops *ops, void *arg);
bool log_reader_is_busy(void);
/* Why there is no session to read by; "" where there is one, or none is wanted. */
const char *log_reader_error(void);
/* Gives the reading up; its on_done is not called. */
void log_reader_stop(void);
/* While paused no rows come. */
void log_reader_pause(bool paused);

#endif
