/* Keeps the log (pgrelay.event) short: asks the database from time to time to empty the partition that is
 * due. */
#ifndef PGRELAY_RELAY_ROTATION_H
#define PGRELAY_RELAY_ROTATION_H

struct pg_query_pool;

/* From now on, on every node; the database sees to it that one does the work. */
void rotation_start(struct pg_query_pool *pool);
void rotation_free(void);

#endif
