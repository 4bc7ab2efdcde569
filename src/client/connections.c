/* This node's connections. Nothing is kept: the sessions are looked at when somebody asks. */
#include "config.h"
#include "client/connections.h"
#include "client/connection.h"
#include "client/connection_events.h"
#include "client/connection_query.h"
#include "client/session.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_YEAR_10000 INT64_C(253402300800) /* in seconds; four digits are all that a year has */

static const char *connections_node;

void
connections_init(const char *node)
{
	connections_node = node;
}

/* As a line that was read: with room for its texts. */
static void
connections_describe(const struct session *s, struct connection_read *out)
{
	struct connection *c = &out->connection;
	struct slice address = session_address(s);
	struct endpoint high;

	if (address.len >= sizeof(out->address))
		address.len = sizeof(out->address) - 1;
	memcpy(out->address, address.ptr, address.len);
	out->address[address.len] = '\0';
	connection_make_principal(session_user_name(s), out->principal);
	c->number = session_number(s);
	c->created_us = session_opened_us(s);
	c->expires_s = session_expires_s(s) < CONNECTIONS_YEAR_10000 ? session_expires_s(s) : 0;
	c->stream = session_dialect(s)->transport == SESSION_STREAM;
	c->address = out->address;
	c->principal = out->principal;
	c->node = connections_node;
	endpoint_parse(c->address, &c->where, &high);
}

/* ---- listing ---- */

static struct connection **
connections_gather(struct connection_query *query, size_t *count)
{
	struct connection **list = mem_alloc(session_count() * sizeof(*list) + 1);
	struct connection_read read;
	struct session *s = NULL;

	*count = 0;
	while ((s = session_next_client(s)) != NULL) {
		connections_describe(s, &read);
		if (connection_query_matches(query, &read.connection))
			list[(*count)++] = connection_copy(&read.connection);
	}
	connection_query_sort(query, list, *count);
	return list;
}

/* Returns the length of the lines that fit into max; a part of one may stand behind them. */
static size_t
connections_print(FILE *out, struct connection *const *list, size_t count, size_t max)
{
	size_t whole = 0;

	for (size_t i = 0; i < count; i++) {
		size_t len = connection_print_line(out, list[i]);

		if (whole + len > max)
			break;
		whole += len;
	}
	return whole;
}

char *
connections_list(struct connection_query *query, size_t max, size_t *len)
{
	size_t count, wanted = connection_query_offset(query) + connection_query_limit(query), whole;
	struct connection **list = connections_gather(query, &count);
	char *text;
	FILE *out = open_memstream(&text, len);

	if (out == NULL)
		log_fatal("out of memory");
	whole = connections_print(out, list, count < wanted ? count : wanted, max);
	fclose(out);
	*len = whole;
	for (size_t i = 0; i < count; i++)
		free(list[i]);
	free(list);
	return text;
}

/* ---- closing ---- */

bool
connections_close(uint64_t number)
{
	struct session *s = NULL;

	while ((s = session_next_client(s)) != NULL) {
		if (session_number(s) != number)
			continue;
		session_close(s, WS_CLOSE_POLICY, "closed by an administrator");
		return true;
	}
	return false;
}

/* ---- what changes ---- */

static bool
connections_tells_of(const struct session *s)
{
	return conf.connection_events == CONF_CONNECTIONS_ALL ||
	       (conf.connection_events == CONF_CONNECTIONS_DRP && session_dialect(s)->drp);
}

static void
connections_tell(const struct session *s, const char *action)
{
	struct connection_read read;

	if (!connections_tells_of(s))
		return;
	connections_describe(s, &read);
	connection_events_add(action, &read.connection);
}

void
connections_opened(const struct session *s)
{
	connections_tell(s, "create");
}

void
connections_ended(const struct session *s)
{
	connections_tell(s, "delete");
}
