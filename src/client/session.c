/*
 * Sessions. The states:
 *
 * - OPEN: messages flow both ways.
 * - CLOSING: our close frame is queued; the peer's answer is waited for. Not for a stream.
 * - DRAINING: nothing more is to come from the peer that matters. The queue goes out, then the sending side
 *   is shut down, and what still comes in is thrown away until the peer hangs up. Closing earlier would make
 *   the kernel answer late octets with a reset, and the peer could lose our close frame.
 * - GONE: off the list; memory goes at the end of the turn.
 *
 * session_enter() alone writes ->state. CLOSING and DRAINING end after SESSION_LINGER_MS at the latest.
 * Time-outs are looked at by a wheel: of an idle session when the next one may be due, of one that has
 * something waiting at each tick. What the client gets is in session_delivery.c, what is done when it is too
 * slow in session_slow.c.
 */
#include "config.h"
#include "client/session.h"
#include "client/auth.h"
#include "client/connections.h"
#include "client/session_private.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/rfc3339.h"
#include "relay/hub.h"
#include "relay/resume.h"
#include "relay/sendq.h"
#include "relay/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define SESSION_READ_SIZE      16384
#define SESSION_PEER_READ_SIZE (256 * 1024) /* big payloads come by it */
#define SESSION_LINGER_MS      3000
#define SESSION_STRAY_MAX      4096
#define SESSION_CLOSING_MANY   100
#define SESSION_COMMENT        ": ping\n\n"

struct sessions sessions;

static void session_enter(struct session *s, enum session_state state);
static void session_flush(void *arg);
static void session_look_again(struct session *s);

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
	if (s->told)
		connections_ended(s);
	if (s->resume != NULL)
		resume_cancel(s->resume);
	s->resume = NULL;
	hub_set_patterns(&s->member, NULL, 0);
	if (s->recheck != NULL)
		auth_cancel(s->recheck);
	s->recheck = NULL;
	session_disown(s);
	if (s->dialect_state != NULL)
		s->dialect->close(s->dialect_state);
	s->dialect_state = NULL;
	s->deadline_ms = loop_now_ms() + SESSION_LINGER_MS;
	session_look_at(s, s->deadline_ms + 1);
	s->paused = false;
	event_add(s->read_event, NULL);
	session_look_again(s);
}

static void
session_leave(struct session *s)
{
	sendq_clear(&s->queue);
	session_drop_late(s);
	transport_clear(&s->socket.transport);
	loop_task_cancel(&s->flush);
	event_del(s->read_event);
	event_del(s->write_event);
	wheel_cancel(&s->timer);
	TAILQ_REMOVE(&sessions.list, s, entry);
	sessions.count--;
	metrics[METRIC_SESSIONS] -= !s->peer;
	loop_release(session_release, s);
}

/* Where very many are closed at once the others' close frames go first: an answer is read a tick later. */
static void
session_begin_closing(struct session *s)
{
	if (sessions.closing++ < SESSION_CLOSING_MANY)
		return;
	s->deaf = true;
	event_del(s->read_event);
	session_look_at(s, loop_now_ms() + WHEEL_TICK_MS);
}

static void
session_listen_again(struct session *s)
{
	s->deaf = false;
	event_add(s->read_event, NULL);
	session_look_again(s);
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
	sessions.closing -= old == SESSION_CLOSING;
	switch (state) {
	case SESSION_OPEN:
		abort();
	case SESSION_CLOSING:
		session_begin_closing(s);
		loop_task_queue(&s->flush);
		break;
	case SESSION_DRAINING:
		loop_task_queue(&s->flush);
		break;
	case SESSION_GONE:
		session_leave(s);
		break;
	}
}

void
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
		transport_end(&s->socket.transport);
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
	result = sendq_flush(&s->queue, &s->socket.transport, &sent);
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
		session_look_at(s, loop_now_ms() + WHEEL_TICK_MS);
		break;
	case SENDQ_WAITING:
		session_check_backlog(s);
		session_look_at(s, loop_now_ms() + WHEEL_TICK_MS);
		break;
	case SENDQ_MORE:
		loop_task_queue(&s->flush);
		break;
	case SENDQ_ERROR:
		session_fail(s, errno);
		break;
	}
}

/* The descriptor does not tell of what TLS has read ahead. */
static void
session_look_again(struct session *s)
{
	if (transport_has_input(&s->socket.transport) && !s->paused)
		event_active(s->read_event, EV_READ, 0);
}

