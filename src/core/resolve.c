/*
 * Resolving one host name by libevent.
 *
 * Each request has a resolver of its own, so that it reads /etc/hosts and /etc/resolv.conf as they are now.
 * libevent answers once, maybe at once: the answer is kept for the end of the turn. A cancelled request goes
 * on, mute, until libevent gives it up, which takes 15 s at most; resolve_all holds those that are left
 * when the process ends.
 */
#include "config.h"
#include "core/resolve.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>

struct resolve {
	LIST_ENTRY(resolve) entry;
	char *name;
	resolve_done done; /* NULL when cancelled */
	void *arg;
	struct evdns_base *resolver;
	struct evdns_getaddrinfo_request *request; /* NULL when answered */
	struct loop_task answer;
	int status; /* EVUTIL_EAI_... */
	struct evutil_addrinfo *found;
};

static LIST_HEAD(, resolve) resolve_all = LIST_HEAD_INITIALIZER(resolve_all);

static void
resolve_free(struct resolve *r)
{
	LIST_REMOVE(r, entry);
	loop_task_cancel(&r->answer);
	if (r->found != NULL)
		evutil_freeaddrinfo(r->found);
	evdns_base_free(r->resolver, 0);
	free(r->name);
	free(r);
}

static const char *
resolve_text(const struct evutil_addrinfo *a, char *buf, size_t size)
{
	if (a->ai_family == AF_INET)
		return evutil_inet_ntop(
		    AF_INET, &((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr, buf, size);
	if (a->ai_family == AF_INET6)
		return evutil_inet_ntop(
		    AF_INET6, &((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr, buf, size);
	return NULL;
}

static void
resolve_tell(struct resolve *r)
{
	char **addresses = NULL, text[INET6_ADDRSTRLEN], *error = NULL;
	size_t count = 0;

	for (const struct evutil_addrinfo *a = r->found; a != NULL; a = a->ai_next) {
		if (resolve_text(a, text, sizeof(text)) == NULL)
			continue;
		addresses = mem_resize(addresses, (count + 1) * sizeof(char *));
		addresses[count++] = mem_strdup(text);
	}
	if (count == 0)
		error = mem_printf("could not translate host name \"%s\" to address: %s", r->name,
		    r->status != 0 ? evutil_gai_strerror(r->status) : "it has none");
	r->done(r->arg, (const char *const *)addresses, count, error);
	while (count > 0)
		free(addresses[--count]);
	free(addresses);
	free(error);
}

static void
resolve_answer(void *arg)
{
	struct resolve *r = arg;

	if (r->done != NULL)
		resolve_tell(r);
	resolve_free(r);
}

static void
resolve_on_answer(int status, struct evutil_addrinfo *found, void *arg)
{
	struct resolve *r = arg;

	r->request = NULL;
	r->status = status;
	r->found = found;
	loop_task_queue(&r->answer);
}

struct resolve *
resolve_start(const char *name, resolve_done done, void *arg)
{
	struct evutil_addrinfo hints = {
	    .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
	struct resolve *r = mem_zalloc(sizeof(*r));
	struct evdns_getaddrinfo_request *request;

	LIST_INSERT_HEAD(&resolve_all, r, entry);
	r->name = mem_strdup(name);
	r->done = done;
	r->arg = arg;
	loop_task_init(&r->answer, resolve_answer, r);
	r->resolver = evdns_base_new(loop_base(), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (r->resolver == NULL)
		log_fatal("could not create a resolver");
	/* Without the file it asks a name server on this host, as the C library does. */
	(void)evdns_base_resolv_conf_parse(r->resolver, DNS_OPTIONS_ALL, "/etc/resolv.conf");
	request = evdns_getaddrinfo(r->resolver, name, NULL, &hints, resolve_on_answer, r);
	if (request != NULL)
		r->request = request;
	return r;
}

void
resolve_cancel(struct resolve *r)
{
	r->done = NULL;
}
