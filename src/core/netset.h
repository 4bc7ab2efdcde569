/*
 * IP addresses, and sets of addresses and networks of both families. An IPv4 address is its IPv4-mapped IPv6
 * one here (RFC 4291, section 2.5.5.2), so it is the same address however it was written, and is matched by
 * networks of IPv4 alone.
 */
#ifndef PGRELAY_CORE_NETSET_H
#define PGRELAY_CORE_NETSET_H

#include <netinet/in.h>
#include <stdbool.h>

struct netset;

/*
 * A list, separated by commas or spaces, of addresses and networks: 10.0.0.0/8, ::1. NULL when it is not
 * valid: *error says what is wrong with which, and the caller releases it with free(). The caller releases the
 * set with netset_free().
 */
struct netset *netset_parse(const char *text, char **error);
/* NULL: the empty set, as everywhere. */
void netset_free(struct netset *set);
bool netset_has(const struct netset *set, const struct in6_addr *address);

/* As inet_pton(), of either family. */
bool netset_parse_address(const char *text, struct in6_addr *address);
/* The four octets of an IPv4 address. */
struct in6_addr netset_map_ipv4(const void *octets);
/* "ADDRESS", and "ADDRESS:PORT" or "[ADDRESS]:PORT". The caller releases them with free(). */
char *netset_print_host(const struct in6_addr *address);
char *netset_print_address(const struct in6_addr *address, int port);

#endif
