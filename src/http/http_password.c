/* Names with passwords that are being checked. */
#include "config.h"
#include "http/http_password.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_remote.h"
#include "http/login_limit.h"

#include <stdlib.h>
#include <sys/queue.h>

struct http_password {
	LIST_ENTRY(http_password) entry;
	struct login_limit *limit;
	struct auth_request *auth;
	auth_done done; /* NULL: cancelled */
	void *arg;
};

static LIST_HEAD(, http_password) http_passwords = LIST_HEAD_INITIALIZER(http_passwords);

static void
http_password_free(struct http_password *p)
{
	LIST_REMOVE(p, entry);
	login_limit_leave(p->limit);
	free(p);
}

static void
http_password_on_auth(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct http_password *p = arg;
	auth_done done = p->done;
	void *whose = p->arg;

	http_password_free(p);
	if (done != NULL)
		done(whose, verdict, user);
}

struct http_password *
http_password_check(struct evhttp_connection *evcon, const struct evkeyvalq *headers,
    const struct credential *credential, auth_done done, void *arg)
{
	struct in6_addr address = http_remote_client(evcon, headers);
	struct login_limit *limit = login_limit_enter(&address);
	struct http_password *p;

	if (limit == NULL) {
		metrics[METRIC_PASSWORDS_CROWDED_TOTAL]++;
		return NULL;
	}
	p = mem_zalloc(sizeof(*p));
	p->limit = limit;
	p->done = done;
	p->arg = arg;
	LIST_INSERT_HEAD(&http_passwords, p, entry);
	p->auth = auth_authenticate(credential, http_password_on_auth, p);
	return p;
}

void
http_password_cancel(struct http_password *p)
{
	p->done = NULL;
}

void
http_password_free_all(void)
{
	struct http_password *p;

	while ((p = LIST_FIRST(&http_passwords)) != NULL) {
		auth_cancel(p->auth);
		http_password_free(p);
	}
}
