/*
 * Requests on their way to their users.
 *
 * A connection leaves evhttp like this: its bufferevent is disabled and a session puts its own events on the
 * descriptor. The evhttp_connection stays, as the descriptor's owner, and is freed with the session: evhttp
 * closes the socket then. While a request is in our hands evhttp does not read, so a client that hangs up
 * while the database is asked is noticed by its session; http_login_on_gone() is for a connection that
 * evhttp itself gives up meanwhile.
 */
#include "config.h"
#include "http/http_login.h"
#include "client/auth.h"
#include "client/credential.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_request.h"
#include "relay/stream.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define LOGIN_MAGIC 0x1091e700u

struct http_login {
	unsigned magic;
	TAILQ_ENTRY(http_login) entry;
	struct evhttp_request *req;
	const struct http_login_ops *ops;
	void *arg;
	struct auth_request *auth;
	struct credential credential;
	char *peer;
	int64_t user_id;
	char *user_name;    /* NULL: not known yet */
	int64_t expires_ms; /* by the loop's clock; -1: never */
};

static TAILQ_HEAD(, http_login) http_logins = TAILQ_HEAD_INITIALIZER(http_logins);
static size_t http_login_count;

/* ---- life ---- */

static struct http_login *
http_login_check(void *arg)
{
	struct http_login *l = arg;

	assert(l->magic == LOGIN_MAGIC);
	return l;
}

struct http_login *
http_login_new(struct evhttp_request *req, const struct http_login_ops *ops, void *arg)
{
	struct http_login *l = mem_zalloc(sizeof(*l));
	char *address = NULL;
	uint16_t port = 0;

	l->magic = LOGIN_MAGIC;
	l->req = req;
	l->ops = ops;
	l->arg = arg;
	evhttp_connection_get_peer(evhttp_request_get_connection(req), &address, &port);
	if (address == NULL)
		address = (char *)(uintptr_t) "?";
	l->peer = mem_printf(strchr(address, ':') != NULL ? "[%s]:%d" : "%s:%d", address, port);
	TAILQ_INSERT_TAIL(&http_logins, l, entry);
	http_login_count++;
	return l;
}

static void
http_login_release(struct http_login *l)
{
	TAILQ_REMOVE(&http_logins, l, entry);
	http_login_count--;
	if (l->ops->ended != NULL)
		l->ops->ended(l->arg);
	if (l->auth != NULL)
		auth_cancel(l->auth);
	credential_clear(&l->credential);
	l->magic = 0;
	free(l->user_name);
	free(l->peer);
	free(l);
}

/* The connection goes down. Its request is ours to free only when evhttp has let go of it. */
static void
http_login_on_gone(struct evhttp_connection *evcon, void *arg)
{
	struct http_login *l = http_login_check(arg);

	log_debug(l->peer, "hung up during the handshake");
	if (evhttp_request_get_connection(l->req) == NULL)
		evhttp_request_free(l->req);
	http_login_release(l);
}

struct evhttp_request *
http_login_request(const struct http_login *l)
{
	return l->req;
}

int64_t
http_login_user_id(const struct http_login *l)
{
	return l->user_id;
}

const char *
http_login_peer(const struct http_login *l)
{
	return l->peer;
}

/* ---- leaving evhttp ---- */

static void
http_login_free_carrier(void *carrier)
{
	evhttp_connection_free(carrier);
}

static struct session_socket
http_login_take_socket(struct http_login *l)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(l->req);
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
	struct transport transport = {bufferevent_getfd(bev), bufferevent_openssl_get_ssl(bev), NULL};
	struct session_socket sock = {transport, evcon, http_login_free_carrier};
	int on = 1;

	evhttp_connection_set_closecb(evcon, NULL, NULL);
	bufferevent_disable(bev, EV_READ | EV_WRITE);
	setsockopt(transport.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return sock;
}

/* The user with its credential, which is the session's from now on. */
static struct session_user
http_login_take_user(struct http_login *l)
{
	int64_t left_ms = l->expires_ms - loop_now_ms();
	struct session_user user = {l->user_id, l->user_name,
	    l->expires_ms < 0 ? -1
	    : left_ms < 0     ? 0
			      : left_ms,
	    l->credential};

	l->credential = (struct credential){CREDENTIAL_NONE, NULL, NULL};
	return user;
}

void
http_login_open(struct http_login *l, const struct dialect *dialect, const char *answer, void *request)
{
	struct session_socket sock = http_login_take_socket(l);
	struct evbuffer *input =
	    bufferevent_get_input(evhttp_connection_get_bufferevent(evhttp_request_get_connection(l->req)));
	size_t len = evbuffer_get_length(input);
	struct session_user user = http_login_take_user(l);

	session_open(&sock, l->peer, dialect, &user, answer, request, evbuffer_pullup(input, -1), len);
	evbuffer_drain(input, len);
	evhttp_clear_headers(evhttp_request_get_input_headers(l->req));
	http_login_release(l);
}

