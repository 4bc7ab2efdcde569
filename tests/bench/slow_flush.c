/*
 * Makes each flush to disk take SLOW_FLUSH_US microseconds (default 1,000) longer: LD_PRELOAD it into a PostgreSQL
 * server, to have the disk that a bound speaks of on any machine.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void
slow_flush_wait(void)
{
	const char *setting = getenv("SLOW_FLUSH_US");
	long us = setting != NULL ? strtol(setting, NULL, 10) : 1000;
	struct timespec rest = {us / 1000000, us % 1000000 * 1000};

	while (nanosleep(&rest, &rest) == -1 && errno == EINTR)
		;
}

static int
slow_flush(const char *name, int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

	slow_flush_wait();
	return real(fd);
}

int
fsync(int fd)
{
	return slow_flush("fsync", fd);
}

int
fdatasync(int fd)
{
	return slow_flush("fdatasync", fd);
}
