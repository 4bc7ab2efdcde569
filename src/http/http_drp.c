/*
 * The paths under /api/v3/. A path is split at its slashes first, then its variable parts are decoded; so one
 * may hold a slash that is encoded.
 */
#include "config.h"
#include "http/http_drp.h"
#include "core/mem.h"
#include "core/slice.h"
#include "http/http_drp_connections.h"
#include "http/http_drp_event.h"
#include "http/http_drp_info.h"
#include "http/http_drp_reply.h"
#include "http/http_drp_token.h"
#include "http/http_request.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define HTTP_DRP_VARIABLES 2 /* of a shape at most */

struct http_drp_route {
	const char *shape; /* of what follows /api/v3/; a part that begins with a colon is variable */
	const char *methods;
	/* variables are the parts in their order, decoded: UTF-8, not empty; valid during the call. */
	void (*handle)(struct evhttp_request *req, const char *const *variables);
};

/* Shapes that have several methods have a row for each. */
static const struct http_drp_route http_drp_routes[] = {
    {"info", "GET, HEAD", http_drp_info},
    {"events", "POST", http_drp_event},
    {"users/:name/token", "GET", http_drp_token},
    {"connections", "GET", http_drp_connections},
    {"connections/:address", "GET", http_drp_connection},
    {"connections/:address", "DELETE", http_drp_connection_close},
    {"machines/:uuid/connections", "GET", http_drp_connections_of_runner},
    {"clusters/:uuid/connections", "GET", http_drp_connections_of_runner},
    {"resource_brokers/:uuid/connections", "GET", http_drp_connections_of_runner},
};

/* parts gets those that are variable. */
static bool
http_drp_matches(const char *shape, const char *path, struct slice parts[HTTP_DRP_VARIABLES])
{
	for (;; shape++, path++) {
		size_t len = strcspn(path, "/"), shape_len = strcspn(shape, "/");

		if (*shape == ':' && len > 0)
			*parts++ = (struct slice){path, len};
		else if (len != shape_len || memcmp(path, shape, len) != 0)
			return false;
		path += len;
		shape += shape_len;
		if (*path != *shape)
			return false;
		if (*path == '\0')
			return true;
	}
}

/* NULL when it holds a NUL, or is not UTF-8. The caller releases it with free(). */
static char *
http_drp_decode(struct slice part)
{
	char *text = mem_strndup(part.ptr, part.len), *decoded;
	json_t *value;
	size_t len;

	decoded = evhttp_uridecode(text, 0, &len);
	free(text);
	value = decoded != NULL ? json_string(decoded) : NULL;
	if (value == NULL || strlen(decoded) != len) {
		free(decoded);
		decoded = NULL;
	}
	json_decref(value);
	return decoded;
}

static void
http_drp_handle(struct evhttp_request *req, const struct http_drp_route *route, const struct slice *parts,
    const char *path)
{
	char *variables[HTTP_DRP_VARIABLES] = {NULL, NULL};
	bool ok = true;

	for (int i = 0; i < HTTP_DRP_VARIABLES && parts[i].len > 0; i++) {
		variables[i] = http_drp_decode(parts[i]);
		ok = ok && variables[i] != NULL;
	}
	if (ok)
		route->handle(req, (const char *const *)variables);
	else
		http_drp_reply_error(req, HTTP_BADREQUEST, "Bad Request", "", path, NULL,
		    "a part of the path holds a NUL, or is not UTF-8");
	for (int i = 0; i < HTTP_DRP_VARIABLES; i++)
		free(variables[i]);
}

/* methods are those of the path: none, when there is no such path. */
static void
http_drp_refuse(struct evhttp_request *req, const char *methods, const char *path)
{
	char *line;

	if (*methods == '\0') {
		http_drp_reply_error(req, HTTP_NOTFOUND, "Not Found", "", path, NULL, "No route");
		return;
	}
	line = mem_printf("Method not allowed: only %s is understood here", methods);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", methods);
	http_drp_reply_error(req, HTTP_BADMETHOD, "Method Not Allowed", "", path, NULL, line);
	free(line);
}

void
http_drp(struct evhttp_request *req)
{
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
	char *allowed = mem_strdup("");

	for (size_t i = 0; i < ARRAY_LENGTH(http_drp_routes); i++) {
		const struct http_drp_route *route = &http_drp_routes[i];
		struct slice parts[HTTP_DRP_VARIABLES] = {{NULL, 0}, {NULL, 0}};
		char *more;

		if (!http_drp_matches(route->shape, path + strlen(HTTP_DRP_PREFIX), parts))
			continue;
		if (http_list_has(route->methods, http_request_method(req))) {
			free(allowed);
			http_drp_handle(req, route, parts, path);
			return;
		}
		more = mem_printf("%s%s%s", allowed, *allowed != '\0' ? ", " : "", route->methods);
		free(allowed);
		allowed = more;
	}
	http_drp_refuse(req, allowed, path);
	free(allowed);
}
