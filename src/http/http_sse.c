/*
 * Requests for server-sent events. Whatever an HTTP status can tell is found out before the answer begins:
 * who it is, and whether any of the groups may be seen.
 */
#include "config.h"
#include "http/http_sse.h"
#include "client/dialect_sse.h"
#include "client/groups.h"
#include "client/sse_request.h"
#include "core/conf.h"
#include "core/mem.h"
#include "http/http_login.h"
#include "http/http_request.h"

#include <stdlib.h>

struct http_sse {
	struct http_login *login;
	struct sse_request *request;
	struct groups *groups; /* NULL: the user is not known yet */
};

static void
http_sse_on_ended(void *arg)
{
	struct http_sse *e = arg;

	if (e->groups != NULL)
		groups_free(e->groups);
	sse_request_free(e->request);
	free(e);
}

/* Printable, so that nothing else can get into our answer by it. */
static bool
http_sse_is_origin(const char *s)
{
	for (const char *p = s; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	return *s != '\0';
}

/*
 * A page of another origin may read the stream if it got so far: either it knows the token, or the page's
 * origin is one whose cookies are taken.
 */
static char *
http_sse_answer(struct evhttp_request *req)
{
	const char *origin = http_header(req, "Origin");
	char *cors =
	    origin != NULL && http_sse_is_origin(origin)
		? mem_printf("Access-Control-Allow-Origin: %s\r\nAccess-Control-Allow-Credentials: true\r\n"
			     "Vary: Origin\r\n",
		      origin)
		: mem_strdup("");
	char *answer = mem_printf(
	    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
	    "X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n%sConnection: close\r\n\r\n",
	    cors);

	free(cors);
	return answer;
}

static void
http_sse_open(struct http_sse *e, const struct topic *patterns, size_t count)
{
	struct sse_opening opening = {e->request, e->groups, patterns, count};
	char *answer = http_sse_answer(http_login_request(e->login));

	e->groups = NULL;
	http_login_open(e->login, &dialect_sse, answer, &opening, false);
	free(answer);
}

static void
http_sse_refuse_too_many(struct http_sse *e)
{
	char *error = groups_too_many();

	http_login_refuse(e->login, 400, "Bad Request", error);
	free(error);
}

static void
http_sse_on_groups(void *arg, enum groups_outcome outcome, const struct topic *patterns, size_t count)
{
	struct http_sse *e = arg;

	if (outcome == GROUPS_TOO_MANY)
		http_sse_refuse_too_many(e);
	else if (outcome == GROUPS_UNKNOWN)
		http_login_refuse(
		    e->login, 503, "Service Unavailable", "the database cannot be asked now; try again");
	else if (groups_count(e->groups) == 0)
		http_login_refuse(e->login, 403, "Forbidden",
		    "this user may see none of these groups; pgrelay grant add gives rights");
	else
		http_sse_open(e, patterns, count);
}

static void
http_sse_on_accepted(void *arg, struct http_login *login)
{
	struct http_sse *e = arg;

	e->groups = groups_new(http_login_user_id(login));
	groups_ask(e->groups, e->request->groups, e->request->count, http_sse_on_groups, e);
}

static const struct http_login_ops http_sse_login_ops = {
    .accepted = http_sse_on_accepted, .ended = http_sse_on_ended};

static struct sse_request *
http_sse_parse(struct evhttp_request *req)
{
	char *groups = http_request_value(req, "groups"), *cursor = http_request_value(req, "cursor");
	struct sse_request *request =
	    sse_request_parse(groups, cursor, http_header(req, "Last-Event-ID"), (size_t)conf.max_groups);

	free(groups);
	free(cursor);
	return request;
}

void
http_sse(struct evhttp_request *req)
{
	struct http_sse *e = mem_zalloc(sizeof(*e));

	e->request = http_sse_parse(req);
	e->login = http_login_new(req, &http_sse_login_ops, e);
	if (e->request->error != NULL)
		http_login_refuse(e->login, 400, "Bad Request", e->request->error);
	else if (!http_login_refuse_crowd(e->login))
		http_login_start(e->login);
}
