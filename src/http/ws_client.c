/*
 * The client's end of a WebSocket connection, on a bufferevent.
 *
 * States: CONNECTING (to one address after the other) -> HANDSHAKE -> OPEN -> CLOSING (a close frame is out,
 * or came) -> ENDED, or from HANDSHAKE to REFUSED (the answer is not 101: its first line of text is waited
 * for) -> ENDED. ws_client_enter() alone writes ->state. Each state but ENDED has a time-out. Memory goes at
 * the end of the loop turn.
 */
#include "config.h"
#include "http/ws_client.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/tls.h"
#include "http/ws.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WS_CLIENT_MAGIC       0xc11e47f5u
#define WS_CLIENT_PATH        "/websocket"
#define WS_CLIENT_CONNECT_MS  10000
#define WS_CLIENT_READ_MAX    (256 * 1024) /* octets taken off the socket at once */
#define WS_CLIENT_CLOSE_MS    2000
#define WS_CLIENT_ANSWER_MAX  16384                /* octets of an HTTP answer's head */
#define WS_CLIENT_TEXT_MAX    1000                 /* octets of a refusal's text */
#define WS_CLIENT_MESSAGE_MAX (1024 * 1024 * 1024) /* what PostgreSQL can hold in a value */

enum ws_client_state {
	WS_CLIENT_CONNECTING,
	WS_CLIENT_HANDSHAKE,
	WS_CLIENT_REFUSED,
	WS_CLIENT_OPEN,
	WS_CLIENT_CLOSING,
	WS_CLIENT_ENDED
};

struct ws_client_url {
	bool tls;
	char *host;    /* as the certificate has it */
	char *address; /* to be dialled */
	char *port;
	char *authority; /* as the Host header has it */
	char *path;      /* with the query */
	char *text;
};

/* What matters of an HTTP answer. */
struct ws_client_answer {
	int status;
	int retry_after_s;
	long length; /* of the body; -1 when not told */
	bool upgrade, connection, accept, protocol, plain;
};

struct ws_client {
	unsigned magic;
	enum ws_client_state state;
	const struct ws_client_ops *ops;
	void *arg;
	const struct ws_client_url *url;
	char *token, *headers, *protocol;
	bool binary;
	int64_t connect_ms;
	SSL_CTX *tls;
	struct addrinfo *addresses, *next_address;
	struct bufferevent *bev;
	struct event *timer;
	struct loop_task start;
	char key[WS_KEY_SIZE];
	struct ws_client_answer answer;
	struct ws *ws;
	bool pinged;
	bool heard_all; /* nothing more is to be read from the server */
};

static void ws_client_connect(struct ws_client *c);

/* ---- URLs ---- */

static bool
ws_client_scheme_is(const char *scheme, const char *one, const char *other)
{
	return strcasecmp(scheme, one) == 0 || strcasecmp(scheme, other) == 0;
}

static bool
ws_client_url_check(const struct evhttp_uri *uri, char **error)
{
	const char *scheme = uri != NULL ? evhttp_uri_get_scheme(uri) : NULL;
	const char *host = uri != NULL ? evhttp_uri_get_host(uri) : NULL;

	bool known = scheme != NULL && (ws_client_scheme_is(scheme, "ws", "wss") ||
					   ws_client_scheme_is(scheme, "http", "https"));

	if (!known || host == NULL || *host == '\0')
		*error = mem_strdup(
		    "the URL of a node is wanted: ws://HOST:PORT or wss://HOST:PORT, http:// or https://");
	else if (evhttp_uri_get_userinfo(uri) != NULL)
		*error = mem_strdup("a URL with a user's name is not supported: the token says who you are");
	else
		return true;
	return false;
}

