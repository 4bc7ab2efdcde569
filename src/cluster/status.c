/* The picture: what this node says of itself, and, in a request, what the others have said of themselves. */
#include "config.h"
#include "cluster/status.h"
#include "cluster/link.h"
#include "cluster/mesh.h"
#include "cluster/node.h"
#include "cluster/question.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define STATUS_SUBJECT "status"

struct told {
	TAILQ_ENTRY(told) entry;
	char *node;
	json_t *json; /* what it says of itself */
};

struct status_request {
	TAILQ_ENTRY(status_request) entry;
	TAILQ_HEAD(, told) told;
	struct question *question;
	status_done done;
	void *arg;
};

static struct {
	TAILQ_HEAD(, status_request) requests;
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
status_find_told(const struct status_request *r, const char *node)
{
	struct told *t;

	TAILQ_FOREACH (t, &r->told, entry)
		if (strcmp(t->node, node) == 0)
			return json_incref(t->json);
	return NULL;
}

/* What a node says of itself, with what is known of it here. */
static json_t *
status_node(const struct status_request *r, const struct node *n)
{
	bool self = n->kind == NODE_SELF;
	json_t *told = self ? status_self() : n->kind == NODE_PEER ? status_find_told(r, n->id) : NULL;
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
	struct told *t;

	TAILQ_REMOVE(&status.requests, r, entry);
	while ((t = TAILQ_FIRST(&r->told)) != NULL) {
		TAILQ_REMOVE(&r->told, t, entry);
		json_decref(t->json);
		free(t->node);
		free(t);
	}
	free(r);
}

/* Takes json over; the text is released with free(). */
static char *
status_dump(json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(4));

	if (text == NULL)
		log_fatal("out of memory");
	json_decref(json);
	return text;
}

static void
status_on_done(void *arg)
{
	struct status_request *r = arg;
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
	text = status_dump(picture);
	r->done(r->arg, text);
	free(text);
	status_free_request(r);
}

static void
status_on_answered(void *arg, const char *node, struct slice text)
{
	struct status_request *r = arg;
	json_t *json = json_loadb(text.ptr, text.len, 0, NULL);
	struct told *t;

	if (!json_is_object(json)) {
		json_decref(json);
		return;
	}
	t = mem_zalloc(sizeof(*t));
	t->node = mem_strdup(node);
	t->json = json;
	TAILQ_INSERT_TAIL(&r->told, t, entry);
}

static const struct question_ops status_question_ops = {status_on_answered, status_on_done};

struct status_request *
status_collect(status_done done, void *arg)
{
	struct status_request *r = mem_zalloc(sizeof(*r));

	r->done = done;
	r->arg = arg;
	TAILQ_INIT(&r->told);
	TAILQ_INSERT_TAIL(&status.requests, r, entry);
	r->question = question_ask(NULL, STATUS_SUBJECT, &status_question_ops, r);
	return r;
}

void
status_cancel(struct status_request *r)
{
	question_cancel(r->question);
	status_free_request(r);
}

static char *
status_answer(struct slice rest, size_t *len)
{
	char *text = status_dump(status_self());

	*len = strlen(text);
	return text;
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
	question_serve(STATUS_SUBJECT, status_answer);
}

void
status_free(void)
{
	while (!TAILQ_EMPTY(&status.requests))
		status_cancel(TAILQ_FIRST(&status.requests));
	free(status.address);
}
