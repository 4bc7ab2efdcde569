/*
 * Asking who a client is and what it may see: the database, by the functions that the settings
 * authenticate_function, authenticate_password_function, authenticate_name_function and authorize_function name
 * (docs/schema.md, "Users, tokens, grants"), and the web application behind auth_url.
 */
#ifndef PGRELAY_CLIENT_AUTH_H
#define PGRELAY_CLIENT_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pg/pg_query.h"

struct credential;

/* Where they are asked; before the first question. conninfo, for sessions of its own, stays the caller's. */
void auth_init(struct pg_query_pool *pool, const char *conninfo);
/* No question is under way any more. */
void auth_free(void);
/* The settings have been read anew. */
void auth_settings_changed(void);

enum auth_verdict { AUTH_ACCEPTED, AUTH_REFUSED, AUTH_UNAVAILABLE };
struct auth_user {
	int64_t id;
	const char *name;
	int64_t token_id;   /* 0: none */
	int64_t expires_ms; /* from now until it must be asked again; -1: never */
	uint64_t asked;     /* the version of auth_cache.h then; a session whose user has changed since
					 is to be looked at again */
	const char *application_name; /* as whom the web application knows the user; NULL: it was not asked */
};
struct auth_request;
/* user is valid during the call; NULL unless accepted. */
typedef void (*auth_done)(void *arg, enum auth_verdict verdict, const struct auth_user *user);

/*
 * Whose is this credential (copied)? done is called once, never from inside, unless the request is cancelled
 * before; then the request is gone. Equal questions that have not gone out become one; of a web application,
 * equal ones under way. What the database said of a token a few seconds ago may be the answer
 * (authenticate_cache).
 */
struct auth_request *auth_authenticate(const struct credential *credential, auth_done done, void *arg);
/*
 * The same for an open session; nothing is answered from memory. Where the database knows all that may have
 * changed, a web application is not asked: its answer is good until it expires. Gives way to those who are
 * logging in.
 */
struct auth_request *auth_authenticate_again(
    const struct credential *credential, bool expired, auth_done done, void *arg);
void auth_cancel(struct auth_request *request);

/* What a user may see of what was asked for; patterns in their written form. */
struct auth_right {
	const char *requested, *allowed;
};
struct auth_answer {
	enum pg_query_status status;
	const struct auth_right *rights; /* of this question's patterns */
	size_t count;
	const char *error; /* one line; "" with PG_QUERY_OK */
	/* More rights than a session may hold, auth_rights_max(). With PG_QUERY_OK they are there all the
	 * same. */
	bool too_many;
};
size_t auth_rights_max(void);
struct auth_question;
/* The answer is valid during the call. */
typedef void (*auth_rights_done)(void *arg, const struct auth_answer *answer);

/*
 * What may the user see of these patterns (copied)? done is called once, never from inside, unless the question
 * is cancelled before; then the question is gone. Questions about one user that are asked in the same turn are
 * put as one, at the turn's end, and those about several go out together. What the database said a few seconds
 * ago may be the answer, unless the user's access has changed since.
 */
struct auth_question *auth_authorize(
    int64_t user_id, const char *const *patterns, size_t count, auth_rights_done done, void *arg);
/* The same: what may they publish? */
struct auth_question *auth_authorize_publish(
    int64_t user_id, const char *const *patterns, size_t count, auth_rights_done done, void *arg);
void auth_question_cancel(struct auth_question *question);

/* Rows of one column: the present status messages of the jobs that these patterns name. */
struct pg_query *auth_job_status(const char *const *patterns, size_t count, pg_query_done done, void *arg);

/* A new token of the user: a row of (token_id, token). It ends with its parent, when that is not 0. Cancelled
 * by pg_query_cancel(). */
struct pg_query *auth_issue_token(
    int64_t user_id, int64_t ttl_s, int64_t parent_id, pg_query_done done, void *arg);

/* Logs a failure, at most once in ten seconds. */
void auth_report_failure(const char *what, const char *error);

#endif
