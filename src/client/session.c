/*
 * Sessions. The states:
 *
 * - OPEN: messages flow both ways.
 * - CLOSING: our close frame is queued; the peer's answer is waited for. Not for a stream.
 * - DRAINING: nothing more is to come from the peer that matters. The queue goes out, then the sending side
 *   is
 *   shut down, and what still comes in is thrown away until the peer hangs up. Closing earlier would make the
 *   kernel answer late octets with a reset, and the peer could lose our close frame.
 * - GONE: off the list; memory goes at the end of the turn.
 *
 * session_enter() alone writes ->state. CLOSING and DRAINING end after SESSION_LINGER_MS at the latest.
 * Time-outs are found by one timer that walks the list.
 */
#include "config.h"
#include "client/session.h"
#include "client/auth.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/hub.h"
#include "relay/resume.h"
#include "relay/sendq.h"
#include "relay/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define SESSION_MAGIC          0x5e55104eu
#define SESSION_READ_SIZE      16384
#define SESSION_PEER_READ_SIZE (256 * 1024) /* big payloads come by it */
#define SESSION_LINGER_MS      3000
#define SESSION_SWEEP_MS       250
#define SESSION_RECHECK_MS     1000
#define SESSION_STRAY_MAX      4096
#define SESSION_STALL_MS       2000 /* who has taken nothing for so long is not waited for */
#define SESSION_COMMENT        ": ping\n\n"

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
	char *subject;
	struct event *read_event, *write_event;
	bool paused, blocked, input_ended, ping_sent;
	bool peer;     /* no client */
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
	struct auth_request *recheck; /* is the credential still good? */
	bool recheck_again;           /* rights have changed since that was asked */
	int64_t recheck_ms;           /* when to ask it next; 0: no need */
	int64_t heard_ms;             /* something came from the peer; of a stream: went to it */
	size_t stray_bytes;           /* came by a stream */
	int64_t behind_ms;   /* since when more than queue_limit waits, tickets' payloads included; 0: it does
				not */
	int64_t progress_ms; /* the socket took something, or began to be full */
	int64_t ping_ms;
	int64_t deadline_ms; /* CLOSING, DRAINING */
};

static struct {
	TAILQ_HEAD(session_list, session) list;
	size_t count;
	uint64_t last_id;
	struct event *sweep;
} sessions;

static void session_enter(struct session *s, enum session_state state);
static void session_flush(void *arg);
static void session_forget_had(struct session *s);
static void session_drop_late(struct session *s);

static struct session *
session_check(void *arg)
{
	struct session *s = arg;

	assert(s->magic == SESSION_MAGIC);
	return s;
}

/* ---- ending ---- */

static void
session_release(void *arg)
{
	struct session *s = session_check(arg);

	if (s->ws != NULL)
		ws_free(s->ws);
	event_free(s->read_event);
	event_free(s->write_event);
	session_forget_had(s);
	credential_clear(&s->credential);
	s->socket.carrier_free(s->socket.carrier);
	s->magic = 0;
	free(s->subject);
	free(s);
}

static void
session_leave_open(struct session *s)
{
	if (s->resume != NULL)
		resume_cancel(s->resume);
	s->resume = NULL;
	hub_set_patterns(&s->member, NULL, 0);
	if (s->recheck != NULL)
		auth_cancel(s->recheck);
	s->recheck = NULL;
	if (s->dialect_state != NULL)
		s->dialect->close(s->dialect_state);
	s->dialect_state = NULL;
	s->deadline_ms = loop_now_ms() + SESSION_LINGER_MS;
	s->paused = false;
	event_add(s->read_event, NULL);
}

static void
session_leave(struct session *s)
{
	sendq_clear(&s->queue);
	session_drop_late(s);
	loop_task_cancel(&s->flush);
	event_del(s->read_event);
	event_del(s->write_event);
	TAILQ_REMOVE(&sessions.list, s, entry);
	sessions.count--;
	metrics[METRIC_SESSIONS] -= !s->peer;
	loop_release(session_release, s);
}

