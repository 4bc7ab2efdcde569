/*
 * pgrelay check: proves a deployment, one line each. What comes later in the table rests on what comes before
 * it, so a failure that leaves the rest without ground ends the list.
 */
#include "config.h"
#include "cli/check.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "cli/schema_sql.h"
#include "core/conf.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK_OLDEST_SERVER 130000
#define CHECK_QUEUE_PERCENT 50
#define CHECK_CLOCK_S       1.0
#define CHECK_CLOCK_TRIES   5

/* ---- lines ---- */

bool
check_ok(struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("ok   %s: ", c->name);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	return true;
}

bool
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

bool
check_fail_db(struct check *c, const struct pg_sync *db)
{
	return check_fail(c, cli_db_hint(db), "%s", pg_sync_error(db)->message);
}

static void
check_drop_notice(void *arg, const char *severity, const char *message, const char *hint)
{
}

/* A time span as people say it; valid until the next call. */
static const char *
check_span(double seconds)
{
	static char text[32];
	static const struct {
		double from, unit;
		const char *name;
	} scales[] = {{172800, 86400, "d"}, {7200, 3600, "h"}, {120, 60, "min"}, {-HUGE_VAL, 1, "s"}};
	size_t i = 0;

	while (seconds < scales[i].from)
		i++;
	snprintf(text, sizeof(text), "%.0f %s", seconds / scales[i].unit, scales[i].name);
	return text;
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
		return check_ok(c, "valid%s",
		    conf.queue_memory_bytes < 2 * conf.queue_limit_bytes
			? "; but queue_memory should be several times queue_limit, and several times the "
			  "largest payload"
			: "");
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
		"SELECT current_database(), current_user, coalesce(host(inet_server_addr()), 'this host')", 0,
		NULL))
		return check_fail_db(c, c->db);
	return check_ok(c, "database \"%s\" as \"%s\" on %s", pg_sync_text(c->db, 0, 0),
	    pg_sync_text(c->db, 0, 1), pg_sync_text(c->db, 0, 2));
}

