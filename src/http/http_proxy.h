/*
 * The PROXY protocol, versions 1 and 2, as the HAProxy project specifies it: one header before everything
 * else on a connection, by which a proxy tells whose it is.
 */
#ifndef PGRELAY_HTTP_HTTP_PROXY_H
#define PGRELAY_HTTP_HTTP_PROXY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_HEADER_SIZE 4096 /* octets of a header at most */

enum proxy_result {
	PROXY_NONE,  /* the connection begins with something else */
	PROXY_AGAIN, /* more must come */
	PROXY_DONE,
	PROXY_BAD, /* begins as one, and is none */
};

struct proxy_header {
	size_t octets; /* PROXY_DONE: how many they are; PROXY_AGAIN: how many there must be at least */
	bool has_client;
	struct in6_addr client; /* as netset.h has them */
	uint16_t port;
	const char *reason; /* PROXY_BAD: what is wrong */
};

/* Of a connection's first octets. */
enum proxy_result proxy_parse(const char *octets, size_t len, struct proxy_header *header);

/*
 * Takes the header, and not one octet more, off a socket that nothing was read from yet; what is no header
 * stays. With PROXY_AGAIN it is to be called again when the socket is readable, which it is then when as much
 * as is wanted is there, or the client has ended (SO_RCVLOWAT, which is 1 again in the end).
 */
enum proxy_result proxy_take(int fd, struct proxy_header *header);

#endif
