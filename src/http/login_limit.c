/* An address is there as long as a password of its is being checked: their number is bounded by that of
 * these. */
#include "config.h"
#include "http/login_limit.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define LOGIN_LIMIT_PREFIX 8 /* octets of an IPv6 address */

struct login_limit {
	UT_hash_handle hh;
	struct in6_addr network;
	unsigned count;
};

static struct login_limit *login_limits;

static struct in6_addr
login_limit_network(const struct in6_addr *address)
{
	struct in6_addr network = *address;

	if (!IN6_IS_ADDR_V4MAPPED(address))
		memset(network.s6_addr + LOGIN_LIMIT_PREFIX, 0, sizeof(network) - LOGIN_LIMIT_PREFIX);
	return network;
}

struct login_limit *
login_limit_enter(const struct in6_addr *address)
{
	struct in6_addr network = login_limit_network(address);
	struct login_limit *l;

	HASH_FIND(hh, login_limits, &network, sizeof(network), l);
	if (l == NULL) {
		l = mem_zalloc(sizeof(*l));
		l->network = network;
		HASH_ADD(hh, login_limits, network, sizeof(l->network), l);
	}
	if (l->count == LOGIN_LIMIT_EACH)
		return NULL;
	l->count++;
	return l;
}

void
login_limit_leave(struct login_limit *l)
{
	if (--l->count > 0)
		return;
	HASH_DEL(login_limits, l);
	free(l);
}
