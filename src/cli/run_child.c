/*
 * The child process.
 *
 * It is over when it has ended and its output has. What it leaves running in the background may keep the pipe
 * open for ever, so from its end on the output has RUN_CHILD_LEFT_MS; then what is in the pipe is taken, and
 * that was all.
 */
#include "config.h"
#include "cli/run_child.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_CHILD_MAGIC   0xc411d5a1u
#define RUN_CHILD_LEFT_MS 2000
#define RUN_CHILD_READ    65536 /* octets a turn; as much as a pipe holds */

extern char **environ;

struct run_child {
	unsigned magic;
	const struct run_child_ops *ops;
	void *arg;
	pid_t pid;
	int fd; /* -1 after the end of its output */
	bool exited, held, left;
	int wait_status;
	struct event *readable, *sigchld, *timer;
};

static void
run_child_close_output(struct run_child *c)
{
	event_free(c->readable);
	c->readable = NULL;
	close(c->fd);
	c->fd = -1;
}

static void
run_child_check_end(struct run_child *c)
{
	if (!c->exited || c->fd >= 0)
		return;
	event_del(c->timer);
	event_del(c->sigchld);
	c->ops->on_end(c->arg, c->wait_status, c->left);
}

static void
run_child_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct run_child *c = arg;
	char data[RUN_CHILD_READ];
	ssize_t n;

	assert(c->magic == RUN_CHILD_MAGIC);
	n = read(fd, data, sizeof(data));
	if (n < 0 && (errno == EINTR || errno == EAGAIN) && !c->left)
		return;
	if (n <= 0 || c->left)
		run_child_close_output(c);
	if (n > 0)
		c->ops->on_output(c->arg, data, (size_t)n);
	run_child_check_end(c);
}

/* What is in the pipe is still taken, by one last read that may have to wait for the end of a hold. */
static void
run_child_on_left(evutil_socket_t fd, short what, void *arg)
{
	struct run_child *c = arg;

	assert(c->magic == RUN_CHILD_MAGIC);
	c->left = true;
	if (!c->held)
		event_active(c->readable, EV_READ, 0);
}

static void
run_child_on_sigchld(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval left = {RUN_CHILD_LEFT_MS / 1000, RUN_CHILD_LEFT_MS % 1000 * 1000};
	struct run_child *c = arg;

	assert(c->magic == RUN_CHILD_MAGIC);
	if (c->exited || waitpid(c->pid, &c->wait_status, WNOHANG) != c->pid)
		return;
	c->exited = true;
	if (c->fd >= 0)
		event_add(c->timer, &left);
	run_child_check_end(c);
}

/* SIGPIPE, which we ignore, is the one signal that exec would not give back. */
static int
run_child_spawn(struct run_child *c, char **argv, int out)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t reset;
	int rc;

	sigemptyset(&reset);
	sigaddset(&reset, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &reset);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
	rc = posix_spawnp(&c->pid, argv[0], &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return rc;
}

static struct run_child *
run_child_new(int fd, const struct run_child_ops *ops, void *arg)
{
	struct run_child *c = mem_zalloc(sizeof(*c));

	*c = (struct run_child){.magic = RUN_CHILD_MAGIC, .ops = ops, .arg = arg, .fd = fd};
	c->readable = event_new(loop_base(), fd, EV_READ | EV_PERSIST, run_child_on_readable, c);
	c->sigchld = evsignal_new(loop_base(), SIGCHLD, run_child_on_sigchld, c);
	c->timer = evtimer_new(loop_base(), run_child_on_left, c);
	if (c->readable == NULL || c->sigchld == NULL || c->timer == NULL ||
	    event_add(c->readable, NULL) < 0 || event_add(c->sigchld, NULL) < 0)
		log_fatal("could not watch a child process");
	return c;
}

struct run_child *
run_child_start(char **argv, const struct run_child_ops *ops, void *arg)
{
	struct run_child *c;
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	c = run_child_new(fds[0], ops, arg);
	rc = run_child_spawn(c, argv, fds[1]);
	close(fds[1]);
	if (rc == 0)
		return c;
	run_child_free(c);
	errno = rc;
	return NULL;
}

static void
run_child_release(void *ptr)
{
	free(ptr);
}

void
run_child_free(struct run_child *c)
{
	if (c == NULL)
		return;
	assert(c->magic == RUN_CHILD_MAGIC);
	c->magic = 0;
	if (c->fd >= 0)
		run_child_close_output(c);
	event_free(c->sigchld);
	event_free(c->timer);
	loop_release(run_child_release, c);
}

void
run_child_hold(struct run_child *c, bool hold)
{
	if (c->held == hold || c->fd < 0)
		return;
	c->held = hold;
	if (hold)
		event_del(c->readable);
	else
		event_add(c->readable, NULL);
	if (!hold && c->left)
		event_active(c->readable, EV_READ, 0);
}

void
run_child_kill(struct run_child *c, int signo)
{
	if (!c->exited)
		kill(c->pid, signo);
}

bool
run_child_has_ended(const struct run_child *c)
{
	return c->exited;
}
