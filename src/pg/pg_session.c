/*
 * One asynchronous database session.
 *
 * States: IDLE (not started, or freed) -> RESOLVING (a host name) -> CONNECTING -> UP -> WAITING (back-off)
 * -> RESOLVING or CONNECTING ... A round goes through the hosts of the connection string, one attempt each,
 * until one takes us; only a round that has come to its end is a failure. pg_session_enter() alone writes
 * ->state. libpq may change its socket at each step of connecting, so the descriptor's event is made anew
 * whenever it differs. Memory goes at the end of the loop turn: on_input may reset or free the session that
 * called it.
 */
#include "config.h"
#include "pg/pg_session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_hosts.h"
#include "core/resolve.h"

#include <assert.h>
#include <event2/event.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define PG_SESSION_MAGIC      0x5e551017u
#define PG_SESSION_BACKOFF_MS 100

enum pg_session_state { SESSION_IDLE, SESSION_WAITING, SESSION_RESOLVING, SESSION_CONNECTING, SESSION_UP };

struct pg_session {
	unsigned magic;
	enum pg_session_state state;
	char *subject;
	char *conninfo;
	const struct pg_session_ops *ops;
	void *arg;
	struct pg_hosts *hosts;  /* still to be tried in this round; the first one is being tried */
	struct resolve *resolve; /* NULL unless RESOLVING */
	char *reasons;           /* of the attempts of this round that have failed */
	int attempts;
	PGconn *conn;
	struct event *io; /* on PQsocket(), which may change while connecting */
	int io_fd;
	short io_what;
	struct event *timer; /* back-off, or the time-out of an attempt */
	int64_t backoff_ms;
	bool paused; /* nothing is read */
	bool quiet;  /* a failed attempt has been logged; the next ones are debug */
	char *error;
};

/* Where a session of this process, whichever, has come up last: the others go there first. NULL: nowhere
 * yet. */
static struct pg_host *pg_session_last;

static void pg_session_enter(struct pg_session *s, enum pg_session_state state);

static void
pg_session_drop_io(struct pg_session *s)
{
	if (s->io != NULL)
		event_free(s->io);
	s->io = NULL;
	s->io_fd = -1;
}

/* libpq's message on one line, runs of white space folded. The caller releases it. */
static char *
pg_session_one_line(const char *message)
{
	char *line = mem_strdup(message), *out = line;

	for (const char *p = message; *p != '\0'; p++) {
		bool space = *p == '\n' || *p == '\t' || *p == ' ';

		if (!space)
			*out++ = *p;
		else if (out > line && out[-1] != ' ')
			*out++ = ' ';
	}
	while (out > line && out[-1] == ' ')
		out--;
	*out = '\0';
	return line;
}

/* What the server says unasked, such as why it ends the session. libpq itself would print it. */
static void
pg_session_on_notice(void *arg, const char *message)
{
	struct pg_session *s = arg;
	char *line = pg_session_one_line(message);

	log_info(s->subject, "%s", line);
	free(line);
}

/* Lost, or not a single host took us. */
static void
pg_session_go_down(struct pg_session *s, const char *reason)
{
	bool was_up = s->state == SESSION_UP;
	char *line = pg_session_one_line(reason);

	free(s->error);
	s->error = line;
	if (!s->quiet)
		log_warning(s->subject, "%s: %s; trying again by itself",
		    was_up ? "lost the database session" : "could not connect to the database", line);
	else
		log_debug(s->subject, "no database session: %s", line);
	s->quiet = true;
	pg_session_enter(s, SESSION_WAITING);
	s->ops->on_down(s->arg, s->error);
}

/* What libpq says first, without the host that it begins with. The caller releases it. */
static char *
pg_session_short_reason(const char *reason)
{
	const char *tail = strstr(reason, " failed: ");

	tail = tail != NULL && strncmp(reason, "connection to server ", 21) == 0 ? tail + 9 : reason;
	return mem_strndup(tail, strcspn(tail, "\n"));
}

static void
pg_session_note(struct pg_session *s, const struct pg_host *host, const char *reason)
{
	char *place = pg_host_describe(host), *brief = pg_session_short_reason(reason);
	char *all = mem_printf(
	    "%s%s%s: %s", s->attempts > 0 ? s->reasons : "", s->attempts > 0 ? "; " : "", place, brief);

	log_debug(s->subject, "no session with %s: %s", place, brief);
	free(s->reasons);
	s->reasons = all;
	s->attempts++;
	free(place);
	free(brief);
}

static void pg_session_try(struct pg_session *s);

/* The attempt is over: the next host's turn. Where there is one only, libpq's whole message is the reason. */
static void
pg_session_next(struct pg_session *s, const char *reason)
{
	pg_session_note(s, pg_hosts_first(s->hosts), reason);
	pg_hosts_drop_first(s->hosts);
	if (pg_hosts_first(s->hosts) != NULL)
		pg_session_try(s);
	else
		pg_session_go_down(s, s->attempts > 1 ? s->reasons : reason);
}

