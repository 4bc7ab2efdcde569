/* One connection, its address as a number, and its written forms. */
#include "config.h"
#include "client/connection.h"
#include "core/mem.h"
#include "core/rfc3339.h"
#include "core/slice.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTION_NEVER "0001-01-01T00:00:00Z"

enum endpoint_family { ENDPOINT_NONE, ENDPOINT_IPV4, ENDPOINT_IPV6 };

/* ---- addresses ---- */

static bool
endpoint_set_address(struct endpoint *e, const char *host)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	uint8_t *address = e->octets + 1;

	if (inet_pton(AF_INET, host, address + 12) == 1) {
		e->octets[0] = ENDPOINT_IPV4;
		return true;
	}
	if (inet_pton(AF_INET6, host, address) != 1)
		return false;
	e->octets[0] = ENDPOINT_IPV6;
	if (memcmp(address, mapped, sizeof(mapped)) == 0) {
		e->octets[0] = ENDPOINT_IPV4;
		memset(address, 0, sizeof(mapped));
	}
	return true;
}

static void
endpoint_set_port(struct endpoint *e, unsigned port)
{
	e->octets[17] = (uint8_t)(port >> 8);
	e->octets[18] = (uint8_t)port;
}

static bool
endpoint_parse_port(const char *text, unsigned *port)
{
	size_t len = strspn(text, "0123456789");

	if (len == 0 || len > 5 || text[len] != '\0')
		return false;
	*port = (unsigned)atoi(text);
	return *port <= UINT16_MAX;
}

/* Takes host apart into an address and its port's text; NULL: there is none. False: no such form. */
static bool
endpoint_split(char **host, const char **port)
{
	char *colon = strchr(*host, ':'), *bracket;

	*port = NULL;
	if (**host == '[') {
		bracket = strchr(*host, ']');
		if (bracket == NULL || (bracket[1] != '\0' && bracket[1] != ':'))
			return false;
		*port = bracket[1] == ':' ? bracket + 2 : NULL;
		*bracket = '\0';
		(*host)++;
	} else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
		*colon = '\0';
		*port = colon + 1;
	}
	(*host)[strcspn(*host, "%")] = '\0'; /* the zone of a link-local one */
	return true;
}

bool
endpoint_parse(const char *text, struct endpoint *low, struct endpoint *high)
{
	char *copy = mem_strdup(text), *host = copy;
	const char *port_text;
	unsigned first = 0, last = UINT16_MAX;
	bool right;

	memset(low, 0, sizeof(*low));
	right = endpoint_split(&host, &port_text) && endpoint_set_address(low, host);
	if (right && port_text != NULL) {
		right = endpoint_parse_port(port_text, &first);
		last = first;
	}
	free(copy);
	if (!right)
		memset(low, 0, sizeof(*low));
	*high = *low;
	if (right) {
		endpoint_set_port(low, first);
		endpoint_set_port(high, last);
	}
	return right;
}

int
endpoint_compare(const struct endpoint *a, const struct endpoint *b)
{
	return memcmp(a->octets, b->octets, sizeof(a->octets));
}

/* ---- who, and what ---- */

bool
connection_is_printable(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return slice_is_utf8((struct slice){text, strlen(text)});
}

void
connection_make_principal(const char *user_name, char out[CONNECTION_PRINCIPAL_SIZE])
{
	bool runner = strncmp(user_name, "runner:", strlen("runner:")) == 0;
	char *whole = mem_printf("%s%s", runner ? "" : "user:", user_name);
	bool utf8 = slice_is_utf8((struct slice){whole, strlen(whole)});
	size_t len = strlen(whole);

	if (len > EVENT_KEY_MAX)
		for (len = EVENT_KEY_MAX; utf8 && (whole[len] & 0xc0) == 0x80;)
			len--;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)whole[i];

		out[i] = c < 0x20 || c == 0x7f || (!utf8 && c >= 0x80) ? '?' : (char)c;
	}
	out[len] = '\0';
	free(whole);
}

const char *
connection_type(const struct connection *c)
{
	return c->stream ? "api" : "websocket";
}

struct connection *
connection_copy(const struct connection *c)
{
	size_t address_size = strlen(c->address) + 1, principal_size = strlen(c->principal) + 1;
	struct connection *copy = mem_alloc(sizeof(*copy) + address_size + principal_size);
	char *text = (char *)(copy + 1);

	*copy = *c;
	copy->address = memcpy(text, c->address, address_size);
	copy->principal = memcpy(text + address_size, c->principal, principal_size);
	return copy;
}

/* ---- JSON ---- */

/* A node's id, unlike the others, may hold control characters. */
void
connection_print_string(FILE *out, const char *text)
{
	static const char special[] =
	    "\"\\\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12"
	    "\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";

	putc('"', out);
	for (;;) {
		size_t len = strcspn(text, special);

		fwrite(text, 1, len, out);
		text += len;
		if (*text == '\0')
			break;
		if ((unsigned char)*text < 0x20)
			fprintf(out, "\\u%04x", (unsigned)*text);
		else
			fprintf(out, "\\%c", *text);
		text++;
	}
	putc('"', out);
}

void
connection_print_json(FILE *out, const struct connection *c)
{
	char created[RFC3339_SIZE], expires[RFC3339_SIZE] = CONNECTION_NEVER;

	rfc3339_format(c->created_us, created);
	if (c->expires_s != 0)
		rfc3339_format(c->expires_s * 1000000, expires);
	fprintf(out, "{\"CreateTime\":\"%s\",\"ExpiresAt\":\"%s\",\"Principal\":", created, expires);
	connection_print_string(out, c->principal);
	fputs(",\"RemoteAddr\":", out);
	connection_print_string(out, c->address);
	fprintf(out, ",\"Type\":\"%s\",\"Node\":", connection_type(c));
	connection_print_string(out, c->node);
	putc('}', out);
}

/* ---- lines ---- */

/* The principal comes last, for it may hold spaces. */
size_t
connection_print_line(FILE *out, const struct connection *c)
{
	int len = fprintf(out, "%" PRIu64 " %" PRId64 " %" PRId64 " %s %s %s\n", c->number, c->created_us,
	    c->expires_s, connection_type(c), c->address, c->principal);

	return len > 0 ? (size_t)len : 0;
}

static bool
connection_take_text(struct slice text, char *out, size_t size)
{
	if (text.len >= size || memchr(text.ptr, '\0', text.len) != NULL)
		return false;
	memcpy(out, text.ptr, text.len);
	out[text.len] = '\0';
	return connection_is_printable(out);
}

static bool
connection_next_number(struct slice *line, int64_t *out)
{
	struct slice field;

	return slice_cut(line, ' ', &field) && slice_to_int64(field, out);
}

bool
connection_parse_line(struct slice line, const char *node, struct connection_read *r)
{
	struct connection *c = &r->connection;
	struct slice type, address;
	struct endpoint high;
	int64_t number;

	if (!connection_next_number(&line, &number) || !connection_next_number(&line, &c->created_us) ||
	    !connection_next_number(&line, &c->expires_s) || !slice_cut(&line, ' ', &type) ||
	    !slice_cut(&line, ' ', &address) ||
	    !connection_take_text(address, r->address, sizeof(r->address)) ||
	    !connection_take_text(line, r->principal, sizeof(r->principal)))
		return false;
	c->number = (uint64_t)number;
	c->stream = !slice_is(type, "websocket");
	c->node = node;
	c->address = r->address;
	endpoint_parse(c->address, &c->where, &high);
	c->principal = r->principal;
	return true;
}
