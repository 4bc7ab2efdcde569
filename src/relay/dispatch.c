/*
 * From a record to the history and the hub. Events of one topic in a row are a run: they go to the same members, who are
 * looked for, and touched, once. Invariant: the run's payloads are there until dispatch_flush(), which comes at the end of
 * a payload at the latest.
 */
#include "config.h"
#include "relay/dispatch.h"
#include "client/session.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/rfc3339.h"
#include "relay/history.h"
#include "relay/hub.h"
#include "relay/ticket.h"

#include <string.h>

#define DISPATCH_LOG_SECONDS 60
#define DISPATCH_RUN_MAX     64

static struct {
	struct topic topic;
	struct msg msgs[DISPATCH_RUN_MAX];
	size_t count;
} dispatch_run;

static void
dispatch_make_msg(struct msg *msg, const struct record *r)
{
	*msg = (struct msg){.topic = &r->topic,
	    .id = r->id,
	    .time_us = r->time_us,
	    .payload = r->payload,
	    .logged = r->logged};

	if (r->kind == RECORD_TICKET) {
		msg->ticket = ticket_new(r->id, &r->topic, r->payload_octets, r->sha256.ptr, r->origin);
		ticket_set_time(msg->ticket, r->time_us);
	}
}

static void
dispatch_msg_done(struct msg *msg)
{
	if (msg->ticket != NULL)
		ticket_unref(msg->ticket);
	msg_done(msg);
}

void
dispatch_flush(void)
{
	size_t count = dispatch_run.count;

	if (count == 0)
		return;
	dispatch_run.count = 0;
	if (hub_deliver_run(dispatch_run.msgs, count) == 0)
		metrics[METRIC_EVENTS_UNWANTED_TOTAL] += (double)count;
	for (size_t i = 0; i < count; i++)
		dispatch_msg_done(&dispatch_run.msgs[i]);
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

	return dispatch_run.count > 0 && dispatch_run.count < DISPATCH_RUN_MAX &&
	       dispatch_part_is(run->key, t->key) && dispatch_part_is(run->action, t->action) &&
	       dispatch_part_is(run->type, t->type);
}

/* A server-sent event tells the position that is reached with it, so it goes out at once. */
void
dispatch_event(const struct record *r, uint64_t xid)
{
	struct msg *msg;

	if (!dispatch_continues(&r->topic)) {
		dispatch_flush();
		dispatch_run.topic = r->topic;
	}
	msg = &dispatch_run.msgs[dispatch_run.count++];
	dispatch_make_msg(msg, r);
	msg->topic = &dispatch_run.topic;
	msg->xid = xid;
	metrics[METRIC_EVENTS_TOTAL]++;
	metrics[METRIC_TICKETS_TOTAL] += r->kind == RECORD_TICKET;
	history_add(msg);
	if (session_any_stream())
		dispatch_flush();
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
