/* Server-sent events (docs/protocol.md, section 5): groups from the URL, a stream of events out. */
#ifndef PGRELAY_CLIENT_DIALECT_SSE_H
#define PGRELAY_CLIENT_DIALECT_SSE_H

#include "client/groups.h"
#include "client/session.h"
#include "client/sse_request.h"

/* What session_open() gets for this dialect. */
struct sse_opening {
	struct sse_request *request;
	struct groups *groups;        /* those of the request that the user may see; ownership passes */
	const struct topic *patterns; /* what they come to */
	size_t count;
};

extern const struct dialect dialect_sse;

#endif
