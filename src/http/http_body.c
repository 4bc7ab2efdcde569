/*
 * Big request bodies.
 *
 * States: HEAD -> SMALL (nothing is asked of it), or -> CHUNKED (its length is not told), or -> ASKING (whose
 * token is it?) -> WAITING (for room) -> ADMITTED, or -> REFUSED from any but ADMITTED. http_body_enter() alone
 * writes ->state. Invariant: of a body that is larger than HTTP_BODY_SMALL no more than that, and one read, is
 * in memory, unless it is ADMITTED; then its Content-Length is counted in http_bodies.bytes. (A high watermark
 * would not do: libevent turns round and round at one that is not drained.)
 *
 * The head is only looked at: evhttp parses it by itself, with HTTP_BODY_SMALL as its limit where nothing
 * else was seen here; what it would refuse by that is refused here, in the form that the path's clients read. A
 * connection whose request is refused is taken out of evhttp's hands: its callbacks are ours then, and it is
 * freed when the client has closed, or has had enough time to.
 */
#include "config.h"
#include "http/http_body.h"
#include "client/auth.h"
#include "client/credential.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_drp.h"
#include "http/http_drp_event.h"
#include "http/http_drp_reply.h"
#include "http/http_greeting.h"
#include "http/http_password.h"
#include "http/http_publish.h"
#include "http/http_request.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define HTTP_BODY_MAGIC  0xb0d1e500u
#define HTTP_BODY_ROOM   4           /* times max_publish_bytes may be on its way */
#define HTTP_BODY_THROWN 2           /* times max_publish_bytes is thrown away of what a refused one sends */
#define HTTP_BODY_PACE   (64 * 1024) /* octets a second: slower ones are hung up on */

enum http_body_state {
	BODY_HEAD,
	BODY_SMALL,
	BODY_CHUNKED,
	BODY_ASKING,
	BODY_WAITING,
	BODY_ADMITTED,
	BODY_REFUSED
};
/* Of paths, by the form of their errors. */
enum http_body_api { BODY_API_NONE, BODY_API_PGRELAY, BODY_API_DRP };

struct http_body_refusal {
	int status;
	const char *reason, *header, *line;
};

struct http_body {
	unsigned magic;
	enum http_body_state state;
	enum http_body_api api;
	char method[16];
	bool publishing; /* by its path */
	bool password;   /* ASKING: that is what was shown */
	struct bufferevent *bev;
	struct evhttp_connection *evcon; /* REFUSED: ours to free */
	struct evbuffer_cb_entry *added;
	char *head; /* what has come of it, in HEAD */
	size_t head_len;
	size_t length;                /* of the body, by its Content-Length */
	struct auth_request *auth;    /* ASKING */
	struct http_password *check;  /* ASKING, instead of it */
	int64_t user_id;              /* WAITING, ADMITTED */
	TAILQ_ENTRY(http_body) entry; /* WAITING, ADMITTED */
	struct event *timer;          /* WAITING; NULL before */
	const struct http_body_refusal *refusal;
	struct loop_task refuse;
	size_t thrown; /* octets thrown away, REFUSED */
	int64_t
	    admitted_ms; /* ADMITTED; and the octets that have come since, and had come when the deadline was set */
	size_t come, asked;
};

#define HTTP_BODY_TOO_LARGE "Request Entity Too Large"

static const struct http_body_refusal http_body_too_large = {
    413, HTTP_BODY_TOO_LARGE, "", "the request is larger than max_publish_bytes; publish in several"};
static const struct http_body_refusal http_body_unwanted = {
    413, HTTP_BODY_TOO_LARGE, "", "no request here has a body of more than 65536 octets"};
static const struct http_body_refusal http_body_chunked = {413, HTTP_BODY_TOO_LARGE, "",
    "more than 65536 octets in chunks; a request that is larger must tell its Content-Length"};
static const struct http_body_refusal http_body_cookies = {413, HTTP_BODY_TOO_LARGE, "",
    "with cookies no more than 65536 octets are taken; a token is needed, or a name and password"};
static const struct http_body_refusal http_body_no_token = {401, "Unauthorized",
    "WWW-Authenticate: Bearer realm=\"pgrelay\"\r\n",
    "a token is needed: as Authorization: Bearer, or as ?token= in the URL; cookies are not taken"};
