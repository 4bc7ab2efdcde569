/*
 * Connections under TLS that are taken over: src/core/transport.c and src/http/tls_server.c, with a client
 * that takes nothing for a while.
 */
#include "config.h"
#include "core/transport.h"
#include "http/tls_server.h"

#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#define OCTETS (2 * 1024 * 1024)

struct pair {
	SSL *client, *server;
	int client_fd, former_fd, fd; /* the server's */
	struct transport transport;
};

static unsigned
psk_of_client(
    SSL *ssl, const char *hint, char *identity, unsigned size, unsigned char *psk, unsigned psk_size)
{
	snprintf(identity, size, "client");
	memset(psk, 'k', 16);
	return 16;
}

static unsigned
psk_of_server(SSL *ssl, const char *identity, unsigned char *psk, unsigned psk_size)
{
	memset(psk, 'k', 16);
	return 16;
}

static SSL *
ssl_of(const SSL_METHOD *method, int fd)
{
	SSL_CTX *context = SSL_CTX_new(method);
	SSL *ssl;

	SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
	SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_psk_client_callback(context, psk_of_client);
	SSL_CTX_set_psk_server_callback(context, psk_of_server);
	SSL_CTX_set_mode(context,
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	ssl = SSL_new(context);
	SSL_CTX_free(context);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
		abort();
	return ssl;
}

/* Up, and taken over; who had it before is gone, and its descriptor is closed. */
static void
pair_open(struct pair *p)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
		abort();
	*p = (struct pair){.client_fd = fds[1], .former_fd = fds[0]};
	p->client = ssl_of(TLS_client_method(), p->client_fd);
	p->server = ssl_of(TLS_server_method(), p->former_fd);
	SSL_set_connect_state(p->client);
	SSL_set_accept_state(p->server);
	for (int i = 0; i < 5; i++) {
		SSL_do_handshake(p->client);
		SSL_do_handshake(p->server);
	}
	p->fd = dup(p->former_fd);
	tls_server_take(p->server, p->fd);
	p->transport = (struct transport){.fd = p->fd, .ssl = p->server};
	ok(SSL_is_init_finished(p->server) && BIO_get_fd(SSL_get_wbio(p->server), NULL) == p->former_fd,
	    "the descriptor to be closed by the former owner is its own");
	close(p->former_fd);
	SSL_free(p->server);
}

static void
pair_close(struct pair *p)
{
	transport_clear(&p->transport);
	tls_server_close(p->server);
	ok(fcntl(p->fd, F_GETFD) == -1 && errno == EBADF, "the descriptor is closed with it");
	SSL_free(p->client);
	close(p->client_fd);
}

static uint8_t
octet_at(size_t at)
{
	return (uint8_t)(at * 7 + at / 251);
}

/* Sends what goes; in pieces of two spans. */
static bool
send_some(struct pair *p, const uint8_t *octets, size_t *sent)
{
	while (*sent < OCTETS) {
		size_t left = OCTETS - *sent, half = left < 20000 ? left / 2 : 10000;
		struct iovec iov[2] = {{(void *)(uintptr_t)(octets + *sent), half},
		    {(void *)(uintptr_t)(octets + *sent + half), left < 20000 ? left - half : 10000}};
		ssize_t n = transport_send(&p->transport, iov, 2);

		if (n < 0)
			return errno == EAGAIN;
		*sent += (size_t)n;
	}
	return transport_flush(&p->transport) || errno == EAGAIN;
}

static bool
receive_some(struct pair *p, size_t *received)
{
	uint8_t buf[5000];
	int n;

	while ((n = SSL_read(p->client, buf, sizeof(buf))) > 0)
		for (int i = 0; i < n; i++)
			if (buf[i] != octet_at((*received)++))
				return false;
	return SSL_get_error(p->client, n) == SSL_ERROR_WANT_READ;
}

static void
test_slow_client(void)
{
	uint8_t *octets = malloc(OCTETS);
	size_t sent = 0, received = 0;
	struct pair p;
	bool good;

	for (size_t i = 0; octets != NULL && i < OCTETS; i++)
		octets[i] = octet_at(i);
	pair_open(&p);
	good = send_some(&p, octets, &sent);
	ok(good && sent > 0 && sent < OCTETS, "of %d octets a client that reads nothing is sent a part",
	    OCTETS);
	ok(!transport_flush(&p.transport) && errno == EAGAIN && p.transport.record == NULL,
	    "the rest of a record waits, and no copy of what was in it");
	for (int i = 0; good && i < 10000 && received < OCTETS; i++)
		good = receive_some(&p, &received) && send_some(&p, octets, &sent);
	ok(good && received == OCTETS, "once it reads it gets all, as it was sent");
	ok(transport_flush(&p.transport), "and nothing waits any more");
	pair_close(&p);
	free(octets);
}

static void
test_ends(void)
{
	struct pair p;
	char buf[16];

	pair_open(&p);
	ok(transport_recv(&p.transport, buf, sizeof(buf)) == -1 && errno == EAGAIN, "nothing has come");
	SSL_write(p.client, "hello", 5);
	ok(transport_recv(&p.transport, buf, sizeof(buf)) == 5 && memcmp(buf, "hello", 5) == 0,
	    "something has");
	SSL_shutdown(p.client);
	is_int(transport_recv(&p.transport, buf, sizeof(buf)), 0, "the client has ended");
	transport_end(&p.transport);
	SSL_read(p.client, buf, sizeof(buf));
	ok(SSL_get_shutdown(p.client) & SSL_RECEIVED_SHUTDOWN, "and is told that the server has, too");
	pair_close(&p);
}

static void
test_client_vanishes(void)
{
	struct pair p;
	uint8_t *octets = calloc(1, OCTETS);
	size_t sent = 0;

	pair_open(&p);
	ok(send_some(&p, octets, &sent), "a client takes a part");
	shutdown(p.client_fd, SHUT_RDWR);
	ok(!transport_flush(&p.transport) && errno != EAGAIN,
	    "it is gone: what waits is no longer waited for");
	pair_close(&p);
	free(octets);
}

/* A client that asks for new keys wants an answer, for which there is no room (RFC 8446, section 4.6.3). */
static void
test_key_updates(void)
{
	uint8_t *octets = calloc(1, OCTETS);
	char buf[64] = "";
	size_t sent = 0, pings = 0;
	struct pair p;
	ssize_t n;

	pair_open(&p);
	ok(send_some(&p, octets, &sent), "a client takes a part");
	for (int i = 0; i < 20; i++) {
		SSL_key_update(p.client, SSL_KEY_UPDATE_REQUESTED);
		SSL_write(p.client, "ping", 4);
	}
	for (int i = 0; i < 100 && (n = transport_recv(&p.transport, buf, sizeof(buf))) > 0; i++)
		pings += (size_t)n / 4;
	ok(n == -1 && errno == EAGAIN && p.transport.reading_writes && pings < 20,
	    "an answer that does not go out is told apart from nothing to read");
	for (int i = 0; i < 10000 && pings < 20; i++) {
		uint8_t some[5000];

		while (SSL_read(p.client, some, sizeof(some)) > 0)
			continue;
		(void)transport_flush(&p.transport);
		while ((n = transport_recv(&p.transport, buf, sizeof(buf))) > 0)
			pings += (size_t)n / 4;
	}
	ok(pings == 20 && !p.transport.reading_writes, "once the client reads, all that it has sent is read");
	pair_close(&p);
	free(octets);
}

int
main(void)
{
	test_key_updates();
	test_slow_client();
	test_ends();
	test_client_vanishes();
	return tap_end();
}
