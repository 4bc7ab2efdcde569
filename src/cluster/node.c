/*
 * The table of nodes. A key begins with what keeps apart those who must not be mixed up: nobody's unsigned or
 * forged heartbeats change what is known of a peer of the same id.
 */
#include "config.h"
#include "cluster/node.h"
#include "cluster/secret.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define NODE_DEAD_MS     10000
#define NODE_FORGET_MS   (3600 * 1000)
#define NODE_MAX         1000
#define NODE_LOGGED      100
#define NODE_LOG_SECONDS 10
#define NODE_SWEEP_MS    500

static struct {
	struct node *table;
	char *self_id;
	uint64_t self_boot;
	int64_t started_us; /* since 1970 */
	int64_t self_heard_ms;
	const struct node_ops *ops;
	struct event *sweep;
} nodes;

static const char *const node_kind_names[NODE_KINDS] = {
    "self", "peer", "unsigned", "forged", "skewed", "double", "foreign", "awx"};
static const char *const node_state_names[] = {"online", "offline", "dead"};

const char *
node_kind_name(enum node_kind kind)
{
	return node_kind_names[kind];
}

const char *
node_state_name(enum node_state state)
{
	return node_state_names[state];
}

const char *
node_self_id(void)
{
	return nodes.self_id;
}

uint64_t
node_self_boot(void)
{
	return nodes.self_boot;
}

const struct node *
node_next(const struct node *node)
{
	return node == NULL ? nodes.table : node->hh.next;
}

/* ---- the table ---- */

static struct node *
node_find(const char *key)
{
	struct node *n;

	HASH_FIND_STR(nodes.table, key, n);
	return n;
}

static char *
node_peer_key(const char *id)
{
	return mem_printf("peer %s", id);
}

const struct node *
node_find_peer(const char *id)
{
	char *key = node_peer_key(id);
	struct node *n = node_find(key);

	free(key);
	return n != NULL && n->kind == NODE_PEER ? n : NULL;
}

bool
node_is_double(const char *id)
{
	bool own = strcmp(id, nodes.self_id) == 0;
	char *key =
	    own ? mem_printf("%s %s %s", node_kind_names[NODE_DOUBLE], conf.cluster, id) : node_peer_key(id);
	struct node *n = node_find(key);

	free(key);
	return n != NULL && n->kind == NODE_DOUBLE && n->state == NODE_ONLINE;
}

static void
node_forget(struct node *n)
{
	HASH_DEL(nodes.table, n);
	nodes.ops->forgotten(n->id);
	free(n->key);
	free(n->id);
	free(n->cluster);
	free(n->version);
	free(n->host);
	free(n);
}

/* Makes room: the one that was not heard for longest goes, though no peer that lives. */
static bool
node_make_room(void)
{
	struct node *n, *next, *oldest = NULL;

	if (HASH_COUNT(nodes.table) < NODE_MAX)
		return true;
	HASH_ITER(hh, nodes.table, n, next)
	if ((n->kind != NODE_PEER || n->state != NODE_ONLINE) &&
	    (oldest == NULL || n->heard_ms < oldest->heard_ms))
		oldest = n;
	if (oldest != NULL)
		node_forget(oldest);
	return oldest != NULL;
}

static struct node *
node_add(const char *key, const struct beat *b)
{
	struct node *n;

	if (!node_make_room())
		return NULL;
	n = mem_zalloc(sizeof(*n));
	n->key = mem_strdup(key);
	n->id = mem_strdup(b->node);
	n->kind = NODE_KINDS;
	n->state = NODE_DEAD;
	HASH_ADD_KEYPTR(hh, nodes.table, n->key, strlen(n->key), n);
	return n;
}

/* ---- telling the log ---- */

