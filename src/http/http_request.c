/* Reading requests and answering them. */
#include "config.h"
#include "http/http_request.h"
#include "core/log.h"
#include "core/mem.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *
http_header(struct evhttp_request *req, const char *name)
{
	return evhttp_find_header(evhttp_request_get_input_headers(req), name);
}

bool
http_list_has(const char *list, const char *word)
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

char *
http_query_value(const char *query, const char *name)
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

static char *
http_query_decode(const char *text, size_t len)
{
	char *copy = mem_strndup(text, len), *decoded;
	size_t decoded_len;

	decoded = evhttp_uridecode(copy, 1, &decoded_len);
	free(copy);
	if (decoded != NULL && strlen(decoded) == decoded_len)
		return decoded;
	free(decoded);
	return mem_strdup("");
}

bool
http_query_next(const char **query, char **name, char **value)
{
	const char *p = *query;
	size_t len, name_len;

	if (p == NULL)
		return false;
	p += strspn(p, "&");
	if (*p == '\0')
		return false;
	len = strcspn(p, "&");
	name_len = strcspn(p, "=&");
	*name = http_query_decode(p, name_len);
	*value = name_len < len ? http_query_decode(p + name_len + 1, len - name_len - 1) : mem_strdup("");
	*query = p + len;
	return true;
}

char *
http_request_value(struct evhttp_request *req, const char *name)
{
	return http_query_value(evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req)), name);
}

const char *
http_request_method(struct evhttp_request *req)
{
	switch (evhttp_request_get_command(req)) {
	case EVHTTP_REQ_GET:
		return "GET";
	case EVHTTP_REQ_HEAD:
		return "HEAD";
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_PUT:
		return "PUT";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	case EVHTTP_REQ_OPTIONS:
		return "OPTIONS";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	default:
		return "another";
	}
}

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

/* Lines; the last one may lack its end. */
static void
http_reply_lines(
    struct evhttp_request *req, int status, const char *reason, const char *type, const char *lines)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL)
		log_fatal("out of memory");
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", type);
	if (*lines != '\0')
		evbuffer_add_printf(body, "%s%s", lines, lines[strlen(lines) - 1] == '\n' ? "" : "\n");
	http_reply_body(req, status, reason, body);
	evbuffer_free(body);
}

void
http_reply_text(struct evhttp_request *req, int status, const char *reason, const char *line)
{
	http_reply_lines(req, status, reason, "text/plain; charset=utf-8", line);
}

void
http_reply_json(struct evhttp_request *req, int status, const char *reason, const char *json)
{
	http_reply_lines(req, status, reason, "application/json", json);
}

char *
http_error_json(const char *line, long index)
{
	json_t *text = json_string(line), *error = json_object();
	char *json;

	if (text == NULL)
		text = json_string("an error whose text is not UTF-8");
	json_object_set_new(error, "error", text);
	if (index >= 0)
		json_object_set_new(error, "index", json_integer(index));
	json = json_dumps(error, 0);
	json_decref(error);
	if (json == NULL)
		log_fatal("out of memory");
	return json;
}

void
http_add_retry_after(struct evhttp_request *req, int status)
{
	if (status == 429 || status == 503)
		evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After", "2");
}

void
http_reply_error(struct evhttp_request *req, int status, const char *reason, const char *line, long index)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	char *json = http_error_json(line, index);

	if (status == 401)
		evhttp_add_header(headers, "WWW-Authenticate", "Bearer realm=\"pgrelay\"");
	http_add_retry_after(req, status);
	http_reply_json(req, status, reason, json);
	free(json);
}
