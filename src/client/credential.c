/* Finding a credential in a request. */
#include "config.h"
#include "client/credential.h"
#include "core/mem.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
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
credential_wipe(char **secret)
{
	if (*secret != NULL)
		OPENSSL_cleanse(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

/* ---- names with passwords ---- */

/* Control characters belong into neither (RFC 7617, section 2). */
static bool
credential_is_printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return true;
}

/* NAME:PASSWORD; the password may be empty, and may hold colons. */
static void
credential_from_pair(struct credential *c, const char *pair, size_t len)
{
	const char *colon = memchr(pair, ':', len);

	c->kind = CREDENTIAL_MALFORMED;
	if (colon == NULL || colon == pair || !credential_is_printable(pair, len))
		return;
	c->kind = CREDENTIAL_PASSWORD;
	c->name = mem_strndup(pair, (size_t)(colon - pair));
	c->token = mem_strndup(colon + 1, len - (size_t)(colon + 1 - pair));
}

/* Base64 with its padding (RFC 4648, section 4). */
static void
credential_from_basic(struct credential *c, const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = strcspn(text, CREDENTIAL_SPACE), digit_count = strspn(text, digits);
	size_t pads = strspn(text + digit_count, "="), octets;
	unsigned char *pair;

	c->kind = CREDENTIAL_MALFORMED;
	if (len == 0 || len % 4 != 0 || digit_count + pads != len || pads > 2 ||
	    text[len + strspn(text + len, CREDENTIAL_SPACE)] != '\0')
		return;
	pair = mem_alloc(len);
	octets = len / 4 * 3 - pads;
	if (EVP_DecodeBlock(pair, (const unsigned char *)text, (int)len) >= 0)
		credential_from_pair(c, (const char *)pair, octets);
	OPENSSL_cleanse(pair, len);
	free(pair);
}

/* ---- finding one ---- */

/* What follows the scheme; NULL when it is another. */
static const char *
credential_after_scheme(const char *header, const char *scheme)
{
	size_t len = strlen(scheme);

	if (strncasecmp(header, scheme, len) != 0 || strchr(CREDENTIAL_SPACE, header[len]) == NULL)
		return NULL;
	return header + len + strspn(header + len, CREDENTIAL_SPACE);
}

static void
credential_from_authorization(struct credential *c, const char *header, bool drp)
{
	const char *value;

	if ((value = credential_after_scheme(header, "Bearer")) != NULL && *value != '\0') {
		c->kind = CREDENTIAL_BEARER;
		c->token = mem_strdup(value);
	} else if (value != NULL && drp) {
		c->kind = CREDENTIAL_MALFORMED;
	} else if (drp && (value = credential_after_scheme(header, "Basic")) != NULL) {
		credential_from_basic(c, value);
	}
}

static void
credential_from_query(struct credential *c, const char *token, bool drp)
{
	if (drp && strchr(token, ':') != NULL) {
		credential_from_pair(c, token, strlen(token));
		return;
	}
	c->kind = CREDENTIAL_QUERY;
	c->token = mem_strdup(token);
}

static void
credential_from_cookies(struct credential *c, const char *cookies, bool application)
{
	if (application) {
		c->kind = *cookies != '\0' ? CREDENTIAL_APPLICATION : CREDENTIAL_NONE;
		c->token = *cookies != '\0' ? mem_strdup(cookies) : NULL;
		c->csrf = credential_cookie(cookies, "csrftoken");
	} else if ((c->token = credential_cookie(cookies, "token")) != NULL) {
		c->kind = CREDENTIAL_COOKIE;
	} else if ((c->token = credential_cookie(cookies, "awx_sessionid")) != NULL) {
		c->kind = CREDENTIAL_BROWSER_SESSION;
		c->csrf = credential_cookie(cookies, "csrftoken");
	}
}

void
credential_find(struct credential *c, const struct credential_source *source)
{
	*c = (struct credential){.kind = CREDENTIAL_NONE};
	if (source->authorization != NULL)
		credential_from_authorization(c, source->authorization, source->drp);
	if (c->kind != CREDENTIAL_NONE)
		return;
	if (source->query_token != NULL)
		credential_from_query(c, source->query_token, source->drp);
	else if (source->cookie != NULL)
		credential_from_cookies(c, source->cookie, source->application);
}

/* ---- what can be done with it ---- */

void
credential_clear(struct credential *c)
{
	credential_wipe(&c->token);
	credential_wipe(&c->csrf);
	credential_wipe(&c->name);
	credential_wipe(&c->context);
	c->kind = CREDENTIAL_NONE;
}

static char *
credential_copy_text(const char *text)
{
	return text != NULL ? mem_strdup(text) : NULL;
}

void
credential_copy(struct credential *to, const struct credential *from)
{
	*to = (struct credential){from->kind, credential_copy_text(from->token),
	    credential_copy_text(from->csrf), credential_copy_text(from->name),
	    credential_copy_text(from->context)};
}

void
credential_set_name(struct credential *c, const char *name)
{
	char *copy = mem_strdup(name); /* it may be what it is already */

	credential_wipe(&c->name);
	c->name = copy;
}

bool
credential_is_ambient(const struct credential *c)
{
	return c->kind == CREDENTIAL_COOKIE || c->kind == CREDENTIAL_BROWSER_SESSION ||
	       c->kind == CREDENTIAL_APPLICATION;
}

/* ---- origins ---- */

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

/* ---- csrf tokens ---- */

bool
credential_csrf_matches(const struct credential *c, const char *xrftoken)
{
	size_t len;

	if (c->kind == CREDENTIAL_APPLICATION && c->csrf == NULL)
		return true;
	if (c->kind != CREDENTIAL_BROWSER_SESSION && c->kind != CREDENTIAL_APPLICATION)
		return true;
	if (c->csrf == NULL || *c->csrf == '\0' || xrftoken == NULL)
		return false;
	len = strlen(c->csrf);
	return strlen(xrftoken) == len && CRYPTO_memcmp(c->csrf, xrftoken, len) == 0;
}
