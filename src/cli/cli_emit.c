/* pgrelay emit: one event from the shell, by SQL or through a node. */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_db.h"
#include "cli/cli_node.h"
#include "client/awx_group.h"
#include "core/mem.h"
#include "pg/pg_sync.h"
#include "relay/event.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All of standard input; NULL after having said why not. The caller releases it. */
static char *
cli_emit_read(void)
{
	char *text = NULL;
	size_t size = 0;

	if (getdelim(&text, &size, '\0', stdin) < 0) {
		if (ferror(stdin))
			cli_error("could not read the payload from standard input: %s", strerror(errno));
		else
			cli_error("the payload on standard input is empty");
	} else if (getchar() != EOF) {
		cli_error("the payload on standard input holds a NUL, which no JSON text does");
	} else {
		return text;
	}
	free(text);
	return NULL;
}

/* ---- through a node ---- */

/* As SQL's ->> has it; NULL when it is not there. The caller releases it. */
static char *
cli_emit_field(const json_t *payload, const char *name)
{
	const json_t *value = json_object_get(payload, name);

	if (value == NULL || json_is_null(value))
		return NULL;
	return json_is_string(value) ? mem_strdup(json_string_value(value))
				     : json_dumps(value, JSON_ENCODE_ANY);
}

/* As pgrelay.emit_channel_notification() has it. */
static char *
cli_emit_group_action(const json_t *payload)
{
	char *event = cli_emit_field(payload, "event");

	if (event != NULL && topic_is_word((struct slice){event, strlen(event)}))
		return event;
	free(event);
	return mem_strdup("message");
}

static char *
cli_emit_group_key(const json_t *payload)
{
	char *key = cli_emit_field(payload, "unified_job_id");

	if (key == NULL)
		key = cli_emit_field(payload, "id");
	if (key == NULL)
		key = cli_emit_field(payload, "inventory_id");
	return key != NULL ? key : mem_strdup("");
}

/* Type, action and key of a group's event; false after having said why there are none. */
static bool
cli_emit_split_group(const char *group, const char *text, char *parts[3])
{
	char *name = NULL, *value = NULL,
	     *pattern = awx_group_split(group, &name, &value) ? awx_group_pattern(name, value) : NULL;
	json_t *payload = json_loads(text, 0, NULL);
	bool ok = pattern != NULL;

	if (!ok) {
		cli_error("invalid group name: \"%s\"", group);
		cli_hint("It must be of the form NAME-VALUE, such as job_events-42 or jobs-status_changed.");
	} else if (strcmp(pattern + strlen(pattern) - 2, ".*") != 0) {
		parts[0] = mem_strdup(name);
		parts[1] = cli_emit_group_action(payload);
		parts[2] = mem_strdup(value);
	} else {
		parts[0] = mem_strdup(name);
		parts[1] = mem_strdup(value);
		parts[2] = cli_emit_group_key(payload);
	}
	json_decref(payload);
	free(pattern);
	free(name);
	free(value);
	return ok;
}

/* The payload stands in it as it was given: its numbers stay what they are. The caller releases it; NULL
 * after having said why there is none. */
static char *
cli_emit_body(char *const *parts, const char *payload)
{
	json_t *topic = json_pack("{s:s, s:s, s:s}", "type", parts[0], "action", parts[1], "key", parts[2]);
	char *head, *body;

	if (topic == NULL) {
		cli_error("TYPE, ACTION and KEY must be UTF-8");
		return NULL;
	}
	head = json_dumps(topic, JSON_COMPACT);
	head[strlen(head) - 1] = '\0';
	body = mem_printf("%s,\"payload\":%s}", head, payload);
	free(head);
	json_decref(topic);
	return body;
}

static int
cli_emit_take_ids(const json_t *answer)
{
	const json_t *id = json_array_get(json_object_get(answer, "ids"), 0);

	if (!json_is_integer(id))
		return cli_error("the answer is not a node's; does the URL lead to one?");
	printf("%lld\n", (long long)json_integer_value(id));
	return CLI_DONE;
}

static int
cli_emit_take_refusal(const json_t *answer, int status)
{
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (error != NULL)
		cli_error("%s", error);
	else
		cli_error("the server answered %d", status);
	if (status == 401)
		cli_hint("A token is wanted: --token, --token-file or PGRELAY_TOKEN; \"pgrelay token create "
			 "USER\" makes one.");
	else if (status == 403)
		cli_hint("\"pgrelay grant add --publish USER PATTERN\" lets a user publish.");
	else if (status == 404)
		cli_hint("A node is at http://HOST:PORT; --url or PGRELAY_URL says where.");
	return CLI_FAILED;
}

