/*
 * Settings. conf_options[] is the one definition of each; everything else in this file walks it.
 * Invariant: `conf` holds only values that passed conf_parse(), whatever their source.
 */
#include "config.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/netset.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct conf conf;

enum conf_type {
	CONF_STRING,
	CONF_SECRET,
	CONF_NETWORKS,
	CONF_INT,
	CONF_BYTES,
	CONF_MS,
	CONF_BOOL,
	CONF_CHOICE
};
enum conf_source { CONF_DEFAULT, CONF_FILE, CONF_ENVIRONMENT, CONF_FLAG };

struct conf_option {
	const char *name;
	enum conf_type type;
	size_t offset;
	const char *initial;
	int64_t min, max;
	bool reloadable;
	const char *const *choices;
	const char *text;
};

static const char *const conf_source_names[] = {"default", "file", "environment", "flag"};
static const char *const conf_overflow_names[] = {"close", "gap", NULL};
static const char *const conf_refuse_names[] = {"http", "awx", NULL};
static const char *const conf_connection_names[] = {"off", "drp", "all", NULL};
static const char *const conf_level_names[] = {"debug", "info", "warning", "error", NULL};

#define AT(field) offsetof(struct conf, field)
#define SECOND    INT64_C(1000)
#define KIB       INT64_C(1024)
#define MIB       (KIB * 1024)
#define GIB       (MIB * 1024)
#define HOUR      (3600 * SECOND)

#define SECRET_MIN 16

