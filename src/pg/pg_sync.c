/* A blocking database session for the commands. */
#include "config.h"
#include "pg/pg_sync.h"
#include "core/loop.h"
#include "core/mem.h"

#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pg_sync {
	char *conninfo;
	char *name;
	PGconn *conn;
	PGresult *result;
	pg_sync_notice on_notice;
	void *arg;
	struct pg_sync_error error;
	char sqlstate[6];
	char *message; /* what error points into; so do the next two */
	char *detail;
	char *hint;
};

struct pg_sync *
pg_sync_new(const char *conninfo, const char *name, pg_sync_notice on_notice, void *arg)
{
	struct pg_sync *pg = mem_zalloc(sizeof(*pg));

	pg->conninfo = mem_strdup(conninfo);
	pg->name = mem_strdup(name);
	pg->on_notice = on_notice;
	pg->arg = arg;
	pg->error = (struct pg_sync_error){"", "", "", ""};
	return pg;
}

static void
pg_sync_forget(struct pg_sync *pg)
{
	PQclear(pg->result);
	pg->result = NULL;
	free(pg->message);
	free(pg->detail);
	free(pg->hint);
	pg->message = pg->detail = pg->hint = NULL;
	pg->error = (struct pg_sync_error){"", "", "", ""};
}

void
pg_sync_free(struct pg_sync *pg)
{
	if (pg == NULL)
		return;
	pg_sync_forget(pg);
	PQfinish(pg->conn);
	free(pg->conninfo);
	free(pg->name);
	free(pg);
}

/* ---- errors and notices ---- */

