/* What the programs of the bench share: clocks, memory, the end. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Microseconds since 1970: the clock of the stamps, the same in all processes of a host. */
int64_t bench_now_us(void);

/* A time table: moves the time, of CLOCK_MONOTONIC, on by a rate-th of a second, and waits for it. */
void bench_wait_next(struct timespec *at, int64_t rate);

/* Seconds of processor time that this process has used. */
double bench_cpu_seconds(void);

/* Prints the message and ends the process with status 1. */
_Noreturn void bench_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The caller releases it with free(). size may be 0, ptr NULL. */
void *bench_realloc(void *ptr, size_t size);

#endif
