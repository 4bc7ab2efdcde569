/* Answers under /api/v3/ in the words of Digital Rebar's clients (docs/drp.md, sections 1 and 6). */
#ifndef PGRELAY_HTTP_HTTP_DRP_REPLY_H
#define PGRELAY_HTTP_HTTP_DRP_REPLY_H

struct evhttp_request;

/* The type of errors that are about rights. */
#define HTTP_DRP_AUTH "AUTH"

/*
 * Answers with an error: {"Model": model, "Key": key, "Type": type, "Messages": [message], "Code": status}, and
 * with Retry-After where the status is 503. reason is the status's name; type NULL stands for the request's
 * method. A 401 has no body, but WWW-Authenticate, as its clients expect.
 */
void http_drp_reply_error(struct evhttp_request *req, int status, const char *reason, const char *model,
    const char *key, const char *type, const char *message);
/* Its JSON. The caller releases it with free(). */
char *http_drp_error_json(
    int status, const char *model, const char *key, const char *type, const char *message);
/* 204 with a Content-Type, without which DRP's client takes it for an error. */
void http_drp_reply_done(struct evhttp_request *req);

#endif
