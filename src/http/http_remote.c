/*
 * What is known of connections by their PROXY headers, keyed by their bufferevents, which are held by a
 * reference as in http_greeting.c; where no header is to be expected, or none was there, there is nothing.
 *
 * States: NEW (the descriptor is not known yet) -> WAITING (for the header; the bufferevent does not read) ->
 * TOLD (the client's address is known), or forgotten from any. How long it may wait is http_greeting's
 * business.
 */
#include "config.h"
#include "http/http_remote.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/netset.h"
#include "http/http_forwarded.h"
#include "http/http_proxy.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define HTTP_REMOTE_LOG_SECONDS 10

struct http_remote {
	struct bufferevent *bev;
	struct loop_task begin;    /* NEW */
	struct event *readable;    /* WAITING; NULL: not */
	struct proxy_header proxy; /* TOLD */
	UT_hash_handle hh;
};

static struct http_remote *http_remotes;
static struct netset *http_remote_trusted;
static char *http_remote_trusted_text; /* NULL: none yet */

/* ---- who is trusted ---- */

/* The setting has been looked at when it was loaded. */
static const struct netset *
http_remote_proxies(void)
{
	char *error;

	if (http_remote_trusted_text != NULL && strcmp(http_remote_trusted_text, conf.trusted_proxies) == 0)
		return http_remote_trusted;
	netset_free(http_remote_trusted);
	free(http_remote_trusted_text);
	http_remote_trusted = netset_parse(conf.trusted_proxies, &error);
	if (http_remote_trusted == NULL)
		log_fatal("trusted_proxies: %s", error);
	http_remote_trusted_text = mem_strdup(conf.trusted_proxies);
	return http_remote_trusted;
}

/* Of the TCP connection. evhttp has it as a text, from accept(); a socket that was reset tells it no more. */
static bool
http_remote_peer(struct evhttp_connection *evcon, struct in6_addr *address, uint16_t *port)
{
	char *peer = NULL, *text;
	bool ok;

	evhttp_connection_get_peer(evcon, &peer, port);
	if (peer == NULL)
		return false;
	text = mem_strndup(peer, strcspn(peer, "%")); /* fe80::1%eth0 */
	ok = netset_parse_address(text, address);
	free(text);
	return ok;
}

/* As evhttp has it. */
static char *
http_remote_print_peer(struct evhttp_connection *evcon)
{
	char *address = NULL;
	uint16_t port = 0;

	evhttp_connection_get_peer(evcon, &address, &port);
	if (address == NULL)
		return mem_printf("?:%d", port);
	return mem_printf(strchr(address, ':') != NULL ? "[%s]:%d" : "%s:%d", address, port);
}

/* ---- life ---- */

static struct http_remote *
http_remote_find(struct bufferevent *bev)
{
	struct http_remote *r;

	HASH_FIND_PTR(http_remotes, &bev, r);
	return r;
}

static void
http_remote_release(struct http_remote *r)
{
	HASH_DELETE(hh, http_remotes, r);
	loop_task_cancel(&r->begin);
	if (r->readable != NULL)
		event_free(r->readable);
	bufferevent_decref(r->bev);
	loop_release(free, r);
}

/* NULL: evhttp has freed it. */
static struct evhttp_connection *
http_remote_connection(struct http_remote *r)
{
	void *arg = NULL;

	bufferevent_getcb(r->bev, NULL, NULL, NULL, &arg);
	return arg;
}

/* ---- the PROXY header ---- */

/* From here on it is evhttp's, or that of TLS. */
static void
http_remote_let_go(struct http_remote *r)
{
	event_free(r->readable);
	r->readable = NULL;
	bufferevent_enable(r->bev, EV_READ);
	if (!r->proxy.has_client)
		http_remote_release(r);
}

static void
http_remote_hang_up(struct http_remote *r)
{
	static struct log_limit limit;
	unsigned long more;
	char *peer = http_remote_print_peer(http_remote_connection(r));

	if (log_limit_pass(&limit, HTTP_REMOTE_LOG_SECONDS, &more))
		log_warning("http",
		    "hung up on %s, whose PROXY header is malformed: %s (%lu more such headers)", peer,
		    r->proxy.reason, more);
	free(peer);
	bufferevent_trigger_event(r->bev, BEV_EVENT_ERROR | BEV_EVENT_READING, 0);
	http_remote_release(r);
}

