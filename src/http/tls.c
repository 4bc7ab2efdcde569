/* TLS to servers. */
#include "config.h"
#include "http/tls.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TLS_KEEP_MS 60000

/* Whoever wants to see a certificate of ours gets the one that we serve with. */
static void
tls_use_certificate(SSL_CTX *context)
{
	if (*conf.tls_cert_file != '\0' && *conf.tls_key_file != '\0' &&
	    SSL_CTX_use_certificate_chain_file(context, conf.tls_cert_file) == 1 &&
	    SSL_CTX_use_PrivateKey_file(context, conf.tls_key_file, SSL_FILETYPE_PEM) == 1)
		return;
	ERR_clear_error(); /* then we have none to show, and a server that wants one says so */
}

/* NULL: they cannot be read. */
static SSL_CTX *
tls_read_authorities(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	bool ok;

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		log_fatal("could not prepare TLS");
	SSL_CTX_set_verify(context, conf.tls_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	ok = *conf.tls_ca_file != '\0' ? SSL_CTX_load_verify_locations(context, conf.tls_ca_file, NULL) == 1
				       : SSL_CTX_set_default_verify_paths(context) == 1;
	if (ok) {
		tls_use_certificate(context);
		return context;
	}
	SSL_CTX_free(context);
	return NULL;
}

SSL_CTX *
tls_context(void)
{
	static struct {
		SSL_CTX *context;
		char *ca_file;
		bool verify;
		int64_t read_ms;
	} kept;

	if (kept.context == NULL || kept.verify != conf.tls_verify ||
	    strcmp(kept.ca_file, conf.tls_ca_file) != 0 || loop_now_ms() - kept.read_ms > TLS_KEEP_MS) {
		SSL_CTX_free(kept.context);
		free(kept.ca_file);
		kept.context = tls_read_authorities();
		kept.ca_file = mem_strdup(conf.tls_ca_file);
		kept.verify = conf.tls_verify;
		kept.read_ms = loop_now_ms();
	}
	if (kept.context != NULL)
		SSL_CTX_up_ref(kept.context);
	return kept.context;
}

/* The host's name goes out (RFC 6066, section 3), and must be the certificate's (RFC 9110, section 4.3.4). */
SSL *
tls_new(SSL_CTX *context, const char *host)
{
	SSL *ssl = SSL_new(context);
	struct in6_addr octets;

	if (ssl == NULL)
		log_fatal("out of memory");
	if (inet_pton(AF_INET, host, &octets) == 1 || inet_pton(AF_INET6, host, &octets) == 1) {
		X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	} else {
		SSL_set_tlsext_host_name(ssl, host);
		SSL_set1_host(ssl, host);
	}
	return ssl;
}

const char *
tls_error(const SSL *ssl, unsigned long error)
{
	static char text[256];
	long verdict = SSL_get_verify_result(ssl);

	if (verdict != X509_V_OK && conf.tls_verify)
		snprintf(text, sizeof(text), "the server's certificate is not accepted: %s",
		    X509_verify_cert_error_string(verdict));
	else if (error != 0)
		snprintf(text, sizeof(text), "TLS: %s", ERR_reason_error_string(error));
	else
		return NULL;
	return text;
}
