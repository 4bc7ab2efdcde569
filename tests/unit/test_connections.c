/* Connections: their addresses, their written forms, and what is asked of lists of them. */
#include "config.h"
#include "client/connection.h"
#include "client/connection_events.h"
#include "client/connection_query.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include "tap.h"

#define KEY_250                                                                                              \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk" \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkk"                                                                        \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk" \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkk"

/* ---- addresses ---- */

static struct endpoint
endpoint_of(const char *text)
{
	struct endpoint low, high;

	endpoint_parse(text, &low, &high);
	return low;
}

static void
test_addresses_in_their_order(void)
{
	static const char *const ordered[] = {"?:0", "0.0.0.0:0", "9.255.255.255:80", "10.0.0.1:9",
	    "10.0.0.1:10", "10.0.0.1:65535", "10.0.0.2:1", "192.0.2.7:50312", "255.255.255.255:65535",
	    "[::]:1", "[::1]:5555", "[2001:db8::9]:1", "[2001:db8::10]:1", "[fe80::1]:1"};
	bool right = true;

	for (size_t i = 0; i < ARRAY_LENGTH(ordered); i++)
		for (size_t k = 0; k < ARRAY_LENGTH(ordered); k++) {
			struct endpoint a = endpoint_of(ordered[i]), b = endpoint_of(ordered[k]);
			int order = endpoint_compare(&a, &b);

			right = right && (i < k ? order < 0 : i > k ? order > 0 : order == 0);
		}
	ok(right, "addresses are compared as numbers, IPv4 before IPv6, then by port");
}

static void
test_one_address_has_many_forms(void)
{
	static const char *const same[][2] = {{"[::1]:5555", "[0:0:0:0:0:0:0:1]:5555"},
	    {"[2001:DB8::A]:1", "[2001:db8:0::a]:1"}, {"[::ffff:192.0.2.7]:80", "192.0.2.7:80"},
	    {"[fe80::1%eth0]:80", "[fe80::1]:80"}, {"192.0.2.7:00080", "192.0.2.7:80"}};

	for (size_t i = 0; i < ARRAY_LENGTH(same); i++) {
		struct endpoint a = endpoint_of(same[i][0]), b = endpoint_of(same[i][1]);

		ok(endpoint_compare(&a, &b) == 0, "%s is %s", same[i][0], same[i][1]);
	}
}

static void
test_an_address_without_a_port_is_all_ports(void)
{
	static const char *const alone[] = {"192.0.2.7", "::1", "[::1]"};
	struct endpoint low, high, port;

	for (size_t i = 0; i < ARRAY_LENGTH(alone); i++) {
		port = endpoint_of(i == 0 ? "192.0.2.7:50312" : "[::1]:50312");
		ok(endpoint_parse(alone[i], &low, &high) && endpoint_compare(&low, &port) < 0 &&
			endpoint_compare(&high, &port) > 0,
		    "%s is from port 0 to 65535", alone[i]);
	}
	ok(endpoint_parse("192.0.2.7:1", &low, &high) && endpoint_compare(&low, &high) == 0,
	    "a port is one port");
}

static void
test_what_is_no_address(void)
{
	static const char *const none[] = {"", ":", "?:0", "192.0.2:80", "192.0.2.256:80",
	    "192.0.2.7:", "192.0.2.7:x", "192.0.2.7:65536", "192.0.2.7:-1", "192.0.2.7:100000000000", "[::1",
	    "[::1]80", "[::1]:", "[]:80", "::1]:80", "[::g]:80", "[192.0.2.7", "host:80", "192.0.2.7:80:80",
	    " 192.0.2.7:80"};
	struct endpoint low, high;

	for (size_t i = 0; i < ARRAY_LENGTH(none); i++)
		ok(!endpoint_parse(none[i], &low, &high), "\"%s\" is none", none[i]);
}

/* ---- one connection ---- */

static void
is_principal(const char *name, const char *want)
{
	char out[CONNECTION_PRINCIPAL_SIZE];

	connection_make_principal(name, out);
	is_str(out, want, "the principal of \"%s\"", name);
}