/* Whoever can NOTIFY can make up as many as they like: then the log has peers only. */
static void
node_log_kind(const struct node *n, const struct beat *b)
{
	if (n->kind != NODE_PEER && HASH_COUNT(nodes.table) > NODE_LOGGED)
		return;
	switch (n->kind) {
	case NODE_SELF:
	case NODE_KINDS:
		break;
	case NODE_PEER:
		log_info("cluster", "node \"%s\" at %s:%d is there", n->id, n->host, n->port);
		break;
	case NODE_UNSIGNED:
		log_info("cluster", "node \"%s\" is there, without links: %s", n->id,
		    secret_is_set() ? "it has no secret and this node has one" : "this node has no secret");
		break;
	case NODE_FORGED:
		log_warning("cluster", "node \"%s\" (%s) is not taken for one of ours: %s", n->id, n->host,
		    b->reason);
		break;
	case NODE_SKEWED:
		log_warning("cluster",
		    "node \"%s\" at %s:%d is not linked: its clock is %" PRId64
		    " s %s this node's; at most %d s are accepted",
		    n->id, n->host, n->port, n->skew_ms > 0 ? n->skew_ms / 1000 : -n->skew_ms / 1000,
		    n->skew_ms > 0 ? "ahead of" : "behind", SECRET_CLOCK_S);
		break;
	case NODE_DOUBLE:
		log_error("cluster",
		    "two nodes claim the id \"%s\" (one at %s:%d); give each its own by the setting node",
		    n->id, n->host, n->port);
		break;
	case NODE_FOREIGN:
		log_info("cluster", "node \"%s\" is of another cluster, \"%s\", and left alone", n->id,
		    n->cluster);
		break;
	case NODE_AWX:
		log_info("cluster", "\"%s\" is one of AWX's", n->id);
		break;
	}
}

/* ---- changes ---- */

static bool
node_set_text(char **field, const char *value)
{
	if (value == NULL || (*field != NULL && strcmp(*field, value) == 0))
		return false;
	free(*field);
	*field = mem_strdup(value);
	return true;
}

static bool
node_set_address(struct node *n, const struct beat *b)
{
	bool changed = n->port != b->port || n->tls != b->tls;

	n->port = b->port;
	n->tls = b->tls;
	return node_set_text(&n->host, b->ip != NULL ? b->ip : b->hostname) || changed;
}

/* What others than peers do is told once in a while: anybody who can NOTIFY may do it. */
static bool
node_is_worth_a_line(const struct node *n)
{
	static struct log_limit limit;
	unsigned long more;

	return n->kind == NODE_PEER || (n->kind == NODE_UNSIGNED && !secret_is_set() &&
					   log_limit_pass(&limit, NODE_LOG_SECONDS, &more));
}

static void
node_set_state(struct node *n, enum node_state state)
{
	if (n->state == state)
		return;
	n->state = state;
	if (n->heard_ms != 0 && node_is_worth_a_line(n))
		log_info("cluster", "node \"%s\" is %s", n->id, node_state_name(state));
}

/* A node that was started anew has another boot. When the former one is heard again, both live. */
static bool
node_set_boot(struct node *n, const struct beat *b)
{
	bool changed = n->boot != b->boot;

	if (changed && b->boot == n->former_boot && b->counter > n->former_counter)
		n->double_ms = loop_now_ms();
	if (changed) {
		n->former_boot = n->boot;
		n->former_counter = n->counter;
		n->boot = b->boot;
	}
	n->counter = b->counter;
	return changed && n->heard_ms != 0;
}

/* Whoever hears nothing of itself cannot tell who is silent. */
static void
node_excuse_all(int64_t now)
{
	struct node *n, *next;

	HASH_ITER(hh, nodes.table, n, next)
	if (n->state == NODE_ONLINE)
		n->heard_ms = now;
}

static void
node_update(struct node *n, const struct beat *b, enum node_kind kind)
{
	struct timeval now;
	bool moved, anew, met = false;

	gettimeofday(&now, NULL);
	if (b->time_us != 0)
		n->skew_ms = b->time_us / 1000 - ((int64_t)now.tv_sec * 1000 + now.tv_usec / 1000);
	n->time_us = b->time_us;
	anew = node_set_boot(n, b);
	moved = node_set_address(n, b);
	node_set_text(&n->cluster, b->cluster);
	node_set_text(&n->version, b->version);
	if (kind == NODE_PEER && n->double_ms != 0 && loop_now_ms() - n->double_ms < NODE_DEAD_MS)
		kind = NODE_DOUBLE;
	node_set_state(n, b->offline ? NODE_OFFLINE : NODE_ONLINE);
	if (n->kind != kind) {
		n->kind = kind;
		node_log_kind(n, b);
		met = kind == NODE_PEER;
	} else if (anew && kind == NODE_PEER) {
		log_info("cluster", "node \"%s\" has been started anew", n->id);
		met = true;
	} else if (moved && n->heard_ms != 0 && node_is_worth_a_line(n)) {
		log_info("cluster", "node \"%s\" is at %s:%d now", n->id, n->host, n->port);
	}
	if (kind == NODE_SELF && loop_now_ms() - nodes.self_heard_ms > NODE_DEAD_MS / 2)
		node_excuse_all(loop_now_ms());
	n->heard_ms = loop_now_ms();
	if (kind == NODE_SELF)
		nodes.self_heard_ms = n->heard_ms;
	nodes.ops->heard(n);
	if (met)
		nodes.ops->met();
}

