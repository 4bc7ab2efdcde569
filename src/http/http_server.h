/*
 * The HTTP front: libevent's evhttp parses requests and answers the plain ones; of a WebSocket handshake or a
 * request for server-sent events the credential is put to the database, and the connection handed over to a
 * session.
 */
#ifndef PGRELAY_HTTP_HTTP_SERVER_H
#define PGRELAY_HTTP_HTTP_SERVER_H

#include <stdbool.h>

struct http_server_ops {
	/* Why the node is not ready, one reason a line; "" when it is. The caller releases it with free(). */
	char *(*readiness)(void);
};

/* Listens on the addresses of the settings. On failure *error holds the reason; the caller releases it with
 * free(). */
bool http_server_start(const struct http_server_ops *ops, char **error) __attribute__((warn_unused_result));
/* HOST:PORT of the first listening socket, with the real port. */
const char *http_server_address(void);
/* Certificate and key are read again; what is wrong with them is logged. */
void http_server_reload(void);
/* Accepts no more and refuses new handshakes. */
void http_server_stop(void);
/* Ends what is left. Sessions first. */
void http_server_free(void);

#endif
