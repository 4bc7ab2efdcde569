/* Events that are posted: made into what is published here, and answered in the words of Digital Rebar. */
#include "config.h"
#include "http/http_drp_event.h"
#include "client/connection.h"
#include "client/drp_post.h"
#include "core/conf.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_drp_reply.h"
#include "http/http_login.h"
#include "http/http_publish.h"
#include "http/http_request.h"
#include "relay/publish_body.h"
#include "relay/publisher.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void
http_drp_event_refuse(struct evhttp_request *req, int status, const char *reason, const char *message)
{
	metrics[METRIC_PUBLISH_REFUSED_TOTAL]++;
	http_drp_reply_error(req, status, reason, "events", "", NULL, message);
}

static void
http_drp_event_reply(struct evhttp_request *req, const struct publish_answer *answer)
{
	const char *reason;
	int status = http_publish_status(answer->verdict, &reason);

	if (answer->verdict == PUBLISH_DONE)
		http_drp_reply_done(req);
	else
		http_drp_reply_error(req, status, reason, "events", "",
		    answer->verdict == PUBLISH_DENIED ? HTTP_DRP_AUTH : NULL, answer->text);
}

static bool
http_drp_event_is_json(struct evhttp_request *req)
{
	static const char json[] = "application/json";
	const char *type = http_header(req, "Content-Type");
	size_t len = type != NULL ? strcspn(type, " \t;") : 0;

	return len == strlen(json) && strncasecmp(type, json, len) == 0;
}

/* The body of a publishing request; NULL: refused. The caller releases it with free(). */
static char *
http_drp_event_convert(
    struct evhttp_request *req, const char *user_name, size_t *len, struct publish_body *checked)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(req);
	size_t posted_len = evbuffer_get_length(input);
	const char *posted = posted_len > 0 ? (const char *)evbuffer_pullup(input, -1) : "";
	char principal[CONNECTION_PRINCIPAL_SIZE], error[JSON_SCAN_ERROR], *body;
	struct publish_body_error wrong;

	connection_make_principal(user_name, principal);
	body = drp_post_convert(posted, posted_len, principal, len, error);
	if (body == NULL) {
		http_drp_event_refuse(req, HTTP_BADREQUEST, "Bad Request", error);
	} else if (!publish_body_check(body, *len, checked, &wrong)) {
		http_drp_event_refuse(req, HTTP_BADREQUEST, "Bad Request", wrong.text);
		free(body);
		body = NULL;
	}
	return body;
}

static void
http_drp_event_send(struct evhttp_request *req, int64_t user_id, const char *user_name)
{
	struct publish_body checked;
	size_t len;
	char *body;

	if (evbuffer_get_length(evhttp_request_get_input_buffer(req)) > (size_t)conf.max_publish_bytes) {
		http_drp_event_refuse(
		    req, 413, "Request Entity Too Large", "the event is larger than max_publish_bytes");
		return;
	}
	if (!http_drp_event_is_json(req)) {
		http_drp_event_refuse(
		    req, HTTP_BADREQUEST, "Bad Request", "Invalid content type: application/json is wanted");
		return;
	}
	body = http_drp_event_convert(req, user_name, &len, &checked);
	if (body == NULL)
		return;
	http_publish_send(req, user_id, body, len, &checked, http_drp_event_reply);
	free(body);
}

/* ---- in the login's hands ---- */

static void
http_drp_event_on_accepted(void *arg, struct http_login *login)
{
	int64_t user_id = http_login_user_id(login);
	char *user_name = mem_strdup(http_login_user_name(login));

	http_drp_event_send(http_login_end(login), user_id, user_name);
	free(user_name);
}

static bool
http_drp_event_on_refuse(
    void *arg, struct http_login *login, int status, const char *reason, const char *line)
{
	metrics[status == HTTP_SERVUNAVAIL ? METRIC_PUBLISH_FAILED_TOTAL : METRIC_PUBLISH_REFUSED_TOTAL]++;
	return false;
}

static const struct http_login_ops http_drp_event_login_ops = {.accepted = http_drp_event_on_accepted,
    .refuse = http_drp_event_on_refuse,
    .publishing = true,
    .drp = true};

void
http_drp_event(struct evhttp_request *req, const char *const *variables)
{
	metrics[METRIC_PUBLISH_REQUESTS_TOTAL]++;
	http_login_start(http_login_new(req, &http_drp_event_login_ops, NULL));
}
