/* What a client brings to prove who it is (docs/protocol.md, section 4.2; docs/drp.md, section 1), and which pages
 * may use a browser's cookies. Credentials never go to the log. */
#ifndef PGRELAY_CLIENT_CREDENTIAL_H
#define PGRELAY_CLIENT_CREDENTIAL_H

#include <stdbool.h>

enum credential_kind {
	CREDENTIAL_NONE,
	CREDENTIAL_MALFORMED, /* there is one, but what it says is not understood */
	CREDENTIAL_BEARER,
	CREDENTIAL_QUERY,
	CREDENTIAL_PASSWORD,        /* with a name */
	CREDENTIAL_COOKIE,          /* token=... */
	CREDENTIAL_BROWSER_SESSION, /* awx_sessionid=...; csrftoken=... */
	CREDENTIAL_APPLICATION      /* cookies that the web application behind auth_url knows */
};

struct credential {
	enum credential_kind kind;
	char *token;   /* or the password, or all cookies; NULL with NONE and MALFORMED */
	char *csrf;    /* a browser session's; NULL when it has none */
	char *name;    /* PASSWORD; APPLICATION: as whom it is known there, NULL before that is known */
	char *context; /* APPLICATION: what else is told, lines "NAME: VALUE\n" */
};

/* Where one may be; each text may be NULL. */
struct credential_source {
	const char *authorization, *query_token, *cookie;
	bool drp;         /* names with passwords are taken */
	bool application; /* cookies are for the web application, whatever they are called */
};

/* The first one present of: the Authorization header, token from the URL, Cookie header. Clear it with
 * credential_clear(). */
void credential_find(struct credential *c, const struct credential_source *source);
/* Wipes and frees. */
void credential_clear(struct credential *c);
void credential_copy(struct credential *to, const struct credential *from);
/* With an application: as whom it is known there. */
void credential_set_name(struct credential *c, const char *name);

/* Sent by a browser whatever page opened the connection? */
bool credential_is_ambient(const struct credential *c);

/* Is origin (an Origin header) that of host (the Host header), or in allowed (separated by commas; * is any)?
 * NULL origin: no browser, yes. */
bool credential_origin_is_allowed(const char *origin, const char *host, const char *allowed);

/* Does a browser session's message carry its csrf token (xrftoken)? Always true for other kinds. Constant
 * time. */
bool credential_csrf_matches(const struct credential *c, const char *xrftoken);

#endif
