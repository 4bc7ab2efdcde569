/* WebSocket handshakes. */
#include "config.h"
#include "http/http_upgrade.h"
#include "client/dialect_awx.h"
#include "core/conf.h"
#include "core/mem.h"
#include "http/deflate.h"
#include "http/http_login.h"
#include "http/http_request.h"
#include "http/ws.h"

#include <event2/http.h>
#include <event2/http_struct.h>
#include <stdlib.h>
#include <string.h>

/* Another header of the answer; value NULL: none. */
struct http_upgrade_header {
	const char *name, *value;
};

static char *
http_upgrade_answer(struct http_login *login, struct http_upgrade_header more)
{
	char accept[WS_ACCEPT_SIZE];

	ws_accept_value(http_header(http_login_request(login), "Sec-WebSocket-Key"), accept);
	return mem_printf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			  "Sec-WebSocket-Accept: %s\r\n%s%s%s%s\r\n",
	    accept, more.value != NULL ? more.name : "", more.value != NULL ? ": " : "",
	    more.value != NULL ? more.value : "", more.value != NULL ? "\r\n" : "");
}

/* NULL: no extension. */
static const char *
http_upgrade_extension(const struct dialect *dialect, struct http_login *login)
{
	if (conf.compress_min_bytes == 0 || dialect->deflated_form == 0)
		return NULL;
	return deflate_negotiate(http_header(http_login_request(login), "Sec-WebSocket-Extensions"));
}

static void
http_upgrade_on_accepted(void *dialect, struct http_login *login)
{
	const char *extension = http_upgrade_extension(dialect, login);
	char *answer =
	    http_upgrade_answer(login, (struct http_upgrade_header){"Sec-WebSocket-Extensions", extension});

	http_login_open(login, dialect, answer, NULL, extension != NULL);
	free(answer);
}

/* The AWX way: only a handshake that is well-formed gets so far. */
static bool
http_upgrade_on_refuse(
    void *dialect, struct http_login *login, int status, const char *reason, const char *line)
{
	char *answer;

	if (conf.refuse != CONF_REFUSE_AWX || (status != 401 && status != 403))
		return false;
	answer = http_upgrade_answer(login, (struct http_upgrade_header){NULL, NULL});
	http_login_turn_away(login, answer, DIALECT_AWX_REFUSAL);
	free(answer);
	return true;
}

static void
http_upgrade_refuse_426(struct http_login *login, const char *line)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(http_login_request(login));

	evhttp_add_header(headers, "Upgrade", "websocket");
	evhttp_add_header(headers, "Connection", "Upgrade");
	evhttp_add_header(headers, "Sec-WebSocket-Version", "13");
	http_login_refuse(login, 426, "Upgrade Required", line);
}

/* RFC 6455, section 4.2.1; true when the request has been answered. */
static bool
http_upgrade_refuse_malformed(struct http_login *login)
{
	struct evhttp_request *req = http_login_request(login);
	const char *version = http_header(req, "Sec-WebSocket-Version");
	const char *key = http_header(req, "Sec-WebSocket-Key");

	if (!http_list_has(http_header(req, "Upgrade"), "websocket") ||
	    !http_list_has(http_header(req, "Connection"), "upgrade"))
		http_upgrade_refuse_426(login, "this is a WebSocket endpoint; a proxy in front of it must "
					       "pass the Upgrade and Connection headers on");
	else if (req->major < 1 || (req->major == 1 && req->minor < 1))
		http_upgrade_refuse_426(login, "HTTP/1.1 is wanted; a proxy in front must speak it");
	else if (version == NULL || strcmp(version, "13") != 0)
		http_upgrade_refuse_426(login, "Sec-WebSocket-Version must be 13");
	else if (key == NULL || !ws_key_is_valid(key))
		http_login_refuse(login, 400, "Bad Request", "Sec-WebSocket-Key must be 16 octets in base64");
	else
		return false;
	return true;
}

static const struct http_login_ops http_upgrade_login_ops = {
    .accepted = http_upgrade_on_accepted, .refuse = http_upgrade_on_refuse};
static const struct http_login_ops http_upgrade_drp_login_ops = {
    .accepted = http_upgrade_on_accepted, .drp = true};

void
http_upgrade(struct evhttp_request *req, const struct dialect *dialect)
{
	struct http_login *login = http_login_new(req,
	    dialect->drp ? &http_upgrade_drp_login_ops : &http_upgrade_login_ops, (void *)(uintptr_t)dialect);

	if (!http_upgrade_refuse_malformed(login) && !http_login_refuse_crowd(login))
		http_login_start(login);
}

/* ---- peers ---- */

struct http_upgrade_peer {
	const struct dialect *dialect;
	const char *protocol;
};

static void
http_upgrade_on_peer(void *arg, struct http_login *login)
{
	const struct http_upgrade_peer *peer = arg;
	char *answer = http_upgrade_answer(
	    login, (struct http_upgrade_header){"Sec-WebSocket-Protocol", peer->protocol});

	http_login_open(login, peer->dialect, answer, NULL, false);
	free(answer);
}

static const struct http_login_ops http_upgrade_peer_ops = {.accepted = http_upgrade_on_peer};

void
http_upgrade_peer(
    struct evhttp_request *req, const struct dialect *dialect, const char *name, const char *protocol)
{
	struct http_upgrade_peer peer = {dialect, protocol};
	struct http_login *login = http_login_new(req, &http_upgrade_peer_ops, &peer);

	if (!http_upgrade_refuse_malformed(login)) /* max_sessions is for clients */
		http_login_accept_peer(login, name);
}
