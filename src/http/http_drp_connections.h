/* Connections of all nodes: shown, and closed (docs/drp.md, section 7). */
#ifndef PGRELAY_HTTP_HTTP_DRP_CONNECTIONS_H
#define PGRELAY_HTTP_HTTP_DRP_CONNECTIONS_H

struct evhttp_request;

/* Lists those that the URL's query asks for. */
void http_drp_connections(struct evhttp_request *req, const char *const *variables);
/* The same, of the principal runner:VARIABLE. */
void http_drp_connections_of_runner(struct evhttp_request *req, const char *const *variables);
/* Shows the one whose RemoteAddr is the variable. */
void http_drp_connection(struct evhttp_request *req, const char *const *variables);
/* Closes it, and shows what it was. */
void http_drp_connection_close(struct evhttp_request *req, const char *const *variables);

#endif
