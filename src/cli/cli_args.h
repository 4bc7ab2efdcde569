/*
 * What the commands share: reading arguments, --help, reporting errors. A command describes itself by a
 * struct cli_usage; --help, the checks and the error messages come from it. Every command takes --help,
 * --config FILE, and each setting as a flag.
 */
#ifndef PGRELAY_CLI_CLI_ARGS_H
#define PGRELAY_CLI_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

enum cli_status { CLI_DONE = 0, CLI_FAILED = 1, CLI_WRONG_USAGE = 2 };

/* The values of an option that may be given more than once; they point into argv. */
struct cli_values {
	const char **list; /* released with free() by the command */
	size_t count;
};

/* An option of one command; a table of them ends with a row whose name is NULL. */
struct cli_option {
	const char *name;          /* without the dashes */
	const char *argument;      /* what the help calls its value; NULL: a switch */
	const char *text;          /* one sentence for the help */
	const char **value;        /* gets the value, which points into argv; NULL for a switch */
	bool *on;                  /* is set by a switch; NULL where there is a value */
	struct cli_values *values; /* in place of value: gets each of several */
};

struct cli_usage {
	const char *command;              /* "serve", "token create" */
	const char *operands;             /* for the synopsis: "USER PATTERN..."; "" for none */
	const char *text;                 /* what it does, for the help; lines */
	const struct cli_option *options; /* NULL for none */
	int operands_min, operands_max;   /* max -1: any number */
	bool all_settings;                /* the help lists every setting */
	bool ends_at_operand; /* what follows the first operand is not ours to read: run's COMMAND */
	int wrong_status;     /* exit status of wrong usage and settings; 0: CLI_WRONG_USAGE */
};

struct cli_args {
	const char *config; /* --config; NULL when not given */
	int argc;
	char **argv; /* the operands; ends with NULL, lies in the argv that was read */
};

/*
 * Reads argv (from the command's own name on; reordered) and loads the settings into `conf`. False: the
 * command is to return *status at once, all has been said: help was asked for (0), or arguments or settings
 * are wrong.
 */
bool cli_args_start(struct cli_args *args, const struct cli_usage *usage, int argc, char **argv, int *status)
    __attribute__((warn_unused_result));

/* Its two halves: reading argv, loading the settings. */
bool cli_args_read(struct cli_args *args, const struct cli_usage *usage, int argc, char **argv, int *status)
    __attribute__((warn_unused_result));
bool cli_args_load(const struct cli_args *args, const struct cli_usage *usage, int *status)
    __attribute__((warn_unused_result));

/* Commands that have commands: "token create". A table ends with a row whose name is NULL. */
struct cli_command {
	const char *name;
	const char *text; /* one sentence for the help */
	int (*run)(int argc, char **argv);
};
/* Runs the one that argv[1] names; parent is "" for pgrelay itself. */
int cli_command_run(
    const char *parent, const char *text, const struct cli_command *commands, int argc, char **argv);

/*
 * Lines on standard error, in PostgreSQL's form: "pgrelay: error: ...". Messages are short, lower case,
 * without a full stop; a hint is a sentence. cli_error() returns CLI_FAILED, for the caller to return.
 */
int cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_detail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_say(const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* any other: "warning" */

#endif
