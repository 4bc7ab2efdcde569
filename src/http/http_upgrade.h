/*
 * From a GET request to a WebSocket session: the handshake of RFC 6455, section 4.2, the credential, the
 * database's word on it, and the connection's way out of evhttp.
 */
#ifndef PGRELAY_HTTP_HTTP_UPGRADE_H
#define PGRELAY_HTTP_HTTP_UPGRADE_H

struct dialect;
struct evbuffer;
struct evhttp_request;

/* Answers req, now or when the database has spoken. */
void http_upgrade(struct evhttp_request *req, const struct dialect *dialect);
/* Refuses what is under way; the node is ending. */
void http_upgrade_refuse_all(void);

/* Answers with this body; where HEAD was asked, with its length alone (RFC 9110, section 9.3.2). */
void http_reply_body(struct evhttp_request *req, int status, const char *reason, struct evbuffer *body);
/* Answers with a line of plain text. */
void http_reply_text(struct evhttp_request *req, int status, const char *reason, const char *line);

#endif
