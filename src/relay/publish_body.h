/*
 * The body of a publishing request (docs/cluster.md, section 5): one event, or a list of them, in JSON. It is
 * checked here so that what goes to the database is JSON for sure, and a mistake is told by its place.
 * Nothing is built from it, for it is as large as a client wants it within max_publish_bytes: its text goes
 * on as it is.
 */
#ifndef PGRELAY_RELAY_PUBLISH_BODY_H
#define PGRELAY_RELAY_PUBLISH_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/json_scan.h"

#define PUBLISH_BODY_EVENTS 10000 /* in one request */

struct publish_body_error {
	char text[JSON_SCAN_ERROR];
	long index; /* of the event, from 0; -1: it is no event's */
};

struct publish_body {
	size_t events;
	size_t octets; /* about as many as PostgreSQL makes of it */
};
/* False: *error says why. len octets, which need not end with a NUL. */
bool publish_body_check(
    const char *text, size_t len, struct publish_body *body, struct publish_body_error *error);

#endif
