/*
 * pgrelay run: makes a job of a command.
 *
 * The child's octets go to standard output as they come, and through run_lines into run_job. The end comes in
 * three steps: the child and its output have ended, the lines are stored, the status is stored. A signal is
 * passed on to the child; when the child has ended and only the database is waited for, it ends the waiting.
 */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "cli/run_child.h"
#include "cli/run_job.h"
#include "cli/run_lines.h"
#include "cli/run_signals.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* As env, timeout and nohup have them. */
#define RUN_FAILED      125
#define RUN_NOT_STARTED 126
#define RUN_NOT_FOUND   127

struct run {
	char **argv;
	const char *id; /* --job */
	const char *name;
	bool quiet, print_id;
	struct run_job_place place;
	struct run_child *child;
	struct run_job *job;
	struct run_lines *lines;
	int64_t started_us;
	bool canceled;
	int status; /* the exit status to be */
};

/* ---- the output ---- */

static void
run_echo_fail(struct run *run)
{
	if (errno != EPIPE)
		cli_error("could not write to standard output: %s", strerror(errno));
	run->quiet = true;
}

/* Waits for a slow reader, as tee does; one who has left is left alone. */
static void
run_echo(struct run *run, const char *data, size_t len)
{
	struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

	while (len > 0 && !run->quiet) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			poll(&out, 1, -1); /* another process made it nonblocking */
		} else if (errno != EINTR) {
			run_echo_fail(run);
		}
	}
}

static void
run_on_line(void *arg, const char *text, size_t len, bool whole)
{
	struct run *run = arg;

	run_job_add(run->job, text, len, whole);
}

static void
run_on_output(void *arg, const char *data, size_t len)
{
	struct run *run = arg;

	run_echo(run, data, len);
	run_lines_feed(run->lines, data, len);
}

static void
run_on_full(void *arg, bool full)
{
	struct run *run = arg;

	if (run->child != NULL)
		run_child_hold(run->child, full);
}

/* ---- the end ---- */

static void
run_finish(struct run *run, const char *status)
{
	run_lines_end(run->lines);
	run_job_finish(run->job, status);
}

static void
run_on_end(void *arg, int wait_status, bool left_open)
{
	struct run *run = arg;

	run->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
	if (left_open)
		cli_say("notice",
		    "\"%s\" has ended but something it started still holds its output, which is no longer "
		    "followed",
		    run->argv[0]);
	run_finish(run, run->canceled ? "canceled" : run->status == 0 ? "successful" : "failed");
}

static void
run_on_finished(void *arg, bool stored)
{
	struct run *run = arg;

	if (!stored)
		run->status = RUN_FAILED;
	loop_stop();
}

static void
run_on_signal(void *arg, const struct run_signal *s)
{
	struct run *run = arg;

	if (run->child == NULL || run_child_has_ended(run->child)) {
		cli_error(
		    "ended by signal %d before the job's end was stored; lines that are not stored: %" PRIu64,
		    s->signo, run_job_waiting(run->job));
		run->status = RUN_FAILED;
		loop_stop();
		return;
	}
	run->canceled = true;
	if (!s->from_terminal || s->at_us < run->started_us)
		run_child_kill(run->child, s->signo);
}

/* ---- the start ---- */

static const struct run_child_ops run_child_callbacks = {run_on_output, run_on_end};
static const struct run_job_ops run_job_callbacks = {run_on_full, run_on_finished};

/* Whoever follows the job shall see why there is no output. */
static void
run_not_started(struct run *run, int error)
{
	char *reason = mem_printf("could not start \"%s\": %s", run->argv[0], strerror(error));

	cli_error("%s", reason);
	run->status = error == ENOENT ? RUN_NOT_FOUND : RUN_NOT_STARTED;
	run_lines_feed(run->lines, "pgrelay: ", 9);
	run_lines_feed(run->lines, reason, strlen(reason));
	run_finish(run, "error");
	free(reason);
}

static void
run_main(struct run *run)
{
	loop_init();
	run->lines = run_lines_new(run_on_line, run);
	run->job = run_job_new(&run->place, &run_job_callbacks, run);
	run->child = run_child_start(run->argv, &run_child_callbacks, run);
	if (run->child == NULL)
		run_not_started(run, errno);
	run->started_us = loop_now_us();
	run_signals_watch(run_on_signal, run);
	loop_run();
	run_child_free(run->child);
	run_job_free(run->job);
	run_lines_free(run->lines);
	run_signals_release();
	loop_free();
}

/* From the moment there is a running job, no signal may end us before it is finished. */
static bool
run_begin(struct run *run)
{
	struct pg_sync *db = cli_db_open("run");
	bool ok = db != NULL;

	if (ok && !run_signals_catch())
		log_fatal("could not catch signals: %s", strerror(errno));
	ok = ok && run_job_claim(db, run->id, run->name, &run->place);
	pg_sync_free(db);
	if (ok && run->print_id)
		fprintf(stderr, "job %" PRId64 "\n", run->place.id);
	return ok;
}

/* The name's last part: arguments may hold what is not for everybody's eyes. */
static const char *
run_default_name(const char *command)
{
	const char *slash = strrchr(command, '/');

	return slash != NULL && slash[1] != '\0' ? slash + 1 : command;
}

static const char run_text[] = "Runs COMMAND and makes each line of its output, standard output and standard "
			       "error joined, an event of a job,\n"
			       "so that it can be followed live. The output also goes to standard output. "
			       "The job becomes successful when\n"
			       "COMMAND ends with status 0, failed when not, canceled when pgrelay run is "
			       "told to end by a signal, which it\n"
			       "passes on, and error when COMMAND cannot be started.\n\n"
			       "Exit status: COMMAND's; 128+N when signal N killed it; 127 when it was not "
			       "found, 126 when it could not be\n"
			       "started, 125 when pgrelay itself failed.";

int
cli_run(int argc, char **argv)
{
	struct run run = {.status = RUN_FAILED};
	const struct cli_option options[] = {
	    {"name", "NAME", "the job's name; without it, COMMAND's", &run.name, NULL, NULL},
	    {"job", "ID", "take this job, which must not have started, instead of making one", &run.id, NULL,
		NULL},
	    {"quiet", NULL, "keep the output off standard output", NULL, &run.quiet, NULL},
	    {"print-id", NULL, "print \"job ID\" on standard error first", NULL, &run.print_id, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "run",
	    .operands = "[--] COMMAND [ARGUMENT]...",
	    .text = run_text,
	    .options = options,
	    .operands_min = 1,
	    .operands_max = -1,
	    .ends_at_operand = true,
	    .wrong_status = RUN_FAILED};
	struct cli_args args;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	run.argv = args.argv;
	if (run.name == NULL && run.id == NULL)
		run.name = run_default_name(run.argv[0]);
	if (conf.log_level == LOG_INFO)
		log_set_level(LOG_WARNING);
	signal(SIGPIPE, SIG_IGN);
	if (run_begin(&run))
		run_main(&run);
	return run.status;
}
