/* Answers in the words of Digital Rebar's clients, which read any error as JSON. */
#include "config.h"
#include "http/http_drp_reply.h"
#include "core/log.h"
#include "http/http_request.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <jansson.h>
#include <stdlib.h>

static void
http_drp_reply_unauthorized(struct evhttp_request *req)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL)
		log_fatal("out of memory");
	evhttp_add_header(evhttp_request_get_output_headers(req), "WWW-Authenticate", "dr-provision");
	http_reply_body(req, 401, "Unauthorized", body);
	evbuffer_free(body);
}

/* A path is what the client has written. */
static json_t *
http_drp_text(const char *text)
{
	json_t *value = json_string(text);

	return value != NULL ? value : json_string("(not UTF-8)");
}

char *
http_drp_error_json(int status, const char *model, const char *key, const char *type, const char *message)
{
	json_t *error = json_object(), *messages = json_array();
	char *json;

	json_array_append_new(messages, http_drp_text(message));
	json_object_set_new(error, "Model", json_string(model));
	json_object_set_new(error, "Key", http_drp_text(key));
	json_object_set_new(error, "Type", json_string(type));
	json_object_set_new(error, "Messages", messages);
	json_object_set_new(error, "Code", json_integer(status));
	json = json_dumps(error, JSON_COMPACT);
	json_decref(error);
	if (json == NULL)
		log_fatal("out of memory");
	return json;
}

void
http_drp_reply_error(struct evhttp_request *req, int status, const char *reason, const char *model,
    const char *key, const char *type, const char *message)
{
	char *json;

	if (status == 401) {
		http_drp_reply_unauthorized(req);
		return;
	}
	http_add_retry_after(req, status);
	json =
	    http_drp_error_json(status, model, key, type != NULL ? type : http_request_method(req), message);
	http_reply_json(req, status, reason, json);
	free(json);
}

void
http_drp_reply_done(struct evhttp_request *req)
{
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
	evhttp_send_reply(req, HTTP_NOCONTENT, "No Content", NULL);
}
