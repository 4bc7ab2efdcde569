/*
 * Settings: one table (conf.c) defines every option; the parser, --help, `pgrelay config` and the sample file
 * come from it. Sources in order of increasing weight: default, file, environment (PGRELAY_NAME), flag
 * (--name).
 */
#ifndef PGRELAY_CORE_CONF_H
#define PGRELAY_CORE_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum conf_refuse { CONF_REFUSE_HTTP, CONF_REFUSE_AWX };
enum conf_connection_events { CONF_CONNECTIONS_OFF, CONF_CONNECTIONS_DRP, CONF_CONNECTIONS_ALL };
enum conf_overflow { CONF_OVERFLOW_CLOSE, CONF_OVERFLOW_GAP };

struct conf {
	char *database; /* conninfo or URI for libpq */
	char *channel;
	char *heartbeat_channel;
	char *authenticate_function;
	char *authorize_function;
	char *authenticate_password_function;
	char *authenticate_name_function;
	int64_t authenticate_cache_ms; /* 0: off */
	int64_t connect_timeout_ms;
	int64_t query_timeout_ms;
	int64_t backoff_max_ms;
	int64_t probe_interval_ms;
	int64_t probe_timeout_ms;

	char *listen;     /* addresses, separated by commas: HOST:PORT, [V6]:PORT */
	char *listen_tls; /* the same, with TLS; empty: none */
	char *tls_cert_file, *tls_key_file;
	char *tls_client_ca_file; /* empty: clients show no certificate */
	char *trusted_proxies;    /* addresses and networks, separated by commas */
	bool reuse_port;
	char *node;
	char *cluster;
	char *advertise;            /* address for the heartbeat; empty: the first listen address */
	char *secret, *secret_also; /* empty: none */
	char *tls_ca_file;          /* empty: the system's */
	bool tls_verify;
	int64_t max_sessions;
	int64_t handshake_timeout_ms;
	int64_t max_message_bytes;
	int64_t max_groups;
	int64_t max_publish_bytes;
	int64_t compress_min_bytes; /* 0: nothing is compressed */
	int64_t queue_limit_bytes;
	int64_t queue_age_ms; /* 0: none */
	int64_t queue_memory_bytes;
	int overflow; /* enum conf_overflow */
	int64_t history_limit_bytes;
	int64_t history_age_ms;
	int64_t write_timeout_ms;
	int64_t ping_interval_ms;
	int64_t ping_timeout_ms;
	int64_t shutdown_timeout_ms;
	char *allowed_origins;
	char *auth_url; /* empty: none */
	int64_t auth_url_recheck_ms;
	int connection_events; /* enum conf_connection_events */
	int refuse;            /* enum conf_refuse */

	int64_t run_buffer_bytes;
	int log_level; /* enum log_level */
};

/* The settings in force; read by everybody, written by this module alone. */
extern struct conf conf;

/* Defaults, then the file (NULL: the default one, when it exists), then the environment. On failure *error
 * holds the reason; the caller releases it with free(). */
bool conf_load(const char *path, char **error) __attribute__((warn_unused_result));

/* One setting from a flag: kept over reloads. A secret is refused. */
bool conf_set_flag(const char *name, const char *value, char **error) __attribute__((warn_unused_result));

/* Reads file and environment again. What can change while running takes effect, for the rest a warning is
 * logged; on an error nothing changes. */
bool conf_reload(char **error) __attribute__((warn_unused_result));

/* Is there an option of this name? With dashes or underscores. */
bool conf_is_option(const char *name);

/* As a file that conf_load() reads: the values in force, and where each comes from. Passwords in `database`
 * and secrets are masked. */
void conf_print(FILE *out);
/* Every option with its default, its unit and its sentence; also the shipped sample file. */
void conf_print_sample(FILE *out);
/* The options as lines for --help. */
void conf_print_help(FILE *out);

void conf_free(void);

#endif
