/* What the header says is parsed as a whole, for it is short: at each wake-up anew, from its first octet. */
#include "config.h"
#include "http/http_proxy.h"
#include "core/mem.h"
#include "core/netset.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PROXY_V1_SIGNATURE "PROXY "
#define PROXY_V1_SIZE      107 /* with its CR and LF */
#define PROXY_V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define PROXY_V2_FIXED     16 /* what stands before the addresses */
#define LENGTH_OF(literal) (sizeof(literal) - 1)

enum { PROXY_V2_LOCAL = 0x20, PROXY_V2_PROXY = 0x21 };
enum { PROXY_V2_TCP4 = 0x11, PROXY_V2_TCP6 = 0x21 };
enum { PROXY_V2_TCP4_SIZE = 12, PROXY_V2_TCP6_SIZE = 36 };

static enum proxy_result
proxy_is_bad(struct proxy_header *h, const char *reason)
{
	h->reason = reason;
	return PROXY_BAD;
}

static enum proxy_result
proxy_needs(struct proxy_header *h, size_t octets)
{
	h->octets = octets;
	return PROXY_AGAIN;
}

static enum proxy_result
proxy_is_done(struct proxy_header *h, size_t octets)
{
	h->octets = octets;
	return PROXY_DONE;
}

/* ---- version 1: PROXY TCP4 SOURCE DESTINATION PORT PORT ---- */

/* As the protocol writes them: without a sign or leading zeros. */
static bool
proxy_parse_port(const char *text, uint16_t *port)
{
	size_t len = strspn(text, "0123456789");

	if (len == 0 || len > 5 || text[len] != '\0' || (len > 1 && *text == '0') || atoi(text) > UINT16_MAX)
		return false;
	*port = (uint16_t)atoi(text);
	return true;
}

/* The next word of a line with one space between two; it is cut off. NULL: there is none. */
static char *
proxy_next_word(char **line)
{
	char *word = *line, *space = word != NULL ? strchr(word, ' ') : NULL;

	*line = space != NULL ? space + 1 : NULL;
	if (space != NULL)
		*space = '\0';
	return word;
}

static bool
proxy_parse_v1_address(const char *text, int family, struct in6_addr *address)
{
	return text != NULL && (strchr(text, ':') != NULL) == (family == AF_INET6) &&
	       netset_parse_address(text, address);
}

/* What follows the family. */
static bool
proxy_parse_v1_addresses(struct proxy_header *h, char *line, int family)
{
	char *source = proxy_next_word(&line), *destination = proxy_next_word(&line);
	char *source_port = proxy_next_word(&line), *destination_port = proxy_next_word(&line);
	struct in6_addr ignored;
	uint16_t ignored_port;

	h->has_client = line == NULL && proxy_parse_v1_address(source, family, &h->client) &&
			proxy_parse_v1_address(destination, family, &ignored) && source_port != NULL &&
			proxy_parse_port(source_port, &h->port) && destination_port != NULL &&
			proxy_parse_port(destination_port, &ignored_port);
	return h->has_client;
}

static enum proxy_result
proxy_parse_v1_line(struct proxy_header *h, char *line, size_t octets)
{
	char *family = proxy_next_word(&line);

	if (strcmp(family, "UNKNOWN") == 0)
		return proxy_is_done(h, octets);
	if (strcmp(family, "TCP4") != 0 && strcmp(family, "TCP6") != 0)
		return proxy_is_bad(h, "its protocol is neither TCP4, TCP6 nor UNKNOWN");
	if (!proxy_parse_v1_addresses(h, line, family[3] == '6' ? AF_INET6 : AF_INET))
		return proxy_is_bad(h, "its addresses or ports are not valid");
	return proxy_is_done(h, octets);
}

static enum proxy_result
proxy_parse_v1(const char *octets, size_t len, struct proxy_header *h)
{
	char line[PROXY_V1_SIZE];
	size_t size = len < PROXY_V1_SIZE ? len : PROXY_V1_SIZE;
	const char *end = memchr(octets, '\r', size);

	if (end == NULL || (size_t)(end + 1 - octets) == len)
		return len < PROXY_V1_SIZE ? proxy_needs(h, len + 1)
					   : proxy_is_bad(h, "its line does not end within 107 octets");
	size = (size_t)(end - octets);
	if (end[1] != '\n' || size + 2 > PROXY_V1_SIZE || memchr(octets, '\0', size) != NULL)
		return proxy_is_bad(h, "its line does not end in CR and LF within 107 octets");
	memcpy(line, octets, size);
	line[size] = '\0';
	return proxy_parse_v1_line(h, line + LENGTH_OF(PROXY_V1_SIGNATURE), size + 2);
}

