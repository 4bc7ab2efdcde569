/*
 * The payload of a measured event: a JSON object that opens with the stamp and the sequence number, in the
 * order in which jsonb keeps them too: {"t": 1700000000000000, "seq": 1, "filler": "..."}
 */
#ifndef BENCH_EVENT_H
#define BENCH_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_EVENT_MIN 80 /* octets that any stamp and number fit into */

/* Writes exactly `octets` octets, at least BENCH_EVENT_MIN, and no NUL. */
void bench_event_write(char *out, size_t octets, int64_t stamp_us, int64_t seq);

/* False when it is not such a payload. */
bool bench_event_read(const char *text, size_t len, int64_t *stamp_us, int64_t *seq);

/*
 * The times at which the transactions of events 1 to `events` were told to commit, in a file that publisher
 * and client share: a payload's own stamp is older by the time that its statement took.
 */
int64_t *bench_event_map_commits(const char *path, int64_t events);

/* The whole number behind "key": anywhere in a JSON text. False when there is none. */
bool bench_event_find(const char *text, size_t len, const char *key, int64_t *value);

#endif
