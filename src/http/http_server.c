/* The HTTP front: listening sockets and the table of paths. */
#include "config.h"
#include "http/http_server.h"
#include "client/dialect_awx.h"
#include "client/dialect_drp.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_body.h"
#include "http/http_cluster.h"
#include "http/http_drp.h"
#include "http/http_drp_reply.h"
#include "http/http_greeting.h"
#include "http/http_login.h"
#include "http/http_password.h"
#include "http/http_peer.h"
#include "http/http_publish.h"
#include "http/http_remote.h"
#include "http/http_request.h"
#include "http/http_sse.h"
#include "http/http_upgrade.h"
#include "http/tls_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define HTTP_MAX_LISTENERS  16
#define HTTP_BACKLOG        65535 /* the system's own bound is less, net.core.somaxconn */
#define HTTP_ACCEPT_PAUSE_S 1
/* Where thousands come at once they are taken in the order in which they came, so many before the others'
 * turn. A handshake under TLS is as much work as several without. */
#define HTTP_PORTION     128
#define HTTP_PORTION_TLS 8 /* what one counts for */

static struct {
	struct evhttp *evhttp, *evhttp_tls; /* the latter NULL: no TLS */
	struct http_listener {
		struct evhttp *evhttp;
		struct evhttp_bound_socket *bound;
	} listeners[HTTP_MAX_LISTENERS];
	int listener_count;
	struct event *resume; /* pending while accepting pauses */
	int accepted;         /* of this portion */
	struct loop_task next_portion;
	char *address;
	bool stopping;
	const struct http_server_ops *ops;
} http_server;

/* ---- paths ---- */

static void
http_server_health(struct evhttp_request *req)
{
	http_reply_text(req, HTTP_OK, "OK", "ok");
}

static void
http_server_ready(struct evhttp_request *req)
{
	char *reasons = http_server.ops->readiness();

	if (*reasons == '\0')
		http_reply_text(req, HTTP_OK, "OK", "ready");
	else
		http_reply_text(req, HTTP_SERVUNAVAIL, "Service Unavailable", reasons);
	free(reasons);
}

static void
http_server_metrics(struct evhttp_request *req)
{
	size_t len;
	char *page = metrics_format(&len);
	struct evbuffer *body = evbuffer_new();

	if (body == NULL)
		log_fatal("out of memory");
	evbuffer_add(body, page, len);
	evhttp_add_header(
	    evhttp_request_get_output_headers(req), "Content-Type", "text/plain; version=0.0.4");
	http_reply_body(req, HTTP_OK, "OK", body);
	evbuffer_free(body);
	free(page);
}

static void
http_server_awx(struct evhttp_request *req)
{
	http_upgrade(req, &dialect_awx);
}

static void
http_server_drp(struct evhttp_request *req)
{
	http_upgrade(req, &dialect_drp);
}

#define HTTP_GET      "GET" /* no HEAD: RFC 6455, section 4.2.1 */
#define HTTP_GET_HEAD "GET, HEAD"
#define HTTP_POST     "POST"

struct http_route {
	const char *path;
	const char *methods;
	void (*handle)(struct evhttp_request *req);
};

static const struct http_route http_routes[] = {
    {"/websocket", HTTP_GET, http_server_awx},
    {"/websocket/", HTTP_GET, http_server_awx},
    {"/api/websocket", HTTP_GET, http_server_awx},
    {"/api/websocket/", HTTP_GET, http_server_awx},
    {"/api/v3/ws", HTTP_GET, http_server_drp},
    {"/api/v3/ws/", HTTP_GET, http_server_drp},
    {"/events", HTTP_GET, http_sse},
    {"/websocket/relay", HTTP_GET, http_peer_relay},
    {"/websocket/relay/", HTTP_GET, http_peer_relay},
    {"/websocket/broadcast", HTTP_GET, http_peer_broadcast},
    {"/websocket/broadcast/", HTTP_GET, http_peer_broadcast},
    {HTTP_PUBLISH_PATH, HTTP_POST, http_publish},
    {"/api/v1/cluster", HTTP_GET, http_cluster},
    {"/healthz", HTTP_GET_HEAD, http_server_health},
    {"/readyz", HTTP_GET_HEAD, http_server_ready},
    {"/metrics", HTTP_GET_HEAD, http_server_metrics},
};

