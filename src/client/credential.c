/* Finding a credential in a request. */
#include "config.h"
#include "client/credential.h"
#include "core/mem.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CREDENTIAL_SPACE " \t"

/* The value of a cookie, without the double quotes that RFC 6265 allows around it; NULL when it is not there.
 * The caller releases it. */
static char *
credential_cookie(const char *cookies, const char *name)
{
	size_t name_len = strlen(name);

	for (const char *p = cookies; p != NULL; p = strchr(p, ';')) {
		const char *value;
		size_t len;

		p += strspn(p, CREDENTIAL_SPACE ";");
		if (strncmp(p, name, name_len) != 0 || p[name_len] != '=')
			continue;
		value = p + name_len + 1;
		len = strcspn(value, ";");
		while (len > 0 && strchr(CREDENTIAL_SPACE, value[len - 1]) != NULL)
			len--;
		if (len >= 2 && value[0] == '"' && value[len - 1] == '"')
			value++, len -= 2;
		return mem_strndup(value, len);
	}
	return NULL;
}

static void
credential_from_authorization(struct credential *c, const char *header)
{
	static const char scheme[] = "Bearer ";

	if (strncasecmp(header, scheme, sizeof(scheme) - 1) != 0)
		return;
	header += sizeof(scheme) - 1;
	header += strspn(header, CREDENTIAL_SPACE);
	c->kind = CREDENTIAL_BEARER;
	c->token = mem_strdup(header);
}

static void
credential_from_cookies(struct credential *c, const char *cookies)
{
	if ((c->token = credential_cookie(cookies, "token")) != NULL) {
		c->kind = CREDENTIAL_COOKIE;
	} else if ((c->token = credential_cookie(cookies, "awx_sessionid")) != NULL) {
		c->kind = CREDENTIAL_BROWSER_SESSION;
		c->csrf = credential_cookie(cookies, "csrftoken");
	}
}

void
credential_find(struct credential *c, const char *authorization, const char *query_token, const char *cookie)
{
	*c = (struct credential){CREDENTIAL_NONE, NULL, NULL};
	if (authorization != NULL)
		credential_from_authorization(c, authorization);
	if (c->kind != CREDENTIAL_NONE)
		return;
	if (query_token != NULL) {
		c->kind = CREDENTIAL_QUERY;
		c->token = mem_strdup(query_token);
	} else if (cookie != NULL) {
		credential_from_cookies(c, cookie);
	}
}

static void
credential_wipe(char **secret)
{
	if (*secret != NULL)
		OPENSSL_cleanse(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

void
credential_clear(struct credential *c)
{
	credential_wipe(&c->token);
	credential_wipe(&c->csrf);
	c->kind = CREDENTIAL_NONE;
}

bool
credential_is_ambient(const struct credential *c)
{
	return c->kind == CREDENTIAL_COOKIE || c->kind == CREDENTIAL_BROWSER_SESSION;
}

/* scheme://host[:port] of the page against the host[:port] it connected to; a scheme's default port may be
 * left out. */
static bool
credential_origin_is_host(const char *origin, const char *host)
{
	const char *authority = strstr(origin, "://");
	size_t len;

	if (authority == NULL || host == NULL ||
	    (strncasecmp(origin, "http://", 7) != 0 && strncasecmp(origin, "https://", 8) != 0))
		return false;
	authority += 3;
	len = strlen(authority);
	if (strcasecmp(authority, host) == 0)
		return true;
	return strncasecmp(authority, host, len) == 0 &&
	       ((strncasecmp(origin, "http://", 7) == 0 && strcmp(host + len, ":80") == 0) ||
		   (strncasecmp(origin, "https://", 8) == 0 && strcmp(host + len, ":443") == 0));
}

bool
credential_origin_is_allowed(const char *origin, const char *host, const char *allowed)
{
	if (origin == NULL || credential_origin_is_host(origin, host))
		return true;
	for (const char *p = allowed; *p != '\0';) {
		size_t len;

		p += strspn(p, CREDENTIAL_SPACE ",");
		len = strcspn(p, CREDENTIAL_SPACE ",");
		if ((len == 1 && *p == '*') ||
		    (len > 0 && strlen(origin) == len && strncasecmp(p, origin, len) == 0))
			return true;
		p += len;
	}
	return false;
}

bool
credential_csrf_matches(const struct credential *c, const char *xrftoken)
{
	size_t len;

	if (c->kind != CREDENTIAL_BROWSER_SESSION)
		return true;
	if (c->csrf == NULL || *c->csrf == '\0' || xrftoken == NULL)
		return false;
	len = strlen(c->csrf);
	return strlen(xrftoken) == len && CRYPTO_memcmp(c->csrf, xrftoken, len) == 0;
}
