/*
 * Asking the database who a client is and what it may see, by the functions that the settings
 * authenticate_function and authorize_function name (docs/schema.md, "Users, tokens, grants").
 */
#ifndef PGRELAY_CLIENT_AUTH_H
#define PGRELAY_CLIENT_AUTH_H

#include <stddef.h>
#include <stdint.h>

#include "pg/pg_query.h"

/* Where they are asked; before the first question. */
void auth_init(struct pg_query_pool *pool);

enum auth_verdict { AUTH_ACCEPTED, AUTH_REFUSED, AUTH_UNAVAILABLE };
struct auth_user {
	int64_t id;
	const char *name;
	int64_t expires_ms; /* from now until the token expires; -1: never */
};
struct auth_request;
/* user is valid during the call; NULL unless accepted. */
typedef void (*auth_done)(void *arg, enum auth_verdict verdict, const struct auth_user *user);

/* done is called once, never from inside, unless the request is cancelled before; then the request is gone.
 */
struct auth_request *auth_authenticate(const char *token, auth_done done, void *arg);
void auth_cancel(struct auth_request *request);

/* Rows of (requested, allowed), both patterns in their written form; cancelled by pg_query_cancel(). */
struct pg_query *auth_authorize(
    int64_t user_id, const char *const *patterns, size_t count, pg_query_done done, void *arg);

/* Rows of one column: the present status messages of the jobs that these patterns name. */
struct pg_query *auth_job_status(const char *const *patterns, size_t count, pg_query_done done, void *arg);

/* Logs a failure, at most once in ten seconds. */
void auth_report_failure(const char *what, const char *error);

#endif
