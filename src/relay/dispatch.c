/* From a NOTIFY payload to the hub. */
#include "config.h"
#include "relay/dispatch.h"
#include "core/log.h"
#include "core/metrics.h"
#include "relay/hub.h"
#include "relay/ticket.h"

#define DISPATCH_LOG_SECONDS 60

static void
dispatch_event(const struct record *r, struct ticket *ticket)
{
	struct msg msg = {&r->topic, r->id, r->time_us, r->payload, ticket, {{0}}};

	metrics[METRIC_EVENTS_TOTAL]++;
	if (hub_deliver(&msg) == 0)
		metrics[METRIC_EVENTS_UNWANTED_TOTAL]++;
	msg_done(&msg);
}

static void
dispatch_ticket(const struct record *r)
{
	struct ticket *ticket;

	metrics[METRIC_TICKETS_TOTAL]++;
	if (!hub_wants(&r->topic)) {
		metrics[METRIC_EVENTS_TOTAL]++;
		metrics[METRIC_EVENTS_UNWANTED_TOTAL]++;
		return;
	}
	ticket = ticket_new(r->id, &r->topic, r->payload_octets, r->sha256.ptr);
	dispatch_event(r, ticket);
	ticket_unref(ticket);
}

static void
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

void
dispatch_payload(struct slice payload, void (*on_access)(int64_t user_id))
{
	struct record r;

	metrics[METRIC_NOTIFICATIONS_TOTAL]++;
	while (record_next(&payload, &r)) {
		switch (r.kind) {
		case RECORD_EVENT:
			dispatch_event(&r, NULL);
			break;
		case RECORD_TICKET:
			dispatch_ticket(&r);
			break;
		case RECORD_ACCESS:
			on_access(r.user_id);
			break;
		case RECORD_UNKNOWN:
			break;
		case RECORD_MALFORMED:
			dispatch_count_malformed();
			break;
		}
	}
}
