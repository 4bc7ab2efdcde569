/* What the programs of the bench share: clocks, options, the end. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stddef.h>
#include <stdint.h>

/* Microseconds since 1970: the clock of the stamps, the same in all processes of a host. */
int64_t bench_now_us(void);

/* Seconds of processor time that this process has used. */
double bench_cpu_seconds(void);

/* Prints the message and ends the process with status 1. */
_Noreturn void bench_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The caller releases it with free(). size may be 0, ptr NULL. */
void *bench_realloc(void *ptr, size_t size);

/* An option's value; ends the process unless it is a number from min to max. */
int64_t bench_parse_number(const char *option, const char *text, int64_t min, int64_t max);

/* The lines of a file, without their ends; ends the process when there are none. They stay until its end. */
char **bench_read_lines(const char *path, int64_t *count);

#endif
