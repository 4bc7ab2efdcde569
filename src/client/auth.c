/*
 * Asking who a client is.
 *
 * A question is an auth_lookup, and those who have asked it are its requests. Until the end of the turn in which
 * it is first asked, equal ones join it; one to a web application until that has answered. So no answer of the
 * database is older than its question: a token may have been revoked in between. A lookup without requests is
 * released. It tells its answer to so many requests a turn.
 */
#include "config.h"
#include "client/auth.h"
#include "client/auth_private.h"
#include "client/auth_subrequest.h"
#include "client/credential.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#define AUTH_REQUEST_MAGIC 0xa97e9e57u
#define AUTH_LOG_SECONDS   10
/* Those who are refused are closed: what that is to them goes out before the next ones hear of it. The others go
 * on to ask what they may see, and a question of many is one. */
#define AUTH_REFUSED_A_TURN  128
#define AUTH_ACCEPTED_A_TURN 2500
/* Passwords under way: a check takes the server some 20 ms, so that more would not be done in time. Logins take
 * no room from open sessions, whose rights are to be looked at again however many log in. */
#define AUTH_PASSWORDS_MAX       128
#define AUTH_PASSWORDS_AGAIN_MAX 64
/* Each in turn: one that nobody waits for any more is not to hold up the next. */
#define AUTH_PASSWORD_SESSION_SQL                                                                            \
	"SELECT set_config('lock_timeout', '1s', false), set_config('statement_timeout', $1, false), "       \
	"set_config('jit', 'off', false)"

enum auth_way { AUTH_TOKEN, AUTH_PASSWORD, AUTH_NAME, AUTH_APPLICATION };

struct auth_request {
	unsigned magic;
	TAILQ_ENTRY(auth_request) entry;
	struct auth_lookup *lookup;
	auth_done done;
	void *arg;
};

struct auth_lookup {
	UT_hash_handle hh;              /* while it can be joined */
	TAILQ_ENTRY(auth_lookup) entry; /* while it has not been sent */
	enum auth_way way;
	struct credential credential;
	char *key; /* the same for equal ones; holds secrets */
	size_t key_len;
	bool open;
	bool again;   /* all who ask have a session already */
	bool counted; /* it is one of the passwords under way */
	struct pg_query *query;
	struct auth_subrequest *subrequest;
	struct auth_request *inner; /* APPLICATION: whose is the name? */
	TAILQ_HEAD(, auth_request) requests;
	struct loop_task tell; /* the answer */
	enum auth_verdict verdict;
	struct auth_user user; /* its texts are ours */
};

static struct {
	struct pg_query_pool *pool;
	const char *conninfo;
	struct pg_query_pool *passwords; /* NULL before the first one */
	size_t password_count[2];        /* of logins, of sessions */
	struct auth_lookup *open;
	struct auth_lookup *latest; /* of these, who was joined last; NULL: none */
	TAILQ_HEAD(auth_unsent, auth_lookup) unsent;
	struct loop_task send;
} auth;

static void auth_lookup_on_named(void *arg, enum auth_verdict verdict, const struct auth_user *user);

struct pg_query_pool *
auth_pool(void)
{
	return auth.pool;
}

void
auth_report_failure(const char *what, const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	if (log_limit_pass(&limit, AUTH_LOG_SECONDS, &more))
		log_warning(
		    "query", "could not ask the database %s: %s (%lu more such failures)", what, error, more);
}

/* ---- life of a lookup ---- */

static void
auth_lookup_shut(struct auth_lookup *l)
{
	if (l->open)
		HASH_DEL(auth.open, l);
	l->open = false;
	if (auth.latest == l)
		auth.latest = NULL;
}

/* Nothing of it is under way any more. */
static void
auth_lookup_settle(struct auth_lookup *l)
{
	auth_lookup_shut(l);
	auth.password_count[l->again] -= l->counted;
	l->counted = false;
	l->query = NULL;
	l->subrequest = NULL;
	l->inner = NULL;
}

static void
auth_lookup_free(struct auth_lookup *l)
{
	assert(TAILQ_EMPTY(&l->requests));
	auth_lookup_settle(l);
	credential_clear(&l->credential);
	free((char *)(uintptr_t)l->user.name);
	OPENSSL_cleanse(l->key, l->key_len);
	free(l->key);
	free(l);
}