static void
http_remote_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct http_remote *r = arg;

	if (http_remote_connection(r) == NULL) {
		http_remote_release(r);
		return;
	}
	switch (proxy_take(fd, &r->proxy)) {
	case PROXY_AGAIN:
		break;
	case PROXY_NONE:
	case PROXY_DONE:
		http_remote_let_go(r);
		break;
	case PROXY_BAD:
		http_remote_hang_up(r);
		break;
	}
}

/* At the end of the turn in which it was accepted: nothing has been read. */
static void
http_remote_begin(void *arg)
{
	struct http_remote *r = arg;
	struct evhttp_connection *evcon = http_remote_connection(r);
	struct in6_addr address;
	uint16_t port;

	if (evcon == NULL || !http_remote_peer(evcon, &address, &port) ||
	    !netset_has(http_remote_proxies(), &address)) {
		http_remote_release(r);
		return;
	}
	bufferevent_disable(r->bev, EV_READ);
	r->readable = event_new(
	    loop_base(), bufferevent_getfd(r->bev), EV_READ | EV_PERSIST, http_remote_on_readable, r);
	if (r->readable == NULL || event_add(r->readable, NULL) < 0)
		log_fatal("out of memory");
}

/* ---- public ---- */

void
http_remote_expect(struct bufferevent *bev)
{
	struct http_remote *r;

	if (*conf.trusted_proxies == '\0')
		return;
	r = mem_zalloc(sizeof(*r));
	r->bev = bev;
	bufferevent_incref(bev);
	HASH_ADD_PTR(http_remotes, bev, r);
	loop_task_init(&r->begin, http_remote_begin, r);
	loop_task_queue(&r->begin);
}

/* False: it is the peer of the TCP connection, of which evhttp knows all. */
static bool
http_remote_is_told(struct evhttp_connection *evcon, const struct evkeyvalq *headers,
    struct in6_addr *address, uint16_t *port)
{
	struct http_remote *r = http_remote_find(evhttp_connection_get_bufferevent(evcon));

	if (*conf.trusted_proxies == '\0' && r == NULL)
		return false;
	if (r != NULL) {
		*address = r->proxy.client;
		*port = r->proxy.port;
	} else if (!http_remote_peer(evcon, address, port)) {
		return false;
	}
	if (!netset_has(http_remote_proxies(), address))
		return r != NULL;
	forwarded_find(headers, http_remote_proxies(), address);
	return true;
}

struct in6_addr
http_remote_client(struct evhttp_connection *evcon, const struct evkeyvalq *headers)
{
	struct in6_addr address = in6addr_any;
	uint16_t port;

	if (evcon != NULL && !http_remote_is_told(evcon, headers, &address, &port))
		(void)http_remote_peer(evcon, &address, &port);
	return address;
}

static bool
http_remote_is_told_of(struct evhttp_request *req, struct in6_addr *address, uint16_t *port)
{
	return http_remote_is_told(
	    evhttp_request_get_connection(req), evhttp_request_get_input_headers(req), address, port);
}

char *
http_remote_address(struct evhttp_request *req)
{
	struct in6_addr address;
	uint16_t port;

	if (http_remote_is_told_of(req, &address, &port))
		return netset_print_address(&address, port);
	return http_remote_print_peer(evhttp_request_get_connection(req));
}

char *
http_remote_host(struct evhttp_request *req)
{
	struct in6_addr address;
	char *peer = NULL;
	uint16_t port;

	if (http_remote_is_told_of(req, &address, &port))
		return netset_print_host(&address);
	evhttp_connection_get_peer(evhttp_request_get_connection(req), &peer, &port);
	return mem_strdup(peer != NULL ? peer : "?");
}

void
http_remote_forget(struct bufferevent *bev)
{
	struct http_remote *r = http_remote_find(bev);

	if (r != NULL)
		http_remote_release(r);
}

void
http_remote_sweep(void)
{
	struct http_remote *r, *next;

	HASH_ITER(hh, http_remotes, r, next)
	if (http_remote_connection(r) == NULL)
		http_remote_release(r);
}

void
http_remote_free_all(void)
{
	struct http_remote *r, *next;

	HASH_ITER(hh, http_remotes, r, next)
	http_remote_release(r);
	netset_free(http_remote_trusted);
	free(http_remote_trusted_text);
	http_remote_trusted = NULL;
	http_remote_trusted_text = NULL;
}