/* host in brackets where it is an IPv6 address. */
static struct ws_client_url *
ws_client_url_new(
    bool tls, const char *host, const char *address, int port, const char *path, const char *query)
{
	struct ws_client_url *url = mem_zalloc(sizeof(*url));
	size_t len = strlen(host);

	url->tls = tls;
	url->host = *host == '[' ? mem_strndup(host + 1, len - 2) : mem_strdup(host);
	url->address = mem_strdup(address != NULL ? address : url->host);
	url->port = mem_printf("%d", port);
	url->authority = port == (tls ? 443 : 80) ? mem_strdup(host) : mem_printf("%s:%d", host, port);
	url->path = mem_printf("%s%s%s", path, query != NULL ? "?" : "", query != NULL ? query : "");
	url->text = mem_printf("%s://%s%s", tls ? "wss" : "ws", url->authority, path);
	return url;
}

/* Of http and https it is where the node is, and may be below a proxy's path. The caller releases it. */
static char *
ws_client_url_path(const struct evhttp_uri *uri)
{
	bool http = ws_client_scheme_is(evhttp_uri_get_scheme(uri), "http", "https");
	const char *path = evhttp_uri_get_path(uri) != NULL ? evhttp_uri_get_path(uri) : "";
	size_t len = strlen(path), bare = len > 0 && path[len - 1] == '/' ? len - 1 : len;

	if (bare > 0 &&
	    (!http || (bare >= strlen(WS_CLIENT_PATH) && strncmp(path + bare - strlen(WS_CLIENT_PATH),
							     WS_CLIENT_PATH, strlen(WS_CLIENT_PATH)) == 0)))
		return mem_strdup(path);
	return mem_printf("%.*s" WS_CLIENT_PATH "/", (int)bare, path);
}

static struct ws_client_url *
ws_client_url_of(const struct evhttp_uri *uri)
{
	bool tls = ws_client_scheme_is(evhttp_uri_get_scheme(uri), "wss", "https");
	int port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : tls ? 443 : 80;
	char *path = ws_client_url_path(uri);
	struct ws_client_url *url =
	    ws_client_url_new(tls, evhttp_uri_get_host(uri), NULL, port, path, evhttp_uri_get_query(uri));

	free(path);
	return url;
}

struct ws_client_url *
ws_client_url_make(bool tls, const char *host, const char *address, int port, const char *path)
{
	char *bracketed = strchr(host, ':') != NULL ? mem_printf("[%s]", host) : mem_strdup(host);
	struct ws_client_url *url = ws_client_url_new(tls, bracketed, address, port, path, NULL);

	free(bracketed);
	return url;
}

struct ws_client_url *
ws_client_url_parse(const char *text, char **error)
{
	struct evhttp_uri *uri = evhttp_uri_parse(text);
	struct ws_client_url *url = NULL;

	if (ws_client_url_check(uri, error))
		url = ws_client_url_of(uri);
	if (uri != NULL)
		evhttp_uri_free(uri);
	return url;
}

void
ws_client_url_free(struct ws_client_url *url)
{
	if (url == NULL)
		return;
	free(url->host);
	free(url->address);
	free(url->port);
	free(url->authority);
	free(url->path);
	free(url->text);
	free(url);
}

const char *
ws_client_url_text(const struct ws_client_url *url)
{
	return url->text;
}

/* ---- states ---- */

static void
ws_client_arm(struct ws_client *c, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(c->timer, &tv);
}

static void
ws_client_enter(struct ws_client *c, enum ws_client_state state)
{
	c->state = state;
	switch (state) {
	case WS_CLIENT_CONNECTING:
	case WS_CLIENT_HANDSHAKE:
	case WS_CLIENT_REFUSED:
		ws_client_arm(c, c->connect_ms);
		break;
	case WS_CLIENT_OPEN:
		ws_client_arm(c, conf.ping_interval_ms);
		break;
	case WS_CLIENT_CLOSING:
		ws_client_arm(c, WS_CLIENT_CLOSE_MS);
		break;
	case WS_CLIENT_ENDED:
		event_del(c->timer);
		loop_task_cancel(&c->start);
		if (c->bev != NULL)
			bufferevent_disable(c->bev, EV_READ | EV_WRITE);
		break;
	}
}

static void
ws_client_end(struct ws_client *c, uint16_t close_code, const char *reason)
{
	struct ws_client_end end = {
	    c->answer.status == 101 ? 0 : c->answer.status, c->answer.retry_after_s, close_code, reason};

	ws_client_enter(c, WS_CLIENT_ENDED);
	c->ops->on_end(c->arg, &end);
}

