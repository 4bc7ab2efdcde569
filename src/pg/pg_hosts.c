/*
 * The hosts of a connection string.
 *
 * A value is what the connection string says, else the service file, the environment, libpq's default: that
 * order is libpq's. Invariant: of several entries each has a host and a port, for an empty override would
 * leave libpq with the whole list.
 */
#include "config.h"
#include "pg/pg_hosts.h"
#include "core/mem.h"

#include <libpq-fe.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

struct pg_hosts {
	struct pg_host **items;
	size_t count;
};

/* ---- one host ---- */

static struct pg_host *
pg_host_new(const char *host, const char *hostaddr, const char *port)
{
	struct pg_host *h = mem_zalloc(sizeof(*h));

	h->host = host != NULL ? mem_strdup(host) : NULL;
	h->hostaddr = hostaddr != NULL ? mem_strdup(hostaddr) : NULL;
	h->port = port != NULL ? mem_strdup(port) : NULL;
	return h;
}

struct pg_host *
pg_host_copy(const struct pg_host *h)
{
	return pg_host_new(h->host, h->hostaddr, h->port);
}

void
pg_host_free(struct pg_host *h)
{
	if (h == NULL)
		return;
	free(h->host);
	free(h->hostaddr);
	free(h->port);
	free(h);
}

static bool
pg_host_is_socket(const char *host)
{
	return *host == '/' || *host == '@';
}

bool
pg_host_is_name(const struct pg_host *h)
{
	return h->host != NULL && h->hostaddr == NULL && !pg_host_is_socket(h->host);
}

char *
pg_host_describe(const struct pg_host *h)
{
	bool address = h->hostaddr != NULL && strcmp(h->host, h->hostaddr) != 0;

	if (h->host == NULL)
		return mem_strdup("the default host");
	return mem_printf("\"%s\"%s%s%s port %s", h->host, address ? " (" : "", address ? h->hostaddr : "",
	    address ? ")" : "", h->port);
}

static bool
pg_host_same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
pg_host_is_same(const struct pg_host *a, const struct pg_host *b)
{
	return pg_host_same_text(a->host, b->host) && pg_host_same_text(a->port, b->port) &&
	       (pg_host_is_name(a) || pg_host_is_name(b) || pg_host_same_text(a->hostaddr, b->hostaddr));
}

/* An address as it is written, without asking anybody. */
static bool
pg_host_is_numeric(const char *host)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	freeaddrinfo(found);
	return true;
}

/* ---- the list ---- */

static void
pg_hosts_add(struct pg_hosts *hosts, struct pg_host *host)
{
	hosts->items = mem_resize(hosts->items, (hosts->count + 1) * sizeof(struct pg_host *));
	hosts->items[hosts->count++] = host;
}

static void
pg_hosts_clear(struct pg_hosts *hosts)
{
	for (size_t i = 0; i < hosts->count; i++)
		pg_host_free(hosts->items[i]);
	free(hosts->items);
	*hosts = (struct pg_hosts){NULL, 0};
}

void
pg_hosts_free(struct pg_hosts *hosts)
{
	if (hosts == NULL)
		return;
	pg_hosts_clear(hosts);
	free(hosts);
}

const struct pg_host *
pg_hosts_first(const struct pg_hosts *hosts)
{
	return hosts->count > 0 ? hosts->items[0] : NULL;
}

void
pg_hosts_drop_first(struct pg_hosts *hosts)
{
	pg_host_free(hosts->items[0]);
	hosts->count--;
	memmove(hosts->items, hosts->items + 1, hosts->count * sizeof(struct pg_host *));
}

void
pg_hosts_expand_first(struct pg_hosts *hosts, const char *const *addresses, size_t count)
{
	struct pg_hosts all = {NULL, 0};
	struct pg_host *name = hosts->items[0];

	for (size_t i = 0; i < count; i++)
		pg_hosts_add(&all, pg_host_new(name->host, addresses[i], name->port));
	for (size_t i = 1; i < hosts->count; i++)
		pg_hosts_add(&all, hosts->items[i]);
	pg_host_free(name);
	free(hosts->items);
	*hosts = all;
}

void
pg_hosts_prefer(struct pg_hosts *hosts, const struct pg_host *host)
{
	struct pg_hosts all = {NULL, 0};

	for (size_t i = 0; i < hosts->count; i++)
		if (pg_host_is_same(hosts->items[i], host))
			pg_hosts_add(&all, hosts->items[i]);
	for (size_t i = 0; i < hosts->count; i++)
		if (!pg_host_is_same(hosts->items[i], host))
			pg_hosts_add(&all, hosts->items[i]);
	free(hosts->items);
	*hosts = all;
}

/* ---- from a connection string ---- */

struct pg_hosts_source {
	PQconninfoOption *given;    /* what the connection string itself says; NULL when it is none */
	PQconninfoOption *defaults; /* what stands behind it */
};

