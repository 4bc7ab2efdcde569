/*
 * Connections that owe a request: new ones, and kept ones whose last request has been answered. evhttp's
 * time-out starts anew with each octet, so a client that drips its request could stay for ever; here each has
 * one deadline, handshake_timeout after it was accepted or answered.
 */
#ifndef PGRELAY_HTTP_HTTP_GREETING_H
#define PGRELAY_HTTP_HTTP_GREETING_H

#include <stddef.h>
#include <stdint.h>

struct bufferevent;
struct event_base;

void http_greeting_init(void);
/* For evhttp_set_bevcb(): the bufferevent of a new connection, watched from now on. */
struct bufferevent *http_greeting_new(struct event_base *base, void *arg);
/* The same, under TLS. */
struct bufferevent *http_greeting_new_tls(struct event_base *base, void *arg);
/* From now on a request is waited for. */
void http_greeting_watch(struct bufferevent *bev);
/* It may take so long from now on, for its body is a big one. */
void http_greeting_extend(struct bufferevent *bev, int64_t ms);
/* It has come. */
void http_greeting_done(struct bufferevent *bev);
void http_greeting_free_all(void);

#endif
