/*
 * pgrelay check: proves a deployment, one line each. What comes later in the table rests on what comes before
 * it, so a failure that leaves the rest without ground ends the list.
 */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "cli/schema_sql.h"
#include "core/conf.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK_OLDEST_SERVER 130000
#define CHECK_QUEUE_PERCENT 50

struct check {
	const char *name;
	const struct cli_args *args;
	struct pg_sync *db;
	bool failed; /* any so far */
};

/* ---- lines ---- */

static bool __attribute__((format(printf, 2, 3))) check_ok(struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("ok   %s: ", c->name);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	return true;
}

static bool __attribute__((format(printf, 3, 4)))
check_fail(struct check *c, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("FAIL %s: ", c->name);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	if (*hint != '\0')
		printf("     hint: %s\n", hint);
	c->failed = true;
	return false;
}

static bool
check_fail_db(struct check *c, const struct pg_sync *db)
{
	return check_fail(c, cli_db_hint(db), "%s", pg_sync_error(db)->message);
}

static void
check_drop_notice(void *arg, const char *severity, const char *message, const char *hint)
{
}

static struct pg_sync *
check_session(void)
{
	return pg_sync_new(conf.database, "pgrelay check", check_drop_notice, NULL);
}

/* ---- checks: true when those that follow have ground ---- */

static bool
check_settings(struct check *c)
{
	char *error = NULL;

	if (conf_load(c->args->config, &error))
		return check_ok(c, "valid");
	check_fail(c, "\"pgrelay config --list\" describes every setting.", "%s", error);
	free(error);
	return false;
}

static bool
check_connection(struct check *c)
{
	c->db = check_session();
	if (!pg_sync_connect(c->db, (long)conf.connect_timeout_ms)) {
		bool standby = strstr(pg_sync_error(c->db)->message, "read-only") != NULL;

		return check_fail(c,
		    standby ? "pgrelay needs the primary: name its host, or several hosts, in the setting "
			      "\"database\"."
			    : "The setting \"database\" says where it is: --database CONNINFO, or "
			      "PGRELAY_DATABASE.",
		    "%s", pg_sync_error(c->db)->message);
	}
	if (!pg_sync_query(c->db,
		"SELECT current_database(), current_user, coalesce(host(inet_server_addr()), 'this host'),"
		" current_setting('server_version')",
		0, NULL))
		return check_fail_db(c, c->db);
	if (pg_sync_server_version(c->db) < CHECK_OLDEST_SERVER)
		return check_fail(c, "PostgreSQL 13 and later are served.", "PostgreSQL %s is too old",
		    pg_sync_text(c->db, 0, 3));
	return check_ok(c, "database \"%s\" as \"%s\" on %s, PostgreSQL %s", pg_sync_text(c->db, 0, 0),
	    pg_sync_text(c->db, 0, 1), pg_sync_text(c->db, 0, 2), pg_sync_text(c->db, 0, 3));
}

static bool
check_primary(struct check *c)
{
	if (!pg_sync_query(c->db,
		"SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')", 0, NULL))
		return check_fail_db(c, c->db);
	if (*pg_sync_text(c->db, 0, 0) == 't')
		return check_fail(c, "Standbys know no NOTIFY: name the primary in the setting \"database\".",
		    "this server is a standby");
	if (strcmp(pg_sync_text(c->db, 0, 1), "on") == 0)
		return check_fail(c, "Set default_transaction_read_only to off for this role and database.",
		    "transactions are read-only here");
	return check_ok(c, "takes writes");
}

static bool
check_encoding(struct check *c)
{
	if (!pg_sync_query(c->db, "SELECT current_setting('server_encoding')", 0, NULL))
		return check_fail_db(c, c->db);
	if (strcmp(pg_sync_text(c->db, 0, 0), "UTF8") != 0)
		return check_fail(c, "Make one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
		    "the database's encoding is %s, not UTF8", pg_sync_text(c->db, 0, 0));
	return check_ok(c, "UTF8");
}

static bool
check_schema(struct check *c)
{
	int version;

	if (!pg_sync_query(c->db, "SELECT coalesce(pgrelay.version(), 0)", 0, NULL))
		return check_fail_db(c, c->db);
	version = atoi(pg_sync_text(c->db, 0, 0));
	if (version < schema_sql_version)
		return check_fail(c, "\"pgrelay schema upgrade\" brings it up to date.",
		    "version %d is installed, %d is wanted", version, schema_sql_version);
	if (version > schema_sql_version)
		return check_fail(c, "Use the pgrelay program that installed it, or a newer one.",
		    "version %d is installed, this program knows %d", version, schema_sql_version);
	return check_ok(c, "version %d", version);
}