static void
test_principals(void)
{
	char out[CONNECTION_PRINCIPAL_SIZE];

	is_principal("bob", "user:bob");
	is_principal("runner:0d4c", "runner:0d4c");
	is_principal("Runner:0d4c", "user:Runner:0d4c");
	is_principal("a b.c\"\\%*,", "user:a b.c\"\\%*,");
	is_principal("\xc3\xa4", "user:\xc3\xa4");
	is_principal("a\nb\x7f", "user:a?b?");
	is_principal("\xff\xc3", "user:??");
	connection_make_principal(KEY_250, out);
	is_int((long long)strlen(out), EVENT_KEY_MAX, "a principal has room for a name of 250 octets");
	connection_make_principal(KEY_250 "\xc3\xa4", out);
	is_int((long long)strlen(out), EVENT_KEY_MAX, "a longer one is cut");
	connection_make_principal("x" KEY_250 "\xc3\xa4", out);
	is_int((long long)strlen(out), EVENT_KEY_MAX, "even so");
	connection_make_principal("runner:123" KEY_250, out);
	ok(connection_is_printable(out) && strlen(out) == EVENT_KEY_MAX, "and a runner's");
	memset(out, 'x', sizeof(out));
	connection_make_principal(KEY_250 + 1, out);
	is_int((long long)strlen(out), EVENT_KEY_MAX - 1, "a shorter one is whole");
}

static void
test_a_principal_is_not_cut_within_a_character(void)
{
	char out[CONNECTION_PRINCIPAL_SIZE];
	char *name = mem_printf("%.249s\xe2\x82\xac", KEY_250);

	connection_make_principal(name, out);
	is_int((long long)strlen(out), EVENT_KEY_MAX - 1, "what does not fit whole is left out");
	ok(connection_is_printable(out), "the rest is UTF-8");
	free(name);
}

static struct connection
make_connection(uint64_t number, const char *address, const char *principal, bool stream, int64_t created_us,
    const char *node)
{
	struct connection c = {.number = number,
	    .created_us = created_us,
	    .stream = stream,
	    .address = address,
	    .principal = principal,
	    .node = node};

	c.where = endpoint_of(address);
	return c;
}

static char *
print(void (*how)(FILE *out, const struct connection *c), const struct connection *c)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	how(out, c);
	fclose(out);
	return text;
}

static void
print_line(FILE *out, const struct connection *c)
{
	connection_print_line(out, c);
}

static void
test_json(void)
{
	struct connection c =
	    make_connection(7, "[::1]:5555", "user:a\"b\\c", true, INT64_C(1795341600123400), "w\"1\n\x1f");
	char *text = print(connection_print_json, &c);

	is_str(text,
	    "{\"CreateTime\":\"2026-11-22T10:00:00.1234Z\",\"ExpiresAt\":\"0001-01-01T00:00:00Z\","
	    "\"Principal\":\"user:a\\\"b\\\\c\",\"RemoteAddr\":\"[::1]:5555\",\"Type\":\"api\",\"Node\":"
	    "\"w\\\"1\\u000a\\u001f\"}",
	    "JSON has all fields, and what must be escaped is");
	free(text);
	c = make_connection(7, "192.0.2.7:1", "user:bob", false, INT64_C(1795341600000000), "web1");
	c.expires_s = INT64_C(1795345200);
	text = print(connection_print_json, &c);
	is_str(text,
	    "{\"CreateTime\":\"2026-11-22T10:00:00Z\",\"ExpiresAt\":\"2026-11-22T11:00:00Z\",\"Principal\":"
	    "\"user:bob\","
	    "\"RemoteAddr\":\"192.0.2.7:1\",\"Type\":\"websocket\",\"Node\":\"web1\"}",
	    "a WebSocket that must be looked at again");
	free(text);
}

static void
test_lines(void)
{
	static const char *const malformed[] = {"", "1", "1 2 3 websocket 192.0.2.7:1",
	    "x 2 3 websocket 192.0.2.7:1 user:a", "1 2 -3 websocket 192.0.2.7:1 user:a",
	    "1 2 3 websocket 192.0.2.7:1 user:\x01", "1 2 3 websocket 192.0.2.7:1 user:\xff",
	    "1 2 3 websocket 192.0.2.7:1 user:x" KEY_250, "1 2 3 websocket " KEY_250 " user:a"};
	struct connection c = make_connection(7, "192.0.2.7:1", "user:a b", true, 12, "web1");
	struct connection_read read;
	char *text = print(print_line, &c);

	is_str(text, "7 12 0 api 192.0.2.7:1 user:a b\n", "a line");
	ok(connection_parse_line((struct slice){text, strlen(text) - 1}, "web1", &read), "it is read");
	ok(read.connection.number == 7 && read.connection.created_us == 12 &&
		read.connection.expires_s == 0 && read.connection.stream &&
		endpoint_compare(&read.connection.where, &c.where) == 0,
	    "as it was written");
	is_str(read.connection.address, "192.0.2.7:1", "its address");
	is_str(read.connection.principal, "user:a b", "its principal, which may hold spaces");
	for (size_t i = 0; i < ARRAY_LENGTH(malformed); i++)
		ok(!connection_parse_line((struct slice){malformed[i], strlen(malformed[i])}, "web1", &read),
		    "a malformed line is none (%zu)", i);
	free(text);
}

