/* The server's side of TLS. `context` is what new connections get; those that are open hold theirs. */
#include "config.h"
#include "http/tls_server.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/transport.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SSL_OP_IGNORE_UNEXPECTED_EOF
#define SSL_OP_IGNORE_UNEXPECTED_EOF 0 /* OpenSSL 1.1.1 knows no other way */
#endif

#define TLS_SERVER_LOG_SECONDS 10
#define TLS_SERVER_NAME        "pgrelay" /* whose sessions are resumed */

static struct {
	SSL_CTX *context;
} tls_server;

/* ---- reading ---- */

/* Takes OpenSSL's reasons off its queue; the first one is what was wrong, the others who was concerned. */
static char *
tls_server_failure(const char *what, const char *path)
{
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code))
			     : code != 0                      ? ERR_reason_error_string(code)
							      : NULL;

	ERR_clear_error();
	return mem_printf("%s \"%s\": %s", what, path, reason != NULL ? reason : "not usable");
}

/* A key with a passphrase would make OpenSSL ask the terminal. */
static int
tls_server_on_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1;
}

static char *
tls_server_use_certificate(SSL_CTX *context)
{
	if (*conf.tls_cert_file == '\0' || *conf.tls_key_file == '\0')
		return mem_strdup(
		    "listen_tls needs tls_cert_file and tls_key_file; pgrelay cert makes such files");
	SSL_CTX_set_default_passwd_cb(context, tls_server_on_passphrase);
	if (SSL_CTX_use_certificate_chain_file(context, conf.tls_cert_file) != 1)
		return tls_server_failure("could not read the certificate tls_cert_file", conf.tls_cert_file);
	if (SSL_CTX_use_PrivateKey_file(context, conf.tls_key_file, SSL_FILETYPE_PEM) != 1)
		return tls_server_failure("could not use the key tls_key_file, which must be the "
					  "certificate's and have no passphrase,",
		    conf.tls_key_file);
	return NULL;
}

static char *
tls_server_use_authorities(SSL_CTX *context)
{
	STACK_OF(X509_NAME) * names;

	if (*conf.tls_client_ca_file == '\0')
		return NULL;
	names = SSL_load_client_CA_file(conf.tls_client_ca_file);
	if (names == NULL || SSL_CTX_load_verify_locations(context, conf.tls_client_ca_file, NULL) != 1)
		return tls_server_failure(
		    "could not read the authorities tls_client_ca_file", conf.tls_client_ca_file);
	SSL_CTX_set_client_CA_list(context, names);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return NULL;
}

/* RFC 7301: no more than HTTP/1.1 is spoken here; who offers that is told, others go on without. */
static int
tls_server_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
    unsigned int in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *
tls_server_prepare(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		log_fatal("could not prepare TLS");
	SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(context,
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* clients keep tickets */
	SSL_CTX_set_session_id_context(
	    context, (const unsigned char *)TLS_SERVER_NAME, strlen(TLS_SERVER_NAME));
	SSL_CTX_set_alpn_select_cb(context, tls_server_on_alpn, NULL);
	return context;
}

bool
tls_server_load(char **error)
{
	SSL_CTX *context = tls_server_prepare();

	*error = tls_server_use_certificate(context);
	if (*error == NULL)
		*error = tls_server_use_authorities(context);
	if (*error != NULL) {
		SSL_CTX_free(context);
		return false;
	}
	SSL_CTX_free(tls_server.context);
	tls_server.context = context;
	return true;
}

/* ---- connections ---- */

SSL *
tls_server_new(void)
{
	SSL *ssl = SSL_new(tls_server.context);

	if (ssl == NULL)
		log_fatal("out of memory");
	SSL_set_accept_state(ssl);
	return ssl;
}

/* ---- connections that are taken over ---- */

/*
 * Instead of OpenSSL's own BIO for sockets. A bufferevent closes, when it goes, the descriptor that this one
 * gives as its. And what the socket does not take waits here, so that OpenSSL need not keep the record that it
 * was, nor the caller its octets.
 */
struct tls_socket {
	int fd, former_fd;
	bool ended;
	uint8_t *rest;              /* of the last record; NULL: none */
	size_t rest_len, rest_size; /* left of it, and allocated */
};

static int
tls_socket_result(BIO *bio, ssize_t n, int retry)
{
	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
	return (int)n;
}

static ssize_t
tls_socket_send(const struct tls_socket *s, const void *octets, size_t len)
{
	return send(s->fd, octets, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
tls_socket_drop_rest(struct tls_socket *s)
{
	transport_count_waiting(-(double)s->rest_size);
	free(s->rest);
	s->rest = NULL;
	s->rest_len = s->rest_size = 0;
}

/* 1, or -1: something waits still, or errno tells more. */
static int
tls_socket_flush(BIO *bio)
{
	struct tls_socket *s = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	while (s->rest_len > 0) {
		n = tls_socket_send(s, s->rest, s->rest_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return tls_socket_result(bio, n, BIO_FLAGS_WRITE);
		s->rest_len -= (size_t)n;
		memmove(s->rest, s->rest + n, s->rest_len);
	}
	tls_socket_drop_rest(s);
	return 1;
}

static int
tls_socket_write(BIO *bio, const char *octets, int len)
{
	struct tls_socket *s = BIO_get_data(bio);
	ssize_t n;

	if (tls_socket_flush(bio) < 0)
		return -1;
	n = tls_socket_send(s, octets, (size_t)len);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		return -1;
	if (n < len) {
		s->rest_len = (size_t)(n < 0 ? len : len - n);
		s->rest = mem_alloc(s->rest_len);
		s->rest_size = s->rest_len;
		transport_count_waiting((double)s->rest_size);
		memcpy(s->rest, octets + len - s->rest_len, s->rest_len);
	}
	return len;
}

static int
tls_socket_read(BIO *bio, char *buf, int size)
{
	struct tls_socket *s = BIO_get_data(bio);
	ssize_t n = recv(s->fd, buf, (size_t)size, MSG_DONTWAIT);

	s->ended = n == 0;
	return tls_socket_result(bio, n, BIO_FLAGS_READ);
}

static long
tls_socket_control(BIO *bio, int command, long number, void *arg)
{
	struct tls_socket *s = BIO_get_data(bio);

	switch (command) {
	case BIO_CTRL_RESET:
		tls_socket_drop_rest(s);
		return 1;
	case BIO_C_GET_FD:
		return s->former_fd;
	case BIO_CTRL_EOF:
		return s->ended;
	case BIO_CTRL_FLUSH:
		return tls_socket_flush(bio);
	case BIO_CTRL_WPENDING:
		return (long)s->rest_len;
	default:
		return 0;
	}
}

static int
tls_socket_destroy(BIO *bio)
{
	struct tls_socket *s = BIO_get_data(bio);

	tls_socket_drop_rest(s);
	free(s);
	return 1;
}

/* It is never released: bufferevents are freed after everything else. */
static const BIO_METHOD *
tls_socket_method(void)
{
	static BIO_METHOD *method;

	if (method != NULL)
		return method;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
	if (method == NULL)
		log_fatal("out of memory");
	BIO_meth_set_write(method, tls_socket_write);
	BIO_meth_set_read(method, tls_socket_read);
	BIO_meth_set_ctrl(method, tls_socket_control);
	BIO_meth_set_destroy(method, tls_socket_destroy);
	return method;
}

void
tls_server_take(SSL *ssl, int fd)
{
	struct tls_socket *s = mem_alloc(sizeof(*s));
	BIO *bio = BIO_new(tls_socket_method());

	if (bio == NULL)
		log_fatal("out of memory");
	*s = (struct tls_socket){.fd = fd, .former_fd = SSL_get_fd(ssl)};
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	SSL_up_ref(ssl);
}

void
tls_server_close(SSL *ssl)
{
	const struct tls_socket *s = BIO_get_data(SSL_get_wbio(ssl));
	int fd = s->fd;

	SSL_free(ssl);
	close(fd);
}

void
tls_server_count_failure(const char *peer, unsigned long error)
{
	static struct log_limit limit;
	const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
	unsigned long more;

	metrics[METRIC_TLS_FAILURES_TOTAL]++;
	if (log_limit_pass(&limit, TLS_SERVER_LOG_SECONDS, &more))
		log_info("tls", "%s: the handshake failed: %s (%lu more such failures)", peer,
		    reason != NULL ? reason : "the client hung up, or took longer than handshake_timeout",
		    more);
}

void
tls_server_free(void)
{
	SSL_CTX_free(tls_server.context);
	tls_server.context = NULL;
}
