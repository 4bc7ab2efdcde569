/* Tables on standard output: columns as wide as their widest cell, two spaces between. */
#ifndef PGRELAY_CLI_CLI_TABLE_H
#define PGRELAY_CLI_CLI_TABLE_H

#include <stddef.h>

struct cli_table {
	size_t columns, count;
	char **cells; /* row by row */
};

/* A cell, as printf() would print it; the first ones are the headings. An empty one is shown as "-". */
void cli_table_add(struct cli_table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints it and releases the cells. */
void cli_table_print(struct cli_table *table);

#endif
