/* Asking for the schema's version. */
#include "config.h"
#include "relay/schema_check.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_query.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_CHECK_AGAIN_S 2

static struct {
	struct pg_query_pool *pool;
	struct pg_query *query;
	struct event *timer;
	int version;
	char *error;
} schema_check;

/* Logs each new state once, however often it is found. */
static void
schema_check_set(char *error)
{
	struct timeval tv = {SCHEMA_CHECK_AGAIN_S, 0};

	if (strcmp(error, schema_check.error) != 0 && *error != '\0')
		log_error("query", "%s", error);
	free(schema_check.error);
	schema_check.error = error;
	if (*error != '\0')
		event_add(schema_check.timer, &tv);
}

/* An older node goes on with a newer schema, which serves it as well. */
static char *
schema_check_judge(enum pg_query_status status, const PGresult *result, const char *error)
{
	int version;

	if (status == PG_QUERY_ERROR)
		return mem_printf("the schema \"pgrelay\" cannot be used: %s; run \"pgrelay schema install\" "
				  "in this database, "
				  "and grant pgrelay_node to the node's role",
		    error);
	if (pg_result_rows(result) != 1 || pg_result_text(result, 0, 0) == NULL)
		return mem_strdup(
		    "the schema \"pgrelay\" is not whole: it has no version; run \"pgrelay schema install\"");
	version = atoi(pg_result_text(result, 0, 0));
	if (version < schema_check.version)
		return mem_printf("the schema \"pgrelay\" is of version %d, this node needs %d; run "
				  "\"pgrelay schema upgrade\"",
		    version, schema_check.version);
	return mem_strdup("");
}

static void
schema_check_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	schema_check.query = NULL;
	schema_check_set(schema_check_judge(status, result, error));
}

void
schema_check_now(void)
{
	if (schema_check.query == NULL)
		schema_check.query = pg_query_ask(
		    schema_check.pool, "SELECT pgrelay.version()", 0, NULL, 0, schema_check_on_answer, NULL);
}

static void
schema_check_on_timer(evutil_socket_t fd, short what, void *arg)
{
	schema_check_now();
}

void
schema_check_start(struct pg_query_pool *pool, int version)
{
	schema_check.pool = pool;
	schema_check.version = version;
	schema_check.error = mem_strdup("the schema has not been looked at yet");
	schema_check.timer = evtimer_new(loop_base(), schema_check_on_timer, NULL);
	if (schema_check.timer == NULL)
		log_fatal("could not create a timer");
}

const char *
schema_check_error(void)
{
	return schema_check.error;
}

void
schema_check_free(void)
{
	if (schema_check.query != NULL)
		pg_query_cancel(schema_check.query);
	event_free(schema_check.timer);
	free(schema_check.error);
	memset(&schema_check, 0, sizeof(schema_check));
}
