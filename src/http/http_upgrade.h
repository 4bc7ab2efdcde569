/* From a GET request to a WebSocket session: the handshake of RFC 6455, section 4.2. */
#ifndef PGRELAY_HTTP_HTTP_UPGRADE_H
#define PGRELAY_HTTP_HTTP_UPGRADE_H

struct dialect;
struct evhttp_request;

/* Answers req, now or when the database has spoken. */
void http_upgrade(struct evhttp_request *req, const struct dialect *dialect);

/*
 * The same for a peer that has proved itself by the header `secret`. name stands in the log; protocol is the
 * subprotocol that the answer chooses, NULL for none.
 */
void http_upgrade_peer(
    struct evhttp_request *req, const struct dialect *dialect, const char *name, const char *protocol);

#endif
