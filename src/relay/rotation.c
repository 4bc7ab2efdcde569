/* Asking for the log's rotation. */
#include "config.h"
#include "relay/rotation.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include <event2/event.h>

#define ROTATION_SECONDS    10
#define ROTATION_TIMEOUT_MS 30000

static struct {
	struct pg_query_pool *pool;
	struct pg_query *query;
	struct event *timer;
} rotation;

static void
rotation_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	rotation.query = NULL;
	if (status != PG_QUERY_ERROR)
		return;
	if (log_limit_pass(&limit, 60, &more))
		log_warning("query", "could not rotate the log: %s", error);
}

static void
rotation_on_timer(evutil_socket_t fd, short what, void *arg)
{
	if (rotation.query == NULL && pg_query_pool_is_up(rotation.pool))
		rotation.query = pg_query_send(rotation.pool, "SELECT pgrelay.log_rotate()", 0, NULL,
		    ROTATION_TIMEOUT_MS, rotation_on_answer, NULL);
}

void
rotation_start(struct pg_query_pool *pool)
{
	struct timeval tv = {ROTATION_SECONDS, 0};

	rotation.pool = pool;
	rotation.timer = event_new(loop_base(), -1, EV_PERSIST, rotation_on_timer, NULL);
	if (rotation.timer == NULL)
		log_fatal("could not create a timer");
	event_add(rotation.timer, &tv);
}

void
rotation_free(void)
{
	if (rotation.query != NULL)
		pg_query_cancel(rotation.query);
	event_free(rotation.timer);
	rotation.query = NULL;
}