static const struct conf_option conf_options[] = {
    {"database", CONF_STRING, AT(database), "", 0, 0, false, NULL,
	"where PostgreSQL is: a libpq connection string or URI; several hosts may be named"},
    {"channel", CONF_STRING, AT(channel), "pgrelay", 1, 63, false, NULL,
	"NOTIFY channel of the events; the same as the schema's setting of that name"},
    {"heartbeat_channel", CONF_STRING, AT(heartbeat_channel), "web_ws_heartbeat", 1, 63, false, NULL,
	"NOTIFY channel of the heartbeats; the default is AWX's"},
    {"authenticate_function", CONF_STRING, AT(authenticate_function), "pgrelay.authenticate", 1, 255, true,
	NULL, "SQL function that knows a token's user"},
    {"authenticate_password_function", CONF_STRING, AT(authenticate_password_function),
	"pgrelay.authenticate_password", 1, 255, true, NULL,
	"SQL function that knows the user of a name and a password"},
    {"authenticate_name_function", CONF_STRING, AT(authenticate_name_function), "pgrelay.authenticate_name",
	1, 255, true, NULL,
	"SQL function that knows the user whom the application behind auth_url has named"},
    {"authorize_function", CONF_STRING, AT(authorize_function), "pgrelay.authorize", 1, 255, true, NULL,
	"SQL function that knows what a user may see"},
    {"authenticate_cache", CONF_MS, AT(authenticate_cache_ms), "5s", 0, HOUR, true, NULL,
	"how long it is remembered whose a token is, and what a user may see; 0s: not at all"},
    {"connect_timeout", CONF_MS, AT(connect_timeout_ms), "10s", 100, HOUR, true, NULL,
	"how long one attempt to connect to PostgreSQL may take"},
    {"query_timeout", CONF_MS, AT(query_timeout_ms), "5s", 100, HOUR, true, NULL,
	"how long a client's request waits for the database"},
    {"backoff_max", CONF_MS, AT(backoff_max_ms), "5s", 100, HOUR, true, NULL,
	"the longest pause between two attempts to connect to PostgreSQL"},
    {"probe_interval", CONF_MS, AT(probe_interval_ms), "1s", 50, HOUR, true, NULL,
	"time between two heartbeats"},
    {"probe_timeout", CONF_MS, AT(probe_timeout_ms), "5s", 100, HOUR, true, NULL,
	"a LISTEN session that has not heard our heartbeat for so long is made anew"},
    {"listen", CONF_STRING, AT(listen), "127.0.0.1:8052", 1, 4096, false, NULL,
	"addresses to serve on, separated by commas: HOST:PORT, [IPV6]:PORT, *:PORT"},
    {"listen_tls", CONF_STRING, AT(listen_tls), "", 0, 4096, false, NULL,
	"addresses to serve on with TLS, as in listen; empty: none"},
    {"tls_cert_file", CONF_STRING, AT(tls_cert_file), "", 0, 4096, true, NULL,
	"certificate chain for listen_tls, PEM; re-read on SIGHUP; pgrelay cert makes one"},
    {"tls_key_file", CONF_STRING, AT(tls_key_file), "", 0, 4096, true, NULL, "its private key, PEM"},
    {"tls_client_ca_file", CONF_STRING, AT(tls_client_ca_file), "", 0, 4096, true, NULL,
	"clients of listen_tls must show a certificate of one of these authorities; empty: none is asked "
	"for"},
    {"trusted_proxies", CONF_NETWORKS, AT(trusted_proxies), "", 0, 4096, true, NULL,
	"addresses and networks, separated by commas, that may tell a client's address: X-Forwarded-For, "
	"PROXY protocol"},
    {"reuse_port", CONF_BOOL, AT(reuse_port), "off", 0, 0, false, NULL,
	"let several nodes on this host share the port (SO_REUSEPORT)"},
    {"node", CONF_STRING, AT(node), "", 0, 63, false, NULL,
	"this node's id, unique in the cluster; empty: the host's name and the port"},
    {"cluster", CONF_STRING, AT(cluster), "default", 1, 63, false, NULL,
	"nodes of other clusters on the same database are left alone"},
    {"advertise", CONF_STRING, AT(advertise), "", 0, 255, false, NULL,
	"address at which other nodes reach this one; empty: the first of listen"},
    {"secret", CONF_SECRET, AT(secret), "", SECRET_MIN, 255, true, NULL,
	"shared by the nodes of a cluster, which then talk to each other; empty: they do not"},
    {"secret_also", CONF_SECRET, AT(secret_also), "", SECRET_MIN, 255, true, NULL,
	"a second one that is accepted while the secret is being replaced"},
    {"tls_ca_file", CONF_STRING, AT(tls_ca_file), "", 0, 4096, true, NULL,
	"file of the authorities that vouch for nodes behind wss, when this program dials; empty: the "
	"system's"},
    {"tls_verify", CONF_BOOL, AT(tls_verify), "on", 0, 0, true, NULL,
	"whether the certificate of a node behind wss must be valid for its name"},
    {"max_sessions", CONF_INT, AT(max_sessions), "10000", 1, 1000000, true, NULL,
	"WebSocket sessions at the same time; further ones are refused with 503"},
    {"handshake_timeout", CONF_MS, AT(handshake_timeout_ms), "10s", 100, HOUR, false, NULL,
	"how long a client may take to send its HTTP request"},
    {"max_message_bytes", CONF_BYTES, AT(max_message_bytes), "1MB", 512, GIB, true, NULL,
	"the largest message a client may send"},
    {"max_groups", CONF_INT, AT(max_groups), "1000", 1, 1000000, true, NULL, "groups one session may be in"},
    {"max_publish_bytes", CONF_BYTES, AT(max_publish_bytes), "8MB", 64 * KIB, 128 * MIB, false, NULL,
	"the largest request to publish over HTTP; four times as much may wait"},
    {"compress_min", CONF_BYTES, AT(compress_min_bytes), "0", 0, 256 * KIB, true, NULL,
	"messages of so many octets and more are compressed for clients that offer permessage-deflate; 0: "
	"none"},
    {"queue_limit", CONF_BYTES, AT(queue_limit_bytes), "16MB", KIB, 64 * GIB, true, NULL,
	"what may wait for one client; of a slower one overflow decides"},
    {"queue_age", CONF_MS, AT(queue_age_ms), "60s", 0, 24 * HOUR, true, NULL,
	"how long a message may wait for a client that reads too slowly; 0s: for ever"},
    {"queue_memory", CONF_BYTES, AT(queue_memory_bytes), "512MB", MIB, 1024 * GIB, true, NULL,
	"what may wait for all clients together; past it those furthest behind are too slow"},
    {"overflow", CONF_CHOICE, AT(overflow), "close", 0, 0, true, conf_overflow_names,
	"a client past one of these three is closed with 1013, or loses what waits for it and is told so (a "
	"gap)"},
    {"history_limit", CONF_BYTES, AT(history_limit_bytes), "64MB", 64 * KIB, 64 * GIB, true, NULL,
	"events kept in memory for clients that come back; what is older they get from the log"},
    {"history_age", CONF_MS, AT(history_age_ms), "2min", SECOND, 24 * HOUR, true, NULL,
	"how long they are kept at most"},
    {"write_timeout", CONF_MS, AT(write_timeout_ms), "60s", 100, HOUR, true, NULL,
	"a client that takes nothing for so long while something waits for it is closed"},
    {"ping_interval", CONF_MS, AT(ping_interval_ms), "30s", 100, HOUR, true, NULL,
	"a silent session is pinged after so long"},
    {"ping_timeout", CONF_MS, AT(ping_timeout_ms), "20s", 100, HOUR, true, NULL,
	"a session that has not answered a ping after so long is closed"},
    {"shutdown_timeout", CONF_MS, AT(shutdown_timeout_ms), "5s", 0, HOUR, true, NULL,
	"how long clients have to take the close frame when the node ends"},
    {"allowed_origins", CONF_STRING, AT(allowed_origins), "", 0, 4096, true, NULL,
	"origins, separated by commas, whose pages may use cookies here, beside the node's own; * for any"},
    {"auth_url", CONF_STRING, AT(auth_url), "", 0, 4096, true, NULL,
	"a web application that knows whose a browser's cookies are, http:// or https://; empty: the "
	"database "
	"is asked"},
    {"auth_url_recheck", CONF_MS, AT(auth_url_recheck_ms), "1min", SECOND, 24 * HOUR, true, NULL,
	"how long its answer is good for; then it is asked again for each open session"},
    {"connection_events", CONF_CHOICE, AT(connection_events), "drp", 0, 0, true, conf_connection_names,
	"whose coming and going is told by events: off, of clients of the Digital Rebar dialect, or all"},
    {"refuse", CONF_CHOICE, AT(refuse), "http", 0, 0, true, conf_refuse_names,
	"how a client without rights is refused: by an HTTP status, or after the handshake as AWX does"},
    {"run_buffer", CONF_BYTES, AT(run_buffer_bytes), "64MB", 64 * KIB, 64 * GIB, false, NULL,
	"pgrelay run: output that may wait while the database is away"},
    {"log_level", CONF_CHOICE, AT(log_level), "info", 0, 0, true, conf_level_names, "the least level logged"},
};
#define CONF_COUNT ARRAY_LENGTH(conf_options)

