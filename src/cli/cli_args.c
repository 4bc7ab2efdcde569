/* Reading arguments, --help, reporting errors: what the commands share. */
#include "config.h"
#include "cli/cli_args.h"
#include "core/conf.h"
#include "core/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines on standard error ---- */

static void
cli_vsay(const char *kind, const char *fmt, va_list ap)
{
	char *text = mem_vprintf(fmt, ap);

	fflush(stdout);
	fprintf(stderr, "pgrelay: %s: %s\n", kind, text);
	free(text);
}

int
cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay("error", fmt, ap);
	va_end(ap);
	return CLI_FAILED;
}

void
cli_detail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay("detail", fmt, ap);
	va_end(ap);
}

void
cli_hint(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay("hint", fmt, ap);
	va_end(ap);
}

void
cli_say(const char *kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay(kind, fmt, ap);
	va_end(ap);
}

/* ---- help ---- */

static void
cli_print_line(const char *name, const char *argument, const char *text)
{
	char *left =
	    mem_printf("--%s%s%s", name, argument != NULL ? " " : "", argument != NULL ? argument : "");

	printf("  %-24s %s\n", left, text);
	free(left);
}

static void
cli_usage_print(const struct cli_usage *usage)
{
	printf("Usage: pgrelay %s [OPTION]...%s%s\n\n%s\n\nOptions:\n", usage->command,
	    *usage->operands != '\0' ? " " : "", usage->operands, usage->text);
	for (const struct cli_option *o = usage->options; o != NULL && o->name != NULL; o++)
		cli_print_line(o->name, o->argument, o->text);
	cli_print_line("config", "FILE", "read the settings from FILE");
	cli_print_line("help", NULL, "show this text");
	if (usage->all_settings) {
		puts("\nSettings, each also a line of the file and an environment variable PGRELAY_NAME:");
		conf_print_help(stdout);
	} else {
		puts("\nEvery setting is an option too, --database CONNINFO for one; pgrelay config --list "
		     "shows all.");
	}
}

/* ---- arguments ---- */

static bool
cli_usage_fail(const struct cli_usage *usage, int *status)
{
	cli_hint("Try \"pgrelay %s --help\".", usage->command);
	*status = usage->wrong_status != 0 ? usage->wrong_status : CLI_WRONG_USAGE;
	return false;
}