/* An open connection is over. */
static void
ws_client_end_open(struct ws_client *c)
{
	uint16_t code = ws_close_code(c->ws);
	const char *meaning = code == WS_CLOSE_NORMAL       ? "closed"
			      : code == WS_CLOSE_GOING_AWAY ? "the node is shutting down"
			      : code == WS_CLOSE_POLICY     ? "the node had no answer from here in time"
			      : code == WS_CLOSE_TRY_AGAIN  ? "messages were not taken fast enough"
			      : code == 0                   ? "the connection was lost"
							    : "the node closed the connection";
	const char *told = ws_close_reason(c->ws);
	char *reason = *told != '\0' ? mem_printf("%s (%u)", told, code)
		       : code != 0   ? mem_printf("%s (%u)", meaning, code)
				     : mem_strdup(meaning);

	ws_client_end(c, code != 0 ? code : WS_CLOSE_ABNORMAL, reason);
	free(reason);
}

/* ---- frames ---- */

static void
ws_client_on_message(void *arg, bool text, const uint8_t *data, size_t len)
{
	struct ws_client *c = arg;

	assert(c->magic == WS_CLIENT_MAGIC);
	if ((text || c->binary) && c->state == WS_CLIENT_OPEN)
		c->ops->on_message(c->arg, (const char *)data, len);
}

static void
ws_client_on_send(void *arg, const uint8_t *data, size_t len)
{
	struct ws_client *c = arg;

	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state != WS_CLIENT_ENDED)
		bufferevent_write(c->bev, data, len);
}

static const struct ws_ops ws_client_frames = {.on_message = ws_client_on_message, .send = ws_client_on_send};

static void
ws_client_read_frames(struct ws_client *c, struct evbuffer *in)
{
	struct evbuffer_iovec piece;

	c->pinged = false;
	if (c->state == WS_CLIENT_OPEN)
		ws_client_arm(c, conf.ping_interval_ms);
	while (c->state != WS_CLIENT_ENDED && !c->heard_all && evbuffer_peek(in, -1, NULL, &piece, 1) > 0) {
		c->heard_all = !ws_feed(c->ws, piece.iov_base, piece.iov_len);
		evbuffer_drain(in, piece.iov_len);
		if (c->heard_all && c->state == WS_CLIENT_OPEN)
			ws_client_enter(c,
			    WS_CLIENT_CLOSING); /* the server ends the connection, RFC 6455, section 7.1.1 */
	}
	if (c->heard_all)
		evbuffer_drain(in, evbuffer_get_length(in));
}

/* ---- the handshake ---- */

static void
ws_client_send_request(struct ws_client *c)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);

	ws_make_key(c->key);
	evbuffer_add_printf(out,
	    "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
	    "%s\r\n"
	    "Sec-WebSocket-Version: 13\r\nUser-Agent: pgrelay/" PACKAGE_VERSION "\r\n",
	    c->url->path, c->url->authority, c->key);
	if (c->token != NULL)
		evbuffer_add_printf(out, "Authorization: Bearer %s\r\n", c->token);
	if (c->protocol != NULL)
		evbuffer_add_printf(out, "Sec-WebSocket-Protocol: %s\r\n", c->protocol);
	evbuffer_add_printf(out, "%s\r\n", c->headers != NULL ? c->headers : "");
}

