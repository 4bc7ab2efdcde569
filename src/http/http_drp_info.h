/* GET /api/v3/info: this node, in the fields that Digital Rebar's clients know (docs/drp.md, section 5). */
#ifndef PGRELAY_HTTP_HTTP_DRP_INFO_H
#define PGRELAY_HTTP_HTTP_DRP_INFO_H

struct evhttp_request;

void http_drp_info(struct evhttp_request *req, const char *const *variables);

/* The same as JSON; the address is the one that the request came to. The caller releases it with free(). */
char *http_drp_info_json(struct evhttp_request *req);

#endif
