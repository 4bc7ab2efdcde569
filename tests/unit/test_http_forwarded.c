/* X-Forwarded-For: src/http/http_forwarded.c. The connection came from 10.0.0.1; 10.0.0.0/8 and fd00::/8 are trusted. */
#include "config.h"
#include "http/http_forwarded.h"
#include "core/mem.h"
#include "core/netset.h"

#include "tap.h"

#include <event2/http.h>
#include <sys/queue.h>

#include <event2/keyvalq_struct.h> /* makes do without sys/queue.h */

#define LINES 3

static const struct row {
	const char *lines[LINES];
	const char *client;
} rows[] = {
    {{NULL}, "10.0.0.1"},
    {{""}, "10.0.0.1"},
    {{" , ,\t, "}, "10.0.0.1"},
    {{"192.0.2.7"}, "192.0.2.7"},
    {{"  192.0.2.7\t"}, "192.0.2.7"},
    {{"203.0.113.9, 192.0.2.7"}, "192.0.2.7"},
    {{"192.0.2.7, 10.0.0.2"}, "192.0.2.7"},
    {{"203.0.113.9,192.0.2.7,10.0.0.2,fd00::1,10.3.3.3"}, "192.0.2.7"},
    {{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
    {{"192.0.2.7,, 10.0.0.2,"}, "192.0.2.7"},
    {{"192.0.2.7:4711"}, "192.0.2.7"},
    {{"192.0.2.7:"}, "192.0.2.7"},
    {{"::ffff:192.0.2.7"}, "192.0.2.7"},
    {{"192.0.2.7, ::ffff:10.0.0.2"}, "192.0.2.7"},
    {{"2001:db8::7"}, "2001:db8::7"},
    {{"[2001:db8::7]"}, "2001:db8::7"},
    {{"[2001:db8::7]:4711"}, "2001:db8::7"},
    {{"192.0.2.7, [fd00::1]:4711"}, "192.0.2.7"},
    /* in several headers, as haproxy makes them */
    {{"203.0.113.9", "192.0.2.7"}, "192.0.2.7"},
    {{"192.0.2.7", "10.0.0.2"}, "192.0.2.7"},
    {{"192.0.2.7", "", "10.0.0.2"}, "192.0.2.7"},
    {{"192.0.2.7, 10.0.0.4", "10.0.0.3", "10.0.0.2"}, "192.0.2.7"},
    {{"192.0.2.7", "nonsense", "10.0.0.2"}, "10.0.0.2"},
    /* garbage */
    {{"unknown"}, "10.0.0.1"},
    {{"192.0.2.7, unknown"}, "10.0.0.1"},
    {{"192.0.2.7, _hidden, 10.0.0.2"}, "10.0.0.2"},
    {{"unknown, 192.0.2.7"}, "192.0.2.7"},
    {{"192.0.2.7;10.0.0.2"}, "10.0.0.1"},
    {{"192.0.2.7 10.0.0.2"}, "10.0.0.1"},
    {{"192.0.2.7:x"}, "10.0.0.1"},
    {{"[192.0.2.7]"}, "10.0.0.1"},
    {{"[2001:db8::7"}, "10.0.0.1"},
    {{"[2001:db8::7]x"}, "10.0.0.1"},
    {{"[2001:db8::7]:4711x"}, "10.0.0.1"},
    {{"[]"}, "10.0.0.1"},
    {{"["}, "10.0.0.1"},
    {{":"}, "10.0.0.1"},
    {{"\"192.0.2.7\""}, "10.0.0.1"},
    {{"192.0.2.256"}, "10.0.0.1"},
    {{"fe80::1%lo"}, "10.0.0.1"},
    {{"2001:db8:0000:0000:0000:0000:0000:00000000000000000000000000000007"}, "10.0.0.1"},
};

static char *
client_of(const char *const *lines, const struct netset *trusted)
{
	struct evkeyvalq headers = TAILQ_HEAD_INITIALIZER(headers);
	struct in6_addr address;

	evhttp_add_header(&headers, "Forwarded", "for=198.51.100.1");
	for (int i = 0; i < LINES && lines[i] != NULL; i++) {
		evhttp_add_header(&headers, i == 0 ? "X-Forwarded-For" : "x-forwarded-for", lines[i]);
		evhttp_add_header(&headers, "X-Forwarded-Forward", "198.51.100.2");
	}
	netset_parse_address("10.0.0.1", &address);
	forwarded_find(&headers, trusted, &address);
	evhttp_clear_headers(&headers);
	return netset_print_address(&address, 1);
}

static char *
with_port(const char *address)
{
	return mem_printf(strchr(address, ':') != NULL ? "[%s]:1" : "%s:1", address);
}

/* As many proxies as evhttp lets through. */
static void
test_giant(const struct netset *trusted)
{
	char *list = mem_strdup("192.0.2.7"), *client;

	for (int i = 0; i < 1700; i++) {
		char *longer = mem_printf("%s,10.0.0.2", list);

		free(list);
		list = longer;
	}
	client = client_of((const char *const[LINES]){list}, trusted);
	is_str(client, "192.0.2.7:1", "at the far end of 1,700 proxies stands the client");
	free(client);
	free(list);
	list = mem_zalloc(16384);
	memset(list, '1', 16383);
	client = client_of((const char *const[LINES]){list}, trusted);
	is_str(client, "10.0.0.1:1", "an element of 16 kB is no address");
	free(client);
	free(list);
}

int
main(void)
{
	char *error;
	struct netset *trusted = netset_parse("10.0.0.0/8, fd00::/8", &error);

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		char *client = client_of(rows[i].lines, trusted), *want = with_port(rows[i].client);

		is_str(client, want, "%s | %s | %s", rows[i].lines[0] != NULL ? rows[i].lines[0] : "(none)",
		    rows[i].lines[1] != NULL ? rows[i].lines[1] : "",
		    rows[i].lines[2] != NULL ? rows[i].lines[2] : "");
		free(client);
		free(want);
	}
	test_giant(trusted);
	netset_free(trusted);
	return tap_end();
}
