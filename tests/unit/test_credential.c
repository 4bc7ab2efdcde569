/* Credentials in a handshake, and which pages may use a browser's: src/client/credential.c. */
#include "config.h"
#include "client/credential.h"
#include "core/mem.h"

#include "tap.h"

/* ---- finding one ---- */

static const struct find_row {
	const char *name;
	const char *authorization, *query, *cookie;
	enum credential_kind kind;
	const char *token, *csrf;
} find_rows[] = {
    {"nothing", NULL, NULL, NULL, CREDENTIAL_NONE, NULL, NULL},
    {"a header", "Bearer T", NULL, NULL, CREDENTIAL_BEARER, "T", NULL},
    {"a header in another case", "bEARER T", NULL, NULL, CREDENTIAL_BEARER, "T", NULL},
    {"a header with spaces", "Bearer  \t T", NULL, NULL, CREDENTIAL_BEARER, "T", NULL},
    {"a header with a token of all its characters", "Bearer aZ09-._~+/==", NULL, NULL, CREDENTIAL_BEARER,
	"aZ09-._~+/==", NULL},
    {"a header without a space", "BearerT", NULL, NULL, CREDENTIAL_NONE, NULL, NULL},
    {"a header without a token", "Bearer", NULL, NULL, CREDENTIAL_NONE, NULL, NULL},
    {"a header of another scheme", "Basic YTpi", NULL, NULL, CREDENTIAL_NONE, NULL, NULL},
    {"an empty header", "", NULL, NULL, CREDENTIAL_NONE, NULL, NULL},
    {"a token in the URL", NULL, "T", NULL, CREDENTIAL_QUERY, "T", NULL},
    {"an empty token in the URL", NULL, "", NULL, CREDENTIAL_QUERY, "", NULL},
    {"a cookie", NULL, NULL, "token=T", CREDENTIAL_COOKIE, "T", NULL},
    {"a cookie in quotes", NULL, NULL, "token=\"T\"", CREDENTIAL_COOKIE, "T", NULL},
    {"an empty cookie in quotes", NULL, NULL, "token=\"\"", CREDENTIAL_COOKIE, "", NULL},
    {"a cookie of one quote", NULL, NULL, "token=\"", CREDENTIAL_COOKIE, "\"", NULL},
    {"a cookie with a quote in front", NULL, NULL, "token=\"T", CREDENTIAL_COOKIE, "\"T", NULL},
    {"an empty cookie", NULL, NULL, "token=", CREDENTIAL_COOKIE, "", NULL},
    {"a cookie with spaces around", NULL, NULL, "  token=T \t ; x=y", CREDENTIAL_COOKIE, "T", NULL},
    {"a cookie in quotes with spaces around", NULL, NULL, "a=b;  token=\"T\"  ", CREDENTIAL_COOKIE, "T",
	NULL},
    {"a cookie with equals signs", NULL, NULL, "token=T==", CREDENTIAL_COOKIE, "T==", NULL},
    {"several cookies", NULL, NULL, "a=b; token=T; c=d", CREDENTIAL_COOKIE, "T", NULL},
    {"several cookies without spaces", NULL, NULL, "a=b;token=T;c=d", CREDENTIAL_COOKIE, "T", NULL},
    {"empty cookies between", NULL, NULL, ";; ;token=T;;", CREDENTIAL_COOKIE, "T", NULL},
    {"two tokens: the first", NULL, NULL, "token=T; token=U", CREDENTIAL_COOKIE, "T", NULL},
    {"a name that ends so", NULL, NULL, "xtoken=X; token=T", CREDENTIAL_COOKIE, "T", NULL},
    {"a name that begins so", NULL, NULL, "tokens=X; token=T", CREDENTIAL_COOKIE, "T", NULL},
    {"names like it alone", NULL, NULL, "xtoken=X; tokens=Y; my-token=Z; token", CREDENTIAL_NONE, NULL, NULL},
    {"a name in another case", NULL, NULL, "Token=T", CREDENTIAL_NONE, NULL, NULL},
    {"a name within a value", NULL, NULL, "a=token=T", CREDENTIAL_NONE, NULL, NULL},
    {"no cookie", NULL, NULL, "", CREDENTIAL_NONE, NULL, NULL},
    {"a browser's session", NULL, NULL, "awx_sessionid=S; csrftoken=C", CREDENTIAL_BROWSER_SESSION, "S", "C"},
    {"the same, turned around, in quotes", NULL, NULL, "csrftoken=\"C\"; awx_sessionid=\"S\"",
	CREDENTIAL_BROWSER_SESSION, "S", "C"},
    {"a browser's session without csrftoken", NULL, NULL, "awx_sessionid=S", CREDENTIAL_BROWSER_SESSION, "S",
	NULL},
    {"csrftoken alone", NULL, NULL, "csrftoken=C", CREDENTIAL_NONE, NULL, NULL},
    {"a header before all", "Bearer H", "Q", "token=T", CREDENTIAL_BEARER, "H", NULL},
    {"the URL before cookies", NULL, "Q", "token=T", CREDENTIAL_QUERY, "Q", NULL},
    {"a token cookie before a browser's session", NULL, NULL, "awx_sessionid=S; csrftoken=C; token=T",
	CREDENTIAL_COOKIE, "T", NULL},
    {"the URL behind a header of another scheme", "Basic YTpi", "Q", "token=T", CREDENTIAL_QUERY, "Q", NULL},
    {"a cookie behind a header of another scheme", "Negotiate x", NULL, "token=T", CREDENTIAL_COOKIE, "T",
	NULL},
};

