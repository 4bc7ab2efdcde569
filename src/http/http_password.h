/*
 * Names with passwords that are being checked, so many of one client address at a time (login_limit.h). A
 * check counts until it has ended, also when its client has hung up: PostgreSQL goes on with it.
 */
#ifndef PGRELAY_HTTP_HTTP_PASSWORD_H
#define PGRELAY_HTTP_HTTP_PASSWORD_H

#include "client/auth.h"

struct credential;
struct evhttp_connection;
struct evkeyvalq;
struct http_password;

/* What a client is told when there is no room, with 429. */
#define HTTP_PASSWORD_STATUS 429
#define HTTP_PASSWORD_REASON "Too Many Requests"
#define HTTP_PASSWORD_LINE   "too many passwords from this address are being checked; try again later"

/*
 * Like auth_authenticate(), for a credential with a password, of a request that came over this connection
 * with these headers. NULL: there is no room; done is not called.
 */
struct http_password *http_password_check(struct evhttp_connection *evcon, const struct evkeyvalq *headers,
    const struct credential *credential, auth_done done, void *arg);
/* Nobody waits for it any more. */
void http_password_cancel(struct http_password *password);
/* The node is ending. */
void http_password_free_all(void);

#endif