static const struct http_body_refusal http_body_wrong_token = {401, "Unauthorized",
    "WWW-Authenticate: Bearer realm=\"pgrelay\"\r\n",
    "the token is unknown or has expired; pgrelay token create makes a new one"};
static const struct http_body_refusal http_body_drp_no_token = {
    401, "Unauthorized", "WWW-Authenticate: dr-provision\r\n", ""};
static const struct http_body_refusal http_body_drp_wrong_token = {
    403, "Forbidden", "", "the token is unknown or has expired; pgrelay token create makes a new one"};
static const struct http_body_refusal http_body_drp_wrong_password = {
    403, "Forbidden", "", "unknown name, or wrong password"};
static const struct http_body_refusal http_body_crowded = {
    HTTP_PASSWORD_STATUS, HTTP_PASSWORD_REASON, "Retry-After: 2\r\n", HTTP_PASSWORD_LINE};
static const struct http_body_refusal http_body_no_database = {
    503, "Service Unavailable", "Retry-After: 2\r\n", "the database cannot be asked now; try again"};
static const struct http_body_refusal http_body_no_room = {503, "Service Unavailable", "Retry-After: 2\r\n",
    "too many big requests are on their way; nothing of this one has been published"};

static struct {
	size_t bytes; /* of those that are ADMITTED */
	TAILQ_HEAD(http_body_list, http_body) waiting, admitted;
} http_bodies = {
    0, TAILQ_HEAD_INITIALIZER(http_bodies.waiting), TAILQ_HEAD_INITIALIZER(http_bodies.admitted)};

static void http_body_enter(struct http_body *b, enum http_body_state state);

/* NULL when it is not evhttp's yet, or evhttp has freed it. */
static struct evhttp_connection *
http_body_connection(const struct http_body *b)
{
	void *arg = NULL;

	bufferevent_getcb(b->bev, NULL, NULL, NULL, &arg);
	return arg;
}

/* ---- refusing ---- */

static void
http_body_on_read(struct bufferevent *bev, void *arg)
{
	struct http_body *b = arg;
	struct evbuffer *input = bufferevent_get_input(bev);

	assert(b->magic == HTTP_BODY_MAGIC);
	b->thrown += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
	if (b->thrown > HTTP_BODY_THROWN * (size_t)conf.max_publish_bytes)
		evhttp_connection_free(b->evcon);
}

