/* A node over HTTP, for commands. */
#include "config.h"
#include "cli/cli_node.h"
#include "core/conf.h"
#include "core/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where it is ---- */

char *
cli_node_address(void)
{
	char *first = mem_strndup(conf.listen, strcspn(conf.listen, ", ")), *port = strrchr(first, ':'),
	     *address;
	size_t host_len = port != NULL ? (size_t)(port - first) : strlen(first);
	char *host = mem_strndup(first, host_len);
	bool any = *host == '\0' || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0;

	address = mem_printf("%s%s",
	    any                         ? "127.0.0.1"
	    : strcmp(host, "[::]") == 0 ? "[::1]"
					: host,
	    port != NULL ? port : "");
	free(host);
	free(first);
	return address;
}

struct cli_node_urls {
	struct http_client_url **list;
	size_t count;
};

static bool
cli_node_add_url(struct cli_node_urls *urls, const char *text)
{
	char *error = NULL;
	struct http_client_url *url = http_client_url_parse(text, &error);

	if (url == NULL) {
		cli_error("%s", error);
		free(error);
		return false;
	}
	urls->list = mem_resize(urls->list, sizeof(struct http_client_url *) * (urls->count + 1));
	urls->list[urls->count++] = url;
	return true;
}

/* Separated by commas, with spaces round them or not. */
static bool
cli_node_split_urls(struct cli_node_urls *urls, char *list)
{
	bool ok = true;

	for (char *text; ok && (text = strsep(&list, ",")) != NULL;) {
		text += strspn(text, " ");
		text[strcspn(text, " ")] = '\0';
		ok = cli_node_add_url(urls, text);
	}
	return ok;
}

static bool
cli_node_find_urls(const struct cli_node *node, struct cli_node_urls *urls)
{
	const char *environment = getenv("PGRELAY_URL");
	char *address, *text;
	bool ok = true;

	for (size_t i = 0; ok && i < node->urls.count; i++)
		ok = cli_node_add_url(urls, node->urls.list[i]);
	if (node->urls.count > 0)
		return ok;
	address = cli_node_address();
	text = environment != NULL ? mem_strdup(environment) : mem_printf("http://%s", address);
	ok = cli_node_split_urls(urls, text);
	free(text);
	free(address);
	return ok;
}

/* ---- who asks ---- */

/* The file's first line; NULL after having said why not. The caller releases it. */
static char *
cli_node_read_token(const char *path)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;

	if (f == NULL || getline(&line, &size, f) < 0) {
		cli_error("could not read a token from \"%s\": %s", path,
		    f == NULL || ferror(f) ? strerror(errno) : "it is empty");
		free(line);
		line = NULL;
	} else {
		line[strcspn(line, "\r\n")] = '\0';
	}
	if (f != NULL)
		fclose(f);
	return line;
}

bool
cli_node_token(const char *given, const char *path, char **token)
{
	*token = NULL;
	if (given == NULL && path == NULL)
		given = getenv("PGRELAY_TOKEN");
	if (given == NULL && path == NULL)
		return true; /* the node will say that it wants one */
	*token = given != NULL ? mem_strdup(given) : cli_node_read_token(path);
	if (*token == NULL)
		return false;
	for (const char *p = *token; *p != '\0'; p++) {
		if (!isgraph((unsigned char)*p)) {
			cli_error("the token holds a space or another character that no token has");
			return false;
		}
	}
	return true;
}

/* ---- asking ---- */

static int
cli_node_ask_one(const struct cli_node_urls *urls, const char *token, const char *path, const char *body,
    size_t len, const char *undone, struct http_client_answer *answer)
{
	for (size_t i = 0; i < urls->count; i++) {
		const char *url = http_client_url_text(urls->list[i]);

		switch (http_client_ask(urls->list[i], path, token, body, len, answer)) {
		case HTTP_CLIENT_ANSWERED:
			return CLI_DONE;
		case HTTP_CLIENT_UNREACHED:
			if (i + 1 < urls->count)
				cli_say("notice", "could not connect to %s: %s; trying the next", url,
				    answer->error);
			else
				cli_error("could not connect to %s: %s", url, answer->error);
			free(answer->error);
			break;
		case HTTP_CLIENT_LOST:
			cli_error("%s did not answer: %s%s%s", url, answer->error,
			    *undone != '\0' ? "; " : "", undone);
			free(answer->error);
			return CLI_FAILED;
		}
	}
	cli_hint("A node is at http://HOST:PORT; --url or PGRELAY_URL says where.");
	return CLI_FAILED;
}

int
cli_node_ask(const struct cli_node *node, const char *path, const char *body, size_t len, const char *undone,
    struct http_client_answer *answer)
{
	struct cli_node_urls urls = {NULL, 0};
	char *token = NULL;
	int status = CLI_WRONG_USAGE;

	if (cli_node_find_urls(node, &urls) && cli_node_token(node->token, node->token_file, &token))
		status = cli_node_ask_one(&urls, token, path, body, len, undone, answer);
	for (size_t i = 0; i < urls.count; i++)
		http_client_url_free(urls.list[i]);
	free(urls.list);
	free(token);
	return status;
}
