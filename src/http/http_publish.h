/* Publishing over HTTP: POST /api/v1/events (docs/cluster.md, section 5), and what other ways to post share with it. */
#ifndef PGRELAY_HTTP_HTTP_PUBLISH_H
#define PGRELAY_HTTP_HTTP_PUBLISH_H

#include <stddef.h>
#include <stdint.h>

#include "relay/publisher.h"

#define HTTP_API_PREFIX   "/api/v1/"
#define HTTP_PUBLISH_PATH HTTP_API_PREFIX "events"

struct evhttp_request;

/* Answers req when its events are committed, or cannot be. */
void http_publish(struct evhttp_request *req);

/* Answers a request; answer is valid during the call. */
typedef void (*http_publish_reply)(struct evhttp_request *req, const struct publish_answer *answer);
/* Publishes what publish_body_check() has passed, len octets, and lets reply answer req then, unless the client
 * has hung up; or at once, when too much is waiting. */
void http_publish_send(struct evhttp_request *req, int64_t user_id, const char *events, size_t len,
    const struct publish_body *checked, http_publish_reply reply);
/* The HTTP status, and its name. */
int http_publish_status(enum publish_verdict verdict, const char **reason);

#endif
