/*
 * How many passwords of one client address are being checked at a time: whoever tries very many must not take
 * the place of the others. An IPv6 address stands for its /64, which is one customer's.
 */
#ifndef PGRELAY_HTTP_LOGIN_LIMIT_H
#define PGRELAY_HTTP_LOGIN_LIMIT_H

#include <netinet/in.h>

#define LOGIN_LIMIT_EACH 16

/* IPv4 addresses are IPv4-mapped (core/netset.h). NULL: as many as may be are being checked. */
struct login_limit *login_limit_enter(const struct in6_addr *address);
/* One has been checked. */
void login_limit_leave(struct login_limit *limit);

#endif
