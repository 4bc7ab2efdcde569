/* The addresses of a host name, without blocking: /etc/hosts, then the name servers of /etc/resolv.conf.
 * Other sources of nsswitch.conf are not asked. */
#ifndef PGRELAY_PG_PG_RESOLVE_H
#define PGRELAY_PG_PG_RESOLVE_H

#include <stddef.h>

struct pg_resolve;

/* addresses are texts, valid during the call; error is NULL when there are any, else one line. */
typedef void (*pg_resolve_done)(void *arg, const char *const *addresses, size_t count, const char *error);

/* done is called once, at the end of a turn of the loop; the request releases itself then. */
struct pg_resolve *pg_resolve_start(const char *name, pg_resolve_done done, void *arg);
/* Not after done was called; it will not be. */
void pg_resolve_cancel(struct pg_resolve *resolve);

#endif
