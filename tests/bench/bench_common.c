/* What the programs of the bench share: clocks, memory, the end. */
#include "config.h"
#include "bench_common.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t
bench_clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t
bench_now_us(void)
{
	return bench_clock_ns(CLOCK_REALTIME) / 1000;
}

void
bench_wait_next(struct timespec *at, int64_t rate)
{
	at->tv_nsec += 1000000000 / rate;
	if (at->tv_nsec >= 1000000000) {
		at->tv_sec++;
		at->tv_nsec -= 1000000000;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at, NULL) == EINTR)
		;
}

double
bench_cpu_seconds(void)
{
	return (double)bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

void
bench_fatal(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void *
bench_realloc(void *ptr, size_t size)
{
	ptr = realloc(ptr, size > 0 ? size : 1);
	if (ptr == NULL)
		bench_fatal("out of memory");
	return ptr;
}