static char *
pg_sync_one_line(const char *text)
{
	char *line = mem_strdup(text != NULL ? text : ""), *out = line;

	for (const char *in = line; *in != '\0'; in++) {
		if (*in == '\n' || *in == '\t') {
			while (in[1] == '\n' || in[1] == '\t')
				in++;
			if (in[1] != '\0')
				*out++ = ' ';
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
	return line;
}

static void
pg_sync_set_error(
    struct pg_sync *pg, const char *sqlstate, const char *message, const char *detail, const char *hint)
{
	pg->message = pg_sync_one_line(message);
	pg->detail = pg_sync_one_line(detail);
	pg->hint = pg_sync_one_line(hint);
	snprintf(pg->sqlstate, sizeof(pg->sqlstate), "%s", sqlstate != NULL ? sqlstate : "");
	pg->error = (struct pg_sync_error){pg->sqlstate, pg->message, pg->detail, pg->hint};
}

/* The server's own words where it had any, else libpq's. */
static void
pg_sync_take_error(struct pg_sync *pg)
{
	PGresult *failed = pg->result;
	const char *message = PQresultErrorField(failed, PG_DIAG_MESSAGE_PRIMARY);

	pg->result = NULL;
	pg_sync_forget(pg);
	pg_sync_set_error(pg, PQresultErrorField(failed, PG_DIAG_SQLSTATE),
	    message != NULL ? message : PQerrorMessage(pg->conn),
	    PQresultErrorField(failed, PG_DIAG_MESSAGE_DETAIL),
	    PQresultErrorField(failed, PG_DIAG_MESSAGE_HINT));
	PQclear(failed);
}

static void
pg_sync_receive_notice(void *arg, const PGresult *result)
{
	struct pg_sync *pg = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	char *message = pg_sync_one_line(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
	char *hint = pg_sync_one_line(PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
	char *word = mem_strdup(severity != NULL ? severity : "NOTICE");

	for (char *p = word; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	pg->on_notice(pg->arg, word, message, hint);
	free(word);
	free(hint);
	free(message);
}

const struct pg_sync_error *
pg_sync_error(const struct pg_sync *pg)
{
	return &pg->error;
}

bool
pg_sync_lacks_schema(const struct pg_sync *pg)
{
	/* undefined function, table, column; schema that does not exist */
	static const char *const states[] = {"42883", "42P01", "42703", "3F000"};

	for (size_t i = 0; i < ARRAY_LENGTH(states); i++)
		if (strcmp(pg->error.sqlstate, states[i]) == 0)
			return true;
	return false;
}

/* ---- calls ---- */

/* Defaults stand before the connection string, which may override them. The time-out counts for each host and
 * address. */
bool
pg_sync_connect(struct pg_sync *pg, long timeout_ms)
{
	char timeout[24];
	const char *const keys[] = {"connect_timeout", "fallback_application_name", "target_session_attrs",
	    "dbname", "client_encoding", NULL};
	const char *const values[] = {timeout, pg->name, "read-write", pg->conninfo, "UTF8", NULL};

	snprintf(timeout, sizeof(timeout), "%ld", (timeout_ms + 999) / 1000);
	pg_sync_forget(pg);
	PQfinish(pg->conn);
	pg->conn = PQconnectdbParams(keys, values, 1);
	if (PQstatus(pg->conn) != CONNECTION_OK) {
		pg_sync_take_error(pg);
		return false;
	}
	PQsetNoticeReceiver(pg->conn, pg_sync_receive_notice, pg);
	return true;
}

static bool
pg_sync_keep(struct pg_sync *pg, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	pg->result = result;
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return true;
	pg_sync_take_error(pg);
	return false;
}

bool
pg_sync_query(struct pg_sync *pg, const char *sql, int nparams, const char *const *params)
{
	pg_sync_forget(pg);
	return pg_sync_keep(pg, PQexecParams(pg->conn, sql, nparams, NULL, params, NULL, NULL, 0));
}

bool
pg_sync_script(struct pg_sync *pg, const char *sql)
{
	pg_sync_forget(pg);
	return pg_sync_keep(pg, PQexec(pg->conn, sql));
}

int
pg_sync_rows(const struct pg_sync *pg)
{
	return PQntuples(pg->result);
}

int
pg_sync_columns(const struct pg_sync *pg)
{
	return PQnfields(pg->result);
}

const char *
pg_sync_column_name(const struct pg_sync *pg, int column)
{
	return PQfname(pg->result, column);
}

const char *
pg_sync_text(const struct pg_sync *pg, int row, int column)
{
	return PQgetisnull(pg->result, row, column) ? NULL : PQgetvalue(pg->result, row, column);
}

int
pg_sync_server_version(const struct pg_sync *pg)
{
	return PQserverVersion(pg->conn);
}

char *
pg_sync_encrypt_password(struct pg_sync *pg, const char *password)
{
	char *verifier = PQencryptPasswordConn(pg->conn, password, "", "scram-sha-256");

	pg_sync_forget(pg);
	if (verifier == NULL)
		pg_sync_take_error(pg);
	return verifier;
}

/* ---- notifications ---- */

static bool
pg_sync_seen(struct pg_sync *pg, const char *channel, const char *payload)
{
	bool seen = false;
	PGnotify *n;

	while (!seen && (n = PQnotifies(pg->conn)) != NULL) {
		seen = strcmp(n->relname, channel) == 0 && strcmp(n->extra, payload) == 0;
		PQfreemem(n);
	}
	return seen;
}

/* Waits for something to come. False: it is time, or the session is lost, then there is an error. */
static bool
pg_sync_hear(struct pg_sync *pg, int64_t end_us)
{
	struct pollfd fd = {.fd = PQsocket(pg->conn), .events = POLLIN};
	int64_t left_us = end_us - loop_now_us();

	if (left_us <= 0)
		return false;
	if (poll(&fd, 1, (int)(left_us / 1000) + 1) < 0 && errno != EINTR)
		return false;
	if (PQconsumeInput(pg->conn))
		return true;
	pg_sync_take_error(pg);
	return false;
}

bool
pg_sync_wait(struct pg_sync *pg, const char *channel, const char *payload, long timeout_ms)
{
	int64_t end_us = loop_now_us() + (int64_t)timeout_ms * 1000;

	pg_sync_forget(pg);
	while (!pg_sync_seen(pg, channel, payload))
		if (!pg_sync_hear(pg, end_us))
			return false;
	return true;
}

bool
pg_sync_gather(struct pg_sync *pg, const char *channel, long time_ms, pg_sync_take take, void *arg)
{
	int64_t end_us = loop_now_us() + (int64_t)time_ms * 1000;
	PGnotify *n;

	pg_sync_forget(pg);
	do {
		while ((n = PQnotifies(pg->conn)) != NULL) {
			if (strcmp(n->relname, channel) == 0)
				take(arg, n->extra);
			PQfreemem(n);
		}
	} while (pg_sync_hear(pg, end_us));
	return *pg->error.message == '\0';
}