/* The one place that changes the state. */
static void
session_enter(struct session *s, enum session_state state)
{
	enum session_state old = s->state;

	if (old == state || old == SESSION_GONE)
		return;
	s->state = state;
	if (old == SESSION_OPEN)
		session_leave_open(s);
	switch (state) {
	case SESSION_OPEN:
		abort();
	case SESSION_CLOSING:
	case SESSION_DRAINING:
		loop_task_queue(&s->flush);
		break;
	case SESSION_GONE:
		session_leave(s);
		break;
	}
}

/* The connection is of no use any more. */
static void
session_abort(struct session *s, const char *reason)
{
	if (s->state == SESSION_OPEN)
		log_info(s->subject, "ended: %s", reason);
	session_enter(s, SESSION_GONE);
}

static void
session_fail(struct session *s, int error)
{
	if (s->state == SESSION_OPEN && error == ETIMEDOUT)
		metrics[METRIC_SESSIONS_CLOSED_TIMEOUT_TOTAL]++;
	session_abort(s, strerror(error));
}

void
session_close(struct session *s, enum ws_close_code code, const char *reason)
{
	if (s->state != SESSION_OPEN)
		return;
	log_info(s->subject, "closing with %d: %s", code, reason);
	if (s->ws != NULL) {
		ws_send_close(s->ws, code, reason);
		session_enter(s, SESSION_CLOSING);
	} else {
		session_enter(s, SESSION_DRAINING);
	}
}

/* ---- sending ---- */

static void
session_push_octets(void *arg, const uint8_t *data, size_t len)
{
	struct session *s = session_check(arg);

	if (s->state == SESSION_GONE)
		return;
	sendq_push_octets(&s->queue, data, len);
	loop_task_queue(&s->flush);
}

void
session_send_text(struct session *s, const char *text, size_t len)
{
	if (s->state == SESSION_OPEN)
		ws_send_text(s->ws, text, len);
}

void
session_send_binary(struct session *s, const char *octets, size_t len)
{
	if (s->state == SESSION_OPEN)
		ws_send_binary(s->ws, octets, len);
}

void
session_send_octets(struct session *s, const char *octets, size_t len)
{
	if (s->state == SESSION_OPEN)
		session_push_octets(s, (const uint8_t *)octets, len);
}

static void
session_push_msg(void *arg, struct msg *msg)
{
	struct session *s = session_check(arg);

	if (s->had != NULL && msg->xid != 0 &&
	    (snapshot_sees(&s->had->announced, msg->xid) || idset_has(&s->had->ids, msg->id)))
		return;
	sendq_push_msg(&s->queue, msg);
	s->delivered = true;
	loop_task_queue(&s->flush);
}

static void
session_drop_late(struct session *s)
{
	if (s->late == NULL)
		return;
	sendq_clear(s->late);
	free(s->late);
	s->late = NULL;
}

/* No history has what a relay brought: for who is on its way back it is put by. */
static void
session_deliver_relayed(struct session *s, struct msg *msg)
{
	if (s->dialect->in_group != NULL && !s->dialect->in_group(s->dialect_state, msg->group))
		return;
	if (s->resume == NULL) {
		session_push_msg(s, msg);
		return;
	}
	if (s->late == NULL) {
		s->late = mem_alloc(sizeof(*s->late));
		sendq_init(s->late, s->queue.form, NULL, NULL);
	}
	sendq_push_msg(s->late, msg);
	loop_task_queue(&s->flush);
}

static void
session_push_late(struct session *s)
{
	if (s->late != NULL)
		sendq_move(s->late, &s->queue);
	session_drop_late(s);
}

/* Who is on its way back gets what it missed, and finds in the history what comes meanwhile. */
static void
session_deliver(struct hub_member *member, struct msg *msg)
{
	struct session *s = session_check((char *)member - offsetof(struct session, member));

	if (msg->group != NULL)
		session_deliver_relayed(s, msg);
	else if (!msg->missed && s->resume == NULL)
		session_push_msg(s, msg);
	else if (msg->missed && s->resume != NULL)
		resume_take(s->resume, msg);
}

static void
session_wake(struct sendq *queue)
{
	struct session *s = session_check((char *)queue - offsetof(struct session, queue));

	loop_task_queue(&s->flush);
}

/* ---- gaps ---- */

