/*
 * pgrelay check: the other nodes, by the heartbeats that come while it listens, judged as a node would judge
 * them. Nothing is sent, so a node that runs already is not disturbed.
 */
#include "config.h"
#include "cli/check.h"
#include "cluster/heartbeat.h"
#include "cluster/node.h"
#include "cluster/secret.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "pg/pg_sync.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define CHECK_LISTEN_MAX_MS 10000
#define CHECK_NODES_MAX     1000
#define CHECK_NODES_SHOWN   10

/* One id that is heard. */
struct check_node {
	char *id, *host;
	uint64_t boot, former_boot;
	int64_t skew_s; /* its clock less ours */
	bool sealed, right, twice;
};

struct check_nodes {
	struct check_node *list;
	size_t count, awx, foreign;
};

/* ---- hearing ---- */

static struct check_node *
check_find_node(struct check_nodes *nodes, const struct beat *b)
{
	for (size_t i = 0; i < nodes->count; i++)
		if (strcmp(nodes->list[i].id, b->node) == 0)
			return &nodes->list[i];
	if (nodes->count == CHECK_NODES_MAX)
		return NULL;
	nodes->list = mem_resize(nodes->list, sizeof(*nodes->list) * (nodes->count + 1));
	nodes->list[nodes->count] =
	    (struct check_node){.id = mem_strdup(b->node), .host = mem_strdup(b->hostname), .boot = b->boot};
	return &nodes->list[nodes->count++];
}

/* Of one that is started anew meanwhile the former boot is not heard again; of two with one id it is. */
static void
check_note_beat(struct check_node *node, const struct beat *b)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	node->skew_s = b->time_us / 1000000 - now.tv_sec;
	node->sealed = b->sealed;
	node->right = b->right;
	if (b->boot == node->boot)
		return;
	node->twice = node->twice || b->boot == node->former_boot;
	node->former_boot = node->boot;
	node->boot = b->boot;
}

static void
check_take_beat(void *arg, const char *payload)
{
	struct check_nodes *nodes = arg;
	struct check_node *node;
	struct beat b;
	json_t *json = heartbeat_read(payload, strlen(payload), &b);

	if (json == NULL || b.offline)
		; /* of no interest */
	else if (b.awx)
		nodes->awx++;
	else if (strcmp(b.cluster, conf.cluster) != 0)
		nodes->foreign++;
	else if ((node = check_find_node(nodes, &b)) != NULL)
		check_note_beat(node, &b);
	json_decref(json);
}

static bool
check_listen_to_nodes(struct check *c, struct check_nodes *nodes)
{
	int64_t time_ms = 2 * conf.probe_interval_ms;
	char *listen;
	bool ok;

	if (!pg_sync_query(c->db, "SELECT quote_ident($1)", 1, (const char *const[]){conf.heartbeat_channel}))
		return false;
	listen = mem_printf("LISTEN %s", pg_sync_text(c->db, 0, 0));
	ok = pg_sync_query(c->db, listen, 0, NULL);
	free(listen);
	fflush(stdout); /* what is known is shown while we wait */
	return ok && pg_sync_gather(c->db, conf.heartbeat_channel,
			 (long)(time_ms < CHECK_LISTEN_MAX_MS ? time_ms : CHECK_LISTEN_MAX_MS),
			 check_take_beat, nodes);
}

/* ---- judging ---- */

static bool
check_node_is_wrong(const struct check_node *node)
{
	return node->twice || node->sealed != secret_is_set() || (node->sealed && !node->right) ||
	       llabs(node->skew_s) > SECRET_CLOCK_S;
}

