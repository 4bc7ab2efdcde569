/* The SQL schema as this program installs it; made from sql/ when the program is built. */
#ifndef PGRELAY_CLI_SCHEMA_SQL_H
#define PGRELAY_CLI_SCHEMA_SQL_H

/* Lines, each with its newline; the last is NULL. */
extern const char *const schema_sql[];
/* What pgrelay.version() says once it is installed. */
extern const int schema_sql_version;

#endif
