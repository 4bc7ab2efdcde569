/* Options of the bench's programs. */
#include "config.h"
#include "bench_options.h"
#include "bench_common.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void
options_take(const struct bench_option *o, char *text)
{
	switch (o->kind) {
	case BENCH_FLAG:
		*o->value.flag = true;
		break;
	case BENCH_TEXT:
		*o->value.text = text;
		break;
	case BENCH_NUMBER:
		*o->value.number = bench_parse_number(o->name, text, o->min, o->max);
		break;
	}
}

static struct option *
options_for_getopt(const struct bench_option *options)
{
	struct option *table;
	size_t count = 0;

	while (options[count].name != NULL)
		count++;
	table = bench_realloc(NULL, (count + 1) * sizeof(*table));
	for (size_t i = 0; i < count; i++)
		table[i] = (struct option){options[i].name,
		    options[i].kind == BENCH_FLAG ? no_argument : required_argument, NULL, 0};
	table[count] = (struct option){NULL, 0, NULL, 0};
	return table;
}

void
bench_parse_options(int argc, char **argv, const struct bench_option *options)
{
	struct option *table = options_for_getopt(options);
	int i, c;

	while ((c = getopt_long(argc, argv, "", table, &i)) == 0)
		options_take(&options[i], optarg);
	if (c != -1)
		exit(2);
	if (optind < argc)
		bench_fatal("\"%s\" is no option", argv[optind]);
	free(table);
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