static enum conf_source conf_sources[CONF_COUNT];
static char *conf_flags[CONF_COUNT]; /* values given by flags, for reloads */
static char *conf_path;
static bool conf_path_given;

static int
conf_find(const char *name)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		const char *a = conf_options[i].name, *b = name;

		while (*a != '\0' && (*a == *b || (*a == '_' && *b == '-')))
			a++, b++;
		if (*a == '\0' && *b == '\0')
			return (int)i;
	}
	return -1;
}

bool
conf_is_option(const char *name)
{
	return conf_find(name) >= 0;
}

/* ---- values ---- */

struct conf_unit {
	const char *name;
	int64_t factor;
};
static const struct conf_unit conf_ms_units[] = {
    {"ms", 1}, {"s", SECOND}, {"min", 60 * SECOND}, {"h", HOUR}, {"d", 24 * HOUR}, {NULL, 0}};
static const struct conf_unit conf_byte_units[] = {
    {"", 1}, {"B", 1}, {"kB", KIB}, {"MB", MIB}, {"GB", GIB}, {NULL, 0}};
static const struct conf_unit conf_no_units[] = {{"", 1}, {NULL, 0}};

static const struct conf_unit *
conf_units(enum conf_type type)
{
	return type == CONF_MS ? conf_ms_units : type == CONF_BYTES ? conf_byte_units : conf_no_units;
}

/* A bound in the option's own unit, as a user would write it. */
static void
conf_format_number(enum conf_type type, int64_t value, char *buf, size_t size)
{
	const struct conf_unit *best = conf_units(type);

	for (const struct conf_unit *u = conf_units(type); u->name != NULL; u++)
		if (value != 0 && value % u->factor == 0 && u->factor > best->factor)
			best = u;
	snprintf(buf, size, "%lld%s", (long long)(value / best->factor), best->name);
}