static void
check_fail_node(struct check *c, const struct check_node *node)
{
	static const char same[] =
	    "Give all nodes of a cluster the same secret; cluster.md, section 1, has the "
	    "steps that change it.";

	if (node->twice)
		check_fail(c, "Give one of them another id: the setting \"node\".",
		    "two nodes claim the id \"%s\"; one is on host \"%s\"", node->id, node->host);
	else if (!secret_is_set() && node->sealed)
		check_fail(c, same, "node \"%s\" has a secret, and this one has none", node->id);
	else if (secret_is_set() && !node->sealed)
		check_fail(c, same, "node \"%s\" has no secret, and this one has one", node->id);
	else if (node->sealed && !node->right)
		check_fail(c, same, "node \"%s\" has another secret", node->id);
	else
		check_fail(c, "Let NTP set both clocks: chrony, systemd-timesyncd.",
		    "the clock of node \"%s\" is %lld s %s of this machine's", node->id,
		    (long long)llabs(node->skew_s), node->skew_s > 0 ? "ahead" : "behind");
}

/* ---- telling ---- */

static int
check_compare_nodes(const void *a, const void *b)
{
	return strcmp(((const struct check_node *)a)->id, ((const struct check_node *)b)->id);
}

static bool
check_is_self(const struct check_node *node)
{
	return strcmp(node->id, heartbeat_node()) == 0;
}

/* ": "a", "b"", or nothing. The caller releases it with free(). */
static char *
check_list_others(const struct check_nodes *nodes, size_t *others)
{
	char *text = mem_strdup("");

	*others = 0;
	for (size_t i = 0; i < nodes->count; i++) {
		char *longer;

		if (check_is_self(&nodes->list[i]) || ++*others > CHECK_NODES_SHOWN)
			continue;
		longer = mem_printf("%s%s\"%s\"", text, *others > 1 ? ", " : ": ", nodes->list[i].id);
		free(text);
		text = longer;
	}
	return text;
}

static void
check_tell_nodes(struct check *c, const struct check_nodes *nodes)
{
	const char *host = heartbeat_host();
	size_t others;
	char *list = check_list_others(nodes, &others);
	bool running = false;

	for (size_t i = 0; i < nodes->count; i++)
		running = running || check_is_self(&nodes->list[i]);
	check_ok(c, "\"%s\" %s; this node, \"%s\", %s, and is known by %s%s%s; others heard: %zu%s%s%s%s",
	    conf.cluster, secret_is_set() ? "with a secret" : "without a secret", heartbeat_node(),
	    running ? "runs" : "does not run", host != NULL ? "the address " : "its host's name",
	    host != NULL ? host : "", *conf.advertise == '\0' ? " (advertise is empty)" : "", others, list,
	    others > CHECK_NODES_SHOWN ? ", ..." : "", nodes->awx > 0 ? "; AWX's are heard, too" : "",
	    nodes->foreign > 0 ? "; so are nodes of another cluster" : "");
	free(list);
}

/* ---- the check ---- */

/* Where other nodes are told to reach this one, as the node finds it. The caller releases it with free(). */
static char *
check_address(void)
{
	size_t len = strcspn(conf.listen, ", ");
	const char *any = *conf.listen == '*' ? "0.0.0.0" : "";

	if (*conf.advertise != '\0')
		return mem_strdup(conf.advertise);
	return mem_printf("%s%.*s", any, (int)len - (*any != '\0'), conf.listen + (*any != '\0'));
}

static void
check_judge_nodes(struct check *c, struct check_nodes *nodes)
{
	if (nodes->count > 0)
		qsort(nodes->list, nodes->count, sizeof(*nodes->list), check_compare_nodes);
	for (size_t i = 0; i < nodes->count; i++) {
		if (check_node_is_wrong(&nodes->list[i])) {
			check_fail_node(c, &nodes->list[i]);
			return;
		}
	}
	check_tell_nodes(c, nodes);
}

bool
check_cluster(struct check *c)
{
	struct check_nodes nodes = {NULL, 0, 0, 0};
	char *address = check_address();

	log_set_level(LOG_ERROR); /* the line says what the node would warn of */
	heartbeat_init(address);
	free(address);
	if (check_listen_to_nodes(c, &nodes))
		check_judge_nodes(c, &nodes);
	else
		check_fail_db(c, c->db);
	for (size_t i = 0; i < nodes.count; i++) {
		free(nodes.list[i].id);
		free(nodes.list[i].host);
	}
	free(nodes.list);
	heartbeat_free();
	return true;
}
