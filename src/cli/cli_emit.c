/* pgrelay emit: one event from the shell. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All of standard input; NULL after having said why not. The caller releases it. */
static char *
cli_emit_read(void)
{
	char *text = NULL;
	size_t size = 0;

	if (getdelim(&text, &size, '\0', stdin) < 0) {
		if (ferror(stdin))
			cli_error("could not read the payload from standard input: %s", strerror(errno));
		else
			cli_error("the payload on standard input is empty");
	} else if (getchar() != EOF) {
		cli_error("the payload on standard input holds a NUL, which no JSON text does");
	} else {
		return text;
	}
	free(text);
	return NULL;
}

static int
cli_emit_send(const char *sql, int nparams, const char *const *params)
{
	struct pg_sync *db = cli_db_open("emit");
	int status = CLI_FAILED;

	if (db != NULL && cli_db_query(db, sql, nparams, params)) {
		puts(pg_sync_text(db, 0, 0));
		status = CLI_DONE;
	}
	pg_sync_free(db);
	return status;
}

static int
cli_emit_event(const char *group, char **operands, const char *payload)
{
	if (group != NULL)
		return cli_emit_send("SELECT pgrelay.emit_channel_notification($1, $2::jsonb)", 2,
		    (const char *const[]){group, payload});
	return cli_emit_send("SELECT pgrelay.emit($1, $2, $3, $4::jsonb)", 4,
	    (const char *const[]){operands[0], operands[1], operands[2], payload});
}

int
cli_emit(int argc, char **argv)
{
	const char *group = NULL, *payload;
	const struct cli_option options[] = {
	    {"group", "GROUP", "emit to a group of the AWX dialect, job_events-42 for one", &group, NULL,
		NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "emit",
	    .operands = "{TYPE ACTION KEY | --group GROUP} [JSON]",
	    .text = "Emits one event and prints its id. JSON is the payload, an object; it is read from "
		    "standard input when it\n"
		    "is - or left out.",
	    .options = options,
	    .operands_max = 4};
	struct cli_args args;
	char *input = NULL;
	int status, names;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	names = group != NULL ? 0 : 3;
	if (args.argc < names || args.argc > names + 1) {
		cli_error(
		    "TYPE, ACTION and KEY are wanted, or --group GROUP, and at most one JSON behind them");
		cli_hint("Try \"pgrelay emit --help\".");
		return CLI_WRONG_USAGE;
	}
	payload = args.argv[names];
	if (payload == NULL || strcmp(payload, "-") == 0)
		payload = input = cli_emit_read();
	status = payload != NULL ? cli_emit_event(group, args.argv, payload) : CLI_FAILED;
	free(input);
	return status;
}
