/*
 * A connection as the API tells of it (docs/drp.md, section 7): who is there, from where, since when. It has
 * two written forms: JSON for clients, and a line for other nodes (docs/cluster.md, section 3).
 */
#ifndef PGRELAY_CLIENT_CONNECTION_H
#define PGRELAY_CLIENT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/slice.h"
#include "relay/event.h"

#define CONNECTION_PRINCIPAL_SIZE (EVENT_KEY_MAX + 1) /* with its NUL; it is a topic's key */
#define CONNECTION_ADDRESS_SIZE   96

/* An address and port as octets, in their order: what is no address, IPv4, IPv6, each as numbers. */
struct endpoint {
	uint8_t octets[1 + 16 + 2];
};

/*
 * Reads ADDRESS:PORT, [V6]:PORT, or an address alone; then low has the first port and high the last. An IPv4
 * address in IPv6's form is the IPv4 one. False when it is neither; both are zero then.
 */
bool endpoint_parse(const char *text, struct endpoint *low, struct endpoint *high);
int endpoint_compare(const struct endpoint *a, const struct endpoint *b);

struct connection {
	uint64_t number;       /* of its session, at its node */
	int64_t created_us;    /* since 1970 */
	int64_t expires_s;     /* since 1970, when its credential must be looked at again; 0: never */
	bool stream;           /* of server-sent events */
	const char *address;   /* "ADDRESS:PORT" */
	const char *principal; /* decoded */
	const char *node;      /* its id */
	struct endpoint where; /* the address */
};

/* "user:NAME", or the name itself where it begins with "runner:"; as much of it as fits into a key, with '?' for
 * what cannot stand there. */
void connection_make_principal(const char *user_name, char out[CONNECTION_PRINCIPAL_SIZE]);
/* Is it UTF-8 without control characters, as principals are? */
bool connection_is_printable(const char *text);
const char *connection_type(const struct connection *c);
/* With address and principal of its own, not the node. The caller releases it with free(). */
struct connection *connection_copy(const struct connection *c);

/* As a JSON string; text is UTF-8. */
void connection_print_string(FILE *out, const char *text);
void connection_print_json(FILE *out, const struct connection *c);
/* Returns its length. */
size_t connection_print_line(FILE *out, const struct connection *c);

/* A line, read: its connection points into it. */
struct connection_read {
	struct connection connection;
	char address[CONNECTION_ADDRESS_SIZE], principal[CONNECTION_PRINCIPAL_SIZE];
};
/* line is without its end. False when it is malformed. node is the one that told it; not copied. */
bool connection_parse_line(struct slice line, const char *node, struct connection_read *read);

#endif
