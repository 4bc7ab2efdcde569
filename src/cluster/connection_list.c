/* The connections of all nodes. This node's own go the same way as others': as lines. */
#include "config.h"
#include "cluster/connection_list.h"
#include "client/connection.h"
#include "client/connection_query.h"
#include "client/connections.h"
#include "cluster/node.h"
#include "cluster/question.h"
#include "core/log.h"
#include "core/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIST_SUBJECT  "connections"
#define CLOSE_SUBJECT "close"
#define CLOSE_DONE    "closed"
#define CLOSE_GONE    "gone"

struct connection_list {
	struct connection_query *query;
	struct connection **list;
	size_t count, size;
	char **nodes; /* whom they are of */
	size_t node_count;
	struct question *question;
	connection_list_done done;
	void *arg;
};

struct connection_closing {
	enum connection_verdict verdict;
	struct question *question;
	connection_closing_done done;
	void *arg;
};

/* ---- asked by others ---- */

static char *
connection_list_answer(struct slice rest, size_t *len)
{
	struct connection_query *query = connection_query_read(rest);
	char *text;

	if (query == NULL) {
		log_debug("cluster", "another node asks for connections in a way that is not understood");
		return NULL;
	}
	text = connections_list(query, QUESTION_ANSWER_MAX, len);
	connection_query_free(query);
	return text;
}

static char *
connection_close_answer(struct slice rest, size_t *len)
{
	int64_t number;
	char *text;

	if (!slice_to_int64(rest, &number))
		return NULL;
	text = mem_strdup(connections_close((uint64_t)number) ? CLOSE_DONE : CLOSE_GONE);
	*len = strlen(text);
	return text;
}

void
connection_list_init(void)
{
	question_serve(LIST_SUBJECT, connection_list_answer);
	question_serve(CLOSE_SUBJECT, connection_close_answer);
}

/* ---- listing ---- */

static void
connection_list_free(struct connection_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->list[i]);
	for (size_t i = 0; i < l->node_count; i++)
		free(l->nodes[i]);
	free(l->list);
	free(l->nodes);
	free(l);
}

void
connection_list_cancel(struct connection_list *l)
{
	question_cancel(l->question);
	connection_list_free(l);
}

static const char *
connection_list_add_node(struct connection_list *l, const char *node)
{
	l->nodes = mem_resize(l->nodes, (l->node_count + 1) * sizeof(*l->nodes));
	return l->nodes[l->node_count++] = mem_strdup(node);
}

static void
connection_list_add(struct connection_list *l, const struct connection *c)
{
	if (l->count == l->size) {
		l->size = l->size * 2 + 64;
		l->list = mem_resize(l->list, l->size * sizeof(*l->list));
	}
	l->list[l->count++] = connection_copy(c);
}

/* The whole order is needed of none but those that will be shown. */
static void
connection_list_cut(struct connection_list *l)
{
	size_t wanted = connection_query_offset(l->query) + connection_query_limit(l->query);

	connection_query_sort(l->query, l->list, l->count);
	while (l->count > wanted)
		free(l->list[--l->count]);
}

/* What a node tells. It has been looked at there; here it is looked at again, for a node may be of another
 * version. */
static void
connection_list_on_answered(void *arg, const char *name, struct slice text)
{
	struct connection_list *l = arg;
	const char *node = connection_list_add_node(l, name);
	struct connection_read read;
	struct slice line;

	while (slice_cut(&text, '\n', &line))
		if (connection_parse_line(line, node, &read) &&
		    connection_query_matches(l->query, &read.connection))
			connection_list_add(l, &read.connection);
	connection_list_cut(l);
}

static void
connection_list_on_done(void *arg)
{
	struct connection_list *l = arg;
	size_t offset = connection_query_offset(l->query);

	if (offset > l->count)
		offset = l->count;
	l->done(l->arg, l->list + offset, l->count - offset);
	connection_list_free(l);
}

static const struct question_ops connection_list_question_ops = {
    connection_list_on_answered, connection_list_on_done};

static void
connection_list_add_own(struct connection_list *l)
{
	size_t len;
	char *text = connections_list(l->query, SIZE_MAX, &len);

	connection_list_on_answered(l, node_self_id(), (struct slice){text, len});
	free(text);
}

struct connection_list *
connection_list_collect(struct connection_query *query, connection_list_done done, void *arg)
{
	char *asked = connection_query_format(query);
	char *text = mem_printf(LIST_SUBJECT " %s", asked);
	struct connection_list *l = NULL;

	if (strlen(text) <= QUESTION_TEXT_MAX) {
		l = mem_zalloc(sizeof(*l));
		l->query = query;
		l->done = done;
		l->arg = arg;
		l->question = question_ask(NULL, text, &connection_list_question_ops, l);
		connection_list_add_own(l);
	}
	free(text);
	free(asked);
	return l;
}

/* ---- closing ---- */

static void
connection_closing_on_answered(void *arg, const char *node, struct slice text)
{
	struct connection_closing *c = arg;

	c->verdict = slice_is(text, CLOSE_DONE) ? CONNECTION_CLOSED : CONNECTION_GONE;
}

static void
connection_closing_on_done(void *arg)
{
	struct connection_closing *c = arg;

	c->done(c->arg, c->verdict);
	free(c);
}

static const struct question_ops connection_closing_question_ops = {
    connection_closing_on_answered, connection_closing_on_done};

/* Of this node's own nobody is asked, so the question is over at once. */
struct connection_closing *
connection_close(const struct connection *connection, connection_closing_done done, void *arg)
{
	struct connection_closing *c = mem_zalloc(sizeof(*c));
	char *text = mem_printf(CLOSE_SUBJECT " %" PRIu64, connection->number);

	c->verdict = CONNECTION_UNREACHED;
	c->done = done;
	c->arg = arg;
	if (strcmp(connection->node, node_self_id()) == 0)
		c->verdict = connections_close(connection->number) ? CONNECTION_CLOSED : CONNECTION_GONE;
	c->question = question_ask(connection->node, text, &connection_closing_question_ops, c);
	free(text);
	return c;
}

void
connection_closing_cancel(struct connection_closing *c)
{
	question_cancel(c->question);
	free(c);
}