static PQconninfoOption *
pg_hosts_option(PQconninfoOption *options, const char *keyword)
{
	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o;
	return NULL;
}

/* NULL when nobody says anything. */
static const char *
pg_hosts_value(const struct pg_hosts_source *source, const char *keyword)
{
	PQconninfoOption *given = pg_hosts_option(source->given, keyword);
	PQconninfoOption *initial = pg_hosts_option(source->defaults, keyword);

	if (given != NULL && given->val != NULL)
		return given->val;
	return initial != NULL ? initial->val : NULL;
}

/* libpq's own test: anything else is the name of a database. */
static bool
pg_hosts_is_conninfo(const char *text)
{
	return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0 ||
	       strchr(text, '=') != NULL;
}

/* PQconndefaults() reads the service file of the environment; that of the connection string comes before. */
static PQconninfoOption *
pg_hosts_defaults(PQconninfoOption *given)
{
	PQconninfoOption *service = pg_hosts_option(given, "service"), *defaults;
	const char *usual = getenv("PGSERVICE");
	char *kept = usual != NULL ? mem_strdup(usual) : NULL;

	if (service == NULL || service->val == NULL) {
		defaults = PQconndefaults();
	} else {
		setenv("PGSERVICE", service->val, 1);
		defaults = PQconndefaults();
		if (kept != NULL)
			setenv("PGSERVICE", kept, 1);
		else
			unsetenv("PGSERVICE");
	}
	free(kept);
	return defaults;
}

static size_t
pg_hosts_list_count(const char *list)
{
	size_t count = 1;

	for (const char *p = list; *p != '\0'; p++)
		count += *p == ',';
	return count;
}

/* Part i of a list; NULL when it is empty, or when there is no list. The caller releases it. */
static char *
pg_hosts_list_part(const char *list, size_t i)
{
	if (list == NULL)
		return NULL;
	while (i-- > 0)
		list = strchr(list, ',') + 1;
	return *list != '\0' && *list != ',' ? mem_strndup(list, strcspn(list, ",")) : NULL;
}

/* False when entry i cannot stand for itself. */
static bool
pg_hosts_take(struct pg_hosts *hosts, size_t i, const char *names, const char *addresses, const char *port)
{
	char *host = pg_hosts_list_part(names, i), *hostaddr = pg_hosts_list_part(addresses, i);
	bool socket = host != NULL && hostaddr == NULL && pg_host_is_socket(host);
	bool good = (host != NULL || hostaddr != NULL) && !(socket && addresses != NULL);

	if (good && hostaddr == NULL && !socket && pg_host_is_numeric(host))
		hostaddr = mem_strdup(host);
	if (good)
		pg_hosts_add(hosts, pg_host_new(host != NULL ? host : hostaddr, hostaddr, port));
	free(host);
	free(hostaddr);
	return good;
}

static bool
pg_hosts_take_all(struct pg_hosts *hosts, const struct pg_hosts_source *source)
{
	const char *names = pg_hosts_value(source, "host");
	const char *addresses = pg_hosts_value(source, "hostaddr");
	const char *ports = pg_hosts_value(source, "port");
	PQconninfoOption *port_option = pg_hosts_option(source->defaults, "port");
	size_t count, port_count;
	bool good = true;

	names = names != NULL && *names != '\0' ? names : NULL;
	addresses = addresses != NULL && *addresses != '\0' ? addresses : NULL;
	if ((names == NULL && addresses == NULL) || ports == NULL || port_option == NULL)
		return false;
	count = pg_hosts_list_count(names != NULL ? names : addresses);
	port_count = pg_hosts_list_count(ports);
	if ((addresses != NULL && pg_hosts_list_count(addresses) != count) ||
	    (port_count != 1 && port_count != count))
		return false;
	for (size_t i = 0; i < count && good; i++) {
		char *port = pg_hosts_list_part(ports, port_count == 1 ? 0 : i);

		good = pg_hosts_take(hosts, i, names, addresses, port != NULL ? port : port_option->compiled);
		free(port);
	}
	return good;
}

struct pg_hosts *
pg_hosts_new(const char *conninfo)
{
	struct pg_hosts *hosts = mem_zalloc(sizeof(*hosts));
	struct pg_hosts_source source = {NULL, NULL};

	if (pg_hosts_is_conninfo(conninfo))
		source.given = PQconninfoParse(conninfo, NULL);
	source.defaults = pg_hosts_defaults(source.given);
	if (!pg_hosts_take_all(hosts, &source)) {
		pg_hosts_clear(hosts);
		pg_hosts_add(hosts, pg_host_new(NULL, NULL, NULL));
	}
	PQconninfoFree(source.given);
	PQconninfoFree(source.defaults);
	return hosts;
}
