/*
 * The send queue. A span holds its whole block in memory, so that is what counts against a client; a block
 * that several items in a row hold counts once. Invariant: `bytes` is the sum of the spans' lengths; each
 * span in the queue holds one reference to its block, each ticket item one to its ticket; the queue waits for
 * a ticket only while that is at its head.
 *
 * Age costs nothing while pushing: at a time when something is left the mark is set behind it, and as long as
 * mark_octets are above 0 something waits that is older than the mark.
 */
#include "config.h"
#include "relay/sendq.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "core/transport.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define SENDQ_IOV         256 /* even of small frames, a record of TLS is full with them */
#define SENDQ_AHEAD_ITEMS 256
#define SENDQ_AHEAD_BYTES (8u * 1024 * 1024) /* of tickets that are asked for before their turn */
#define SENDQ_TURN_BYTES  (512 * 1024)       /* one client must not hold up the loop */
#define SENDQ_DOUBLES     1024 /* items; a longer queue grows by a quarter, for very many may do so at once */

static void sendq_on_ticket(struct ticket_waiter *waiter);

void
sendq_init(struct sendq *q, enum msg_form form, const struct sendq_ops *ops)
{
	*q = (struct sendq){.form = form, .ops = ops, .capacity = SENDQ_INLINE};
	q->items = q->inline_items;
	q->waiter.wake = sendq_on_ticket;
}

static struct sendq_item *
sendq_at(const struct sendq *q, uint32_t i)
{
	uint32_t at = q->head + i;

	return &q->items[at < q->capacity ? at : at - q->capacity];
}

static void
sendq_count_bytes(struct sendq *q, int64_t delta)
{
	q->bytes = (size_t)((int64_t)q->bytes + delta);
	metrics[METRIC_QUEUED_BYTES] += (double)delta;
}

/* The items on the heap. */
static void
sendq_count_items(int64_t delta)
{
	metrics[METRIC_QUEUE_MEMORY_BYTES] += (double)(delta * (int64_t)sizeof(struct sendq_item));
}

static void
sendq_grow(struct sendq *q)
{
	uint32_t capacity = q->capacity + (q->capacity < SENDQ_DOUBLES ? q->capacity : q->capacity / 4);
	struct sendq_item *items = mem_alloc(sizeof(*items) * capacity);

	for (uint32_t i = 0; i < q->count; i++)
		items[i] = *sendq_at(q, i);
	sendq_count_items(capacity);
	if (q->items != q->inline_items) {
		sendq_count_items(-(int64_t)q->capacity);
		free(q->items);
	}
	q->items = items;
	q->capacity = capacity;
	q->head = 0;
}

/* Where few are left; an idle session holds no memory for its queue. */
static void
sendq_shrink(struct sendq *q)
{
	struct sendq_item *items = q->items;

	if (q->count > SENDQ_INLINE || items == q->inline_items)
		return;
	for (uint32_t i = 0; i < q->count; i++)
		q->inline_items[i] = *sendq_at(q, i);
	sendq_count_items(-(int64_t)q->capacity);
	free(items);
	q->items = q->inline_items;
	q->capacity = SENDQ_INLINE;
	q->head = 0;
}

static struct sendq_item *
sendq_append(struct sendq *q)
{
	if (q->count == q->capacity)
		sendq_grow(q);
	return sendq_at(q, q->count++);
}

static void
sendq_drop_item(struct sendq *q, struct sendq_item *item)
{
	if (item->ticket != NULL) {
		if (q->waiter.ticket == item->ticket)
			ticket_unwait(&q->waiter);
		q->ticket_bytes -= ticket_octets(item->ticket);
		q->mark_octets -= (int64_t)ticket_octets(item->ticket);
		ticket_unref(item->ticket);
	} else {
		sendq_count_bytes(q, -(int64_t)item->span.length);
		q->held_bytes -= item->held;
		block_unref(item->span.block);
	}
}

static void
sendq_drop_head(struct sendq *q)
{
	struct sendq_item item = *sendq_at(q, 0);

	if (++q->head == q->capacity)
		q->head = 0;
	q->count--;
	sendq_drop_item(q, &item);
}

static void
sendq_set_mark(struct sendq *q, int64_t now)
{
	q->mark_ms = now;
	q->mark_octets = (int64_t)(q->bytes + q->ticket_bytes);
	q->waits_ms = 0;
}

static void
sendq_drop_mark(struct sendq *q)
{
	q->mark_ms = q->waits_ms = 0;
}

/* Something is left. */
static void
sendq_keep_mark(struct sendq *q, bool waiting)
{
	int64_t now = loop_now_ms();

	if (q->mark_ms == 0 || q->mark_octets <= 0)
		sendq_set_mark(q, now);
	else if (q->waits_ms != 0 && !waiting)
		q->mark_ms += now - q->waits_ms;
	if (!waiting)
		q->waits_ms = 0;
	else if (q->waits_ms == 0)
		q->waits_ms = now;
}

