/*
 * One HTTP request to a node, for commands: blocks until it is answered. Addresses of a host are tried in
 * turn. The token travels in a header.
 */
#ifndef PGRELAY_HTTP_HTTP_CLIENT_H
#define PGRELAY_HTTP_HTTP_CLIENT_H

#include <stddef.h>

struct http_client_url;

/* http, https, ws or wss://HOST[:PORT][/PATH]; of a path the end that a WebSocket's URL has is left out.
 * NULL: *error holds the reason, to be released with free(). */
struct http_client_url *http_client_url_parse(const char *text, char **error);
void http_client_url_free(struct http_client_url *url);
/* For messages: no more than http://HOST:PORT or https://HOST:PORT, and the path. */
const char *http_client_url_text(const struct http_client_url *url);

enum http_client_result {
	HTTP_CLIENT_ANSWERED,
	HTTP_CLIENT_UNREACHED, /* there was no connection: nothing has been asked */
	HTTP_CLIENT_LOST       /* no answer: whether it was done is not known */
};

struct http_client_answer {
	int status;  /* ANSWERED */
	char *body;  /* ANSWERED; ends with a NUL; the caller releases it with free() */
	char *error; /* else why; one line; the caller releases it with free() */
};

/* path is what comes behind the URL's own, "/api/v1/events". body NULL: GET, else POST of so many octets of
 * JSON. token may be NULL. */
enum http_client_result http_client_ask(const struct http_client_url *url, const char *path,
    const char *token, const char *body, size_t len, struct http_client_answer *answer);

#endif