static bool
conf_parse_number(const struct conf_option *o, const char *value, int64_t *out, char **error)
{
	char low[32], high[32];
	char *end;
	long long n;

	errno = 0;
	n = strtoll(value, &end, 10);
	while (isspace((unsigned char)*end))
		end++;
	for (const struct conf_unit *u = conf_units(o->type); end != value && u->name != NULL; u++) {
		if (strcmp(end, u->name) != 0)
			continue;
		if (errno == 0 && n <= INT64_MAX / u->factor && n >= o->min / u->factor - 1 &&
		    n * u->factor >= o->min && n * u->factor <= o->max) {
			*out = n * u->factor;
			return true;
		}
		conf_format_number(o->type, o->min, low, sizeof(low));
		conf_format_number(o->type, o->max, high, sizeof(high));
		*error =
		    mem_printf("\"%s\" is out of range for %s: from %s to %s", value, o->name, low, high);
		return false;
	}
	*error = mem_printf("\"%s\" is not a valid value for %s: %s", value, o->name,
	    o->type == CONF_MS      ? "a number with its unit is wanted, ms, s, min, h or d, as in 10s"
	    : o->type == CONF_BYTES ? "a number is wanted, with kB, MB or GB where it fits, as in 16MB"
				    : "a whole number is wanted");
	return false;
}

static bool
conf_parse_bool(const struct conf_option *o, const char *value, bool *out, char **error)
{
	static const char *const on[] = {"on", "true", "yes", "1"}, *const off[] = {
									"off", "false", "no", "0"};

	for (size_t i = 0; i < ARRAY_LENGTH(on); i++) {
		if (strcasecmp(value, on[i]) == 0 || strcasecmp(value, off[i]) == 0) {
			*out = strcasecmp(value, on[i]) == 0;
			return true;
		}
	}
	*error = mem_printf("\"%s\" is not a valid value for %s: on or off is wanted", value, o->name);
	return false;
}

static bool
conf_parse_choice(const struct conf_option *o, const char *value, int *out, char **error)
{
	char list[128] = "";

	for (int i = 0; o->choices[i] != NULL; i++) {
		if (strcasecmp(value, o->choices[i]) == 0) {
			*out = i;
			return true;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i > 0 ? ", " : "",
		    o->choices[i]);
	}
	*error = mem_printf("\"%s\" is not a valid value for %s: one of %s is wanted", value, o->name, list);
	return false;
}

static bool
conf_parse_string(const struct conf_option *o, const char *value, char **out, char **error)
{
	size_t len = strlen(value);

	if ((int64_t)len < o->min || (o->max > 0 && (int64_t)len > o->max)) {
		*error = len == 0 ? mem_printf("%s must not be empty", o->name)
				  : mem_printf("the value of %s is longer than %lld octets", o->name,
					(long long)o->max);
		return false;
	}
	free(*out);
	*out = mem_strdup(value);
	return true;
}

/* Its text is signed as JSON, which is UTF-8. */
static bool
conf_parse_secret(const struct conf_option *o, const char *value, char **out, char **error)
{
	json_t *text = json_string(value);

	json_decref(text);
	if (text == NULL) {
		*error = mem_printf("the value of %s is not UTF-8", o->name);
		return false;
	}
	if (*value != '\0' && (int64_t)strlen(value) < o->min) {
		*error =
		    mem_printf("the value of %s is too short: at least %lld octets are wanted; openssl rand "
			       "-hex 32 makes a good one",
			o->name, (long long)o->min);
		return false;
	}
	return conf_parse_string(&(struct conf_option){.name = o->name, .max = o->max}, value, out, error);
}

/* It stays a text; what needs the set makes it. */
static bool
conf_parse_networks(const struct conf_option *o, const char *value, char **out, char **error)
{
	char *reason;
	struct netset *set = netset_parse(value, &reason);

	if (set == NULL) {
		*error = mem_printf("%s: %s", o->name, reason);
		free(reason);
		return false;
	}
	netset_free(set);
	return conf_parse_string(o, value, out, error);
}