static void
auth_lookup_abandon(struct auth_lookup *l)
{
	if (l->query != NULL)
		pg_query_cancel(l->query);
	if (l->subrequest != NULL)
		auth_subrequest_cancel(l->subrequest);
	if (l->inner != NULL)
		auth_cancel(l->inner);
	auth_lookup_free(l);
}

/* Releases the lookup when all have been told. */
static void
auth_lookup_tell(void *arg)
{
	struct auth_lookup *l = arg;
	int most = l->verdict == AUTH_ACCEPTED ? AUTH_ACCEPTED_A_TURN : AUTH_REFUSED_A_TURN;
	struct auth_request *request;

	for (int n = 0; n < most && (request = TAILQ_FIRST(&l->requests)) != NULL; n++) {
		TAILQ_REMOVE(&l->requests, request, entry);
		request->done(request->arg, l->verdict, l->verdict == AUTH_ACCEPTED ? &l->user : NULL);
		request->magic = 0;
		free(request);
	}
	if (TAILQ_EMPTY(&l->requests))
		auth_lookup_free(l);
	else
		loop_task_queue(&l->tell);
}

/* Ends it, now or in turns to come. */
static void
auth_lookup_answer(struct auth_lookup *l, enum auth_verdict verdict, const struct auth_user *user)
{
	auth_lookup_settle(l);
	l->verdict = verdict;
	if (user != NULL) {
		l->user = *user;
		l->user.name = mem_strdup(user->name);
		l->user.application_name = l->way == AUTH_APPLICATION ? l->credential.name : NULL;
	}
	auth_lookup_tell(l);
}

/* ---- the database ---- */

/* What a client sent as its token may be no text at all; that is for the server to say. */
static bool
auth_is_no_text(enum pg_query_status status, const PGresult *result)
{
	static const char *const states[] = {"22021", "22P02", "22P05"};

	for (size_t i = 0; status == PG_QUERY_ERROR && i < ARRAY_LENGTH(states); i++)
		if (strcmp(pg_result_sqlstate(result), states[i]) == 0)
			return true;
	return false;
}

static int64_t
auth_number(const PGresult *result, int column, int64_t otherwise)
{
	const char *text = pg_result_text(result, 0, column);

	return text != NULL ? strtoimax(text, NULL, 10) : otherwise;
}

static void
auth_lookup_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct auth_lookup *l = arg;
	struct auth_user user = {0};

	if (auth_is_no_text(status, result)) {
		auth_lookup_answer(l, AUTH_REFUSED, NULL);
	} else if (status != PG_QUERY_OK) {
		auth_report_failure("who a client is", error);
		auth_lookup_answer(l, AUTH_UNAVAILABLE, NULL);
	} else if (pg_result_rows(result) == 0 || pg_result_text(result, 0, 0) == NULL) {
		auth_lookup_answer(l, AUTH_REFUSED, NULL);
	} else {
		user.id = auth_number(result, 0, 0);
		user.name = pg_result_text(result, 0, 1) != NULL ? pg_result_text(result, 0, 1) : "";
		user.token_id = auth_number(result, 2, 0);
		user.expires_ms = auth_number(result, 3, -1);
		auth_lookup_answer(l, AUTH_ACCEPTED, &user);
	}
}

static void
auth_lookup_query(struct auth_lookup *l, struct pg_query_pool *pool, const char *function,
    const char *const *params, int count)
{
	char *sql = mem_printf(
	    "SELECT user_id::bigint, user_name::text, token_id::bigint, "
	    "greatest(0, least(1e15, ceil(1000 * extract(epoch FROM expires - clock_timestamp()))))::bigint "
	    "FROM %s($1::text%s)",
	    function, count > 1 ? ", $2::text" : "");

	l->query =
	    pg_query_ask(pool, sql, count, params, (long)conf.query_timeout_ms, auth_lookup_on_answer, l);
	free(sql);
}

/* ---- passwords ---- */

static void
auth_on_session_set(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	if (status == PG_QUERY_ERROR)
		log_warning("password", "could not set time-outs: %s", error);
}

static void
auth_on_passwords_state(void *arg, bool up)
{
	char *timeout;

	if (!up)
		return;
	timeout = mem_printf("%" PRId64, conf.query_timeout_ms);
	(void)pg_query_send(auth.passwords, AUTH_PASSWORD_SESSION_SQL, 1, (const char *const[]){timeout}, 0,
	    auth_on_session_set, NULL);
	free(timeout);
}

