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

struct block; /* reference counted octets, written once */
struct ticket;

struct span {
	struct block *block;
	uint32_t offset, length;
};

void block_ref(struct block *block);
void block_unref(struct block *block);
const uint8_t *block_data(const struct block *block);
/* Octets of memory that a reference holds. */
size_t block_size(const struct block *block);

/* A span in a block of its own, for octets that one session alone gets. The caller owns the reference. */
struct span span_copy(const void *data, size_t len);
/* Lays octets behind a span, where its block has room and nobody else holds that. False: nothing was done. */
bool span_append(struct span *span, const void *data, size_t len);

enum msg_form { MSG_FORM_AWX, MSG_FORM_COUNT };

/*
 * An event on its way to the sessions. It lives on the stack of who dispatches it: valid only until that
 * returns. Either payload is there, or ticket stands for it.
 */
struct msg {
	const struct topic *topic;
	int64_t id;
	int64_t time_us;
	struct slice payload;
	struct ticket *ticket; /* NULL: payload is there */
	struct span frames[MSG_FORM_COUNT];
};

/* The frame in this form; the msg owns the reference. Not for a msg with a ticket. */
struct span msg_frame(struct msg *msg, enum msg_form form);
/* Drops the frames' references. */
void msg_done(struct msg *msg);

/* A frame of this form in a block of its own; the caller owns the reference. */
struct span msg_make_frame(enum msg_form form, struct slice payload);

/* Lets go of the blocks that are being filled; when the node ends. */
void msg_release_blocks(void);

#endif