static bool
conf_parse(struct conf *c, const struct conf_option *o, const char *value, char **error)
{
	void *field = (char *)c + o->offset;

	switch (o->type) {
	case CONF_STRING:
		return conf_parse_string(o, value, field, error);
	case CONF_SECRET:
		return conf_parse_secret(o, value, field, error);
	case CONF_NETWORKS:
		return conf_parse_networks(o, value, field, error);
	case CONF_BOOL:
		return conf_parse_bool(o, value, field, error);
	case CONF_CHOICE:
		return conf_parse_choice(o, value, field, error);
	case CONF_INT:
	case CONF_BYTES:
	case CONF_MS:
		return conf_parse_number(o, value, field, error);
	}
	abort();
}

static char *
conf_format(const struct conf *c, const struct conf_option *o)
{
	const void *field = (const char *)c + o->offset;
	char buf[32];

	switch (o->type) {
	case CONF_STRING:
	case CONF_SECRET:
	case CONF_NETWORKS:
		return mem_strdup(*(char *const *)field);
	case CONF_BOOL:
		return mem_strdup(*(const bool *)field ? "on" : "off");
	case CONF_CHOICE:
		return mem_strdup(o->choices[*(const int *)field]);
	case CONF_INT:
	case CONF_BYTES:
	case CONF_MS:
		conf_format_number(o->type, *(const int64_t *)field, buf, sizeof(buf));
		return mem_strdup(buf);
	}
	abort();
}

static bool
conf_is_text(const struct conf_option *o)
{
	return o->type == CONF_STRING || o->type == CONF_SECRET || o->type == CONF_NETWORKS;
}

static void
conf_release(struct conf *c)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		if (conf_is_text(&conf_options[i])) {
			char **field = (char **)((char *)c + conf_options[i].offset);

			free(*field);
			*field = NULL;
		}
	}
}

/* ---- sources ---- */

static char *
conf_trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

/* 'a value' may be quoted; a quote inside is doubled, as in postgresql.conf. A # outside quotes starts a
 * comment. */
static bool
conf_unquote(char *s, char **error)
{
	char *out = s, *in = s;

	if (*in != '\'') {
		char *hash = strchr(s, '#');

		if (hash != NULL)
			*hash = '\0';
		conf_trim(s);
		return true;
	}
	for (in++; *in != '\0'; in++) {
		if (*in == '\'' && *++in != '\'') {
			in += strspn(in, " \t");
			if (*in != '\0' && *in != '#')
				break;
			*out = '\0';
			return true;
		}
		*out++ = *in;
	}
	*error = mem_strdup("the value's quotes do not match; write a quote inside a value twice");
	return false;
}

static bool
conf_apply_line(struct conf *c, enum conf_source *sources, char *line, char **error)
{
	char *name = conf_trim(line), *value;
	int i;

	if (*name == '\0' || *name == '#')
		return true;
	value = strchr(name, '=');
	if (value == NULL) {
		*error = mem_strdup("a line must be: name = value");
		return false;
	}
	*value++ = '\0';
	name = conf_trim(name);
	value = conf_trim(value);
	if ((i = conf_find(name)) < 0) {
		*error = mem_printf("unknown setting \"%s\"; pgrelay config --list shows all", name);
		return false;
	}
	if (!conf_unquote(value, error) || !conf_parse(c, &conf_options[i], value, error))
		return false;
	sources[i] = CONF_FILE;
	return true;
}

static bool
conf_apply_file(struct conf *c, enum conf_source *sources, char **error)
{
	FILE *f = fopen(conf_path, "r");
	char *line = NULL;
	size_t size = 0;
	bool ok = true;

	if (f == NULL) {
		if (!conf_path_given && errno == ENOENT)
			return true;
		*error = mem_printf("could not open \"%s\": %s", conf_path, strerror(errno));
		return false;
	}
	for (int n = 1; ok && getline(&line, &size, f) >= 0; n++) {
		char *reason = NULL;

		ok = conf_apply_line(c, sources, line, &reason);
		if (!ok)
			*error = mem_printf("%s, line %d: %s", conf_path, n, reason);
		free(reason);
	}
	if (ok && ferror(f)) {
		*error = mem_printf("could not read \"%s\": %s", conf_path, strerror(errno));
		ok = false;
	}
	free(line);
	fclose(f);
	return ok;
}

