/* Addresses, and sets of addresses and networks: src/core/netset.c. */
#include "config.h"
#include "core/netset.h"
#include "core/mem.h"

#include "tap.h"

static struct in6_addr
address(const char *text)
{
	struct in6_addr a;

	if (!netset_parse_address(text, &a))
		abort();
	return a;
}

static bool
has(const struct netset *set, const char *text)
{
	struct in6_addr a = address(text);

	return netset_has(set, &a);
}

static struct netset *
parse(const char *text)
{
	char *error = NULL;
	struct netset *set = netset_parse(text, &error);

	if (set == NULL) {
		diag("%s", error);
		abort();
	}
	return set;
}

static const struct match_row {
	const char *set, *address;
	bool matches;
} match_rows[] = {
    {"", "127.0.0.1", false},
    {" , ,", "::1", false},
    {"127.0.0.1", "127.0.0.1", true},
    {"127.0.0.1", "127.0.0.2", false},
    {"127.0.0.1", "::1", false},
    {"127.0.0.1", "::7f00:1", false},
    {"127.0.0.1", "::ffff:127.0.0.1", true},
    {"::ffff:127.0.0.1", "127.0.0.1", true},
    {"::ffff:10.0.0.0/104", "10.255.0.1", true},
    {"::ffff:10.0.0.0/104", "11.0.0.1", false},
    {"10.0.0.0/8", "10.0.0.0", true},
    {"10.0.0.0/8", "10.255.255.255", true},
    {"10.0.0.0/8", "9.255.255.255", false},
    {"10.0.0.0/8", "11.0.0.0", false},
    {"10.0.0.0/8", "a00::", false},
    {"192.0.2.128/25", "192.0.2.128", true},
    {"192.0.2.128/25", "192.0.2.127", false},
    {"192.0.2.4/31", "192.0.2.5", true},
    {"192.0.2.4/31", "192.0.2.6", false},
    {"192.0.2.4/32", "192.0.2.4", true},
    {"192.0.2.4/32", "192.0.2.5", false},
    {"0.0.0.0/0", "255.255.255.255", true},
    {"0.0.0.0/0", "::ffff:1.2.3.4", true},
    {"0.0.0.0/0", "::1", false},
    {"::/0", "::1", true},
    {"::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true},
    {"::/0", "1.2.3.4", false},
    {"::/64", "1.2.3.4", false},
    {"::/96", "1.2.3.4", false},
    {"::ffff:0:0/96", "1.2.3.4", true},
    {"fd00::/8", "fdff::1", true},
    {"fd00::/8", "fe00::1", false},
    {"2001:db8::/33", "2001:db8:7fff::1", true},
    {"2001:db8::/33", "2001:db8:8000::1", false},
    {"2001:db8::1/128", "2001:db8::1", true},
    {"2001:DB8:0:0::1", "2001:db8::1", true},
    {"10.0.0.0/8, ::1", "::1", true},
    {"10.0.0.0/8,::1", "10.1.1.1", true},
    {"  10.0.0.0/8 ,\t ::1 , ", "::1", true},
    {"10.0.0.0/8 ::1", "::1", true},
    {"10.0.0.0/8 ::1", "::2", false},
};

static void
test_matching(void)
{
	struct in6_addr a = address("::1");

	for (size_t i = 0; i < ARRAY_LENGTH(match_rows); i++) {
		const struct match_row *r = &match_rows[i];
		struct netset *set = parse(r->set);

		ok(has(set, r->address) == r->matches, "%s %s in \"%s\"", r->address,
		    r->matches ? "is" : "is not", r->set);
		netset_free(set);
	}
	ok(!netset_has(NULL, &a), "nothing is in no set");
	netset_free(NULL);
}

/* Each prefix's length, by counting what matches of the addresses with one bit set. */
static void
test_each_length(void)
{
	bool ipv6 = true, ipv4 = true;

	for (int bits = 0; bits <= 128; bits++) {
		char *text = mem_printf("::/%d", bits);
		struct netset *set = parse(text);
		int count = 0;

		for (int i = 0; i < 128; i++) {
			struct in6_addr a = {.s6_addr = {0}};

			a.s6_addr[i / 8] = (uint8_t)(0x80 >> i % 8);
			count += netset_has(set, &a);
		}
		ipv6 = ipv6 && count == 128 - bits;
		netset_free(set);
		free(text);
	}
	for (int bits = 0; bits <= 32; bits++) {
		char *text = mem_printf("0.0.0.0/%d", bits);
		struct netset *set = parse(text);
		int count = 0;

		for (int i = 0; i < 32; i++) {
			struct in6_addr a = address("0.0.0.0");

			a.s6_addr[12 + i / 8] = (uint8_t)(0x80 >> i % 8);
			count += netset_has(set, &a);
		}
		ipv4 = ipv4 && count == 32 - bits;
		netset_free(set);
		free(text);
	}
	ok(ipv6, "each length of an IPv6 prefix counts to the bit");
	ok(ipv4, "each length of an IPv4 prefix counts to the bit");
}

#define NOTHING(text) "\"" text "\" is neither an address nor a network, as 192.0.2.7, ::1 or 10.0.0.0/8 are"

static const struct error_row {
	const char *text, *error;
} error_rows[] = {
    {"localhost", NOTHING("localhost")},
    {"*", NOTHING("*")},
    {"10.0.0.0/8, proxy.example.com", NOTHING("proxy.example.com")},
    {"10.0.0", NOTHING("10.0.0")},
    {"10/8", NOTHING("10/8")},
    {"/8", NOTHING("/8")},
    {"[::1]", NOTHING("[::1]")},
    {"10.0.0.1:80", NOTHING("10.0.0.1:80")},
    {"256.0.0.1", NOTHING("256.0.0.1")},
    {"010.0.0.1", NOTHING("010.0.0.1")},
    {"fe80::1%lo", NOTHING("fe80::1%lo")},
    {"10.0.0.0/33", "\"10.0.0.0/33\" is no network: behind the slash is wanted a number up to 32"},
    {"10.0.0.0/", "\"10.0.0.0/\" is no network: behind the slash is wanted a number up to 32"},
    {"10.0.0.0/-1", "\"10.0.0.0/-1\" is no network: behind the slash is wanted a number up to 32"},
    {"10.0.0.0/8/8", "\"10.0.0.0/8/8\" is no network: behind the slash is wanted a number up to 32"},
    {"10.0.0.0/255.0.0.0",
	"\"10.0.0.0/255.0.0.0\" is no network: behind the slash is wanted a number up to 32"},
    {"10.0.0.0/4294967304",
	"\"10.0.0.0/4294967304\" is no network: behind the slash is wanted a number up to 32"},
    {"::/129", "\"::/129\" is no network: behind the slash is wanted a number up to 128"},
    {"10.0.0.5/8",
	"\"10.0.0.5/8\" is no network, for bits beyond its prefix are set: is 10.0.0.0/8 meant, or 10.0.0.5 "
	"alone?"},
    {"::1, fd00::1/8", "\"fd00::1/8\" is no network, for bits beyond its prefix are set: is fd00::/8 meant, "
		       "or fd00::1 alone?"},
    {"::ffff:10.0.0.5/104",
	"\"::ffff:10.0.0.5/104\" is no network, for bits beyond its prefix are set: is 10.0.0.0/8 meant, or "
	"10.0.0.5 alone?"},
};

static void
test_errors(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(error_rows); i++) {
		char *error = NULL;
		struct netset *set = netset_parse(error_rows[i].text, &error);

		ok(set == NULL, "\"%s\" is not valid", error_rows[i].text);
		is_str(error, error_rows[i].error, "what is wrong with \"%s\"", error_rows[i].text);
		netset_free(set);
		free(error);
	}
}

static void
is_printed(const char *text, int port, const char *want)
{
	struct in6_addr a = address(text);
	char *printed = netset_print_address(&a, port);

	is_str(printed, want, "%s, port %d", text, port);
	free(printed);
}

static void
test_addresses(void)
{
	struct in6_addr a = netset_map_ipv4("\xc0\0\2\7"), want = address("192.0.2.7");

	ok(IN6_ARE_ADDR_EQUAL(&a, &want), "an IPv4 address of four octets");
	ok(!netset_parse_address("", &a), "an empty address is none");
	is_printed("192.0.2.7", 80, "192.0.2.7:80");
	is_printed("::ffff:192.0.2.7", 65535, "192.0.2.7:65535");
	is_printed("2001:0DB8:0::1", 0, "[2001:db8::1]:0");
	is_printed("::192.0.2.7", 1, "[::192.0.2.7]:1");
}

int
main(void)
{
	test_matching();
	test_each_length();
	test_errors();
	test_addresses();
	return tap_end();
}
