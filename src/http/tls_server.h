/* TLS for those who connect to listen_tls (docs/protocol.md, section 8). */
#ifndef PGRELAY_HTTP_TLS_SERVER_H
#define PGRELAY_HTTP_TLS_SERVER_H

#include <stdbool.h>

typedef struct ssl_st SSL; /* OpenSSL's */

/*
 * Reads certificate, key and authorities as the settings name them. New connections use them from now on; when
 * they cannot be had the former ones stay, and *error, which the caller releases with free(), says why.
 */
bool tls_server_load(char **error) __attribute__((warn_unused_result));
/* Of one connection, which is to be accepted; after tls_server_load(). The caller owns it. */
SSL *tls_server_new(void);
/*
 * Takes a connection that is up over from its bufferevent, which may be freed then and closes its own
 * descriptor. Octets go by fd, a duplicate of that one, from now on. tls_server_close() releases both.
 */
void tls_server_take(SSL *ssl, int fd);
void tls_server_close(SSL *ssl);
/* Counts a handshake that failed; error is OpenSSL's, 0 when it has none. peer stands in the log. */
void tls_server_count_failure(const char *peer, unsigned long error);
void tls_server_free(void);

#endif
