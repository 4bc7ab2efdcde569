/* pgrelay serve: the node. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/schema_sql.h"
#include "relay/relay.h"

int
cli_serve(int argc, char **argv)
{
	const struct cli_usage usage = {.command = "serve",
	    .operands = "",
	    .text = "Serves clients in the foreground and logs to standard error. SIGTERM and SIGINT end it "
		    "gracefully,\n"
		    "SIGHUP makes it read its settings again.",
	    .all_settings = true};
	struct cli_args args;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	return relay_run(schema_sql_version);
}
