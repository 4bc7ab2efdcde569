/* New tokens. The login stays until the database has answered: it notices a client that hangs up meanwhile. */
#include "config.h"
#include "http/http_drp_token.h"
#include "client/auth.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/slice.h"
#include "http/http_drp_info.h"
#include "http/http_drp_reply.h"
#include "http/http_login.h"
#include "http/http_request.h"
#include "pg/pg_query.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define HTTP_DRP_TTL_S     3600
#define HTTP_DRP_TTL_MAX_S (30 * 86400)
#define HTTP_DRP_TOO_MANY  "54000" /* program_limit_exceeded: the user has too many tokens */

enum http_drp_token_column { COLUMN_TOKEN_ID, COLUMN_TOKEN };

struct http_drp_token {
	struct http_login *login;
	struct pg_query *query;
	char *name;
};

static void
http_drp_token_on_ended(void *arg)
{
	struct http_drp_token *t = arg;

	if (t->query != NULL)
		pg_query_cancel(t->query);
	free(t->name);
	free(t);
}

/* ---- answers ---- */

static void
http_drp_token_refuse(
    struct http_drp_token *t, int status, const char *reason, const char *type, const char *message)
{
	char *name = mem_strdup(t->name);

	http_drp_reply_error(http_login_end(t->login), status, reason, "users", name, type, message);
	free(name);
}

static void
http_drp_token_reply(struct evhttp_request *req, const char *token)
{
	char *info = http_drp_info_json(req), *text;
	json_t *quoted = json_string(token);
	char *json = json_dumps(quoted, JSON_ENCODE_ANY);

	if (json == NULL)
		log_fatal("the database's answer holds a token that is not UTF-8");
	text = mem_printf("{\"Token\":%s,\"Info\":%s}", json, info);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Cache-Control", "no-store");
	http_reply_json(req, HTTP_OK, "OK", text);
	OPENSSL_cleanse(text, strlen(text));
	OPENSSL_cleanse(json, strlen(json));
	free(text);
	free(json);
	free(info);
	json_decref(quoted);
}

/* ---- asking ---- */

static void
http_drp_token_deny(struct http_drp_token *t, const char *message)
{
	http_drp_token_refuse(t, 403, "Forbidden", HTTP_DRP_AUTH, message);
}

static void
http_drp_token_on_issued(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct http_drp_token *t = arg;

	t->query = NULL;
	if (status == PG_QUERY_ERROR && strcmp(pg_result_sqlstate(result), HTTP_DRP_TOO_MANY) == 0) {
		http_drp_token_deny(t, error);
	} else if (status != PG_QUERY_OK) {
		auth_report_failure("for a token", error);
		http_drp_token_refuse(t, HTTP_SERVUNAVAIL, "Service Unavailable", NULL,
		    "the database cannot be asked now; try again");
	} else if (pg_result_rows(result) == 0 || pg_result_text(result, 0, COLUMN_TOKEN) == NULL) {
		http_drp_token_deny(t, "no token can be issued: the user is not in pgrelay.users, or the "
				       "token that asks is not valid any more");
	} else {
		http_drp_token_reply(http_login_end(t->login), pg_result_text(result, 0, COLUMN_TOKEN));
	}
}

/* Of the query's ttl; false when it is none. */
static bool
http_drp_token_ttl(struct evhttp_request *req, int64_t *ttl_s)
{
	char *text = http_request_value(req, "ttl");
	bool ok = true;

	*ttl_s = HTTP_DRP_TTL_S;
	if (text != NULL)
		ok = slice_to_int64((struct slice){text, strlen(text)}, ttl_s) && *ttl_s >= 1 &&
		     *ttl_s <= HTTP_DRP_TTL_MAX_S;
	free(text);
	return ok;
}

static void
http_drp_token_on_accepted(void *arg, struct http_login *login)
{
	struct http_drp_token *t = arg;
	int64_t ttl_s;

	if (http_login_is_ambient(login)) /* any page could have it sent, and tokens used up */
		http_drp_token_deny(t, "a token or a password is wanted; cookies are not taken here");
	else if (strcmp(t->name, http_login_user_name(login)) != 0)
		http_drp_token_deny(t, "a token is given to the user who asks for it, for himself alone");
	else if (!http_drp_token_ttl(http_login_request(login), &ttl_s))
		http_drp_token_refuse(t, HTTP_BADREQUEST, "Bad Request", NULL,
		    "ttl must be a number of seconds, from 1 to 2592000 (30 days)");
	else
		t->query = auth_issue_token(http_login_user_id(login), ttl_s, http_login_token_id(login),
		    http_drp_token_on_issued, t);
}

static const struct http_login_ops http_drp_token_login_ops = {
    .accepted = http_drp_token_on_accepted, .ended = http_drp_token_on_ended, .drp = true};

void
http_drp_token(struct evhttp_request *req, const char *const *variables)
{
	struct http_drp_token *t = mem_zalloc(sizeof(*t));

	t->name = mem_strdup(variables[0]);
	t->login = http_login_new(req, &http_drp_token_login_ops, t);
	http_login_start(t->login);
}
