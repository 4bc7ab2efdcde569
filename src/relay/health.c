/* Asking for the database's health. The gauges keep what was last known: query_up tells whether it is asked. */
#include "config.h"
#include "relay/health.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "pg/pg_query.h"

#include <event2/event.h>
#include <stdlib.h>
#include <time.h>

#define HEALTH_SECONDS     10
#define HEALTH_SOON_MS     200
#define HEALTH_TIMEOUT_MS  30000
#define HEALTH_TRIP_S      0.5 /* a slower answer tells nothing about the clock */
#define HEALTH_QUEUE_LIMIT 0.5
#define HEALTH_SQL                                                                                           \
	"SELECT queue_usage, log_bytes, coalesce(extract(epoch FROM server_time - log_rows_since), 0),"      \
	" coalesce(extract(epoch FROM server_time - log_rotated), 0), (log_state = 'stale')::integer,"       \
	" extract(epoch FROM server_time) FROM pgrelay.health()"

static struct {
	struct pg_query_pool *pool;
	struct pg_query *query;
	struct event *timer;
	double asked_s;
} health;

static double
health_clock_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
health_arm(int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(health.timer, &tv);
}

/* The server took the time half-way between the question and the answer. */
static void
health_set_skew(double server_s)
{
	double trip_s = health_clock_s() - health.asked_s;

	if (trip_s >= 0 && trip_s <= HEALTH_TRIP_S)
		metrics[METRIC_CLOCK_SKEW_SECONDS] = server_s - health.asked_s - trip_s / 2;
}

static void
health_warn_of_queue(double usage)
{
	static struct log_limit limit;
	unsigned long more;

	if (usage > HEALTH_QUEUE_LIMIT && log_limit_pass(&limit, 60, &more))
		log_warning("query",
		    "%.0f %% of the NOTIFY queue is in use: a session that listens has a transaction open "
		    "for "
		    "long (see xact_start in pg_stat_activity); when it is full, writers fail",
		    usage * 100);
}

static void
health_set(const PGresult *result)
{
	static const enum metric columns[] = {METRIC_NOTIFY_QUEUE_USAGE, METRIC_LOG_BYTES,
	    METRIC_LOG_AGE_SECONDS, METRIC_LOG_ROTATION_AGE_SECONDS, METRIC_LOG_STALE};
	const int count = sizeof(columns) / sizeof(columns[0]);

	for (int i = 0; i < count; i++)
		if (pg_result_text(result, 0, i) != NULL)
			metrics[columns[i]] = atof(pg_result_text(result, 0, i));
	if (pg_result_text(result, 0, count) != NULL)
		health_set_skew(atof(pg_result_text(result, 0, count)));
	health_warn_of_queue(metrics[METRIC_NOTIFY_QUEUE_USAGE]);
}

static void
health_on_answer(void *arg, enum pg_query_status status, const PGresult *result, const char *error)
{
	static struct log_limit limit;
	unsigned long more;

	health.query = NULL;
	if (status == PG_QUERY_OK && pg_result_rows(result) == 1)
		health_set(result);
	else if (status == PG_QUERY_ERROR && log_limit_pass(&limit, 60, &more))
		log_warning("query", "could not ask for the database's health: %s", error);
}

static void
health_on_timer(evutil_socket_t fd, short what, void *arg)
{
	if (!pg_query_pool_is_up(health.pool)) {
		health_arm(HEALTH_SOON_MS);
		return;
	}
	if (health.query == NULL) {
		health.asked_s = health_clock_s();
		health.query = pg_query_send(
		    health.pool, HEALTH_SQL, 0, NULL, HEALTH_TIMEOUT_MS, health_on_answer, NULL);
	}
	health_arm(HEALTH_SECONDS * 1000);
}

void
health_start(struct pg_query_pool *pool)
{
	health.pool = pool;
	health.timer = evtimer_new(loop_base(), health_on_timer, NULL);
	if (health.timer == NULL)
		log_fatal("could not create a timer");
	health_arm(HEALTH_SOON_MS);
}

void
health_hasten(void)
{
	health_arm(0);
}

void
health_free(void)
{
	if (health.query != NULL)
		pg_query_cancel(health.query);
	event_free(health.timer);
	health.query = NULL;
}
