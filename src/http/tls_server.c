/* The server's side of TLS. `context` is what new connections get; those that are open hold theirs. */
#include "config.h"
#include "http/tls_server.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

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
