/* The COMMAND of pgrelay run: a child process whose standard output and standard error are one pipe to us. */
#ifndef PGRELAY_CLI_RUN_CHILD_H
#define PGRELAY_CLI_RUN_CHILD_H

#include <stdbool.h>
#include <stddef.h>

struct run_child;

struct run_child_ops {
	/* What it wrote, as it came; data is valid during the call. */
	void (*on_output)(void *arg, const char *data, size_t len);
	/* It has ended, and so has its output. wait_status is waitpid()'s; left_open: something it started
	 * still holds the output. */
	void (*on_end)(void *arg, int wait_status, bool left_open);
};

/* Looked up along PATH. NULL when it could not be started: errno tells why. The caller releases it with
 * run_child_free(). */
struct run_child *run_child_start(char **argv, const struct run_child_ops *ops, void *arg);
/* Does not end the process. */
void run_child_free(struct run_child *child);

/* Stops taking its output, so that it will have to wait, or goes on. */
void run_child_hold(struct run_child *child, bool hold);
/* Nothing happens once it has ended. */
void run_child_kill(struct run_child *child, int signo);
bool run_child_has_ended(const struct run_child *child);

#endif