/* A session of their own: what is slow must not hold up the others' questions. */
static void
auth_lookup_ask_password(struct auth_lookup *l)
{
	const char *params[] = {l->credential.name, l->credential.token};

	if (auth.password_count[l->again] >= (l->again ? AUTH_PASSWORDS_AGAIN_MAX : AUTH_PASSWORDS_MAX)) {
		auth_report_failure("who a client is", "too many passwords are being checked");
		auth_lookup_answer(l, AUTH_UNAVAILABLE, NULL);
		return;
	}
	if (auth.passwords == NULL)
		auth.passwords = pg_query_pool_new("password", auth.conninfo, auth_on_passwords_state, NULL);
	l->counted = true;
	auth.password_count[l->again]++;
	metrics[METRIC_PASSWORDS_CHECKED_TOTAL]++;
	auth_lookup_query(l, auth.passwords, conf.authenticate_password_function, params, 2);
}

/* ---- the web application ---- */

static void
auth_lookup_on_application(void *arg, enum auth_verdict verdict, const char *name)
{
	struct auth_lookup *l = arg;
	struct credential named = {.kind = CREDENTIAL_APPLICATION, .name = (char *)(uintptr_t)name};

	l->subrequest = NULL;
	if (verdict != AUTH_ACCEPTED) {
		auth_lookup_answer(l, verdict, NULL);
		return;
	}
	auth_lookup_shut(l);
	credential_set_name(&l->credential, name);
	l->inner = auth_authenticate_again(&named, false, auth_lookup_on_named, l);
}

/* Those who are asked about again must not all be so at the same time. */
static int64_t
auth_application_expires_ms(void)
{
	return conf.auth_url_recheck_ms - conf.auth_url_recheck_ms / 5 * (random() % 100) / 100;
}

static void
auth_lookup_on_named(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct auth_lookup *l = arg;
	int64_t expires_ms = auth_application_expires_ms();
	struct auth_user known;

	l->inner = NULL;
	if (verdict != AUTH_ACCEPTED) {
		auth_lookup_answer(l, verdict, NULL);
		return;
	}
	known = *user;
	if (known.expires_ms < 0 || known.expires_ms > expires_ms)
		known.expires_ms = expires_ms;
	auth_lookup_answer(l, AUTH_ACCEPTED, &known);
}

/* ---- asking ---- */

/* The lookup may have ended when this returns. */
static void
auth_lookup_send(struct auth_lookup *l)
{
	const struct credential *c = &l->credential;

	if (l->way == AUTH_APPLICATION) {
		l->subrequest = auth_subrequest_ask(c, auth_lookup_on_application, l);
		return;
	}
	auth_lookup_shut(l);
	if (l->way == AUTH_PASSWORD)
		auth_lookup_ask_password(l);
	else if (l->way == AUTH_NAME)
		auth_lookup_query(
		    l, auth.pool, conf.authenticate_name_function, (const char *const[]){c->name}, 1);
	else
		auth_lookup_query(
		    l, auth.pool, conf.authenticate_function, (const char *const[]){c->token}, 1);
}

/* At the end of the turn. */
static void
auth_send(void *arg)
{
	struct auth_lookup *l;

	while ((l = TAILQ_FIRST(&auth.unsent)) != NULL) {
		TAILQ_REMOVE(&auth.unsent, l, entry);
		if (TAILQ_EMPTY(&l->requests))
			auth_lookup_free(l);
		else
			auth_lookup_send(l);
	}
}

/* Lengths keep the parts apart. */
static char *
auth_key(enum auth_way way, const struct credential *c)
{
	const char *name = way == AUTH_NAME || way == AUTH_PASSWORD ? c->name : "";
	const char *token = way != AUTH_NAME ? c->token : "";
	const char *context = way == AUTH_APPLICATION && c->context != NULL ? c->context : "";

	return mem_printf("%d %zu %zu %s%s%s", (int)way, strlen(name), strlen(token), name, token, context);
}

static struct auth_lookup *
auth_lookup_new(enum auth_way way, const struct credential *c, char *key)
{
	struct auth_lookup *l = mem_zalloc(sizeof(*l));

	l->way = way;
	credential_copy(&l->credential, c);
	l->key = key;
	l->key_len = strlen(key);
	l->open = true;
	l->again = true;
	TAILQ_INIT(&l->requests);
	loop_task_init(&l->tell, auth_lookup_tell, l);
	HASH_ADD_KEYPTR(hh, auth.open, l->key, l->key_len, l);
	TAILQ_INSERT_TAIL(&auth.unsent, l, entry);
	loop_task_queue(&auth.send);
	return l;
}

