/* What the database says about itself, for /metrics: the NOTIFY queue, the log, the clock. */
#ifndef PGRELAY_RELAY_HEALTH_H
#define PGRELAY_RELAY_HEALTH_H

struct pg_query_pool;

/* Asks from now on, every 10 seconds. */
void health_start(struct pg_query_pool *pool);
/* Asks now. */
void health_hasten(void);
void health_free(void);

#endif