/* What tells it; block NULL when no group is concerned. The caller owns the reference. */
static struct span
session_make_gap(struct session *s, const char *reason, groups_concern concerns, const void *arg)
{
	bool told = s->dialect_state != NULL && s->dialect->labels != NULL;
	char *labels = told ? s->dialect->labels(s->dialect_state, concerns, arg) : NULL;
	bool websocket = s->ws != NULL;
	struct span span = {0};
	char *text;

	if (labels == NULL)
		return span;
	text = mem_printf(websocket ? "{\"gap\": {\"groups\": %s, \"reason\": \"%s\"}}"
				    : "event: gap\ndata: {\"groups\": %s, \"reason\": \"%s\"}\n\n",
	    labels, reason);
	span = websocket ? msg_make_frame(MSG_FORM_AWX, NULL, (struct slice){text, strlen(text)})
			 : span_copy(text, strlen(text));
	if (!s->overflowed) { /* else one that was told and dropped is told again */
		log_info(s->subject, "told of a gap in %s: %s", labels, reason);
		metrics[METRIC_GAPS_TOTAL]++;
	}
	free(text);
	free(labels);
	return span;
}

static void
session_push_gap(struct session *s, const char *reason, groups_concern concerns, const void *arg)
{
	struct span span;

	if (s->state != SESSION_OPEN)
		return;
	span = session_make_gap(s, reason, concerns, arg);
	if (span.block == NULL)
		return;
	sendq_push_span(&s->queue, span);
	block_unref(span.block);
	loop_task_queue(&s->flush);
}

static bool
session_concerns_topic(const void *arg, const struct topic *pattern)
{
	return topic_matches(pattern, arg);
}

/* types are words with spaces between. */
static bool
session_concerns_types(const void *arg, const struct topic *pattern)
{
	const char *types = arg;

	if (topic_is_wildcard(pattern->type))
		return true;
	for (const char *p = types; *p != '\0'; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");

		if (len == pattern->type.len && memcmp(p, pattern->type.ptr, len) == 0)
			return true;
		p += len;
	}
	return false;
}

static void
session_gap(void *arg, const char *reason, const char *types)
{
	session_push_gap(session_check(arg), reason, types != NULL ? session_concerns_types : NULL, types);
}

void
session_gap_all(const char *reason, const char *types)
{
	struct session *s;

	TAILQ_FOREACH (s, &sessions.list, entry)
		if (s->resume == NULL)
			session_gap(s, reason, types);
}

/* A ticket's payload cannot be had. */
static struct span
session_lost(struct sendq *queue, const struct ticket *ticket)
{
	struct session *s = session_check((char *)queue - offsetof(struct session, queue));
	const char *text = ticket_topic(ticket);
	struct topic topic;

	if (s->state != SESSION_OPEN || !topic_parse((struct slice){text, strlen(text)}, false, &topic))
		return (struct span){0};
	return session_make_gap(s, "payload", session_concerns_topic, &topic);
}

/* ---- cursors ---- */

#define SESSION_CURSOR_MAX (POSITION_TEXT_MAX + 64)

static size_t
session_format_cursor(const struct session *s, const char *cursor, char out[SESSION_CURSOR_MAX])
{
	char text[SESSION_CURSOR_MAX - WS_FRAME_HEADER_MAX];
	size_t len, header;

	if (s->ws == NULL)
		return (size_t)snprintf(out, SESSION_CURSOR_MAX, "id: %s\n\n", cursor);
	len = (size_t)snprintf(text, sizeof(text), "{\"cursor\": \"%s\"}", cursor);
	header = ws_frame_header((uint8_t *)out, len);
	memcpy(out + header, text, len);
	return header + len;
}

/* The stream's, made once for all who get it; block NULL when there is none now. */
static struct span
session_shared_cursor(const struct session *s)
{
	static struct {
		uint64_t version;
		struct span span;
	} made[MSG_FORM_COUNT];
	enum msg_form form = s->queue.form;
	char cursor[POSITION_TEXT_MAX], out[SESSION_CURSOR_MAX];

	if (made[form].span.block != NULL && made[form].version == stream_version())
		return made[form].span;
	if (made[form].span.block != NULL)
		block_unref(made[form].span.block);
	made[form].span.block = NULL;
	if (stream_cursor(cursor) > 0) {
		made[form].span = msg_lay(out, session_format_cursor(s, cursor, out));
		made[form].version = stream_version();
	}
	return made[form].span;
}

