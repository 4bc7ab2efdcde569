/*
 * Requests about connections. The steps: who is it; what may he see; what is there, on all nodes; of one that is to
 * be closed, may he; its node closes it. Each step ends in the next one or in an answer, and the login's end
 * releases all.
 */
#include "config.h"
#include "http/http_drp_connections.h"
#include "client/auth.h"
#include "client/connection.h"
#include "client/connection_query.h"
#include "cluster/connection_list.h"
#include "core/log.h"
#include "core/mem.h"
#include "http/http_drp_reply.h"
#include "http/http_login.h"
#include "http/http_request.h"
#include "pg/pg_query.h"
#include "relay/event.h"

#include <event2/http.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HTTP_CONNECTIONS_MODEL   "connections"
#define HTTP_CONNECTIONS_AT_ONCE 32 /* lists that are being collected */

enum http_connections_wish { WISH_LIST, WISH_SHOW, WISH_CLOSE };

struct http_connections {
	struct http_login *login;
	enum http_connections_wish wish;
	char *address; /* NULL: a list */
	struct connection_query *query;
	struct auth_question *rights;
	struct connection_list *list;
	struct connection *found; /* what is to be closed */
	char *node;               /* where */
	struct connection_closing *closing;
};

static size_t http_connections_collecting;

/* ---- ends ---- */

static void
http_connections_on_ended(void *arg)
{
	struct http_connections *c = arg;

	if (c->rights != NULL)
		auth_question_cancel(c->rights);
	if (c->list != NULL) {
		connection_list_cancel(c->list);
		http_connections_collecting--;
	}
	if (c->closing != NULL)
		connection_closing_cancel(c->closing);
	connection_query_free(c->query);
	free(c->found);
	free(c->node);
	free(c->address);
	free(c);
}

static void
http_connections_refuse(
    struct http_connections *c, int status, const char *reason, const char *type, const char *message)
{
	char *key = mem_strdup(c->address != NULL ? c->address : "");

	http_drp_reply_error(
	    http_login_end(c->login), status, reason, HTTP_CONNECTIONS_MODEL, key, type, message);
	free(key);
}

static void
http_connections_refuse_missing(struct http_connections *c)
{
	http_connections_refuse(c, HTTP_NOTFOUND, "Not Found", NULL,
	    "Not Found: there is no such connection, or this user may not see it");
}

static void
http_connections_refuse_unavailable(struct http_connections *c, const char *what, const char *error)
{
	auth_report_failure(what, error);
	http_connections_refuse(
	    c, HTTP_SERVUNAVAIL, "Service Unavailable", NULL, "the database cannot be asked now; try again");
}

/* One alone, or a list. */
static void
http_connections_reply(
    struct http_connections *c, struct connection *const *list, size_t count, bool in_brackets)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		log_fatal("out of memory");
	if (in_brackets)
		putc('[', out);
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			putc(',', out);
		connection_print_json(out, list[i]);
	}
	if (in_brackets)
		putc(']', out);
	fclose(out);
	http_reply_json(http_login_end(c->login), HTTP_OK, "OK", text);
	free(text);
}

/* ---- closing ---- */

static void
http_connections_on_closed(void *arg, enum connection_verdict verdict)
{
	struct http_connections *c = arg;

	c->closing = NULL;
	switch (verdict) {
	case CONNECTION_CLOSED:
		http_connections_reply(c, &c->found, 1, false);
		break;
	case CONNECTION_GONE:
		http_connections_refuse_missing(c);
		break;
	case CONNECTION_UNREACHED:
		http_connections_refuse(c, HTTP_SERVUNAVAIL, "Service Unavailable", NULL,
		    "the connection's node did not answer in time: it may have been closed");
		break;
	}
}

static void
http_connections_on_may_close(void *arg, const struct auth_answer *answer)
{
	struct http_connections *c = arg;

	c->rights = NULL;
	if (answer->status != PG_QUERY_OK) {
		http_connections_refuse_unavailable(c, "who may close connections", answer->error);
	} else if (answer->count == 0) {
		http_connections_refuse(c, 403, "Forbidden", HTTP_DRP_AUTH,
		    "this user may not close it: a grant to publish \"connections.delete.*\", or of its "
		    "principal, is needed");
	} else {
		log_info(http_login_peer(c->login), "%s closes the connection of %s, %s on node \"%s\"",
		    http_login_user_name(c->login), c->found->principal, c->found->address, c->node);
		c->closing = connection_close(c->found, http_connections_on_closed, c);
	}
}

static void
http_connections_ask_to_close(struct http_connections *c, const struct connection *found)
{
	char key[3 * CONNECTION_PRINCIPAL_SIZE], *pattern;

	c->found = connection_copy(found);
	c->node = mem_strdup(found->node);
	c->found->node = c->node;
	key[topic_encode_key(found->principal, strlen(found->principal), key)] = '\0';
	pattern = mem_printf("connections.delete.%s", key);
	c->rights = auth_authorize_publish(http_login_user_id(c->login), (const char *const[]){pattern}, 1,
	    http_connections_on_may_close, c);
	free(pattern);
}

/* ---- listing ---- */

