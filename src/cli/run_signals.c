/* The handler writes what it knows into a pipe, which the loop reads: libevent's own signals do not tell who
 * sent them. */
#include "config.h"
#include "cli/run_signals.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int run_signals_list[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

static int run_signals_pipe[2] = {-1, -1};
static struct event *run_signals_event;
static run_signals_take run_signals_taker;
static void *run_signals_arg;

/* Runs at any moment: calls async-signal-safe functions only. */
static void
run_signals_handler(int signo, siginfo_t *info, void *context)
{
	bool sent = info->si_code == SI_USER || info->si_code == SI_QUEUE;
	int saved = errno;
	struct run_signal s;
	ssize_t written;

	memset(&s, 0, sizeof(s)); /* its padding is written, too */
	s.signo = signo;
	s.from_terminal = !sent;
	s.at_us = loop_now_us();
	written = write(run_signals_pipe[1], &s, sizeof(s)); /* atomic; a full pipe holds enough of them */
	(void)written;
	errno = saved;
}

static bool
run_signals_catch_one(int signo)
{
	struct sigaction now,
	    ours = {.sa_sigaction = run_signals_handler, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigemptyset(&ours.sa_mask);
	if (sigaction(signo, NULL, &now) < 0)
		return false;
	return now.sa_handler == SIG_IGN || sigaction(signo, &ours, NULL) == 0;
}

bool
run_signals_catch(void)
{
	if (pipe2(run_signals_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(run_signals_list); i++)
		if (!run_signals_catch_one(run_signals_list[i]))
			return false;
	return true;
}

static void
run_signals_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct run_signal s;

	while (read(fd, &s, sizeof(s)) == (ssize_t)sizeof(s))
		run_signals_taker(run_signals_arg, &s);
}

void
run_signals_watch(run_signals_take take, void *arg)
{
	run_signals_taker = take;
	run_signals_arg = arg;
	run_signals_event =
	    event_new(loop_base(), run_signals_pipe[0], EV_READ | EV_PERSIST, run_signals_on_readable, NULL);
	if (run_signals_event == NULL || event_add(run_signals_event, NULL) < 0)
		log_fatal("could not watch signals");
}

void
run_signals_release(void)
{
	if (run_signals_event != NULL)
		event_free(run_signals_event);
	run_signals_event = NULL;
}
