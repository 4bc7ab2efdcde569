/*
 * Subrequests, by libevent's HTTP client.
 *
 * A request waits until there is a link, a connection that serves one request at a time and is kept for the next
 * one; there are at most SUBREQUEST_LINKS_MAX. subrequest_pump() alone gives links to requests. A link is never
 * released inside a callback of libevent's: subrequest_link_drop() takes it off the list, and it goes at the end
 * of the turn.
 *
 * A link that has been kept may have been closed by the application just when a request went out by it, and an
 * address may not answer: then the request is made once more. Once none of the addresses can be reached all that
 * wait are told.
 */
#include "config.h"
#include "client/auth_subrequest.h"
#include "client/credential.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/resolve.h"
#include "http/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#define SUBREQUEST_MAGIC        0x5b2e9e57u
#define SUBREQUEST_LINKS_MAX    16
#define SUBREQUEST_WAITING_MAX  4096
#define SUBREQUEST_IDLE_SECONDS 15
#define SUBREQUEST_RESOLVE_MS   60000 /* addresses are good for so long */
#define SUBREQUEST_BODY_MAX     (1024 * 1024)
#define SUBREQUEST_HEADERS_MAX  16384
#define SUBREQUEST_NAME_MAX     255
#define SUBREQUEST_LOG_SECONDS  10

struct subrequest_link {
	LIST_ENTRY(subrequest_link) entry;
	struct evhttp_connection *evcon;
	struct bufferevent *bev;
	struct auth_subrequest *request; /* NULL: idle */
	bool used;                       /* has had an answer */
	bool ending;                     /* takes no other request */
	bool dropped;
};

struct auth_subrequest {
	unsigned magic;
	TAILQ_ENTRY(auth_subrequest) entry; /* WAITING */
	const struct credential *credential;
	struct subrequest_link *link; /* NULL: it waits */
	size_t failures;              /* addresses that did not answer */
	bool crowded;                 /* too many wait already */
	struct event *timer;
	auth_subrequest_done done;
	void *arg;
};
TAILQ_HEAD(subrequest_list, auth_subrequest);

static struct {
	char *url; /* what was read of the setting; NULL: nothing yet */
	bool tls;
	char *host, *host_header, *target;
	uint16_t port;
	char **addresses;
	size_t address_count, address; /* the one in use */
	int64_t resolved_ms;
	struct resolve *resolve; /* under way */
	struct subrequest_list waiting;
	size_t waiting_count, link_count;
	LIST_HEAD(, subrequest_link) links;
	struct loop_task pump;
} app;

static void subrequest_pump(void *arg);

/* ---- the URL ---- */

static void
subrequest_forget_addresses(void)
{
	while (app.address_count > 0)
		free(app.addresses[--app.address_count]);
	free(app.addresses);
	app.addresses = NULL;
	app.address = 0;
}

static void
subrequest_forget_url(void)
{
	if (app.resolve != NULL)
		resolve_cancel(app.resolve);
	app.resolve = NULL;
	subrequest_forget_addresses();
	free(app.url);
	free(app.host);
	free(app.host_header);
	free(app.target);
	app.url = app.host = app.host_header = app.target = NULL;
}

/* Without an IPv6 address's brackets. */
static char *
subrequest_bare_host(const char *host)
{
	size_t len = strlen(host);

	return *host == '[' && len > 2 ? mem_strndup(host + 1, len - 2) : mem_strdup(host);
}

static bool
subrequest_take_url(const struct evhttp_uri *uri)
{
	const char *scheme = evhttp_uri_get_scheme(uri), *host = evhttp_uri_get_host(uri);
	const char *path = evhttp_uri_get_path(uri), *query = evhttp_uri_get_query(uri);
	int port = evhttp_uri_get_port(uri);

	if (scheme == NULL || host == NULL || *host == '\0' ||
	    (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0))
		return false;
	app.tls = strcasecmp(scheme, "https") == 0;
	app.host = subrequest_bare_host(host);
	app.host_header = port > 0 ? mem_printf("%s:%d", host, port) : mem_strdup(host);
	app.port = (uint16_t)(port > 0 ? port : app.tls ? 443 : 80);
	app.target = mem_printf("%s%s%s", path != NULL && *path != '\0' ? path : "/",
	    query != NULL ? "?" : "", query != NULL ? query : "");
	return true;
}

