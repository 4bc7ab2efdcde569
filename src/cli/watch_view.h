/* How pgrelay watch shows messages on standard output. */
#ifndef PGRELAY_CLI_WATCH_VIEW_H
#define PGRELAY_CLI_WATCH_VIEW_H

#include <stdbool.h>
#include <stddef.h>

typedef struct json_t json_t; /* jansson's */
struct watch_view;

/* on_failed: standard output takes no more, errno tells why; called at the end of a loop turn. The caller
 * releases it with watch_view_free(). */
struct watch_view *watch_view_new(bool raw, bool many_jobs, void (*on_failed)(void *arg), void *arg);
/* Before the loop is freed. */
void watch_view_free(struct watch_view *view);

/* text is the message as it came, event the same parsed. It is written at the end of the loop turn. */
void watch_view_show(struct watch_view *view, const json_t *event, const char *text, size_t len);

#endif
