/*
 * Questions of one sort to the database, by the query session, many in one query: those of a turn, and what
 * gathers while others are under way. They go out in the order in which they came.
 *
 * A query's statement gets each parameter as an array, with a place's part at the place's index, and returns
 * rows whose first column is that index, from 1 on, in this order. Where it fails, or has very many rows,
 * halves of it are asked again, so what one place asks does no harm to the others.
 */
#ifndef PGRELAY_CLIENT_AUTH_QUEUE_H
#define PGRELAY_CLIENT_AUTH_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/loop.h"
#include "pg/pg_query.h"

#define AUTH_QUEUE_PARAMS 3

struct auth_query;

/* A question's; embedded in it, zeroed before it enters. */
struct auth_place {
	TAILQ_ENTRY(auth_place) entry; /* while it waits */
	bool waits;
	struct auth_query *query; /* that it is part of; NULL: of none */
	int64_t deadline_ms;
	uint64_t asked; /* the version of auth_cache.h, when it went out last */
};

/* A place's part of an answer: so many rows from first on. */
struct auth_rows {
	enum pg_query_status status;
	const PGresult *result;
	int first, count;
	const char *error; /* one line; "" with PG_QUERY_OK */
};

struct auth_queue_ops {
	int params;
	/* The statement, which LIMIT may follow; the caller releases it with free(). */
	char *(*sql)(void);
	/* It is about to go out, for the first time or again: its parts, which stay the owner's, and there
	 * until it is answered. */
	void (*prepare)(struct auth_place *place, const char *params[AUTH_QUEUE_PARAMS]);
	/* Once; never from inside auth_queue_enter(). The place is in no queue any more. */
	void (*answered)(struct auth_place *place, const struct auth_rows *rows);
};

struct auth_queue {
	const struct auth_queue_ops *ops;
	TAILQ_HEAD(, auth_place) waiting;
	TAILQ_HEAD(, auth_query) again; /* halves; in front of those that wait */
	int under_way;
	size_t most; /* places of a query; as many as are answered in short time */
	int64_t answered_ms;
	struct loop_task pump;
};

void auth_queue_init(struct auth_queue *queue, const struct auth_queue_ops *ops);
/* Nobody has a place any more. */
void auth_queue_free(struct auth_queue *queue);

/* It is answered within query_timeout. */
void auth_queue_enter(struct auth_queue *queue, struct auth_place *place);
/* It is not answered then. Also for a place that is in no queue. */
void auth_queue_leave(struct auth_queue *queue, struct auth_place *place);

#endif
