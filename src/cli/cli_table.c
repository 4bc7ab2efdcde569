/* Tables. */
#include "config.h"
#include "cli/cli_table.h"
#include "core/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void
cli_table_add(struct cli_table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	t->cells = mem_resize(t->cells, (t->count + 1) * sizeof(*t->cells));
	t->cells[t->count++] = mem_vprintf(fmt, ap);
	va_end(ap);
}

static const char *
cli_table_cell(const struct cli_table *t, size_t i)
{
	return *t->cells[i] != '\0' ? t->cells[i] : "-";
}

/* Characters, not octets; near enough to columns. */
static int
cli_table_text_width(const char *text)
{
	int width = 0;

	for (; *text != '\0'; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static int
cli_table_column_width(const struct cli_table *t, size_t column)
{
	int width = 0;

	for (size_t i = column; i < t->count; i += t->columns) {
		int cell = cli_table_text_width(cli_table_cell(t, i));

		width = cell > width ? cell : width;
	}
	return width;
}

void
cli_table_print(struct cli_table *t)
{
	int *widths = mem_alloc(t->columns * sizeof(*widths));

	for (size_t column = 0; column < t->columns; column++)
		widths[column] = cli_table_column_width(t, column);
	for (size_t i = 0; i < t->count; i++) {
		size_t column = i % t->columns;
		const char *text = cli_table_cell(t, i);

		if (column + 1 < t->columns)
			printf("%s%*s", text, widths[column] - cli_table_text_width(text) + 2, "");
		else
			puts(text);
	}
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(widths);
}
