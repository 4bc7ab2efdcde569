/*
 * The inside of auth.h, for its files: auth.c (who is it?), auth_rights.c (what may they see?) and
 * auth_subrequest.c (asking a web application who it is).
 */
#ifndef PGRELAY_CLIENT_AUTH_PRIVATE_H
#define PGRELAY_CLIENT_AUTH_PRIVATE_H

struct pg_query_pool;

/* Where the database is asked. */
struct pg_query_pool *auth_pool(void);

void auth_rights_init(void);
/* No question is under way any more. */
void auth_rights_free(void);

#endif
