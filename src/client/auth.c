/*
 * Asking who a client is.
 *
 * A question is an auth_lookup, and those who have asked it are its requests. Until it goes out, equal ones
 * join it; one to a web application until that has answered. So no answer of the database is older than its
 * question: a token may have been revoked in between. A lookup without requests is released. It tells its
 * answer to so many requests a turn.
 *
 * Tokens and names go out many at a time (auth_queue). Whose a token is may be known already (auth_cache),
 * but for those who ask again: they want to know whose it is now.
 */
#include "config.h"
#include "client/auth.h"
#include "client/auth_cache.h"
#include "client/auth_private.h"
#include "client/auth_queue.h"
#include "client/auth_subrequest.h"
#include "client/credential.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#define AUTH_REQUEST_MAGIC 0xa97e9e57u
#define AUTH_LOG_SECONDS   10
/* Those who are refused are closed: what that is to them goes out before the next ones hear of it. The others
 * go on to ask what they may see, and a question of many is one. */
#define AUTH_REFUSED_A_TURN  128
#define AUTH_ACCEPTED_A_TURN 2500
/* Passwords under way: a check takes the server some 7 ms; many more would not be done in time. Logins take
 * no room from open sessions, whose rights are to be looked at again however many log in. */
#define AUTH_PASSWORDS_MAX       128
#define AUTH_PASSWORDS_AGAIN_MAX 64
#define AUTH_PASSWORD_LOCK_MS    1000

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
	TAILQ_ENTRY(auth_lookup) entry; /* until the end of the turn */
	enum auth_way way;
	struct credential credential;
	uint8_t digest[SHA256_DIGEST_LENGTH]; /* the same for equal ones */
	bool open;
	bool again;              /* all who ask have a session already */
	bool anew;               /* one of them has */
	bool counted;            /* it is one of the passwords under way */
	struct auth_place place; /* TOKEN, NAME */
	struct pg_query *query;  /* PASSWORD */
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
	struct auth_queue tokens, names;
	EVP_MD_CTX *digest;
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
	free(l);
}

static bool
auth_lookup_is_under_way(const struct auth_lookup *l)
{
	return l->place.waits || l->place.query != NULL || l->query != NULL || l->subrequest != NULL ||
	       l->inner != NULL;
}

