/* PROXY headers: src/http/http_proxy.c, as a whole, one octet at a time, and off a real socket. */
#include "config.h"
#include "http/http_proxy.h"
#include "core/mem.h"
#include "core/netset.h"

#include "tap.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define V2              "\r\n\r\n\0\r\nQUIT\n"
#define IPV4            "\xc0\0\2\7\x0a\0\0\1\xc4\x88\0\x50"
#define IPV6            "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\xff\xff\0\x50"
#define TLVS            "\1\0\2h1\3\0\4abcd"
#define OCTETS(literal) literal, sizeof(literal) - 1

static const struct row {
	const char *name, *octets;
	size_t len;
	enum proxy_result result;
	const char *client; /* NULL: none is told */
} rows[] = {
    {"v1 TCP4", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 50312 80\r\n"), PROXY_DONE, "192.0.2.7:50312"},
    {"v1 TCP6", OCTETS("PROXY TCP6 2001:db8::7 ::1 65535 0\r\n"), PROXY_DONE, "[2001:db8::7]:65535"},
    {"v1 TCP6, a mapped address", OCTETS("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n"), PROXY_DONE,
	"192.0.2.7:1"},
    {"v1 of its greatest length",
	OCTETS(
	    "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	    "65535 65535\r\n"),
	PROXY_DONE, NULL},
    {"v1 UNKNOWN", OCTETS("PROXY UNKNOWN\r\n"), PROXY_DONE, NULL},
    {"v1 UNKNOWN with anything", OCTETS("PROXY UNKNOWN what ever  it is\r\n"), PROXY_DONE, NULL},
    {"v2 TCP4", OCTETS(V2 "\x21\x11\0\x0c" IPV4), PROXY_DONE, "192.0.2.7:50312"},
    {"v2 TCP6", OCTETS(V2 "\x21\x21\0\x24" IPV6), PROXY_DONE, "[2001:db8::7]:65535"},
    {"v2 TCP4 with TLVs", OCTETS(V2 "\x21\x11\0\x18" IPV4 TLVS), PROXY_DONE, "192.0.2.7:50312"},
    {"v2 TCP6 with TLVs", OCTETS(V2 "\x21\x21\0\x30" IPV6 TLVS), PROXY_DONE, "[2001:db8::7]:65535"},
    {"v2 LOCAL", OCTETS(V2 "\x20\0\0\0"), PROXY_DONE, NULL},
    {"v2 LOCAL with addresses", OCTETS(V2 "\x20\x11\0\x0c" IPV4), PROXY_DONE, NULL},
    {"v2 LOCAL of an unknown family", OCTETS(V2 "\x20\xff\0\1x"), PROXY_DONE, NULL},
    {"v2 PROXY of an unspecified family", OCTETS(V2 "\x21\0\0\0"), PROXY_DONE, NULL},
    {"v2 PROXY of an unspecified family, with octets", OCTETS(V2 "\x21\0\0\3abc"), PROXY_DONE, NULL},
    {"v2 of UDP", OCTETS(V2 "\x21\x12\0\x0c" IPV4), PROXY_DONE, NULL},
    {"v2 of a UNIX-domain socket", OCTETS(V2 "\x21\x31\0\2/x"), PROXY_DONE, NULL},

    {"v1, another protocol", OCTETS("PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, lower case", OCTETS("PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, no protocol", OCTETS("PROXY \r\n"), PROXY_BAD, NULL},
    {"v1, nothing follows", OCTETS("PROXY TCP4\r\n"), PROXY_BAD, NULL},
    {"v1, a port is missing", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n"), PROXY_BAD, NULL},
    {"v1, a word too many", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n"), PROXY_BAD, NULL},
    {"v1, a space too many", OCTETS("PROXY TCP4 192.0.2.7  10.0.0.1 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, a space at the end", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n"), PROXY_BAD, NULL},
    {"v1, TCP4 with IPv6", OCTETS("PROXY TCP4 ::1 ::1 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, TCP6 with IPv4", OCTETS("PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, no address", OCTETS("PROXY TCP4 localhost 10.0.0.1 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, the second is no address", OCTETS("PROXY TCP4 192.0.2.7 10.0.0 1 2\r\n"), PROXY_BAD, NULL},
    {"v1, a port too large", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n"), PROXY_BAD, NULL},
    {"v1, the second port too large", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 1 99999999999\r\n"), PROXY_BAD,
	NULL},
    {"v1, a port with a sign", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n"), PROXY_BAD, NULL},
    {"v1, a port with a zero", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n"), PROXY_BAD, NULL},
    {"v1, CR alone", OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\rGET"), PROXY_BAD, NULL},
    {"v1, a NUL", OCTETS("PROXY UNKNOWN\0\r\n"), PROXY_BAD, NULL},
    {"v1, LF alone, to the end of what may be",
	OCTETS("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\nGET / HTTP/1.1\nHost: "
	       "................................................................"),
	PROXY_BAD, NULL},
    {"v2, version 1", OCTETS(V2 "\x11\x11\0\x0c" IPV4), PROXY_BAD, NULL},
    {"v2, version 3", OCTETS(V2 "\x31\x11\0\x0c" IPV4), PROXY_BAD, NULL},
    {"v2, an unknown command", OCTETS(V2 "\x22\x11\0\x0c" IPV4), PROXY_BAD, NULL},
    {"v2, an unknown family", OCTETS(V2 "\x21\x41\0\x0c" IPV4), PROXY_BAD, NULL},
    {"v2, an unknown transport", OCTETS(V2 "\x21\x13\0\x0c" IPV4), PROXY_BAD, NULL},
    {"v2 TCP4, too short", OCTETS(V2 "\x21\x11\0\x0b" IPV4), PROXY_BAD, NULL},
    {"v2 TCP4 without addresses", OCTETS(V2 "\x21\x11\0\0"), PROXY_BAD, NULL},
    {"v2 TCP6, too short", OCTETS(V2 "\x21\x21\0\x23" IPV6), PROXY_BAD, NULL},
    {"v2, longer than may be", OCTETS(V2 "\x21\x11\x0f\xf1"), PROXY_BAD, NULL},
    {"v2 LOCAL, longer than may be", OCTETS(V2 "\x20\0\xff\xff"), PROXY_BAD, NULL},

    {"HTTP", OCTETS("GET /websocket/ HTTP/1.1\r\n"), PROXY_NONE, NULL},
    {"HTTP, POST", OCTETS("POST /api/v1/events HTTP/1.1\r\n"), PROXY_NONE, NULL},
    {"HTTP, with an empty line before", OCTETS("\r\n\r\nGET / HTTP/1.1\r\n"), PROXY_NONE, NULL},
    {"TLS", OCTETS("\x16\3\1\2\0\1\0\1\xfc\3\3"), PROXY_NONE, NULL},
    {"v1 without a space", OCTETS("PROXY\r\n"), PROXY_NONE, NULL},
    {"v1 in lower case", OCTETS("proxy TCP4"), PROXY_NONE, NULL},
    {"v2 but for one octet", OCTETS("\r\n\r\n\0\r\nQUIT\r"), PROXY_NONE, NULL},
};

static const char *const result_names[] = {"NONE", "AGAIN", "DONE", "BAD"};

static enum proxy_result
parse(const char *octets, size_t len, struct proxy_header *header)
{
	char *copy = tap_copy(octets, len);
	enum proxy_result result = proxy_parse(copy, len, header);

	free(copy);
	return result;
}

/* The caller releases it. */
static char *
client_of(const struct proxy_header *header)
{
	return header->has_client ? netset_print_address(&header->client, header->port) : NULL;
}

static void
is_result(const struct row *r, const char *how, enum proxy_result result, const struct proxy_header *header)
{
	char *client = result == PROXY_DONE ? client_of(header) : NULL;

	is_str(result_names[result], result_names[r->result], "%s, %s", r->name, how);
	if (r->result == PROXY_DONE)
		is_str(client, r->client, "the client of it");
	if (r->result == PROXY_BAD)
		ok(header->reason != NULL && *header->reason != '\0', "it is told what is wrong");
	free(client);
}

static void
test_whole(const struct row *r)
{
	struct proxy_header header;
	enum proxy_result result = parse(r->octets, r->len, &header);

	is_result(r, "as a whole", result, &header);
	if (r->result == PROXY_DONE)
		is_int((long long)header.octets, (long long)r->len, "its length");
}

/* Until it is decided: what is asked for is more than there is, and never more than there will be. */
static void
test_octet_by_octet(const struct row *r)
{
	struct proxy_header header;
	enum proxy_result result = PROXY_AGAIN;
	bool modest = true;

	for (size_t len = 0; len <= r->len && result == PROXY_AGAIN; len++) {
		result = parse(r->octets, len, &header);
		if (result == PROXY_AGAIN)
			modest = modest && header.octets > len &&
				 (r->result != PROXY_DONE || header.octets <= r->len);
	}
	is_result(r, "octet by octet", result, &header);
	ok(modest, "so much is asked for as comes");
}

/* What follows belongs to somebody else. */
static void
test_with_more(const struct row *r)
{
	struct proxy_header header;
	char *more = mem_zalloc(r->len + 5000);
	enum proxy_result result;

	memcpy(more, r->octets, r->len);
	memset(more + r->len, 'x', 5000);
	result = parse(more, r->len + 5000, &header);
	is_result(r, "with more behind it", result, &header);
	if (r->result == PROXY_DONE)
		is_int((long long)header.octets, (long long)r->len, "its length, without what follows");
	free(more);
}

static void
test_largest(void)
{
	struct proxy_header header;
	char *octets = mem_zalloc(PROXY_HEADER_SIZE);

	memcpy(octets, V2 "\x21\x11\x0f\xf0" IPV4, 28);
	is_int(parse(octets, PROXY_HEADER_SIZE - 1, &header), PROXY_AGAIN, "v2 of 4,096 octets, less one");
	is_int((long long)header.octets, PROXY_HEADER_SIZE, "so many are wanted");
	is_int(parse(octets, PROXY_HEADER_SIZE, &header), PROXY_DONE, "v2 of 4,096 octets");
	free(octets);
}

/* ---- sockets ---- */

/* Two ends of a TCP connection; what is sent is there at once. */
static void
connect_pair(int pair[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	struct timeval patience = {10, 0};
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &len) != 0 ||
	    connect(pair[0], (struct sockaddr *)&a, len) != 0 || (pair[1] = accept(listener, NULL, NULL)) < 0)
		abort();
	setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	close(listener);
}

static bool
is_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

/* As often as the socket is readable, which it must be when what was wanted has been sent; *calls counts. */
static enum proxy_result
take(int fd, size_t sent, struct proxy_header *header, int *calls)
{
	enum proxy_result result = PROXY_AGAIN;

	while (result == PROXY_AGAIN && is_readable(fd, sent > 0 && sent >= header->octets ? 5000 : 0)) {
		result = proxy_take(fd, header);
		++*calls;
	}
	return result;
}

static void
send_octets(int fd, const char *octets, size_t len)
{
	if (send(fd, octets, len, MSG_NOSIGNAL) != (ssize_t)len)
		abort();
}

static void
test_socket(const struct row *r)
{
	struct proxy_header header = {.octets = 0};
	enum proxy_result result = PROXY_AGAIN;
	int pair[2], calls = 0, wants = 1;
	socklen_t len = sizeof(wants);
	size_t sent = 0;
	char rest[128];

	connect_pair(pair);
	while (sent < r->len && result == PROXY_AGAIN) {
		send_octets(pair[0], r->octets + sent++, 1);
		result = take(pair[1], sent, &header, &calls);
	}
	is_result(r, "off a socket", result, &header);
	ok(calls <= (int)sent, "it is looked at when something has come, no oftener");
	getsockopt(pair[1], SOL_SOCKET, SO_RCVLOWAT, &wants, &len);
	is_int(wants, 1, "the socket is as it was");
	if (result == PROXY_BAD)
		goto out;
	send_octets(pair[0], "rest", 4);
	is_int(is_readable(pair[1], 5000), true, "what follows can be read");
	is_int(recv(pair[1], rest, sizeof(rest), 0), result == PROXY_DONE ? 4 : (long long)sent + 4,
	    "what is not the header's is still there");
out:
	close(pair[0]);
	close(pair[1]);
}

/* A client that ends within the header, or says nothing at all: nobody spins. */
static void
test_ends(void)
{
	static const struct {
		const char *octets;
		size_t len;
		enum proxy_result result;
	} ends[] = {{OCTETS(""), PROXY_NONE}, {OCTETS("PRO"), PROXY_BAD}, {OCTETS("PROXY TCP4 1"), PROXY_BAD},
	    {OCTETS(V2 "\x21"), PROXY_BAD}, {OCTETS(V2 "\x21\x11\0\x0c" IPV4), PROXY_DONE}};

	for (size_t i = 0; i < ARRAY_LENGTH(ends); i++) {
		struct proxy_header header = {.octets = 0};
		int pair[2], calls = 0;

		connect_pair(pair);
		is_int(proxy_take(pair[1], &header), PROXY_AGAIN, "nothing has come");
		if (ends[i].len > 0)
			send_octets(pair[0], ends[i].octets, ends[i].len);
		if (ends[i].len > 0 && ends[i].result != PROXY_DONE)
			is_int(take(pair[1], ends[i].len, &header, &calls), PROXY_AGAIN,
			    "not all of it has come");
		ok(ends[i].len == 0 || ends[i].result == PROXY_DONE || !is_readable(pair[1], 0),
		    "there is nothing to wake up for");
		shutdown(pair[0], SHUT_WR);
		is_int(is_readable(pair[1], 5000), true, "the end is told");
		is_int(take(pair[1], SIZE_MAX, &header, &calls), ends[i].result, "it ends after %zu octets",
		    ends[i].len);
		close(pair[0]);
		close(pair[1]);
	}
}

/* The kernel has to keep 4,096 packets of one octet, for nothing is read before the last. */
static void
test_largest_in_octets(void)
{
	struct proxy_header header = {.octets = 0};
	enum proxy_result result = PROXY_AGAIN;
	char *octets = mem_zalloc(PROXY_HEADER_SIZE);
	int pair[2], calls = 0;

	memcpy(octets, V2 "\x21\x11\x0f\xf0" IPV4, 28);
	connect_pair(pair);
	for (size_t sent = 0; sent < PROXY_HEADER_SIZE && result == PROXY_AGAIN;) {
		send_octets(pair[0], octets + sent++, 1);
		result = take(pair[1], sent, &header, &calls);
	}
	is_int(result, PROXY_DONE, "4,096 octets, one at a time");
	ok(calls <= 20, "what is not enough wakes nobody: %d calls", calls);
	free(octets);
	close(pair[0]);
	close(pair[1]);
}

int
main(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		test_whole(&rows[i]);
		test_octet_by_octet(&rows[i]);
		test_with_more(&rows[i]);
		test_socket(&rows[i]);
	}
	test_largest();
	test_ends();
	test_largest_in_octets();
	return tap_end();
}
