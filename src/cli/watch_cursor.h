/*
 * Where pgrelay watch is in the stream of events: the last cursor, and the messages that have come behind it,
 * which a node sends again to one who comes back with it (docs/protocol.md, "Cursors"). No I/O.
 */
#ifndef PGRELAY_CLI_WATCH_CURSOR_H
#define PGRELAY_CLI_WATCH_CURSOR_H

#include <stdbool.h>
#include <stddef.h>

struct watch_cursor;

/* Messages are remembered in at most limit_bytes of memory; of more, the oldest are forgotten. The caller
 * releases it with watch_cursor_free(). */
struct watch_cursor *watch_cursor_new(size_t limit_bytes);
void watch_cursor_free(struct watch_cursor *cursor);

/* The one to come back with; NULL before the first. */
const char *watch_cursor_text(const struct watch_cursor *cursor);

/* A cursor has come: what came before it does not come again. */
void watch_cursor_move(struct watch_cursor *cursor, const char *text);
/* A message has come. False: it had come before the connection was lost. */
bool watch_cursor_take(struct watch_cursor *cursor, const char *text, size_t len);
/* The connection is lost, and the next begins at the last cursor. */
void watch_cursor_rewind(struct watch_cursor *cursor);
/* No node takes the cursor: there is none, and nothing comes again. */
void watch_cursor_forget(struct watch_cursor *cursor);

#endif