static int
cli_emit_post(const struct cli_node *node, char *const *parts, const char *payload)
{
	struct http_client_answer answer;
	char *body = cli_emit_body(parts, payload);
	int status = CLI_FAILED;
	json_t *json;

	if (body != NULL)
		status = cli_node_ask(
		    node, "/api/v1/events", body, strlen(body), "the event may have been published", &answer);
	free(body);
	if (body == NULL || status != CLI_DONE)
		return status;
	json = json_loads(answer.body, 0, NULL);
	status = answer.status == 200 ? cli_emit_take_ids(json) : cli_emit_take_refusal(json, answer.status);
	json_decref(json);
	free(answer.body);
	return status;
}

static int
cli_emit_via_node(const struct cli_node *node, const char *group, char **operands, const char *payload)
{
	char *parts[3] = {NULL, NULL, NULL};
	int status = CLI_FAILED;

	if (group == NULL)
		return cli_emit_post(node, operands, payload);
	if (cli_emit_split_group(group, payload, parts))
		status = cli_emit_post(node, parts, payload);
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++)
		free(parts[i]);
	return status;
}

/* ---- by SQL ---- */

static int
cli_emit_send(const char *sql, int nparams, const char *const *params)
{
	struct pg_sync *db = cli_db_open("emit");
	int status = CLI_FAILED;

	if (db != NULL && cli_db_query(db, sql, nparams, params)) {
		puts(pg_sync_text(db, 0, 0));
		status = CLI_DONE;
	}
	pg_sync_free(db);
	return status;
}

static int
cli_emit_event(const char *group, char **operands, const char *payload)
{
	if (group != NULL)
		return cli_emit_send("SELECT pgrelay.emit_channel_notification($1, $2::jsonb)", 2,
		    (const char *const[]){group, payload});
	return cli_emit_send("SELECT pgrelay.emit($1, $2, $3, $4::jsonb)", 4,
	    (const char *const[]){operands[0], operands[1], operands[2], payload});
}

/* ---- the command ---- */

static bool
cli_emit_check(const struct cli_args *args, int names, bool via_node, const struct cli_node *node)
{
	if (args->argc < names || args->argc > names + 1)
		cli_error(
		    "TYPE, ACTION and KEY are wanted, or --group GROUP, and at most one JSON behind them");
	else if (!via_node && (node->urls.count > 0 || node->token != NULL || node->token_file != NULL))
		cli_error("--url, --token and --token-file are for --via-node");
	else
		return true;
	cli_hint("Try \"pgrelay emit --help\".");
	return false;
}

int
cli_emit(int argc, char **argv)
{
	const char *group = NULL, *payload;
	struct cli_node node = {{NULL, 0}, NULL, NULL};
	bool via_node = false;
	const struct cli_option options[] = {
	    {"group", "GROUP", "emit to a group of the AWX dialect, job_events-42 for one", &group, NULL,
		NULL},
	    {"via-node", NULL, "publish through a node, over HTTP, instead of by SQL", NULL, &via_node, NULL},
	    CLI_NODE_OPTIONS(&node),
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "emit",
	    .operands = "{TYPE ACTION KEY | --group GROUP} [JSON]",
	    .text = "Emits one event and prints its id. JSON is the payload, an object; it is read from "
		    "standard input when it\n"
		    "is - or left out.",
	    .options = options,
	    .operands_max = 4};
	struct cli_args args;
	char *input = NULL;
	int status, names;

	if (!cli_args_start(&args, &usage, argc, argv, &status))
		return status;
	names = group != NULL ? 0 : 3;
	if (!cli_emit_check(&args, names, via_node, &node)) {
		free(node.urls.list);
		return CLI_WRONG_USAGE;
	}
	payload = args.argv[names];
	if (payload == NULL || strcmp(payload, "-") == 0)
		payload = input = cli_emit_read();
	if (payload == NULL)
		status = CLI_FAILED;
	else if (via_node)
		status = cli_emit_via_node(&node, group, args.argv, payload);
	else
		status = cli_emit_event(group, args.argv, payload);
	free(node.urls.list);
	free(input);
	return status;
}
