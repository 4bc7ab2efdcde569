/* TLS to servers: their certificates are verified as the settings tls_ca_file and tls_verify say. */
#ifndef PGRELAY_HTTP_TLS_H
#define PGRELAY_HTTP_TLS_H

typedef struct ssl_ctx_st SSL_CTX; /* OpenSSL's */
typedef struct ssl_st SSL;

/*
 * What connections share. It is kept, and read anew from the files when the settings have changed or after a
 * minute, so that dialling again and again costs nothing. NULL: the certificates of tls_ca_file cannot be
 * read. The caller owns a reference, and releases it with SSL_CTX_free().
 */
SSL_CTX *tls_context(void);
/* For one connection to this host, a name or an address, which its certificate must be valid for. */
SSL *tls_new(SSL_CTX *context, const char *host);
/*
 * Why a connection has failed, error being OpenSSL's; NULL when it was not by TLS. Valid until the next call.
 */
const char *tls_error(const SSL *ssl, unsigned long error);

#endif