/* What the setting says now; false when it is no URL. */
static bool
subrequest_read_url(void)
{
	struct evhttp_uri *uri;

	if (app.url != NULL && strcmp(app.url, conf.auth_url) == 0)
		return app.host != NULL;
	subrequest_forget_url();
	app.url = mem_strdup(conf.auth_url);
	if (*app.url == '\0')
		return false;
	uri = evhttp_uri_parse(conf.auth_url);
	if (uri != NULL && evhttp_uri_get_userinfo(uri) != NULL)
		log_error("auth_url", "it holds a name and a password, which are not sent; take them out");
	else if (uri == NULL || !subrequest_take_url(uri))
		log_error("auth_url",
		    "\"%s\" is no URL that can be asked; write http://HOST[:PORT]/PATH or https://...",
		    conf.auth_url);
	if (uri != NULL)
		evhttp_uri_free(uri);
	return app.host != NULL;
}

/* ---- requests ---- */

static void
subrequest_warn(const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	if (log_limit_pass(&limit, SUBREQUEST_LOG_SECONDS, &more))
		log_warning("auth_url", "could not ask %s://%s: %s (%lu more such failures)",
		    app.tls ? "https" : "http", app.host_header != NULL ? app.host_header : "?", error, more);
}

static void
subrequest_unqueue(struct auth_subrequest *r)
{
	TAILQ_REMOVE(&app.waiting, r, entry);
	app.waiting_count--;
}

static void
subrequest_queue(struct auth_subrequest *r)
{
	r->link = NULL;
	TAILQ_INSERT_TAIL(&app.waiting, r, entry);
	app.waiting_count++;
	loop_task_queue(&app.pump);
}

/* Neither waiting nor at a link any more. */
static void
subrequest_free(struct auth_subrequest *r)
{
	r->magic = 0;
	event_free(r->timer);
	free(r);
}

static void
subrequest_answer(struct auth_subrequest *r, enum auth_verdict verdict, const char *name)
{
	auth_subrequest_done done = r->done;
	void *arg = r->arg;

	metrics[METRIC_SUBREQUESTS_FAILED_TOTAL] += verdict == AUTH_UNAVAILABLE;
	subrequest_free(r);
	done(arg, verdict, name);
}

/* Those that ask from now on are left to wait. */
static void
subrequest_answer_waiting(enum auth_verdict verdict)
{
	struct auth_subrequest *r;

	for (size_t n = app.waiting_count; n > 0 && (r = TAILQ_FIRST(&app.waiting)) != NULL; n--) {
		subrequest_unqueue(r);
		subrequest_answer(r, verdict, NULL);
	}
}

/* ---- links ---- */

static void
subrequest_link_release(void *ptr)
{
	struct subrequest_link *link = ptr;

	evhttp_connection_free(link->evcon);
	free(link);
}

static void
subrequest_link_drop(struct subrequest_link *link)
{
	if (link->dropped)
		return;
	link->dropped = true;
	evhttp_connection_set_closecb(link->evcon, NULL, NULL);
	LIST_REMOVE(link, entry);
	app.link_count--;
	loop_release(subrequest_link_release, link);
	loop_task_queue(&app.pump);
}

/* An idle one, or one whose answer is the last. */
static void
subrequest_link_on_closed(struct evhttp_connection *evcon, void *arg)
{
	struct subrequest_link *link = arg;

	link->ending = true;
	if (link->request == NULL)
		subrequest_link_drop(link);
}

