/* Peers dial in. */
#include "config.h"
#include "http/http_peer.h"
#include "client/dialect_wsbroadcast.h"
#include "client/dialect_wsrelay.h"
#include "cluster/link.h"
#include "cluster/secret.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "http/http_remote.h"
#include "http/http_request.h"
#include "http/http_upgrade.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HTTP_PEER_LOG_SECONDS 5

static char *
http_peer_mistake(enum secret_verdict verdict, int64_t skew_s)
{
	switch (verdict) {
	case SECRET_MALFORMED:
		return mem_strdup(
		    "the header secret is missing or malformed: this endpoint is for other nodes and "
		    "for AWX's relays");
	case SECRET_WRONG:
		return mem_strdup("the header secret is wrong: the two sides do not have the same secret");
	case SECRET_CLOCK:
		return mem_printf("its clock is %" PRId64 " s %s this node's; at most %d s are accepted",
		    skew_s > 0 ? skew_s : -skew_s, skew_s > 0 ? "ahead of" : "behind", SECRET_CLOCK_S);
	case SECRET_REPLAYED:
		return mem_strdup("this header secret was used before");
	case SECRET_RIGHT:
	case SECRET_VERDICTS:
		break;
	}
	abort();
}

static void
http_peer_refuse(struct evhttp_request *req, const char *address, enum secret_verdict verdict, int64_t skew_s)
{
	static const enum metric counts[SECRET_VERDICTS] = {
	    [SECRET_MALFORMED] = METRIC_PEERS_REFUSED_MALFORMED_TOTAL,
	    [SECRET_WRONG] = METRIC_PEERS_REFUSED_SECRET_TOTAL,
	    [SECRET_CLOCK] = METRIC_PEERS_REFUSED_CLOCK_TOTAL,
	    [SECRET_REPLAYED] = METRIC_PEERS_REFUSED_REPLAY_TOTAL,
	};
	static struct log_limit limits[SECRET_VERDICTS];
	char *line = http_peer_mistake(verdict, skew_s);
	unsigned long more;

	metrics[counts[verdict]]++;
	if (log_limit_pass(&limits[verdict], HTTP_PEER_LOG_SECONDS, &more))
		log_warning("link", "refused a peer from %s: %s (%lu more such lines)", address, line, more);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
	if (verdict == SECRET_MALFORMED)
		http_reply_text(req, 401, "Unauthorized", line);
	else
		http_reply_text(req, 403, "Forbidden", line);
	free(line);
}

/* False when the request has been answered. */
static bool
http_peer_check(struct evhttp_request *req, bool once)
{
	enum secret_verdict verdict;
	char *address;
	int64_t skew_s = 0;

	if (!secret_is_set()) {
		http_reply_text(
		    req, HTTP_NOTFOUND, "Not Found", "this node has no secret, and takes no peers");
		return false;
	}
	address = http_remote_host(req);
	verdict = secret_check_header(http_header(req, "secret"), address, once, &skew_s);
	if (verdict != SECRET_RIGHT)
		http_peer_refuse(req, address, verdict, skew_s);
	free(address);
	return verdict == SECRET_RIGHT;
}

void
http_peer_relay(struct evhttp_request *req)
{
	bool link = http_list_has(http_header(req, "Sec-WebSocket-Protocol"), LINK_PROTOCOL);

	if (!http_peer_check(req, link))
		return;
	if (link)
		http_upgrade_peer(req, &dialect_link, "link", LINK_PROTOCOL);
	else
		http_upgrade_peer(req, &dialect_wsrelay, "wsrelay", NULL);
}

void
http_peer_broadcast(struct evhttp_request *req)
{
	if (http_peer_check(req, false))
		http_upgrade_peer(req, &dialect_wsbroadcast, "wsbroadcast", NULL);
}
