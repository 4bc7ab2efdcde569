/* From a record to the history and the hub. */
#include "config.h"
#include "relay/dispatch.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/rfc3339.h"
#include "relay/history.h"
#include "relay/hub.h"
#include "relay/ticket.h"

#define DISPATCH_LOG_SECONDS 60

static struct msg
dispatch_msg(const struct record *r)
{
	struct msg msg = {.topic = &r->topic,
	    .id = r->id,
	    .time_us = r->time_us,
	    .payload = r->payload,
	    .logged = r->logged};

	if (r->kind == RECORD_TICKET) {
		msg.ticket = ticket_new(r->id, &r->topic, r->payload_octets, r->sha256.ptr, r->origin);
		ticket_set_time(msg.ticket, r->time_us);
	}
	return msg;
}

static void
dispatch_msg_done(struct msg *msg)
{
	if (msg->ticket != NULL)
		ticket_unref(msg->ticket);
	msg_done(msg);
}

void
dispatch_event(const struct record *r, uint64_t xid)
{
	struct msg msg = dispatch_msg(r);

	msg.xid = xid;
	metrics[METRIC_EVENTS_TOTAL]++;
	if (r->kind == RECORD_TICKET)
		metrics[METRIC_TICKETS_TOTAL]++;
	if (hub_deliver(&msg) == 0)
		metrics[METRIC_EVENTS_UNWANTED_TOTAL]++;
	history_add(&msg);
	dispatch_msg_done(&msg);
}

void
dispatch_missed(const struct record *r)
{
	struct msg msg = dispatch_msg(r);

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
