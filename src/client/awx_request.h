/* A client's message in the AWX dialect, taken apart (docs/protocol.md, section 4.4). */
#ifndef PGRELAY_CLIENT_AWX_REQUEST_H
#define PGRELAY_CLIENT_AWX_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

struct awx_group {
	char *label;   /* job_events-42 */
	char *pattern; /* job_events.*.42; NULL when it can be no topic's: nobody may see it */
	char *name, *value;
};

struct awx_request {
	char *error;    /* what to answer; NULL: the groups below are asked for */
	bool ignored;   /* nothing to answer, nothing to do */
	bool status;    /* send the present status of the jobs, too */
	char *xrftoken; /* NULL: none */
	struct awx_group *groups;
	size_t count;
};

/* Always returns a request; the caller releases it with awx_request_free(). */
struct awx_request *awx_request_parse(const char *text, size_t len, size_t max_groups);
void awx_request_free(struct awx_request *request);

#endif