/* ---- lists ---- */

#define HOUR_US (INT64_C(3600) * 1000000)
#define TEN     INT64_C(1795341600000000) /* 2026-11-22T10:00:00Z */

/* A letter each. */
static struct connection all[5];

static void
make_all(void)
{
	all[0] = make_connection(1, "192.0.2.7:50312", "user:bob", false, TEN, "web1");
	all[1] = make_connection(2, "192.0.2.10:80", "user:ann", true, TEN + HOUR_US, "web1");
	all[2] = make_connection(3, "192.0.2.7:9", "runner:0d4c", false, TEN + 1, "web2");
	all[3] = make_connection(4, "[::1]:5555", "user:bob", false, TEN - HOUR_US, "web2");
	all[4] = make_connection(5, "192.0.2.7:9", "user:a,b c", true, TEN + 2 * HOUR_US, "web1");
}

/* What a query gives, in its order: their letters. */
static const char *
list_of(struct connection_query *q)
{
	static char letters[ARRAY_LENGTH(all) + 1];
	struct connection *list[ARRAY_LENGTH(all)];
	size_t count = 0, n = 0;

	for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
		if (connection_query_matches(q, &all[i]))
			list[count++] = &all[i];
	connection_query_sort(q, list, count);
	for (size_t i = connection_query_offset(q); i < count && n < connection_query_limit(q); i++)
		letters[n++] = (char)('a' + (list[i] - all));
	letters[n] = '\0';
	return letters;
}

/* Here, and as another node would read it, which skips nothing. */
static void
is_list(const char *query, const char *want)
{
	char *error = NULL, *text;
	struct connection_query *q = connection_query_parse(query, &error), *other;

	if (q == NULL) {
		ok(false, "%s: %s", query, error);
		free(error);
		return;
	}
	connection_query_allow(q, (struct slice){"*", 1});
	is_str(list_of(q), want, "%s", query != NULL ? query : "nothing asked for");
	text = connection_query_format(q);
	other = connection_query_read((struct slice){text, strlen(text)});
	ok(other != NULL && connection_query_offset(other) == 0 &&
		strcmp(list_of(other) + (strlen(list_of(other)) - strlen(want)), want) == 0,
	    "and so on another node (%s)", text);
	connection_query_free(other);
	connection_query_free(q);
	free(text);
}

static void
test_filters(void)
{
	is_list(NULL, "ecabd");
	is_list("", "ecabd");
	is_list("Type=websocket", "cad");
	is_list("Type=api", "eb");
	is_list("Type=none", "");
	is_list("Type=Ne(api)", "cad");
	is_list("Principal=user:bob", "ad");
	is_list("Principal=user%3Abob&Type=websocket&RemoteAddr=192.0.2.7:50312", "a");
	is_list("Principal=Eq(user:bob)", "ad");
	is_list("Principal=user:a,b+c", "e");
	is_list("Principal=Eq(user:a,b c)", "e");
	is_list("Principal=Lt(user:ann)", "ec");
	is_list("Principal=user:bob(1)", "");
	is_list("Principal=Between(user:a,user:az)", "eb");
	is_list("Principal=Except(user:a,user:az)", "cad");
	is_list("RemoteAddr=192.0.2.7:9", "ec");
	is_list("RemoteAddr=192.0.2.7", "eca");
	is_list("RemoteAddr=Ne(192.0.2.7)", "bd");
	is_list("RemoteAddr=Lt(192.0.2.255:0)", "ecab");
	is_list("RemoteAddr=Lt(192.0.2.10:80)", "eca");
	is_list("RemoteAddr=Lte(192.0.2.10:80)", "ecab");
	is_list("RemoteAddr=Gt(192.0.2.7:9)", "abd");
	is_list("RemoteAddr=Gte(192.0.2.7:9)", "ecabd");
	is_list("RemoteAddr=Gt(192.0.2.7)", "bd");
	is_list("RemoteAddr=[::1]:5555", "d");
	is_list("RemoteAddr=%5B::1%5D:5555", "d");
	is_list("RemoteAddr=::1", "d");
	is_list("RemoteAddr=Between(192.0.2.7:9,192.0.2.7:50312)", "eca");
	is_list("RemoteAddr=Between(192.0.2.0,192.0.2.9)", "eca");
	is_list("RemoteAddr=Except(192.0.2.0,192.0.2.9)", "bd");
	is_list("RemoteAddr=Gt(192.0.2.7:9)&RemoteAddr=Lt([::]:0)", "ab");
	is_list("CreateTime=2026-11-22T10:00:00Z", "a");
	is_list("CreateTime=2026-11-22T10:00:00.000001Z", "c");
	is_list("CreateTime=2026-11-22T10:00:00.000001999Z", "c");
	is_list("CreateTime=2026-11-22T11:00:00%2B01:00", "a");
	is_list("CreateTime=2026-11-22T11:00:00+01:00", "a");
	is_list("CreateTime=2026-11-22T05:30:00-04:30", "a");
	is_list("CreateTime=Lt(2026-11-22T10:00:00Z)", "d");
	is_list("CreateTime=Gte(2026-11-22T10:00:00.000001Z)", "ecb");
	is_list("CreateTime=Gt(0001-01-01T00:00:00Z)", "ecabd");
	is_list("token=x&Token=y&slim=Params", "ecabd");
	is_list("&&Type=api&", "eb");
}

