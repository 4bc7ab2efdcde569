/* A client's message in the AWX dialect, taken apart (docs/protocol.md, section 4.4). */
#ifndef PGRELAY_CLIENT_AWX_REQUEST_H
#define PGRELAY_CLIENT_AWX_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "relay/position.h"

#include "client/awx_group.h"

struct awx_request {
	char *error;    /* what to answer; NULL: the groups below are asked for */
	bool ignored;   /* nothing to answer, nothing to do */
	bool status;    /* send the present status of the jobs, too */
	char *xrftoken; /* NULL: none */
	bool cursors;   /* send cursors */
	bool resume;    /* position is where the client was */
	struct position position;
	struct awx_group *groups;
	size_t count;
};

/* Always returns a request; the caller releases it with awx_request_free(). */
struct awx_request *awx_request_parse(const char *text, size_t len, size_t max_groups);
void awx_request_free(struct awx_request *request);

#endif
