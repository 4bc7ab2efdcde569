/*
 * This node's connections (docs/drp.md, section 7): its sessions, less those of other nodes and AWX's relays. They
 * are listed and closed here, and it is told when they come and go.
 */
#ifndef PGRELAY_CLIENT_CONNECTIONS_H
#define PGRELAY_CLIENT_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection_query;
struct session;

/* node is this node's id, which must outlive the module. */
void connections_init(const char *node);

/*
 * Lines (connection_print_line()) of those that are asked for, in the order asked for: the first offset + limit of
 * them, as far as they fit into max octets. *len is their length; released with free().
 */
char *connections_list(struct connection_query *query, size_t max, size_t *len);
/* Closes the session of this number (1008). False when there is none that is open. */
bool connections_close(uint64_t number);

/* For session.c: it is open; it was, and has left that state. */
void connections_opened(const struct session *session);
void connections_ended(const struct session *session);

#endif
