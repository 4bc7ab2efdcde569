/*
 * A connection's octets in and out, plain or under TLS. It never blocks: what cannot be done now fails with
 * EAGAIN, as with the system's calls.
 */
#ifndef PGRELAY_CORE_TRANSPORT_H
#define PGRELAY_CORE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef struct ssl_st SSL; /* OpenSSL's */
struct transport_record;

/* fd and ssl stay their owner's. */
struct transport {
	int fd;              /* nonblocking */
	bool reading_writes; /* the last transport_recv() wants to write first: again when that goes */
	SSL *ssl;            /* its handshake is done; NULL: plain */
	struct transport_record *record; /* is on its way out; NULL: none */
};

/* As recv(): octets, 0 at the end of input, or -1 with errno. */
ssize_t transport_recv(struct transport *transport, void *buf, size_t size);
/* Is there input of which the descriptor tells nothing any more? */
bool transport_has_input(const struct transport *transport);
/* As sendmsg(): takes a part of them at least, or -1 with errno. What it took may wait in here. */
ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count);
/* Nothing of what was taken waits here any more? False with EAGAIN, or another errno. */
bool transport_flush(struct transport *transport);
/* Nothing more will be sent (RFC 8446, section 6.1). */
void transport_end(struct transport *transport);
/* Releases what waits; not fd and ssl. Nothing more can be sent. */
void transport_clear(struct transport *transport);

/* What transport_send() has taken and waits, of all connections, in octets. It counts in queue_memory. */
double transport_waiting_bytes(void);
/* For the BIO of a connection: so much more waits in it. */
void transport_count_waiting(double octets);

#endif
