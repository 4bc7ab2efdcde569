/* The table of commands. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "core/conf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command cli_commands[] = {
    {"serve", "the node: brings the database's events to WebSocket clients", cli_serve},
    {"schema", "installs, upgrades, prints or removes the SQL schema", cli_schema},
    {"check", "proves that settings, database and schema fit together", cli_check},
    {"token", "makes, lists and revokes tokens", cli_token},
    {"password", "sets and removes users' passwords", cli_password},
    {"grant", "says what users may see", cli_grant},
    {"emit", "emits one event", cli_emit},
    {"run", "runs a command as a job whose output is followed live", cli_run},
    {"watch", "follows groups in the terminal", cli_watch},
    {"status", "shows the nodes of the cluster and the links between them", cli_status},
    {"cert", "makes a certificate for serving TLS", cli_cert},
    {"config", "shows, checks and describes the settings", cli_config},
    {NULL, NULL, NULL},
};

/* What was printed may not have arrived: a full disk is a failure, a reader who has left is not. */
static int
cli_close_output(int status)
{
	bool lost = ferror(stdout) != 0;

	if ((fclose(stdout) == 0 && !lost) || errno == EPIPE || status != CLI_DONE)
		return status;
	return cli_error("could not write to standard output: %s", strerror(errno));
}

int
cli_main(int argc, char **argv)
{
	int status;

	if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
		puts("pgrelay " PACKAGE_VERSION);
		return cli_close_output(CLI_DONE);
	}
	status = cli_command_run("",
	    "Brings what happens in a PostgreSQL database to people's screens while it happens.",
	    cli_commands, argc, argv);
	conf_free();
	return cli_close_output(status);
}