void
sendq_clear(struct sendq *q)
{
	ticket_unwait(&q->waiter);
	while (q->count > 0)
		sendq_drop_head(q);
	sendq_drop_mark(q);
	sendq_shrink(q);
}

void
sendq_truncate(struct sendq *q)
{
	uint32_t keep = q->count > 0 && sendq_at(q, 0)->ticket == NULL ? 1 : 0;

	ticket_unwait(&q->waiter);
	while (q->count > keep)
		sendq_drop_item(q, sendq_at(q, --q->count));
	sendq_shrink(q);
	sendq_forgive(q);
}

/* Takes no reference when the run at the tail simply grows longer. */
void
sendq_push_span(struct sendq *q, struct span span)
{
	struct sendq_item *tail = q->count > 0 ? sendq_at(q, q->count - 1) : NULL;
	uint32_t held = 0;

	if (span.length == 0)
		return;
	sendq_count_bytes(q, span.length);
	if (tail != NULL && tail->ticket == NULL && tail->span.block == span.block &&
	    tail->span.offset + tail->span.length == span.offset) {
		tail->span.length += span.length;
		return;
	}
	block_ref(span.block);
	if (tail == NULL || tail->ticket != NULL || tail->span.block != span.block)
		held = (uint32_t)block_size(span.block);
	q->held_bytes += held;
	*sendq_append(q) = (struct sendq_item){.span = span, .held = held};
}

void
sendq_push_octets(struct sendq *q, const void *data, size_t len)
{
	struct sendq_item *tail = q->count > 0 ? sendq_at(q, q->count - 1) : NULL;
	struct span span;

	if (len == 0)
		return;
	if (tail != NULL && tail->ticket == NULL && span_append(&tail->span, data, len)) {
		sendq_count_bytes(q, (int64_t)len);
		return;
	}
	span = span_copy(data, len);
	sendq_push_span(q, span);
	block_unref(span.block);
}

/* A ticket's payload comes later, its cursor is known now: it goes ahead. */
static void
sendq_push_id_line(struct sendq *q, const struct msg *msg)
{
	char line[MSG_ID_LINE_MAX];
	size_t len = q->form == MSG_FORM_SSE ? msg_id_line(msg, line) : 0;

	if (len > 0)
		sendq_push_octets(q, line, len);
}

void
sendq_push_msg(struct sendq *q, struct msg *msg)
{
	struct span frame = msg->frames[q->form];

	if (msg->ticket == NULL) {
		if (frame.block == NULL || msg->missed)
			frame = msg_frame(msg, q->form); /* mostly it has been made already */
		sendq_push_span(q, frame);
	} else {
		sendq_push_id_line(q, msg);
		ticket_ref(msg->ticket);
		q->ticket_bytes += ticket_octets(msg->ticket);
		*sendq_append(q) =
		    (struct sendq_item){.ticket = msg->ticket, .conditional = msg->conditional};
		if (q->waiter.ticket != NULL && q->ticket_bytes <= SENDQ_AHEAD_BYTES)
			ticket_prefetch(msg->ticket);
	}
}

bool
sendq_push_run(struct sendq *q, struct msg_run *run)
{
	const struct span *spans;
	size_t n = msg_run_spans(run, q->form, &spans);

	for (size_t i = 0; i < n; i++)
		sendq_push_span(q, spans[i]);
	return n > 0;
}

void
sendq_move(struct sendq *from, struct sendq *to)
{
	while (from->count > 0) {
		assert(sendq_at(from, 0)->ticket == NULL);
		sendq_push_span(to, sendq_at(from, 0)->span);
		sendq_drop_head(from);
	}
}

size_t
sendq_backlog(struct sendq *q)
{
	const struct sendq_item *head = q->count > 0 ? sendq_at(q, 0) : NULL;

	return head != NULL ? q->held_bytes - head->held : 0;
}

int64_t
sendq_age_ms(const struct sendq *q, int64_t now)
{
	if (q->mark_ms == 0)
		return 0;
	return (q->waits_ms != 0 ? q->waits_ms : now) - q->mark_ms;
}

void
sendq_forgive(struct sendq *q)
{
	if (q->count == 0)
		sendq_drop_mark(q);
	else if (q->mark_ms != 0)
		sendq_set_mark(q, loop_now_ms());
}

uint64_t
sendq_oldest_block(const struct sendq *q)
{
	for (uint32_t i = 0; i < q->count; i++) {
		const struct sendq_item *item = sendq_at(q, i);

		if (item->ticket == NULL)
			return block_number(item->span.block);
	}
	return UINT64_MAX;
}