void
http_login_turn_away(struct http_login *l, const char *answer, const char *farewell)
{
	struct session_socket sock = http_login_take_socket(l);

	session_refuse(&sock, l->peer, answer, farewell);
	http_login_release(l);
}

struct evhttp_request *
http_login_end(struct http_login *l)
{
	struct evhttp_request *req = l->req;

	evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
	http_login_release(l);
	return req;
}

/* ---- refusing ---- */

void
http_login_refuse(struct http_login *l, int status, const char *reason, const char *line)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(l->req);

	if (l->ops->publishing) {
		log_debug(l->peer, "publishing refused with %d: %s", status, line);
	} else {
		metrics[METRIC_SESSIONS_REFUSED_TOTAL]++;
		log_info(l->peer, "handshake refused with %d: %s", status, line);
	}
	if (l->ops->refuse != NULL && l->ops->refuse(l->arg, l, status, reason, line))
		return;
	if (status == 401)
		evhttp_add_header(headers, "WWW-Authenticate", "Bearer realm=\"pgrelay\"");
	if (status == 503)
		evhttp_add_header(headers, "Retry-After", "2");
	if (evhttp_find_header(headers, "Connection") == NULL)
		evhttp_add_header(headers, "Connection", "close");
	evhttp_connection_set_closecb(evhttp_request_get_connection(l->req), NULL, NULL);
	http_reply_text(l->req, status, reason, line);
	http_login_release(l);
}

bool
http_login_refuse_crowd(struct http_login *l)
{
	if (session_count() + http_login_count <= (size_t)conf.max_sessions)
		return false;
	http_login_refuse(l, 503, "Service Unavailable", "max_sessions sessions are open; try again later");
	return true;
}

void
http_login_refuse_all(void)
{
	struct http_login *l;

	while ((l = TAILQ_FIRST(&http_logins)) != NULL)
		http_login_refuse(l, 503, "Service Unavailable", "the node is shutting down");
}

/* ---- who is it? ---- */

static void
http_login_on_auth(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct http_login *l = http_login_check(arg);

	l->auth = NULL;
	switch (verdict) {
	case AUTH_ACCEPTED:
		l->user_id = user->id;
		l->user_name = mem_strdup(user->name);
		l->expires_ms = user->expires_ms >= 0 ? loop_now_ms() + user->expires_ms : -1;
		l->ops->accepted(l->arg, l);
		break;
	case AUTH_REFUSED:
		http_login_refuse(l, 401, "Unauthorized",
		    "the token is unknown or has expired; pgrelay token create makes a new one");
		break;
	case AUTH_UNAVAILABLE:
		http_login_refuse(
		    l, 503, "Service Unavailable", "the database cannot be asked now; try again");
		break;
	}
}

void
http_login_accept_peer(struct http_login *l, const char *name)
{
	l->user_id = SESSION_PEER_ID;
	l->user_name = mem_strdup(name);
	l->expires_ms = -1;
	l->ops->accepted(l->arg, l);
}

static void
http_login_find_credential(struct http_login *l)
{
	char *token = http_request_value(l->req, "token");

	credential_find(&l->credential, http_header(l->req, "Authorization"), token,
	    l->ops->publishing ? NULL : http_header(l->req, "Cookie"));
	if (token != NULL)
		OPENSSL_cleanse(token, strlen(token));
	free(token);
}

void
http_login_start(struct http_login *l)
{
	http_login_find_credential(l);
	if (l->credential.kind == CREDENTIAL_NONE) {
		http_login_refuse(l, 401, "Unauthorized",
		    l->ops->publishing ? "a token is needed: as Authorization: Bearer, or as ?token= in the "
					 "URL; cookies are not taken"
				       : "a token is needed: as Authorization: Bearer, as ?token= in the "
					 "URL, or as a cookie");
		return;
	}
	if (credential_is_ambient(&l->credential) &&
	    !credential_origin_is_allowed(
		http_header(l->req, "Origin"), http_header(l->req, "Host"), conf.allowed_origins)) {
		http_login_refuse(l, 403, "Forbidden",
		    "cookies from this origin are not accepted; the setting allowed_origins lists those that "
		    "are");
		return;
	}
	if (!stream_has_started()) {
		http_login_refuse(
		    l, 503, "Service Unavailable", "the node does not hear events yet; try again");
		return;
	}
	evhttp_connection_set_closecb(evhttp_request_get_connection(l->req), http_login_on_gone, l);
	l->auth = auth_authenticate(l->credential.token, http_login_on_auth, l);
}
