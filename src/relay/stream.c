/*
 * The stream. States:
 *
 * - STARTING: nothing is promised to anybody yet; ends with the first marker of ours.
 * - LIVE: records are dispatched as they come.
 * - LOST: nobody listens. The position tells what has been handed on.
 * - SYNCING: records are heard again, and held back, until two markers of ours have come: what was heard
 *   before the first is visible in the snapshot of the second.
 * - READING: the log is read from the position up to that snapshot.
 * - REPLAYING: what was held back follows, less what was read; when nothing is left the stream is live.
 *
 * A deferred batch that does not follow the one before it (an announcer has taken over) leads from LIVE to
 * SYNCING, too. stream_enter() alone writes ->state.
 */
#include "config.h"
#include "relay/stream.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/dispatch.h"
#include "relay/history.h"
#include "relay/log_reader.h"
#include "relay/resume.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define STREAM_HOLD_BYTES (32u * 1024 * 1024) /* past it, what was held back is read from the log as well */
#define STREAM_PACE_ROWS  64                  /* so often slow sessions are looked for */
#define STREAM_TURN_HELD  32                  /* payloads and markers, replayed in one turn */
#define STREAM_PACE_MS    2
#define STREAM_PATIENCE   10  /* markers without a snapshot */
#define STREAM_MANY_IDS   64  /* ranges: a marker would make them fewer */
#define STREAM_MANY_OPEN  200 /* transactions */

enum stream_state {
	STREAM_STARTING,
	STREAM_LIVE,
	STREAM_LOST,
	STREAM_SYNCING,
	STREAM_READING,
	STREAM_REPLAYING
};

/* What is held back: a payload, or a marker. */
struct stream_held {
	STAILQ_ENTRY(stream_held) entry;
	bool is_marker, own;
	bool caught_up; /* the log has been read for the batch that it begins with */
	struct marker marker;
	char epoch[POSITION_EPOCH_SIZE];
	struct snapshot seen;
	size_t len;
	char payload[];
};
STAILQ_HEAD(stream_held_list, stream_held);

static struct {
	enum stream_state state;
	const struct stream_ops *ops;
	struct position position;
	struct snapshot announced;        /* up to where deferred events have been handed on */
	struct snapshot announced_before; /* and had been at our marker before the position's */
	struct snapshot skip; /* those of transactions that it sees have been, before the present batch */
	uint64_t xid;         /* of the records that follow; 0: not told */
	uint64_t version;
	bool has_deferred;
	bool overlap; /* what is heard may have been read from the log: until `until_marker` has come by */
	/* SYNCING, READING, REPLAYING */
	struct stream_held_list held;
	size_t held_bytes;
	bool overflowed;
	unsigned own_markers;
	struct marker until_marker;
	char until_epoch[POSITION_EPOCH_SIZE];
	struct snapshot until;
	bool gap_told, gave_up;
	unsigned long rows;
	size_t unpaced_bytes; /* handed on since slow sessions were last looked for */
	int64_t since_ms;
	int64_t behind_ms; /* when it was live last, or began */
	struct event *pace;
	struct loop_task replay;
} stream;

static void stream_enter(enum stream_state state);

/* ---- records ---- */

static void
stream_take_event(const struct record *r)
{
	if (stream.xid != 0 && snapshot_sees(&stream.skip, stream.xid))
		return;
	if (stream.overlap && position_has(&stream.position, r->id))
		return;
	if (!position_is_behind(&stream.position, r->id))
		dispatch_flush(); /* the places of those before it would not be found any more */
	if (r->logged)
		position_add_logged(&stream.position, r->id, r->time_us);
	else
		position_add(&stream.position, r->id);
	stream.version++;
	dispatch_event(r, stream.xid, &stream.position);
}

/* False: what lies between the last batch and this one has not been heard. caught_up: the log has been read for
 * it; a batch that does not follow even then is none, or the log could not be read. */