static void
test_order_and_pages(void)
{
	is_list("sort=CreateTime", "dacbe");
	is_list("sort=CreateTime&reverse=true", "ebcad");
	is_list("reverse", "dbace");
	is_list("reverse=false", "ecabd");
	is_list("sort=Type", "ebcad");
	is_list("sort=Principal&sort=CreateTime", "cebda");
	is_list("sort=Principal,CreateTime", "cebda");
	is_list("sort=Principal,CreateTime,Type,RemoteAddr,Principal,Type", "cebda");
	is_list("limit=2", "ec");
	is_list("limit=0", "");
	is_list("limit=100000000", "ecabd");
	is_list("offset=2", "abd");
	is_list("offset=1&limit=2", "ca");
	is_list("offset=4&limit=2", "d");
	is_list("offset=1000", "");
	is_list("sort=CreateTime&offset=1&limit=1&Type=websocket", "a");
}

static void
test_what_is_wrong_is_said(void)
{
	static const char *const wrong[][2] = {{"Foo=1", "unknown filter \"Foo\""},
	    {"type=api", "unknown filter \"type\""}, {"Type=Like(x)", "unknown relation \"Like\""},
	    {"RemoteAddr=host", "invalid value of RemoteAddr: \"host\""},
	    {"RemoteAddr=Lt(1)", "192.0.2.7:50312"},
	    {"RemoteAddr=Between(192.0.2.7)", "Between takes two values"},
	    {"RemoteAddr=Between(192.0.2.7,192.0.2.8,192.0.2.9)", "Between takes two values"},
	    {"RemoteAddr=Except(192.0.2.7,x)", "invalid value of RemoteAddr"},
	    {"CreateTime=yesterday", "2026-11-22T10:00:00Z"}, {"CreateTime=2026-11-22", "a time such as"},
	    {"CreateTime=2026-13-22T10:00:00Z", "invalid value"},
	    {"CreateTime=2026-11-22T10:00:00", "invalid value"},
	    {"CreateTime=2026-11-22T10:00:00Z ", "invalid value"}, {"CreateTime=", "invalid value"},
	    {"limit=-1", "invalid limit"}, {"limit=", "invalid limit"}, {"limit=1x", "invalid limit"},
	    {"offset=x", "invalid offset"}, {"offset=50000", "filters make it shorter"},
	    {"offset=99999999999999999999", "invalid offset"}, {"sort=Node", "cannot sort by \"Node\""},
	    {"sort=Type,,", "cannot sort by \"\""}, {"reverse=maybe", "true or false"}};

	for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
		char *error = NULL;
		struct connection_query *q = connection_query_parse(wrong[i][0], &error);

		ok(q == NULL && error != NULL && strstr(error, wrong[i][1]) != NULL, "%s: %s", wrong[i][0],
		    error != NULL ? error : "accepted");
		if (q != NULL)
			connection_query_free(q);
		free(error);
	}
}

static const char *
list_for(const char *query, const char *const *keys)
{
	struct connection_query *q = connection_query_parse(query, NULL), *other;
	static char letters[16];
	char *text;

	for (; *keys != NULL; keys++)
		connection_query_allow(q, (struct slice){*keys, strlen(*keys)});
	snprintf(letters, sizeof(letters), "%s", list_of(q));
	text = connection_query_format(q);
	other = connection_query_read((struct slice){text, strlen(text)});
	if (other == NULL || strcmp(list_of(other), letters) != 0)
		strcpy(letters, "differs");
	if (other != NULL)
		connection_query_free(other);
	connection_query_free(q);
	free(text);
	return letters;
}

