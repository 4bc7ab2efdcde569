/* A command's session with the database: opened as the settings say, its errors told on standard error with
 * what to do about them. */
#ifndef PGRELAY_CLI_CLI_DB_H
#define PGRELAY_CLI_CLI_DB_H

#include <stdbool.h>

struct pg_sync;

/* NULL when there is no connection: it has been said why. command names the session. The caller releases it
 * with pg_sync_free(). */
struct pg_sync *cli_db_open(const char *command);
/* As pg_sync_query(); a failure is told. */
bool cli_db_query(struct pg_sync *db, const char *sql, int nparams, const char *const *params)
    __attribute__((warn_unused_result));
/* Tells the session's last error. */
void cli_db_tell_error(const struct pg_sync *db);
/* What could be done about the session's last error; "" where the error says it all. */
const char *cli_db_hint(const struct pg_sync *db);

/*
 * A whole command that lists something: reads argv, asks, prints the rows in columns under their names, or,
 * when *json was set by an option, the one value of json_sql. $1 in both is the operand or null.
 */
struct cli_usage;
int cli_db_list(const struct cli_usage *usage, int argc, char **argv, const bool *json, const char *rows_sql,
    const char *json_sql);

#endif
