/* The picture. A question to a node is a member of its request; it is answered, or ends with its link. */
#include "config.h"
#include "cluster/status.h"
#include "cluster/link.h"
#include "cluster/mesh.h"
#include "cluster/node.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <event2/event.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define STATUS_WAIT_MS     1000
#define STATUS_BACKLOG_MAX (1024 * 1024) /* who does not read gets no more answers */

struct question {
	TAILQ_ENTRY(question) entry;
	int64_t number;
	struct link *link; /* NULL: over */
	char *node;
	json_t *answer; /* NULL: none */
};

struct status_request {
	TAILQ_ENTRY(status_request) entry;
	TAILQ_HEAD(, question) questions;
	size_t open; /* questions that are not over */
	struct event *timer;
	status_done done;
	void *arg;
};

static struct {
	TAILQ_HEAD(, status_request) requests;
	int64_t last_number;
	int64_t started_ms;
	char *address;
	bool (*is_ready)(void);
} status;

static json_t *
status_check(json_t *json)
{
	if (json == NULL)
		log_fatal("out of memory");
	return json;
}

/* ---- this node ---- */

static json_t *
status_link(struct link *link)
{
	struct link_figures f = link_figures(link);

	return status_check(json_pack("{ss ss sb sI so sI sI sn}", "node", link_node(link), "state", "open",
	    "dialled", link_is_dialled(link), "age_s", (json_int_t)f.age_ms / 1000, "rtt_us",
	    f.rtt_us >= 0 ? json_integer(f.rtt_us) : json_null(), "sent_bytes", (json_int_t)f.sent_bytes,
	    "received_bytes", (json_int_t)f.received_bytes, "error"));
}

/* A peer that is not linked: why not. */
static json_t *
status_no_link(const struct node *n)
{
	return status_check(json_pack("{ss ss sb sn sn si si ss?}", "node", n->id, "state", "none", "dialled",
	    strcmp(node_self_id(), n->id) < 0, "age_s", "rtt_us", "sent_bytes", 0, "received_bytes", 0,
	    "error", mesh_error(n->id)));
}

static json_t *
status_links(void)
{
	json_t *links = status_check(json_array());
	const struct node *n = NULL;
	struct link *link = NULL;

	while ((link = mesh_next_link(link)) != NULL)
		json_array_append_new(links, status_link(link));
	while ((n = node_next(n)) != NULL)
		if (n->kind == NODE_PEER && mesh_link(n->id) == NULL)
			json_array_append_new(links, status_no_link(n));
	return links;
}

/* What only a node itself knows. */
static json_t *
status_self(void)
{
	return status_check(json_pack("{ss ss ss sI sb sI sf sI sb so}", "node", node_self_id(), "address",
	    status.address, "version", PACKAGE_VERSION, "uptime_s",
	    (json_int_t)((loop_now_ms() - status.started_ms) / 1000), "ready", status.is_ready(), "sessions",
	    (json_int_t)metrics[METRIC_SESSIONS], "listener_lag_ms", metrics[METRIC_PROBE_SECONDS] * 1e3,
	    "events", (json_int_t)metrics[METRIC_EVENTS_TOTAL], "announcer", metrics[METRIC_ANNOUNCER] != 0,
	    "links", status_links()));
}

/* ---- the picture ---- */

static json_t *
status_find_answer(const struct status_request *r, const char *node)
{
	struct question *q;

	TAILQ_FOREACH (q, &r->questions, entry)
		if (q->answer != NULL && strcmp(q->node, node) == 0)
			return json_incref(q->answer);
	return NULL;
}

/* What a node says of itself, with what is known of it here. */
static json_t *
status_node(const struct status_request *r, const struct node *n)
{
	bool self = n->kind == NODE_SELF;
	json_t *told = self ? status_self() : n->kind == NODE_PEER ? status_find_answer(r, n->id) : NULL;
	json_t *node = status_check(json_object());
	bool bracket = n->host != NULL && strchr(n->host, ':') != NULL;
	char *address = mem_printf(bracket ? "%s[%s]:%d" : "%s%s:%d", n->tls ? "wss://" : "",
	    n->host != NULL ? n->host : "", n->port);

	json_object_set_new(node, "node", json_string(n->id));
	json_object_set_new(node, "kind", json_string(node_kind_name(n->kind)));
	json_object_set_new(node, "state", json_string(node_state_name(n->state)));
	json_object_set_new(node, "answered", json_boolean(told != NULL));
	json_object_set_new(node, "cluster", n->cluster != NULL ? json_string(n->cluster) : json_null());
	json_object_set_new(
	    node, "address", n->kind != NODE_AWX ? json_string(address) : json_string(n->host));
	json_object_set_new(node, "version", n->version != NULL ? json_string(n->version) : json_null());
	json_object_set_new(node, "heard_ms", json_integer(loop_now_ms() - n->heard_ms));
	json_object_set_new(node, "skew_ms", json_integer(self ? 0 : n->skew_ms));
	if (told != NULL)
		json_object_update_missing(node, told);
	json_decref(told);
	free(address);
	return node;
}

