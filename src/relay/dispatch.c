/*
 * From a record to the history and the hub. Events of one topic in a row are a run: they go to the same
 * members, who are looked for, and touched, once. What comes in a row goes into the history as one piece,
 * wanted or not. Invariants: until dispatch_flush(), which comes at the end of a payload at the latest, the
 * records are there, and no patterns change.
 */
#include "config.h"
#include "relay/dispatch.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/rfc3339.h"
#include "relay/history.h"
#include "relay/hub.h"
#include "relay/recent.h"
#include "relay/ticket.h"

#include <string.h>

#define DISPATCH_LOG_SECONDS 60
#define DISPATCH_RUN_MAX     64

static struct {
	bool open;
	bool wanted; /* else nothing is gathered */
	struct topic topic;
	struct hub_match match;
	struct msg msgs[DISPATCH_RUN_MAX];
	size_t count;
	bool tickets; /* some of them are */
} dispatch_run;

static struct {
	struct slice records; /* not yet in the history */
	size_t count;
	uint64_t xid;
} dispatch_row;

static struct {
	size_t events, unwanted; /* not yet in the metrics */
	uint64_t version;        /* the hub's, while there are some */
} dispatch_counts;

static struct ticket *
dispatch_make_ticket(const struct record *r)
{
	struct ticket *t = ticket_new(r->id, &r->topic, r->payload_octets, r->sha256.ptr, r->origin);

	ticket_set_time(t, r->time_us);
	return t;
}

static void
dispatch_make_msg(struct msg *msg, const struct record *r)
{
	*msg = (struct msg){.topic = &r->topic,
	    .id = r->id,
	    .time_us = r->time_us,
	    .payload = r->payload,
	    .logged = r->logged,
	    .ticket = r->kind == RECORD_TICKET ? dispatch_make_ticket(r) : NULL};
}

static void
dispatch_msg_done(struct msg *msg)
{
	if (msg->ticket != NULL)
		ticket_unref(msg->ticket);
	msg_done(msg);
}

static void
dispatch_begin(const struct record *r)
{
	dispatch_run.open = true;
	dispatch_run.tickets = false;
	dispatch_run.topic = r->topic;
	dispatch_run.wanted = hub_match(&r->topic, &dispatch_run.match);
	if (!dispatch_run.wanted && r->recent != NULL)
		r->recent->unwanted = dispatch_counts.version;
}

static void
dispatch_deliver_run(void)
{
	size_t count = dispatch_run.count;
	struct msg_run run;

	dispatch_run.open = false;
	if (count == 0)
		return;
	dispatch_run.count = 0;
	msg_run_init(&run, dispatch_run.msgs, count, !dispatch_run.tickets);
	dispatch_counts.unwanted += count - hub_deliver_run(&dispatch_run.match, &run);
	for (size_t i = 0; i < count; i++)
		dispatch_msg_done(&dispatch_run.msgs[i]);
}

static void
dispatch_keep_row(void)
{
	if (dispatch_row.count > 0)
		history_add(dispatch_row.records, dispatch_row.count, dispatch_row.xid);
	dispatch_row.count = 0;
}

static void
dispatch_tell_counts(void)
{
	metrics[METRIC_EVENTS_TOTAL] += (double)dispatch_counts.events;
	metrics[METRIC_EVENTS_UNWANTED_TOTAL] += (double)dispatch_counts.unwanted;
	dispatch_counts.events = dispatch_counts.unwanted = 0;
}

void
dispatch_flush(void)
{
	dispatch_keep_row();
	dispatch_deliver_run();
	dispatch_tell_counts();
}

/* For those who come back. */
static void
dispatch_keep(const struct record *r, uint64_t xid)
{
	struct slice *row = &dispatch_row.records;

	if (dispatch_row.count > 0 && dispatch_row.xid == xid && row->ptr + row->len + 1 == r->line.ptr) {
		row->len += 1 + r->line.len;
		dispatch_row.count++;
		return;
	}
	dispatch_keep_row();
	*row = r->line;
	dispatch_row.count = 1;
	dispatch_row.xid = xid;
}

static void
dispatch_keep_ticket(const struct msg *msg, const struct record *r, uint64_t xid)
{
	dispatch_keep_row();
	history_add_ticket(r, xid, msg->ticket);
}

static bool
dispatch_part_is(struct slice a, struct slice b)
{
	return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

static bool
dispatch_continues(const struct topic *t)
{
	const struct topic *run = &dispatch_run.topic;

	return dispatch_run.open && dispatch_run.count < DISPATCH_RUN_MAX &&
	       dispatch_part_is(run->key, t->key) && dispatch_part_is(run->action, t->action) &&
	       dispatch_part_is(run->type, t->type);
}

static void
dispatch_gather(const struct record *r, uint64_t xid, const struct position *position)
{
	struct msg *msg = &dispatch_run.msgs[dispatch_run.count++];

	dispatch_make_msg(msg, r);
	msg->topic = &dispatch_run.topic;
	msg->xid = xid;
	msg->place = position_place(position);
	if (msg->ticket == NULL)
		return;
	dispatch_run.tickets = true;
	dispatch_keep_ticket(msg, r, xid);
}

static void
dispatch_to_all(const struct record *r, uint64_t xid, const struct position *position)
{
	if (!dispatch_continues(&r->topic)) {
		dispatch_deliver_run();
		dispatch_begin(r);
	}
	if (!dispatch_run.wanted && r->kind == RECORD_EVENT)
		dispatch_counts.unwanted++;
	else
		dispatch_gather(r, xid, position);
}

void
dispatch_event(const struct record *r, uint64_t xid, const struct position *position)
{
	if (dispatch_counts.events++ == 0)
		dispatch_counts.version = hub_version();
	if (r->kind == RECORD_EVENT)
		dispatch_keep(r, xid);
	else
		metrics[METRIC_TICKETS_TOTAL]++;
	if (r->kind == RECORD_EVENT && r->recent != NULL && r->recent->unwanted == dispatch_counts.version)
		dispatch_counts.unwanted++;
	else
		dispatch_to_all(r, xid, position);
}

void
dispatch_missed(const struct record *r)
{
	struct msg msg;

	dispatch_make_msg(&msg, r);
	msg.missed = true;
	(void)hub_deliver(&msg);
	dispatch_msg_done(&msg);
}

void
dispatch_relayed(const char *group, const struct topic *topic, struct slice payload)
{
	struct msg msg = {.topic = topic, .time_us = rfc3339_now_us(), .payload = payload, .group = group};

	(void)hub_deliver(&msg);
	msg_done(&msg);
}

void
dispatch_count_malformed(void)
{
	static struct log_limit limit;
	unsigned long more;

	metrics[METRIC_RECORDS_MALFORMED_TOTAL]++;
	if (log_limit_pass(&limit, DISPATCH_LOG_SECONDS, &more))
		log_warning("listen",
		    "skipped a malformed record on the event channel (%lu more since the last such line); "
		    "only pgrelay's SQL functions should NOTIFY there",
		    more);
}