static bool
stream_take_deferred(const struct record *r, bool caught_up)
{
	struct snapshot since = {0}, until = {0};
	bool follows = true;

	if (!snapshot_parse(&since, r->since) || !snapshot_parse(&until, r->until)) {
		dispatch_count_malformed();
	} else if (!snapshot_covers(&stream.announced, &since) && !caught_up) {
		follows = false;
	} else if (!snapshot_covers(&stream.announced, &since) && !stream.gave_up) {
		dispatch_count_malformed();
	} else {
		snapshot_copy(&stream.skip, &stream.announced);
		if (snapshot_covers(&until, &stream.announced))
			snapshot_copy(&stream.announced, &until);
	}
	snapshot_clear(&since);
	snapshot_clear(&until);
	return follows;
}

/* Records that are not events are for at once, whatever is held back. */
static void
stream_take_news(const struct record *r)
{
	switch (r->kind) {
	case RECORD_ACCESS:
		stream.ops->on_access(r->user_id);
		break;
	case RECORD_SETTINGS:
		stream.ops->on_settings();
		break;
	case RECORD_DEFERRED:
		stream.has_deferred = true;
		stream.ops->on_announcer();
		break;
	case RECORD_MALFORMED:
		dispatch_count_malformed();
		break;
	case RECORD_EVENT:
	case RECORD_TICKET:
	case RECORD_TRANSACTION:
	case RECORD_UNKNOWN:
		break;
	}
}

static void
stream_take_all_news(struct slice payload)
{
	struct record r;

	while (record_next(&payload, &r))
		stream_take_news(&r);
}

/* ---- holding back ---- */

static void
stream_held_free(struct stream_held *h)
{
	snapshot_clear(&h->seen);
	free(h);
}

static void
stream_drop_held(void)
{
	struct stream_held *h;

	while ((h = STAILQ_FIRST(&stream.held)) != NULL) {
		STAILQ_REMOVE_HEAD(&stream.held, entry);
		stream_held_free(h);
	}
	stream.held_bytes = 0;
}

static void
stream_hold(struct stream_held *h, bool in_front)
{
	if (in_front)
		STAILQ_INSERT_HEAD(&stream.held, h, entry);
	else
		STAILQ_INSERT_TAIL(&stream.held, h, entry);
	stream.held_bytes += sizeof(*h) + h->len;
	if (stream.held_bytes <= STREAM_HOLD_BYTES)
		return;
	log_debug("stream", "too much to be held back: it is read from the log afterwards");
	stream.overflowed = true;
	stream_drop_held();
}

static void
stream_hold_payload(struct slice payload, bool in_front)
{
	struct stream_held *h;

	if (stream.overflowed)
		return;
	h = mem_alloc(sizeof(*h) + payload.len);
	*h = (struct stream_held){.len = payload.len};
	memcpy(h->payload, payload.ptr, payload.len);
	h->caught_up = in_front;
	stream_hold(h, in_front);
}

static void
stream_hold_marker(const struct marker *marker, bool own, const char *epoch, const struct snapshot *seen)
{
	struct stream_held *h;

	if (stream.overflowed)
		return;
	h = mem_alloc(sizeof(*h));
	*h = (struct stream_held){.is_marker = true, .own = own, .marker = *marker};
	memcpy(h->epoch, epoch, strlen(epoch) + 1);
	if (own)
		snapshot_copy(&h->seen, seen);
	stream_hold(h, false);
}

/* ---- live ---- */

/*
 * While what is heard may have been read from the log, a marker divides nothing: events from behind it have
 * been handed on before it. Nobody may go on from there.
 */
static bool
stream_is_before_overlap_ends(const struct marker *marker, bool own)
{
	if (!stream.overlap)
		return false;
	if (own && marker->counter >= stream.until_marker.counter) {
		stream.overlap = false;
		return false;
	}
	if (own)
		stream.position.paired = true; /* `since` goes on */
	return true;
}

