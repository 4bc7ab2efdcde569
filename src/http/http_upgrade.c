/*
 * WebSocket handshakes.
 *
 * A connection leaves evhttp like this: its bufferevent is disabled and a session puts its own events on the
 * descriptor. The evhttp_connection stays, as the descriptor's owner, and is freed with the session: evhttp
 * closes the socket then. While a request is in our hands evhttp does not read, so a client that hangs up
 * while the database is asked is noticed by its session; http_upgrade_on_gone() is for a connection that
 * evhttp itself gives up meanwhile.
 */
#include "config.h"
#include "http/http_upgrade.h"
#include "client/auth.h"
#include "client/credential.h"
#include "client/dialect_awx.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/ws.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define UPGRADE_MAGIC 0x09e3ade0u

struct http_upgrade {
	unsigned magic;
	TAILQ_ENTRY(http_upgrade) entry;
	struct evhttp_request *req;
	const struct dialect *dialect;
	struct auth_request *auth;
	struct credential credential;
	char *peer;
};

static TAILQ_HEAD(, http_upgrade) http_upgrades = TAILQ_HEAD_INITIALIZER(http_upgrades);
static size_t http_upgrade_count;

void
http_reply_body(struct evhttp_request *req, int status, const char *reason, struct evbuffer *body)
{
	char length[24];

	snprintf(length, sizeof(length), "%zu", evbuffer_get_length(body));
	if (evhttp_request_get_command(req) == EVHTTP_REQ_HEAD) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Length", length);
		evbuffer_drain(body, evbuffer_get_length(body));
	}
	evhttp_send_reply(req, status, reason, body);
}

void
http_reply_text(struct evhttp_request *req, int status, const char *reason, const char *line)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL)
		log_fatal("out of memory");
	evhttp_add_header(
	    evhttp_request_get_output_headers(req), "Content-Type", "text/plain; charset=utf-8");
	if (*line != '\0')
		evbuffer_add_printf(body, "%s%s", line, line[strlen(line) - 1] == '\n' ? "" : "\n");
	http_reply_body(req, status, reason, body);
	evbuffer_free(body);
}

static const char *
http_upgrade_header(struct evhttp_request *req, const char *name)
{
	return evhttp_find_header(evhttp_request_get_input_headers(req), name);
}

/* Does a header that is a list of words, separated by commas, hold this one? */
static bool
http_upgrade_list_has(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; p != NULL && *p != '\0';) {
		size_t n;

		p += strspn(p, " \t,");
		n = strcspn(p, " \t,");
		if (n == len && strncasecmp(p, word, len) == 0)
			return true;
		p += n;
	}
	return false;
}

/* ---- life ---- */

static struct http_upgrade *
http_upgrade_check(void *arg)
{
	struct http_upgrade *u = arg;

	assert(u->magic == UPGRADE_MAGIC);
	return u;
}

static void
http_upgrade_release(struct http_upgrade *u)
{
	TAILQ_REMOVE(&http_upgrades, u, entry);
	http_upgrade_count--;
	if (u->auth != NULL)
		auth_cancel(u->auth);
	credential_clear(&u->credential);
	u->magic = 0;
	free(u->peer);
	free(u);
}

/* The connection goes down. Its request is ours to free only when evhttp has let go of it. */
static void
http_upgrade_on_gone(struct evhttp_connection *evcon, void *arg)
{
	struct http_upgrade *u = http_upgrade_check(arg);

	log_debug(u->peer, "hung up during the handshake");
	if (evhttp_request_get_connection(u->req) == NULL)
		evhttp_request_free(u->req);
	http_upgrade_release(u);
}

static struct http_upgrade *
http_upgrade_new(struct evhttp_request *req, const struct dialect *dialect)
{
	struct http_upgrade *u = mem_zalloc(sizeof(*u));
	char *address = NULL;
	uint16_t port = 0;

	u->magic = UPGRADE_MAGIC;
	u->req = req;
	u->dialect = dialect;
	evhttp_connection_get_peer(evhttp_request_get_connection(req), &address, &port);
	if (address == NULL)
		address = (char *)(uintptr_t) "?";
	u->peer = mem_printf(strchr(address, ':') != NULL ? "[%s]:%d" : "%s:%d", address, port);
	TAILQ_INSERT_TAIL(&http_upgrades, u, entry);
	http_upgrade_count++;
	return u;
}