static void
pg_session_fail(struct pg_session *s, const char *reason)
{
	if (s->state == SESSION_RESOLVING || s->state == SESSION_CONNECTING)
		pg_session_next(s, reason);
	else
		pg_session_go_down(s, reason);
}

static void pg_session_on_io(evutil_socket_t fd, short what, void *arg);

static void
pg_session_want(struct pg_session *s, short what)
{
	int fd = PQsocket(s->conn);

	if (s->paused && s->state == SESSION_UP)
		what = (short)(what & ~EV_READ);
	if (s->io != NULL && s->io_fd == fd && s->io_what == what)
		return;
	pg_session_drop_io(s);
	s->io_fd = fd;
	s->io_what = what;
	s->io = event_new(loop_base(), fd, (short)(what | EV_PERSIST), pg_session_on_io, s);
	if (s->io == NULL || (what != 0 && event_add(s->io, NULL) < 0))
		pg_session_fail(s, "could not watch the connection's socket");
}

static void
pg_session_poll_connect(struct pg_session *s)
{
	pg_session_drop_io(s); /* libpq may close the socket and open another, of the same number */
	switch (PQconnectPoll(s->conn)) {
	case PGRES_POLLING_READING:
		pg_session_want(s, EV_READ);
		break;
	case PGRES_POLLING_WRITING:
		pg_session_want(s, EV_WRITE);
		break;
	case PGRES_POLLING_OK:
		pg_session_enter(s, SESSION_UP);
		break;
	default:
		pg_session_fail(s, PQerrorMessage(s->conn));
		break;
	}
}

static void
pg_session_read(struct pg_session *s)
{
	if (!PQconsumeInput(s->conn)) {
		pg_session_fail(s, PQerrorMessage(s->conn));
		return;
	}
	s->ops->on_input(s->arg, s->conn);
	if (s->state == SESSION_UP && PQstatus(s->conn) != CONNECTION_OK)
		pg_session_fail(s, PQerrorMessage(s->conn));
}

static void
pg_session_on_io(evutil_socket_t fd, short what, void *arg)
{
	struct pg_session *s = arg;

	assert(s->magic == PG_SESSION_MAGIC);
	if (s->state == SESSION_CONNECTING) {
		pg_session_poll_connect(s);
		return;
	}
	if (s->state == SESSION_UP && (what & EV_READ))
		pg_session_read(s);
	if (s->state == SESSION_UP && (what & EV_WRITE))
		pg_session_flush(s);
}

void
pg_session_flush(struct pg_session *s)
{
	if (s->state != SESSION_UP)
		return;
	switch (PQflush(s->conn)) {
	case 0:
		pg_session_want(s, EV_READ);
		break;
	case 1:
		pg_session_want(s, EV_READ | EV_WRITE);
		break;
	default:
		pg_session_fail(s, PQerrorMessage(s->conn));
		break;
	}
}

static void
pg_session_arm(struct pg_session *s, int64_t ms)
{
	struct timeval tv = {ms / 1000, (ms % 1000) * 1000};

	event_add(s->timer, &tv);
}

static void
pg_session_on_resolved(void *arg, const char *const *addresses, size_t count, const char *error)
{
	struct pg_session *s = arg;

	assert(s->magic == PG_SESSION_MAGIC);
	s->resolve = NULL;
	if (error != NULL) {
		pg_session_fail(s, error);
		return;
	}
	pg_hosts_expand_first(s->hosts, addresses, count);
	if (pg_session_last != NULL)
		pg_hosts_prefer(s->hosts, pg_session_last);
	pg_session_try(s);
}

/* Defaults stand before the connection string, which may override them; client_encoding after it, for records
 * are UTF-8, and the one host of this attempt. */
static void
pg_session_connect(struct pg_session *s)
{
	const struct pg_host *host = pg_hosts_first(s->hosts);
	char *name = mem_printf("pgrelay %s", s->subject);
	const char *keys[] = {"fallback_application_name", "keepalives_idle", "keepalives_interval",
	    "keepalives_count", "tcp_user_timeout", "target_session_attrs", "dbname", "client_encoding",
	    "host", "hostaddr", "port", NULL};
	const char *values[] = {name, "5", "2", "3", "10000", "read-write", s->conninfo, "UTF8", host->host,
	    host->hostaddr, host->port, NULL};

	s->conn = PQconnectStartParams(keys, values, 1);
	free(name);
	if (s->conn == NULL) {
		pg_session_fail(s, "out of memory");
		return;
	}
	PQsetNoticeProcessor(s->conn, pg_session_on_notice, s);
	if (PQstatus(s->conn) == CONNECTION_BAD)
		pg_session_fail(s, PQerrorMessage(s->conn));
	else
		pg_session_want(s, EV_WRITE); /* as if PQconnectPoll had said so: libpq, section "Database
						 Connection Control" */
}

static void
pg_session_try(struct pg_session *s)
{
	bool name = pg_host_is_name(pg_hosts_first(s->hosts));

	pg_session_enter(s, name ? SESSION_RESOLVING : SESSION_CONNECTING);
}

