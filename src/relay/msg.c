/*
 * Blocks and frames. One block a form is being filled at any time; it is left when the next frame does not
 * fit. A frame larger than a block gets a block of its own.
 */
#include "config.h"
#include "relay/msg.h"
#include "core/mem.h"
#include "http/ws.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE       (32 * 1024)
#define BLOCK_SMALL_SIZE 480 /* of one client's own octets: a few control frames */

struct block {
	uint32_t refs;
	uint32_t size, used;
	uint8_t data[];
};

static struct block *msg_open_blocks[MSG_FORM_COUNT];

static struct block *
block_new(size_t size)
{
	struct block *b;

	assert(size <= UINT32_MAX - sizeof(*b));
	b = mem_alloc(sizeof(*b) + size);
	*b = (struct block){.refs = 1, .size = (uint32_t)size};
	return b;
}

void
block_ref(struct block *b)
{
	b->refs++;
}

void
block_unref(struct block *b)
{
	assert(b->refs > 0);
	if (--b->refs == 0)
		free(b);
}

const uint8_t *
block_data(const struct block *b)
{
	return b->data;
}

size_t
block_size(const struct block *b)
{
	return b->size;
}

struct span
span_copy(const void *data, size_t len)
{
	struct block *b = block_new(len > BLOCK_SMALL_SIZE ? len : BLOCK_SMALL_SIZE);

	memcpy(b->data, data, len);
	b->used = (uint32_t)len;
	return (struct span){b, 0, b->used};
}

bool
span_append(struct span *span, const void *data, size_t len)
{
	struct block *b = span->block;

	if (b->refs != 1 || span->offset + span->length != b->used || b->size - b->used < len)
		return false;
	memcpy(b->data + b->used, data, len);
	b->used += (uint32_t)len;
	span->length += (uint32_t)len;
	return true;
}

/* Lays a text frame behind what the block holds; it must fit. */
static struct span
block_append_frame(struct block *b, struct slice payload)
{
	uint32_t offset = b->used;

	b->used += (uint32_t)ws_frame_header(b->data + b->used, payload.len);
	memcpy(b->data + b->used, payload.ptr, payload.len);
	b->used += (uint32_t)payload.len;
	assert(b->used <= b->size);
	return (struct span){b, offset, b->used - offset};
}

struct span
msg_make_frame(enum msg_form form, struct slice payload)
{
	assert(form == MSG_FORM_AWX); /* its frame is the payload as it is */
	return block_append_frame(block_new(WS_FRAME_HEADER_MAX + payload.len), payload);
}

static struct block *
msg_open_block(enum msg_form form, size_t room)
{
	struct block **open = &msg_open_blocks[form];

	if (*open != NULL && (*open)->size - (*open)->used < room) {
		block_unref(*open);
		*open = NULL;
	}
	if (*open == NULL)
		*open = block_new(BLOCK_SIZE);
	return *open;
}

struct span
msg_frame(struct msg *m, enum msg_form form)
{
	struct span *frame = &m->frames[form];
	size_t room = WS_FRAME_HEADER_MAX + m->payload.len;

	assert(m->ticket == NULL);
	if (frame->block != NULL)
		return *frame;
	if (room > BLOCK_SIZE) {
		*frame = msg_make_frame(form, m->payload);
	} else {
		*frame = block_append_frame(msg_open_block(form, room), m->payload);
		block_ref(frame->block);
	}
	return *frame;
}

void
msg_done(struct msg *m)
{
	for (int i = 0; i < MSG_FORM_COUNT; i++)
		if (m->frames[i].block != NULL)
			block_unref(m->frames[i].block);
}

void
msg_release_blocks(void)
{
	for (int i = 0; i < MSG_FORM_COUNT; i++) {
		if (msg_open_blocks[i] != NULL)
			block_unref(msg_open_blocks[i]);
		msg_open_blocks[i] = NULL;
	}
}
