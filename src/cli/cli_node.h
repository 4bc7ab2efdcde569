/*
 * A node over HTTP, for commands: where it is (--url, $PGRELAY_URL, else the setting "listen") and who asks
 * (--token, --token-file, $PGRELAY_TOKEN).
 */
#ifndef PGRELAY_CLI_CLI_NODE_H
#define PGRELAY_CLI_CLI_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli_args.h"
#include "http/http_client.h"

struct cli_node {
	struct cli_values urls;
	const char *token, *token_file;
};

/* Rows for a command's table of options. */
#define CLI_NODE_OPTIONS(node)                                                                               \
	{"url", "URL", "where a node is; may be given several times: they are tried in turn", NULL, NULL,    \
	    &(node)->urls},                                                                                  \
	    {"token", "TOKEN", "who you are; without it $PGRELAY_TOKEN", &(node)->token, NULL, NULL},        \
	{                                                                                                    \
		"token-file", "FILE", "a file whose first line is the token", &(node)->token_file, NULL,     \
		    NULL                                                                                     \
	}

/* HOST:PORT of a node on this host, by the setting "listen". The caller releases it with free(). */
char *cli_node_address(void);
/* False: there is none that could be one; it has been said, but not shown. *token is NULL where none is
 * given; the caller releases it with free(). */
bool cli_node_token(const char *given, const char *path, char **token);

/*
 * Asks the first node that can be connected to, as http_client_ask() does. Returns CLI_DONE: there is an
 * answer, whatever its status is; else the status to end with, all has been said. undone says what an answer
 * that did not come leaves open, "the event may have been published"; "" for nothing.
 */
int cli_node_ask(const struct cli_node *node, const char *path, const char *body, size_t len,
    const char *undone, struct http_client_answer *answer);

#endif
