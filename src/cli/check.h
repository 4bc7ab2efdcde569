/* What the checks of pgrelay check share: each prints one line, "ok   NAME: ..." or "FAIL NAME: ...". */
#ifndef PGRELAY_CLI_CHECK_H
#define PGRELAY_CLI_CHECK_H

#include <stdbool.h>

struct cli_args;
struct pg_sync;

struct check {
	const char *name; /* of the line under way */
	const struct cli_args *args;
	struct pg_sync *db;
	bool failed; /* any so far */
};

/* The line; true and false, for the check to return. A hint is "" for none. */
bool check_ok(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool check_fail(struct check *c, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The session's last error. */
bool check_fail_db(struct check *c, const struct pg_sync *db);

/* The checks that have files of their own: true, for what follows has ground. */
bool check_tls(struct check *c);
bool check_cluster(struct check *c);

#endif
