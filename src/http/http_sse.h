/* From a GET of /events to a stream of server-sent events (docs/protocol.md, section 5). */
#ifndef PGRELAY_HTTP_HTTP_SSE_H
#define PGRELAY_HTTP_HTTP_SSE_H

struct evhttp_request;

/* Answers req, now or when the database has spoken. */
void http_sse(struct evhttp_request *req);

#endif
