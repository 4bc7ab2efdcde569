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

#define AUTH_LOG_SECONDS   10
#define AUTH_SQLSTATE_DATA "22" /* class "data exception": what came is no text, so no token */

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

static void
auth_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	struct auth_request *request = arg;
	const char *user_id;

	if (status == PG_QUERY_ERROR && strncmp(pg_result_sqlstate(result), AUTH_SQLSTATE_DATA, 2) == 0) {
		request->done(request->arg, AUTH_REFUSED, 0, NULL);
	} else if (status != PG_QUERY_OK) {
		auth_report_failure("who a client is", error);
		request->done(request->arg, AUTH_UNAVAILABLE, 0, NULL);
	} else if (pg_result_rows(result) == 0 || (user_id = pg_result_text(result, 0, 0)) == NULL) {
		request->done(request->arg, AUTH_REFUSED, 0, NULL);
	} else {
		request->done(
		    request->arg, AUTH_ACCEPTED, strtoimax(user_id, NULL, 10), pg_result_text(result, 0, 1));
	}
	free(request);
}

struct auth_request *
auth_authenticate(const char *token, auth_done done, void *arg)
{
	struct auth_request *request = mem_zalloc(sizeof(*request));
	char *sql = mem_printf("SELECT user_id, user_name FROM %s($1::text)", conf.authenticate_function);
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