static void
ws_client_take_header(struct ws_client *c, char *line)
{
	struct ws_client_answer *a = &c->answer;
	char *value = strchr(line, ':'), accept[WS_ACCEPT_SIZE];

	if (value == NULL)
		return;
	*value++ = '\0';
	value += strspn(value, " \t");
	for (char *end = value + strlen(value); end > value && isspace((unsigned char)end[-1]);)
		*--end = '\0';
	ws_accept_value(c->key, accept);
	if (strcasecmp(line, "Upgrade") == 0)
		a->upgrade = strcasecmp(value, "websocket") == 0;
	else if (strcasecmp(line, "Connection") == 0)
		a->connection = strcasestr(value, "upgrade") != NULL;
	else if (strcasecmp(line, "Sec-WebSocket-Accept") == 0)
		a->accept = strcmp(value, accept) == 0;
	else if (strcasecmp(line, "Sec-WebSocket-Protocol") == 0)
		a->protocol = c->protocol != NULL && strcmp(value, c->protocol) == 0;
	else if (strcasecmp(line, "Content-Length") == 0)
		a->length = atol(value);
	else if (strcasecmp(line, "Content-Type") == 0)
		a->plain = strncasecmp(value, "text/plain", 10) == 0;
	else if (strcasecmp(line, "Retry-After") == 0)
		a->retry_after_s = atoi(value);
}

/* The head is there as a whole. */
static void
ws_client_take_answer(struct ws_client *c, struct evbuffer *in)
{
	char *line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF);

	c->answer = (struct ws_client_answer){.length = -1};
	if (sscanf(line, "HTTP/1.%*1[01] %3d", &c->answer.status) != 1)
		c->answer.status = 0;
	free(line);
	while ((line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF)) != NULL && *line != '\0') {
		ws_client_take_header(c, line);
		free(line);
	}
	free(line);
}

static void
ws_client_open(struct ws_client *c, struct evbuffer *in)
{
	if (!c->answer.upgrade || !c->answer.connection || !c->answer.accept) {
		ws_client_end(c, 0, "the server's WebSocket handshake is wrong");
		return;
	}
	if (c->protocol != NULL && !c->answer.protocol) {
		ws_client_end(c, 0,
		    "the server does not take the subprotocol; is it a node of pgrelay, of this version?");
		return;
	}
	ws_client_enter(c, WS_CLIENT_OPEN);
	c->ws = ws_new(WS_CLIENT, WS_CLIENT_MESSAGE_MAX, &ws_client_frames, c);
	c->ops->on_open(c->arg);
	if (c->state == WS_CLIENT_OPEN)
		ws_client_read_frames(c, in);
}

static void
ws_client_read_answer(struct ws_client *c, struct evbuffer *in)
{
	struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);

	if (end.pos < 0 && evbuffer_get_length(in) > WS_CLIENT_ANSWER_MAX) {
		ws_client_end(c, 0, "the server's answer is too long for one of HTTP");
		return;
	}
	if (end.pos < 0)
		return;
	ws_client_take_answer(c, in);
	if (c->answer.status == 101)
		ws_client_open(c, in);
	else if (c->answer.status == 0)
		ws_client_end(c, 0, "the server's answer is not HTTP");
	else
		ws_client_enter(c, WS_CLIENT_REFUSED);
}

/* The refusal's first line of text, as far as it has come, without what could play tricks on a terminal. */
static void
ws_client_end_refused(struct ws_client *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	char text[WS_CLIENT_TEXT_MAX + 1];
	ev_ssize_t len = c->answer.plain ? evbuffer_copyout(in, text, WS_CLIENT_TEXT_MAX) : 0;
	char *reason;

	text[len > 0 ? len : 0] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	reason = mem_printf("HTTP %d%s%s", c->answer.status, *text != '\0' ? ": " : "", text);
	ws_client_end(c, 0, reason);
	free(reason);
}

static void
ws_client_read_refusal(struct ws_client *c, struct evbuffer *in)
{
	size_t len = evbuffer_get_length(in);

	if (!c->answer.plain || len >= WS_CLIENT_TEXT_MAX ||
	    (c->answer.length >= 0 && (long)len >= c->answer.length) ||
	    evbuffer_search(in, "\n", 1, NULL).pos >= 0)
		ws_client_end_refused(c);
}

/* ---- the connection ---- */

static void
ws_client_on_read(struct bufferevent *bev, void *arg)
{
	struct ws_client *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);

	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state == WS_CLIENT_HANDSHAKE)
		ws_client_read_answer(c, in);
	if (c->state == WS_CLIENT_REFUSED)
		ws_client_read_refusal(c, in);
	else if (c->state == WS_CLIENT_OPEN || c->state == WS_CLIENT_CLOSING)
		ws_client_read_frames(c, in);
}

