/*
 * Which of the messages that AWX's relays bring have come before, by another relay (docs/cluster.md, section
 * 6). What one relay brings twice is meant twice.
 */
#ifndef PGRELAY_CLIENT_RELAY_DEDUP_H
#define PGRELAY_CLIENT_RELAY_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/event.h"

#define RELAY_DEDUP_MS 60000
/*
 * Deliveries that are remembered. With more of them in a minute the oldest are forgotten sooner: what a relay
 * brings so late is then delivered once more.
 */
#define RELAY_DEDUP_MAX 100000

/*
 * A relay, known by a number of its own, has brought this message. Is it to be delivered? It is, unless more
 * of the same were delivered within the last minute than this relay has brought of them.
 */
bool relay_dedup_pass(uint64_t relay, const char *group, struct slice payload, int64_t now_ms);
/* This relay brings no more. */
void relay_dedup_forget(uint64_t relay);
/* Forgets, and releases, what is older than a minute. */
void relay_dedup_age(int64_t now_ms);
/* Deliveries remembered now. */
size_t relay_dedup_count(void);
void relay_dedup_free(void);

#endif
