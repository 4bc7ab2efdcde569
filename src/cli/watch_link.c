/* A connection that keeps itself up. There is a client, or the timer runs for the next, or it is over. */
#include "config.h"
#include "cli/watch_link.h"
#include "cli/cli_args.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "http/ws_client.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_LINK_MAGIC    0x3a7c411au
#define WATCH_LINK_PAUSE_MS 500
#define WATCH_LINK_CAP_MS   10000
#define WATCH_LINK_AFTER_S  60 /* the longest that a server may keep us away */

struct watch_target {
	const struct ws_client_url *url;
	char *told; /* why there is no connection, as it was said last; NULL: there was one */
};

struct watch_link {
	unsigned magic;
	struct watch_target *targets, *target; /* all, the present one */
	size_t count;
	size_t losses; /* since it was settled */
	const char *token;
	const struct watch_link_ops *ops;
	void *arg;
	struct ws_client *client;
	struct event *timer;
	int64_t pause_ms; /* after the next round */
	bool settled, closing;
};

static const struct ws_client_ops watch_link_callbacks;

static void
watch_link_connect(struct watch_link *l)
{
	const struct ws_client_options options = {.token = l->token};

	l->settled = false;
	l->client = ws_client_new(l->target->url, &options, &watch_link_callbacks, l);
}

static void
watch_link_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct watch_link *l = arg;

	assert(l->magic == WATCH_LINK_MAGIC);
	watch_link_connect(l);
}

static void
watch_link_on_open(void *arg)
{
	struct watch_link *l = arg;

	assert(l->magic == WATCH_LINK_MAGIC);
	log_debug("watch", "connected to %s", watch_link_url(l));
}

static void
watch_link_on_message(void *arg, const char *text, size_t len)
{
	struct watch_link *l = arg;

	assert(l->magic == WATCH_LINK_MAGIC);
	l->ops->on_message(l->arg, text, len);
}

/* ---- losing it ---- */

/* Half of it is chance, so that many who lost one server do not come back at once. */
static int64_t
watch_link_vary(int64_t pause_ms)
{
	uint32_t chance;

	evutil_secure_rng_get_bytes(&chance, sizeof(chance));
	return pause_ms / 2 + chance % (pause_ms / 2);
}

/* While there are others to try, it is a short one. */
static int64_t
watch_link_pause(struct watch_link *l, int retry_after_s)
{
	int64_t pause = l->pause_ms, least = (int64_t)retry_after_s * 1000;

	if (++l->losses % l->count != 0)
		return watch_link_vary(WATCH_LINK_PAUSE_MS);
	l->pause_ms = pause * 2 < WATCH_LINK_CAP_MS ? pause * 2 : WATCH_LINK_CAP_MS;
	if (least > WATCH_LINK_AFTER_S * 1000)
		least = WATCH_LINK_AFTER_S * 1000;
	pause = watch_link_vary(pause);
	return pause > least ? pause : least;
}

/* Once for each reason, not once for each attempt. */
static void
watch_link_tell(struct watch_link *l, const char *reason)
{
	const char *url = watch_link_url(l);
	struct watch_target *t = l->target;

	if (t->told != NULL && strcmp(t->told, reason) == 0)
		return;
	if (l->settled)
		cli_say("notice", "the connection to %s has ended: %s; connecting again", url, reason);
	else
		cli_say("notice", "could not connect to %s: %s; trying again", url, reason);
	free(t->told);
	t->told = mem_strdup(reason);
}

static bool
watch_link_has_told(const struct watch_link *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->targets[i].told != NULL)
			return true;
	return false;
}

static void
watch_link_forget_told(struct watch_link *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->targets[i].told);
		l->targets[i].told = NULL;
	}
}

/* There is no client any more; the next comes after a pause. */
static void
watch_link_lose(struct watch_link *l, const char *reason, int retry_after_s)
{
	int64_t ms = watch_link_pause(l, retry_after_s);
	struct timeval pause = {ms / 1000, ms % 1000 * 1000};

	watch_link_tell(l, reason);
	if (++l->target == l->targets + l->count)
		l->target = l->targets;
	event_add(l->timer, &pause);
	l->ops->on_lost(l->arg);
}

