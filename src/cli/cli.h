/*
 * The command line: one function a command, each in its own cli_NAME.c, listed in cli_commands[] (cli.c).
 * Each gets argv from its own name on and returns the exit status: 0 done, 1 failed, 2 wrong usage, or what
 * docs/commands.md says.
 */
#ifndef PGRELAY_CLI_CLI_H
#define PGRELAY_CLI_CLI_H

int cli_main(int argc, char **argv);

int cli_serve(int argc, char **argv);
int cli_schema(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_token(int argc, char **argv);
int cli_password(int argc, char **argv);
int cli_grant(int argc, char **argv);
int cli_emit(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_watch(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_cert(int argc, char **argv);
int cli_config(int argc, char **argv);

#endif
