/* Networks are a prefix and its length in bits; an IPv4 one's length counts from the mapped prefix on. */
#include "config.h"
#include "core/netset.h"
#include "core/mem.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define NETSET_MAPPED_BITS  96 /* of ::ffff:0:0/96 */
#define NETSET_ADDRESS_BITS 128

struct netset_network {
	struct in6_addr prefix;
	int bits;
};

struct netset {
	size_t count;
	struct netset_network networks[];
};

/* ---- addresses ---- */

struct in6_addr
netset_map_ipv4(const void *octets)
{
	struct in6_addr address = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

	memcpy(address.s6_addr + 12, octets, sizeof(struct in_addr));
	return address;
}

bool
netset_parse_address(const char *text, struct in6_addr *address)
{
	struct in_addr ipv4;

	if (inet_pton(AF_INET, text, &ipv4) != 1)
		return inet_pton(AF_INET6, text, address) == 1;
	*address = netset_map_ipv4(&ipv4);
	return true;
}

static void
netset_print(const struct in6_addr *address, char text[INET6_ADDRSTRLEN])
{
	if (IN6_IS_ADDR_V4MAPPED(address))
		inet_ntop(AF_INET, address->s6_addr + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, address, text, INET6_ADDRSTRLEN);
}

char *
netset_print_host(const struct in6_addr *address)
{
	char text[INET6_ADDRSTRLEN];

	netset_print(address, text);
	return mem_strdup(text);
}

char *
netset_print_address(const struct in6_addr *address, int port)
{
	char text[INET6_ADDRSTRLEN];

	netset_print(address, text);
	return mem_printf(strchr(text, ':') != NULL ? "[%s]:%d" : "%s:%d", text, port);
}

/* ---- networks ---- */

/* The address's first bits, the others are 0. */
static struct in6_addr
netset_mask(const struct in6_addr *address, int bits)
{
	struct in6_addr masked = *address;

	for (int i = 0; i < (int)sizeof(masked.s6_addr); i++) {
		int left = bits - 8 * i;

		if (left < 8)
			masked.s6_addr[i] &= left > 0 ? (uint8_t)(0xff << (8 - left)) : 0;
	}
	return masked;
}

/* Is it ::ffff:0:0/96 or in there? ::/0 and the like hold that range, but mean IPv6. */
static bool
netset_is_ipv4(const struct netset_network *n)
{
	return n->bits >= NETSET_MAPPED_BITS && IN6_IS_ADDR_V4MAPPED(&n->prefix);
}

static bool
netset_network_has(const struct netset_network *n, const struct in6_addr *address)
{
	struct in6_addr masked = netset_mask(address, n->bits);

	return IN6_IS_ADDR_V4MAPPED(address) == netset_is_ipv4(n) && IN6_ARE_ADDR_EQUAL(&masked, &n->prefix);
}

bool
netset_has(const struct netset *set, const struct in6_addr *address)
{
	for (size_t i = 0; set != NULL && i < set->count; i++)
		if (netset_network_has(&set->networks[i], address))
			return true;
	return false;
}

/* ---- parsing ---- */

/* -1: it is no number from 0 to max. */
static int
netset_parse_bits(const char *text, int max)
{
	size_t len = strspn(text, "0123456789");
	int bits = len >= 1 && len <= 3 && text[len] == '\0' ? atoi(text) : -1;

	return bits <= max ? bits : -1;
}

static bool
netset_check_prefix(const struct netset_network *n, const char *text, char **error)
{
	struct in6_addr masked = netset_mask(&n->prefix, n->bits);
	int bits = IN6_IS_ADDR_V4MAPPED(&masked) ? n->bits - NETSET_MAPPED_BITS : n->bits;
	char network[INET6_ADDRSTRLEN], address[INET6_ADDRSTRLEN];

	if (IN6_ARE_ADDR_EQUAL(&masked, &n->prefix))
		return true;
	netset_print(&masked, network);
	netset_print(&n->prefix, address);
	*error = mem_printf(
	    "\"%s\" is no network, for bits beyond its prefix are set: is %s/%d meant, or %s alone?", text,
	    network, bits, address);
	return false;
}

/* ADDRESS or ADDRESS/BITS; text is as it was written, address its copy to cut. */
static bool
netset_parse_network(struct netset_network *n, const char *text, char *address, char **error)
{
	char *slash = strchr(address, '/');
	int offset;

	if (slash != NULL)
		*slash = '\0';
	if (!netset_parse_address(address, &n->prefix)) {
		*error = mem_printf(
		    "\"%s\" is neither an address nor a network, as 192.0.2.7, ::1 or 10.0.0.0/8 are", text);
		return false;
	}
	n->bits = NETSET_ADDRESS_BITS;
	if (slash == NULL)
		return true;
	offset = strchr(address, ':') == NULL ? NETSET_MAPPED_BITS : 0;
	n->bits = netset_parse_bits(slash + 1, NETSET_ADDRESS_BITS - offset);
	if (n->bits < 0) {
		*error = mem_printf("\"%s\" is no network: behind the slash is wanted a number up to %d",
		    text, NETSET_ADDRESS_BITS - offset);
		return false;
	}
	n->bits += offset;
	return netset_check_prefix(n, text, error);
}

static bool
netset_add(struct netset **set, const char *text, char **error)
{
	struct netset_network n;
	char *address = mem_strdup(text);
	bool ok = netset_parse_network(&n, text, address, error);

	free(address);
	if (!ok)
		return false;
	*set = mem_resize(*set, sizeof(**set) + ((*set)->count + 1) * sizeof(n));
	(*set)->networks[(*set)->count++] = n;
	return true;
}

struct netset *
netset_parse(const char *text, char **error)
{
	struct netset *set = mem_zalloc(sizeof(*set));
	char *list = mem_strdup(text), *save = NULL;
	bool ok = true;

	for (char *item = strtok_r(list, ", \t", &save); ok && item != NULL;
	     item = strtok_r(NULL, ", \t", &save))
		ok = netset_add(&set, item, error);
	free(list);
	if (ok)
		return set;
	netset_free(set);
	return NULL;
}

void
netset_free(struct netset *set)
{
	free(set);
}
