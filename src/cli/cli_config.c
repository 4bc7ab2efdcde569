/* pgrelay config: the settings, shown, checked and described. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "core/conf.h"

#include <stdio.h>

int
cli_config(int argc, char **argv)
{
	bool print = false, check = false, list = false;
	const struct cli_option options[] = {
	    {"print", NULL, "the settings in force, as a file, and where each comes from", NULL, &print,
		NULL},
	    {"check", NULL, "read the settings and say what is wrong with them", NULL, &check, NULL},
	    {"list", NULL, "describe every setting, with its default, as a file", NULL, &list, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "config",
	    .operands = "",
	    .text = "Exactly one of --print, --check and --list. The settings come from a file (--config "
		    "FILE, else\n"
		    "$PGRELAY_CONFIG, else " PGRELAY_SYSCONFDIR
		    "/pgrelay.conf where there is one), then from the environment, then\n"
		    "from options; the later wins.",
	    .options = options};
	struct cli_args args;
	int status;

	if (!cli_args_read(&args, &usage, argc, argv, &status))
		return status;
	if (print + check + list != 1) {
		cli_error("one of --print, --check and --list is wanted");
		cli_hint("Try \"pgrelay config --help\".");
		return CLI_WRONG_USAGE;
	}
	if (list) {
		conf_print_sample(stdout);
		return CLI_DONE;
	}
	if (!cli_args_load(&args, &usage, &status))
		return check ? CLI_FAILED : status;
	if (check)
		puts("the settings are valid");
	else
		conf_print(stdout);
	return CLI_DONE;
}