static void
ws_client_on_lost(struct ws_client *c, const char *reason)
{
	switch (c->state) {
	case WS_CLIENT_CONNECTING:
		if (c->next_address != NULL)
			ws_client_connect(c);
		else
			ws_client_end(c, 0, reason);
		break;
	case WS_CLIENT_HANDSHAKE:
		ws_client_end(c, 0, "the server closed the connection instead of answering");
		break;
	case WS_CLIENT_REFUSED:
		ws_client_end_refused(c);
		break;
	case WS_CLIENT_OPEN:
	case WS_CLIENT_CLOSING:
		ws_client_end_open(c);
		break;
	case WS_CLIENT_ENDED:
		break;
	}
}

/* Why a connection has failed: by TLS, or by the system. */
static const char *
ws_client_error(struct bufferevent *bev)
{
	SSL *ssl = bufferevent_openssl_get_ssl(bev);
	const char *reason = ssl != NULL ? tls_error(ssl, bufferevent_get_openssl_error(bev)) : NULL;

	return reason != NULL ? reason : evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR());
}

static void
ws_client_on_event(struct bufferevent *bev, short what, void *arg)
{
	struct ws_client *c = arg;

	assert(c->magic == WS_CLIENT_MAGIC);
	if (!(what & BEV_EVENT_CONNECTED)) {
		ws_client_on_lost(c, ws_client_error(bev));
		return;
	}
	ws_client_enter(c, WS_CLIENT_HANDSHAKE);
	ws_client_send_request(c);
	bufferevent_enable(bev, EV_READ);
}

static void
ws_client_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct ws_client *c = arg;

	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state == WS_CLIENT_OPEN && !c->pinged) {
		c->pinged = true;
		ws_send_ping(c->ws);
		ws_client_arm(c, conf.ping_timeout_ms);
	} else if (c->state == WS_CLIENT_OPEN) {
		ws_client_end(c, WS_CLOSE_ABNORMAL, "the server does not answer any more");
	} else if (c->state == WS_CLIENT_HANDSHAKE) {
		ws_client_end(c, 0, "the server does not answer");
	} else {
		ws_client_on_lost(c, "the server cannot be reached in time");
	}
}

static void
ws_client_on_written(struct bufferevent *bev, void *arg)
{
	struct ws_client *c = arg;

	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state == WS_CLIENT_OPEN && c->ops->on_drained != NULL)
		c->ops->on_drained(c->arg);
}

/* ---- connecting ---- */

static struct bufferevent *
ws_client_new_buffers(struct ws_client *c)
{
	struct bufferevent *bev;

	if (c->tls == NULL)
		return bufferevent_socket_new(loop_base(), -1, BEV_OPT_CLOSE_ON_FREE);
	bev = bufferevent_openssl_socket_new(loop_base(), -1, tls_new(c->tls, c->url->host),
	    BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
	if (bev != NULL)
		bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
	return bev;
}

static void
ws_client_on_output(struct evbuffer *out, const struct evbuffer_cb_info *change, void *arg)
{
	metrics[METRIC_QUEUE_MEMORY_BYTES] += (double)change->n_added - (double)change->n_deleted;
}

static void
ws_client_free_buffers(struct ws_client *c)
{
	struct evbuffer *out;

	if (c->bev == NULL)
		return;
	out = bufferevent_get_output(c->bev);
	evbuffer_remove_cb(out, ws_client_on_output, NULL);
	metrics[METRIC_QUEUE_MEMORY_BYTES] -= (double)evbuffer_get_length(out);
	bufferevent_free(c->bev);
	c->bev = NULL;
}

/* To the next address. */
static void
ws_client_connect(struct ws_client *c)
{
	const struct addrinfo *address = c->next_address;

	c->next_address = address->ai_next;
	ws_client_free_buffers(c);
	c->bev = ws_client_new_buffers(c);
	if (c->bev == NULL)
		log_fatal("could not make a connection's buffers");
	evbuffer_add_cb(bufferevent_get_output(c->bev), ws_client_on_output, NULL);
	bufferevent_set_max_single_read(c->bev, WS_CLIENT_READ_MAX);
	bufferevent_setcb(c->bev, ws_client_on_read, ws_client_on_written, ws_client_on_event, c);
	ws_client_enter(c, WS_CLIENT_CONNECTING);
	if (bufferevent_socket_connect(c->bev, address->ai_addr, (int)address->ai_addrlen) < 0)
		ws_client_on_lost(c, strerror(errno));
}

static void
ws_client_start(void *arg)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct ws_client *c = arg;
	int rc;

	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->url->tls && (c->tls = tls_context()) == NULL) {
		ws_client_end(c, 0, "the certificates of tls_ca_file cannot be read");
		return;
	}
	rc = getaddrinfo(c->url->address, c->url->port, &hints, &c->addresses);
	if (rc != 0) {
		ws_client_end(c, 0, gai_strerror(rc));
		return;
	}
	c->next_address = c->addresses;
	ws_client_connect(c);
}