static bool
http_server_closes(const struct evkeyvalq *headers)
{
	const char *value = evhttp_find_header(headers, "Connection");

	return value != NULL && strcasecmp(value, "close") == 0;
}

/* Where the connection is kept its next request has a deadline as well. */
static void
http_server_on_complete(struct evhttp_request *req, void *arg)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));

	if (http_server_closes(evhttp_request_get_input_headers(req)) ||
	    http_server_closes(evhttp_request_get_output_headers(req)))
		http_remote_forget(bev);
	else
		http_greeting_watch(bev);
}

/* evhttp reads no body of a GET: what is meant as one would be taken for the next request. */
static bool
http_server_has_stray_body(struct evhttp_request *req)
{
	enum evhttp_cmd_type method = evhttp_request_get_command(req);
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
	const char *length = evhttp_find_header(headers, "Content-Length");

	return (method == EVHTTP_REQ_GET || method == EVHTTP_REQ_HEAD) &&
	       (evhttp_find_header(headers, "Transfer-Encoding") != NULL ||
		   (length != NULL && strcmp(length, "0") != 0));
}

static bool
http_server_is_under(const char *path, const char *prefix)
{
	return path != NULL && strncmp(path, prefix, strlen(prefix)) == 0;
}

/* In the form that clients of this path read. */
static void
http_server_refuse(struct evhttp_request *req, int status, const char *reason, const char *line)
{
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));

	if (http_server_is_under(path, HTTP_DRP_PREFIX))
		http_drp_reply_error(req, status, reason, "", path, NULL, line);
	else if (http_server_is_under(path, HTTP_API_PREFIX))
		http_reply_error(req, status, reason, line, -1);
	else
		http_reply_text(req, status, reason, line);
}

static void
http_server_refuse_method(struct evhttp_request *req, const char *methods)
{
	char *line =
	    mem_printf("only %s is understood here", strcmp(methods, HTTP_POST) == 0 ? "POST" : "GET");

	evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", methods);
	http_server_refuse(req, HTTP_BADMETHOD, "Method Not Allowed", line);
	free(line);
}

static void
http_server_route(struct evhttp_request *req)
{
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));

	for (size_t i = 0; i < ARRAY_LENGTH(http_routes); i++) {
		if (path == NULL || strcmp(path, http_routes[i].path) != 0)
			continue;
		if (http_list_has(http_routes[i].methods, http_request_method(req)))
			http_routes[i].handle(req);
		else
			http_server_refuse_method(req, http_routes[i].methods);
		return;
	}
	if (http_server_is_under(path, HTTP_DRP_PREFIX))
		http_drp(req);
	else
		http_server_refuse(req, HTTP_NOTFOUND, "Not Found",
		    "nothing is here; WebSockets are at /websocket/, server-sent events at /events, the "
		    "node's state at /readyz and /metrics; events are posted to " HTTP_PUBLISH_PATH);
}

static void
http_server_on_request(struct evhttp_request *req, void *arg)
{
	http_greeting_done(evhttp_connection_get_bufferevent(evhttp_request_get_connection(req)));
	evhttp_request_set_on_complete_cb(req, http_server_on_complete, NULL);
	if (http_server.stopping) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
		http_server_refuse(req, HTTP_SERVUNAVAIL, "Service Unavailable", "the node is shutting down");
	} else if (http_server_has_stray_body(req)) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
		http_server_refuse(req, HTTP_BADREQUEST, "Bad Request", "a GET has no body here");
	} else {
		http_server_route(req);
	}
}

/* ---- listening ---- */

static void
http_server_accept(bool on)
{
	for (int i = 0; i < http_server.listener_count; i++) {
		struct evconnlistener *listener =
		    evhttp_bound_socket_get_listener(http_server.listeners[i].bound);

		if (on)
			evconnlistener_enable(listener);
		else
			evconnlistener_disable(listener);
	}
}

static void
http_server_on_resume(evutil_socket_t fd, short what, void *arg)
{
	http_server_accept(true);
}

/* At the end of the turn. */
static void
http_server_on_portion(void *arg)
{
	http_server.accepted = 0;
	if (!event_pending(http_server.resume, EV_TIMEOUT, NULL))
		http_server_accept(true);
}