static void
status_free_request(struct status_request *r)
{
	struct question *q;

	TAILQ_REMOVE(&status.requests, r, entry);
	while ((q = TAILQ_FIRST(&r->questions)) != NULL) {
		TAILQ_REMOVE(&r->questions, q, entry);
		json_decref(q->answer);
		free(q->node);
		free(q);
	}
	event_free(r->timer);
	free(r);
}

static void
status_finish(struct status_request *r)
{
	json_t *picture =
	    status_check(json_pack("{ss ss s[]}", "cluster", conf.cluster, "node", node_self_id(), "nodes"));
	json_t *list = json_object_get(picture, "nodes");
	const struct node *n = NULL;
	char *text;

	while ((n = node_next(n)) != NULL)
		if (n->kind == NODE_SELF)
			json_array_append_new(list, status_node(r, n));
	while ((n = node_next(n)) != NULL)
		if (n->kind != NODE_SELF)
			json_array_append_new(list, status_node(r, n));
	text = json_dumps(picture, JSON_COMPACT | JSON_REAL_PRECISION(4));
	if (text == NULL)
		log_fatal("out of memory");
	json_decref(picture);
	r->done(r->arg, text);
	free(text);
	status_free_request(r);
}

static void
status_on_timer(evutil_socket_t fd, short what, void *arg)
{
	status_finish(arg);
}

/* With the last answer it is done, at the end of this turn. */
static void
status_close_question(struct status_request *r, struct question *q)
{
	q->link = NULL;
	if (--r->open == 0)
		event_active(r->timer, EV_TIMEOUT, 0);
}

static void
status_ask(struct status_request *r, struct link *link)
{
	struct question *q = mem_zalloc(sizeof(*q));

	q->number = ++status.last_number;
	q->link = link;
	q->node = mem_strdup(link_node(link));
	TAILQ_INSERT_TAIL(&r->questions, q, entry);
	r->open++;
	link_send(link, "ask %" PRId64 " status", q->number);
}

struct status_request *
status_collect(status_done done, void *arg)
{
	struct timeval tv = {STATUS_WAIT_MS / 1000, STATUS_WAIT_MS % 1000 * 1000};
	struct status_request *r = mem_zalloc(sizeof(*r));
	struct link *link = NULL;

	r->done = done;
	r->arg = arg;
	TAILQ_INIT(&r->questions);
	TAILQ_INSERT_TAIL(&status.requests, r, entry);
	r->timer = evtimer_new(loop_base(), status_on_timer, r);
	if (r->timer == NULL)
		log_fatal("could not create a timer");
	event_add(r->timer, &tv);
	while ((link = mesh_next_link(link)) != NULL)
		status_ask(r, link);
	if (r->open == 0)
		event_active(r->timer, EV_TIMEOUT, 0);
	return r;
}

void
status_cancel(struct status_request *r)
{
	status_free_request(r);
}

/* ---- what links tell ---- */

static void
status_answer(struct link *link, int64_t number)
{
	json_t *self = status_self();
	char *text = json_dumps(self, JSON_COMPACT | JSON_REAL_PRECISION(4));
	char head[40];

	if (text == NULL)
		log_fatal("out of memory");
	snprintf(head, sizeof(head), "answer %" PRId64, number);
	link_send_with(link, head, (struct slice){text, strlen(text)});
	free(text);
	json_decref(self);
}

static void
status_take_answer(struct link *link, int64_t number, struct slice text)
{
	struct status_request *r;
	struct question *q;
	json_t *json;

	TAILQ_FOREACH (r, &status.requests, entry) {
		TAILQ_FOREACH (q, &r->questions, entry) {
			if (q->number != number || q->link != link)
				continue;
			json = json_loadb(text.ptr, text.len, 0, NULL);
			if (json_is_object(json))
				q->answer = json;
			else
				json_decref(json);
			status_close_question(r, q);
			return;
		}
	}
}

void
status_on_message(struct link *link, struct slice word, struct slice rest)
{
	bool ask = slice_is(word, "ask");
	struct slice field;
	int64_t number;

	if (!ask && !slice_is(word, "answer"))
		return;
	if (!slice_cut(&rest, ' ', &field) || !slice_to_int64(field, &number))
		link_break(link, "a malformed question or answer");
	else if (!ask)
		status_take_answer(link, number, rest);
	else if (slice_is(rest, "status") && link_backlog(link) < STATUS_BACKLOG_MAX)
		status_answer(link, number);
}

void
status_on_link_ended(struct link *link)
{
	struct status_request *r;
	struct question *q;

	TAILQ_FOREACH (r, &status.requests, entry)
		TAILQ_FOREACH (q, &r->questions, entry)
			if (q->link == link)
				status_close_question(r, q);
}

/* ---- life ---- */

void
status_init(const char *address, bool (*is_ready)(void))
{
	memset(&status, 0, sizeof(status));
	TAILQ_INIT(&status.requests);
	status.started_ms = loop_now_ms();
	status.address = mem_strdup(address);
	status.is_ready = is_ready;
}

void
status_free(void)
{
	while (!TAILQ_EMPTY(&status.requests))
		status_free_request(TAILQ_FIRST(&status.requests));
	free(status.address);
}
