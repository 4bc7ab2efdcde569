/* The picture for those who may see it: login, rights, then the nodes are asked. */
#include "config.h"
#include "http/http_cluster.h"
#include "client/auth.h"
#include "cluster/status.h"
#include "core/mem.h"
#include "http/http_login.h"
#include "http/http_request.h"

#include <stdlib.h>
#include <string.h>

/* Whoever is granted this as a whole. */
#define HTTP_CLUSTER_PATTERN "cluster.status.*"

struct http_cluster {
	struct http_login *login;
	struct auth_question *question;
	struct status_request *status;
};

static void
http_cluster_on_ended(void *arg)
{
	struct http_cluster *c = arg;

	if (c->question != NULL)
		auth_question_cancel(c->question);
	if (c->status != NULL)
		status_cancel(c->status);
	free(c);
}

static void
http_cluster_on_status(void *arg, const char *json)
{
	struct http_cluster *c = arg;

	c->status = NULL;
	http_reply_json(http_login_end(c->login), 200, "OK", json);
}

static bool
http_cluster_is_allowed(const struct auth_answer *answer)
{
	for (size_t i = 0; i < answer->count; i++)
		if (strcmp(answer->rights[i].allowed, HTTP_CLUSTER_PATTERN) == 0)
			return true;
	return false;
}

static void
http_cluster_on_rights(void *arg, const struct auth_answer *answer)
{
	struct http_cluster *c = arg;

	c->question = NULL;
	if (answer->status != PG_QUERY_OK) {
		auth_report_failure("what a client may see", answer->error);
		http_login_refuse(
		    c->login, 503, "Service Unavailable", "the database cannot be asked now; try again");
	} else if (!http_cluster_is_allowed(answer)) {
		http_login_refuse(c->login, 403, "Forbidden",
		    "this user may not see the cluster; pgrelay grant add USER \"" HTTP_CLUSTER_PATTERN
		    "\" gives the right");
	} else {
		c->status = status_collect(http_cluster_on_status, c);
	}
}

static void
http_cluster_on_accepted(void *arg, struct http_login *login)
{
	static const char *const patterns[] = {HTTP_CLUSTER_PATTERN};
	struct http_cluster *c = arg;

	c->question = auth_authorize(http_login_user_id(login), patterns, 1, http_cluster_on_rights, c);
}

static bool
http_cluster_on_refuse(void *arg, struct http_login *login, int status, const char *reason, const char *line)
{
	http_reply_error(http_login_end(login), status, reason, line, -1);
	return true;
}

static const struct http_login_ops http_cluster_login_ops = {
    .accepted = http_cluster_on_accepted, .refuse = http_cluster_on_refuse, .ended = http_cluster_on_ended};

void
http_cluster(struct evhttp_request *req)
{
	struct http_cluster *c = mem_zalloc(sizeof(*c));

	c->login = http_login_new(req, &http_cluster_login_ops, c);
	http_login_start(c->login);
}
