/*
 * Big request bodies. evhttp takes in what a request's Content-Length says before anybody sees the request;
 * so beyond HTTP_BODY_SMALL octets a body is let in only where it is wanted (to publish), when its sender has
 * shown a valid token, and while there is room for it among all that are on their way. Until then the
 * connection is not read. Who is refused gets the answer at once, and what he goes on sending is thrown away
 * for a while, so that he finds it.
 */
#ifndef PGRELAY_HTTP_HTTP_BODY_H
#define PGRELAY_HTTP_HTTP_BODY_H

#include <stdbool.h>

#define HTTP_BODY_SMALL   65536
#define HTTP_HEADERS_SIZE 16384 /* octets of a request's head at most */

struct bufferevent;
struct http_body;

/* Of the request that comes next on this connection, whose head is read along. The caller releases it with
 * http_body_free(), when the request has been answered or the connection is gone: that makes its room free. */
struct http_body *http_body_new(struct bufferevent *bev);
/* What the last request left behind in the input buffer may be the head, or a part of it. */
void http_body_look_back(struct http_body *body);
void http_body_free(struct http_body *body);
/* Does it take room? */
bool http_body_is_big(const struct http_body *body);

#endif