static void
pg_session_begin_round(struct pg_session *s)
{
	pg_hosts_free(s->hosts);
	s->hosts = pg_hosts_new(s->conninfo);
	if (pg_session_last != NULL)
		pg_hosts_prefer(s->hosts, pg_session_last);
	s->attempts = 0;
	pg_session_try(s);
}

static void
pg_session_wait(struct pg_session *s)
{
	int64_t half = s->backoff_ms / 2;

	pg_session_arm(s, half + (half > 0 ? random() % half : 0));
	s->backoff_ms *= 2;
	if (s->backoff_ms > conf.backoff_max_ms)
		s->backoff_ms = conf.backoff_max_ms;
}

static void
pg_session_up(struct pg_session *s)
{
	PQsetnonblocking(s->conn, 1);
	pg_host_free(pg_session_last);
	pg_session_last = pg_host_copy(pg_hosts_first(s->hosts));
	free(s->error);
	s->error = mem_strdup("");
	log_info(s->subject, "connected to database \"%s\" on %s port %s, backend %d", PQdb(s->conn),
	    PQhost(s->conn), PQport(s->conn), PQbackendPID(s->conn));
	pg_session_want(s, EV_READ);
	s->ops->on_up(s->arg, s->conn);
}

/* Lets go of what an attempt or a session holds. */
static void
pg_session_drop(struct pg_session *s)
{
	pg_session_drop_io(s);
	if (s->resolve != NULL)
		resolve_cancel(s->resolve);
	s->resolve = NULL;
	PQfinish(s->conn);
	s->conn = NULL;
	s->paused = false;
}

/* The one place that changes the state; what holds in a state is made true here. */
static void
pg_session_enter(struct pg_session *s, enum pg_session_state state)
{
	s->state = state;
	event_del(s->timer);
	if (state != SESSION_UP)
		pg_session_drop(s);
	switch (state) {
	case SESSION_IDLE:
		break;
	case SESSION_WAITING:
		pg_session_wait(s);
		break;
	case SESSION_RESOLVING:
		pg_session_arm(s, conf.connect_timeout_ms);
		s->resolve = resolve_start(pg_hosts_first(s->hosts)->host, pg_session_on_resolved, s);
		break;
	case SESSION_CONNECTING:
		pg_session_arm(s, conf.connect_timeout_ms);
		pg_session_connect(s);
		break;
	case SESSION_UP:
		pg_session_up(s);
		break;
	}
}

static void
pg_session_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct pg_session *s = arg;

	assert(s->magic == PG_SESSION_MAGIC);
	if (s->state == SESSION_WAITING)
		pg_session_begin_round(s);
	else if (s->state == SESSION_RESOLVING)
		pg_session_fail(s, "connect_timeout passed, and the name servers have not answered");
	else if (s->state == SESSION_CONNECTING)
		pg_session_fail(s, "connect_timeout passed");
}

struct pg_session *
pg_session_new(const char *subject, const char *conninfo, const struct pg_session_ops *ops, void *arg)
{
	struct pg_session *s = mem_zalloc(sizeof(*s));

	s->magic = PG_SESSION_MAGIC;
	s->subject = mem_strdup(subject);
	s->conninfo = mem_strdup(conninfo);
	s->ops = ops;
	s->arg = arg;
	s->backoff_ms = PG_SESSION_BACKOFF_MS;
	s->error = mem_strdup("not connected yet");
	s->reasons = mem_strdup("");
	s->io_fd = -1;
	s->timer = evtimer_new(loop_base(), pg_session_on_timer, s);
	if (s->timer == NULL)
		log_fatal("could not create a timer");
	return s;
}

static void
pg_session_release(void *arg)
{
	struct pg_session *s = arg;

	PQfinish(s->conn);
	event_free(s->timer);
	s->magic = 0;
	free(s->subject);
	free(s->conninfo);
	free(s->error);
	free(s->reasons);
	pg_hosts_free(s->hosts);
	free(s);
}

void
pg_session_free(struct pg_session *s)
{
	if (s == NULL)
		return;
	assert(s->magic == PG_SESSION_MAGIC);
	s->state = SESSION_IDLE; /* not by pg_session_enter(): libpq may be in use further up the stack */
	event_del(s->timer);
	pg_session_drop_io(s);
	if (s->resolve != NULL)
		resolve_cancel(s->resolve);
	s->resolve = NULL;
	loop_release(pg_session_release, s);
}

void
pg_session_start(struct pg_session *s)
{
	if (s->state == SESSION_IDLE)
		pg_session_begin_round(s);
}

void
pg_session_reset(struct pg_session *s, const char *reason)
{
	if (s->state == SESSION_UP)
		pg_session_go_down(s, reason);
}

void
pg_session_pause(struct pg_session *s, bool paused)
{
	if (s->paused == paused)
		return;
	s->paused = paused;
	pg_session_flush(s);
}

void
pg_session_settle(struct pg_session *s)
{
	s->backoff_ms = PG_SESSION_BACKOFF_MS;
	s->quiet = false;
}

PGconn *
pg_session_conn(const struct pg_session *s)
{
	return s->state == SESSION_UP ? s->conn : NULL;
}

const char *
pg_session_error(const struct pg_session *s)
{
	return s->error;
}
