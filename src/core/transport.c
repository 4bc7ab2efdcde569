/*
 * Plain or TLS. OpenSSL wants a write that did not get through to be made again with the same octets, while a
 * send queue may have dropped them by then: so these are kept here, in `record`, and count as taken. As long
 * as there is one nothing else is written.
 */
#include "config.h"
#include "core/transport.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TRANSPORT_RECORD_SIZE SSL3_RT_MAX_PLAIN_LENGTH

struct transport_record {
	size_t len, size; /* left of it, and allocated */
	uint8_t octets[];
};

static double transport_waiting; /* octets */

void
transport_count_waiting(double octets)
{
	transport_waiting += octets;
	metrics[METRIC_QUEUE_MEMORY_BYTES] += octets;
}

double
transport_waiting_bytes(void)
{
	return transport_waiting;
}

/* The result of an operation of OpenSSL's, in errno's words. */
static ssize_t
transport_result(const struct transport *t, int result)
{
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_NONE:
		return result;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_SYSCALL:
		if (errno == 0)
			errno = ECONNRESET;
		return -1;
	default:
		errno = EPROTO;
		return -1;
	}
}

ssize_t
transport_recv(struct transport *t, void *buf, size_t size)
{
	int n;

	if (t->ssl == NULL)
		return recv(t->fd, buf, size, MSG_DONTWAIT);
	ERR_clear_error();
	errno = 0;
	n = SSL_read(t->ssl, buf, size < INT32_MAX ? (int)size : INT32_MAX);
	t->reading_writes = n <= 0 && SSL_get_error(t->ssl, n) == SSL_ERROR_WANT_WRITE;
	return transport_result(t, n);
}

bool
transport_has_input(const struct transport *t)
{
	return t->ssl != NULL && SSL_pending(t->ssl) > 0;
}

static ssize_t
transport_write(struct transport *t, const void *octets, size_t len)
{
	ssize_t n;

	ERR_clear_error();
	errno = 0;
	n = transport_result(t, SSL_write(t->ssl, octets, (int)len));
	if (n == 0)
		errno = EPIPE;
	return n > 0 ? n : -1;
}

/* What OpenSSL has handed on may wait there. */
static bool
transport_flush_bio(struct transport *t)
{
	return t->ssl == NULL || BIO_flush(SSL_get_wbio(t->ssl)) == 1;
}

static void
transport_drop_record(struct transport *t)
{
	if (t->record == NULL)
		return;
	transport_count_waiting(-(double)t->record->size);
	free(t->record);
	t->record = NULL;
}

bool
transport_flush(struct transport *t)
{
	struct transport_record *record = t->record;
	ssize_t n;

	while (record != NULL && record->len > 0) {
		n = transport_write(t, record->octets, record->len);
		if (n < 0)
			return false;
		record->len -= (size_t)n;
		memmove(record->octets, record->octets + n, record->len);
	}
	transport_drop_record(t);
	return transport_flush_bio(t);
}

/* One record's worth: of one span as it lies there, of several put together in buf. */
static const void *
transport_gather(const struct iovec *iov, int count, uint8_t buf[TRANSPORT_RECORD_SIZE], size_t *len)
{
	*len = 0;
	if (count == 1 || iov[0].iov_len >= TRANSPORT_RECORD_SIZE) {
		*len = iov[0].iov_len < TRANSPORT_RECORD_SIZE ? iov[0].iov_len : TRANSPORT_RECORD_SIZE;
		return iov[0].iov_base;
	}
	for (int i = 0; i < count && *len < TRANSPORT_RECORD_SIZE; i++) {
		size_t room = TRANSPORT_RECORD_SIZE - *len;
		size_t part = iov[i].iov_len < room ? iov[i].iov_len : room;

		memcpy(buf + *len, iov[i].iov_base, part);
		*len += part;
	}
	return buf;
}

static void
transport_keep(struct transport *t, const void *octets, size_t len)
{
	t->record = mem_alloc(sizeof(*t->record) + len);
	t->record->len = t->record->size = len;
	transport_count_waiting((double)len);
	memcpy(t->record->octets, octets, len);
}

static ssize_t
transport_send_tls(struct transport *t, const struct iovec *iov, int count)
{
	static uint8_t buf[TRANSPORT_RECORD_SIZE]; /* one at a time; it is large for a stack */
	const void *octets;
	size_t len;
	ssize_t n;

	if (!transport_flush(t))
		return -1;
	octets = transport_gather(iov, count, buf, &len);
	n = transport_write(t, octets, len);
	if (n >= 0 || errno != EAGAIN)
		return n;
	transport_keep(t, octets, len);
	return (ssize_t)len;
}

ssize_t
transport_send(struct transport *t, const struct iovec *iov, int count)
{
	struct msghdr mh = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};

	if (t->ssl != NULL)
		return transport_send_tls(t, iov, count);
	return sendmsg(t->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void
transport_end(struct transport *t)
{
	if (t->ssl != NULL) {
		ERR_clear_error();
		(void)SSL_shutdown(t->ssl);
	}
	shutdown(t->fd, SHUT_WR);
}

void
transport_clear(struct transport *t)
{
	transport_drop_record(t);
	if (t->ssl != NULL)
		(void)BIO_reset(SSL_get_wbio(t->ssl));
}