static void
stream_pass_marker(const struct marker *marker, bool own, const char *epoch, const struct snapshot *seen)
{
	static const struct snapshot none;

	if (stream_is_before_overlap_ends(marker, own))
		return;
	if (own) {
		snapshot_copy(&stream.announced_before, &stream.position.announced);
		position_pass(&stream.position, marker, epoch, seen, &stream.announced);
	}
	history_add_marker(marker, own ? epoch : "", own ? seen : &none, own ? &stream.announced : &none);
	stream.version++;
}

/* fresh: it has not been held back, so its news are not known yet. */
static void
stream_take_payload(struct slice payload, bool fresh, bool caught_up)
{
	struct slice rest = payload;
	struct record r;

	stream.xid = 0;
	for (; record_next(&rest, &r); payload = rest, caught_up = false) {
		if (r.kind == RECORD_EVENT || r.kind == RECORD_TICKET) {
			stream_take_event(&r);
			continue;
		}
		dispatch_flush();
		if (r.kind == RECORD_TRANSACTION)
			stream.xid = r.xid;
		if (r.kind == RECORD_DEFERRED && !stream_take_deferred(&r, caught_up)) {
			log_info("stream", "deferred events were announced that this node has not heard");
			stream_enter(STREAM_SYNCING);
			stream_hold_payload(payload, true); /* its first record is this one */
			if (fresh)
				stream_take_all_news(payload);
			return;
		}
		if (fresh)
			stream_take_news(&r);
	}
	dispatch_flush();
}

static void
stream_replay_first(void)
{
	struct stream_held *h = STAILQ_FIRST(&stream.held);

	STAILQ_REMOVE_HEAD(&stream.held, entry);
	stream.held_bytes -= sizeof(*h) + h->len;
	if (h->is_marker)
		stream_pass_marker(&h->marker, h->own, h->epoch, &h->seen);
	else
		stream_take_payload((struct slice){h->payload, h->len}, false, h->caught_up);
	stream_held_free(h);
}

/* ---- catching up ---- */

/* Are the sessions behind? Then the next step waits for them. */
static bool
stream_must_wait(void)
{
	struct timeval tv = {0, STREAM_PACE_MS * 1000};

	stream.unpaced_bytes = 0;
	if (!session_any_congested())
		return false;
	event_add(stream.pace, &tv);
	return true;
}

static void
stream_on_pace(evutil_socket_t fd, short what, void *arg)
{
	if (stream_must_wait())
		return;
	if (stream.state == STREAM_READING)
		log_reader_pause(false);
	else if (stream.state == STREAM_REPLAYING)
		loop_task_queue(&stream.replay);
}

static void
stream_on_replay(void *arg)
{
	for (int i = 0; i < STREAM_TURN_HELD; i++) {
		if (stream.state != STREAM_REPLAYING)
			return;
		if (stream.overflowed) {
			stream_enter(STREAM_SYNCING);
			return;
		}
		if (STAILQ_EMPTY(&stream.held)) {
			stream_enter(STREAM_LIVE);
			return;
		}
		stream.unpaced_bytes += STAILQ_FIRST(&stream.held)->len;
		stream_replay_first();
		if (stream.unpaced_bytes > (size_t)conf.queue_limit_bytes / 8)
			break;
	}
	if (!stream_must_wait())
		loop_task_queue(&stream.replay);
}

static void
stream_tell_gap(const char *reason, const char *types)
{
	log_warning("stream", "events are missing, or may be: %s%s%s; the clients concerned are told", reason,
	    types != NULL ? ", types " : "", types != NULL ? types : "");
	session_gap_all(reason, types);
	history_add_gap(reason, types);
}

/* The database has another past: its transactions may be others than those that the position knows. */
static void
stream_forget_past(void)
{
	static const struct idset none;

	history_void();
	stream.position.last_id = 0;
	position_set(
	    &stream.position, &stream.until_marker, stream.until_epoch, &stream.until, &stream.until, &none);
}