/* ---- leaving evhttp ---- */

static void
http_upgrade_free_carrier(void *carrier)
{
	evhttp_connection_free(carrier);
}

static struct session_socket
http_upgrade_take_socket(struct http_upgrade *u)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(u->req);
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
	struct session_socket sock = {bufferevent_getfd(bev), evcon, http_upgrade_free_carrier};
	int on = 1;

	evhttp_connection_set_closecb(evcon, NULL, NULL);
	bufferevent_disable(bev, EV_READ | EV_WRITE);
	setsockopt(sock.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return sock;
}

static char *
http_upgrade_answer(struct evhttp_request *req)
{
	char accept[WS_ACCEPT_SIZE];

	ws_accept_value(http_upgrade_header(req, "Sec-WebSocket-Key"), accept);
	return mem_printf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			  "Sec-WebSocket-Accept: %s\r\n\r\n",
	    accept);
}

static void
http_upgrade_open(struct http_upgrade *u, const struct auth_user *who)
{
	char *answer = http_upgrade_answer(u->req);
	struct session_socket sock = http_upgrade_take_socket(u);
	struct evbuffer *input =
	    bufferevent_get_input(evhttp_connection_get_bufferevent(evhttp_request_get_connection(u->req)));
	size_t len = evbuffer_get_length(input);
	struct session_user user = {who->id, who->name, who->expires_ms, u->credential};

	u->credential = (struct credential){CREDENTIAL_NONE, NULL, NULL};
	session_open(&sock, u->peer, u->dialect, &user, answer, evbuffer_pullup(input, -1), len);
	evbuffer_drain(input, len);
	evhttp_clear_headers(evhttp_request_get_input_headers(u->req));
	free(answer);
	http_upgrade_release(u);
}

/* ---- refusing ---- */

static void
http_upgrade_refuse_awx(struct http_upgrade *u)
{
	char *answer = http_upgrade_answer(u->req);
	struct session_socket sock = http_upgrade_take_socket(u);

	session_refuse(&sock, u->peer, answer, DIALECT_AWX_REFUSAL);
	free(answer);
	http_upgrade_release(u);
}

static void
http_upgrade_refuse(struct http_upgrade *u, int status, const char *reason, const char *line)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(u->req);

	metrics[METRIC_SESSIONS_REFUSED_TOTAL]++;
	log_info(u->peer, "handshake refused with %d: %s", status, line);
	if (conf.refuse == CONF_REFUSE_AWX && (status == 401 || status == 403)) {
		http_upgrade_refuse_awx(u);
		return;
	}
	if (status == 401)
		evhttp_add_header(headers, "WWW-Authenticate", "Bearer realm=\"pgrelay\"");
	if (status == 426) {
		evhttp_add_header(headers, "Upgrade", "websocket");
		evhttp_add_header(headers, "Connection", "Upgrade");
		evhttp_add_header(headers, "Sec-WebSocket-Version", "13");
	} else {
		evhttp_add_header(headers, "Connection", "close");
	}
	if (status == 503)
		evhttp_add_header(headers, "Retry-After", "2");
	evhttp_connection_set_closecb(evhttp_request_get_connection(u->req), NULL, NULL);
	http_reply_text(u->req, status, reason, line);
	http_upgrade_release(u);
}

void
http_upgrade_refuse_all(void)
{
	struct http_upgrade *u;

	while ((u = TAILQ_FIRST(&http_upgrades)) != NULL)
		http_upgrade_refuse(u, 503, "Service Unavailable", "the node is shutting down");
}

/* ---- checking ---- */

static void
http_upgrade_on_auth(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct http_upgrade *u = http_upgrade_check(arg);

	u->auth = NULL;
	switch (verdict) {
	case AUTH_ACCEPTED:
		http_upgrade_open(u, user);
		break;
	case AUTH_REFUSED:
		http_upgrade_refuse(u, 401, "Unauthorized",
		    "the token is unknown or has expired; pgrelay token create makes a new one");
		break;
	case AUTH_UNAVAILABLE:
		http_upgrade_refuse(
		    u, 503, "Service Unavailable", "the database cannot be asked now; try again");
		break;
	}
}

