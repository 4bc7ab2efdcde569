/* What the programs of the bench share: clocks, options, the end. */
#include "config.h"
#include "bench_common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int64_t
bench_parse_number(const char *option, const char *text, int64_t min, int64_t max)
{
	char *end;
	intmax_t value;

	errno = 0;
	value = strtoimax(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
		bench_fatal("invalid value for --%s: \"%s\": a number from %" PRId64 " to %" PRId64
			    " is wanted",
		    option, text, min, max);
	return value;
}

char **
bench_read_lines(const char *path, int64_t *count)
{
	FILE *file = fopen(path, "r");
	char **lines = NULL, *line = NULL;
	size_t size = 0;

	if (file == NULL)
		bench_fatal("could not open file \"%s\": %m", path);
	for (*count = 0; getline(&line, &size, file) > 0; line = NULL) {
		line[strcspn(line, "\n")] = '\0';
		lines = bench_realloc(lines, (size_t)(*count + 1) * sizeof(*lines));
		lines[(*count)++] = line;
	}
	free(line);
	fclose(file);
	if (*count == 0)
		bench_fatal("no line is in file \"%s\"", path);
	return lines;
}