/* libevent goes on accepting until nobody waits, or the listener is disabled. */
static void
http_server_count_accepted(int weight)
{
	http_server.accepted += weight;
	if (http_server.accepted < HTTP_PORTION)
		return;
	http_server_accept(false);
	loop_task_queue(&http_server.next_portion);
}

static struct bufferevent *
http_server_on_connection(struct event_base *base, void *arg)
{
	http_server_count_accepted(1);
	return http_greeting_new(base, arg);
}

static struct bufferevent *
http_server_on_connection_tls(struct event_base *base, void *arg)
{
	http_server_count_accepted(HTTP_PORTION_TLS);
	return http_greeting_new_tls(base, arg);
}

/* Out of descriptors or memory: trying at once again would only burn the processor. */
static void
http_server_on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct timeval tv = {HTTP_ACCEPT_PAUSE_S, 0};

	metrics[METRIC_ACCEPT_PAUSES_TOTAL]++;
	log_warning("http", "could not accept a connection: %s; pausing for %d s", strerror(errno),
	    HTTP_ACCEPT_PAUSE_S);
	http_server_accept(false);
	event_add(http_server.resume, &tv);
}

static char *
http_server_name_socket(evutil_socket_t fd)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";

	if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
		getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	return mem_printf(strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
}

/* Two sockets on one port, for IPv4 and IPv6, need the latter to leave the former alone. */
static struct evconnlistener *
http_server_listen(const struct addrinfo *ai)
{
	unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE |
			 LEV_OPT_DISABLED | (ai->ai_family == AF_INET6 ? LEV_OPT_BIND_IPV6ONLY : 0) |
			 (conf.reuse_port ? LEV_OPT_REUSEABLE_PORT : 0);

	return evconnlistener_new_bind(
	    loop_base(), NULL, NULL, flags, HTTP_BACKLOG, ai->ai_addr, (int)ai->ai_addrlen);
}

static bool
http_server_bind(struct evhttp *evhttp, const struct addrinfo *ai, const char *text, char **error)
{
	struct evconnlistener *listener;
	struct evhttp_bound_socket *bound;
	char *name;

	if (http_server.listener_count == HTTP_MAX_LISTENERS) {
		*error = mem_printf("listen and listen_tls name more than %d addresses", HTTP_MAX_LISTENERS);
		return false;
	}
	listener = http_server_listen(ai);
	if (listener == NULL) {
		*error = mem_printf("could not listen on \"%s\": %s%s", text, strerror(errno),
		    errno == EADDRINUSE
			? "; is another node running, or should the setting listen name another port?"
			: "");
		return false;
	}
	evconnlistener_set_error_cb(listener, http_server_on_accept_error);
	bound = evhttp_bind_listener(evhttp, listener);
	if (bound == NULL)
		log_fatal("out of memory");
	http_server.listeners[http_server.listener_count++] = (struct http_listener){evhttp, bound};
	name = http_server_name_socket(evconnlistener_get_fd(listener));
	log_info("http", "listening on %s%s", name, evhttp == http_server.evhttp_tls ? " with TLS" : "");
	if (http_server.address == NULL)
		http_server.address = name;
	else
		free(name);
	return true;
}

/* getaddrinfo() would take a larger number modulo 65536. */
static bool
http_server_is_port(const char *s)
{
	size_t len = strspn(s, "0123456789");

	return len > 0 && len <= 5 && s[len] == '\0' && atoi(s) <= UINT16_MAX;
}

/* HOST:PORT, [V6]:PORT or *:PORT */
static bool
http_server_listen_on(struct evhttp *evhttp, char *text, char **error)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list, *ai;
	char *spec = mem_strdup(text), *colon = strrchr(spec, ':'), *host = spec;
	bool ok = true;
	int rc;

	if (colon == NULL || !http_server_is_port(colon + 1)) {
		*error = mem_printf(
		    "\"%s\" is no address to listen on: HOST:PORT is wanted, with a number up to 65535",
		    text);
		free(spec);
		return false;
	}
	*colon = '\0';
	if (host[0] == '[' && colon[-1] == ']') {
		host++;
		colon[-1] = '\0';
	}
	rc = getaddrinfo(*host == '\0' || strcmp(host, "*") == 0 ? NULL : host, colon + 1, &hints, &list);
	free(spec);
	if (rc != 0) {
		*error = mem_printf("could not resolve \"%s\": %s", text, gai_strerror(rc));
		return false;
	}
	for (ai = list; ok && ai != NULL; ai = ai->ai_next)
		ok = http_server_bind(evhttp, ai, text, error);
	freeaddrinfo(list);
	return ok;
}

