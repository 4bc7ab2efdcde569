/*
 * Blocks and frames. One block a form is being filled at any time; it is left when the next frame does not
 * fit. A frame larger than a block gets a block of its own.
 */
#include "config.h"
#include "relay/msg.h"
#include "client/awx_group.h"
#include "client/drp_event.h"
#include "core/conf.h"
#include "core/mem.h"
#include "http/deflate.h"
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

#define MSG_APART MSG_FORM_COUNT /* the open block of what is no event */

static struct block *msg_open_blocks[MSG_FORM_COUNT + 1];
static size_t (*msg_cursor_source)(char *out, size_t size);

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

static void
block_append(struct block *b, const void *data, size_t len)
{
	assert(len <= b->size - b->used);
	memcpy(b->data + b->used, data, len);
	b->used += (uint32_t)len;
}

/* ---- frames ---- */

#define MSG_SSE_DATA "data: "
#define MSG_HEAD_MAX (MSG_ID_LINE_MAX + sizeof(MSG_SSE_DATA))

#define MSG_PARTS_MAX DRP_EVENT_PARTS

/* A frame in pieces: its head, and what comes behind it, of which at most one piece is escaped. */
struct msg_wrap {
	char head[MSG_HEAD_MAX];
	size_t head_len;
	struct slice parts[MSG_PARTS_MAX];
	int part_count;
	struct drp_event event; /* MSG_FORM_DRP */
};

void
msg_set_cursor_source(size_t (*source)(char *out, size_t size))
{
	msg_cursor_source = source;
}

size_t
msg_id_line(char out[MSG_ID_LINE_MAX])
{
	size_t len = msg_cursor_source != NULL ? msg_cursor_source(out + 4, MSG_CURSOR_MAX + 1) : 0;

	if (len == 0)
		return 0;
	memcpy(out, "id: ", 4);
	out[4 + len] = '\n';
	return 4 + len + 1;
}

/* What c gets inside of a JSON string: its octets, 1 for itself, 2 for a backslash before it, 6 for \u00XX. */
static size_t
msg_escaped_octet(unsigned char c)
{
	return c < 0x20 ? 6 : c == '"' || c == '\\' ? 2 : 1;
}

static size_t
msg_escaped_len(struct slice text)
{
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++)
		len += msg_escaped_octet((unsigned char)text.ptr[i]);
	return len;
}

/* Writes text as it stands inside of a JSON string; returns its length. */
static size_t
msg_escape(char *out, struct slice text)
{
	static const char hex[] = "0123456789abcdef";
	char *p = out;

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		size_t octets = msg_escaped_octet(c);

		if (octets == 6) {
			memcpy(p, "\\u00", 4);
			p[4] = hex[c >> 4];
			p[5] = hex[c & 15];
		} else {
			*p = '\\';
			p[octets - 1] = (char)c;
		}
		p += octets;
	}
	return (size_t)(p - out);
}

static void
msg_wrap_add(struct msg_wrap *wrap, struct slice part)
{
	assert(wrap->part_count < MSG_PARTS_MAX);
	wrap->parts[wrap->part_count++] = part;
}

static size_t
msg_part_len(enum msg_form form, struct slice part, int i)
{
	return form == MSG_FORM_BROADCAST && i == 0 ? msg_escaped_len(part) : part.len;
}

static size_t
msg_wrapped_len(const struct msg_wrap *wrap, enum msg_form form)
{
	size_t len = wrap->head_len;

	for (int i = 0; i < wrap->part_count; i++)
		len += msg_part_len(form, wrap->parts[i], i);
	return len;
}

/* The WebSocket's header, in front of what the head holds already. */
static void
msg_wrap_frame(struct msg_wrap *wrap, enum msg_form form, bool deflated)
{
	char header[WS_FRAME_HEADER_MAX];
	size_t whole = msg_wrapped_len(wrap, form);
	size_t len = deflated ? ws_deflated_header((uint8_t *)header, whole)
			      : ws_frame_header((uint8_t *)header, whole);

	memmove(wrap->head + len, wrap->head, wrap->head_len);
	memcpy(wrap->head, header, len);
	wrap->head_len += len;
}

static void
msg_wrap_broadcast(struct msg_wrap *wrap, const struct topic *topic, struct slice payload)
{
	static const char opening[] = "{\"group\": \"", middle[] = "\", \"message\": \"", closing[] = "\"}";
	char group[AWX_GROUP_MAX], *p = wrap->head;

	p = mempcpy(p, opening, sizeof(opening) - 1);
	p += msg_escape(p, (struct slice){group, awx_group_of_topic(topic, payload, group)});
	p = mempcpy(p, middle, sizeof(middle) - 1);
	wrap->head_len = (size_t)(p - wrap->head);
	msg_wrap_add(wrap, payload);
	msg_wrap_add(wrap, (struct slice){closing, sizeof(closing) - 1});
}

static void
msg_wrap_sse(struct msg_wrap *wrap, struct slice payload, bool with_cursor)
{
	wrap->head_len = with_cursor ? msg_id_line(wrap->head) : 0;
	memcpy(wrap->head + wrap->head_len, MSG_SSE_DATA, sizeof(MSG_SSE_DATA) - 1);
	wrap->head_len += sizeof(MSG_SSE_DATA) - 1;
	msg_wrap_add(wrap, payload);
	msg_wrap_add(wrap, (struct slice){"\n\n", 2});
}