/* NULL stays NULL; anything else is copied to a buffer of just its size. */
static char *
copy_of(const char *s)
{
	return s != NULL ? tap_copy(s, strlen(s) + 1) : NULL;
}

static void
test_find(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(find_rows); i++) {
		const struct find_row *row = &find_rows[i];
		char *authorization = copy_of(row->authorization), *query = copy_of(row->query),
		     *cookie = copy_of(row->cookie);
		struct credential c;

		credential_find(
		    &c, &(struct credential_source){
			    .authorization = authorization, .query_token = query, .cookie = cookie});
		free(authorization);
		free(query);
		free(cookie);
		is_int(c.kind, row->kind, "%s: its kind", row->name);
		is_str(c.token, row->token, "%s: its token", row->name);
		is_str(c.csrf, row->csrf, "%s: its csrf token", row->name);
		credential_clear(&c);
		if (c.kind != CREDENTIAL_NONE || c.token != NULL || c.csrf != NULL)
			ok(false, "%s: is cleared", row->name);
	}
}

/* ---- names with passwords ---- */

static const struct drp_row {
	const char *name;
	const char *authorization, *query;
	enum credential_kind kind;
	const char *user, *token;
} drp_rows[] = {
    {"Basic", "Basic YTpi", NULL, CREDENTIAL_PASSWORD, "a", "b"},
    {"Basic in another case", "bASIC YTpi", NULL, CREDENTIAL_PASSWORD, "a", "b"},
    {"Basic with spaces around", "Basic  \t YTpi ", NULL, CREDENTIAL_PASSWORD, "a", "b"},
    {"Basic of the RFC", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", NULL, CREDENTIAL_PASSWORD, "Aladdin",
	"open sesame"},
    {"Basic with one pad", "Basic YTpiYzE=", NULL, CREDENTIAL_PASSWORD, "a", "bc1"},
    {"Basic in UTF-8", "Basic dGVzdDoxMjPCow==", NULL, CREDENTIAL_PASSWORD, "test", "123\xc2\xa3"},
    {"a password with colons", "Basic YTo6Yjo=", NULL, CREDENTIAL_PASSWORD, "a", ":b:"},
    {"an empty password", "Basic YTo=", NULL, CREDENTIAL_PASSWORD, "a", ""},
    {"an empty name", "Basic OmI=", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"a colon alone", "Basic Og==", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"no colon", "Basic YWI=", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic with nothing", "Basic", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic with a space", "Basic ", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic without padding", "Basic YTo", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic with three pads", "Basic Y===", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic of pads", "Basic ====", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic with padding inside", "Basic YTo=YTo=", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic with another alphabet", "Basic YTp-", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic with more behind", "Basic YTpi YTpi", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"Basic that is no base64", "Basic a:b", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"a NUL in the name", "Basic YQBhOmI=", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"a NUL in the password", "Basic YTpiAGI=", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"a new line in the name", "Basic YQphOmI=", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"a scheme that begins so", "Basics YTpi", NULL, CREDENTIAL_NONE, NULL, NULL},
    {"Bearer", "Bearer T", NULL, CREDENTIAL_BEARER, NULL, "T"},
    {"Bearer with a colon", "Bearer a:b", NULL, CREDENTIAL_BEARER, NULL, "a:b"},
    {"Bearer with nothing", "Bearer", NULL, CREDENTIAL_MALFORMED, NULL, NULL},
    {"a token in the URL", NULL, "T", CREDENTIAL_QUERY, NULL, "T"},
    {"a name with a password in the URL", NULL, "a:b:c", CREDENTIAL_PASSWORD, "a", "b:c"},
    {"an empty name in the URL", NULL, ":b", CREDENTIAL_MALFORMED, NULL, NULL},
    {"an empty password in the URL", NULL, "a:", CREDENTIAL_PASSWORD, "a", ""},
    {"a malformed header before the URL", "Basic x", "T", CREDENTIAL_MALFORMED, NULL, NULL},
    {"the header before the URL", "Basic YTpi", "c:d", CREDENTIAL_PASSWORD, "a", "b"},
    {"another scheme is passed over", "Negotiate YTpi", "T", CREDENTIAL_QUERY, NULL, "T"},
};

