/* pgrelay status: the nodes of the cluster and the links between them, as one of them sees them. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_node.h"
#include "cli/cli_table.h"
#include "core/mem.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLI_STATUS_PATH "/api/v1/cluster"

static const char *
cli_status_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

/* A number with its unit; nothing where there is none. */
static void
cli_status_add_number(struct cli_table *t, const json_t *value, double divisor, const char *unit)
{
	if (json_is_number(value))
		cli_table_add(t, "%.10g%s", json_number_value(value) / divisor, unit);
	else
		cli_table_add(t, "%s", "");
}

/* Seconds in the two largest units that they fill. */
static void
cli_status_add_age(struct cli_table *t, const json_t *value)
{
	long long s = json_integer_value(value);

	if (!json_is_integer(value))
		cli_table_add(t, "%s", "");
	else if (s < 60)
		cli_table_add(t, "%lld s", s);
	else if (s < 3600)
		cli_table_add(t, "%lld min %lld s", s / 60, s % 60);
	else if (s < 86400)
		cli_table_add(t, "%lld h %lld min", s / 3600, s % 3600 / 60);
	else
		cli_table_add(t, "%lld d %lld h", s / 86400, s % 86400 / 3600);
}

static void
cli_status_add_heads(struct cli_table *t, const char *const *heads)
{
	for (; *heads != NULL; heads++) {
		cli_table_add(t, "%s", *heads);
		t->columns++;
	}
}

static const char *
cli_status_ready(const json_t *node)
{
	const json_t *ready = json_object_get(node, "ready");

	if (json_is_true(ready))
		return "yes";
	if (json_is_false(ready))
		return "no";
	return strcmp(cli_status_text(node, "kind"), "peer") == 0 ? "no answer" : "";
}

static void
cli_status_print_nodes(const json_t *nodes)
{
	static const char *const heads[] = {"NODE", "KIND", "STATE", "READY", "ADDRESS", "VERSION",
	    "SESSIONS", "EVENTS", "HEARD", "LAG", "SKEW", "UP", "ANNOUNCER", NULL};
	struct cli_table t = {0};
	const json_t *node;
	size_t i;

	cli_status_add_heads(&t, heads);
	json_array_foreach (nodes, i, node) {
		cli_table_add(&t, "%s", cli_status_text(node, "node"));
		cli_table_add(&t, "%s", cli_status_text(node, "kind"));
		cli_table_add(&t, "%s", cli_status_text(node, "state"));
		cli_table_add(&t, "%s", cli_status_ready(node));
		cli_table_add(&t, "%s", cli_status_text(node, "address"));
		cli_table_add(&t, "%s", cli_status_text(node, "version"));
		cli_status_add_number(&t, json_object_get(node, "sessions"), 1, "");
		cli_status_add_number(&t, json_object_get(node, "events"), 1, "");
		cli_status_add_number(&t, json_object_get(node, "heard_ms"), 1, " ms");
		cli_status_add_number(&t, json_object_get(node, "listener_lag_ms"), 1, " ms");
		cli_status_add_number(&t, json_object_get(node, "skew_ms"), 1, " ms");
		cli_status_add_age(&t, json_object_get(node, "uptime_s"));
		cli_table_add(&t, "%s", json_is_true(json_object_get(node, "announcer")) ? "yes" : "");
	}
	cli_table_print(&t);
}

static void
cli_status_add_links(struct cli_table *t, const json_t *node)
{
	const json_t *link;
	size_t i;

	json_array_foreach (json_object_get(node, "links"), i, link) {
		cli_table_add(t, "%s", cli_status_text(node, "node"));
		cli_table_add(t, "%s", cli_status_text(link, "node"));
		cli_table_add(t, "%s", cli_status_text(link, "state"));
		cli_table_add(t, "%s", json_is_true(json_object_get(link, "dialled")) ? "yes" : "");
		cli_status_add_age(t, json_object_get(link, "age_s"));
		cli_status_add_number(t, json_object_get(link, "rtt_us"), 1000, " ms");
		cli_status_add_number(t, json_object_get(link, "sent_bytes"), 1, "");
		cli_status_add_number(t, json_object_get(link, "received_bytes"), 1, "");
		cli_table_add(t, "%s", cli_status_text(link, "error"));
	}
}

static bool
cli_status_has_links(const json_t *nodes)
{
	const json_t *node;
	size_t i;

	json_array_foreach (nodes, i, node)
		if (json_array_size(json_object_get(node, "links")) > 0)
			return true;
	return false;
}

static void
cli_status_print_links(const json_t *nodes)
{
	static const char *const heads[] = {
	    "LINK OF", "TO", "STATE", "DIALS", "AGE", "RTT", "SENT", "RECEIVED", "ERROR", NULL};
	struct cli_table t = {0};
	const json_t *node;
	size_t i;

	if (!cli_status_has_links(nodes))
		return;
	cli_status_add_heads(&t, heads);
	json_array_foreach (nodes, i, node)
		cli_status_add_links(&t, node);
	putchar('\n');
	cli_table_print(&t);
}

static int
cli_status_print(const char *body, bool json)
{
	json_t *picture = json_loads(body, 0, NULL);
	const json_t *nodes = json_object_get(picture, "nodes");

	if (!json_is_array(nodes)) {
		json_decref(picture);
		return cli_error("the node's answer is not understood; is it of this version?");
	}
	if (json) {
		puts(body);
	} else {
		printf("cluster \"%s\", as node \"%s\" sees it\n\n", cli_status_text(picture, "cluster"),
		    cli_status_text(picture, "node"));
		cli_status_print_nodes(nodes);
		cli_status_print_links(nodes);
	}
	json_decref(picture);
	return CLI_DONE;
}

static int
cli_status_refused(const struct http_client_answer *answer)
{
	json_t *error = json_loads(answer->body, 0, NULL);
	const char *line = cli_status_text(error, "error");

	if (*line != '\0')
		cli_error("the node refuses: %s", line);
	else
		cli_error("the node answers with HTTP %d", answer->status);
	json_decref(error);
	return CLI_FAILED;
}

int
cli_status(int argc, char **argv)
{
	struct cli_node node = {{NULL, 0}, NULL, NULL};
	bool json = false;
	const struct cli_option options[] = {
	    CLI_NODE_OPTIONS(&node),
	    {"json", NULL, "print the node's answer as it is, JSON", NULL, &json, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "status",
	    .operands = "",
	    .text =
		"Shows the nodes of the cluster and the links between them, as one of them sees them. Its "
		"user needs a grant\n"
		"that covers \"cluster.status.*\".",
	    .options = options};
	struct http_client_answer answer;
	struct cli_args args;
	int status;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	status = cli_node_ask(&node, CLI_STATUS_PATH, NULL, 0, "", &answer);
	free(node.urls.list);
	if (status != CLI_DONE)
		return status;
	status = answer.status == 200 ? cli_status_print(answer.body, json) : cli_status_refused(&answer);
	free(answer.body);
	return status;
}