static const struct cli_option *
cli_option_find(const struct cli_usage *usage, const char *name)
{
	for (const struct cli_option *o = usage->options; o != NULL && o->name != NULL; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

static void
cli_values_add(struct cli_values *values, const char *value)
{
	values->list = mem_resize(values->list, sizeof(*values->list) * (values->count + 1));
	values->list[values->count++] = value;
}

/* Sets what the option NAME stands for: the command's own, --config, or a setting. */
static bool
cli_option_set(
    struct cli_args *args, const struct cli_option *own, const char *name, const char *value, char **error)
{
	if (own != NULL && own->values != NULL)
		cli_values_add(own->values, value);
	else if (own != NULL)
		*own->value = value;
	else if (strcmp(name, "config") == 0)
		args->config = value;
	else
		return conf_set_flag(name, value, error);
	return true;
}

/* The option at argv[*at]; leaves *at on the last argument that it took. */
static bool
cli_option_read(
    struct cli_args *args, const struct cli_usage *usage, int argc, char **argv, int *at, char **error)
{
	const char *arg = argv[*at] + 2;
	size_t len = strcspn(arg, "=");
	const char *value = arg[len] == '=' ? arg + len + 1 : NULL;
	char *name = mem_strndup(arg, len);
	const struct cli_option *own = cli_option_find(usage, name);
	bool ok = false;

	if (own != NULL && own->argument == NULL) {
		ok = value == NULL;
		*own->on = true;
		if (!ok)
			*error = mem_printf("option --%s takes no value", name);
	} else if (own == NULL && strcmp(name, "config") != 0 && !conf_is_option(name)) {
		*error = mem_printf("unknown option \"--%s\"", name);
	} else if (value == NULL && *at + 1 >= argc) {
		*error = mem_printf("option --%s wants a value", name);
	} else {
		ok = cli_option_set(args, own, name, value != NULL ? value : argv[++*at], error);
	}
	free(name);
	return ok;
}

static bool
cli_operands_check(const struct cli_args *args, const struct cli_usage *usage, int *status)
{
	if (args->argc < usage->operands_min)
		cli_error("too few arguments: \"pgrelay %s\" wants %s", usage->command, usage->operands);
	else if (usage->operands_max >= 0 && args->argc > usage->operands_max)
		cli_error("unexpected argument \"%s\"", args->argv[usage->operands_max]);
	else
		return true;
	return cli_usage_fail(usage, status);
}

bool
cli_args_read(struct cli_args *args, const struct cli_usage *usage, int argc, char **argv, int *status)
{
	bool only_operands = false;

	*args = (struct cli_args){.argv = argv};
	for (int i = 1; i < argc; i++) {
		char *error = NULL;

		if (only_operands || argv[i][0] != '-' || argv[i][1] == '\0') {
			args->argv[args->argc++] = argv[i];
			only_operands |= usage->ends_at_operand;
		} else if (strcmp(argv[i], "--") == 0) {
			only_operands = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			cli_usage_print(usage);
			*status = CLI_DONE;
			return false;
		} else if (argv[i][1] != '-') {
			cli_error("unknown option \"%s\"", argv[i]);
			return cli_usage_fail(usage, status);
		} else if (!cli_option_read(args, usage, argc, argv, &i, &error)) {
			cli_error("%s", error);
			free(error);
			return cli_usage_fail(usage, status);
		}
	}
	args->argv[args->argc] = NULL;
	return cli_operands_check(args, usage, status);
}

bool
cli_args_load(const struct cli_args *args, const struct cli_usage *usage, int *status)
{
	char *error = NULL;

	if (conf_load(args->config, &error))
		return true;
	cli_error("%s", error);
	free(error);
	cli_hint("\"pgrelay config --list\" describes every setting.");
	*status = usage->wrong_status != 0 ? usage->wrong_status : CLI_WRONG_USAGE;
	return false;
}

bool
cli_args_start(struct cli_args *args, const struct cli_usage *usage, int argc, char **argv, int *status)
{
	return cli_args_read(args, usage, argc, argv, status) && cli_args_load(args, usage, status);
}

/* ---- commands ---- */

static int
cli_commands_help(const char *parent, const char *text, const struct cli_command *commands)
{
	const char *gap = *parent != '\0' ? " " : "";

	printf("Usage: pgrelay%s%s COMMAND [OPTION]...\n\n%s\n\nCommands:\n", gap, parent, text);
	for (const struct cli_command *c = commands; c->name != NULL; c++)
		printf("  %-12s %s\n", c->name, c->text);
	printf("\n\"pgrelay%s%s COMMAND --help\" explains one.\n", gap, parent);
	return CLI_DONE;
}

int
cli_command_run(
    const char *parent, const char *text, const struct cli_command *commands, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (name != NULL && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0))
		return cli_commands_help(parent, text, commands);
	for (const struct cli_command *c = commands; name != NULL && c->name != NULL; c++)
		if (strcmp(c->name, name) == 0)
			return c->run(argc - 1, argv + 1);
	if (name == NULL)
		cli_error("a command is missing");
	else if (*name == '-')
		cli_error("options come after the command: \"%s\" does not", name);
	else
		cli_error("unknown command \"%s%s%s\"", parent, *parent != '\0' ? " " : "", name);
	cli_hint("Try \"pgrelay%s%s --help\".", *parent != '\0' ? " " : "", parent);
	return CLI_WRONG_USAGE;
}
