/*
 * What is asked of a list of connections (docs/drp.md, section 7): filters, the order, how many from where on,
 * and which principals may be seen at all.
 */
#ifndef PGRELAY_CLIENT_CONNECTION_QUERY_H
#define PGRELAY_CLIENT_CONNECTION_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/slice.h"

#define CONNECTION_LIST_MAX 50000 /* connections of a list; what stands behind them is left out */

struct connection;
struct connection_query;

/*
 * Of a URL's query (NULL: it has none); parameters that say who is asking are passed over. NULL when it is wrong:
 * *error says why, and is released with free(). Nobody may be seen yet.
 */
struct connection_query *connection_query_parse(const char *query, char **error);
void connection_query_free(struct connection_query *q);

/* This alone is wanted as well. The address has a port; false when it is no such. */
void connection_query_want_principal(struct connection_query *q, const char *principal);
bool connection_query_want_address(struct connection_query *q, const char *address);
/* Principals of this written key, or all ('*'), may be seen. */
void connection_query_allow(struct connection_query *q, struct slice key);

bool connection_query_matches(struct connection_query *q, const struct connection *c);
/* Sorts pointers to connections. A tie is decided by address, node, and number. */
void connection_query_sort(const struct connection_query *q, struct connection **list, size_t count);
size_t connection_query_offset(const struct connection_query *q);
/* How many behind the offset. */
size_t connection_query_limit(const struct connection_query *q);

/* The same for another node, which gives those to be skipped as well; released with free(). */
char *connection_query_format(const struct connection_query *q);
/* What that gave; NULL when it is malformed. */
struct connection_query *connection_query_read(struct slice text);

#endif