static bool
auth_text_is(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Thousands of sessions of one token ask one after the other. */
static bool
auth_lookup_is_for(const struct auth_lookup *l, enum auth_way way, const struct credential *c)
{
	return l->way == way && auth_text_is(l->credential.token, c->token) &&
	       auth_text_is(l->credential.name, c->name) && auth_text_is(l->credential.context, c->context);
}

static struct auth_lookup *
auth_lookup_for(enum auth_way way, const struct credential *c)
{
	char *key;
	size_t len;
	struct auth_lookup *l;

	if (auth.latest != NULL && auth_lookup_is_for(auth.latest, way, c))
		return auth.latest;
	key = auth_key(way, c);
	len = strlen(key);
	HASH_FIND(hh, auth.open, key, len, l);
	if (l == NULL) {
		l = auth_lookup_new(way, c, key);
	} else {
		OPENSSL_cleanse(key, len);
		free(key);
	}
	auth.latest = l;
	return l;
}

static struct auth_request *
auth_ask(enum auth_way way, const struct credential *c, bool again, auth_done done, void *arg)
{
	struct auth_request *request = mem_zalloc(sizeof(*request));
	struct auth_lookup *l = auth_lookup_for(way, c);

	request->magic = AUTH_REQUEST_MAGIC;
	request->lookup = l;
	request->done = done;
	request->arg = arg;
	l->again = l->again && again;
	TAILQ_INSERT_TAIL(&l->requests, request, entry);
	return request;
}

static enum auth_way
auth_way_of(const struct credential *c)
{
	switch (c->kind) {
	case CREDENTIAL_PASSWORD:
		return AUTH_PASSWORD;
	case CREDENTIAL_APPLICATION:
		return AUTH_APPLICATION;
	default:
		return AUTH_TOKEN;
	}
}

struct auth_request *
auth_authenticate(const struct credential *c, auth_done done, void *arg)
{
	assert(c->token != NULL);
	return auth_ask(auth_way_of(c), c, false, done, arg);
}

struct auth_request *
auth_authenticate_again(const struct credential *c, bool expired, auth_done done, void *arg)
{
	enum auth_way way = auth_way_of(c);

	if (way == AUTH_APPLICATION && !expired && c->name != NULL)
		way = AUTH_NAME;
	return auth_ask(way, c, true, done, arg);
}

void
auth_cancel(struct auth_request *request)
{
	struct auth_lookup *l = request->lookup;

	assert(request->magic == AUTH_REQUEST_MAGIC);
	TAILQ_REMOVE(&l->requests, request, entry);
	request->magic = 0;
	free(request);
	if (TAILQ_EMPTY(&l->requests) && (l->query != NULL || l->subrequest != NULL || l->inner != NULL))
		auth_lookup_abandon(l);
}

/* ---- a job's status ---- */

struct pg_query *
auth_job_status(const char *const *patterns, size_t count, pg_query_done done, void *arg)
{
	char *array = pg_query_text_array(patterns, count);
	const char *params[] = {array};
	struct pg_query *query = pg_query_ask(auth.pool, "SELECT pgrelay.job_status($1::text[])", 1, params,
	    (long)conf.query_timeout_ms, done, arg);

	free(array);
	return query;
}

/* ---- life ---- */

void
auth_init(struct pg_query_pool *pool, const char *conninfo)
{
	memset(&auth, 0, sizeof(auth));
	auth.pool = pool;
	auth.conninfo = conninfo;
	TAILQ_INIT(&auth.unsent);
	loop_task_init(&auth.send, auth_send, NULL);
	auth_rights_init();
	auth_subrequest_init();
}

void
auth_free(void)
{
	struct auth_lookup *l;

	loop_task_cancel(&auth.send);
	while ((l = TAILQ_FIRST(&auth.unsent)) != NULL) {
		TAILQ_REMOVE(&auth.unsent, l, entry);
		auth_lookup_free(l);
	}
	auth_rights_free();
	pg_query_pool_free(auth.passwords);
	auth.passwords = NULL;
	auth_subrequest_free();
}
