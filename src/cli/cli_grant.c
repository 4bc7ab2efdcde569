/* pgrelay grant: what users may see, and what they may publish. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <stdio.h>
#include <stdlib.h>

static bool cli_grant_publish; /* the right to publish is meant, not the one to see */
static const struct cli_option cli_grant_options[] = {
    {"publish", NULL, "the right to publish through a node, not the one to see", NULL, &cli_grant_publish,
	NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};

struct cli_grant_change {
	const char *sql;
	const char *done, *nothing; /* formats: "publishing " or "", pattern, user */
};

static const struct cli_grant_change cli_grant_adding = {"SELECT pgrelay.grant_add($1, $2, $3::boolean)",
    "granted %s\"%s\" to \"%s\"\n", "%s\"%s\" was granted to \"%s\" before\n"};
static const struct cli_grant_change cli_grant_removing = {"SELECT pgrelay.grant_remove($1, $2, $3::boolean)",
    "took %s\"%s\" from \"%s\"\n", "%s\"%s\" was not granted to \"%s\"\n"};

/* All patterns or none; changed[i] tells whether the i-th made a difference. */
static bool
cli_grant_apply(
    struct pg_sync *db, const struct cli_grant_change *change, const struct cli_args *args, bool *changed)
{
	if (!cli_db_query(db, "BEGIN", 0, NULL))
		return false;
	for (int i = 1; i < args->argc; i++) {
		if (!cli_db_query(db, change->sql, 3,
			(const char *const[]){
			    args->argv[0], args->argv[i], cli_grant_publish ? "true" : "false"}))
			return false;
		changed[i] = *pg_sync_text(db, 0, 0) == 't';
	}
	return cli_db_query(db, "COMMIT", 0, NULL);
}

static int
cli_grant_change(const struct cli_usage *usage, int argc, char **argv, const struct cli_grant_change *change)
{
	struct cli_args args;
	struct pg_sync *db;
	bool *changed, ok;
	int status;

	if (!cli_args_start(&args, usage, argc, argv, &status))
		return status;
	if ((db = cli_db_open("grant")) == NULL)
		return CLI_FAILED;
	changed = mem_zalloc(sizeof(*changed) * (size_t)args.argc);
	ok = cli_grant_apply(db, change, &args, changed);
	for (int i = 1; ok && i < args.argc; i++)
		printf(changed[i] ? change->done : change->nothing, cli_grant_publish ? "publishing " : "",
		    args.argv[i], args.argv[0]);
	free(changed);
	pg_sync_free(db);
	return ok ? CLI_DONE : CLI_FAILED;
}

static int
cli_grant_add(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "grant add",
	    .operands = "USER PATTERN...",
	    .text = "Lets USER see the events of these patterns: TYPE.ACTION.KEY, where each part may be *. "
		    "Quote them from the\n"
		    "shell: \"job_events.*.42\" is the output of job 42, \"jobs.*.*\" every change of a "
		    "job's status, \"*.*.*\" all.\n"
		    "With --publish, lets USER publish such events through a node; who may see them need not "
		    "be who may publish them.",
	    .options = cli_grant_options,
	    .operands_min = 2,
	    .operands_max = -1};

	return cli_grant_change(&usage, argc, argv, &cli_grant_adding);
}

static int
cli_grant_remove(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "grant remove",
	    .operands = "USER PATTERN...",
	    .text = "Takes grants back. PATTERN as grant list shows it; with --publish those whose RIGHT is "
		    "publish. Who is\n"
		    "connected loses them at once.",
	    .options = cli_grant_options,
	    .operands_min = 2,
	    .operands_max = -1};

	return cli_grant_change(&usage, argc, argv, &cli_grant_removing);
}

#define CLI_GRANT_FROM                                                                                       \
	" FROM pgrelay.grants g JOIN pgrelay.users u ON u.id = g.user_id WHERE $1::text IS NULL OR u.name "  \
	"= $1"
#define CLI_GRANT_RIGHT "CASE WHEN g.publish THEN 'publish' ELSE 'see' END"
#define CLI_GRANT_ORDER " ORDER BY u.name, g.pattern, g.publish"

static const char cli_grant_rows_sql[] =
    "SELECT u.name AS \"USER\", g.pattern AS \"PATTERN\", " CLI_GRANT_RIGHT " AS \"RIGHT\","
    " to_char(g.created, 'YYYY-MM-DD HH24:MI') AS \"SINCE\"" CLI_GRANT_FROM CLI_GRANT_ORDER;
static const char cli_grant_json_sql[] =
    "SELECT coalesce(json_agg(json_build_object('user', u.name, 'pattern', g.pattern, 'created', g.created,"
    " 'right', " CLI_GRANT_RIGHT ")" CLI_GRANT_ORDER "), '[]')" CLI_GRANT_FROM;

static int
cli_grant_list(int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {
	    {"json", NULL, "print a JSON array", NULL, &json, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "grant list",
	    .operands = "[USER]",
	    .text = "Lists what USER may see and publish, or what all may.",
	    .options = options,
	    .operands_max = 1};

	return cli_db_list(&usage, argc, argv, &json, cli_grant_rows_sql, cli_grant_json_sql);
}

int
cli_grant(int argc, char **argv)
{
	static const struct cli_command commands[] = {
	    {"add", "lets a user see, or publish, more", cli_grant_add},
	    {"list", "lists what users may see and publish", cli_grant_list},
	    {"remove", "takes grants back", cli_grant_remove},
	    {NULL, NULL, NULL},
	};

	return cli_command_run("grant", "Grants: what users may see and publish. Without a grant, nothing.",
	    commands, argc, argv);
}
