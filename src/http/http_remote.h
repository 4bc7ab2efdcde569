/*
 * Who the client is, where proxies stand between (docs/protocol.md, section 7). A connection from an address
 * in trusted_proxies is not read, neither by evhttp nor by TLS, until a PROXY header has been taken off it,
 * or it is known that none is there.
 */
#ifndef PGRELAY_HTTP_HTTP_REMOTE_H
#define PGRELAY_HTTP_HTTP_REMOTE_H

#include <netinet/in.h>

struct bufferevent;
struct evhttp_connection;
struct evhttp_request;
struct evkeyvalq;

/* A connection has just been accepted; its descriptor is set within this turn. */
void http_remote_expect(struct bufferevent *bev);
/* "ADDRESS:PORT" of a request's client, and its address alone. The caller releases them with free(). */
char *http_remote_address(struct evhttp_request *req);
char *http_remote_host(struct evhttp_request *req);
/* The address alone of a request's client, by its connection (NULL: there is none) and headers; :: when it is
 * not known. */
struct in6_addr http_remote_client(struct evhttp_connection *evcon, const struct evkeyvalq *headers);
/* It makes no more requests: it leaves evhttp, or ends. */
void http_remote_forget(struct bufferevent *bev);
/* Lets go of those that evhttp has freed; as often as http_greeting does. */
void http_remote_sweep(void);
void http_remote_free_all(void);

#endif