static void
http_connections_on_list(void *arg, struct connection *const *list, size_t count)
{
	struct http_connections *c = arg;

	c->list = NULL;
	http_connections_collecting--;
	if (c->wish == WISH_LIST)
		http_connections_reply(c, list, count, true);
	else if (count == 0)
		http_connections_refuse_missing(c);
	else if (c->wish == WISH_SHOW)
		http_connections_reply(c, list, 1, false);
	else
		http_connections_ask_to_close(c, list[0]);
}

static void
http_connections_collect(struct http_connections *c)
{
	if (http_connections_collecting >= HTTP_CONNECTIONS_AT_ONCE) {
		http_connections_refuse(c, HTTP_SERVUNAVAIL, "Service Unavailable", NULL,
		    "too many lists of connections are being collected; try again");
		return;
	}
	c->list = connection_list_collect(c->query, http_connections_on_list, c);
	if (c->list != NULL)
		http_connections_collecting++;
	else
		http_connections_refuse(c, HTTP_BADREQUEST, "Bad Request", NULL,
		    "this user's grants of connections.list name too many principals for other nodes to be "
		    "asked; grant \"connections.list.*\"");
}

/* True when there is any right. */
static bool
http_connections_allow(struct http_connections *c, const struct auth_answer *answer)
{
	struct topic topic;
	bool any = false;

	for (size_t i = 0; i < answer->count; i++) {
		const char *allowed = answer->rights[i].allowed;

		if (!topic_parse((struct slice){allowed, strlen(allowed)}, true, &topic))
			continue;
		connection_query_allow(c->query, topic.key);
		any = true;
	}
	return any;
}

static void
http_connections_on_rights(void *arg, const struct auth_answer *answer)
{
	struct http_connections *c = arg;

	c->rights = NULL;
	if (answer->status != PG_QUERY_OK)
		http_connections_refuse_unavailable(c, "who may see connections", answer->error);
	else if (http_connections_allow(c, answer))
		http_connections_collect(c);
	else if (c->wish == WISH_LIST)
		http_connections_refuse(c, 403, "Forbidden", HTTP_DRP_AUTH,
		    "this user may see no connections; pgrelay grant add USER \"connections.list.*\" gives "
		    "the "
		    "right");
	else
		http_connections_refuse_missing(c);
}

/* ---- requests ---- */

static void
http_connections_on_accepted(void *arg, struct http_login *login)
{
	static const char *const patterns[] = {"connections.list.*"};
	struct http_connections *c = arg;

	c->rights = auth_authorize(http_login_user_id(login), patterns, 1, http_connections_on_rights, c);
}

static const struct http_login_ops http_connections_login_ops = {
    .accepted = http_connections_on_accepted, .ended = http_connections_on_ended, .drp = true};

static void
http_connections_start(struct evhttp_request *req, enum http_connections_wish wish,
    struct connection_query *query, const char *address)
{
	struct http_connections *c = mem_zalloc(sizeof(*c));

	c->wish = wish;
	c->query = query;
	c->address = address != NULL ? mem_strdup(address) : NULL;
	c->login = http_login_new(req, &http_connections_login_ops, c);
	http_login_start(c->login);
}

/* Of the URL's query; NULL: it has been refused. */
static struct connection_query *
http_connections_parse(struct evhttp_request *req)
{
	char *error = NULL;
	struct connection_query *query =
	    connection_query_parse(evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req)), &error);

	if (query == NULL)
		http_drp_reply_error(
		    req, HTTP_BADREQUEST, "Bad Request", HTTP_CONNECTIONS_MODEL, "", NULL, error);
	free(error);
	return query;
}

void
http_drp_connections(struct evhttp_request *req, const char *const *variables)
{
	struct connection_query *query = http_connections_parse(req);

	if (query != NULL)
		http_connections_start(req, WISH_LIST, query, NULL);
}

void
http_drp_connections_of_runner(struct evhttp_request *req, const char *const *variables)
{
	struct connection_query *query = http_connections_parse(req);
	char *principal;

	if (query == NULL)
		return;
	principal = mem_printf("runner:%s", variables[0]);
	connection_query_want_principal(query, principal);
	free(principal);
	http_connections_start(req, WISH_LIST, query, NULL);
}

/* What is no address, with its port, is that of nobody. */
static void
http_connections_start_one(struct evhttp_request *req, enum http_connections_wish wish, const char *address)
{
	struct connection_query *query = connection_query_parse(NULL, NULL);

	if (connection_query_want_address(query, address)) {
		http_connections_start(req, wish, query, address);
		return;
	}
	connection_query_free(query);
	http_drp_reply_error(req, HTTP_NOTFOUND, "Not Found", HTTP_CONNECTIONS_MODEL, address, NULL,
	    "Not Found: a connection is named by its address and port, such as 192.0.2.7:50312");
}

void
http_drp_connection(struct evhttp_request *req, const char *const *variables)
{
	http_connections_start_one(req, WISH_SHOW, variables[0]);
}

void
http_drp_connection_close(struct evhttp_request *req, const char *const *variables)
{
	http_connections_start_one(req, WISH_CLOSE, variables[0]);
}
