/*
 * The signals that ask pgrelay run to end: SIGHUP, SIGINT, SIGQUIT, SIGTERM; those that were ignored when it
 * started stay so. A signal that the terminal sent (Ctrl-C) has reached COMMAND by itself; one that was sent
 * to pgrelay run alone has not.
 */
#ifndef PGRELAY_CLI_RUN_SIGNALS_H
#define PGRELAY_CLI_RUN_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

struct run_signal {
	int signo;
	bool from_terminal;
	int64_t at_us; /* loop_now_us() */
};
typedef void (*run_signals_take)(void *arg, const struct run_signal *signal);

/* From now on they are kept, and no longer end the process. False: errno tells why. */
bool run_signals_catch(void) __attribute__((warn_unused_result));
/* Gives them to take, those kept before included, while the loop runs. */
void run_signals_watch(run_signals_take take, void *arg);
void run_signals_release(void);

#endif
