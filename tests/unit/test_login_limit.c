/* How many passwords of one address are being checked at a time (login_limit.c). */
#include "config.h"
#include "core/netset.h"
#include "http/login_limit.h"

#include "tap.h"

static struct login_limit *
enter(const char *text)
{
	struct in6_addr address;

	return netset_parse_address(text, &address) ? login_limit_enter(&address) : NULL;
}

/* As many as there may be; false: one of them was refused. */
static bool
fill(const char *text, struct login_limit *limits[LOGIN_LIMIT_EACH])
{
	for (int i = 0; i < LOGIN_LIMIT_EACH; i++) {
		limits[i] = enter(text);
		if (limits[i] == NULL)
			return false;
	}
	return true;
}

static void
leave_all(struct login_limit *limits[LOGIN_LIMIT_EACH])
{
	for (int i = 0; i < LOGIN_LIMIT_EACH; i++)
		login_limit_leave(limits[i]);
}

static void
test_one_address(void)
{
	struct login_limit *limits[LOGIN_LIMIT_EACH], *other;

	ok(fill("192.0.2.7", limits), "so many of one address");
	ok(enter("192.0.2.7") == NULL && enter("::ffff:192.0.2.7") == NULL,
	    "and no more, however it is written");
	other = enter("192.0.2.8");
	ok(other != NULL, "another address is not concerned");
	login_limit_leave(limits[3]);
	limits[3] = enter("192.0.2.7");
	ok(limits[3] != NULL && enter("192.0.2.7") == NULL, "one comes when one has gone");
	leave_all(limits);
	login_limit_leave(other);
	ok(fill("192.0.2.7", limits), "when all have gone there is room for all");
	leave_all(limits);
}

static void
test_networks(void)
{
	struct login_limit *limits[LOGIN_LIMIT_EACH], *other;

	ok(fill("2001:db8:1:2::7", limits), "so many of one IPv6 address");
	ok(enter("2001:db8:1:2:ffff:ffff:ffff:ffff") == NULL, "it stands for its /64");
	other = enter("2001:db8:1:3::7");
	ok(other != NULL, "not for another one");
	login_limit_leave(other);
	leave_all(limits);
}

int
main(void)
{
	test_one_address();
	test_networks();
	return tap_end();
}