/* ---- public ---- */

struct ws_client *
ws_client_new(const struct ws_client_url *url, const struct ws_client_options *options,
    const struct ws_client_ops *ops, void *arg)
{
	struct ws_client *c = mem_zalloc(sizeof(*c));

	c->magic = WS_CLIENT_MAGIC;
	c->ops = ops;
	c->arg = arg;
	c->url = url;
	c->token = options->token != NULL ? mem_strdup(options->token) : NULL;
	c->headers = options->headers != NULL ? mem_strdup(options->headers) : NULL;
	c->protocol = options->protocol != NULL ? mem_strdup(options->protocol) : NULL;
	c->binary = options->binary;
	c->connect_ms = options->connect_ms > 0 ? options->connect_ms : WS_CLIENT_CONNECT_MS;
	c->timer = evtimer_new(loop_base(), ws_client_on_timer, c);
	if (c->timer == NULL)
		log_fatal("could not create a timer");
	loop_task_init(&c->start, ws_client_start, c);
	loop_task_queue(&c->start);
	return c;
}

static void
ws_client_release(void *ptr)
{
	struct ws_client *c = ptr;

	ws_client_free_buffers(c);
	ws_free(c->ws);
	if (c->addresses != NULL)
		freeaddrinfo(c->addresses);
	event_free(c->timer);
	if (c->tls != NULL)
		SSL_CTX_free(c->tls);
	free(c->token);
	free(c->headers);
	free(c->protocol);
	c->magic = 0;
	free(c);
}

void
ws_client_free(struct ws_client *c)
{
	if (c == NULL)
		return;
	assert(c->magic == WS_CLIENT_MAGIC);
	ws_client_enter(c, WS_CLIENT_ENDED);
	loop_release(ws_client_release, c);
}

void
ws_client_send(struct ws_client *c, const char *text, size_t len)
{
	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state == WS_CLIENT_OPEN)
		ws_send_text(c->ws, text, len);
}

void
ws_client_send_binary(struct ws_client *c, const char *octets, size_t len)
{
	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state == WS_CLIENT_OPEN)
		ws_send_binary(c->ws, octets, len);
}

size_t
ws_client_backlog(const struct ws_client *c)
{
	return c->bev != NULL ? evbuffer_get_length(bufferevent_get_output(c->bev)) : 0;
}

void
ws_client_close_with(struct ws_client *c, enum ws_close_code code, const char *reason)
{
	assert(c->magic == WS_CLIENT_MAGIC);
	if (c->state == WS_CLIENT_CLOSING || c->state == WS_CLIENT_ENDED)
		return;
	if (c->state != WS_CLIENT_OPEN) {
		ws_client_end(c, 0, "closed");
		return;
	}
	ws_send_close(c->ws, code, reason);
	ws_client_enter(c, WS_CLIENT_CLOSING);
}

void
ws_client_close(struct ws_client *c)
{
	ws_client_close_with(c, WS_CLOSE_NORMAL, "");
}
