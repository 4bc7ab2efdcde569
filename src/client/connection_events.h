/*
 * Events about connections (docs/drp.md, section 7): what has happened is collected, and emitted in the database
 * many at a time.
 */
#ifndef PGRELAY_CLIENT_CONNECTION_EVENTS_H
#define PGRELAY_CLIENT_CONNECTION_EVENTS_H

#include <stdbool.h>

struct connection;
struct pg_query_pool;

/* origin is this node's id; it and the pool must outlive the module. */
void connection_events_init(struct pg_query_pool *pool, const char *origin);
/* What waits is lost. */
void connection_events_free(void);

/* action is "create" or "delete". */
void connection_events_add(const char *action, const struct connection *c);

/* The node is ending: nothing is tried a second time. */
void connection_events_stop(void);
/* Has all gone out that can? */
bool connection_events_has_ended(void);

#endif
