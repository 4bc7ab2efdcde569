/* What a client brings to prove who it is (docs/protocol.md, section 4.2), and which pages may use a
 * browser's cookies. Credentials never go to the log. */
#ifndef PGRELAY_CLIENT_CREDENTIAL_H
#define PGRELAY_CLIENT_CREDENTIAL_H

#include <stdbool.h>

enum credential_kind {
	CREDENTIAL_NONE,
	CREDENTIAL_BEARER,
	CREDENTIAL_QUERY,
	CREDENTIAL_COOKIE,         /* token=... */
	CREDENTIAL_BROWSER_SESSION /* awx_sessionid=...; csrftoken=... */
};

struct credential {
	enum credential_kind kind;
	char *token; /* NULL with CREDENTIAL_NONE */
	char *csrf;  /* a browser session's; NULL when it has none */
};

/* The first one present of: a Bearer token in the Authorization header, token from the URL, Cookie header.
 * Each may be NULL. Clear it with credential_clear(). */
void credential_find(
    struct credential *c, const char *authorization, const char *query_token, const char *cookie);
/* Wipes and frees. */
void credential_clear(struct credential *c);

/* Sent by a browser whatever page opened the connection? */
bool credential_is_ambient(const struct credential *c);

/* Is origin (an Origin header) that of host (the Host header), or in allowed (separated by commas; * is any)?
 * NULL origin: no browser, yes. */
bool credential_origin_is_allowed(const char *origin, const char *host, const char *allowed);

/* Does a browser session's message carry its csrf token (xrftoken)? Always true for other kinds. Constant
 * time. */
bool credential_csrf_matches(const struct credential *c, const char *xrftoken);

#endif