static bool
session_push_own_cursor(struct session *s)
{
	const struct position *reached = s->resume != NULL ? resume_position(s->resume) : stream_position();
	char cursor[POSITION_TEXT_MAX], out[SESSION_CURSOR_MAX];
	struct position own = {0};
	size_t len;

	position_copy(&own, reached);
	if (s->had != NULL && snapshot_covers(&s->had->announced, &own.announced))
		snapshot_copy(&own.announced, &s->had->announced);
	if (s->had != NULL)
		idset_add_set(&own.told, &s->had->ids);
	len = position_format(&own, cursor);
	position_clear(&own);
	if (len == 0)
		return false;
	sendq_push_octets(&s->queue, out, session_format_cursor(s, cursor, out));
	return true;
}

static bool
session_push_shared_cursor(struct session *s)
{
	struct span span = session_shared_cursor(s);

	if (span.block == NULL)
		return false;
	sendq_push_span(&s->queue, span);
	return true;
}

static void
session_push_cursor(struct session *s)
{
	bool own = s->resume != NULL || s->had != NULL;

	if (own ? session_push_own_cursor(s) : session_push_shared_cursor(s)) {
		s->delivered = false;
		s->cursor_ms = loop_now_ms();
	}
}

void
session_want_cursors(struct session *s)
{
	s->cursors = true;
	if (s->resume != NULL)
		return; /* the client has that one */
	s->delivered = true;
	if (s->ws == NULL)
		session_push_cursor(s);
	loop_task_queue(&s->flush);
}

/* Is a cursor due behind what this turn has brought? Server-sent events have their own. Behind a ticket that is
 * being read one cursor will do, too: each would hold a block of its own, and count against the client. */
static bool
session_cursor_is_due(const struct session *s)
{
	return s->cursors && s->delivered && s->state == SESSION_OPEN && s->ws != NULL &&
	       s->queue.waiter.ticket == NULL;
}

/* The last one must not grow old. A stream's goes with the comments. */
static void
session_refresh_cursor(struct session *s, int64_t now)
{
	if (!s->cursors || s->blocked || s->ws == NULL || s->queue.waiter.ticket != NULL)
		return;
	if (s->cursor_ms == 0)
		s->cursor_ms = now;
	if (!session_cursor_is_due(s) && now - s->cursor_ms <= conf.ping_interval_ms)
		return;
	session_push_cursor(s);
	loop_task_queue(&s->flush);
}

/* ---- on the way back ---- */

#define SESSION_RESUME_BYTES (256 * 1024) /* queued at once */

static size_t
session_resume_room(void *arg)
{
	struct session *s = session_check(arg);
	size_t used = s->queue.bytes + s->queue.ticket_bytes, half = (size_t)conf.queue_limit_bytes / 2;
	size_t most = half < SESSION_RESUME_BYTES ? half : SESSION_RESUME_BYTES;

	/* what is sparse holds more memory than it has octets */
	return used < most && sendq_backlog(&s->queue) < half ? most - used : 0;
}

static void
session_on_resumed(void *arg)
{
	struct session *s = session_check(arg);

	s->resume = NULL;
	s->delivered = true;
	session_push_late(s);
	if (s->ws == NULL && s->cursors)
		session_push_cursor(s);
	loop_task_queue(&s->flush);
	if (s->dialect->resumed != NULL)
		s->dialect->resumed(s->dialect_state);
}

static bool
session_is_congested(void *arg)
{
	struct session *s = session_check(arg);

	return s->state == SESSION_OPEN &&
	       sendq_backlog(&s->queue) + s->queue.ticket_bytes > (size_t)conf.queue_limit_bytes / 4 &&
	       (!s->blocked || loop_now_ms() - s->progress_ms < SESSION_STALL_MS);
}

static const struct resume_ops session_resume_ops = {
    session_push_msg, session_resume_room, session_is_congested, session_gap, session_on_resumed};