static void
msg_wrap_drp(struct msg_wrap *wrap, const struct topic *topic, int64_t time_us, struct slice payload)
{
	drp_event_make(&wrap->event, topic, time_us, payload);
	for (int i = 0; i < DRP_EVENT_PARTS; i++)
		msg_wrap_add(wrap, wrap->event.parts[i]);
}

/* What stands in the parts gives way to one that is compressed; false: it stays. */
static bool
msg_wrap_deflate(struct msg_wrap *wrap)
{
	struct slice compressed;
	size_t len = 0;

	for (int i = 0; i < wrap->part_count; i++)
		len += wrap->parts[i].len;
	if (conf.compress_min_bytes == 0 || len < (size_t)conf.compress_min_bytes ||
	    !deflate_compress(wrap->parts, wrap->part_count, &compressed))
		return false;
	wrap->parts[0] = compressed;
	wrap->part_count = 1;
	return true;
}

static void
msg_wrap(struct msg_wrap *wrap, enum msg_form form, const struct topic *topic, int64_t time_us,
    struct slice payload, bool with_cursor)
{
	bool deflated = false;

	wrap->head_len = 0;
	wrap->part_count = 0;
	switch (form) {
	case MSG_FORM_AWX:
		msg_wrap_add(wrap, payload);
		break;
	case MSG_FORM_AWX_DEFLATED:
		msg_wrap_add(wrap, payload);
		deflated = msg_wrap_deflate(wrap);
		break;
	case MSG_FORM_SSE:
		msg_wrap_sse(wrap, payload, with_cursor);
		return;
	case MSG_FORM_BROADCAST:
		msg_wrap_broadcast(wrap, topic, payload);
		break;
	case MSG_FORM_DRP:
		msg_wrap_drp(wrap, topic, time_us, payload);
		break;
	case MSG_FORM_DRP_DEFLATED:
		msg_wrap_drp(wrap, topic, time_us, payload);
		deflated = msg_wrap_deflate(wrap);
		break;
	case MSG_FORM_COUNT:
		abort();
	}
	msg_wrap_frame(wrap, form, deflated);
}

/* Between JSON's tokens a line's end is as good as a space; in a server-sent event it would end the data. */
static void
msg_join_lines(uint8_t *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\r' || text[i] == '\n')
			text[i] = ' ';
}

/* Lays a frame behind what the block holds; it must fit. */
static struct span
block_append_frame(struct block *b, enum msg_form form, const struct msg_wrap *wrap)
{
	uint32_t offset = b->used;

	block_append(b, wrap->head, wrap->head_len);
	for (int i = 0; i < wrap->part_count; i++) {
		struct slice part = wrap->parts[i];

		if (form == MSG_FORM_BROADCAST && i == 0)
			b->used += (uint32_t)msg_escape((char *)b->data + b->used, part);
		else
			block_append(b, part.ptr, part.len);
		if (form == MSG_FORM_SSE && i == 0)
			msg_join_lines(b->data + b->used - part.len, part.len);
	}
	return (struct span){b, offset, b->used - offset};
}

struct span
msg_make_frame(enum msg_form form, const struct topic *topic, int64_t time_us, struct slice payload)
{
	struct msg_wrap wrap;

	msg_wrap(&wrap, form, topic, time_us, payload, false);
	return block_append_frame(block_new(msg_wrapped_len(&wrap, form)), form, &wrap);
}

static struct block *
msg_open_block(int which, size_t room)
{
	struct block **open = &msg_open_blocks[which];

	if (*open != NULL && (*open)->size - (*open)->used < room) {
		block_unref(*open);
		*open = NULL;
	}
	if (*open == NULL)
		*open = block_new(BLOCK_SIZE);
	return *open;
}

struct span
msg_lay(const void *octets, size_t len)
{
	struct block *b = msg_open_block(MSG_APART, len);
	struct span span = {b, b->used, (uint32_t)len};

	block_append(b, octets, len);
	block_ref(b);
	return span;
}

struct span
msg_frame(struct msg *m, enum msg_form form)
{
	struct span *frame = &m->frames[form];
	struct msg_wrap wrap;
	size_t len;

	assert(m->ticket == NULL);
	if (frame->block != NULL && !(m->missed && form == MSG_FORM_SSE))
		return *frame;
	if (frame->block != NULL)
		block_unref(frame->block); /* each of those who come back has a cursor of its own */
	msg_wrap(&wrap, form, m->topic, m->time_us, m->payload, m->group == NULL);
	len = msg_wrapped_len(&wrap, form);
	if (len > BLOCK_SIZE) {
		*frame = block_append_frame(block_new(len), form, &wrap);
	} else {
		*frame = block_append_frame(msg_open_block(form, len), form, &wrap);
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
	for (int i = 0; i <= MSG_APART; i++) {
		if (msg_open_blocks[i] != NULL)
			block_unref(msg_open_blocks[i]);
		msg_open_blocks[i] = NULL;
	}
	deflate_free();
}