/* ---- whose is it? ---- */

static bool
node_is_played_again(const struct node *n, const struct beat *b)
{
	if (n == NULL)
		return false;
	if (b->boot == n->boot)
		return b->counter <= n->counter;
	if (b->boot == n->former_boot)
		return b->counter <= n->former_counter;
	return b->time_us < n->time_us;
}

static enum node_kind
node_judge_signed(const struct beat *b)
{
	struct timeval now;
	int64_t skew_s;
	char *key;
	const struct node *n;

	gettimeofday(&now, NULL);
	skew_s = b->time_us / 1000000 - now.tv_sec;
	if (strcmp(b->node, nodes.self_id) ==
	    0) /* one that came before this node began is its own, played again */
		return b->time_us < nodes.started_us ? NODE_FORGED : NODE_DOUBLE;
	key = node_peer_key(b->node);
	n = node_find(key);
	free(key);
	if (node_is_played_again(n, b))
		return NODE_FORGED;
	return skew_s > SECRET_CLOCK_S || skew_s < -SECRET_CLOCK_S ? NODE_SKEWED : NODE_PEER;
}

static enum node_kind
node_judge(struct beat *b, const char *cluster)
{
	if (b->awx)
		return NODE_AWX;
	if (strcmp(b->cluster, cluster) != 0)
		return NODE_FOREIGN;
	if (b->own)
		return NODE_SELF;
	if (!secret_is_set() || !b->sealed)
		return NODE_UNSIGNED;
	if (!b->right) {
		b->reason = "its heartbeats are not signed with this node's secret; give all nodes of a "
			    "cluster the same";
		return NODE_FORGED;
	}
	b->reason = "a heartbeat of its was played again, or its clock was set back";
	return node_judge_signed(b);
}

/* An echo of what this node sent before: neither news nor anybody else's. */
static bool
node_is_own_echo(const struct beat *b)
{
	return !b->awx && !b->own && strcmp(b->node, nodes.self_id) == 0 && b->boot == nodes.self_boot;
}

enum node_kind
node_take(const struct beat *beat)
{
	struct beat b = *beat;
	enum node_kind kind = node_judge(&b, conf.cluster);
	bool peer = kind == NODE_PEER || kind == NODE_SKEWED;
	struct node *n;
	char *key;

	if (node_is_own_echo(&b))
		return NODE_SELF;
	key = peer ? node_peer_key(b.node)
		   : mem_printf("%s %s %s", node_kind_name(kind), b.cluster != NULL ? b.cluster : "", b.node);
	n = node_find(key);
	if (n == NULL)
		n = node_add(key, &b);
	free(key);
	if (n != NULL)
		node_update(n, &b, kind);
	metrics[METRIC_HEARTBEATS_SELF_TOTAL + (int)(n != NULL ? n->kind : kind)]++;
	return kind;
}

/* ---- time ---- */

static void
node_on_sweep(evutil_socket_t fd, short what, void *arg)
{
	int64_t now = loop_now_ms();
	struct node *n, *next;

	HASH_ITER(hh, nodes.table, n, next)
	{
		if (n->state == NODE_ONLINE && nodes.self_heard_ms - n->heard_ms > NODE_DEAD_MS) {
			node_set_state(n, NODE_DEAD);
			nodes.ops->heard(n);
		} else if (n->state != NODE_ONLINE && now - n->heard_ms > NODE_FORGET_MS) {
			node_forget(n);
		}
	}
}

void
node_init(const char *self_id, uint64_t self_boot, const struct node_ops *ops)
{
	struct timeval tv = {0, NODE_SWEEP_MS * 1000}, now;

	memset(&nodes, 0, sizeof(nodes));
	gettimeofday(&now, NULL);
	nodes.started_us = (int64_t)now.tv_sec * 1000000 + now.tv_usec;
	nodes.self_id = mem_strdup(self_id);
	nodes.self_boot = self_boot;
	nodes.ops = ops;
	nodes.sweep = event_new(loop_base(), -1, EV_PERSIST, node_on_sweep, NULL);
	if (nodes.sweep == NULL)
		log_fatal("could not create a timer");
	event_add(nodes.sweep, &tv);
}

void
node_free_all(void)
{
	while (nodes.table != NULL)
		node_forget(nodes.table);
	if (nodes.sweep != NULL)
		event_free(nodes.sweep);
	free(nodes.self_id);
	memset(&nodes, 0, sizeof(nodes));
}