static void
session_note_had(struct session *s, const struct position *position)
{
	if (!stream_has_deferred())
		return;
	s->had = mem_zalloc(sizeof(*s->had));
	snapshot_copy(&s->had->announced, &position->announced);
	idset_copy(&s->had->ids, &position->told);
}

static void
session_forget_had(struct session *s)
{
	if (s->had == NULL)
		return;
	snapshot_clear(&s->had->announced);
	snapshot_clear(&s->had->until);
	idset_clear(&s->had->ids);
	free(s->had);
	s->had = NULL;
}

/*
 * What the client has had was visible before it came, and so is in the snapshot of a marker that came by since.
 */
static void
session_check_had(struct session *s)
{
	if (s->had == NULL || s->resume != NULL)
		return;
	if (!snapshot_is_set(&s->had->until))
		snapshot_copy(&s->had->until, &stream_position()->seen);
	else if (snapshot_covers(stream_announced(), &s->had->until))
		session_forget_had(s);
}

void
session_resume(struct session *s, struct position *position)
{
	assert(s->state == SESSION_OPEN && s->resume == NULL);
	session_note_had(s, position);
	s->resume = resume_new(position, &s->member, &session_resume_ops, s);
}

bool
session_any_congested(void)
{
	struct session *s;

	TAILQ_FOREACH (s, &sessions.list, entry)
		if (s->resume == NULL && session_is_congested(s))
			return true;
	return false;
}

/* ---- too slow ---- */

static void
session_overflow(struct session *s)
{
	session_drop_late(s);
	if (conf.overflow == CONF_OVERFLOW_GAP && s->dialect->labels != NULL) {
		if (!s->overflowed)
			log_info(s->subject, "too slow: more than queue_limit was waiting, and is dropped");
		metrics[METRIC_SESSIONS_OVERFLOWED_TOTAL] += !s->overflowed;
		sendq_truncate(&s->queue);
		s->behind_ms = 0;
		session_gap(s, "overflow", NULL);
		s->overflowed = true;
		loop_task_queue(&s->flush);
		return;
	}
	metrics[METRIC_SESSIONS_CLOSED_SLOW_TOTAL]++;
	sendq_truncate(&s->queue);
	session_close(s, WS_CLOSE_TRY_AGAIN, "too slow: more than queue_limit was waiting");
}

/* Past the bound? What is being sent right now does not count: one large message is no backlog. */
static void
session_check_backlog(struct session *s)
{
	size_t late = s->late != NULL ? s->late->held_bytes : 0;

	if (s->state == SESSION_OPEN && sendq_backlog(&s->queue) + late > (size_t)conf.queue_limit_bytes)
		session_overflow(s);
}

/* Tickets hold no memory, so a burst of them is given the time that a client has; who stays behind for longer
 * is as slow as any other. */
static bool
session_is_long_behind(struct session *s, int64_t now)
{
	if (sendq_backlog(&s->queue) + s->queue.ticket_bytes <= (size_t)conf.queue_limit_bytes)
		s->behind_ms = 0;
	else if (s->behind_ms == 0)
		s->behind_ms = now;
	return s->behind_ms != 0 && now - s->behind_ms > conf.write_timeout_ms;
}

static void
session_block(struct session *s)
{
	if (s->blocked)
		return;
	s->blocked = true;
	s->progress_ms = loop_now_ms();
	event_add(s->write_event, NULL);
}

/* Nothing is left to send: with DRAINING that was the farewell. */
static void
session_sent_all(struct session *s)
{
	s->overflowed = false;
	if (s->resume != NULL)
		resume_continue(s->resume);
	if (s->state == SESSION_OPEN && s->dialect->drained != NULL)
		s->dialect->drained(s->dialect_state);
	if (s->state != SESSION_DRAINING)
		return;
	if (s->input_ended)
		session_enter(s, SESSION_GONE);
	else
		shutdown(s->socket.fd, SHUT_WR);
}

