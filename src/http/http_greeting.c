/*
 * Deadlines of connections that owe a request. A bufferevent is held by a reference; that evhttp has freed it
 * meanwhile is seen by its callbacks, which are gone then, and the next sweep lets go of it.
 * BEV_OPT_CLOSE_ON_FREE is essential: the descriptor must stay open as long as the bufferevent is there, or
 * the events of the dead one would read what comes for the next connection of the same number.
 */
#include "config.h"
#include "http/http_greeting.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "http/http_body.h"
#include "http/http_remote.h"
#include "http/tls_server.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <uthash.h>

#define GREETING_SWEEP_MS 250

struct http_greeting {
	struct bufferevent *bev;
	struct http_body *body;
	int64_t deadline_ms; /* INT64_MAX: the request has come, and its body still takes room */
	TAILQ_ENTRY(http_greeting) entry;
	UT_hash_handle hh;
};

static TAILQ_HEAD(, http_greeting) http_greetings = TAILQ_HEAD_INITIALIZER(http_greetings);
static struct http_greeting *http_greetings_by_bev;
static struct event *http_greeting_sweep;

/* Where it got no further than the handshake; a connection on which nothing came was no attempt at one. */
static void
http_greeting_judge_handshake(struct bufferevent *bev)
{
	SSL *ssl = bufferevent_openssl_get_ssl(bev);

	if (ssl != NULL && !SSL_is_init_finished(ssl) && BIO_number_read(SSL_get_rbio(ssl)) > 0)
		tls_server_count_failure("a client", bufferevent_get_openssl_error(bev));
}

static void
http_greeting_forget(struct http_greeting *g)
{
	http_greeting_judge_handshake(g->bev);
	TAILQ_REMOVE(&http_greetings, g, entry);
	HASH_DEL(http_greetings_by_bev, g);
	http_body_free(g->body);
	bufferevent_decref(g->bev);
	free(g);
}

static bool
http_greeting_is_dead(struct http_greeting *g)
{
	bufferevent_event_cb on_event = NULL;

	bufferevent_getcb(g->bev, NULL, NULL, &on_event, NULL);
	return on_event == NULL;
}

static void
http_greeting_on_sweep(evutil_socket_t fd, short what, void *arg)
{
	int64_t now = loop_now_ms();
	struct http_greeting *g, *next;

	for (g = TAILQ_FIRST(&http_greetings); g != NULL; g = next) {
		next = TAILQ_NEXT(g, entry);
		if (!http_greeting_is_dead(g)) {
			if (g->deadline_ms > now)
				continue;
			log_info("http", "hung up on a client that sent no request within handshake_timeout");
			bufferevent_trigger_event(g->bev, BEV_EVENT_TIMEOUT | BEV_EVENT_READING, 0);
		}
		http_greeting_forget(g);
	}
	http_remote_sweep();
}

void
http_greeting_init(void)
{
	struct timeval tv = {0, GREETING_SWEEP_MS * 1000};

	http_greeting_sweep = event_new(loop_base(), -1, EV_PERSIST, http_greeting_on_sweep, NULL);
	if (http_greeting_sweep == NULL)
		log_fatal("could not create a timer");
	event_add(http_greeting_sweep, &tv);
}

static struct bufferevent *
http_greeting_welcome(struct bufferevent *bev)
{
	if (bev == NULL)
		log_fatal("out of memory");
	http_greeting_watch(bev);
	http_remote_expect(bev);
	return bev;
}

struct bufferevent *
http_greeting_new(struct event_base *base, void *arg)
{
	return http_greeting_welcome(bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE));
}

struct bufferevent *
http_greeting_new_tls(struct event_base *base, void *arg)
{
	struct bufferevent *bev = bufferevent_openssl_socket_new(
	    base, -1, tls_server_new(), BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);

	if (bev != NULL)
		bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
	return http_greeting_welcome(bev);
}

static struct http_greeting *
http_greeting_find(struct bufferevent *bev)
{
	struct http_greeting *g;

	HASH_FIND_PTR(http_greetings_by_bev, &bev, g);
	return g;
}

void
http_greeting_watch(struct bufferevent *bev)
{
	struct http_greeting *g = http_greeting_find(bev);

	if (g != NULL)
		http_greeting_forget(g);
	g = mem_zalloc(sizeof(*g));
	g->bev = bev;
	bufferevent_incref(bev);
	g->deadline_ms = loop_now_ms() + conf.handshake_timeout_ms;
	TAILQ_INSERT_TAIL(&http_greetings, g, entry);
	HASH_ADD_PTR(http_greetings_by_bev, bev, g);
	g->body = http_body_new(bev);
	http_body_look_back(g->body);
}

void
http_greeting_extend(struct bufferevent *bev, int64_t ms)
{
	struct http_greeting *g = http_greeting_find(bev);

	if (g != NULL)
		g->deadline_ms = loop_now_ms() + ms;
}

void
http_greeting_done(struct bufferevent *bev)
{
	struct http_greeting *g = http_greeting_find(bev);

	if (g != NULL && http_body_is_big(g->body))
		g->deadline_ms = INT64_MAX;
	else if (g != NULL)
		http_greeting_forget(g);
}

void
http_greeting_free_all(void)
{
	struct http_greeting *g;

	while ((g = TAILQ_FIRST(&http_greetings)) != NULL)
		http_greeting_forget(g);
	http_remote_free_all();
	event_free(http_greeting_sweep);
}
