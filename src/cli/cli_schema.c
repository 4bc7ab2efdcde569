/* pgrelay schema: the SQL schema, which the program carries. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "cli/schema_sql.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *
cli_schema_text(void)
{
	size_t len = 0;
	char *text, *end;

	for (const char *const *line = schema_sql; *line != NULL; line++)
		len += strlen(*line);
	text = end = mem_alloc(len + 1);
	for (const char *const *line = schema_sql; *line != NULL; line++)
		end = stpcpy(end, *line);
	return text;
}

/* The version installed in the database; 0 for none, -1 when the question failed: that has been told. */
static int
cli_schema_installed(struct pg_sync *db)
{
	const char *answer;

	if (!cli_db_query(db, "SELECT to_regclass('pgrelay.schema_version')", 0, NULL))
		return -1;
	if (pg_sync_text(db, 0, 0) == NULL)
		return 0;
	if (!cli_db_query(db, "SELECT max(version) FROM pgrelay.schema_version", 0, NULL))
		return -1;
	answer = pg_sync_text(db, 0, 0);
	return answer != NULL ? atoi(answer) : 0;
}

/* One transaction: the server ends it when the script fails and the session is closed. */
static bool
cli_schema_apply(struct pg_sync *db, const char *script)
{
	if (pg_sync_script(db, "BEGIN") && pg_sync_script(db, script) && pg_sync_script(db, "COMMIT"))
		return true;
	cli_db_tell_error(db);
	return false;
}

static void
cli_schema_tell(int before)
{
	if (before == 0)
		printf("installed the schema \"pgrelay\", version %d\n", schema_sql_version);
	else if (before < schema_sql_version)
		printf("upgraded the schema \"pgrelay\" from version %d to %d\n", before, schema_sql_version);
	else
		printf("the schema \"pgrelay\" is there, version %d; its functions were made anew\n", before);
}

static int
cli_schema_put(struct pg_sync *db, bool must_exist)
{
	int before = cli_schema_installed(db);
	char *script;
	bool ok;

	if (before < 0)
		return CLI_FAILED;
	if (before == 0 && must_exist) {
		cli_error("this database has no schema \"pgrelay\" to upgrade");
		cli_hint("\"pgrelay schema install\" installs it.");
		return CLI_FAILED;
	}
	script = cli_schema_text();
	ok = cli_schema_apply(db, script);
	free(script);
	if (ok)
		cli_schema_tell(before);
	return ok ? CLI_DONE : CLI_FAILED;
}

static int
cli_schema_change(const struct cli_usage *usage, int argc, char **argv, bool must_exist)
{
	struct cli_args args;
	struct pg_sync *db;
	int status;

	if (!cli_args_start(&args, usage, argc, argv, &status))
		return status;
	if ((db = cli_db_open("schema")) == NULL)
		return CLI_FAILED;
	status = cli_schema_put(db, must_exist);
	pg_sync_free(db);
	return status;
}

static int
cli_schema_install(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "schema install",
	    .operands = "",
	    .text = "Installs the schema \"pgrelay\", in one transaction. Where it is installed already, "
		    "brings it up to this\n"
		    "program's version; the data stay. Needs the right to create a schema, no more; the "
		    "roles pgrelay_node and\n"
		    "pgrelay_emitter are made when the role that installs may create roles."};

	return cli_schema_change(&usage, argc, argv, false);
}

static int
cli_schema_upgrade(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "schema upgrade",
	    .operands = "",
	    .text = "Brings the installed schema \"pgrelay\" up to this program's version, in one "
		    "transaction; the data stay."};

	return cli_schema_change(&usage, argc, argv, true);
}

static int
cli_schema_print(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "schema print",
	    .operands = "",
	    .text = "Prints the schema as a script, for pgrelay schema print | psql -1"};
	struct cli_args args;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	for (const char *const *line = schema_sql; *line != NULL; line++)
		fputs(*line, stdout);
	return CLI_DONE;
}

static int
cli_schema_drop(struct pg_sync *db)
{
	int before = cli_schema_installed(db);

	if (before < 0)
		return CLI_FAILED;
	if (before == 0)
		return cli_error("this database has no schema \"pgrelay\"");
	if (!cli_schema_apply(db, "SET LOCAL client_min_messages = warning; DROP SCHEMA pgrelay CASCADE"))
		return CLI_FAILED;
	printf("removed the schema \"pgrelay\", version %d, with its data and its triggers on other tables\n",
	    before);
	cli_hint("The roles pgrelay_node and pgrelay_emitter stay: other databases may use them.");
	return CLI_DONE;
}

static int
cli_schema_uninstall(int argc, char **argv)
{
	bool yes = false;
	const struct cli_option options[] = {
	    {"yes", NULL, "really remove it, with all its data", NULL, &yes, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "schema uninstall",
	    .operands = "",
	    .text = "Removes the schema \"pgrelay\" with its tables, and the triggers that pgrelay.watch() "
		    "put on yours.",
	    .options = options};
	struct cli_args args;
	struct pg_sync *db;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	if (!yes) {
		cli_error("this removes every job, event, user, token and grant in the schema \"pgrelay\"");
		cli_hint("Say \"pgrelay schema uninstall --yes\" to do it.");
		return CLI_WRONG_USAGE;
	}
	if ((db = cli_db_open("schema")) == NULL)
		return CLI_FAILED;
	status = cli_schema_drop(db);
	pg_sync_free(db);
	return status;
}

int
cli_schema(int argc, char **argv)
{
	static const struct cli_command commands[] = {
	    {"install", "installs the schema, or brings it up to date", cli_schema_install},
	    {"upgrade", "brings an installed schema up to date", cli_schema_upgrade},
	    {"print", "prints it as a script for psql", cli_schema_print},
	    {"uninstall", "removes it, with its data", cli_schema_uninstall},
	    {NULL, NULL, NULL},
	};

	return cli_command_run("schema", "The SQL schema \"pgrelay\".", commands, argc, argv);
}