/* At the end of the turn, for all that the turn has brought. */
static void
session_flush(void *arg)
{
	struct session *s = session_check(arg);
	size_t sent = 0;
	enum sendq_result result;

	if (s->blocked) {
		session_check_backlog(s);
		return;
	}
	if (session_cursor_is_due(s))
		session_push_cursor(s);
	result = sendq_flush(&s->queue, s->socket.fd, &sent);
	metrics[METRIC_SENT_BYTES_TOTAL] += (double)sent;
	if (s->ws == NULL && sent > 0)
		s->heard_ms = loop_now_ms();
	switch (result) {
	case SENDQ_EMPTY:
		session_check_backlog(s); /* there is what came late */
		session_sent_all(s);
		break;
	case SENDQ_BLOCKED:
		session_block(s);
		session_check_backlog(s);
		break;
	case SENDQ_WAITING:
		session_check_backlog(s);
		break;
	case SENDQ_MORE:
		loop_task_queue(&s->flush);
		break;
	case SENDQ_ERROR:
		session_fail(s, errno);
		break;
	}
}

static void
session_on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = session_check(arg);

	s->blocked = false;
	s->progress_ms = loop_now_ms();
	loop_task_queue(&s->flush);
}

/* ---- receiving ---- */

static void
session_on_message(void *arg, bool text, const uint8_t *data, size_t len)
{
	struct session *s = session_check(arg);

	if (s->state != SESSION_OPEN)
		return;
	metrics[METRIC_MESSAGES_RECEIVED_TOTAL]++;
	if (text || s->dialect->binary)
		s->dialect->message(s->dialect_state, (const char *)data, len);
	else
		session_close(s, WS_CLOSE_UNSUPPORTED, "binary message: only text is understood here");
}

/* The peer has closed, answered our close, or broken the protocol: ws_close_code() tells. */
static void
session_finish_input(struct session *s)
{
	uint16_t code = ws_close_code(s->ws);
	const char *reason = ws_close_reason(s->ws);

	if (s->state == SESSION_OPEN) {
		if (code == WS_CLOSE_PROTOCOL || code == WS_CLOSE_NOT_UTF8 || code == WS_CLOSE_TOO_BIG)
			metrics[METRIC_SESSIONS_CLOSED_PROTOCOL_TOTAL]++;
		log_info(s->subject, "closed with %d%s%s", code, *reason != '\0' ? ": " : "", reason);
	}
	session_enter(s, SESSION_DRAINING);
}

/* Nothing is expected on a stream. */
static void
session_waste(struct session *s, size_t len)
{
	s->stray_bytes += len;
	if (s->state != SESSION_OPEN || s->stray_bytes <= SESSION_STRAY_MAX)
		return;
	metrics[METRIC_SESSIONS_CLOSED_PROTOCOL_TOTAL]++;
	session_close(s, WS_CLOSE_PROTOCOL, "an event stream's client has nothing to send");
}

static void
session_feed(struct session *s, const uint8_t *data, size_t len)
{
	if (s->ws == NULL) {
		session_waste(s, len);
		return;
	}
	s->heard_ms = loop_now_ms();
	s->ping_sent = false;
	if ((s->state == SESSION_OPEN || s->state == SESSION_CLOSING) && !ws_feed(s->ws, data, len))
		session_finish_input(s);
}

static void
session_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = session_check(arg);
	static uint8_t buf[SESSION_PEER_READ_SIZE]; /* one at a time; it is large for a stack */
	ssize_t n = recv(fd, buf, s->peer ? sizeof(buf) : SESSION_READ_SIZE, MSG_DONTWAIT);

	if (n > 0) {
		session_feed(s, buf, (size_t)n);
	} else if (n == 0) {
		s->input_ended = true;
		event_del(s->read_event);
		if (s->state != SESSION_DRAINING || s->queue.count == 0)
			session_abort(s, "the client hung up");
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		session_fail(s, errno);
	}
}

static const struct ws_ops session_ws_ops = {session_on_message, session_push_octets};

void
session_pause(struct session *s, bool paused)
{
	if (s->state != SESSION_OPEN || s->paused == paused)
		return;
	s->paused = paused;
	s->heard_ms = loop_now_ms();
	if (paused)
		event_del(s->read_event);
	else
		event_add(s->read_event, NULL);
}

/* ---- rights ---- */

static void session_recheck(struct session *s);

static void
session_set_expiry(struct session *s, int64_t expires_ms)
{
	s->recheck_ms = expires_ms >= 0 ? loop_now_ms() + expires_ms + 1 : 0;
}

