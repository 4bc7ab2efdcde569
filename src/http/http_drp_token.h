/* GET /api/v3/users/NAME/token: a new token for the user who asks (docs/drp.md, section 5). */
#ifndef PGRELAY_HTTP_HTTP_DRP_TOKEN_H
#define PGRELAY_HTTP_HTTP_DRP_TOKEN_H

struct evhttp_request;

/* variables[0] is NAME. */
void http_drp_token(struct evhttp_request *req, const char *const *variables);

#endif
