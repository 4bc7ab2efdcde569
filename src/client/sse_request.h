/* What a request for server-sent events asks for, taken apart (docs/protocol.md, section 5). */
#ifndef PGRELAY_CLIENT_SSE_REQUEST_H
#define PGRELAY_CLIENT_SSE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "client/awx_group.h"
#include "relay/position.h"

struct sse_request {
	char *error; /* what is wrong with it; NULL: nothing */
	struct awx_group *groups;
	size_t count;
	bool resume;              /* go on from this position; else with what comes now */
	struct position position; /* session_resume() takes it */
};

/*
 * Of the URL's parameters groups and cursor, decoded, and the header Last-Event-ID; each may be NULL. Always
 * returns a request; the caller releases it with sse_request_free().
 */
struct sse_request *sse_request_parse(
    const char *groups, const char *cursor, const char *last_event_id, size_t max_groups);
void sse_request_free(struct sse_request *request);

#endif
