/* Options of the bench's programs: a table, each row with the place that gets its value. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_option_kind { BENCH_FLAG, BENCH_TEXT, BENCH_NUMBER };

/* A row is made by one of the macros below; the last one has no name. */
struct bench_option {
	const char *name;
	enum bench_option_kind kind;
	union {
		bool *flag;
		const char **text; /* gets a pointer into argv */
		int64_t *number;
	} value;
	int64_t min, max;
};

/* clang-format off */
#define BENCH_OPTION_FLAG(name, place) {name, BENCH_FLAG, {.flag = (place)}, 0, 0}
#define BENCH_OPTION_TEXT(name, place) {name, BENCH_TEXT, {.text = (place)}, 0, 0}
#define BENCH_OPTION_NUMBER(name, place, min, max) {name, BENCH_NUMBER, {.number = (place)}, min, max}
#define BENCH_OPTIONS_END {NULL, BENCH_FLAG, {NULL}, 0, 0}
/* clang-format on */

/* Ends the process when something is no option, or no value of it. */
void bench_parse_options(int argc, char **argv, const struct bench_option *options);

/* A number that an option holds; ends the process unless it is one from min to max. */
int64_t bench_parse_number(const char *option, const char *text, int64_t min, int64_t max);

/* The lines of a file, without their ends; ends the process when there are none. They stay until its end. */
char **bench_read_lines(const char *path, int64_t *count);

#endif
