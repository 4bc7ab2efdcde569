/* This node as Digital Rebar's clients ask for it: their types, so that Go's client can read it. */
#include "config.h"
#include "http/http_drp_info.h"
#include "client/session.h"
#include "cluster/heartbeat.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_login.h"
#include "http/http_request.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

/* ---- what it says ---- */

/* Go's name of a processor. */
static const char *
http_drp_arch(const char *machine)
{
	static const char *const names[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "386"}};

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (strcmp(machine, names[i][0]) == 0)
			return names[i][1];
	return machine;
}

static void
http_drp_put_system(json_t *info)
{
	struct utsname system;

	if (uname(&system) != 0)
		log_fatal("could not ask the system's name");
	for (char *p = system.sysname; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	json_object_set_new(info, "arch", json_string(http_drp_arch(system.machine)));
	json_object_set_new(info, "os", json_string(system.sysname));
}

/* The end of the connection that is ours. An address without a scope, which Go would not read. */
static void
http_drp_put_address(json_t *info, struct evhttp_request *req)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	char text[INET6_ADDRSTRLEN] = "";
	int port = 0;

	if (getsockname(bufferevent_getfd(bev), (struct sockaddr *)&address, &len) == 0) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
		bool is_v6 = address.ss_family == AF_INET6;

		inet_ntop(address.ss_family,
		    is_v6 ? (const void *)&v6->sin6_addr : (const void *)&v4->sin_addr, text, sizeof(text));
		port = ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
	}
	json_object_set_new(info, "api_port", json_integer(port));
	json_object_set_new(info, "address", json_string(text));
}

static json_t *
http_drp_stats(void)
{
	return json_pack("[{s:s,s:I},{s:s,s:I}]", "name", "sessions.count", "count",
	    (json_int_t)session_count(), "name", "subscriptions.count", "count",
	    (json_int_t)metrics[METRIC_SUBSCRIPTIONS]);
}

/* What can be done here: {type: {action: {}}}. */
static json_t *
http_drp_scopes(void)
{
	return json_pack("{s:{s:{},s:{},s:{}},s:{s:{}},s:{s:{}},s:{s:{}}}", "connections", "list", "get",
	    "delete", "events", "post", "info", "get", "users", "token");
}

char *
http_drp_info_json(struct evhttp_request *req)
{
	json_t *info = json_object();
	char *json;

	json_object_set_new(info, "version", json_string(PACKAGE_VERSION));
	json_object_set_new(info, "id", json_string(conf.cluster));
	json_object_set_new(info, "local_id", json_string(heartbeat_node()));
	http_drp_put_system(info);
	http_drp_put_address(info, req);
	json_object_set_new(info, "features", json_pack("[s]", "api-v3"));
	json_object_set_new(info, "stats", http_drp_stats());
	json_object_set_new(info, "scopes", http_drp_scopes());
	json_object_set_new(info, "errors", json_array());
	json = json_dumps(info, JSON_COMPACT);
	json_decref(info);
	if (json == NULL)
		log_fatal("out of memory");
	return json;
}

/* ---- the request ---- */

static void
http_drp_info_on_accepted(void *arg, struct http_login *login)
{
	struct evhttp_request *req = http_login_end(login);
	char *json = http_drp_info_json(req);

	http_reply_json(req, HTTP_OK, "OK", json);
	free(json);
}

static const struct http_login_ops http_drp_info_login_ops = {
    .accepted = http_drp_info_on_accepted, .drp = true};

void
http_drp_info(struct evhttp_request *req, const char *const *variables)
{
	http_login_start(http_login_new(req, &http_drp_info_login_ops, NULL));
}