/* The value of a parameter in a URL's query, decoded; NULL when it is not there, empty when it holds a NUL. The caller releases it. */
static char *
http_upgrade_query_value(const char *query, const char *name)
{
	size_t name_len = strlen(name);

	for (const char *p = query; p != NULL; p = strchr(p, '&')) {
		size_t len, decoded_len;
		char *text, *decoded;

		p += *p == '&';
		if (strncmp(p, name, name_len) != 0 || p[name_len] != '=')
			continue;
		len = strcspn(p + name_len + 1, "&");
		text = mem_strndup(p + name_len + 1, len);
		decoded = evhttp_uridecode(text, 1, &decoded_len);
		free(text);
		if (decoded == NULL || strlen(decoded) == decoded_len)
			return decoded;
		free(decoded);
		return mem_strdup("");
	}
	return NULL;
}

static void
http_upgrade_find_credential(struct http_upgrade *u)
{
	char *token =
	    http_upgrade_query_value(evhttp_uri_get_query(evhttp_request_get_evhttp_uri(u->req)), "token");

	credential_find(&u->credential, http_upgrade_header(u->req, "Authorization"), token,
	    http_upgrade_header(u->req, "Cookie"));
	if (token != NULL)
		OPENSSL_cleanse(token, strlen(token));
	free(token);
}

/* RFC 6455, section 4.2.1; true when the request has been answered. */
static bool
http_upgrade_refuse_malformed(struct http_upgrade *u)
{
	const char *version = http_upgrade_header(u->req, "Sec-WebSocket-Version");
	const char *key = http_upgrade_header(u->req, "Sec-WebSocket-Key");

	if (!http_upgrade_list_has(http_upgrade_header(u->req, "Upgrade"), "websocket") ||
	    !http_upgrade_list_has(http_upgrade_header(u->req, "Connection"), "upgrade"))
		http_upgrade_refuse(u, 426, "Upgrade Required",
		    "this is a WebSocket endpoint; a proxy in front of it must "
		    "pass the Upgrade and Connection headers on");
	else if (u->req->major < 1 || (u->req->major == 1 && u->req->minor < 1))
		http_upgrade_refuse(
		    u, 426, "Upgrade Required", "HTTP/1.1 is wanted; a proxy in front must speak it");
	else if (version == NULL || strcmp(version, "13") != 0)
		http_upgrade_refuse(u, 426, "Upgrade Required", "Sec-WebSocket-Version must be 13");
	else if (key == NULL || !ws_key_is_valid(key))
		http_upgrade_refuse(u, 400, "Bad Request", "Sec-WebSocket-Key must be 16 octets in base64");
	else if (session_count() + http_upgrade_count > (size_t)conf.max_sessions)
		http_upgrade_refuse(
		    u, 503, "Service Unavailable", "max_sessions sessions are open; try again later");
	else
		return false;
	return true;
}

void
http_upgrade(struct evhttp_request *req, const struct dialect *dialect)
{
	struct http_upgrade *u = http_upgrade_new(req, dialect);

	if (http_upgrade_refuse_malformed(u))
		return;
	http_upgrade_find_credential(u);
	if (u->credential.kind == CREDENTIAL_NONE) {
		http_upgrade_refuse(u, 401, "Unauthorized",
		    "a token is needed: as Authorization: Bearer, as ?token= in the URL, or as a cookie");
		return;
	}
	if (credential_is_ambient(&u->credential) &&
	    !credential_origin_is_allowed(
		http_upgrade_header(req, "Origin"), http_upgrade_header(req, "Host"), conf.allowed_origins)) {
		http_upgrade_refuse(u, 403, "Forbidden",
		    "cookies from this origin are not accepted; the setting allowed_origins lists those that "
		    "are");
		return;
	}
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), http_upgrade_on_gone, u);
	u->auth = auth_authenticate(u->credential.token, http_upgrade_on_auth, u);
}
