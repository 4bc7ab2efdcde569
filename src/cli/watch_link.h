/*
 * The connection of pgrelay watch: made anew when it is lost, to the next of its URLs, after a pause that
 * grows with each round, and given up when it is refused. It says on standard error what happens to it.
 */
#ifndef PGRELAY_CLI_WATCH_LINK_H
#define PGRELAY_CLI_WATCH_LINK_H

#include <stddef.h>

struct watch_link;
struct ws_client_url;

struct watch_link_ops {
	void (*on_message)(void *arg, const char *text, size_t len);
	/* The connection is lost; the next comes by itself. */
	void (*on_lost)(void *arg);
	/* There will be none: the server does not want us. */
	void (*on_refused)(void *arg);
	/* After watch_link_close(). */
	void (*on_closed)(void *arg);
};

/* Begins to connect. The URLs, one at least, are the caller's and must live longer; token may be NULL. The
 * caller releases it with watch_link_free(). */
struct watch_link *watch_link_new(struct ws_client_url *const *urls, size_t count, const char *token,
    const struct watch_link_ops *ops, void *arg);
void watch_link_free(struct watch_link *link);

/* Where it leads to, for messages. */
const char *watch_link_url(const struct watch_link *link);
void watch_link_send(struct watch_link *link, const char *text);
/* It serves its purpose: the next pause is the shortest again. */
void watch_link_settle(struct watch_link *link);
/* Gives this connection up, for the reason told, and makes the next. */
void watch_link_retry(struct watch_link *link, const char *reason);
void watch_link_close(struct watch_link *link);

#endif
