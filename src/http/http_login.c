/*
 * Requests on their way to their users.
 *
 * A connection leaves evhttp like this: its bufferevent is disabled and a session puts its own events on a
 * descriptor of its own, a duplicate. Then the evhttp_connection is freed; it would shut the connection down,
 * so /dev/null takes the place of its descriptor first. Under TLS OpenSSL's state is taken over as well.
 * Where there is no descriptor left the evhttp_connection stays, and is freed with the session. While a
 * request is in our hands evhttp does not read, so a client that hangs up while the database is asked is
 * noticed by its session; http_login_on_gone() is for a connection that evhttp itself gives up meanwhile.
 */
#include "config.h"
#include "http/http_login.h"
#include "client/auth.h"
#include "client/auth_cache.h"
#include "client/credential.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_drp_reply.h"
#include "http/http_password.h"
#include "http/http_remote.h"
#include "http/http_request.h"
#include "http/tls_server.h"
#include "relay/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOGIN_MAGIC 0x1091e700u

struct http_login {
	unsigned magic;
	TAILQ_ENTRY(http_login) entry;
	struct evhttp_request *req;
	const struct http_login_ops *ops;
	void *arg;
	struct auth_request *auth;
	struct http_password *password; /* instead of auth */
	struct credential credential;
	char *peer;
	int64_t user_id, token_id;
	char *user_name;    /* NULL: not known yet */
	int64_t expires_ms; /* by the loop's clock; -1: never */
	uint64_t asked;     /* a version of auth_cache.h */
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

	l->magic = LOGIN_MAGIC;
	l->req = req;
	l->ops = ops;
	l->arg = arg;
	l->peer = http_remote_address(req);
	TAILQ_INSERT_TAIL(&http_logins, l, entry);
	http_login_count++;
	metrics[METRIC_LOGINS_PENDING]++;
	return l;
}

static void
http_login_release(struct http_login *l)
{
	TAILQ_REMOVE(&http_logins, l, entry);
	http_login_count--;
	metrics[METRIC_LOGINS_PENDING]--;
	if (l->ops->ended != NULL)
		l->ops->ended(l->arg);
	if (l->auth != NULL)
		auth_cancel(l->auth);
	if (l->password != NULL)
		http_password_cancel(l->password);
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
http_login_user_name(const struct http_login *l)
{
	return l->user_name;
}

int64_t
http_login_token_id(const struct http_login *l)
{
	return l->token_id;
}

bool
http_login_is_ambient(const struct http_login *l)
{
	return credential_is_ambient(&l->credential);
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

static void
http_login_close(void *carrier)
{
	close((int)(intptr_t)carrier);
}

static void
http_login_close_tls(void *carrier)
{
	tls_server_close(carrier);
}

/* Its descriptor stands for nothing any more: evhttp is going to shut it down. */
static void
http_login_free_shell(void *arg)
{
	static int nothing = -1;
	struct evhttp_connection *evcon = arg;

	if (nothing < 0)
		nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nothing < 0 ||
	    dup3(nothing, bufferevent_getfd(evhttp_connection_get_bufferevent(evcon)), O_CLOEXEC) < 0)
		log_fatal("could not take a connection over: %s", strerror(errno));
	evhttp_connection_free(evcon);
}

static struct session_socket
http_login_take_socket(struct http_login *l, bool deflate)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(l->req);
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
	struct transport transport = {.fd = bufferevent_getfd(bev), .ssl = bufferevent_openssl_get_ssl(bev)};
	struct session_socket sock = {transport, evcon, http_login_free_carrier, deflate};
	int on = 1, own = fcntl(transport.fd, F_DUPFD_CLOEXEC, 0);

	if (own >= 0 && transport.ssl != NULL) {
		tls_server_take(transport.ssl, own);
		sock = (struct session_socket){
		    {.fd = own, .ssl = transport.ssl}, transport.ssl, http_login_close_tls, deflate};
	} else if (own >= 0) {
		sock = (struct session_socket){{.fd = own}, (void *)(intptr_t)own, http_login_close, deflate};
	}
	if (own >= 0)
		loop_release(http_login_free_shell, evcon);
	evhttp_connection_set_closecb(evcon, NULL, NULL);
	http_remote_forget(bev);
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
	    l->credential, l->user_id != SESSION_PEER_ID && auth_cache_has_changed(l->user_id, l->asked)};

	l->credential = (struct credential){.kind = CREDENTIAL_NONE};
	return user;
}

