/*
 * One picture of all nodes (docs/cluster.md, section 7): each tells about itself, and one that is asked asks
 * the others over the links.
 */
#ifndef PGRELAY_CLUSTER_STATUS_H
#define PGRELAY_CLUSTER_STATUS_H

#include <stdbool.h>

struct status_request;

/* After question_init(). is_ready tells whether this node is; address is what its heartbeats name, copied. */
void status_init(const char *address, bool (*is_ready)(void));
void status_free(void);

/* json is the picture's text, valid during the call. */
typedef void (*status_done)(void *arg, const char *json);
/* Asks all nodes; done is called once, never from inside, a second later at the latest. */
struct status_request *status_collect(status_done done, void *arg);
void status_cancel(struct status_request *request);

#endif