/*
 * When the database could not be asked the question stands: rights taken away must not outlive an outage. The
 * sweep asks it again.
 */
static void
session_on_recheck(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct session *s = session_check(arg);

	s->recheck = NULL;
	if (s->recheck_again) {
		session_recheck(s);
	} else if (verdict == AUTH_UNAVAILABLE) {
		s->recheck_ms = loop_now_ms() + SESSION_RECHECK_MS;
	} else if (verdict == AUTH_REFUSED || user->id != s->user_id) {
		session_close(s, WS_CLOSE_POLICY, "the token is not valid any more");
	} else {
		session_set_expiry(s, user->expires_ms);
		s->dialect->access_changed(s->dialect_state);
	}
}

/* One question at a time: however often rights change meanwhile, one more follows. */
static void
session_recheck(struct session *s)
{
	s->recheck_again = s->recheck != NULL;
	s->recheck_ms = 0;
	if (s->recheck == NULL)
		s->recheck = auth_authenticate(s->credential.token, session_on_recheck, s);
}

void
session_access_changed(int64_t user_id)
{
	struct session *s;

	TAILQ_FOREACH (s, &sessions.list, entry)
		if (s->state == SESSION_OPEN && s->user_id == user_id &&
		    s->credential.kind != CREDENTIAL_NONE)
			session_recheck(s);
}

void
session_access_unknown(void)
{
	struct session *s;

	TAILQ_FOREACH (s, &sessions.list, entry)
		if (s->state == SESSION_OPEN && s->credential.kind != CREDENTIAL_NONE)
			s->recheck_ms = loop_now_ms() + random() % SESSION_RECHECK_MS;
}

/* ---- time ---- */

/* A stream's client answers nothing: whether it is still there TCP must find out (TCP_USER_TIMEOUT). */
static void
session_ping(struct session *s, int64_t now)
{
	if (s->ws == NULL) {
		s->heard_ms = now;
		session_send_octets(s, SESSION_COMMENT, strlen(SESSION_COMMENT));
		if (s->cursors)
			session_push_cursor(s);
		return;
	}
	s->ping_sent = true;
	s->ping_ms = now;
	ws_send_ping(s->ws);
}

static void
session_sweep_open(struct session *s, int64_t now)
{
	if (s->recheck_ms != 0 && now >= s->recheck_ms)
		session_recheck(s);
	session_check_had(s);
	session_refresh_cursor(s, now);
	if (session_is_long_behind(s, now)) {
		session_overflow(s);
	} else if (s->blocked && now - s->progress_ms > conf.write_timeout_ms) {
		metrics[METRIC_SESSIONS_CLOSED_TIMEOUT_TOTAL]++;
		sendq_truncate(&s->queue);
		session_close(s, WS_CLOSE_POLICY, "nothing was taken off the socket for write_timeout");
	} else if (s->paused || s->blocked) {
		return;
	} else if (s->ping_sent && now - s->ping_ms > conf.ping_timeout_ms) {
		metrics[METRIC_SESSIONS_CLOSED_TIMEOUT_TOTAL]++;
		session_close(s, WS_CLOSE_POLICY, "a ping was not answered within ping_timeout");
	} else if (!s->ping_sent && s->queue.count == 0 && now - s->heard_ms > conf.ping_interval_ms) {
		session_ping(s, now);
	}
}

static void
session_on_sweep(evutil_socket_t fd, short what, void *arg)
{
	int64_t now = loop_now_ms();
	struct session *s, *next;

	for (s = TAILQ_FIRST(&sessions.list); s != NULL; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->state == SESSION_OPEN)
			session_sweep_open(s, now);
		else if (now > s->deadline_ms)
			session_enter(s, SESSION_GONE);
	}
}

/* ---- opening ---- */

static struct session *
session_new(const struct session_socket *sock, enum msg_form form)
{
	struct session *s = mem_zalloc(sizeof(*s));

	s->magic = SESSION_MAGIC;
	s->socket = *sock;
	s->heard_ms = s->progress_ms = loop_now_ms();
	s->member.deliver = session_deliver;
	sendq_init(&s->queue, form, session_wake, session_lost);
	loop_task_init(&s->flush, session_flush, s);
	s->read_event = event_new(loop_base(), sock->fd, EV_READ | EV_PERSIST, session_on_readable, s);
	s->write_event = event_new(loop_base(), sock->fd, EV_WRITE, session_on_writable, s);
	if (s->read_event == NULL || s->write_event == NULL)
		log_fatal("out of memory");
	event_add(s->read_event, NULL);
	TAILQ_INSERT_TAIL(&sessions.list, s, entry);
	sessions.count++;
	metrics[METRIC_SESSIONS]++;
	return s;
}