static void
watch_link_refuse(struct watch_link *l, const struct ws_client_end *end)
{
	cli_error("%s refused the connection: %s", watch_link_url(l), end->reason);
	if (end->http_status == 401)
		cli_hint("A token is wanted: --token, --token-file or PGRELAY_TOKEN; \"pgrelay token create "
			 "USER\" makes one.");
	else if (end->http_status == 404)
		cli_hint("A node is at ws://HOST:PORT/websocket/; --url or PGRELAY_URL says where.");
	l->ops->on_refused(l->arg);
}

static void
watch_link_drop_client(struct watch_link *l)
{
	ws_client_free(l->client);
	l->client = NULL;
}

/* 408 and 429 are about the moment, the other 4xx about the request. */
static void
watch_link_on_end(void *arg, const struct ws_client_end *end)
{
	struct watch_link *l = arg;
	int http = end->http_status;

	assert(l->magic == WATCH_LINK_MAGIC);
	watch_link_drop_client(l);
	if (l->closing)
		l->ops->on_closed(l->arg);
	else if (http >= 400 && http < 500 && http != 408 && http != 429)
		watch_link_refuse(l, end);
	else
		watch_link_lose(l, end->reason, end->retry_after_s);
}

static const struct ws_client_ops watch_link_callbacks = {
    watch_link_on_open, watch_link_on_message, watch_link_on_end, NULL};

/* ---- public ---- */

struct watch_link *
watch_link_new(struct ws_client_url *const *urls, size_t count, const char *token,
    const struct watch_link_ops *ops, void *arg)
{
	struct watch_link *l = mem_zalloc(sizeof(*l));

	l->magic = WATCH_LINK_MAGIC;
	l->targets = l->target = mem_zalloc(sizeof(*l->targets) * count);
	l->count = count;
	for (size_t i = 0; i < count; i++)
		l->targets[i].url = urls[i];
	l->token = token;
	l->ops = ops;
	l->arg = arg;
	l->pause_ms = WATCH_LINK_PAUSE_MS;
	l->timer = evtimer_new(loop_base(), watch_link_on_timer, l);
	if (l->timer == NULL)
		log_fatal("could not create a timer");
	watch_link_connect(l);
	return l;
}

static void
watch_link_release(void *ptr)
{
	struct watch_link *l = ptr;

	event_free(l->timer);
	watch_link_forget_told(l);
	free(l->targets);
	l->magic = 0;
	free(l);
}

void
watch_link_free(struct watch_link *l)
{
	if (l == NULL)
		return;
	assert(l->magic == WATCH_LINK_MAGIC);
	watch_link_drop_client(l);
	event_del(l->timer);
	loop_release(watch_link_release, l);
}

const char *
watch_link_url(const struct watch_link *l)
{
	return ws_client_url_text(l->target->url);
}

void
watch_link_send(struct watch_link *l, const char *text)
{
	assert(l->magic == WATCH_LINK_MAGIC);
	if (l->client != NULL)
		ws_client_send(l->client, text, strlen(text));
}

void
watch_link_settle(struct watch_link *l)
{
	assert(l->magic == WATCH_LINK_MAGIC);
	l->settled = true;
	l->pause_ms = WATCH_LINK_PAUSE_MS;
	l->losses = 0;
	if (watch_link_has_told(l))
		cli_say("notice", "connected to %s", watch_link_url(l));
	watch_link_forget_told(l);
}

void
watch_link_retry(struct watch_link *l, const char *reason)
{
	assert(l->magic == WATCH_LINK_MAGIC);
	if (l->client == NULL)
		return;
	watch_link_drop_client(l);
	watch_link_lose(l, reason, 0);
}

void
watch_link_close(struct watch_link *l)
{
	assert(l->magic == WATCH_LINK_MAGIC);
	l->closing = true;
	event_del(l->timer);
	if (l->client != NULL)
		ws_client_close(l->client);
	else
		l->ops->on_closed(l->arg);
}
