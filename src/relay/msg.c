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
#include "core/metrics.h"
#include "http/deflate.h"
#include "http/ws.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE       (32 * 1024)
#define BLOCK_SMALL_SIZE 480 /* of one client's own octets: a few control frames */

struct block {
	uint32_t refs;
	uint32_t kept; /* of them, those whose holder has a bound of its own */
	uint32_t size, used;
	uint64_t number;
	uint8_t data[];
};

#define MSG_APART MSG_FORM_COUNT       /* the open block of what is no event */
#define MSG_KEPT  (MSG_FORM_COUNT + 1) /* of frames that the history keeps: of nothing that goes sooner */
#define MSG_OPEN  (MSG_FORM_COUNT + 2)

static struct block *msg_open_blocks[MSG_OPEN];
static size_t (*msg_cursor_source)(const struct msg *msg, char *out, size_t size);

/* It counts as a queue's, or does not any more. */
static void
block_count(const struct block *b, int sign)
{
	metrics[METRIC_QUEUE_MEMORY_BYTES] += sign * (double)(sizeof(*b) + b->size);
}

static struct block *
block_new(size_t size)
{
	static uint64_t last_number;
	struct block *b;

	assert(size <= UINT32_MAX - sizeof(*b));
	b = mem_alloc(sizeof(*b) + size);
	*b = (struct block){.refs = 1, .size = (uint32_t)size, .number = ++last_number};
	block_count(b, 1);
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
	if (--b->refs > 0)
		return;
	block_count(b, -1);
	free(b);
}

void
block_keep(struct block *b)
{
	block_ref(b);
	if (b->kept++ == 0)
		block_count(b, -1);
}

