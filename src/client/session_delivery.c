/*
 * What a session's client gets: events, what AWX's relays bring, gaps, cursors, and, when it has come back,
 * what it missed.
 */
#include "config.h"
#include "client/session_private.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/resume.h"
#include "relay/stream.h"

#include <stdlib.h>
#include <string.h>

#define SESSION_STALL_MS 2000 /* who has taken nothing for so long is not waited for */

/* ---- events ---- */

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

void
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
		sendq_init(s->late, s->queue.form, NULL);
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
session_deliver_one(struct session *s, struct msg *msg)
{
	if (msg->group != NULL)
		session_deliver_relayed(s, msg);
	else if (!msg->missed && s->resume == NULL)
		session_push_msg(s, msg);
	else if (msg->missed && s->resume != NULL)
		resume_take(s->resume, msg);
}

void
session_deliver(struct hub_member *member, struct msg_run *run)
{
	struct session *s = session_check((char *)member - offsetof(struct session, member));

	if (run->plain && s->resume == NULL && s->had == NULL && sendq_push_run(&s->queue, run)) {
		s->delivered = true;
		loop_task_queue(&s->flush);
		return;
	}
	for (size_t i = 0; i < run->count; i++)
		session_deliver_one(s, &run->msgs[i]);
}

static void
session_wake(struct sendq *queue)
{
	struct session *s = session_check((char *)queue - offsetof(struct session, queue));

	loop_task_queue(&s->flush);
}

/* ---- gaps ---- */

static char *
session_format_gap(const struct session *s, const char *labels, const char *reason)
{
	if (s->dialect->gap != NULL)
		return s->dialect->gap(labels, reason);
	return mem_printf(s->ws != NULL ? "{\"gap\": {\"groups\": %s, \"reason\": \"%s\"}}"
					: "event: gap\ndata: {\"groups\": %s, \"reason\": \"%s\"}\n\n",
	    labels, reason);
}

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
	text = session_format_gap(s, labels, reason);
	span = websocket ? msg_make_frame(MSG_FORM_AWX, NULL, 0, (struct slice){text, strlen(text)})
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

void
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

/* Are there patterns that find the event by what is in its payload? */
static bool
session_admits(struct sendq *queue, const struct ticket *ticket)
{
	struct session *s = session_check((char *)queue - offsetof(struct session, queue));
	const char *text = ticket_topic(ticket);
	struct topic topic;

	return topic_parse((struct slice){text, strlen(text)}, false, &topic) &&
	       hub_finds(&s->member, &topic, ticket_present(ticket));
}

const struct sendq_ops session_queue_ops = {session_wake, session_lost, session_admits};

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

void
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
	session_look_at(s, loop_now_ms() + WHEEL_TICK_MS);
	if (s->resume != NULL)
		return; /* the client has that one */
	s->delivered = true;
	if (s->ws == NULL)
		session_push_cursor(s);
	loop_task_queue(&s->flush);
}

/* Is a cursor due behind what this turn has brought? Server-sent events have their own. Behind a ticket that is
 * being read one cursor will do, too: each would hold a block of its own, and count against the client. */
bool
session_cursor_is_due(const struct session *s)
{
	return s->cursors && s->delivered && s->state == SESSION_OPEN && s->ws != NULL &&
	       s->queue.waiter.ticket == NULL;
}

/* The last one must not grow old. A stream's goes with the comments. */
void
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
	session_look_at(s, loop_now_ms() + WHEEL_TICK_MS);
	snapshot_copy(&s->had->announced, &position->announced);
	idset_copy(&s->had->ids, &position->told);
}

void
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
void
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
