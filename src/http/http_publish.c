/*
 * Requests to publish. Each is in one of two hands: the login's, until its user is known, then the
 * publisher's. evhttp does not read meanwhile; that the client has hung up the descriptor itself tells
 * (EV_CLOSED), and evhttp then gives the connection up.
 */
#include "config.h"
#include "http/http_publish.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_login.h"
#include "http/http_request.h"
#include "relay/publish_body.h"
#include "relay/publisher.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdlib.h>

struct http_publish {
	struct evhttp_request *req;
	struct publish *publish;
	http_publish_reply reply;
	struct event *closed;
};

/* ---- answers ---- */

static const struct http_publish_status {
	enum publish_verdict verdict;
	int status;
	const char *reason;
} http_publish_statuses[] = {
    {PUBLISH_DONE, 200, "OK"},
    {PUBLISH_INVALID, 400, "Bad Request"},
    {PUBLISH_DENIED, 403, "Forbidden"},
    {PUBLISH_UNAVAILABLE, 503, "Service Unavailable"},
};

int
http_publish_status(enum publish_verdict verdict, const char **reason)
{
	const struct http_publish_status *row = http_publish_statuses;

	while (row->verdict != verdict)
		row++;
	*reason = row->reason;
	return row->status;
}

static void
http_publish_reply_done(struct evhttp_request *req, const char *ids)
{
	char *text = mem_printf("{\"ids\": %s}", ids);

	http_reply_json(req, HTTP_OK, "OK", text);
	free(text);
}

static void
http_publish_reply_ids(struct evhttp_request *req, const struct publish_answer *answer)
{
	const char *reason;
	int status = http_publish_status(answer->verdict, &reason);

	if (answer->verdict == PUBLISH_DONE)
		http_publish_reply_done(req, answer->text);
	else
		http_reply_error(req, status, reason, answer->text, answer->index);
}

/* ---- in the publisher's hands ---- */

static void
http_publish_free(struct http_publish *h)
{
	event_free(h->closed);
	free(h);
}

static void
http_publish_on_answer(void *arg, const struct publish_answer *answer)
{
	struct http_publish *h = arg;
	struct evhttp_request *req = h->req;
	http_publish_reply reply = h->reply;

	evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
	http_publish_free(h);
	reply(req, answer);
}

/* The connection goes down. Its request is ours to free only when evhttp has let go of it. */
static void
http_publish_on_gone(struct evhttp_connection *evcon, void *arg)
{
	struct http_publish *h = arg;

	publisher_cancel(h->publish);
	if (evhttp_request_get_connection(h->req) == NULL)
		evhttp_request_free(h->req);
	http_publish_free(h);
}

static void
http_publish_on_closed(evutil_socket_t fd, short what, void *arg)
{
	struct http_publish *h = arg;
	struct evhttp_connection *evcon = evhttp_request_get_connection(h->req);

	log_debug("publish", "a client hung up before its events were committed");
	bufferevent_trigger_event(
	    evhttp_connection_get_bufferevent(evcon), BEV_EVENT_EOF | BEV_EVENT_READING, 0);
}

static void
http_publish_wait(struct evhttp_request *req, struct http_publish *h)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	evutil_socket_t fd = bufferevent_getfd(evhttp_connection_get_bufferevent(evcon));

	h->req = req;
	h->closed = event_new(loop_base(), fd, EV_CLOSED, http_publish_on_closed, h);
	if (h->closed == NULL)
		log_fatal("could not watch a connection");
	event_add(h->closed, NULL);
	evhttp_connection_set_closecb(evcon, http_publish_on_gone, h);
}

void
http_publish_send(struct evhttp_request *req, int64_t user_id, const char *events, size_t len,
    const struct publish_body *checked, http_publish_reply reply)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(req);
	struct publish_answer crowded = {
	    PUBLISH_UNAVAILABLE, "too much is waiting to be published; nothing of this has been", -1};
	struct http_publish *h = mem_zalloc(sizeof(*h));

	h->reply = reply;
	h->publish = publisher_send(user_id, events, len, checked, http_publish_on_answer, h);
	if (h->publish == NULL) {
		free(h);
		reply(req, &crowded);
		return;
	}
	evbuffer_drain(input, evbuffer_get_length(input));
	http_publish_wait(req, h);
}

/* ---- the body ---- */

static void
http_publish_check(struct evhttp_request *req, int64_t user_id)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(req);
	size_t len = evbuffer_get_length(input);
	const char *body = len > 0 ? (const char *)evbuffer_pullup(input, -1) : "";
	struct publish_body_error error;
	struct publish_body checked;

	if (len > (size_t)conf.max_publish_bytes) {
		metrics[METRIC_PUBLISH_REFUSED_TOTAL]++;
		http_reply_error(req, 413, "Request Entity Too Large",
		    "the request is larger than max_publish_bytes; publish in several", -1);
	} else if (!publish_body_check(body, len, &checked, &error)) {
		metrics[METRIC_PUBLISH_REFUSED_TOTAL]++;
		http_reply_error(req, HTTP_BADREQUEST, "Bad Request", error.text, error.index);
	} else {
		http_publish_send(req, user_id, body, len, &checked, http_publish_reply_ids);
	}
}

/* ---- in the login's hands ---- */

static void
http_publish_on_accepted(void *arg, struct http_login *login)
{
	int64_t user_id = http_login_user_id(login);

	http_publish_check(http_login_end(login), user_id);
}

static bool
http_publish_on_refuse(void *arg, struct http_login *login, int status, const char *reason, const char *line)
{
	metrics[status == HTTP_SERVUNAVAIL ? METRIC_PUBLISH_FAILED_TOTAL : METRIC_PUBLISH_REFUSED_TOTAL]++;
	http_reply_error(http_login_end(login), status, reason, line, -1);
	return true;
}

static const struct http_login_ops http_publish_login_ops = {
    .accepted = http_publish_on_accepted, .refuse = http_publish_on_refuse, .publishing = true};

void
http_publish(struct evhttp_request *req)
{
	metrics[METRIC_PUBLISH_REQUESTS_TOTAL]++;
	http_login_start(http_login_new(req, &http_publish_login_ops, NULL));
}
