/* Asking the database who a client is and what it may see. */
#include "config.h"
#include "client/auth.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUTH_LOG_SECONDS 10

struct auth_request {
	struct pg_query *query;
	auth_done done;
	void *arg;
};

static struct pg_query_pool *auth_pool;

void
auth_init(struct pg_query_pool *pool)
{
	auth_pool = pool;
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

static void
auth_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct auth_request *request = arg;
	struct auth_user user = {0, "", -1};

	if (auth_is_no_text(status, result)) {
		request->done(request->arg, AUTH_REFUSED, NULL);
	} else if (status != PG_QUERY_OK) {
		auth_report_failure("who a client is", error);
		request->done(request->arg, AUTH_UNAVAILABLE, NULL);
	} else if (pg_result_rows(result) == 0 || pg_result_text(result, 0, 0) == NULL) {
		request->done(request->arg, AUTH_REFUSED, NULL);
	} else {
		user.id = strtoimax(pg_result_text(result, 0, 0), NULL, 10);
		if (pg_result_text(result, 0, 1) != NULL)
			user.name = pg_result_text(result, 0, 1);
		if (pg_result_text(result, 0, 2) != NULL)
			user.expires_ms = strtoimax(pg_result_text(result, 0, 2), NULL, 10);
		request->done(request->arg, AUTH_ACCEPTED, &user);
	}
	free(request);
}

struct auth_request *
auth_authenticate(const char *token, auth_done done, void *arg)
{
	struct auth_request *request = mem_zalloc(sizeof(*request));
	char *sql = mem_printf(
	    "SELECT user_id::bigint, user_name::text, "
	    "greatest(0, least(1e15, ceil(1000 * extract(epoch FROM expires - clock_timestamp()))))::bigint "
	    "FROM %s($1::text)",
	    conf.authenticate_function);
	const char *params[] = {token};

	request->done = done;
	request->arg = arg;
	request->query =
	    pg_query_ask(auth_pool, sql, 1, params, (long)conf.query_timeout_ms, auth_on_answer, request);
	free(sql);
	return request;
}

void
auth_cancel(struct auth_request *request)
{
	pg_query_cancel(request->query);
	free(request);
}

struct pg_query *
auth_authorize(int64_t user_id, const char *const *patterns, size_t count, pg_query_done done, void *arg)
{
	char *sql =
	    mem_printf("SELECT requested, allowed FROM %s($1::bigint, $2::text[])", conf.authorize_function);
	char *array = pg_query_text_array(patterns, count);
	char id[24];
	const char *params[] = {id, array};
	struct pg_query *query;

	snprintf(id, sizeof(id), "%" PRId64, user_id);
	query = pg_query_ask(auth_pool, sql, 2, params, (long)conf.query_timeout_ms, done, arg);
	free(array);
	free(sql);
	return query;
}

struct pg_query *
auth_job_status(const char *const *patterns, size_t count, pg_query_done done, void *arg)
{
	char *array = pg_query_text_array(patterns, count);
	const char *params[] = {array};
	struct pg_query *query = pg_query_ask(auth_pool, "SELECT pgrelay.job_status($1::text[])", 1, params,
	    (long)conf.query_timeout_ms, done, arg);

	free(array);
	return query;
}