static bool
stream_on_reach(void *arg, const char *const *reasons, const char *exempt)
{
	const char *reason = reasons[0];

	if (!stream.gap_told) {
		if (reason != NULL)
			stream_tell_gap(reason, NULL);
		else if (*exempt != '\0')
			stream_tell_gap("exempt", exempt);
	}
	stream.gap_told = true;
	if (reason == NULL || strcmp(reason, "restored") != 0)
		return true;
	stream_forget_past();
	return false;
}

static void
stream_on_row(void *arg, uint64_t xid, bool deferred, const struct record *r)
{
	if (position_has(&stream.position, r->id))
		return;
	position_add_logged(&stream.position, r->id, r->time_us);
	stream.version++;
	stream.rows++;
	metrics[METRIC_EVENTS_CAUGHT_UP_TOTAL]++;
	dispatch_event(r, deferred ? xid : 0, &stream.position);
	dispatch_flush();
	stream.unpaced_bytes += r->payload.len;
	if ((stream.rows % STREAM_PACE_ROWS == 0 ||
		stream.unpaced_bytes > (size_t)conf.queue_limit_bytes / 8) &&
	    stream_must_wait())
		log_reader_pause(true);
}

/* Everything that `until` sees has been handed on. */
static void
stream_on_read(void *arg)
{
	bool again = stream.overflowed;

	log_info("stream", "caught up: %lu events, %" PRId64 " ms after events were heard again", stream.rows,
	    loop_now_ms() - stream.since_ms);
	snapshot_copy(&stream.announced, &stream.until);
	snapshot_clear(&stream.skip);
	if (again) {
		struct idset none = {0};

		position_set(&stream.position, &stream.until_marker, stream.until_epoch, &stream.until,
		    &stream.until, &none);
		history_add_marker(&stream.until_marker, stream.until_epoch, &stream.until, &stream.until);
		stream_enter(STREAM_SYNCING);
		return;
	}
	stream.overlap = true;
	stream_enter(STREAM_REPLAYING);
}

static void stream_give_up(const char *reason);

static void
stream_on_refused(void *arg)
{
	stream_give_up("log");
}

static const struct log_reader_ops stream_reader_ops = {
    stream_on_reach, stream_on_row, stream_on_read, stream_on_refused};

static void
stream_read_log(void)
{
	struct log_range range = {0};
	struct log_point point = {&stream.position.seen, &stream.position.announced, stream.position.last_id,
	    stream.position.last_time_us};

	snapshot_copy(&range.since, &stream.position.seen);
	snapshot_copy(&range.deferred_since, &stream.position.announced);
	snapshot_copy(&range.until, &stream.until);
	snapshot_copy(&range.deferred_until, &stream.until);
	log_reader_start(&range, &point, 1, NULL, 0, &stream_reader_ops, NULL);
}

/* What was not heard stays missing; the show goes on. */
static void
stream_give_up(const char *reason)
{
	stream_tell_gap(reason, NULL);
	stream.gave_up = true;
	stream.overlap = true; /* a part may have been read */
	if (snapshot_covers(&stream.until, &stream.announced))
		snapshot_copy(&stream.announced, &stream.until);
	stream_enter(STREAM_REPLAYING);
}

/* A marker of ours while records are held back. */
static void
stream_count_marker(const struct marker *marker, const char *epoch, const struct snapshot *seen)
{
	if (stream.own_markers++ == 0) {
		stream.ops->want_marker();
		return;
	}
	if (!snapshot_is_set(seen)) {
		if (stream.own_markers > STREAM_PATIENCE)
			stream_give_up("snapshot");
		return;
	}
	stream.until_marker = *marker;
	memcpy(stream.until_epoch, epoch, strlen(epoch) + 1);
	snapshot_copy(&stream.until, seen);
	stream_enter(STREAM_READING);
}

/*
 * What had been announced at our last marker is visible by now; else somebody else than an announcer told so,
 * and true announcements since have been taken for old ones.
 */
static bool
stream_was_deceived(const struct snapshot *seen)
{
	return snapshot_is_set(seen) && snapshot_is_set(&stream.announced_before) && !stream.gave_up &&
	       !snapshot_covers(seen, &stream.position.announced);
}