static bool
check_channel(struct check *c)
{
	if (!pg_sync_query(c->db, "SELECT pgrelay.setting_get('channel')", 0, NULL))
		return check_fail_db(c, c->db);
	if (strcmp(pg_sync_text(c->db, 0, 0), conf.channel) != 0)
		return check_fail(c,
		    "Set \"channel\" to the same, or call pgrelay.setting_set('channel', ...).",
		    "writers use \"%s\", this node would listen to \"%s\"", pg_sync_text(c->db, 0, 0),
		    conf.channel);
	return check_ok(c, "\"%s\"", conf.channel);
}

/* What a node calls; the two functions that can be replaced are named by the settings. */
static bool
check_privileges(struct check *c)
{
	static const char sql[] =
	    "SELECT string_agg(lacking.name, ', ') FROM"
	    " (SELECT f.name FROM unnest(ARRAY[$1 || '(text)', $2 || '(bigint, text[])', 'pgrelay.version()',"
	    " 'pgrelay.setting_get(text)', 'pgrelay.event_payload(bigint, text)', 'pgrelay.log_rotate()',"
	    " 'pgrelay.job_status(text[])']) AS f (name)"
	    " WHERE NOT coalesce(has_function_privilege(to_regprocedure(f.name)::oid, 'EXECUTE'), false)"
	    " UNION ALL SELECT 'pgrelay.event' WHERE NOT has_table_privilege('pgrelay.event', 'SELECT')) "
	    "lacking";
	const char *lacking;

	if (!pg_sync_query(
		c->db, sql, 2, (const char *const[]){conf.authenticate_function, conf.authorize_function}))
		return check_fail_db(c, c->db);
	lacking = pg_sync_text(c->db, 0, 0);
	if (lacking != NULL)
		check_fail(c,
		    "GRANT pgrelay_node TO the role; functions named by the settings must exist with these "
		    "arguments.",
		    "may not use %s", lacking);
	else
		check_ok(c, "a node's");
	return true;
}

/* Two sessions, as in life: a pooler in transaction mode delivers to neither. */
static bool
check_round_trip(struct check *c, struct pg_sync *sender)
{
	char *channel = mem_printf("pgrelay_check_%ld", (long)getpid());
	char *listen = mem_printf("LISTEN %s", channel);
	int64_t start_us;
	bool ok =
	    pg_sync_connect(sender, (long)conf.connect_timeout_ms) && pg_sync_query(c->db, listen, 0, NULL);

	start_us = loop_now_us();
	ok = ok && pg_sync_query(sender, "SELECT pg_notify($1, 'check')", 1, (const char *const[]){channel});
	if (!ok)
		check_fail_db(c, *pg_sync_error(sender)->message != '\0' ? sender : c->db);
	else if (pg_sync_wait(c->db, channel, "check", (long)conf.probe_timeout_ms))
		check_ok(c, "%.1f ms", (double)(loop_now_us() - start_us) / 1000);
	else if (*pg_sync_error(c->db)->message != '\0')
		check_fail_db(c, c->db);
	else
		check_fail(c,
		    "Connect to PostgreSQL itself: a pooler in transaction mode does not pass notifications "
		    "on.",
		    "no notification came within probe_timeout, %" PRId64 " ms", conf.probe_timeout_ms);
	free(listen);
	free(channel);
	return true;
}

static bool
check_listen(struct check *c)
{
	struct pg_sync *sender = check_session();
	bool ok = check_round_trip(c, sender);

	pg_sync_free(sender);
	return ok;
}

static bool
check_queue(struct check *c)
{
	double percent;

	if (!pg_sync_query(c->db, "SELECT pg_notification_queue_usage() * 100", 0, NULL))
		return check_fail_db(c, c->db);
	percent = atof(pg_sync_text(c->db, 0, 0));
	if (percent >= CHECK_QUEUE_PERCENT)
		return check_fail(c,
		    "A session that listens has a transaction open for long: see xact_start in "
		    "pg_stat_activity.",
		    "%.1f %% of the NOTIFY queue is in use; when it is full, writers fail", percent);
	return check_ok(c, "%.1f %% in use", percent);
}

static const struct check_step {
	const char *name;
	bool (*run)(struct check *c);
} check_steps[] = {
    {"settings", check_settings},
    {"connection", check_connection},
    {"primary", check_primary},
    {"encoding", check_encoding},
    {"schema", check_schema},
    {"channel", check_channel},
    {"privileges", check_privileges},
    {"LISTEN", check_listen},
    {"NOTIFY queue", check_queue},
};

int
cli_check(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "check",
	    .operands = "",
	    .text = "Proves that a node could serve with these settings: one line for each thing that must "
		    "be so, with a hint\n"
		    "for each that is not. Exit status 0 when all are."};
	struct cli_args args;
	struct check check = {.args = &args};
	int status;

	if (!cli_args_read(&args, &usage, argc, argv, &status))
		return status;
	for (size_t i = 0; i < ARRAY_LENGTH(check_steps); i++) {
		check.name = check_steps[i].name;
		if (!check_steps[i].run(&check))
			break;
	}
	pg_sync_free(check.db);
	return check.failed ? CLI_FAILED : CLI_DONE;
}