static void
auth_lookup_abandon(struct auth_lookup *l)
{
	auth_queue_leave(l->way == AUTH_NAME ? &auth.names : &auth.tokens, &l->place);
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

/* ---- what is known ---- */

struct auth_known {
	int64_t id, token_id;
	int64_t expires_ms; /* by the loop's clock; -1: never */
	char name[];
};

/* The first octet tells the sorts of keys apart. */
#define AUTH_KNOWN_KEY (SHA256_DIGEST_LENGTH + 1)

static struct slice
auth_lookup_key(const struct auth_lookup *l, char out[AUTH_KNOWN_KEY])
{
	out[0] = 't';
	memcpy(out + 1, l->digest, sizeof(l->digest));
	return (struct slice){out, AUTH_KNOWN_KEY};
}

static void
auth_lookup_keep(const struct auth_lookup *l, const struct auth_user *user)
{
	size_t size = sizeof(struct auth_known) + strlen(user->name) + 1;
	int64_t now = loop_now_ms();
	struct auth_known *known;
	char key[AUTH_KNOWN_KEY];

	if (l->way != AUTH_TOKEN)
		return;
	known = mem_alloc(size);
	*known = (struct auth_known){
	    user->id, user->token_id, user->expires_ms >= 0 ? now + user->expires_ms : -1};
	memcpy(known->name, user->name, strlen(user->name) + 1);
	auth_cache_keep(auth_lookup_key(l, key), user->id, (struct slice){(const char *)known, size},
	    user->expires_ms, user->asked, now);
	free(known);
}

/* True when it has been answered. */
static bool
auth_lookup_recall(struct auth_lookup *l)
{
	int64_t now = loop_now_ms();
	const struct slice *answer;
	struct auth_known known;
	struct auth_user user = {.asked = auth_cache_version()};
	char key[AUTH_KNOWN_KEY];

	if (l->way != AUTH_TOKEN || l->anew)
		return false;
	answer = auth_cache_find(auth_lookup_key(l, key), now);
	if (answer == NULL) {
		metrics[METRIC_AUTH_CACHE_MISSES_TOTAL]++;
		return false;
	}
	metrics[METRIC_AUTH_CACHE_HITS_TOTAL]++;
	memcpy(&known, answer->ptr, sizeof(known)); /* it may lie anywhere */
	user.id = known.id;
	user.token_id = known.token_id;
	user.name = answer->ptr + sizeof(known);
	user.expires_ms = known.expires_ms >= 0 ? known.expires_ms - now : -1;
	auth_lookup_answer(l, AUTH_ACCEPTED, &user);
	return true;
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

#define AUTH_USER_COLUMNS                                                                                    \
	"a.user_id::bigint, a.user_name::text, a.token_id::bigint, "                                         \
	"greatest(0, least(1e15, ceil(1000 * extract(epoch FROM a.expires - clock_timestamp()))))::bigint"

static int64_t
auth_number(const PGresult *result, int row, int column, int64_t otherwise)
{
	const char *text = pg_result_text(result, row, column);

	return text != NULL ? strtoimax(text, NULL, 10) : otherwise;
}

/* Their columns begin with this one. */
static void
auth_lookup_take_rows(struct auth_lookup *l, const struct auth_rows *rows, int column, uint64_t asked)
{
	const PGresult *result = rows->result;
	int row = rows->first;
	struct auth_user user = {.asked = asked};

	if (auth_is_no_text(rows->status, result)) {
		auth_lookup_answer(l, AUTH_REFUSED, NULL);
	} else if (rows->status != PG_QUERY_OK) {
		auth_report_failure("who a client is", rows->error);
		auth_lookup_answer(l, AUTH_UNAVAILABLE, NULL);
	} else if (rows->count == 0 || pg_result_text(result, row, column) == NULL) {
		auth_lookup_answer(l, AUTH_REFUSED, NULL);
	} else {
		user.id = auth_number(result, row, column, 0);
		user.name = pg_result_text(result, row, column + 1);
		if (user.name == NULL)
			user.name = "";
		user.token_id = auth_number(result, row, column + 2, 0);
		user.expires_ms = auth_number(result, row, column + 3, -1);
		auth_lookup_keep(l, &user);
		auth_lookup_answer(l, AUTH_ACCEPTED, &user);
	}
}

/* ---- many at a time ---- */

static char *
auth_queue_sql(const char *function)
{
	return mem_printf("SELECT q.n, " AUTH_USER_COLUMNS
			  " FROM unnest($1::text[]) WITH ORDINALITY AS q (asked, n) "
			  "CROSS JOIN LATERAL %s(q.asked) AS a ORDER BY q.n",
	    function);
}

static char *
auth_tokens_sql(void)
{
	return auth_queue_sql(conf.authenticate_function);
}

static char *
auth_names_sql(void)
{
	return auth_queue_sql(conf.authenticate_name_function);
}

static struct auth_lookup *
auth_lookup_of(struct auth_place *place)
{
	return (struct auth_lookup *)((char *)place - offsetof(struct auth_lookup, place));
}

static const char *
auth_lookup_text(const struct auth_lookup *l)
{
	return l->way == AUTH_NAME ? l->credential.name : l->credential.token;
}

static void
auth_lookup_prepare(struct auth_place *place, const char *params[AUTH_QUEUE_PARAMS])
{
	struct auth_lookup *l = auth_lookup_of(place);

	auth_lookup_shut(l);
	params[0] = auth_lookup_text(l);
}

static void
auth_lookup_on_rows(struct auth_place *place, const struct auth_rows *rows)
{
	auth_lookup_take_rows(auth_lookup_of(place), rows, 1, place->asked);
}

static const struct auth_queue_ops auth_tokens_ops = {
    1, auth_tokens_sql, auth_lookup_prepare, auth_lookup_on_rows};
static const struct auth_queue_ops auth_names_ops = {
    1, auth_names_sql, auth_lookup_prepare, auth_lookup_on_rows};

/* ---- passwords ---- */

/* Each in turn: one that nobody waits for any more is not to hold up the next. */
void
auth_settings_changed(void)
{
	if (auth.passwords != NULL)
		pg_query_pool_set_timeouts(auth.passwords, conf.query_timeout_ms, AUTH_PASSWORD_LOCK_MS);
}

static void
auth_on_passwords_state(void *arg, bool up)
{
	if (up)
		auth_settings_changed();
}

static void
auth_lookup_on_password(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct auth_lookup *l = arg;
	struct auth_rows rows = {
	    status, result, 0, status == PG_QUERY_OK ? pg_result_rows(result) : 0, error};

	auth_lookup_take_rows(l, &rows, 0, l->place.asked);
}

/* One by one, and by a session of their own: what is slow must not hold up the others' questions. */
static void
auth_lookup_ask_password(struct auth_lookup *l)
{
	const char *params[] = {l->credential.name, l->credential.token};
	char *sql;

	if (auth.password_count[l->again] >= (l->again ? AUTH_PASSWORDS_AGAIN_MAX : AUTH_PASSWORDS_MAX)) {
		metrics[METRIC_PASSWORDS_CROWDED_TOTAL]++;
		auth_lookup_answer(l, AUTH_UNAVAILABLE, NULL);
		return;
	}
	if (auth.passwords == NULL)
		auth.passwords = pg_query_pool_new("password", auth.conninfo, auth_on_passwords_state, NULL);
	l->counted = true;
	auth.password_count[l->again]++;
	metrics[METRIC_PASSWORDS_CHECKED_TOTAL]++;
	l->place.asked = auth_cache_version();
	sql = mem_printf("SELECT " AUTH_USER_COLUMNS " FROM %s($1::text, $2::text) AS a",
	    conf.authenticate_password_function);
	l->query = pg_query_ask(
	    auth.passwords, sql, 2, params, (long)conf.query_timeout_ms, auth_lookup_on_password, l);
	free(sql);
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
	if (l->way == AUTH_PASSWORD) {
		auth_lookup_shut(l);
		auth_lookup_ask_password(l);
	} else if (!slice_is_utf8((struct slice){auth_lookup_text(l), strlen(auth_lookup_text(l))})) {
		auth_lookup_answer(l, AUTH_REFUSED, NULL); /* no text: nobody's */
	} else if (!auth_lookup_recall(l)) {
		auth_queue_enter(l->way == AUTH_NAME ? &auth.names : &auth.tokens, &l->place);
	}
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

static void
auth_digest_add(const char *text)
{
	/* with its end, which keeps the parts apart */
	if (EVP_DigestUpdate(auth.digest, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1) != 1)
		log_fatal("could not compute a digest");
}

static void
auth_digest(enum auth_way way, const struct credential *c, uint8_t out[SHA256_DIGEST_LENGTH])
{
	if (EVP_DigestInit_ex(auth.digest, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(auth.digest, &way, sizeof(way)) != 1)
		log_fatal("could not compute a digest");
	auth_digest_add(way == AUTH_NAME || way == AUTH_PASSWORD ? c->name : NULL);
	auth_digest_add(way != AUTH_NAME ? c->token : NULL);
	auth_digest_add(way == AUTH_APPLICATION ? c->context : NULL);
	if (EVP_DigestFinal_ex(auth.digest, out, NULL) != 1)
		log_fatal("could not compute a digest");
}

static struct auth_lookup *
auth_lookup_new(enum auth_way way, const struct credential *c, const uint8_t digest[SHA256_DIGEST_LENGTH])
{
	struct auth_lookup *l = mem_zalloc(sizeof(*l));

	l->way = way;
	credential_copy(&l->credential, c);
	memcpy(l->digest, digest, sizeof(l->digest));
	l->open = true;
	l->again = true;
	TAILQ_INIT(&l->requests);
	loop_task_init(&l->tell, auth_lookup_tell, l);
	HASH_ADD(hh, auth.open, digest, sizeof(l->digest), l);
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
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct auth_lookup *l;

	if (auth.latest != NULL && auth_lookup_is_for(auth.latest, way, c))
		return auth.latest;
	auth_digest(way, c, digest);
	HASH_FIND(hh, auth.open, digest, sizeof(digest), l);
	if (l == NULL)
		l = auth_lookup_new(way, c, digest);
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
	l->anew = l->anew || again;
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
	if (TAILQ_EMPTY(&l->requests) && auth_lookup_is_under_way(l))
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
	auth_queue_init(&auth.tokens, &auth_tokens_ops);
	auth_queue_init(&auth.names, &auth_names_ops);
	auth.digest = EVP_MD_CTX_new();
	if (auth.digest == NULL)
		log_fatal("out of memory");
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
	auth_queue_free(&auth.tokens);
	auth_queue_free(&auth.names);
	EVP_MD_CTX_free(auth.digest);
	auth_rights_free();
	pg_query_pool_free(auth.passwords);
	auth.passwords = NULL;
	auth_subrequest_free();
}