static bool
http_server_listen_each(struct evhttp *evhttp, const char *addresses, char **error)
{
	char *list = mem_strdup(addresses), *save = NULL;
	bool ok = true;

	for (char *text = strtok_r(list, ", ", &save); ok && text != NULL; text = strtok_r(NULL, ", ", &save))
		ok = http_server_listen_on(evhttp, text, error);
	free(list);
	return ok;
}

static bool
http_server_listen_all(char **error)
{
	if (!http_server_listen_each(http_server.evhttp, conf.listen, error))
		return false;
	if (http_server.listener_count == 0) {
		*error = mem_strdup("listen names no address");
		return false;
	}
	return http_server.evhttp_tls == NULL ||
	       http_server_listen_each(http_server.evhttp_tls, conf.listen_tls, error);
}

static struct evhttp *
http_server_new_evhttp(struct bufferevent *(*new_connection)(struct event_base *base, void *arg))
{
	struct timeval timeout = {
	    conf.handshake_timeout_ms / 1000, (conf.handshake_timeout_ms % 1000) * 1000};
	struct evhttp *evhttp = evhttp_new(loop_base());

	if (evhttp == NULL)
		log_fatal("out of memory");
	evhttp_set_gencb(evhttp, http_server_on_request, NULL);
	evhttp_set_bevcb(evhttp, new_connection, NULL);
	evhttp_set_timeout_tv(evhttp, &timeout);
	evhttp_set_default_content_type(evhttp, NULL);
	evhttp_set_max_headers_size(evhttp, HTTP_HEADERS_SIZE);
	evhttp_set_max_body_size(evhttp, HTTP_BODY_SMALL);
	evhttp_set_allowed_methods(evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
					       EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
					       EVHTTP_REQ_PATCH);
	return evhttp;
}

bool
http_server_start(const struct http_server_ops *ops, char **error)
{
	http_server.ops = ops;
	if (*conf.listen_tls != '\0' && !tls_server_load(error))
		return false;
	http_greeting_init();
	http_server.resume = evtimer_new(loop_base(), http_server_on_resume, NULL);
	if (http_server.resume == NULL)
		log_fatal("out of memory");
	loop_task_init(&http_server.next_portion, http_server_on_portion, NULL);
	http_server.evhttp = http_server_new_evhttp(http_server_on_connection);
	if (*conf.listen_tls != '\0')
		http_server.evhttp_tls = http_server_new_evhttp(http_server_on_connection_tls);
	if (!http_server_listen_all(error))
		return false;
	http_server_on_resume(-1, 0, NULL);
	return true;
}

const char *
http_server_address(void)
{
	return http_server.address;
}

void
http_server_reload(void)
{
	char *error;

	if (http_server.evhttp_tls == NULL)
		return;
	if (tls_server_load(&error)) {
		log_info("tls", "certificate and key re-read");
		return;
	}
	log_error("tls", "certificate and key not re-read, the former ones stay: %s", error);
	free(error);
}

void
http_server_stop(void)
{
	http_server.stopping = true;
	http_login_refuse_all();
	loop_task_cancel(&http_server.next_portion);
	event_del(http_server.resume);
	for (int i = 0; i < http_server.listener_count; i++)
		evhttp_del_accept_socket(http_server.listeners[i].evhttp, http_server.listeners[i].bound);
	http_server.listener_count = 0;
}

void
http_server_free(void)
{
	http_greeting_free_all();
	http_password_free_all();
	evhttp_free(http_server.evhttp);
	if (http_server.evhttp_tls != NULL)
		evhttp_free(http_server.evhttp_tls);
	tls_server_free();
	event_free(http_server.resume);
	free(http_server.address);
	memset(&http_server, 0, sizeof(http_server));
}