static void
session_open_transport(struct session *s)
{
	size_t max = s->dialect->max_message_bytes;
	unsigned timeout_ms = (unsigned)conf.write_timeout_ms;

	if (s->dialect->transport == SESSION_WEBSOCKET)
		s->ws =
		    ws_new(WS_SERVER, max != 0 ? max : (size_t)conf.max_message_bytes, &session_ws_ops, s);
	else
		setsockopt(s->socket.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

struct session *
session_open(const struct session_socket *sock, const char *peer, const struct dialect *dialect,
    struct session_user *user, const char *answer, void *request, const void *input, size_t input_len)
{
	struct session *s = session_new(sock, dialect->form);

	s->dialect = dialect;
	session_open_transport(s);
	s->peer = user->id == SESSION_PEER_ID;
	metrics[METRIC_SESSIONS] -= s->peer; /* no client */
	metrics[METRIC_SESSIONS_TOTAL] += !s->peer;
	s->number = ++sessions.last_id;
	s->subject = mem_printf("session %" PRIu64 " %s %s", s->number, peer, user->name);
	s->user_id = user->id;
	session_set_expiry(s, user->expires_ms);
	s->credential = user->credential;
	user->credential = (struct credential){CREDENTIAL_NONE, NULL, NULL};
	log_info(s->subject, "opened");
	session_push_octets(s, (const uint8_t *)answer, strlen(answer));
	s->dialect_state = dialect->open(s, request);
	if (input_len > 0)
		session_feed(s, input, input_len);
	return s;
}

void
session_refuse(const struct session_socket *sock, const char *peer, const char *answer, const char *farewell)
{
	struct session *s = session_new(sock, MSG_FORM_AWX);

	s->ws = ws_new(WS_SERVER, WS_FRAME_HEADER_MAX, &session_ws_ops, s);
	s->subject = mem_printf("refused %s", peer);
	session_push_octets(s, (const uint8_t *)answer, strlen(answer));
	session_send_text(s, farewell, strlen(farewell));
	ws_send_close(s->ws, WS_CLOSE_NORMAL, "");
	session_enter(s, SESSION_CLOSING);
}

/* ---- for dialects ---- */

void
session_set_patterns(struct session *s, const struct topic *patterns, size_t count)
{
	if (s->state == SESSION_OPEN)
		hub_set_patterns(&s->member, patterns, count);
}

int64_t
session_user_id(const struct session *s)
{
	return s->user_id;
}

uint64_t
session_number(const struct session *s)
{
	return s->number;
}

size_t
session_backlog(const struct session *s)
{
	return s->queue.bytes;
}

const struct credential *
session_credential(const struct session *s)
{
	return &s->credential;
}

const char *
session_subject(const struct session *s)
{
	return s->subject;
}

/* ---- all of them ---- */

void
session_init(void)
{
	struct timeval tv = {0, SESSION_SWEEP_MS * 1000};

	TAILQ_INIT(&sessions.list);
	sessions.sweep = event_new(loop_base(), -1, EV_PERSIST, session_on_sweep, NULL);
	if (sessions.sweep == NULL)
		log_fatal("could not create a timer");
	event_add(sessions.sweep, &tv);
}

size_t
session_count(void)
{
	return sessions.count;
}

void
session_close_all(enum ws_close_code code, const char *reason)
{
	struct session *s, *next;

	for (s = TAILQ_FIRST(&sessions.list); s != NULL; s = next) {
		next = TAILQ_NEXT(s, entry);
		session_close(s, code, reason);
	}
}

void
session_abort_all(void)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&sessions.list)) != NULL)
		session_abort(s, "the node ends");
}

void
session_free_all(void)
{
	session_abort_all();
	event_free(sessions.sweep);
}