static void
test_what_may_be_seen(void)
{
	is_str(list_for("", (const char *const[]){NULL}), "", "nobody, unless it is allowed");
	is_str(list_for("", (const char *const[]){"*", NULL}), "ecabd", "all of them");
	is_str(list_for("", (const char *const[]){"user:bob", NULL}), "ad", "one user");
	is_str(list_for("", (const char *const[]){"user:zoe", "user:bob", "runner:0d4c", "user:ann", NULL}),
	    "cabd", "several, in any order");
	is_str(
	    list_for("", (const char *const[]){"user:a%2Cb%20c", NULL}), "e", "a key is in its written form");
	is_str(list_for("", (const char *const[]){"user:bo", "user:bobb", "", NULL}), "", "no others");
	is_str(list_for("", (const char *const[]){"user:\xff", "user:ann", NULL}), "b",
	    "what is not UTF-8 is none");
	is_str(
	    list_for("Type=api", (const char *const[]){"user:bob", "user:ann", NULL}), "b", "with filters");
}

static void
test_one_of_them(void)
{
	struct connection_query *q = connection_query_parse(NULL, NULL);

	connection_query_allow(q, (struct slice){"*", 1});
	ok(connection_query_want_address(q, "[0::1]:5555"), "an address and port");
	is_str(list_of(q), "d", "are one connection's");
	ok(!connection_query_want_address(q, "192.0.2.7"), "an address alone is nobody's");
	ok(!connection_query_want_address(q, "here"), "nor is what is none");
	connection_query_free(q);
	q = connection_query_parse("Type=websocket", NULL);
	connection_query_allow(q, (struct slice){"*", 1});
	connection_query_want_principal(q, "user:bob");
	is_str(list_of(q), "ad", "a principal, beside filters");
	connection_query_free(q);
}

static void
test_what_another_node_asks_wrongly(void)
{
	static const char *const wrong[] = {"", "limit=1", "limit=x *", "Foo=1 *"};

	for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++)
		ok(connection_query_read((struct slice){wrong[i], strlen(wrong[i])}) == NULL,
		    "\"%s\" is not taken", wrong[i]);
}

/* ---- events ---- */

/* Without a database they wait, as many as there is room for. */
static void
test_events_are_bounded(void)
{
	struct connection c = make_connection(1, "192.0.2.7:1", "user:bob", false, TEN, "web1");
	struct pg_query_pool *pool;
	char *error;

	setenv("PGRELAY_CONFIG", "/dev/null", 1);
	ok(conf_load(NULL, &error), "settings");
	log_set_level(LOG_ERROR);
	loop_init();
	pool = pg_query_pool_new("query", "host=/nonexistent dbname=none", NULL, NULL);
	connection_events_init(pool, "web1");
	for (int i = 0; i < 10000; i++)
		connection_events_add("create", &c);
	is_int((long long)metrics[METRIC_CONNECTION_EVENTS_WAITING], 10000, "10,000 wait");
	is_int((long long)metrics[METRIC_CONNECTION_EVENTS_LOST_TOTAL], 0, "none is lost");
	loop_settle(); /* the first thousand are under way from now on */
	for (int i = 0; i < 10000; i++)
		connection_events_add("delete", &c);
	is_int((long long)metrics[METRIC_CONNECTION_EVENTS_WAITING], 10000, "there are no more of them");
	is_int((long long)metrics[METRIC_CONNECTION_EVENTS_LOST_TOTAL], 10000, "the others are lost");
	ok(connection_events_has_ended(), "nothing of it keeps a node from ending");
	conf.max_sessions = 20000;
	connection_events_add("create", &c);
	is_int(
	    (long long)metrics[METRIC_CONNECTION_EVENTS_WAITING], 10001, "with more sessions more may wait");
	connection_events_free();
	is_int((long long)metrics[METRIC_CONNECTION_EVENTS_WAITING], 0, "nothing is left");
	pg_query_pool_free(pool);
	loop_free();
	conf_free();
}

int
main(void)
{
	make_all();
	test_addresses_in_their_order();
	test_one_address_has_many_forms();
	test_an_address_without_a_port_is_all_ports();
	test_what_is_no_address();
	test_principals();
	test_a_principal_is_not_cut_within_a_character();
	test_json();
	test_lines();
	test_filters();
	test_order_and_pages();
	test_what_is_wrong_is_said();
	test_what_may_be_seen();
	test_one_of_them();
	test_what_another_node_asks_wrongly();
	test_events_are_bounded();
	return tap_end();
}
