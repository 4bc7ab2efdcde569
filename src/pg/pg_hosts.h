/*
 * Where a connection string says that the server may be: a list of hosts, to be tried one by one. libpq
 * itself would give all of them together to one attempt, whose time-out the first silent one uses up.
 */
#ifndef PGRELAY_PG_PG_HOSTS_H
#define PGRELAY_PG_PG_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

/* What overrides the connection string for one attempt. NULL: as the connection string has it. */
struct pg_host {
	char *host;     /* a name, an address, or the folder of a Unix socket */
	char *hostaddr; /* an address */
	char *port;
};

struct pg_hosts;

/*
 * The hosts of a connection string or URI, with what service files and the environment say, in their order;
 * never empty. What cannot be taken apart is one entry without overrides: libpq then connects, or tells what
 * is wrong. The caller releases it with pg_hosts_free().
 */
struct pg_hosts *pg_hosts_new(const char *conninfo);
void pg_hosts_free(struct pg_hosts *hosts);

/* NULL when none is left; valid until the list is changed. */
const struct pg_host *pg_hosts_first(const struct pg_hosts *hosts);
void pg_hosts_drop_first(struct pg_hosts *hosts);
/* The first one, whose name has these addresses, becomes as many: one an address. */
void pg_hosts_expand_first(struct pg_hosts *hosts, const char *const *addresses, size_t count);
/* What is the same as this host goes to the front: a name is the same as any address of its own. */
void pg_hosts_prefer(struct pg_hosts *hosts, const struct pg_host *host);

/* A name, whose addresses are not known yet. */
bool pg_host_is_name(const struct pg_host *host);
/* As in `"db1" (10.0.0.1) port 5432`. The caller releases it with free(). */
char *pg_host_describe(const struct pg_host *host);
/* The caller releases it with pg_host_free(). */
struct pg_host *pg_host_copy(const struct pg_host *host);
void pg_host_free(struct pg_host *host);

#endif