static bool
conf_apply_environment(struct conf *c, enum conf_source *sources, char **error)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		char name[64] = "PGRELAY_", *reason = NULL;
		const char *value;
		size_t n = strlen(name);

		for (const char *p = conf_options[i].name; *p != '\0'; p++)
			name[n++] = (char)toupper((unsigned char)*p);
		name[n] = '\0';
		if ((value = getenv(name)) == NULL)
			continue;
		if (!conf_parse(c, &conf_options[i], value, &reason)) {
			*error = mem_printf("environment variable %s: %s", name, reason);
			free(reason);
			return false;
		}
		sources[i] = CONF_ENVIRONMENT;
	}
	return true;
}

/* All sources into c; on failure c is released. */
static bool
conf_gather(struct conf *c, enum conf_source *sources, char **error)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < CONF_COUNT; i++) {
		sources[i] = CONF_DEFAULT;
		if (!conf_parse(c, &conf_options[i], conf_options[i].initial, error))
			abort();
	}
	if (!conf_apply_file(c, sources, error) || !conf_apply_environment(c, sources, error))
		goto fail;
	for (size_t i = 0; i < CONF_COUNT; i++) {
		if (conf_flags[i] == NULL)
			continue;
		if (!conf_parse(c, &conf_options[i], conf_flags[i], error))
			goto fail;
		sources[i] = CONF_FLAG;
	}
	return true;
fail:
	conf_release(c);
	return false;
}

bool
conf_load(const char *path, char **error)
{
	struct conf fresh;

	if (path == NULL)
		path = getenv("PGRELAY_CONFIG");
	conf_path_given = path != NULL;
	free(conf_path);
	conf_path = mem_strdup(path != NULL ? path : PGRELAY_SYSCONFDIR "/pgrelay.conf");
	if (!conf_gather(&fresh, conf_sources, error))
		return false;
	conf_release(&conf);
	conf = fresh;
	log_set_level((enum log_level)conf.log_level);
	return true;
}

bool
conf_set_flag(const char *name, const char *value, char **error)
{
	int i = conf_find(name);

	if (i < 0) {
		*error = mem_printf("unknown setting \"%s\"", name);
		return false;
	}
	if (conf_options[i].type == CONF_SECRET) {
		*error =
		    mem_printf("%s is no flag, for a command line is seen by every user of the host: put it "
			       "into the file, or into the environment",
			conf_options[i].name);
		return false;
	}
	free(conf_flags[i]);
	conf_flags[i] = mem_strdup(value);
	return true;
}

bool
conf_reload(char **error)
{
	struct conf fresh;
	enum conf_source sources[CONF_COUNT];

	if (!conf_gather(&fresh, sources, error))
		return false;
	for (size_t i = 0; i < CONF_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		char *old = conf_format(&conf, o), *new = conf_format(&fresh, o), *reason = NULL;

		if (strcmp(old, new) != 0 && !o->reloadable)
			log_warning(
			    NULL, "setting \"%s\" cannot change while running; restart to apply it", o->name);
		else if (strcmp(old, new) != 0) {
			if (!conf_parse(&conf, o, new, &reason))
				abort();
			conf_sources[i] = sources[i];
			if (o->type == CONF_SECRET)
				log_info(NULL, "setting \"%s\" has changed", o->name);
			else
				log_info(NULL, "setting \"%s\" is now \"%s\"", o->name, new);
		}
		free(old);
		free(new);
	}
	conf_release(&fresh);
	log_set_level((enum log_level)conf.log_level);
	return true;
}

/* ---- output ---- */

/* A URI's user part: where its password begins and ends; both NULL when it has none. The last @ counts, so
 * that one in the password does not show its rest. */
static bool
conf_uri_password(const char *conninfo, const char **begin, const char **end)
{
	const char *start = strstr(conninfo, "://"), *at, *colon;

	*begin = *end = NULL;
	if (start == NULL || strncmp(conninfo, "postgres", 8) != 0)
		return false;
	start += 3;
	at = memrchr(start, '@', strcspn(start, "?"));
	colon = at != NULL ? memchr(start, ':', (size_t)(at - start)) : NULL;
	if (colon != NULL) {
		*begin = colon + 1;
		*end = at;
	}
	return true;
}