static void
session_on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = session_check(arg);

	s->blocked = false;
	s->progress_ms = loop_now_ms();
	loop_task_queue(&s->flush);
	if (!s->socket.transport.reading_writes)
		return;
	s->socket.transport.reading_writes = false;
	if (!s->paused && !s->input_ended)
		event_add(s->read_event, NULL);
	session_look_again(s);
}

/* ---- receiving ---- */

static void
session_on_message(void *arg, bool text, const uint8_t *data, size_t len)
{
	struct session *s = session_check(arg);

	if (s->state != SESSION_OPEN)
		return;
	metrics[METRIC_MESSAGES_RECEIVED_TOTAL]++;
	if (text || s->dialect->binary == SESSION_BINARY_TAKEN)
		s->dialect->message(s->dialect_state, (const char *)data, len);
	else if (s->dialect->binary == SESSION_BINARY_REFUSED)
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
	ssize_t n;

	if (s->paused) {
		event_del(s->read_event);
		return;
	}
	n = transport_recv(&s->socket.transport, buf, s->peer ? sizeof(buf) : SESSION_READ_SIZE);
	if (n > 0) {
		session_look_again(s);
		session_feed(s, buf, (size_t)n);
	} else if (n == 0) {
		s->input_ended = true;
		event_del(s->read_event);
		if (s->state != SESSION_DRAINING || s->queue.count == 0)
			session_abort(s, "the client hung up");
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		session_fail(s, errno);
	} else if (s->socket.transport.reading_writes) {
		event_del(s->read_event); /* what has come stays there, and would be told of at each pass */
		session_block(s);
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
		return; /* what comes meanwhile takes the event off: mostly nothing does */
	event_add(s->read_event, NULL);
	session_look_again(s);
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

static int64_t
session_ping_interval_ms(const struct session *s)
{
	int64_t most = s->dialect->ping_interval_most_ms;

	return most != 0 && most < conf.ping_interval_ms ? most : conf.ping_interval_ms;
}

static void
session_sweep_open(struct session *s, int64_t now)
{
	if (s->recheck_ms != 0 && now >= s->recheck_ms)
		session_recheck(s);
	session_check_had(s);
	session_refresh_cursor(s, now);
	if (s->blocked && now - s->progress_ms > conf.write_timeout_ms) {
		metrics[METRIC_SESSIONS_CLOSED_TIMEOUT_TOTAL]++;
		sendq_truncate(&s->queue);
		session_close(s, WS_CLOSE_POLICY, "nothing was taken off the socket for write_timeout");
	} else if (session_overflow_in_time(s, now)) {
		return;
	} else if (s->paused || s->blocked) {
		return;
	} else if (s->ping_sent && now - s->ping_ms > conf.ping_timeout_ms) {
		metrics[METRIC_SESSIONS_CLOSED_TIMEOUT_TOTAL]++;
		session_close(s, WS_CLOSE_POLICY, "a ping was not answered within ping_timeout");
	} else if (!s->ping_sent && s->queue.count == 0 && now - s->heard_ms > session_ping_interval_ms(s)) {
		session_ping(s, now);
	}
}

/* When something may be due, if nothing happens before. */
static int64_t
session_next_look_ms(const struct session *s, int64_t now)
{
	int64_t due;

	if (s->state != SESSION_OPEN)
		return s->deadline_ms + 1;
	if (s->blocked || s->paused || s->queue.count > 0 || s->had != NULL || session_cursor_is_due(s))
		return now + WHEEL_TICK_MS;
	due = s->ping_sent ? s->ping_ms + conf.ping_timeout_ms : s->heard_ms + session_ping_interval_ms(s);
	if (s->recheck_ms != 0 && s->recheck_ms < due)
		due = s->recheck_ms;
	if (s->cursors && s->ws != NULL && s->cursor_ms + conf.ping_interval_ms < due)
		due = s->cursor_ms + conf.ping_interval_ms;
	return due + 1;
}

static void
session_on_look(struct wheel_entry *timer)
{
	struct session *s = session_check((char *)timer - offsetof(struct session, timer));
	int64_t now = loop_now_ms();

	if (s->state == SESSION_OPEN)
		session_sweep_open(s, now);
	else if (now > s->deadline_ms)
		session_enter(s, SESSION_GONE);
	else if (s->deaf)
		session_listen_again(s);
	if (s->state != SESSION_GONE)
		session_look_at(s, session_next_look_ms(s, now));
}

void
session_settings_changed(void)
{
	struct session *s;

	session_slow_settings_changed();
	TAILQ_FOREACH (s, &sessions.list, entry)
		session_look_at(s, loop_now_ms());
}

/* ---- opening ---- */

static struct session *
session_new(const struct session_socket *sock, enum msg_form form)
{
	struct session *s = mem_zalloc(sizeof(*s));
	int fd = sock->transport.fd;

	s->magic = SESSION_MAGIC;
	s->socket = *sock;
	s->heard_ms = s->progress_ms = loop_now_ms();
	s->member.deliver = session_deliver;
	sendq_init(&s->queue, form, &session_queue_ops);
	loop_task_init(&s->flush, session_flush, s);
	s->read_event = event_new(loop_base(), fd, EV_READ | EV_PERSIST, session_on_readable, s);
	s->write_event = event_new(loop_base(), fd, EV_WRITE, session_on_writable, s);
	if (s->read_event == NULL || s->write_event == NULL)
		log_fatal("out of memory");
	event_add(s->read_event, NULL);
	TAILQ_INSERT_TAIL(&sessions.list, s, entry);
	session_look_at(s, loop_now_ms() + WHEEL_TICK_MS);
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
		setsockopt(
		    s->socket.transport.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	if (s->socket.deflate)
		ws_allow_deflate(s->ws);
}

struct session *
session_open(const struct session_socket *sock, const char *peer, const struct dialect *dialect,
    struct session_user *user, const char *answer, void *request, const void *input, size_t input_len)
{
	struct session *s = session_new(sock, sock->deflate ? dialect->deflated_form : dialect->form);

	s->dialect = dialect;
	session_open_transport(s);
	s->peer = user->id == SESSION_PEER_ID;
	metrics[METRIC_SESSIONS] -= s->peer; /* no client */
	metrics[METRIC_SESSIONS_TOTAL] += !s->peer;
	s->number = ++sessions.last_id;
	s->opened_us = rfc3339_now_us();
	s->subject = mem_printf("session %" PRIu64 " %s %s", s->number, peer, user->name);
	s->user_id = user->id;
	session_set_expiry(s, user->expires_ms);
	s->credential = user->credential;
	user->credential = (struct credential){.kind = CREDENTIAL_NONE};
	session_own(s);
	if (user->changed)
		session_recheck(s);
	log_info(s->subject, "opened");
	session_push_octets(s, (const uint8_t *)answer, strlen(answer));
	s->dialect_state = dialect->open(s, request);
	if (input_len > 0)
		session_feed(s, input, input_len);
	session_look_again(s);
	s->told = s->state == SESSION_OPEN && !s->peer;
	if (s->told)
		connections_opened(s);
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
session_add_patterns(struct session *s, const struct topic *patterns, size_t count)
{
	if (s->state == SESSION_OPEN)
		hub_add_patterns(&s->member, patterns, count);
}

void
session_retain_patterns(struct session *s, bool (*keep)(void *arg, const struct topic *pattern), void *arg)
{
	if (s->state == SESSION_OPEN)
		hub_retain(&s->member, keep, arg);
}

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

const struct dialect *
session_dialect(const struct session *s)
{
	return s->dialect;
}

int64_t
session_opened_us(const struct session *s)
{
	return s->opened_us;
}

int64_t
session_expires_s(const struct session *s)
{
	return s->expires_s;
}

struct slice
session_address(const struct session *s)
{
	const char *address = strchr(strchr(s->subject, ' ') + 1, ' ') + 1;

	return (struct slice){address, strcspn(address, " ")};
}

const char *
session_user_name(const struct session *s)
{
	struct slice address = session_address(s);

	return address.ptr + address.len + 1;
}

struct session *
session_next_client(const struct session *s)
{
	struct session *next = s == NULL ? TAILQ_FIRST(&sessions.list) : TAILQ_NEXT(s, entry);

	while (next != NULL && !(next->told && next->state == SESSION_OPEN))
		next = TAILQ_NEXT(next, entry);
	return next;
}

/* ---- all of them ---- */

void
session_init(void)
{
	TAILQ_INIT(&sessions.list);
	wheel_init(&sessions.wheel, session_on_look);
	session_slow_init();
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
session_free_all(void)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&sessions.list)) != NULL)
		session_abort(s, "the node ends");
	wheel_free(&sessions.wheel);
}
