/*
 * The announcer: the one node that announces deferred events (docs/schema.md, "Announcing"). Each node runs
 * this; an advisory lock in the database says which of them it is. While announcing is wanted, a node holds a
 * third database session, on which it waits for the lock or announces every 10 ms; else it only asks now and
 * then.
 */
#ifndef PGRELAY_CLUSTER_ANNOUNCER_H
#define PGRELAY_CLUSTER_ANNOUNCER_H

#include <stdbool.h>

struct pg_query_pool;

/*
 * Asks over the pool whether announcing is wanted, from now on; announces over a session of its own. hears:
 * is our LISTEN session proven? Who hears nothing does not begin to announce (behind a pooler in transaction
 * mode the lock would be somebody's), and has no silence to complain of. The pool and conninfo stay the
 * caller's, and valid until announcer_free().
 */
void announcer_start(struct pg_query_pool *pool, const char *conninfo, bool (*hears)(void));
/* The schema's settings have changed (record `s`), or may have while nobody listened: asks again at once. */
void announcer_settings_changed(void);
/* A record `d` has come: some node announces. */
void announcer_heard(void);
/* Gives the lock up, too. Call it before the pool is freed; does nothing when not started. */
void announcer_free(void);

#endif
