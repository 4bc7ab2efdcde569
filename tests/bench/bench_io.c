/* Sockets of the bench, with TLS or without. */
#include "config.h"
#include "bench_io.h"
#include "bench_common.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define IO_READ_AHEAD     (64 * 1024)
#define IO_AGREE_SECONDS  10
#define IO_TLS_RECORD_MAX (16 * 1024)

static SSL_CTX *io_context;
static SSL **io_tls; /* by descriptor; NULL: plain */
static size_t io_tls_size;

static SSL *
io_find(int fd)
{
	return (size_t)fd < io_tls_size ? io_tls[fd] : NULL;
}

static _Noreturn void
io_fatal(const char *what)
{
	char reason[256];

	ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
	bench_fatal("%s: %s", what, reason);
}

static SSL_CTX *
io_context_get(void)
{
	if (io_context != NULL)
		return io_context;
	io_context = SSL_CTX_new(TLS_method());
	if (io_context == NULL)
		io_fatal("could not set up TLS");
	/* One recv() brings several records. */
	SSL_CTX_set_read_ahead(io_context, 1);
	SSL_CTX_set_default_read_buffer_len(io_context, IO_READ_AHEAD);
	SSL_CTX_set_mode(io_context, SSL_MODE_AUTO_RETRY);
	return io_context;
}

static SSL *
io_add(int fd)
{
	size_t size = io_tls_size;
	SSL *tls = SSL_new(io_context_get());

	if (tls == NULL || !SSL_set_fd(tls, fd))
		io_fatal("could not set up TLS");
	if ((size_t)fd >= size) {
		io_tls_size = 2 * (size_t)fd + 64;
		io_tls = bench_realloc(io_tls, io_tls_size * sizeof(SSL *));
		for (; size < io_tls_size; size++)
			io_tls[size] = NULL;
	}
	io_tls[fd] = tls;
	return tls;
}

static void
io_set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

void
bench_io_connect_tls(int fd)
{
	struct timeval limit = {.tv_sec = IO_AGREE_SECONDS}, none = {0};

	io_set_blocking(fd, true);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (SSL_connect(io_add(fd)) != 1)
		io_fatal("could not agree on TLS");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	io_set_blocking(fd, false);
}

void
bench_io_load_certificate(const char *certificate, const char *key)
{
	SSL_CTX *context = io_context_get();

	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		io_fatal("could not load a certificate");
}

bool
bench_io_accept_tls(int fd)
{
	ERR_clear_error();
	return SSL_accept(io_add(fd)) == 1;
}

static ssize_t
io_recv_tls(SSL *tls, char *data, size_t size)
{
	size_t len = 0, n = 0;

	ERR_clear_error();
	while (len < size && SSL_read_ex(tls, data + len, size - len, &n) == 1)
		len += n;
	if (len > 0)
		return (ssize_t)len;
	if (SSL_get_error(tls, 0) != SSL_ERROR_WANT_READ)
		return 0;
	errno = EAGAIN;
	return -1;
}

ssize_t
bench_io_recv(int fd, void *data, size_t size)
{
	SSL *tls = io_find(fd);

	return tls != NULL ? io_recv_tls(tls, data, size) : recv(fd, data, size, 0);
}

bool
bench_io_has_more(int fd)
{
	SSL *tls = io_find(fd);

	return tls != NULL && SSL_has_pending(tls);
}

bool
bench_io_send(int fd, const void *data, size_t len)
{
	const char *p = data;
	SSL *tls = io_find(fd);

	while (len > 0) {
		ssize_t n = tls == NULL
				? send(fd, p, len, MSG_NOSIGNAL)
				: SSL_write(tls, p, len < IO_TLS_RECORD_MAX ? (int)len : IO_TLS_RECORD_MAX);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

void
bench_io_close(int fd)
{
	SSL *tls = io_find(fd);

	if (tls != NULL) {
		io_tls[fd] = NULL;
		SSL_free(tls);
	}
	close(fd);
}