/* None of them takes another request. */
static void
subrequest_links_end(void)
{
	struct subrequest_link *link, *next;

	for (link = LIST_FIRST(&app.links); link != NULL; link = next) {
		next = LIST_NEXT(link, entry);
		link->ending = true;
		if (link->request == NULL)
			subrequest_link_drop(link);
	}
}

/* NULL: the certificates cannot be read. */
static struct bufferevent *
subrequest_bufferevent(void)
{
	SSL_CTX *context;
	struct bufferevent *bev;

	if (!app.tls)
		return bufferevent_socket_new(loop_base(), -1, BEV_OPT_CLOSE_ON_FREE);
	context = tls_context();
	if (context == NULL)
		return NULL;
	bev = bufferevent_openssl_socket_new(loop_base(), -1, tls_new(context, app.host),
	    BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	SSL_CTX_free(context);
	if (bev != NULL)
		bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
	return bev;
}

static struct subrequest_link *
subrequest_link_new(void)
{
	struct bufferevent *bev = subrequest_bufferevent();
	struct subrequest_link *link;

	if (bev == NULL)
		return NULL;
	link = mem_zalloc(sizeof(*link));
	link->bev = bev;
	link->evcon = evhttp_connection_base_bufferevent_new(
	    loop_base(), NULL, bev, app.addresses[app.address], app.port);
	if (link->evcon == NULL)
		log_fatal("out of memory");
	evhttp_connection_set_timeout(
	    link->evcon, SUBREQUEST_IDLE_SECONDS + (int)(conf.query_timeout_ms / 1000));
	evhttp_connection_set_max_headers_size(link->evcon, SUBREQUEST_HEADERS_MAX);
	evhttp_connection_set_max_body_size(link->evcon, SUBREQUEST_BODY_MAX);
	evhttp_connection_set_closecb(link->evcon, subrequest_link_on_closed, link);
	LIST_INSERT_HEAD(&app.links, link, entry);
	app.link_count++;
	return link;
}

static struct subrequest_link *
subrequest_link_idle(void)
{
	struct subrequest_link *link;

	for (link = LIST_FIRST(&app.links); link != NULL; link = LIST_NEXT(link, entry))
		if (link->request == NULL && !link->ending)
			return link;
	return NULL;
}

/* ---- answers ---- */

/* Nobody is named by what holds control characters. */
static bool
subrequest_is_name(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return len > 0 && len <= SUBREQUEST_NAME_MAX;
}

/* NULL: there is none, or several, of which one may be somebody else's. */
static const char *
subrequest_name(const struct evkeyvalq *headers)
{
	const struct evkeyval *h;
	const char *name = NULL;

	TAILQ_FOREACH (h, headers, next) {
		if (strcasecmp(h->key, "X-User") != 0)
			continue;
		if (name != NULL)
			return NULL;
		name = h->value;
	}
	return name;
}

static void
subrequest_judge(struct auth_subrequest *r, struct evhttp_request *answer)
{
	int status = evhttp_request_get_response_code(answer);
	const char *name = subrequest_name(evhttp_request_get_input_headers(answer));
	char *error = NULL;

	if (status == 401 || status == 403) {
		subrequest_answer(r, AUTH_REFUSED, NULL);
		return;
	}
	if (status < 200 || status > 299)
		error = mem_printf("it answered with %d; 2xx, 401 or 403 is wanted", status);
	else if (name == NULL || !subrequest_is_name(name))
		error = mem_printf("its answer has not one header X-User, with a name of 1 to %d octets",
		    SUBREQUEST_NAME_MAX);
	if (error == NULL) {
		subrequest_answer(r, AUTH_ACCEPTED, name);
		return;
	}
	subrequest_warn(error);
	free(error);
	subrequest_answer(r, AUTH_UNAVAILABLE, NULL);
}

static const char *
subrequest_failure(const struct subrequest_link *link)
{
	SSL *ssl = bufferevent_openssl_get_ssl(link->bev);
	const char *error = ssl != NULL ? tls_error(ssl, bufferevent_get_openssl_error(link->bev)) : NULL;

	return error != NULL ? error : "it cannot be reached, or hung up without an answer";
}

static void
subrequest_next_address(void)
{
	app.address = app.address_count > 0 ? (app.address + 1) % app.address_count : 0;
}

/* From its link, of which the answer may still come, or from those that wait. */
static void
subrequest_detach(struct auth_subrequest *r)
{
	if (r->link == NULL) {
		subrequest_unqueue(r);
		return;
	}
	r->link->request = NULL;
	subrequest_link_drop(r->link);
}

/* The link is of no use; the request may have a better one. */
static void
subrequest_on_failure(struct auth_subrequest *r, struct subrequest_link *link)
{
	const char *error = subrequest_failure(link);

	if (link->used) { /* kept for too long, as the others may have been */
		subrequest_links_end();
		subrequest_queue(r);
		return;
	}
	subrequest_next_address();
	if (++r->failures < app.address_count) {
		subrequest_queue(r);
		return;
	}
	subrequest_warn(error);
	subrequest_forget_addresses();
	subrequest_answer(r, AUTH_UNAVAILABLE, NULL);
	subrequest_answer_waiting(AUTH_UNAVAILABLE);
}

static void
subrequest_on_answer(struct evhttp_request *answer, void *arg)
{
	struct subrequest_link *link = arg;
	struct auth_subrequest *r = link->request;
	bool answered = answer != NULL && evhttp_request_get_response_code(answer) != 0;

	link->request = NULL;
	if (!answered || link->ending)
		subrequest_link_drop(link);
	if (r == NULL)
		return;
	r->link = NULL;
	if (answered) {
		link->used = true;
		subrequest_judge(r, answer);
		loop_task_queue(&app.pump);
	} else {
		subrequest_on_failure(r, link);
	}
}

static void
subrequest_on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct auth_subrequest *r = arg;

	assert(r->magic == SUBREQUEST_MAGIC);
	subrequest_warn(
	    r->crowded ? "too many questions wait for it" : "query_timeout passed without an answer");
	if (r->link != NULL && !r->link->used)
		subrequest_next_address();
	subrequest_detach(r);
	subrequest_answer(r, AUTH_UNAVAILABLE, NULL);
}