static void
sendq_put_head(struct sendq *q, struct span span)
{
	struct sendq_item *head = sendq_at(q, 0);

	q->ticket_bytes -= ticket_octets(head->ticket);
	q->mark_octets += (int64_t)span.length - (int64_t)ticket_octets(head->ticket);
	ticket_unref(head->ticket);
	*head = (struct sendq_item){.span = span, .held = (uint32_t)block_size(span.block)};
	q->held_bytes += head->held;
	sendq_count_bytes(q, span.length);
}

static void
sendq_lose_head(struct sendq *q)
{
	struct span span = {0};

	if (q->ops != NULL && !sendq_at(q, 0)->conditional)
		span = q->ops->lost(q, sendq_at(q, 0)->ticket);
	if (span.block != NULL)
		sendq_put_head(q, span);
	else
		sendq_drop_head(q);
}

/* While the head is waited for: so that several nodes that do not answer cost the time of one. */
static void
sendq_look_ahead(struct sendq *q)
{
	size_t octets = ticket_octets(sendq_at(q, 0)->ticket);

	for (uint32_t i = 1; i < q->count && i < SENDQ_AHEAD_ITEMS; i++) {
		struct ticket *ticket = sendq_at(q, i)->ticket;

		if (ticket == NULL)
			continue;
		octets += ticket_octets(ticket);
		if (octets > SENDQ_AHEAD_BYTES)
			return;
		ticket_prefetch(ticket);
	}
}

/* The head's ticket gives way to its frame, or to what stands for it when it failed. False: not resolved, the
 * queue waits for it. */
static bool
sendq_resolve_head(struct sendq *q)
{
	struct ticket *ticket = sendq_at(q, 0)->ticket;

	switch (ticket_state(ticket)) {
	case TICKET_READY:
		if (sendq_at(q, 0)->conditional && !q->ops->admits(q, ticket))
			sendq_drop_head(q);
		else
			sendq_put_head(q, ticket_frame(ticket, q->form));
		return true;
	case TICKET_FAILED:
		sendq_lose_head(q);
		return true;
	case TICKET_UNREAD:
	case TICKET_READING:
		if (q->waiter.ticket == NULL) {
			ticket_wait(ticket, &q->waiter);
			sendq_look_ahead(q);
		}
		return false;
	}
	abort();
}

/* The frame is taken at once, before the cache could let it go. */
static void
sendq_on_ticket(struct ticket_waiter *waiter)
{
	struct sendq *q = (struct sendq *)((char *)waiter - offsetof(struct sendq, waiter));

	(void)sendq_resolve_head(q);
	if (q->ops != NULL)
		q->ops->wake(q);
}

/* So many octets, or a little more. */
static int
sendq_fill_iov(struct sendq *q, struct iovec *iov, size_t octets)
{
	size_t filled = 0;
	int n = 0;

	for (uint32_t i = 0; i < q->count && n < SENDQ_IOV && filled < octets; i++, n++) {
		const struct sendq_item *item = sendq_at(q, i);

		if (item->ticket != NULL)
			break;
		iov[n].iov_base = (void *)(uintptr_t)(block_data(item->span.block) + item->span.offset);
		iov[n].iov_len = item->span.length;
		filled += item->span.length;
	}
	return n;
}

static void
sendq_consume(struct sendq *q, size_t len)
{
	q->mark_octets -= (int64_t)len;
	while (len > 0) {
		struct span *span = &sendq_at(q, 0)->span;

		if (len < span->length) {
			span->offset += (uint32_t)len;
			span->length -= (uint32_t)len;
			sendq_count_bytes(q, -(int64_t)len);
			return;
		}
		len -= span->length;
		sendq_drop_head(q);
	}
}

static enum sendq_result
sendq_failure(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK ? SENDQ_BLOCKED : SENDQ_ERROR;
}

static enum sendq_result
sendq_send(struct sendq *q, struct transport *transport, size_t *sent)
{
	struct iovec iov[SENDQ_IOV];
	size_t share = SENDQ_TURN_BYTES;

	while (q->count > 0) {
		ssize_t n;

		if (sendq_at(q, 0)->ticket != NULL) {
			if (!sendq_resolve_head(q))
				return SENDQ_WAITING;
			continue;
		}
		n = transport_send(transport, iov, sendq_fill_iov(q, iov, share));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sendq_failure();
		sendq_consume(q, (size_t)n);
		*sent += (size_t)n;
		if ((size_t)n >= share && q->count > 0)
			return SENDQ_MORE;
		share -= (size_t)n < share ? (size_t)n : share;
	}
	sendq_shrink(q);
	return transport_flush(transport) ? SENDQ_EMPTY : sendq_failure();
}

enum sendq_result
sendq_flush(struct sendq *q, struct transport *transport, size_t *sent)
{
	enum sendq_result result = sendq_send(q, transport, sent);

	if (result == SENDQ_EMPTY)
		sendq_drop_mark(q);
	else
		sendq_keep_mark(q, result == SENDQ_WAITING);
	return result;
}
