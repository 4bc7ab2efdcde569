/* The addresses of a host name, without blocking: /etc/hosts, then the name servers of /etc/resolv.conf.
 * Other sources of nsswitch.conf are not asked. */
#ifndef PGRELAY_CORE_RESOLVE_H
#define PGRELAY_CORE_RESOLVE_H

#include <stddef.h>

struct resolve;

/* addresses are texts, valid during the call; error is NULL when there are any, else one line. */
typedef void (*resolve_done)(void *arg, const char *const *addresses, size_t count, const char *error);

/* done is called once, at the end of a turn of the loop; the request releases itself then. */
struct resolve *resolve_start(const char *name, resolve_done done, void *arg);
/* Not after done was called; it will not be. */
void resolve_cancel(struct resolve *resolve);

#endif