static bool
check_server(struct check *c)
{
	if (!pg_sync_query(c->db, "SELECT current_setting('server_version')", 0, NULL))
		return check_fail_db(c, c->db);
	if (pg_sync_server_version(c->db) < CHECK_OLDEST_SERVER)
		return check_fail(c, "PostgreSQL 13 and later are served.", "PostgreSQL %s is too old",
		    pg_sync_text(c->db, 0, 0));
	return check_ok(c, "PostgreSQL %s", pg_sync_text(c->db, 0, 0));
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

/* What a node calls; those that can be replaced are named by the settings. */
static bool
check_privileges(struct check *c)
{
	static const char sql[] =
	    "SELECT string_agg(lacking.name, ', ') FROM"
	    " (SELECT f.name FROM unnest(ARRAY[$1 || '(text)', $2 || '(bigint, text[])',"
	    " $3 || '(text, text)', $4 || '(text)', 'pgrelay.version()',"
	    " 'pgrelay.setting_get(text)', 'pgrelay.event_payload(bigint, text)', 'pgrelay.log_rotate()',"
	    " 'pgrelay.job_status(text[])', 'pgrelay.health()', 'pgrelay.epoch()', "
	    "'pgrelay.announce_wanted()',"
	    " 'pgrelay.log_read(pg_snapshot, pg_snapshot, pg_snapshot, pg_snapshot, text[], text[], text[])',"
	    " 'pgrelay.log_covers(pg_snapshot, pg_snapshot, bigint, bigint)',"
	    " 'pgrelay.announce(pg_snapshot, boolean)', 'pgrelay.publish(text, jsonb)',"
	    " 'pgrelay.authorize_publish(bigint, text[])', 'pgrelay.token_issue(bigint, interval, bigint)',"
	    " 'pgrelay.connections_changed(text, jsonb)']) AS f (name)"
	    " WHERE NOT coalesce(has_function_privilege(to_regprocedure(f.name)::oid, 'EXECUTE'), false)"
	    " UNION ALL SELECT t.name FROM unnest(ARRAY['pgrelay.event', 'pgrelay.event_type']) AS t (name)"
	    " WHERE NOT has_table_privilege(t.name, 'SELECT')) lacking";
	const char *lacking;

	if (!pg_sync_query(c->db, sql, 4,
		(const char *const[]){conf.authenticate_function, conf.authorize_function,
		    conf.authenticate_password_function, conf.authenticate_name_function}))
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
		check_fail(c,
		    "A session that listens has a transaction open for long: see xact_start in "
		    "pg_stat_activity.",
		    "%.1f %% of the NOTIFY queue is in use; when it is full, writers fail", percent);
	else
		check_ok(c, "%.1f %% in use", percent);
	return true;
}

static bool
check_log(struct check *c)
{
	if (!pg_sync_query(c->db,
		"SELECT pg_size_pretty(log_bytes), extract(epoch FROM server_time - log_rows_since)"
		" FROM pgrelay.health()",
		0, NULL))
		check_fail_db(c, c->db);
	else if (pg_sync_text(c->db, 0, 1) == NULL)
		check_ok(c, "%s, no events", pg_sync_text(c->db, 0, 0));
	else
		check_ok(c, "%s, the oldest event is %s old", pg_sync_text(c->db, 0, 0),
		    check_span(atof(pg_sync_text(c->db, 0, 1))));
	return true;
}

/* Who keeps a part of the log from being emptied. Whose transaction it is everybody may see, since when it is
 * open only its own role and those that may read all statistics. The caller releases it. */
static char *
check_rotation_hint(struct check *c)
{
	static const char sql[] =
	    "SELECT a.pid, a.usename, a.application_name, extract(epoch FROM clock_timestamp() - "
	    "a.xact_start)"
	    " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
	    " WHERE l.locktype = 'relation' AND l.granted AND a.datname = current_database()"
	    " AND l.relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = "
	    "'pgrelay.event'::regclass)"
	    " AND a.pid <> pg_backend_pid() ORDER BY a.xact_start LIMIT 1";
	const char *since;

	if (!pg_sync_query(c->db, sql, 0, NULL) || pg_sync_rows(c->db) == 0)
		return mem_strdup(
		    "Nodes rotate the log, every 10 seconds: see that one runs. After a long transaction it "
		    "waits for one retention more.");
	since = pg_sync_text(c->db, 0, 3);
	return mem_printf("The session with pid %s (user \"%s\", application \"%s\") has a transaction open "
			  "that uses the log%s%s; SELECT pg_terminate_backend(%s) ends it.",
	    pg_sync_text(c->db, 0, 0), pg_sync_text(c->db, 0, 1), pg_sync_text(c->db, 0, 2),
	    since != NULL ? ", for " : "", since != NULL ? check_span(atof(since)) : "",
	    pg_sync_text(c->db, 0, 0));
}

static bool
check_rotation(struct check *c)
{
	bool stale, waiting;
	char *ago, *hint;

	if (!pg_sync_query(c->db,
		"SELECT log_state, extract(epoch FROM server_time - log_rotated) FROM pgrelay.health()", 0,
		NULL)) {
		check_fail_db(c, c->db);
		return true;
	}
	stale = strcmp(pg_sync_text(c->db, 0, 0), "stale") == 0;
	waiting = strcmp(pg_sync_text(c->db, 0, 0), "waiting") == 0;
	ago = mem_strdup(check_span(atof(pg_sync_text(c->db, 0, 1))));
	if (!stale && !waiting) {
		check_ok(c, "last %s ago", ago);
	} else {
		hint = check_rotation_hint(c);
		check_fail(c, hint,
		    stale ? "last %s ago: the log is stale, only events that do not fit into a NOTIFY are "
			    "logged"
			  : "last %s ago: it is overdue",
		    ago);
		free(hint);
	}
	free(ago);
	return true;
}

/* A change of the setting takes effect partition by partition. */
static bool
check_persistence(struct check *c)
{
	if (!pg_sync_query(c->db,
		"SELECT bool_or(relpersistence = 'u'), bool_or(relpersistence = 'p') FROM pg_class"
		" WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = "
		"'pgrelay.event'::regclass)",
		0, NULL))
		check_fail_db(c, c->db);
	else if (*pg_sync_text(c->db, 0, 0) == 'f')
		check_ok(c, "logged");
	else
		check_ok(c, "%sunlogged: a crash or a promotion empties it",
		    *pg_sync_text(c->db, 0, 1) == 't' ? "partly " : "");
	return true;
}

static bool
check_commit_order(struct check *c)
{
	bool exact;

	if (!pg_sync_query(c->db, "SELECT current_setting('track_commit_timestamp')", 0, NULL)) {
		check_fail_db(c, c->db);
		return true;
	}
	exact = strcmp(pg_sync_text(c->db, 0, 0), "on") == 0;
	return check_ok(c,
	    "overlapping transactions come, after an outage, in the order of their %s "
	    "(track_commit_timestamp "
	    "is %s)",
	    exact ? "commits" : "last events", exact ? "on" : "off");
}

/* ---- the clock ---- */

static double
check_clock_now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The server's time less ours, known to half the round trip; of several answers the fastest counts. */
static bool
check_clock_measure(struct check *c, double *skew_s, double *error_s)
{
	*error_s = HUGE_VAL;
	for (int i = 0; i < CHECK_CLOCK_TRIES; i++) {
		double asked_s = check_clock_now_s(), half_s;

		if (!pg_sync_query(c->db, "SELECT extract(epoch FROM clock_timestamp())", 0, NULL))
			return check_fail_db(c, c->db);
		half_s = (check_clock_now_s() - asked_s) / 2;
		if (half_s >= *error_s)
			continue;
		*error_s = half_s;
		*skew_s = atof(pg_sync_text(c->db, 0, 0)) - asked_s - half_s;
	}
	return true;
}

static bool
check_clock(struct check *c)
{
	double skew_s = 0, error_s;

	if (!check_clock_measure(c, &skew_s, &error_s))
		return true;
	if (fabs(skew_s) - error_s > CHECK_CLOCK_S)
		return check_fail(c, "Let NTP set both clocks: chrony, systemd-timesyncd.",
		    "the server's is %.3f s %s of this machine's", fabs(skew_s),
		    skew_s > 0 ? "ahead" : "behind");
	return check_ok(c, "the server's is %.1f ms %s of this machine's", fabs(skew_s) * 1000,
	    skew_s > 0 ? "ahead" : "behind");
}

static const struct check_step {
	const char *name;
	bool (*run)(struct check *c);
} check_steps[] = {
    {"settings", check_settings},
    {"TLS", check_tls},
    {"connection", check_connection},
    {"server", check_server},
    {"primary", check_primary},
    {"encoding", check_encoding},
    {"schema", check_schema},
    {"channel", check_channel},
    {"privileges", check_privileges},
    {"LISTEN", check_listen},
    {"NOTIFY queue", check_queue},
    {"log", check_log},
    {"log rotation", check_rotation},
    {"log persistence", check_persistence},
    {"commit order", check_commit_order},
    {"clock", check_clock},
    {"cluster", check_cluster},
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
