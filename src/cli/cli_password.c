/*
 * pgrelay password: by which users may be let in beside tokens. It is read from a file, from standard input, or
 * from the terminal, and is no argument: a command line is seen by every user of the host.
 */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_MAX     1000
#define PASSWORD_SCRAM   "SCRAM-SHA-256$"
#define PASSWORD_MD5_LEN 35

/* ---- reading ---- */

static void
password_release(char *password)
{
	if (password != NULL)
		OPENSSL_cleanse(password, strlen(password));
	free(password);
}

/* The first line, without its end; NULL: errno, or 0 at the end of the file. */
static char *
password_read_line(FILE *f)
{
	char *line = NULL;
	size_t size = 0;

	errno = 0;
	if (getline(&line, &size, f) < 0) {
		free(line);
		return NULL;
	}
	line[strcspn(line, "\r\n")] = '\0';
	return line;
}

static char *
password_read_file(const char *path)
{
	FILE *f = path != NULL ? fopen(path, "r") : stdin;
	char *password = f != NULL ? password_read_line(f) : NULL;

	if (password == NULL)
		cli_error("could not read a password from %s%s%s: %s", path != NULL ? "\"" : "",
		    path != NULL ? path : "standard input", path != NULL ? "\"" : "",
		    errno != 0 ? strerror(errno) : "it is empty");
	if (f != NULL && path != NULL)
		fclose(f);
	return password;
}

/* ---- asking ---- */

static volatile sig_atomic_t password_signal;

static void
password_on_signal(int signo)
{
	password_signal = signo;
}

static const int password_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

/* The terminal must not stay without echo, whatever ends the asking: signals wait until it has it again. */
static char *
password_read_silently(void)
{
	const struct sigaction catch = {.sa_handler = password_on_signal};
	struct sigaction before[ARRAY_LENGTH(password_signals)];
	struct termios with_echo, without;
	char *password;

	if (tcgetattr(STDIN_FILENO, &with_echo) != 0)
		return NULL;
	password_signal = 0;
	without = with_echo;
	without.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
	for (size_t i = 0; i < ARRAY_LENGTH(password_signals); i++)
		sigaction(password_signals[i], &catch, &before[i]);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &without);
	password = password_read_line(stdin);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &with_echo);
	fputc('\n', stderr);
	for (size_t i = 0; i < ARRAY_LENGTH(password_signals); i++)
		sigaction(password_signals[i], &before[i], NULL);
	if (password_signal != 0)
		raise(password_signal);
	return password;
}

static char *
password_ask(const char *prompt)
{
	char *password;

	fputs(prompt, stderr);
	password = password_read_silently();
	if (password == NULL)
		cli_error("no password was given");
	return password;
}

/* Twice, for nobody sees what was typed. */
static char *
password_ask_twice(const char *user)
{
	char *prompt = mem_printf("Password for \"%s\": ", user), *first = password_ask(prompt),
	     *second = NULL;
	bool same;

	free(prompt);
	if (first != NULL)
		second = password_ask("Once more: ");
	if (second == NULL) {
		password_release(first);
		return NULL;
	}
	same = strcmp(first, second) == 0;
	password_release(second);
	if (same)
		return first;
	cli_error("the two are not the same; nothing has changed");
	password_release(first);
	return NULL;
}

/* NULL after having said why. */
static char *
password_get(const char *user, const char *path)
{
	char *password =
	    path == NULL && isatty(STDIN_FILENO) ? password_ask_twice(user) : password_read_file(path);

	if (password == NULL)
		return NULL;
	if (*password == '\0')
		cli_error("the password is empty");
	else if (strlen(password) > PASSWORD_MAX)
		cli_error("the password is longer than %d octets", PASSWORD_MAX);
	else
		return password;
	password_release(password);
	return NULL;
}

/* ---- set ---- */

/* In a form in which PostgreSQL keeps passwords; the server knows whether it is of use. */
static bool
password_is_verifier(const char *password)
{
	return strncmp(password, PASSWORD_SCRAM, strlen(PASSWORD_SCRAM)) == 0 ||
	       (strlen(password) == PASSWORD_MD5_LEN && strncmp(password, "md5", 3) == 0 &&
		   strspn(password + 3, "0123456789abcdef") == PASSWORD_MD5_LEN - 3);
}

/* What the server gets, and keeps; the password itself stays here. One that is in this form already, from
 * elsewhere, is taken as it is. */
static char *
password_verifier(struct pg_sync *db, const char *password)
{
	char *verifier;

	if (password_is_verifier(password))
		return mem_strdup(password);
	verifier = pg_sync_encrypt_password(db, password);
	if (verifier == NULL)
		cli_db_tell_error(db);
	return verifier;
}

static int
password_store(const char *user, const char *password)
{
	struct pg_sync *db = cli_db_open("password");
	char *verifier = db != NULL ? password_verifier(db, password) : NULL;
	bool ok = verifier != NULL && cli_db_query(db, "SELECT pgrelay.password_set($1, $2)", 2,
					  (const char *const[]){user, verifier});

	if (ok)
		printf("set the password of \"%s\"\n", user);
	free(verifier);
	pg_sync_free(db);
	return ok ? CLI_DONE : CLI_FAILED;
}

static int
password_set(int argc, char **argv)
{
	const char *path = NULL;
	const struct cli_option options[] = {
	    {"password-file", "FILE", "a file whose first line is the password", &path, NULL, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "password set",
	    .operands = "USER",
	    .text =
		"Sets the password of USER, who is made where there is none. It is read from FILE, else from "
		"standard input;\n"
		"on a terminal it is asked for twice, and not shown. Only a digest of it is kept.",
	    .options = options,
	    .operands_min = 1,
	    .operands_max = 1};
	struct cli_args args;
	char *password;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	password = password_get(args.argv[0], path);
	if (password == NULL)
		return CLI_FAILED;
	status = password_store(args.argv[0], password);
	password_release(password);
	return status;
}

/* ---- remove ---- */

static int
password_take(struct pg_sync *db, const char *user)
{
	if (!cli_db_query(db, "SELECT pgrelay.password_remove($1)", 1, &user))
		return CLI_FAILED;
	if (*pg_sync_text(db, 0, 0) != 't')
		return cli_error("\"%s\" has no password", user);
	printf("removed the password of \"%s\"\n", user);
	return CLI_DONE;
}

static int
password_remove(int argc, char **argv)
{
	static const struct cli_usage usage = {.command = "password remove",
	    .operands = "USER",
	    .text = "Takes the password of USER away, who is let in by tokens only from now on.",
	    .operands_min = 1,
	    .operands_max = 1};
	struct cli_args args;
	struct pg_sync *db;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	if ((db = cli_db_open("password")) == NULL)
		return CLI_FAILED;
	status = password_take(db, args.argv[0]);
	pg_sync_free(db);
	return status;
}

int
cli_password(int argc, char **argv)
{
	static const struct cli_command commands[] = {
	    {"set", "sets a user's password", password_set},
	    {"remove", "takes a user's password away", password_remove},
	    {NULL, NULL, NULL},
	};

	return cli_command_run(
	    "password", "Passwords: by which users may be let in beside tokens.", commands, argc, argv);
}
