/* The dialect of AWX's wsbroadcast. */
#include "config.h"
#include "client/dialect_wsbroadcast.h"
#include "core/metrics.h"

static void *
wsbroadcast_open(struct session *session, void *request)
{
	static const struct topic all = {{"*", 1}, {"*", 1}, {"*", 1}};

	session_set_patterns(session, &all, 1);
	metrics[METRIC_AWX_BROADCASTS]++;
	return session;
}

static void
wsbroadcast_message(void *state, const char *text, size_t len)
{
	metrics[METRIC_MESSAGES_INVALID_TOTAL]++;
}

/* What relays bring does not go on to others: it would run in circles. */
static bool
wsbroadcast_in_group(void *state, const char *label)
{
	return false;
}

static void
wsbroadcast_close(void *state)
{
	metrics[METRIC_AWX_BROADCASTS]--;
}

const struct dialect dialect_wsbroadcast = {
    .form = MSG_FORM_BROADCAST,
    .open = wsbroadcast_open,
    .message = wsbroadcast_message,
    .in_group = wsbroadcast_in_group,
    .close = wsbroadcast_close,
    .transport = SESSION_WEBSOCKET,
};