static void
test_drp(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(drp_rows); i++) {
		const struct drp_row *row = &drp_rows[i];
		char *authorization = copy_of(row->authorization), *query = copy_of(row->query);
		struct credential c;

		credential_find(&c, &(struct credential_source){
					.authorization = authorization, .query_token = query, .drp = true});
		free(authorization);
		free(query);
		is_int(c.kind, row->kind, "%s: its kind", row->name);
		is_str(c.name, row->user, "%s: its name", row->name);
		is_str(c.token, row->token, "%s: its password or token", row->name);
		credential_clear(&c);
		if (c.name != NULL)
			ok(false, "%s: is cleared", row->name);
	}
}

/* So does an Authorization header: every octet at every place of every prefix of one. */
static void
test_basic_noise(void)
{
	static const char header[] = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
	char text[sizeof(header)];
	int passwords = 0, malformed = 0;

	for (size_t len = 0; len < sizeof(header); len++) {
		for (size_t at = 0; at < len; at++) {
			for (int c = 0; c < 256; c++) {
				struct credential found;
				char *copy;

				memcpy(text, header, len);
				text[len] = '\0';
				text[at] = (char)c;
				copy = copy_of(text);
				credential_find(
				    &found, &(struct credential_source){.authorization = copy, .drp = true});
				free(copy);
				passwords += found.kind == CREDENTIAL_PASSWORD;
				malformed += found.kind == CREDENTIAL_MALFORMED;
				credential_clear(&found);
			}
		}
	}
	ok(passwords > 0 && malformed > 0, "every octet at every place of every prefix of a Basic header");
}

/* ---- cookies of a web application ---- */

static void
test_application(void)
{
	static const char cookies[] = "sid=S; csrftoken=\"C\"; token=T";
	struct credential c, copy;

	credential_find(&c, &(struct credential_source){.cookie = cookies, .application = true});
	is_int(c.kind, CREDENTIAL_APPLICATION, "cookies of a web application are a credential of their own");
	is_str(c.token, cookies, "all of them");
	is_str(c.csrf, "C", "with the csrf token");
	credential_set_name(&c, "ann");
	credential_set_name(&c, c.name);
	credential_copy(&copy, &c);
	credential_clear(&c);
	ok(copy.kind == CREDENTIAL_APPLICATION && strcmp(copy.token, cookies) == 0 &&
		strcmp(copy.csrf, "C") == 0 && strcmp(copy.name, "ann") == 0 && copy.context == NULL,
	    "a copy is its own");
	credential_clear(&copy);
	credential_find(&c, &(struct credential_source){.cookie = "", .application = true});
	is_int(c.kind, CREDENTIAL_NONE, "no cookie is none");
	credential_clear(&c);
	credential_find(
	    &c, &(struct credential_source){.cookie = cookies, .query_token = "Q", .application = true});
	is_int(c.kind, CREDENTIAL_QUERY, "a token comes before them");
	credential_clear(&c);
}

/* A Cookie header comes from anybody: every prefix of one, and every octet in it. */
static void
test_cookie_noise(void)
{
	static const char cookie[] = "a=b; token=\"T\"; awx_sessionid=S; csrftoken=\"C\"";
	char text[sizeof(cookie)];
	int found = 0, total = 0;

	for (size_t len = 0; len < sizeof(cookie); len++) {
		for (size_t at = 0; at < len; at++) {
			for (int c = 0; c < 256; c += 1) {
				struct credential found_one;
				char *copy;

				memcpy(text, cookie, len);
				text[len] = '\0';
				text[at] = (char)c;
				copy = copy_of(text);
				credential_find(&found_one, &(struct credential_source){.cookie = copy});
				free(copy);
				found += found_one.kind != CREDENTIAL_NONE;
				total++;
				credential_clear(&found_one);
			}
		}
	}
	ok(found > 0 && found < total, "every octet at every position of every prefix of a Cookie header");
}

static void
test_ambient(void)
{
	ok(!credential_is_ambient(&(struct credential){.kind = CREDENTIAL_NONE}),
	    "no credential: not ambient");
	ok(!credential_is_ambient(&(struct credential){.kind = CREDENTIAL_BEARER}), "a header: not ambient");
	ok(!credential_is_ambient(&(struct credential){.kind = CREDENTIAL_QUERY}), "the URL: not ambient");
	ok(credential_is_ambient(&(struct credential){.kind = CREDENTIAL_COOKIE}), "a cookie: ambient");
	ok(credential_is_ambient(&(struct credential){.kind = CREDENTIAL_BROWSER_SESSION}),
	    "a browser's session: ambient");
	ok(credential_is_ambient(&(struct credential){.kind = CREDENTIAL_APPLICATION}),
	    "a web application's cookies: ambient");
	ok(!credential_is_ambient(&(struct credential){.kind = CREDENTIAL_PASSWORD}),
	    "a name with a password: not ambient");
}

