/*
 * The mesh. A peer stays in the table as long as its node is known, so that a pause between two attempts
 * outlives a link.
 */
#include "config.h"
#include "cluster/mesh.h"
#include "cluster/link.h"
#include "cluster/node.h"
#include "cluster/payload.h"
#include "cluster/question.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define MESH_PAUSE_MIN_MS 100
#define MESH_PAUSE_MAX_MS 500
#define MESH_STABLE_MS    10000
#define MESH_LOG_SECONDS  60

struct peer {
	char *id;
	struct link *link;     /* open */
	struct link *dialling; /* on its way */
	struct event *retry;
	int64_t pause_ms;
	char *error; /* NULL for nothing */
	struct log_limit limit;
	UT_hash_handle hh;
};

static struct {
	struct peer *peers;
	bool stopping;
} mesh;

static void mesh_dial(struct peer *p);

static struct peer *
mesh_find(const char *id)
{
	struct peer *p;

	HASH_FIND_STR(mesh.peers, id, p);
	return p;
}

/* The link is gone for all who used it. */
static void
mesh_tell_ended(struct link *link)
{
	payload_on_link_ended(link);
	question_on_link_ended(link);
}

static void
mesh_forget(struct peer *p)
{
	HASH_DEL(mesh.peers, p);
	event_free(p->retry);
	free(p->error);
	free(p->id);
	free(p);
}

/* ---- dialling ---- */

static void
mesh_on_retry(evutil_socket_t fd, short what, void *arg)
{
	mesh_dial(arg);
}

static struct peer *
mesh_get(const char *id)
{
	struct peer *p = mesh_find(id);

	if (p != NULL)
		return p;
	p = mem_zalloc(sizeof(*p));
	p->id = mem_strdup(id);
	p->retry = evtimer_new(loop_base(), mesh_on_retry, p);
	if (p->retry == NULL)
		log_fatal("could not create a timer");
	HASH_ADD_KEYPTR(hh, mesh.peers, p->id, strlen(p->id), p);
	return p;
}

static bool
mesh_wants_link(const struct node *n)
{
	return n != NULL && n->kind == NODE_PEER && !node_is_double(node_self_id()) &&
	       n->state == NODE_ONLINE && n->port != 0 && strcmp(node_self_id(), n->id) < 0;
}

static void
mesh_dial(struct peer *p)
{
	const struct node *n = node_find_peer(p->id);

	if (mesh.stopping || p->link != NULL || p->dialling != NULL || !mesh_wants_link(n))
		return;
	p->dialling = link_dial(n);
}

/* The first attempt after a loss is at once. */
static void
mesh_pause(struct peer *p)
{
	int64_t ms = p->pause_ms > 0 ? p->pause_ms / 2 + random() % p->pause_ms : 0;
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	p->pause_ms = p->pause_ms == 0                      ? MESH_PAUSE_MIN_MS
		      : p->pause_ms * 2 > MESH_PAUSE_MAX_MS ? MESH_PAUSE_MAX_MS
							    : p->pause_ms * 2;
	event_add(p->retry, &tv);
}

void
mesh_on_heard(const struct node *n)
{
	struct peer *p = n->kind == NODE_DOUBLE ? mesh_find(n->id) : NULL;

	if (p != NULL && p->link != NULL) {
		link_close(p->link, WS_CLOSE_POLICY, "two nodes claim one id");
		mesh_tell_ended(p->link);
		p->link = NULL;
	}
	if (!mesh_wants_link(n))
		return;
	p = mesh_get(n->id);
	if (p->link != NULL && link_boot(p->link) != n->boot) {
		log_info("cluster", "node \"%s\" has been started anew: its link is, too", n->id);
		link_close(p->link, WS_CLOSE_GOING_AWAY, "the other node has been started anew");
		mesh_tell_ended(p->link);
		p->link = NULL;
	}
	if (!event_pending(p->retry, EV_TIMEOUT, NULL))
		mesh_dial(p);
}

/* ---- what links tell ---- */

/* Each of the two would take the other's place, without end. */
static void
mesh_refuse_double(struct peer *p, struct link *link)
{
	if (p->dialling == link)
		p->dialling = NULL;
	link_close(link, WS_CLOSE_POLICY, "two nodes claim one id");
}

