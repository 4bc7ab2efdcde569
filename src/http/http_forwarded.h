/* The header X-Forwarded-For: each proxy on a request's way appends the address it got the request from. */
#ifndef PGRELAY_HTTP_HTTP_FORWARDED_H
#define PGRELAY_HTTP_HTTP_FORWARDED_H

#include <netinet/in.h>

struct evkeyvalq;
struct netset;

/*
 * The client's address by a request's headers, into *address, which holds that of a trusted proxy. They are
 * read from their end, up to the first address that is not trusted: that one is the client's, and what stands
 * before it may be anybody's invention. Where something else than an address stands, who wrote it is the client.
 */
void forwarded_find(const struct evkeyvalq *headers, const struct netset *trusted, struct in6_addr *address);

#endif
