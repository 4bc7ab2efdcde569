/* What evhttp leaves to its users: reading a request's headers and query, answering in plain text. */
#ifndef PGRELAY_HTTP_HTTP_REQUEST_H
#define PGRELAY_HTTP_HTTP_REQUEST_H

#include <stdbool.h>

struct evbuffer;
struct evhttp_request;

/* A request's header; NULL when it is not there. */
const char *http_header(struct evhttp_request *req, const char *name);
/* Does a header that is a list of words, separated by commas, hold this one? list may be NULL. */
bool http_list_has(const char *list, const char *word);
/* The value of a parameter in a URL's query (NULL: it has none), decoded; NULL when it is not there, empty
 * when it holds a NUL. The caller releases it with free(). */
char *http_query_value(const char *query, const char *name);
/* Takes the next parameter off a query (NULL: it has none), both parts decoded as above, the value empty where
 * there is no "="; the caller releases them with free(). False: there is none. */
bool http_query_next(const char **query, char **name, char **value);
/* The value of a parameter in a request's URL. */
char *http_request_value(struct evhttp_request *req, const char *name);
/* "GET" and the like. */
const char *http_request_method(struct evhttp_request *req);

/* Answers with this body; where HEAD was asked, with its length alone (RFC 9110, section 9.3.2). */
void http_reply_body(struct evhttp_request *req, int status, const char *reason, struct evbuffer *body);
/* Answers with a line of plain text. */
void http_reply_text(struct evhttp_request *req, int status, const char *reason, const char *line);
/* Answers with JSON. */
void http_reply_json(struct evhttp_request *req, int status, const char *reason, const char *json);
/* An error's JSON: {"error": line, "index": index}, without the index where it is negative. The caller
 * releases it with free(). */
char *http_error_json(const char *line, long index);
/* With 429 and 503: when to come again. */
void http_add_retry_after(struct evhttp_request *req, int status);
/* Answers with it. */
void http_reply_error(
    struct evhttp_request *req, int status, const char *reason, const char *line, long index);

#endif
