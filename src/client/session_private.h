/*
 * A session's inside, for the files that it is in: session.c (states, socket, time-outs), session_delivery.c
 * (what its client gets), session_slow.c (and when that is too much) and session_rights.c.
 */
#ifndef PGRELAY_CLIENT_SESSION_PRIVATE_H
#define PGRELAY_CLIENT_SESSION_PRIVATE_H

#include <assert.h>
#include <sys/queue.h>

#include "client/session.h"
#include "core/conf.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "core/wheel.h"
#include "relay/hub.h"
#include "relay/idset.h"
#include "relay/sendq.h"
#include "relay/snapshot.h"

#define SESSION_MAGIC 0x5e55104eu

enum session_state { SESSION_OPEN, SESSION_CLOSING, SESSION_DRAINING, SESSION_GONE };

/*
 * What a client that came back has had from another node and this one may still hear: deferred events, which
 * nobody has announced yet. Until the announcer has come past the time when the client came.
 */
struct session_had {
	struct snapshot announced, until; /* until is not set before the client has caught up */
	struct idset ids;
};

struct session {
	unsigned magic;
	enum session_state state;
	TAILQ_ENTRY(session) entry;
	struct session_socket socket;
	uint64_t number;
	int64_t opened_us; /* since 1970 */
	int64_t expires_s; /* the same, when the credential does; 0: never */
	char *subject;     /* "session NUMBER ADDRESS USER" */
	struct event *read_event, *write_event;
	bool paused, blocked, input_ended, ping_sent;
	bool peer;     /* no client */
	bool deaf;     /* CLOSING: the peer's answer is read later */
	bool told;     /* connections.c knows of it */
	struct ws *ws; /* NULL: a stream */
	struct sendq queue;
	struct hub_member member;
	struct resume *resume; /* it is on its way back */
	struct session_had *had;
	struct sendq *late; /* what relays brought while it was on its way back; NULL: nothing */
	bool cursors;       /* it wants them */
	bool overflowed;    /* and has not taken all of what it then was told */
	bool delivered;     /* something since the last cursor */
	int64_t cursor_ms;
	struct loop_task flush;
	const struct dialect *dialect; /* NULL: refused */
	void *dialect_state;
	int64_t user_id;
	struct credential credential;
	struct session_owner *owner; /* NULL: a peer, or it is not open any more */
	LIST_ENTRY(session) owned;
	struct auth_request *recheck; /* is the credential still good? */
	bool recheck_again;           /* rights have changed since that was asked */
	int64_t recheck_ms;           /* when to ask it next; 0: no need */
	int64_t expires_ms;           /* when the credential does; 0: never */
	int64_t heard_ms;             /* something came from the peer; of a stream: went to it */
	size_t stray_bytes;           /* came by a stream */
	int64_t behind_ms;   /* since when more than queue_limit waits, tickets' payloads included; 0: it does
				not */
	int64_t progress_ms; /* the socket took something, or began to be full */
	int64_t ping_ms;
	int64_t deadline_ms; /* CLOSING, DRAINING */
	struct wheel_entry timer;
};

struct sessions {
	TAILQ_HEAD(session_list, session) list;
	size_t count;
	size_t closing; /* of them, in that state */
	uint64_t last_id;
	struct wheel wheel;
};
extern struct sessions sessions;

static inline struct session *
session_check(void *arg)
{
	struct session *s = arg;

	assert(s->magic == SESSION_MAGIC);
	return s;
}

/* Its time-outs are looked at then, at the latest. */
static inline void
session_look_at(struct session *s, int64_t ms)
{
	wheel_schedule(&sessions.wheel, &s->timer, ms);
}

/* The connection is of no use any more. */
void session_abort(struct session *session, const char *reason);

enum session_bound { SESSION_PAST_LIMIT, SESSION_PAST_AGE, SESSION_PAST_MEMORY };
/* Closes it, or drops what waits and tells its client. */
void session_overflow(struct session *session, enum session_bound bound);
/* After something was pushed or sent: is it past queue_limit? */
void session_check_backlog(struct session *session);
/* At a look: has it been past a bound for too long? Then it has been seen to. */
bool session_overflow_in_time(struct session *session, int64_t now);
/* Sessions that are too slow go, at the end of the next turn. */
void session_make_room(void);
void session_slow_init(void);
void session_slow_settings_changed(void);

/* Do all queues together hold too much? */
static inline void
session_check_memory(void)
{
	if (metrics[METRIC_QUEUE_MEMORY_BYTES] > (double)conf.queue_memory_bytes)
		session_make_room();
}

/* What the hub, and the send queue, call. */
void session_deliver(struct hub_member *member, struct msg_run *run);
extern const struct sendq_ops session_queue_ops;

/* Tells of a gap; types as for session_gap_all(). arg is the session. */
void session_gap(void *arg, const char *reason, const char *types);

/* Is a cursor due behind what this turn has brought? */
bool session_cursor_is_due(const struct session *session);
void session_push_cursor(struct session *session);
/* The last one must not grow old. */
void session_refresh_cursor(struct session *session, int64_t now);

void session_drop_late(struct session *session);
/* Lets go of what the client had from another node: when all of it has come by, and in any case. */
void session_check_had(struct session *session);
void session_forget_had(struct session *session);

/* A session that is open, and one that is not any more. */
void session_own(struct session *session);
void session_disown(struct session *session);
/* From now; -1: never. */
void session_set_expiry(struct session *session, int64_t expires_ms);
/* Asks whether the credential is still good. */
void session_recheck(struct session *session);

#endif