/* ---- version 2: binary ---- */

static uint16_t
proxy_read_uint16(const uint8_t *octets)
{
	return (uint16_t)(octets[0] << 8 | octets[1]);
}

/* Of a client that came by TCP; about others, over a UNIX-domain socket or by UDP, nothing is to be told. */
static enum proxy_result
proxy_parse_v2_addresses(struct proxy_header *h, const uint8_t *octets, size_t size)
{
	uint8_t family = octets[13];
	const uint8_t *addresses = octets + PROXY_V2_FIXED;

	if (family >> 4 > 3 || (family & 0x0f) > 2)
		return proxy_is_bad(h, "its address family is unknown");
	h->has_client = family == PROXY_V2_TCP4 || family == PROXY_V2_TCP6;
	if (h->has_client && size < (family == PROXY_V2_TCP4 ? PROXY_V2_TCP4_SIZE : PROXY_V2_TCP6_SIZE))
		return proxy_is_bad(h, "it is too short for its addresses");
	if (family == PROXY_V2_TCP4) {
		h->client = netset_map_ipv4(addresses);
		h->port = proxy_read_uint16(addresses + 8);
	} else if (family == PROXY_V2_TCP6) {
		memcpy(&h->client, addresses, 16);
		h->port = proxy_read_uint16(addresses + 32);
	}
	return proxy_is_done(h, PROXY_V2_FIXED + size);
}

static enum proxy_result
proxy_parse_v2(const uint8_t *octets, size_t len, struct proxy_header *h)
{
	size_t size;

	if (len < PROXY_V2_FIXED)
		return proxy_needs(h, PROXY_V2_FIXED);
	if (octets[12] != PROXY_V2_LOCAL && octets[12] != PROXY_V2_PROXY)
		return proxy_is_bad(h, "its version is not 2, or its command is unknown");
	size = proxy_read_uint16(octets + 14);
	if (PROXY_V2_FIXED + size > PROXY_HEADER_SIZE)
		return proxy_is_bad(h, "it is longer than 4096 octets");
	if (len < PROXY_V2_FIXED + size)
		return proxy_needs(h, PROXY_V2_FIXED + size);
	if (octets[12] == PROXY_V2_LOCAL)
		return proxy_is_done(h, PROXY_V2_FIXED + size);
	return proxy_parse_v2_addresses(h, octets, size);
}

/* ---- both ---- */

static bool
proxy_begins(const char *octets, size_t len, const char *signature, size_t signature_len)
{
	return memcmp(octets, signature, len < signature_len ? len : signature_len) == 0;
}

enum proxy_result
proxy_parse(const char *octets, size_t len, struct proxy_header *h)
{
	*h = (struct proxy_header){.octets = 0};
	if (len == 0)
		return proxy_needs(h, 1);
	if (proxy_begins(octets, len, PROXY_V1_SIGNATURE, LENGTH_OF(PROXY_V1_SIGNATURE)))
		return len < LENGTH_OF(PROXY_V1_SIGNATURE) ? proxy_needs(h, LENGTH_OF(PROXY_V1_SIGNATURE))
							   : proxy_parse_v1(octets, len, h);
	if (proxy_begins(octets, len, PROXY_V2_SIGNATURE, LENGTH_OF(PROXY_V2_SIGNATURE)))
		return len < LENGTH_OF(PROXY_V2_SIGNATURE) ? proxy_needs(h, LENGTH_OF(PROXY_V2_SIGNATURE))
							   : proxy_parse_v2((const uint8_t *)octets, len, h);
	return PROXY_NONE;
}

/* ---- the socket ---- */

/* Nothing more will come, though what is there may be read still. */
static bool
proxy_has_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0;
}

static void
proxy_set_low_water(int fd, size_t octets)
{
	int value = (int)octets;

	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value));
}

enum proxy_result
proxy_take(int fd, struct proxy_header *h)
{
	char octets[PROXY_HEADER_SIZE];
	ssize_t n = recv(fd, octets, sizeof(octets), MSG_PEEK | MSG_DONTWAIT);
	enum proxy_result result;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return PROXY_AGAIN;
	if (n <= 0)
		return PROXY_NONE;
	result = proxy_parse(octets, (size_t)n, h);
	if (result == PROXY_AGAIN && proxy_has_ended(fd))
		result = proxy_is_bad(h, "the connection ends within it");
	proxy_set_low_water(fd, result == PROXY_AGAIN ? h->octets : 1);
	if (result == PROXY_DONE && recv(fd, octets, h->octets, MSG_DONTWAIT) != (ssize_t)h->octets)
		return proxy_is_bad(h, "the connection broke");
	return result;
}
