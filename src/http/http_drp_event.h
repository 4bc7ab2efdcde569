/* POST /api/v3/events: publishing as Digital Rebar's clients do (docs/drp.md, section 5). */
#ifndef PGRELAY_HTTP_HTTP_DRP_EVENT_H
#define PGRELAY_HTTP_HTTP_DRP_EVENT_H

#define HTTP_DRP_EVENT_PATH "/api/v3/events"

struct evhttp_request;

void http_drp_event(struct evhttp_request *req, const char *const *variables);

#endif