void
block_unkeep(struct block *b)
{
	assert(b->kept > 0);
	if (--b->kept == 0)
		block_count(b, 1);
	block_unref(b);
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

uint64_t
block_number(const struct block *b)
{
	return b->number;
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
	size_t parts_len;       /* as they are written: escaped */
	struct drp_event event; /* MSG_FORM_DRP */
};

void
msg_set_cursor_source(size_t (*source)(const struct msg *msg, char *out, size_t size))
{
	msg_cursor_source = source;
}

size_t
msg_id_line(const struct msg *m, char out[MSG_ID_LINE_MAX])
{
	size_t len = msg_cursor_source != NULL ? msg_cursor_source(m, out + 4, MSG_CURSOR_MAX + 1) : 0;

	if (len == 0)
		return 0;
	memcpy(out, "id: ", 4);
	out[4 + len] = '\n';
	return 4 + len + 1;
}

/* Octets more than itself that one takes inside of a JSON string: a backslash before it, or \u00XX. */
static const uint8_t msg_escape_more[256] = {[0 ... 0x1f] = 5, ['"'] = 1, ['\\'] = 1};

#define MSG_EACH(octet) (UINT64_C(0x0101010101010101) * (octet))

/* Does none of the next eight octets take more? */
static bool
msg_eight_are_plain(struct slice text, size_t at)
{
	uint64_t v, quotes, backslashes;

	if (text.len - at < sizeof(v))
		return false;
	memcpy(&v, text.ptr + at, sizeof(v));
	quotes = v ^ MSG_EACH('"');
	backslashes = v ^ MSG_EACH('\\');
	return ((((v - MSG_EACH(0x20)) & ~v) | ((quotes - MSG_EACH(1)) & ~quotes) |
		    ((backslashes - MSG_EACH(1)) & ~backslashes)) &
		   MSG_EACH(0x80)) == 0;
}

/* So many octets longer it is when it is escaped. */
static size_t
msg_escape_growth(struct slice text)
{
	size_t more = 0, i = 0;

	while (i < text.len) {
		size_t end = text.len - i < 8 ? text.len : i + 8;

		if (msg_eight_are_plain(text, i))
			i = end;
		for (; i < end; i++)
			more += msg_escape_more[(unsigned char)text.ptr[i]];
	}
	return more;
}

static char *
msg_escape_octet(char *p, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";

	switch (msg_escape_more[c]) {
	case 5:
		p = mempcpy(p, "\\u00", 4);
		*p++ = hex[c >> 4];
		*p++ = hex[c & 15];
		return p;
	case 1:
		*p++ = '\\';
	}
	*p++ = (char)c;
	return p;
}

/* Writes text as it stands inside of a JSON string; returns its length. */
static size_t
msg_escape(char *out, struct slice text)
{
	char *p = out;
	size_t i = 0;

	while (i < text.len) {
		size_t end = text.len - i < 8 ? text.len : i + 8;

		if (msg_eight_are_plain(text, i)) {
			p = mempcpy(p, text.ptr + i, 8);
			i = end;
		}
		for (; i < end; i++)
			p = msg_escape_octet(p, (unsigned char)text.ptr[i]);
	}
	return (size_t)(p - out);
}

static void
msg_wrap_add(struct msg_wrap *wrap, struct slice part)
{
	assert(wrap->part_count < MSG_PARTS_MAX);
	wrap->parts[wrap->part_count++] = part;
	wrap->parts_len += part.len;
}

static size_t
msg_wrapped_len(const struct msg_wrap *wrap)
{
	return wrap->head_len + wrap->parts_len;
}

/* The WebSocket's header, in front of what the head holds already. */
static void
msg_wrap_frame(struct msg_wrap *wrap, bool deflated)
{
	char header[WS_FRAME_HEADER_MAX];
	size_t whole = msg_wrapped_len(wrap);
	size_t len = deflated ? ws_deflated_header((uint8_t *)header, whole)
			      : ws_frame_header((uint8_t *)header, whole);

	memmove(wrap->head + len, wrap->head, wrap->head_len);
	memcpy(wrap->head, header, len);
	wrap->head_len += len;
}

static void
msg_wrap_broadcast(struct msg_wrap *wrap, const struct msg *m)
{
	static const char opening[] = "{\"group\": \"", middle[] = "\", \"message\": \"", closing[] = "\"}";
	char group[AWX_GROUP_MAX], *p = wrap->head;

	p = mempcpy(p, opening, sizeof(opening) - 1);
	p += msg_escape(p, (struct slice){group, awx_group_of_topic(m->topic, m->payload, group)});
	p = mempcpy(p, middle, sizeof(middle) - 1);
	wrap->head_len = (size_t)(p - wrap->head);
	msg_wrap_add(wrap, m->payload);
	wrap->parts_len += msg_escape_growth(m->payload);
	msg_wrap_add(wrap, (struct slice){closing, sizeof(closing) - 1});
}

static void
msg_wrap_sse(struct msg_wrap *wrap, const struct msg *m, bool with_cursor)
{
	wrap->head_len = with_cursor ? msg_id_line(m, wrap->head) : 0;
	memcpy(wrap->head + wrap->head_len, MSG_SSE_DATA, sizeof(MSG_SSE_DATA) - 1);
	wrap->head_len += sizeof(MSG_SSE_DATA) - 1;
	msg_wrap_add(wrap, m->payload);
	msg_wrap_add(wrap, (struct slice){"\n\n", 2});
}

static void
msg_wrap_drp(struct msg_wrap *wrap, const struct msg *m)
{
	drp_event_make(&wrap->event, m->topic, m->time_us, m->payload);
	for (int i = 0; i < DRP_EVENT_PARTS; i++)
		msg_wrap_add(wrap, wrap->event.parts[i]);
}

/* What stands in the parts gives way to one that is compressed; false: it stays. */
static bool
msg_wrap_deflate(struct msg_wrap *wrap)
{
	struct slice compressed;

	if (conf.compress_min_bytes == 0 || wrap->parts_len < (size_t)conf.compress_min_bytes ||
	    !deflate_compress(wrap->parts, wrap->part_count, &compressed))
		return false;
	wrap->parts[0] = compressed;
	wrap->part_count = 1;
	wrap->parts_len = compressed.len;
	return true;
}

static void
msg_wrap(struct msg_wrap *wrap, enum msg_form form, const struct msg *m, bool with_cursor)
{
	bool deflated = false;

	wrap->head_len = wrap->parts_len = 0;
	wrap->part_count = 0;
	switch (form) {
	case MSG_FORM_AWX:
		msg_wrap_add(wrap, m->payload);
		break;
	case MSG_FORM_AWX_DEFLATED:
		msg_wrap_add(wrap, m->payload);
		deflated = msg_wrap_deflate(wrap);
		break;
	case MSG_FORM_SSE:
		msg_wrap_sse(wrap, m, with_cursor);
		return;
	case MSG_FORM_BROADCAST:
		msg_wrap_broadcast(wrap, m);
		break;
	case MSG_FORM_DRP:
		msg_wrap_drp(wrap, m);
		break;
	case MSG_FORM_DRP_DEFLATED:
		msg_wrap_drp(wrap, m);
		deflated = msg_wrap_deflate(wrap);
		break;
	case MSG_FORM_COUNT:
		abort();
	}
	msg_wrap_frame(wrap, deflated);
}

/* Between JSON's tokens a line's end is as good as a space; in a server-sent event it would end the data. */
static void
msg_join_lines(uint8_t *text, size_t len)
{
	for (uint8_t *p = text; (p = memchr(p, '\n', (size_t)(text + len - p))) != NULL; p++)
		*p = ' ';
	for (uint8_t *p = text; (p = memchr(p, '\r', (size_t)(text + len - p))) != NULL; p++)
		*p = ' ';
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
	struct msg m = {.topic = topic, .time_us = time_us, .payload = payload};
	struct msg_wrap wrap;

	msg_wrap(&wrap, form, &m, false);
	return block_append_frame(block_new(msg_wrapped_len(&wrap)), form, &wrap);
}

static void
msg_leave_block(int which)
{
	if (msg_open_blocks[which] != NULL)
		block_unkeep(msg_open_blocks[which]);
	msg_open_blocks[which] = NULL;
}

static struct block *
msg_open_block(int which, size_t room)
{
	struct block **open = &msg_open_blocks[which];

	if (*open != NULL && (*open)->size - (*open)->used < room)
		msg_leave_block(which);
	if (*open == NULL) {
		*open = block_new(BLOCK_SIZE);
		block_keep(*open);
		block_unref(*open);
	}
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

/* A header and the payload: nothing to wrap. */
static struct span
msg_lay_plain(struct slice payload, int which)
{
	uint8_t header[WS_FRAME_HEADER_MAX];
	size_t header_len = ws_frame_header(header, payload.len), len = header_len + payload.len;
	struct block *b = len > BLOCK_SIZE ? block_new(len) : msg_open_block(which, len);
	struct span span = {b, b->used, (uint32_t)len};

	block_append(b, header, header_len);
	block_append(b, payload.ptr, payload.len);
	if (len <= BLOCK_SIZE)
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
	if (form == MSG_FORM_AWX)
		return *frame = msg_lay_plain(m->payload, m->kept ? MSG_KEPT : MSG_FORM_AWX);
	if (frame->block != NULL)
		block_unref(frame->block); /* each of those who come back has a cursor of its own */
	msg_wrap(&wrap, form, m, m->group == NULL);
	len = msg_wrapped_len(&wrap);
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
msg_run_init(struct msg_run *run, struct msg *msgs, size_t count, bool plain)
{
	run->msgs = msgs;
	run->count = count;
	run->plain = plain && count > 1;
	memset(run->span_counts, 0, sizeof(run->span_counts));
}

static unsigned
msg_join_spans(struct msg_run *run, enum msg_form form)
{
	struct span *spans = run->spans[form];
	unsigned n = 0;

	for (size_t i = 0; i < run->count; i++) {
		struct span frame = msg_frame(&run->msgs[i], form);

		if (n > 0 && spans[n - 1].block == frame.block &&
		    spans[n - 1].offset + spans[n - 1].length == frame.offset)
			spans[n - 1].length += frame.length;
		else if (n == MSG_RUN_SPANS)
			return MSG_RUN_SPANS + 1;
		else
			spans[n++] = frame;
	}
	return n;
}

size_t
msg_run_spans(struct msg_run *run, enum msg_form form, const struct span **spans)
{
	unsigned *n = &run->span_counts[form];

	if (*n == 0)
		*n = msg_join_spans(run, form);
	*spans = run->spans[form];
	return *n <= MSG_RUN_SPANS ? *n : 0;
}

void
msg_release_blocks(void)
{
	for (int i = 0; i < MSG_OPEN; i++)
		msg_leave_block(i);
	deflate_free();
}
