/* pgrelay token: what clients show to be let in. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- create ---- */

/* On standard error, where it is not in the way of $(pgrelay token create ...). */
static void
cli_token_describe(struct pg_sync *db, const char *user, const char *id)
{
	const char *expires;

	if (!cli_db_query(db,
		"SELECT to_char(t.expires, 'YYYY-MM-DD HH24:MI:SS TZ'),"
		" EXISTS (SELECT FROM pgrelay.grants g WHERE g.user_id = t.user_id)"
		" FROM pgrelay.token t WHERE t.id = $1::bigint",
		1, &id) ||
	    pg_sync_rows(db) == 0)
		return;
	expires = pg_sync_text(db, 0, 0);
	fprintf(stderr, "pgrelay: token %s of \"%s\", %s%s; it is not shown again\n", id, user,
	    expires != NULL ? "valid until " : "without an end", expires != NULL ? expires : "");
	if (*pg_sync_text(db, 0, 1) == 'f')
		cli_hint("\"%s\" may see nothing yet: pgrelay grant add \"%s\" \"job_events.*.*\", for one.",
		    user, user);
}

static int
cli_token_make(struct pg_sync *db, const char *const *params)
{
	char *id;

	if (!cli_db_query(
		db, "SELECT token, token_id FROM pgrelay.token_create($1, $2::interval, $3)", 3, params))
		return CLI_FAILED;
	puts(pg_sync_text(db, 0, 0));
	id = mem_strdup(pg_sync_text(db, 0, 1));
	cli_token_describe(db, params[0], id);
	free(id);
	return CLI_DONE;
}

static int
cli_token_create(int argc, char **argv)
{
	const char *ttl = NULL, *description = NULL;
	const struct cli_option options[] = {
	    {"ttl", "TIME", "how long it is valid: 30d, 12h, '2 weeks'; without it, for ever", &ttl, NULL,
		NULL},
	    {"description", "TEXT", "what it is for; shown by token list", &description, NULL, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "token create",
	    .operands = "USER",
	    .text = "Makes a token for USER, who is made too where there is none, and prints it on standard "
		    "output. Only a\n"
		    "digest of it is kept: it cannot be shown again.",
	    .options = options,
	    .operands_min = 1,
	    .operands_max = 1};
	struct cli_args args;
	struct pg_sync *db;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	if ((db = cli_db_open("token")) == NULL)
		return CLI_FAILED;
	status = cli_token_make(db, (const char *const[]){args.argv[0], ttl, description});
	pg_sync_free(db);
	return status;
}

/* ---- list ---- */

#define CLI_TOKEN_FROM                                                                                       \
	" FROM pgrelay.token t JOIN pgrelay.users u ON u.id = t.user_id WHERE $1::text IS NULL OR u.name = " \
	"$1"

static const char cli_token_rows_sql[] =
    "SELECT t.id AS \"ID\", u.name AS \"USER\", to_char(t.created, 'YYYY-MM-DD HH24:MI') AS \"CREATED\","
    " CASE WHEN t.expires <= now() THEN 'expired' ELSE to_char(t.expires, 'YYYY-MM-DD HH24:MI') END AS "
    "\"EXPIRES\","
    " t.description AS \"DESCRIPTION\"" CLI_TOKEN_FROM " ORDER BY t.id";
static const char cli_token_json_sql[] =
    "SELECT coalesce(json_agg(json_build_object('id', t.id, 'user', u.name, 'created', t.created, 'expires', "
    "t.expires,"
    " 'description', t.description, 'origin', t.origin) ORDER BY t.id), '[]')" CLI_TOKEN_FROM;

static int
cli_token_list(int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {
	    {"json", NULL, "print a JSON array", NULL, &json, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "token list",
	    .operands = "[USER]",
	    .text = "Lists the tokens of USER, or of all: never the tokens themselves, which are not kept.",
	    .options = options,
	    .operands_max = 1};

	return cli_db_list(&usage, argc, argv, &json, cli_token_rows_sql, cli_token_json_sql);
}

/* ---- revoke ---- */

static int
cli_token_end(struct pg_sync *db, const char *id)
{
	if (!cli_db_query(db, "SELECT pgrelay.token_revoke($1::bigint)", 1, &id))
		return CLI_FAILED;
	if (*pg_sync_text(db, 0, 0) != 't') {
		cli_error("there is no token %s", id);
		cli_hint("\"pgrelay token list\" shows the tokens with their ids.");
		return CLI_FAILED;
	}
	printf("revoked token %s\n", id);
	return CLI_DONE;
}

static int
cli_token_revoke(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "token revoke",
	    .operands = "ID",
	    .text = "Revokes the token that token list shows under ID. It is refused from now on, and so are "
		    "those "
		    "that a node has issued\nto who showed it.",
	    .operands_min = 1,
	    .operands_max = 1};
	struct cli_args args;
	struct pg_sync *db;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	if ((db = cli_db_open("token")) == NULL)
		return CLI_FAILED;
	status = cli_token_end(db, args.argv[0]);
	pg_sync_free(db);
	return status;
}

int
cli_token(int argc, char **argv)
{
	static const struct cli_command commands[] = {
	    {"create", "makes a token and prints it", cli_token_create},
	    {"list", "lists the tokens", cli_token_list},
	    {"revoke", "revokes a token", cli_token_revoke},
	    {NULL, NULL, NULL},
	};

	return cli_command_run("token", "Tokens: what clients show to be let in.", commands, argc, argv);
}
