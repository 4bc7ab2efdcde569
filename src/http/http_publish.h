/* Publishing over HTTP: POST /api/v1/events (docs/cluster.md, section 5). */
#ifndef PGRELAY_HTTP_HTTP_PUBLISH_H
#define PGRELAY_HTTP_HTTP_PUBLISH_H

#define HTTP_PUBLISH_PATH "/api/v1/events"

struct evhttp_request;

/* Answers req when its events are committed, or cannot be. */
void http_publish(struct evhttp_request *req);

#endif