/* How long "password =" with the space around is, when it stands here, sslpassword's end as well; 0: it does
 * not. */
static size_t
conf_password_head(const char *p)
{
	size_t len = strlen("password");

	if (strncasecmp(p, "password", len) != 0)
		return 0;
	len += strspn(p + len, " \t\r\n\v\f");
	if (p[len] != '=')
		return 0;
	return len + 1 + strspn(p + len + 1, " \t\r\n\v\f");
}

/* How long the value is that begins here, as libpq reads it. */
static size_t
conf_password_length(const char *start, bool uri)
{
	bool quoted = *start == '\'';
	const char *p = start;

	if (uri)
		return strcspn(start, "&");
	for (p += quoted; *p != '\0' && (quoted ? *p != '\'' : !isspace((unsigned char)*p)); p++)
		p += *p == '\\' && p[1] != '\0';
	return (size_t)(p - start) + (quoted && *p == '\'');
}

/* Hides the password in a connection string or URI. */
static char *
conf_mask(const char *conninfo)
{
	char *masked = mem_alloc(strlen(conninfo) * 4 + 1), *out = masked;
	const char *p = conninfo, *begin, *end;
	bool uri = conf_uri_password(conninfo, &begin, &end);

	while (*p != '\0') {
		size_t head = conf_password_head(p);

		if (p == begin) {
			out = stpcpy(out, "****");
			p = end;
			begin = NULL; /* an empty one ends where it begins */
		} else if (head > 0) {
			out = stpcpy(stpncpy(out, p, head), "****");
			p += head + conf_password_length(p + head, uri);
		} else {
			*out++ = *p++;
		}
	}
	*out = '\0';
	return masked;
}

static void
conf_print_value(FILE *out, const struct conf_option *o, const char *value)
{
	if (!conf_is_text(o)) {
		fprintf(out, "%s = %s", o->name, value);
		return;
	}
	fprintf(out, "%s = '", o->name);
	for (; *value != '\0'; value++) {
		if (*value == '\'')
			fputc('\'', out);
		fputc(*value, out);
	}
	fputc('\'', out);
}

void
conf_print(FILE *out)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		char *value = conf_format(&conf, o);

		if (o->offset == AT(database) || (o->type == CONF_SECRET && *value != '\0')) {
			char *masked = o->type == CONF_SECRET ? mem_strdup("****") : conf_mask(value);

			free(value);
			value = masked;
		}
		conf_print_value(out, o, value);
		fprintf(out, "  # %s\n", conf_source_names[conf_sources[i]]);
		free(value);
	}
}

void
conf_print_sample(FILE *out)
{
	fputs("# pgrelay.conf: every setting with its default. Written by `pgrelay config --list`.\n"
	      "# Times want a unit (ms, s, min, h, d); sizes may have one (kB, MB, GB). A setting marked "
	      "(restart)\n"
	      "# takes effect when the node starts, the others also on SIGHUP.\n",
	    out);
	for (size_t i = 0; i < CONF_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];

		fprintf(out, "\n# %s%s\n#", o->text, o->reloadable ? "" : " (restart)");
		conf_print_value(out, o, o->initial);
		fputc('\n', out);
	}
}

void
conf_print_help(FILE *out)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		bool secret = o->type == CONF_SECRET;
		char flag[64];
		size_t n = (size_t)snprintf(flag, sizeof(flag), secret ? "(%s)" : "--%s", o->name);

		for (size_t j = 0; j < n && !secret; j++)
			if (flag[j] == '_')
				flag[j] = '-';
		fprintf(out, "  %-24s %s%s%s%s%s\n", flag, o->text, *o->initial ? " [" : "", o->initial,
		    *o->initial ? "]" : "", secret ? "; in the file or the environment only" : "");
	}
}

void
conf_free(void)
{
	conf_release(&conf);
	for (size_t i = 0; i < CONF_COUNT; i++) {
		free(conf_flags[i]);
		conf_flags[i] = NULL;
	}
	free(conf_path);
	conf_path = NULL;
}