static void
stream_distrust(void)
{
	log_warning("stream",
	    "a deferred batch was announced that is in the future; what it hid is read from "
	    "the log; only pgrelay's SQL functions should NOTIFY on the event channel");
	snapshot_copy(&stream.announced, &stream.announced_before);
	snapshot_copy(&stream.position.announced, &stream.announced_before);
	stream_enter(STREAM_SYNCING);
}

/*
 * Cursors tell what was not visible when deferred events were last read. That may have been very many
 * transactions, so that no cursor has room for them; and where nobody announces it stays so.
 */
static bool
stream_is_burdened(const struct snapshot *seen)
{
	return !stream.has_deferred && !stream.overlap && stream.announced.count > STREAM_MANY_OPEN &&
	       snapshot_is_set(seen) && seen->count < stream.announced.count / 2;
}

static void
stream_unburden(void)
{
	log_info("stream", "reading the log once more, for %zu transactions that were open the last time",
	    stream.announced.count);
	stream_enter(STREAM_SYNCING);
}

/* ---- states ---- */

static void
stream_leave(enum stream_state old)
{
	event_del(stream.pace);
	loop_task_cancel(&stream.replay);
	if (old == STREAM_READING) {
		log_reader_stop();
	} else if (old == STREAM_LIVE) {
		stream.behind_ms = loop_now_ms();
		resume_suspend();
	}
}

static void
stream_enter(enum stream_state state)
{
	enum stream_state old = stream.state;

	stream.state = state;
	stream_leave(old);
	switch (state) {
	case STREAM_STARTING:
		break;
	case STREAM_LOST:
		stream_drop_held();
		break;
	case STREAM_SYNCING:
		if (old != STREAM_REPLAYING || stream.overflowed) /* else what is still held back follows */
			stream_drop_held();
		stream.position.paired = false;
		stream.overflowed = false;
		stream.gap_told = stream.gave_up = false;
		stream.own_markers = 0;
		stream.since_ms = loop_now_ms();
		stream.rows = 0;
		metrics[METRIC_CATCH_UPS_TOTAL]++;
		stream.ops->want_marker();
		break;
	case STREAM_READING:
		stream_read_log();
		break;
	case STREAM_REPLAYING:
		loop_task_queue(&stream.replay);
		break;
	case STREAM_LIVE:
		if (old == STREAM_REPLAYING)
			stream.ops->want_marker(); /* those who wait to resume go on by it */
		break;
	}
	metrics[METRIC_STREAM_LIVE] = state == STREAM_LIVE;
}

void
stream_on_listening(void)
{
	if (stream.state == STREAM_LOST)
		stream_enter(STREAM_SYNCING);
}

void
stream_on_lost(void)
{
	if (stream.state != STREAM_STARTING && stream.state != STREAM_LOST)
		stream_enter(STREAM_LOST);
}

/* Who comes when the stream has begun is not owed what was before. */
static void
stream_skip_payload(struct slice payload)
{
	struct record r;

	while (record_next(&payload, &r)) {
		if (r.kind == RECORD_EVENT || r.kind == RECORD_TICKET)
			position_add(&stream.position, r.id);
		stream_take_news(&r);
	}
}

void
stream_on_payload(const char *payload, size_t len)
{
	struct slice text = {payload, len};

	metrics[METRIC_NOTIFICATIONS_TOTAL]++;
	switch (stream.state) {
	case STREAM_STARTING:
		stream_skip_payload(text);
		break;
	case STREAM_LIVE:
		stream_take_payload(text, true, false);
		break;
	case STREAM_LOST:
	case STREAM_SYNCING:
	case STREAM_READING:
	case STREAM_REPLAYING:
		stream_hold_payload(text, false);
		stream_take_all_news(text);
		break;
	}
}

static void
stream_begin(const struct marker *marker, const char *epoch, const struct snapshot *seen)
{
	if (!snapshot_is_set(seen))
		return;
	snapshot_copy(&stream.announced, seen);
	position_set(&stream.position, marker, epoch, seen, seen, &stream.position.since);
	history_add_marker(marker, epoch, seen, seen);
	stream.version++;
	stream_enter(STREAM_LIVE);
}

