/* A command's session with the database. */
#include "config.h"
#include "cli/cli_db.h"
#include "cli/cli_args.h"
#include "cli/cli_table.h"
#include "core/conf.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
cli_db_hint(const struct pg_sync *db)
{
	const struct pg_sync_error *error = pg_sync_error(db);

	if (pg_sync_lacks_schema(db))
		return "\"pgrelay schema install\" installs or upgrades the schema in this database.";
	if (*error->hint != '\0')
		return error->hint;
	if (strcmp(error->sqlstate, "42501") == 0)
		return "GRANT pgrelay_emitter TO the role (emit, run), or pgrelay_node (serve, check); the "
		       "rest is for the schema's owner.";
	return "";
}

void
cli_db_tell_error(const struct pg_sync *db)
{
	const struct pg_sync_error *error = pg_sync_error(db);

	cli_error("%s", error->message);
	if (*error->detail != '\0')
		cli_detail("%s", error->detail);
	if (*cli_db_hint(db) != '\0')
		cli_hint("%s", cli_db_hint(db));
}

static void
cli_db_tell_notice(void *arg, const char *severity, const char *message, const char *hint)
{
	cli_say(severity, "%s", message);
	if (*hint != '\0')
		cli_hint("%s", hint);
}

struct pg_sync *
cli_db_open(const char *command)
{
	char *name = mem_printf("pgrelay %s", command);
	struct pg_sync *db = pg_sync_new(conf.database, name, cli_db_tell_notice, NULL);

	free(name);
	if (pg_sync_connect(db, (long)conf.connect_timeout_ms))
		return db;
	cli_error("could not connect to the database: %s", pg_sync_error(db)->message);
	cli_hint("The setting \"database\" says where it is: --database CONNINFO, or PGRELAY_DATABASE.");
	pg_sync_free(db);
	return NULL;
}

bool
cli_db_query(struct pg_sync *db, const char *sql, int nparams, const char *const *params)
{
	if (pg_sync_query(db, sql, nparams, params))
		return true;
	cli_db_tell_error(db);
	return false;
}

/* ---- lists ---- */

static void
cli_db_print_table(const struct pg_sync *db)
{
	struct cli_table t = {.columns = (size_t)pg_sync_columns(db)};

	for (int row = -1; row < pg_sync_rows(db); row++) {
		for (int column = 0; column < pg_sync_columns(db); column++) {
			const char *text =
			    row < 0 ? pg_sync_column_name(db, column) : pg_sync_text(db, row, column);

			cli_table_add(&t, "%s", text != NULL ? text : "");
		}
	}
	cli_table_print(&t);
}

int
cli_db_list(const struct cli_usage *usage, int argc, char **argv, const bool *json, const char *rows_sql,
    const char *json_sql)
{
	struct cli_args args;
	struct pg_sync *db;
	int status;

	if (!cli_args_start(&args, usage, argc, argv, &status))
		return status;
	if ((db = cli_db_open(usage->command)) == NULL)
		return CLI_FAILED;
	status = CLI_FAILED;
	if (cli_db_query(db, *json ? json_sql : rows_sql, 1, (const char *const *)args.argv)) {
		status = CLI_DONE;
		if (*json)
			puts(pg_sync_text(db, 0, 0));
		else
			cli_db_print_table(db);
	}
	pg_sync_free(db);
	return status;
}