/* ---- origins ---- */

static const struct origin_row {
	const char *origin, *host, *allowed;
	bool taken;
} origin_rows[] = {
    {NULL, "h", "", true},
    {NULL, NULL, "", true},
    {"http://h", "h", "", true},
    {"https://h", "h", "", true},
    {"http://H.Example", "h.eXAMPLE", "", true},
    {"http://h:8052", "h:8052", "", true},
    {"http://h", "h:80", "", true},
    {"https://h", "h:443", "", true},
    {"HTTPS://h", "h:443", "", true},
    {"http://[::1]:8052", "[::1]:8052", "", true},
    {"http://[::1]", "[::1]:80", "", true},
    {"http://h", "h:443", "", false},
    {"https://h", "h:80", "", false},
    {"http://h", "h:8052", "", false},
    {"http://h:8052", "h", "", false},
    {"http://h:8052", "h:8053", "", false},
    {"http://h", "h:8080", "", false},
    {"http://h", "hh", "", false},
    {"http://hh", "h", "", false},
    {"http://h.evil", "h", "", false},
    {"http://evil.h", "h", "", false},
    {"http://evil", "h", "", false},
    {"http://h@evil", "h", "", false},
    {"http://evil/://h", "h", "", false},
    {"http://h", NULL, "", false},
    {"http://h", "", "", false},
    {"null", "h", "", false},
    {"null", "null", "", false},
    {"", "h", "", false},
    {"h", "h", "", false},
    {"://h", "x", "", false},
    {"http://a", "h", "http://a", true},
    {"http://A", "h", "HTTP://a", true},
    {"http://b", "h", "http://a,http://b", true},
    {"http://b", "h", " http://a ,\t http://b ", true},
    {"http://c", "h", "http://a,http://b", false},
    {"http://a", "h", "http://aa", false},
    {"http://aa", "h", "http://a", false},
    {"https://a", "h", "http://a", false},
    {"http://a:80", "h", "http://a", false},
    {"", "h", ",,", false},
    {"http://a", "h", ",, ,", false},
    {"http://a", "h", "*", true},
    {"null", "h", "*", true},
    {"http://a", NULL, "http://b, *", true},
    {"http://a", "h", "http://*", false},
    {"http://a", "h", "**", false},
    {"null", "h", "null", true},
};

static void
test_origins(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(origin_rows); i++) {
		const struct origin_row *row = &origin_rows[i];
		char *origin = copy_of(row->origin), *host = copy_of(row->host),
		     *allowed = copy_of(row->allowed);

		ok(credential_origin_is_allowed(origin, host, allowed) == row->taken,
		    "origin %s at %s, allowed \"%s\": %s", row->origin != NULL ? row->origin : "(none)",
		    row->host != NULL ? row->host : "(none)", row->allowed, row->taken ? "taken" : "refused");
		free(origin);
		free(host);
		free(allowed);
	}
}

/* ---- csrf tokens ---- */

static bool
csrf(enum credential_kind kind, const char *has, const char *brings)
{
	char own[16];
	struct credential c = {.kind = kind, .csrf = has != NULL ? strcpy(own, has) : NULL};

	return credential_csrf_matches(&c, brings);
}

static void
test_csrf(void)
{
	ok(csrf(CREDENTIAL_BROWSER_SESSION, "secret", "secret"), "the session's csrf token is taken");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, "secret", "secreT"), "another one is not");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, "secret", "secre"), "nor a part of it");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, "secret", "secrets"), "nor more than it");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, "secret", ""), "nor an empty one");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, "secret", NULL), "nor none");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, NULL, NULL), "a session without one takes nothing");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, NULL, ""), "not an empty one");
	ok(!csrf(CREDENTIAL_BROWSER_SESSION, "", ""), "nor is empty equal to empty");
	ok(csrf(CREDENTIAL_BEARER, NULL, NULL) && csrf(CREDENTIAL_COOKIE, NULL, "x") &&
		csrf(CREDENTIAL_QUERY, NULL, NULL),
	    "other kinds need none");
	ok(csrf(CREDENTIAL_APPLICATION, NULL, NULL), "a web application without one needs none");
	ok(csrf(CREDENTIAL_APPLICATION, "secret", "secret") && !csrf(CREDENTIAL_APPLICATION, "secret", "x") &&
		!csrf(CREDENTIAL_APPLICATION, "secret", NULL),
	    "one with it does");
}

int
main(void)
{
	test_find();
	test_drp();
	test_basic_noise();
	test_application();
	test_cookie_noise();
	test_ambient();
	test_origins();
	test_csrf();
	return tap_end();
}
