/* What stands under /api/v3/, Digital Rebar's API (docs/drp.md, section 5), but for its WebSocket. */
#ifndef PGRELAY_HTTP_HTTP_DRP_H
#define PGRELAY_HTTP_HTTP_DRP_H

#define HTTP_DRP_PREFIX "/api/v3/"

struct evhttp_request;

/* Answers a request whose path begins so. */
void http_drp(struct evhttp_request *req);

#endif