void
http_login_open(
    struct http_login *l, const struct dialect *dialect, const char *answer, void *request, bool deflate)
{
	struct session_socket sock = http_login_take_socket(l, deflate);
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
	struct session_socket sock = http_login_take_socket(l, false);

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

/* In the words of Digital Rebar's clients. */
static void
http_login_refuse_drp(struct http_login *l, int status, const char *reason, const char *line)
{
	bool password =
	    (status == 403 || status == HTTP_PASSWORD_STATUS) && l->credential.kind == CREDENTIAL_PASSWORD;

	evhttp_connection_set_closecb(evhttp_request_get_connection(l->req), NULL, NULL);
	http_drp_reply_error(l->req, status, reason, password ? "users" : "system", "",
	    status == 403 ? HTTP_DRP_AUTH : NULL, line);
	http_login_release(l);
}

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
	if (l->ops->drp) {
		http_login_refuse_drp(l, status, reason, line);
		return;
	}
	if (status == 401)
		evhttp_add_header(headers, "WWW-Authenticate", "Bearer realm=\"pgrelay\"");
	http_add_retry_after(l->req, status);
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

/* ---- what a web application is told ---- */

static bool
http_login_is_secret(const char *parameter)
{
	return strncasecmp(parameter, "token=", strlen("token=")) == 0;
}

/* Path and query, without a token's value. The caller releases it with free(). */
static char *
http_login_uri(const char *uri)
{
	char *text = mem_strdup(uri), *from = strchr(text, '?');

	while (from != NULL) {
		size_t len = strcspn(++from, "&"), name_len = strlen("token=");

		if (http_login_is_secret(from)) {
			OPENSSL_cleanse(from + name_len, len - name_len);
			memmove(from + name_len, from + len, strlen(from + len) + 1);
		}
		from = strchr(from, '&');
	}
	return text;
}

/* Without the port and an IPv6 address's brackets. */
static char *
http_login_address(const struct http_login *l)
{
	bool bracket = *l->peer == '[';
	const char *end = strrchr(l->peer, bracket ? ']' : ':');

	return mem_strndup(
	    l->peer + bracket, end != NULL ? (size_t)(end - l->peer - bracket) : strlen(l->peer));
}

/* The caller releases it with free(). */
static char *
http_login_context(const struct http_login *l)
{
	const char *agent = http_header(l->req, "User-Agent"),
		   *language = http_header(l->req, "Accept-Language");
	char *uri = http_login_uri(evhttp_request_get_uri(l->req)), *address = http_login_address(l);
	char *context = mem_printf("%s%s%s%s%s%sX-Original-URI: %s\nX-Forwarded-For: %s\n",
	    agent != NULL ? "User-Agent: " : "", agent != NULL ? agent : "", agent != NULL ? "\n" : "",
	    language != NULL ? "Accept-Language: " : "", language != NULL ? language : "",
	    language != NULL ? "\n" : "", uri, address);

	free(address);
	free(uri);
	return context;
}

/* ---- who is it? ---- */

static void
http_login_accept(struct http_login *l, const struct auth_user *user)
{
	l->user_id = user->id;
	l->token_id = user->token_id;
	l->asked = user->asked;
	l->user_name = mem_strdup(user->name);
	l->expires_ms = user->expires_ms >= 0 ? loop_now_ms() + user->expires_ms : -1;
	if (user->application_name != NULL)
		credential_set_name(&l->credential, user->application_name);
	l->ops->accepted(l->arg, l);
}

static void
http_login_refuse_unknown(struct http_login *l)
{
	static const char token[] =
	    "the token is unknown or has expired; pgrelay token create makes a new one";
	const char *line = l->credential.kind == CREDENTIAL_PASSWORD ? "unknown name, or wrong password"
			   : l->credential.kind == CREDENTIAL_APPLICATION
			       ? "these cookies are not those of a "
				 "user; log in and try again"
			       : token;

	if (l->ops->drp)
		http_login_refuse(l, 403, "Forbidden", line);
	else
		http_login_refuse(l, 401, "Unauthorized", line);
}

static void
http_login_on_auth(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct http_login *l = http_login_check(arg);

	l->auth = NULL;
	l->password = NULL;
	switch (verdict) {
	case AUTH_ACCEPTED:
		http_login_accept(l, user);
		break;
	case AUTH_REFUSED:
		http_login_refuse_unknown(l);
		break;
	case AUTH_UNAVAILABLE:
		http_login_refuse(l, 503, "Service Unavailable",
		    l->credential.kind == CREDENTIAL_APPLICATION
			? "the web application, or the database, cannot be asked now; try again"
			: "the database cannot be asked now; try again");
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
http_login_free_secret(char *secret)
{
	if (secret != NULL)
		OPENSSL_cleanse(secret, strlen(secret));
	free(secret);
}

static char *
http_login_query_token(const struct http_login *l)
{
	char *token = http_request_value(l->req, "token");

	return token == NULL && l->ops->drp ? http_request_value(l->req, "Token") : token;
}

static void
http_login_find_credential(struct http_login *l)
{
	char *token = http_login_query_token(l);
	struct credential_source source = {
	    .authorization = http_header(l->req, "Authorization"),
	    .query_token = token,
	    .cookie = l->ops->publishing && !l->ops->drp ? NULL : http_header(l->req, "Cookie"),
	    .drp = l->ops->drp,
	    .application = *conf.auth_url != '\0',
	};

	credential_find(&l->credential, &source);
	http_login_free_secret(token);
	if (l->credential.kind == CREDENTIAL_APPLICATION)
		l->credential.context = http_login_context(l);
}

static void
http_login_refuse_missing(struct http_login *l)
{
	if (l->ops->publishing)
		http_login_refuse(l, 401, "Unauthorized",
		    "a token is needed: as Authorization: Bearer, or as ?token= in the URL; cookies are not "
		    "taken");
	else
		http_login_refuse(l, 401, "Unauthorized",
		    "a token is needed: as Authorization: Bearer, as ?token= in the URL, or as a cookie");
}

static void
http_login_ask(struct http_login *l)
{
	if (l->credential.kind != CREDENTIAL_PASSWORD) {
		l->auth = auth_authenticate(&l->credential, http_login_on_auth, l);
		return;
	}
	l->password = http_password_check(evhttp_request_get_connection(l->req),
	    evhttp_request_get_input_headers(l->req), &l->credential, http_login_on_auth, l);
	if (l->password == NULL)
		http_login_refuse(l, HTTP_PASSWORD_STATUS, HTTP_PASSWORD_REASON, HTTP_PASSWORD_LINE);
}

void
http_login_start(struct http_login *l)
{
	http_login_find_credential(l);
	if (l->credential.kind == CREDENTIAL_NONE || l->credential.kind == CREDENTIAL_MALFORMED) {
		http_login_refuse_missing(l);
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
	http_login_ask(l);
}
