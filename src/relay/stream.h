/*
 * The stream: all events, in the order in which their transactions committed, none missing and none twice. It
 * comes by NOTIFY; what passed while nobody listened is read from the log, and put in before what came since
 * (docs/design.md, "Catching up").
 */
#ifndef PGRELAY_RELAY_STREAM_H
#define PGRELAY_RELAY_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/position.h"

struct stream_ops {
	/* The access of this user has changed. */
	void (*on_access)(int64_t user_id);
	/* The schema's settings have changed. */
	void (*on_settings)(void);
	/* The announcer is alive. */
	void (*on_announcer)(void);
	/* Sends a heartbeat soon. */
	void (*want_marker)(void);
};

void stream_init(const struct stream_ops *ops);
void stream_free(void);

/* What the LISTEN session hears. */
void stream_on_listening(void);
void stream_on_lost(void);
void stream_on_payload(const char *payload, size_t len);
/* A heartbeat; own: it is ours. epoch and snapshot are NULL where it has none. */
void stream_on_marker(const struct marker *marker, bool own, const char *epoch, const char *snapshot);

/* Has it begun? Before, there is nothing to subscribe to. */
bool stream_has_started(void);
/* Nothing is being caught up with. */
bool stream_is_live(void);
/* For how long events have not been handed on as they come, in ms; 0 when they are. And what is waited for. */
int64_t stream_behind_ms(void);
const char *stream_behind_reason(void);

/* Where the stream is: everything up to here has been handed on. */
const struct position *stream_position(void);
/* Up to which transactions deferred events have been handed on. */
const struct snapshot *stream_announced(void);
/* Have deferred events ever been announced here? */
bool stream_has_deferred(void);
/* Changes when the position does. */
uint64_t stream_version(void);
/* The position's cursor and its length; 0 when there is none now, but soon. */
size_t stream_cursor(char out[POSITION_TEXT_MAX]);
/* The same behind an event that is being dispatched. */
size_t stream_cursor_at(const struct position_place *place, char out[POSITION_TEXT_MAX]);

#endif