static void
http_body_on_written(struct bufferevent *bev, void *arg)
{
	shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void
http_body_on_event(struct bufferevent *bev, short what, void *arg)
{
	struct http_body *b = arg;

	assert(b->magic == HTTP_BODY_MAGIC);
	evhttp_connection_free(b->evcon);
}

static char *
http_body_drp_error(const struct http_body *b)
{
	const struct http_body_refusal *r = b->refusal;
	const char *model = r == &http_body_drp_wrong_password || r == &http_body_crowded ? "users"
			    : r == &http_body_drp_wrong_token                             ? "system"
			    : b->publishing                                               ? "events"
											  : "";

	return http_drp_error_json(
	    r->status, model, "", r->status == 403 ? HTTP_DRP_AUTH : b->method, r->line);
}

/* The caller releases it. */
static char *
http_body_refusal_text(const struct http_body *b)
{
	const char *line = b->refusal->line;
	char *json, *text;

	if (b->api == BODY_API_NONE || *line == '\0')
		return mem_printf("%s%s", line, *line != '\0' ? "\n" : "");
	json = b->api == BODY_API_DRP ? http_body_drp_error(b) : http_error_json(line, -1);
	text = mem_printf("%s\n", json);
	free(json);
	return text;
}

static void
http_body_answer(struct http_body *b)
{
	const struct http_body_refusal *r = b->refusal;
	char *text = http_body_refusal_text(b);

	evbuffer_add_printf(bufferevent_get_output(b->bev),
	    "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%sConnection: close\r\n\r\n%s",
	    r->status, r->reason, b->api == BODY_API_NONE ? "text/plain; charset=utf-8" : "application/json",
	    strlen(text), r->header, text);
	free(text);
}

/* At the end of the turn: evhttp, which has seen the head, is waiting for the body then. */
static void
http_body_refuse(void *arg)
{
	struct http_body *b = arg;
	struct evbuffer *input = bufferevent_get_input(b->bev);

	b->evcon = http_body_connection(b);
	if (b->evcon == NULL)
		return;
	log_debug("http", "request with %zu octets refused with %d: %s", b->length, b->refusal->status,
	    b->refusal->line);
	if (b->publishing)
		metrics[b->refusal->status == 503 ? METRIC_PUBLISH_FAILED_TOTAL
						  : METRIC_PUBLISH_REFUSED_TOTAL]++;
	bufferevent_setcb(b->bev, http_body_on_read, http_body_on_written, http_body_on_event, b);
	evbuffer_drain(input, evbuffer_get_length(input));
	http_body_answer(b);
	bufferevent_enable(b->bev, EV_READ | EV_WRITE);
	http_greeting_extend(b->bev, conf.handshake_timeout_ms);
}

static void
http_body_refuse_with(struct http_body *b, const struct http_body_refusal *refusal)
{
	b->refusal = refusal;
	http_body_enter(b, BODY_REFUSED);
}

/* ---- room ---- */

static size_t
http_body_bytes_of(int64_t user_id)
{
	struct http_body *b;
	size_t bytes = 0;

	TAILQ_FOREACH (b, &http_bodies.admitted, entry)
		if (b->user_id == user_id)
			bytes += b->length;
	return bytes;
}

/* A user may have half of it: one who sends slowly leaves the others theirs. */
static bool
http_body_has_room(const struct http_body *b)
{
	size_t room = HTTP_BODY_ROOM * (size_t)conf.max_publish_bytes, own = http_body_bytes_of(b->user_id);

	return http_bodies.bytes + b->length <= room && (own == 0 || own + b->length <= room / 2);
}

static void
http_body_admit_waiting(void)
{
	struct http_body *b, *next;

	for (b = TAILQ_FIRST(&http_bodies.waiting); b != NULL; b = next) {
		next = TAILQ_NEXT(b, entry);
		if (http_body_has_room(b))
			http_body_enter(b, BODY_ADMITTED);
	}
}

static void
http_body_on_timer(evutil_socket_t fd, short what, void *arg)
{
	http_body_refuse_with(arg, &http_body_no_room);
}

static void
http_body_wait(struct http_body *b)
{
	struct timeval tv = {conf.query_timeout_ms / 1000, conf.query_timeout_ms % 1000 * 1000};

	b->timer = evtimer_new(loop_base(), http_body_on_timer, b);
	if (b->timer == NULL)
		log_fatal("could not create a timer");
	event_add(b->timer, &tv);
	TAILQ_INSERT_TAIL(&http_bodies.waiting, b, entry);
	http_greeting_extend(b->bev, conf.query_timeout_ms + conf.handshake_timeout_ms);
}

/* ---- states ---- */

static void
http_body_count(struct http_body *b, bool in)
{
	http_bodies.bytes += in ? b->length : -b->length;
	metrics[METRIC_BODIES_BYTES] = (double)http_bodies.bytes;
}

/* Each second that it takes beyond handshake_timeout must have brought its octets. */
static void
http_body_set_deadline(struct http_body *b)
{
	int64_t spent_ms = loop_now_ms() - b->admitted_ms;

	b->asked = b->come;
	http_greeting_extend(
	    b->bev, conf.handshake_timeout_ms + (int64_t)(b->come / HTTP_BODY_PACE) * 1000 - spent_ms);
}

static void
http_body_admit(struct http_body *b)
{
	http_body_count(b, true);
	TAILQ_INSERT_TAIL(&http_bodies.admitted, b, entry);
	b->admitted_ms = loop_now_ms();
	if (http_body_connection(b) != NULL)
		bufferevent_enable(b->bev, EV_READ);
	http_body_set_deadline(b);
}

static void
http_body_enter(struct http_body *b, enum http_body_state state)
{
	if (b->state == BODY_WAITING) {
		TAILQ_REMOVE(&http_bodies.waiting, b, entry);
		event_del(b->timer);
	} else if (b->state == BODY_ADMITTED) {
		TAILQ_REMOVE(&http_bodies.admitted, b, entry);
		http_body_count(b, false);
	}
	b->state = state;
	switch (state) {
	case BODY_HEAD:
	case BODY_SMALL:
	case BODY_CHUNKED:
		break;
	case BODY_ASKING:
		/* the answer takes query_timeout at most */
		http_greeting_extend(b->bev, conf.query_timeout_ms + conf.handshake_timeout_ms);
		break;
	case BODY_WAITING:
		http_body_wait(b);
		break;
	case BODY_ADMITTED:
		http_body_admit(b);
		break;
	case BODY_REFUSED:
		loop_task_queue(&b->refuse);
		break;
	}
}

/* ---- who is it? ---- */

static const struct http_body_refusal *
http_body_wrong_credential(const struct http_body *b)
{
	if (b->api != BODY_API_DRP)
		return &http_body_wrong_token;
	return b->password ? &http_body_drp_wrong_password : &http_body_drp_wrong_token;
}

static void
http_body_on_auth(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct http_body *b = arg;

	assert(b->magic == HTTP_BODY_MAGIC && b->state == BODY_ASKING);
	b->auth = NULL;
	b->check = NULL;
	switch (verdict) {
	case AUTH_ACCEPTED:
		b->user_id = user->id;
		http_body_enter(b, BODY_WAITING);
		http_body_admit_waiting();
		break;
	case AUTH_REFUSED:
		http_body_refuse_with(b, http_body_wrong_credential(b));
		break;
	case AUTH_UNAVAILABLE:
		http_body_refuse_with(b, &http_body_no_database);
		break;
	}
}

static const struct http_body_refusal *
http_body_no_credential(bool drp, const char *cookie)
{
	if (!drp)
		return &http_body_no_token;
	return cookie != NULL ? &http_body_cookies : &http_body_drp_no_token;
}

/* The value of this header; NULL when the line is not of that name. The caller releases it. */
static char *
http_body_line_value(const char *line, const char *name)
{
	size_t len = strlen(name);
	const char *value;

	if (strncasecmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	value = line + len + 1 + strspn(line + len + 1, " \t");
	return mem_strndup(value, strcspn(value, "\r\n"));
}

/* Of the first header of this name among the lines; NULL when there is none. The caller releases it. */
static char *
http_body_header(const char *lines, const char *name)
{
	char *value = NULL;

	for (const char *line = lines; line != NULL && value == NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		value = http_body_line_value(line, name);
	}
	return value;
}

/* Those that tell the client's address, if a proxy has written them. */
static void
http_body_read_forwarded(const char *lines, struct evkeyvalq *headers)
{
	static const char name[] = "X-Forwarded-For";

	for (const char *line = strchr(lines, '\n'); line != NULL; line = strchr(line, '\n')) {
		char *value = http_body_line_value(++line, name);

		if (value != NULL)
			evhttp_add_header(headers, name, value);
		free(value);
	}
}

static void
http_body_ask_about(struct http_body *b, const struct credential *credential, const char *head)
{
	struct evkeyvalq headers;

	http_body_enter(b, BODY_ASKING);
	b->password = credential->kind == CREDENTIAL_PASSWORD;
	if (!b->password) {
		b->auth = auth_authenticate(credential, http_body_on_auth, b);
		return;
	}
	TAILQ_INIT(&headers);
	http_body_read_forwarded(head, &headers);
	b->check = http_password_check(http_body_connection(b), &headers, credential, http_body_on_auth, b);
	evhttp_clear_headers(&headers);
	if (b->check == NULL)
		http_body_refuse_with(b, &http_body_crowded);
}

static void
http_body_ask(
    struct http_body *b, const char *head, const char *authorization, const char *cookie, const char *query)
{
	bool drp = b->api == BODY_API_DRP;
	char *token = http_query_value(query, "token"),
	     *other = drp ? http_query_value(query, "Token") : NULL;
	struct credential_source source = {
	    .authorization = authorization, .query_token = token != NULL ? token : other, .drp = drp};
	struct credential credential;

	credential_find(&credential, &source);
	if (credential.kind == CREDENTIAL_NONE || credential.kind == CREDENTIAL_MALFORMED) {
		http_body_refuse_with(b, http_body_no_credential(drp, cookie));
	} else {
		http_body_ask_about(b, &credential, head);
	}
	credential_clear(&credential);
	free(token);
	free(other);
}

/* ---- the head ---- */

/* The URI of a request line "METHOD URI HTTP/1.x"; NULL when it is none. The caller releases it. */
static struct evhttp_uri *
http_body_uri(const char *head)
{
	const char *from = head + strcspn(head, " \r\n");
	struct evhttp_uri *uri;
	char *text;

	from += strspn(from, " ");
	text = mem_strndup(from, strcspn(from, " \r\n"));
	uri = evhttp_uri_parse_with_flags(text, EVHTTP_URI_NONCONFORMANT);
	free(text);
	return uri;
}

/* By Content-Length; 0 when there is none that counts: evhttp keeps a chunked body small by itself. */
static size_t
http_body_length(const char *head)
{
	char *length = http_body_header(head, "Content-Length"),
	     *coding = http_body_header(head, "Transfer-Encoding");
	long long n = length != NULL && coding == NULL ? strtoll(length, NULL, 10) : 0;

	free(length);
	free(coding);
	return n > 0 ? (size_t)n : 0;
}

static bool
http_body_is_chunked(const char *head)
{
	char *coding = http_body_header(head, "Transfer-Encoding");
	bool chunked = coding != NULL;

	free(coding);
	return chunked;
}

static enum http_body_api
http_body_api_of(const char *path)
{
	if (strncmp(path, HTTP_DRP_PREFIX, strlen(HTTP_DRP_PREFIX)) == 0)
		return BODY_API_DRP;
	return strncmp(path, HTTP_API_PREFIX, strlen(HTTP_API_PREFIX)) == 0 ? BODY_API_PGRELAY
									    : BODY_API_NONE;
}

/* Are events published there? */
static bool
http_body_is_published(const char *head, const char *path)
{
	return strncmp(head, "POST ", 5) == 0 &&
	       (strcmp(path, HTTP_PUBLISH_PATH) == 0 || strcmp(path, HTTP_DRP_EVENT_PATH) == 0);
}

/* It is larger than HTTP_BODY_SMALL. */
static void
http_body_judge_big(struct http_body *b, const char *head, const char *query)
{
	char *authorization = http_body_header(head, "Authorization"),
	     *cookie = http_body_header(head, "Cookie");

	if (!b->publishing)
		http_body_refuse_with(b, &http_body_unwanted);
	else if (b->length > (size_t)conf.max_publish_bytes)
		http_body_refuse_with(b, &http_body_too_large);
	else
		http_body_ask(b, head, authorization, cookie, query);
	free(authorization);
	free(cookie);
}

/* As much of it as a message can tell. */
static void
http_body_note_method(struct http_body *b, const char *head)
{
	size_t len = strcspn(head, " \r\n");

	if (len >= sizeof(b->method))
		len = sizeof(b->method) - 1;
	memcpy(b->method, head, len);
	b->method[len] = '\0';
}

static void
http_body_judge(struct http_body *b, const char *head)
{
	struct evhttp_uri *uri = http_body_uri(head);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	bool chunked = http_body_is_chunked(head);

	b->length = http_body_length(head);
	if (path == NULL || (!chunked && b->length <= HTTP_BODY_SMALL)) {
		http_body_enter(b, BODY_SMALL);
	} else {
		/* until it is admitted, or refused, what the input buffer may hold is the limit */
		if (http_body_connection(b) != NULL)
			evhttp_connection_set_max_body_size(http_body_connection(b), -1);
		b->api = http_body_api_of(path);
		http_body_note_method(b, head);
		b->publishing = http_body_is_published(head, path);
		if (chunked)
			http_body_enter(b, BODY_CHUNKED);
		else
			http_body_judge_big(b, head, evhttp_uri_get_query(uri));
	}
	if (uri != NULL)
		evhttp_uri_free(uri);
}

/* A line that is empty ends it. */
static bool
http_body_head_is_whole(const struct http_body *b)
{
	return memmem(b->head, b->head_len, "\n\r\n", 3) != NULL ||
	       memmem(b->head, b->head_len, "\n\n", 2) != NULL;
}

/* evhttp reads no body of these. */
static bool
http_body_has_none(const struct http_body *b)
{
	static const char *const methods[] = {"GET ", "HEAD "};

	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
		if (b->head_len >= strlen(methods[i]) && memcmp(b->head, methods[i], strlen(methods[i])) == 0)
			return true;
	return false;
}

static void
http_body_look(struct http_body *b)
{
	if (http_body_has_none(b)) {
		http_body_enter(b, BODY_SMALL);
	} else if (http_body_head_is_whole(b)) {
		b->head[b->head_len] = '\0';
		http_body_judge(b, b->head);
	} else if (b->head_len > HTTP_HEADERS_SIZE) {
		http_body_enter(b, BODY_SMALL);
	}
}

/* It may hold a token. */
static void
http_body_drop_head(struct http_body *b)
{
	if (b->head != NULL)
		OPENSSL_cleanse(b->head, b->head_len);
	free(b->head);
	b->head = NULL;
	b->head_len = 0;
}

/* Its last octets are new. */
static void
http_body_take(struct http_body *b, struct evbuffer *input, size_t octets)
{
	struct evbuffer_ptr from;

	if (octets == 0)
		return;
	evbuffer_ptr_set(input, &from, evbuffer_get_length(input) - octets, EVBUFFER_PTR_SET);
	b->head = mem_resize(b->head, b->head_len + octets + 1);
	evbuffer_copyout_from(input, &from, b->head + b->head_len, octets);
	b->head_len += octets;
	http_body_look(b);
	if (b->state != BODY_HEAD)
		http_body_drop_head(b);
}

static void
http_body_on_added(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
	struct http_body *b = arg;

	if (http_body_connection(b) == NULL &&
	    b->state != BODY_HEAD) { /* evhttp has freed it: nobody reads this */
		bufferevent_disable(b->bev, EV_READ);
		return;
	}
	if (b->state == BODY_HEAD) {
		http_body_take(b, input, info->n_added);
	} else if (b->state == BODY_CHUNKED) {
		b->come += info->n_added;
		if (b->come > HTTP_BODY_SMALL)
			http_body_refuse_with(b, &http_body_chunked);
	} else if (b->state == BODY_ADMITTED) {
		b->come += info->n_added;
		if (b->come - b->asked >= HTTP_BODY_PACE)
			http_body_set_deadline(b);
	}
	if ((b->state == BODY_ASKING || b->state == BODY_WAITING) &&
	    evbuffer_get_length(input) > HTTP_BODY_SMALL)
		bufferevent_disable(b->bev, EV_READ);
}

/* ---- public ---- */

struct http_body *
http_body_new(struct bufferevent *bev)
{
	struct http_body *b = mem_zalloc(sizeof(*b));
	struct evbuffer *input = bufferevent_get_input(bev);

	b->magic = HTTP_BODY_MAGIC;
	b->bev = bev;
	loop_task_init(&b->refuse, http_body_refuse, b);
	if (http_body_connection(b) != NULL)
		evhttp_connection_set_max_body_size(http_body_connection(b), HTTP_BODY_SMALL);
	b->added = evbuffer_add_cb(input, http_body_on_added, b);
	if (b->added == NULL)
		log_fatal("out of memory");
	return b;
}

void
http_body_look_back(struct http_body *b)
{
	struct evbuffer *input = bufferevent_get_input(b->bev);

	http_body_take(b, input, evbuffer_get_length(input));
}

bool
http_body_is_big(const struct http_body *b)
{
	return b->state == BODY_ADMITTED;
}

void
http_body_free(struct http_body *b)
{
	bool had_room = b->state == BODY_ADMITTED;

	assert(b->magic == HTTP_BODY_MAGIC);
	evbuffer_remove_cb_entry(bufferevent_get_input(b->bev), b->added);
	http_body_enter(b, BODY_SMALL);
	loop_task_cancel(&b->refuse);
	if (b->auth != NULL)
		auth_cancel(b->auth);
	if (b->check != NULL)
		http_password_cancel(b->check);
	if (b->timer != NULL)
		event_free(b->timer);
	http_body_drop_head(b);
	b->magic = 0;
	free(b);
	if (had_room)
		http_body_admit_waiting();
}