static void
mesh_on_opened(struct link *link)
{
	struct peer *p = mesh_get(link_node(link));

	if (node_is_double(p->id)) {
		mesh_refuse_double(p, link);
		return;
	}
	if (p->link != NULL) {
		log_info("cluster", "a new link to node \"%s\" takes the place of the former one", p->id);
		link_close(p->link, WS_CLOSE_NORMAL, "another link takes its place");
		mesh_tell_ended(p->link);
	}
	if (p->dialling != NULL && p->dialling != link)
		link_close(p->dialling, WS_CLOSE_NORMAL, "another link takes its place");
	p->dialling = NULL;
	p->link = link;
	free(p->error);
	p->error = NULL;
	if (mesh.stopping)
		mesh_stop();
}

static void
mesh_on_ended(struct link *link, const char *reason)
{
	struct peer *p = link_node(link) != NULL ? mesh_find(link_node(link)) : NULL;
	unsigned long more;

	if (p == NULL || (p->link != link && p->dialling != link))
		return;
	free(p->error);
	p->error = mem_strdup(reason);
	if (p->link == link) {
		log_warning("cluster", "the link to node \"%s\" is lost: %s", p->id, reason);
		if (link_figures(link).age_ms >=
		    MESH_STABLE_MS) /* one that does not last is no reason to hurry */
			p->pause_ms = 0;
		p->limit = (struct log_limit){0};
		p->link = NULL;
		mesh_tell_ended(link);
	} else {
		p->dialling = NULL;
		if (log_limit_pass(&p->limit, MESH_LOG_SECONDS, &more))
			log_warning("cluster", "no link to node \"%s\": %s (%lu more attempts before)", p->id,
			    reason, more);
	}
	if (node_find_peer(p->id) == NULL && p->dialling == NULL && p->link == NULL)
		mesh_forget(p); /* no heartbeat has told of it */
	else if (!mesh.stopping)
		mesh_pause(p);
}

static void
mesh_on_message(struct link *link, struct slice word, struct slice rest)
{
	payload_on_message(link, word, rest);
	if (link_is_open(link))
		question_on_message(link, word, rest);
}

static void
mesh_on_drained(struct link *link)
{
	payload_on_drained(link);
	question_on_drained(link);
}

static const struct link_ops mesh_link_ops = {
    mesh_on_opened, mesh_on_message, mesh_on_drained, mesh_on_ended};

/* ---- for others ---- */

struct link *
mesh_link(const char *node)
{
	struct peer *p = mesh_find(node);

	return p != NULL ? p->link : NULL;
}

struct link *
mesh_next_link(struct link *link)
{
	struct peer *p = link == NULL ? mesh.peers : mesh_find(link_node(link));

	if (link != NULL && p != NULL)
		p = p->hh.next;
	while (p != NULL && p->link == NULL)
		p = p->hh.next;
	return p != NULL ? p->link : NULL;
}

const char *
mesh_error(const char *node)
{
	struct peer *p = mesh_find(node);

	return p != NULL ? p->error : NULL;
}

/* ---- life ---- */

void
mesh_on_forgotten(const char *id)
{
	struct peer *p = mesh_find(id);

	if (p != NULL && p->link == NULL && p->dialling == NULL && node_find_peer(id) == NULL)
		mesh_forget(p);
}

void
mesh_init(void)
{
	memset(&mesh, 0, sizeof(mesh));
	link_init(&mesh_link_ops);
}

void
mesh_stop(void)
{
	struct peer *p, *next;

	mesh.stopping = true;
	HASH_ITER(hh, mesh.peers, p, next)
	{
		event_del(p->retry);
		if (p->link != NULL) {
			link_close(p->link, WS_CLOSE_GOING_AWAY, "the node is shutting down");
			mesh_tell_ended(p->link);
		}
		if (p->dialling != NULL)
			link_close(p->dialling, WS_CLOSE_GOING_AWAY, "the node is shutting down");
		p->link = p->dialling = NULL;
	}
}

void
mesh_free(void)
{
	struct peer *p, *next;

	link_free_all();
	HASH_ITER(hh, mesh.peers, p, next)
	mesh_forget(p);
}
