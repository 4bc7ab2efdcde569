/* Is the schema there, of this program's version, and may this node use it? Asked when the query session
 * comes up, and again until it is so. */
#ifndef PGRELAY_RELAY_SCHEMA_CHECK_H
#define PGRELAY_RELAY_SCHEMA_CHECK_H

struct pg_query_pool;

/* version is what this program was built with. */
void schema_check_start(struct pg_query_pool *pool, int version);
/* The query session has come up. */
void schema_check_now(void);
/* What is wrong with it, for people; "" when nothing is. */
const char *schema_check_error(void);
void schema_check_free(void);

#endif
