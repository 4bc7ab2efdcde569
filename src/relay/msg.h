/*
 * Messages as the clients get them. An event's frame is made once for each form, when a session first needs
 * it, and laid into a block right behind the frame before it. So what a session gets in a row is one run of
 * octets, and any number of sessions share it: a send queue holds spans of blocks, no copies.
 */
#ifndef PGRELAY_RELAY_MSG_H
#define PGRELAY_RELAY_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/event.h"
#include "relay/position.h"

struct block; /* reference counted octets, written once */
struct ticket;

struct span {
	struct block *block;
	uint32_t offset, length;
};

void block_ref(struct block *block);
void block_unref(struct block *block);
const uint8_t *block_data(const struct block *block);
/* A reference of a holder that has a bound of its own, and how it is given back. Blocks that nobody keeps
 * live only because a queue holds them, and count against queue_memory. */
void block_keep(struct block *block);
void block_unkeep(struct block *block);
/* Octets of memory that a reference holds. */
size_t block_size(const struct block *block);
/* Blocks are numbered as they are made. */
uint64_t block_number(const struct block *block);

/* A span in a block of its own, for octets that one session alone gets. The caller owns the reference. */
struct span span_copy(const void *data, size_t len);
/* Lays octets behind a span, where its block has room and nobody else holds that. False: nothing was done. */
bool span_append(struct span *span, const void *data, size_t len);

/*
 * A WebSocket's text frame; a server-sent event; a text frame that holds group and payload, for AWX's
 * wsbroadcast; one that holds an event of the Digital Rebar dialect;
 * two of these compressed.
 */
enum msg_form {
	MSG_FORM_AWX,
	MSG_FORM_SSE,
	MSG_FORM_BROADCAST,
	MSG_FORM_DRP,
	MSG_FORM_AWX_DEFLATED, /* where that gains something; else as without */
	MSG_FORM_DRP_DEFLATED,
	MSG_FORM_COUNT
};

/*
 * An event on its way to the sessions. It lives on the stack of who dispatches it: valid only until that
 * returns. Either payload is there, or ticket stands for it.
 */
struct msg {
	const struct topic *topic;
	int64_t id;
	int64_t time_us;
	struct slice payload;
	struct ticket *ticket;       /* NULL: payload is there */
	uint64_t xid;                /* of a deferred event, its transaction; else 0 */
	bool logged;                 /* the log has it */
	struct position_place place; /* behind it; of what comes from the stream */
	const char *gap;       /* out of the history: no event, but the reason of a gap that was told here; */
	const char *gap_types; /* and the types concerned, NULL for all of them */
	bool missed;           /* for those who come back only: everybody else has it */
	bool kept;             /* out of the history, which keeps its AWX frame */
	bool conditional;      /* for those whose patterns are found to match when the payload is there */
	const char *group;     /* AWX's relay brought it, for this group: no id, no cursor; else NULL */
	struct span frames[MSG_FORM_COUNT];
};

/* The frame in this form; the msg owns the reference. Not for a msg with a ticket. */
struct span msg_frame(struct msg *msg, enum msg_form form);
/* Drops the frames' references. */
void msg_done(struct msg *msg);

/* Events that the same members get, one after the other. */
#define MSG_RUN_SPANS 4
struct msg_run {
	struct msg *msgs;
	size_t count;
	bool plain;                           /* several, and there are frames of all */
	unsigned span_counts[MSG_FORM_COUNT]; /* 0: not yet known */
	struct span spans[MSG_FORM_COUNT][MSG_RUN_SPANS];
};
void msg_run_init(struct msg_run *run, struct msg *msgs, size_t count, bool plain);
/* Frames of a plain run that lie one behind the other are one span: points *spans to these, the run's own,
 * and returns how many there are. 0: more than MSG_RUN_SPANS. */
size_t msg_run_spans(struct msg_run *run, enum msg_form form, const struct span **spans);

/*
 * A frame of this form in a block of its own, without a cursor; the caller owns the reference. topic may be
 * NULL, and time_us 0, where the form tells nothing of them: MSG_FORM_AWX and MSG_FORM_SSE.
 */
struct span msg_make_frame(
    enum msg_form form, const struct topic *topic, int64_t time_us, struct slice payload);

/* Octets that several sessions get, in a block apart from the events', whose frames are to lie one behind the other;
 * the caller owns the reference. At most 16 kB. */
struct span msg_lay(const void *octets, size_t len);

#define MSG_CURSOR_MAX 4096 /* octets, and a NUL behind them */
/* From where server-sent events get their cursors: source writes the position behind the event and a NUL, and
 * returns its length; 0 when there is none now. */
void msg_set_cursor_source(size_t (*source)(const struct msg *msg, char *out, size_t size));
/* The line that gives a server-sent event its cursor; returns its length, 0 when there is no cursor now. */
#define MSG_ID_LINE_MAX (MSG_CURSOR_MAX + 8)
size_t msg_id_line(const struct msg *msg, char out[MSG_ID_LINE_MAX]);

/* Lets go of the blocks that are being filled; when the node ends. */
void msg_release_blocks(void);

#endif