/* ---- asking ---- */

static void
subrequest_add_context(struct evkeyvalq *headers, const char *context)
{
	for (const char *line = context; line != NULL && *line != '\0'; line = strchr(line, '\n') + 1) {
		size_t name_len = strcspn(line, ":");
		char *name = mem_strndup(line, name_len);
		char *value = mem_strndup(line + name_len + 2, strcspn(line + name_len + 2, "\n"));

		evhttp_add_header(headers, name, value);
		free(name);
		free(value);
	}
}

static void
subrequest_send(struct auth_subrequest *r, struct subrequest_link *link)
{
	struct evhttp_request *request = evhttp_request_new(subrequest_on_answer, link);
	struct evkeyvalq *headers;

	if (request == NULL)
		log_fatal("out of memory");
	headers = evhttp_request_get_output_headers(request);
	subrequest_unqueue(r);
	r->link = link;
	link->request = r;
	evhttp_add_header(headers, "Host", app.host_header);
	evhttp_add_header(headers, "Connection", "keep-alive");
	evhttp_add_header(headers, "Cookie", r->credential->token);
	subrequest_add_context(headers, r->credential->context);
	/* where it fails at once it has called back */
	(void)evhttp_make_request(link->evcon, request, EVHTTP_REQ_GET, app.target);
}

static void
subrequest_on_resolved(void *arg, const char *const *addresses, size_t count, const char *error)
{
	app.resolve = NULL;
	app.resolved_ms = loop_now_ms();
	loop_task_queue(&app.pump);
	if (count == 0) {
		subrequest_warn(error);
		if (app.address_count == 0)
			subrequest_answer_waiting(AUTH_UNAVAILABLE);
		return;
	}
	subrequest_forget_addresses();
	app.addresses = mem_alloc(sizeof(char *) * count);
	while (app.address_count < count) {
		app.addresses[app.address_count] = mem_strdup(addresses[app.address_count]);
		app.address_count++;
	}
}