void
stream_on_marker(const struct marker *marker, bool own, const char *epoch, const char *text)
{
	struct snapshot seen = {0};

	if (epoch == NULL || strlen(epoch) >= POSITION_EPOCH_SIZE || text == NULL ||
	    !snapshot_parse(&seen, (struct slice){text, strlen(text)}))
		epoch = "";
	if (own && stream.state == STREAM_LIVE && stream_was_deceived(&seen))
		stream_distrust();
	switch (stream.state) {
	case STREAM_STARTING:
		if (own)
			stream_begin(marker, epoch, &seen);
		break;
	case STREAM_LIVE:
		stream_pass_marker(marker, own, epoch, &seen);
		if (own)
			resume_on_marker(marker, &seen);
		if (own && stream_is_burdened(&seen))
			stream_unburden();
		break;
	case STREAM_LOST:
		break;
	case STREAM_SYNCING:
	case STREAM_READING:
	case STREAM_REPLAYING:
		stream_hold_marker(marker, own, epoch, &seen);
		if (own && stream.state == STREAM_SYNCING)
			stream_count_marker(marker, epoch, &seen);
		break;
	}
	snapshot_clear(&seen);
}

/* ---- public ---- */

bool
stream_has_started(void)
{
	return stream.state != STREAM_STARTING;
}

bool
stream_is_live(void)
{
	return stream.state == STREAM_LIVE;
}

int64_t
stream_behind_ms(void)
{
	return stream.state != STREAM_LIVE ? loop_now_ms() - stream.behind_ms : 0;
}

const char *
stream_behind_reason(void)
{
	switch (stream.state) {
	case STREAM_LIVE:
		break;
	case STREAM_LOST:
		return "there is no LISTEN session";
	case STREAM_STARTING:
	case STREAM_SYNCING:
		return "no heartbeat of this node has come back with a snapshot yet";
	case STREAM_READING:
		return *log_reader_error() != '\0' ? log_reader_error() : "the log is being read";
	case STREAM_REPLAYING:
		return "what was heard meanwhile is being handed on";
	}
	return "";
}

const struct position *
stream_position(void)
{
	return &stream.position;
}

const struct snapshot *
stream_announced(void)
{
	return &stream.announced;
}

bool
stream_has_deferred(void)
{
	return stream.has_deferred;
}

uint64_t
stream_version(void)
{
	return stream.version;
}

/* Too many ranges of ids: the next marker makes them fewer. It does not make a snapshot shorter. */
size_t
stream_cursor_at(const struct position_place *place, char out[POSITION_TEXT_MAX])
{
	size_t len = position_format_at(&stream.position, place, out);

	if (len == 0 && stream.state == STREAM_LIVE &&
	    stream.position.before.count + stream.position.since.count > STREAM_MANY_IDS)
		stream.ops->want_marker();
	return len;
}

size_t
stream_cursor(char out[POSITION_TEXT_MAX])
{
	struct position_place now = position_place(&stream.position);

	return stream_cursor_at(&now, out);
}

void
stream_init(const struct stream_ops *ops)
{
	memset(&stream, 0, sizeof(stream));
	stream.ops = ops;
	STAILQ_INIT(&stream.held);
	stream.behind_ms = loop_now_ms();
	stream.pace = evtimer_new(loop_base(), stream_on_pace, NULL);
	if (stream.pace == NULL)
		log_fatal("could not create a timer");
	loop_task_init(&stream.replay, stream_on_replay, NULL);
}

void
stream_free(void)
{
	stream_drop_held();
	event_free(stream.pace);
	loop_task_cancel(&stream.replay);
	position_clear(&stream.position);
	snapshot_clear(&stream.announced);
	snapshot_clear(&stream.announced_before);
	snapshot_clear(&stream.skip);
	snapshot_clear(&stream.until);
	memset(&stream, 0, sizeof(stream));
}