/* True when there are addresses; else they will come, or those that wait be told. */
static bool
subrequest_find_addresses(void)
{
	struct in6_addr octets;

	if (app.address_count > 0 && loop_now_ms() - app.resolved_ms < SUBREQUEST_RESOLVE_MS)
		return true;
	if (app.resolve != NULL)
		return app.address_count > 0;
	if (inet_pton(AF_INET, app.host, &octets) == 1 || inet_pton(AF_INET6, app.host, &octets) == 1) {
		subrequest_on_resolved(NULL, (const char *const[]){app.host}, 1, NULL);
		return true;
	}
	app.resolve = resolve_start(app.host, subrequest_on_resolved, NULL);
	return app.address_count > 0;
}

/* At the end of the turn. */
static void
subrequest_pump(void *arg)
{
	struct subrequest_link *link;

	if (TAILQ_EMPTY(&app.waiting))
		return;
	if (app.url == NULL || strcmp(app.url, conf.auth_url) != 0)
		subrequest_links_end();
	if (!subrequest_read_url()) {
		/* no application knows these cookies any more */
		subrequest_answer_waiting(*conf.auth_url == '\0' ? AUTH_REFUSED : AUTH_UNAVAILABLE);
		return;
	}
	while (!TAILQ_EMPTY(&app.waiting)) {
		link = subrequest_link_idle();
		if (link == NULL && (app.link_count >= SUBREQUEST_LINKS_MAX || !subrequest_find_addresses()))
			return;
		if (link == NULL && (link = subrequest_link_new()) == NULL) {
			subrequest_warn("the certificates of tls_ca_file cannot be read");
			subrequest_answer_waiting(AUTH_UNAVAILABLE);
			return;
		}
		subrequest_send(TAILQ_FIRST(&app.waiting), link);
	}
}

/* ---- public ---- */

struct auth_subrequest *
auth_subrequest_ask(const struct credential *credential, auth_subrequest_done done, void *arg)
{
	struct timeval tv = {conf.query_timeout_ms / 1000, conf.query_timeout_ms % 1000 * 1000};
	struct auth_subrequest *r = mem_zalloc(sizeof(*r));

	r->magic = SUBREQUEST_MAGIC;
	r->credential = credential;
	r->done = done;
	r->arg = arg;
	r->timer = evtimer_new(loop_base(), subrequest_on_timeout, r);
	if (r->timer == NULL)
		log_fatal("could not create a timer");
	r->crowded = app.waiting_count >= SUBREQUEST_WAITING_MAX;
	if (r->crowded)
		tv = (struct timeval){0, 0};
	event_add(r->timer, &tv);
	metrics[METRIC_SUBREQUESTS_TOTAL]++;
	subrequest_queue(r);
	return r;
}

void
auth_subrequest_cancel(struct auth_subrequest *r)
{
	assert(r->magic == SUBREQUEST_MAGIC);
	subrequest_detach(r);
	subrequest_free(r);
}

void
auth_subrequest_init(void)
{
	memset(&app, 0, sizeof(app));
	TAILQ_INIT(&app.waiting);
	LIST_INIT(&app.links);
	loop_task_init(&app.pump, subrequest_pump, NULL);
}

void
auth_subrequest_free(void)
{
	struct subrequest_link *link;

	assert(TAILQ_EMPTY(&app.waiting));
	loop_task_cancel(&app.pump);
	while ((link = LIST_FIRST(&app.links)) != NULL) {
		LIST_REMOVE(link, entry);
		evhttp_connection_set_closecb(link->evcon, NULL, NULL);
		subrequest_link_release(link);
	}
	subrequest_forget_url();
}
