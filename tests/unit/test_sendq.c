/*
 * Send queues on a socket that takes little: src/relay/sendq.c. The tickets here are real ones whose database
 * is away, so they hold their place for ever; that they resolve is shown end to end.
 */
#include "config.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "pg/pg_query.h"
#include "core/transport.h"
#include "relay/sendq.h"

#include "tap.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_MAX (8 * 1024 * 1024)

/* What a client got, and what it should have got. */
struct stream {
	size_t len;
	char octets[STREAM_MAX];
};
static struct stream got, want;

static int woken;

static struct span
on_lost(struct sendq *q, const struct ticket *ticket)
{
	return (struct span){0};
}

static void
on_wake(struct sendq *q)
{
	woken++;
}

static const struct sendq_ops queue_ops = {.wake = on_wake, .lost = on_lost};

static void
streams_reset(void)
{
	got.len = 0;
	want.len = 0;
}

static bool
streams_agree(void)
{
	if (!tap_same_octets(got.octets, got.len, want.octets, want.len)) {
		diag("got %zu octets, wanted %zu", got.len, want.len);
		return false;
	}
	return true;
}

static void
stream_add(struct stream *s, const void *data, size_t len)
{
	if (len > STREAM_MAX - s->len)
		abort();
	memcpy(s->octets + s->len, data, len);
	s->len += len;
}

/* A pair of sockets, the first of which takes as little as the system allows. */
static void
pair_open(int fds[2])
{
	int size = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		abort();
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void
pair_close(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

/* Reads at most so much of what is there. */
static size_t
stream_read(int fd, size_t most)
{
	char buf[65536];
	ssize_t n = recv(fd, buf, most < sizeof(buf) ? most : sizeof(buf), MSG_DONTWAIT);

	if (n > 0)
		stream_add(&got, buf, (size_t)n);
	return n > 0 ? (size_t)n : 0;
}

static void
stream_read_all(int fd)
{
	while (stream_read(fd, SIZE_MAX) > 0)
		continue;
}

/* A message to each of these queues; its frame is what they should send. */
static void
push(struct sendq *const *queues, int count, size_t payload_len, char c)
{
	static char octets[100000];
	struct msg m = {.payload = {octets, payload_len}};
	struct span frame;

	memset(octets, c, payload_len);
	for (int i = 0; i < count; i++)
		sendq_push_msg(queues[i], &m);
	frame = msg_frame(&m, MSG_FORM_AWX);
	stream_add(&want, block_data(frame.block) + frame.offset, frame.length);
	msg_done(&m);
}

static void
push_one(struct sendq *q, size_t payload_len, char c)
{
	push(&q, 1, payload_len, c);
}

static void
push_octets(struct sendq *q, const char *text)
{
	sendq_push_octets(q, text, strlen(text));
	stream_add(&want, text, strlen(text));
}

/* Until the queue is empty; false when a result is another than expected. */
static bool
drain(struct sendq *q, int fds[2], size_t read_most, size_t *sent)
{
	for (;;) {
		enum sendq_result rc = sendq_flush(q, &(struct transport){.fd = fds[0]}, sent);

		if (rc == SENDQ_EMPTY)
			break;
		if ((rc != SENDQ_BLOCKED && rc != SENDQ_MORE) ||
		    (stream_read(fds[1], read_most) == 0 && rc == SENDQ_BLOCKED))
			return false;
	}
	stream_read_all(fds[1]);
	return true;
}

/* ---- what is in the queue ---- */

static void
test_spans(void)
{
	struct sendq q;

	streams_reset();
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	for (int i = 0; i < 100; i++)
		push_one(&q, 20, 'a');
	is_int(q.count, 1, "a hundred frames in a row are one item");
	is_int((long long)q.bytes, 2200, "which holds all their octets");
	is_int((long long)metrics[METRIC_QUEUED_BYTES], 2200, "the gauge says so");
	is_int((long long)sendq_backlog(&q), 0, "nothing is behind the run that is being sent");
	push_octets(&q, "own");
	push_one(&q, 20, 'b');
	is_int(q.count, 3, "octets for one client alone break the run");
	is_int((long long)q.bytes, 2200 + 3 + 22, "all octets count");
	is_int((long long)sendq_backlog(&q),
	    (long long)(block_size(q.items[1].span.block) + block_size(q.items[2].span.block)),
	    "the blocks that are held behind it are the backlog");
	sendq_clear(&q);
	ok(q.count == 0 && q.bytes == 0 && metrics[METRIC_QUEUED_BYTES] == 0,
	    "nothing is left after sendq_clear");
	sendq_clear(&q);
	ok(q.count == 0, "clearing it again is harmless");
	msg_release_blocks();
}

/* Frames of one block, of which a queue gets some only. */
static void
test_gaps(void)
{
	struct sendq all, some, *both[] = {&all, &some};
	size_t sent = 0, before;
	int fds[2];

	streams_reset();
	pair_open(fds);
	sendq_init(&all, MSG_FORM_AWX, &queue_ops);
	sendq_init(&some, MSG_FORM_AWX, &queue_ops);
	push(both, 2, 20, 'a');
	before = want.len;
	push_one(&all, 30, 'b');
	want.len = before;
	push(both, 2, 40, 'c');
	push(both, 2, 50, 'd');
	is_int(all.count, 1, "who gets all frames of a block has one run");
	is_int(some.count, 2, "who misses one has two");
	ok(drain(&some, fds, SIZE_MAX, &sent) && streams_agree(), "and gets just its own");
	is_int((long long)all.bytes, 22 + 32 + 42 + 52, "the other one's are still there");
	sendq_clear(&all);
	pair_close(fds);
	msg_release_blocks();
}

static void
test_growth(void)
{
	struct sendq q;
	size_t sent = 0;
	int fds[2];

	streams_reset();
	pair_open(fds);
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	for (int i = 0; i < 20; i++)
		push_octets(&q, "pong");
	is_int(q.count, 1, "small copies share a block");
	ok(drain(&q, fds, SIZE_MAX, &sent) && streams_agree(), "and come in order");
	for (int i = 0; i < 300; i++) {
		char text[512];

		snprintf(text, sizeof(text), "<%0300d>", i);
		push_octets(&q, text);
	}
	is_int(q.count, 300, "each large copy is an item of its own");
	ok(q.items != q.inline_items, "the ring is on the heap now");
	ok(drain(&q, fds, SIZE_MAX, &sent) && streams_agree(), "all come in order");
	ok(q.items == q.inline_items && q.bytes == 0, "an empty queue holds no memory");
	for (int round = 0; round < 50; round++) { /* the ring's head walks around */
		for (int i = 0; i <= round % 7; i++) {
			char text[512];

			snprintf(text, sizeof(text), "%0300d", round * 10 + i);
			push_octets(&q, text);
		}
		if (round % 3 == 0)
			sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent);
	}
	ok(drain(&q, fds, SIZE_MAX, &sent) && streams_agree(),
	    "pushing and sending by turns keeps the order");
	for (int i = 0; i < 5000; i++) { /* longer than what is doubled, with a head that is anywhere */
		char text[512];

		snprintf(text, sizeof(text), "{%0300d}", i);
		push_octets(&q, text);
		if (i % 100 == 0) {
			stream_read(fds[1], 2000);
			sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent);
		}
	}
	ok(q.count > 4000 && q.capacity < q.count * 5 / 4 + 1,
	    "a long queue has few places too many: %u of %u", q.capacity - q.count, q.capacity);
	ok(drain(&q, fds, SIZE_MAX, &sent) && streams_agree(), "and keeps the order, too");
	is_int((long long)sent, (long long)want.len, "what was sent has been counted");
	pair_close(fds);
}

/* ---- sending ---- */

static void
test_empty(void)
{
	struct sendq q;
	size_t sent = 0;
	int fds[2];

	pair_open(fds);
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	is_int(sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_EMPTY,
	    "an empty queue has nothing to send");
	is_int((long long)sent, 0, "and sends nothing");
	sendq_push_octets(&q, "x", 1);
	close(fds[1]);
	fds[1] = -1;
	is_int(sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_ERROR,
	    "a peer that is gone is an error, not a signal");
	is_int(errno, EPIPE, "errno tells which");
	sendq_clear(&q);
	close(fds[0]);
}

/* Frames of all sizes to two queues, one of which is read in small pieces. */
static void
test_stream(size_t read_most)
{
	struct tap_random random = {5};
	struct sendq fast, slow, *both[] = {&fast, &slow};
	size_t fast_sent = 0, slow_sent = 0, slow_len;
	int fast_fds[2], slow_fds[2], blocked = 0;
	bool right = true;

	streams_reset();
	pair_open(fast_fds);
	pair_open(slow_fds);
	sendq_init(&fast, MSG_FORM_AWX, &queue_ops);
	sendq_init(&slow, MSG_FORM_AWX, &queue_ops);
	for (int i = 0; i < 500; i++) {
		size_t len =
		    tap_random(&random, 20) == 0 ? tap_random(&random, 90000) : tap_random(&random, 500);

		push(both, 2, len, (char)('a' + i % 26));
		blocked +=
		    sendq_flush(&slow, &(struct transport){.fd = slow_fds[0]}, &slow_sent) == SENDQ_BLOCKED;
		right = right && drain(&fast, fast_fds, SIZE_MAX, &fast_sent);
	}
	ok(right && streams_agree(), "the fast reader has all 500 frames");
	ok(blocked > 400 && slow_sent < want.len, "the slow one's socket is full");
	is_int((long long)slow.bytes, (long long)(want.len - slow_sent), "its queue holds what is not sent");
	is_int((long long)metrics[METRIC_QUEUED_BYTES], (long long)slow.bytes, "the gauge says so");
	got.len = 0;
	slow_len = want.len;
	ok(drain(&slow, slow_fds, read_most, &slow_sent) && streams_agree(),
	    "read by %zu octets, it gets the same stream", read_most);
	is_int((long long)slow_sent, (long long)slow_len, "what was sent has been counted once");
	is_int((long long)metrics[METRIC_QUEUED_BYTES], 0, "nothing is queued in the end");
	pair_close(fast_fds);
	pair_close(slow_fds);
	msg_release_blocks();
}

/* More than one sendmsg() can name. */
static void
test_many_items(void)
{
	struct sendq q;
	size_t sent = 0;
	int fds[2];

	streams_reset();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		abort();
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	for (int i = 0; i < 1000; i++)
		push_octets(&q, i % 2 == 0 ? "a" : "bc");
	is_int(sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_EMPTY,
	    "a thousand items go out by one flush");
	stream_read_all(fds[1]);
	ok(streams_agree(), "and come in order");
	pair_close(fds);
}

/* ---- a turn's share ---- */

/* TCP: a local socket never takes half a megabyte at once. */
static bool
tcp_pair_open(int fds[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);
	int l = socket(AF_INET, SOCK_STREAM, 0), size = 4 * 1024 * 1024;
	bool open;

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	open = bind(l, (struct sockaddr *)&at, len) == 0 && listen(l, 1) == 0 &&
	       getsockname(l, (struct sockaddr *)&at, &len) == 0 &&
	       connect(fds[0], (struct sockaddr *)&at, len) == 0 && (fds[1] = accept(l, NULL, NULL)) >= 0;
	close(l);
	return open;
}

static void
test_share(void)
{
	char text[20000] = "";
	struct sendq q;
	size_t sent = 0;
	enum sendq_result rc;
	int fds[2];

	streams_reset();
	if (!tcp_pair_open(fds)) {
		skip("no TCP on the loopback interface");
		return;
	}
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	memset(text, 'a', sizeof(text) - 1);
	for (int i = 0; i < 200; i++) {
		text[i] = 'b';
		push_octets(&q, text);
	}
	rc = sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent);
	if (rc == SENDQ_BLOCKED && sent < 512 * 1024)
		skip("the system's sockets take only %zu octets at once", sent);
	else
		ok(rc == SENDQ_MORE && sent >= 512 * 1024 && sent < want.len,
		    "one turn sends its share, %zu octets, and no more", sent);
	ok(drain(&q, fds, SIZE_MAX, &sent), "the turns after it send the rest");
	while (got.len < want.len && poll(&(struct pollfd){fds[1], POLLIN, 0}, 1, 10000) == 1)
		stream_read_all(fds[1]);
	ok(streams_agree(), "and all of it comes");
	pair_close(fds);
}

/* ---- truncating ---- */

static void
test_truncate(void)
{
	struct sendq q;
	size_t sent = 0, head_end;
	int fds[2];

	streams_reset();
	pair_open(fds);
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	push_one(&q, 90000, 'a');
	head_end = want.len;
	is_int(sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_BLOCKED,
	    "a frame is out by half");
	ok(sent > 0 && sent < head_end, "%zu of its octets", sent);
	push_one(&q, 100, 'b');
	push_one(&q, 80000, 'c');
	sendq_truncate(&q);
	want.len = head_end;
	is_int((long long)q.bytes, (long long)(head_end - sent), "truncating leaves the rest of that frame");
	is_int((long long)metrics[METRIC_QUEUED_BYTES], (long long)q.bytes, "the gauge says so");
	push_octets(&q, "close frame");
	ok(drain(&q, fds, 1000, &sent) && streams_agree(), "what is pushed then comes right behind it");
	sendq_truncate(&q);
	is_int(q.count, 0, "truncating an empty queue is harmless");
	push_one(&q, 10, 'd');
	push_octets(&q, "dropped");
	sendq_truncate(&q);
	is_int(q.count, 1, "a head of which nothing is sent stays, too");
	sendq_clear(&q);
	pair_close(fds);
	msg_release_blocks();
}

/* ---- age and memory ---- */

static long long
queue_memory(void)
{
	return (long long)metrics[METRIC_QUEUE_MEMORY_BYTES];
}

/* For how long something has waited, so long after the mark was set. */
static long long
age_after(const struct sendq *q, int64_t ms)
{
	return sendq_age_ms(q, q->mark_ms + ms);
}

static void
test_mark(void)
{
	struct sendq q;
	size_t sent = 0;
	int64_t mark_ms;
	int fds[2], flushes = 0;

	streams_reset();
	pair_open(fds);
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	push_one(&q, 90000, 'a');
	is_int(sendq_age_ms(&q, INT64_MAX), 0, "what has not been flushed once has no age");
	is_int(
	    sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_BLOCKED, "the socket is full");
	is_int(age_after(&q, 7000), 7000, "what is left grows old from then on");
	is_int(q.mark_octets, (long long)q.bytes, "the mark is behind it");
	push_one(&q, 5000, 'b');
	mark_ms = q.mark_ms -= 1000; /* a second passes */
	while (q.mark_octets > 20000) {
		stream_read(fds[1], 4000);
		(void)sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent);
		flushes++;
	}
	ok(flushes > 2 && q.mark_ms == mark_ms, "though the peer takes something, %d times", flushes);
	is_int((long long)q.bytes - q.mark_octets, 5004, "what was pushed later is behind the mark");
	while (q.mark_ms == mark_ms) {
		stream_read(fds[1], 4000);
		(void)sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent);
	}
	ok(q.bytes > 0 && q.bytes <= 5004 && q.mark_octets == (int64_t)q.bytes,
	    "when all up to the mark is sent a new one is set, behind what is left");
	ok(drain(&q, fds, SIZE_MAX, &sent) && streams_agree(), "the rest goes out");
	is_int(sendq_age_ms(&q, INT64_MAX), 0, "an empty queue has no age");
	pair_close(fds);
	msg_release_blocks();
}

static void
test_forgive(void)
{
	struct sendq q;
	size_t sent = 0;
	int fds[2];

	streams_reset();
	pair_open(fds);
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	push_one(&q, 90000, 'a');
	sendq_forgive(&q);
	is_int(q.mark_ms, 0, "what has not been flushed is not marked by that");
	(void)sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent);
	q.mark_ms -= 5000;
	push_one(&q, 90000, 'b');
	sendq_forgive(&q);
	ok(loop_now_ms() - q.mark_ms < 4000 && q.mark_octets == (int64_t)q.bytes,
	    "what waits counts as pushed just now");
	q.mark_ms -= 5000;
	sendq_truncate(&q);
	ok(loop_now_ms() - q.mark_ms < 4000 && q.count == 1, "and so does what truncating leaves");
	sendq_clear(&q);
	is_int(sendq_age_ms(&q, INT64_MAX), 0, "a cleared queue has no age");
	pair_close(fds);
	msg_release_blocks();
}

static void
test_memory(void)
{
	struct sendq first, second, *both[] = {&first, &second};
	long long one_block;
	struct span own;

	streams_reset();
	is_int(queue_memory(), 0, "without queues no memory is theirs");
	sendq_init(&first, MSG_FORM_AWX, &queue_ops);
	sendq_init(&second, MSG_FORM_AWX, &queue_ops);
	push(both, 2, 100, 'a');
	is_int(queue_memory(), 0, "a block that is being filled is not theirs");
	msg_release_blocks();
	one_block = queue_memory();
	ok(one_block > 32 * 1024 && one_block < 33 * 1024,
	    "when it is left it is, once for both queues: %lld", one_block);
	push(both, 2, 100, 'b');
	ok(sendq_oldest_block(&first) == block_number(first.items[0].span.block) &&
		sendq_oldest_block(&first) < block_number(first.items[1].span.block),
	    "the oldest block is the one at the head");
	block_keep(first.items[0].span.block);
	is_int(queue_memory(), 0, "what somebody keeps is not theirs");
	sendq_clear(&first);
	is_int(sendq_oldest_block(&first) == UINT64_MAX, 1, "an empty queue holds none");
	own = second.items[0].span;
	block_unkeep(own.block);
	is_int(queue_memory(), one_block, "as soon as nobody does, it is again");
	sendq_clear(&second);
	is_int(queue_memory(), 0, "until the last of them has let it go");
	msg_release_blocks();
}

static void
test_memory_of_items(void)
{
	struct sendq q;
	long long before;

	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	for (int i = 0; i < 100; i++) {
		struct span span = span_copy("own", 3);

		sendq_push_span(&q, span);
		block_unref(span.block);
	}
	before = queue_memory();
	ok(before > 100 * 480 + 128 * (long long)sizeof(struct sendq_item) && before < 100 * 560 + 8192,
	    "a hundred blocks and the queue's array of 128: %lld", before);
	sendq_truncate(&q);
	ok(queue_memory() < 600 && q.count == 1, "truncating leaves the head's block alone: %lld",
	    queue_memory());
	sendq_clear(&q);
	is_int(queue_memory(), 0, "which goes when it is cleared");
}

/* ---- tickets ---- */

static void
push_ticket(struct sendq *q, struct ticket *t)
{
	struct msg m = {.ticket = t};

	sendq_push_msg(q, &m);
	msg_done(&m);
}

static struct ticket *
ticket_of(int64_t id)
{
	static const struct topic topic = {{"t", 1}, {"a", 1}, {"k", 1}};

	return ticket_new(id, &topic, 9000,
	    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", (struct slice){"-", 1});
}

/* first and second wait for the same ticket, after what is in front of it. */
static void
test_ticket_place(struct pg_query_pool *pool, int fds[2])
{
	struct sendq first, second;
	struct ticket *t = ticket_of(1), *later = ticket_of(2);
	size_t sent = 0;

	streams_reset();
	sendq_init(&first, MSG_FORM_AWX, &queue_ops);
	sendq_init(&second, MSG_FORM_AWX, &queue_ops);
	push_one(&first, 10, 'a');
	push_ticket(&first, t);
	push_ticket(&first, later);
	sendq_push_octets(&first, "behind", 6);
	push_ticket(&second, t);
	is_int(ticket_state(t), TICKET_UNREAD, "a ticket is not read before its turn");
	is_int((long long)sendq_backlog(&first), 480, "a ticket is no backlog before its payload is there");
	is_int((long long)first.ticket_bytes, 2 * 9000, "what is still in the database is counted apart");
	is_int(sendq_flush(&first, &(struct transport){.fd = fds[0]}, &sent), SENDQ_WAITING,
	    "a queue waits for the ticket at its head");
	ok(first.mark_ms != 0 && age_after(&first, 100000) < 10000, "meanwhile nothing grows old");
	stream_read_all(fds[1]);
	ok(streams_agree(), "what was in front of it is sent, what is behind it is not");
	is_int(ticket_state(t), TICKET_READING, "the ticket is being read");
	is_int(ticket_state(later), TICKET_UNREAD, "the next one is not");
	is_int(sendq_flush(&second, &(struct transport){.fd = fds[0]}, &sent), SENDQ_WAITING,
	    "a second queue waits for it, too");
	is_int((long long)metrics[METRIC_QUERIES_PENDING], 1, "it is read once");
	is_int((long long)metrics[METRIC_TICKETS_PENDING], 1, "the gauge says so");
	is_int(sendq_flush(&first, &(struct transport){.fd = fds[0]}, &sent), SENDQ_WAITING,
	    "flushing again waits on");
	is_int((long long)sendq_backlog(&first), 480, "behind a ticket all is backlog");
	ticket_unref(t);
	ticket_unref(later);
	sendq_clear(&first);
	ok(first.bytes == 0 && first.ticket_bytes == 0, "clearing the queue forgets them");
	is_int((long long)metrics[METRIC_QUERIES_PENDING], 1,
	    "when one queue goes the other's ticket is still read");
	sendq_clear(&second);
	is_int((long long)metrics[METRIC_QUERIES_PENDING], 0, "when both are gone it is not");
	is_int((long long)metrics[METRIC_TICKETS_PENDING], 0, "the gauge says so");
	is_int(woken, 0, "nobody was woken");
}

static void
test_ticket_truncate(struct pg_query_pool *pool, int fds[2])
{
	struct ticket *t = ticket_of(3);
	struct sendq q;
	size_t sent = 0;

	streams_reset();
	sendq_init(&q, MSG_FORM_AWX, &queue_ops);
	push_ticket(&q, t);
	sendq_push_octets(&q, "behind", 6);
	is_int(sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_WAITING,
	    "a ticket alone at the head");
	sendq_truncate(&q);
	ok(q.count == 0 && q.bytes == 0,
	    "truncating drops it, nothing of it being out, and what is behind it");
	push_octets(&q, "close frame");
	is_int(sendq_flush(&q, &(struct transport){.fd = fds[0]}, &sent), SENDQ_EMPTY,
	    "what is pushed then is sent at once");
	stream_read_all(fds[1]);
	ok(streams_agree(), "and comes");
	is_int(ticket_state(t), TICKET_READING, "the ticket's other holder has it still");
	ticket_unref(t);
	is_int((long long)metrics[METRIC_QUERIES_PENDING], 0, "with the last reference its query goes");
}

/* Of one event there is one ticket, but a forged one, of another length or topic, is not taken for it. */
static void
test_ticket_sharing(void)
{
	static const struct topic topic = {{"t", 1}, {"a", 1}, {"k", 1}},
				  other = {{"t", 1}, {"a", 1}, {"l", 1}};
	static const struct slice payload = {"{\"text\": \"of a big event\"}", 27}, origin = {"-", 1};
	struct ticket *first = ticket_new_of(7, &topic, payload, origin), *second;
	char sha256[EVENT_SHA256_HEX];

	memcpy(sha256, ticket_sha256(first), sizeof(sha256));
	second = ticket_new(7, &topic, payload.len, sha256, origin);
	ok(second == first && ticket_state(second) == TICKET_READY,
	    "a second ticket of an event is the first");
	ticket_unref(second);
	second = ticket_new(7, &other, payload.len, sha256, origin);
	ok(second != first && ticket_state(second) == TICKET_UNREAD, "not of another topic");
	ticket_unref(second);
	ticket_unref(first);
	first = ticket_new(7, &topic, payload.len + 1, sha256, origin);
	second = ticket_new_of(7, &topic, payload, origin);
	ok(second != first && ticket_state(first) == TICKET_UNREAD,
	    "nor of another length, though it was first");
	is_int((long long)ticket_octets(second), (long long)payload.len, "the true one has its own");
	ticket_unref(first);
	ticket_unref(second);
}

static void
test_tickets(void)
{
	char *error = NULL;
	struct pg_query_pool *pool;
	int fds[2];

	if (!conf_load("/dev/null", &error))
		abort();
	log_set_level(LOG_ERROR);
	loop_init();
	pool = pg_query_pool_new("query", "host=/nonexistent", NULL, NULL);
	ticket_init(pool, NULL);
	pair_open(fds);
	test_ticket_place(pool, fds);
	test_ticket_truncate(pool, fds);
	test_ticket_sharing();
	pair_close(fds);
	pg_query_pool_free(pool);
	loop_free();
	conf_free();
	msg_release_blocks();
}

/* So many messages of so many octets go to two queues as a run, and to a third one by one. */
static bool
run_is_the_same(size_t count, size_t payload_len, size_t *spans)
{
	static char octets[40000];
	struct msg msgs[32];
	struct sendq queues[3];
	const struct span *made;
	struct msg_run run;
	bool same = true, pushed;

	for (size_t i = 0; i < count; i++) {
		memset(octets, 'a' + (int)i, sizeof(octets));
		msgs[i] = (struct msg){.payload = {octets, payload_len}};
		(void)msg_frame(&msgs[i], MSG_FORM_AWX);
	}
	msg_run_init(&run, msgs, count, true);
	*spans = msg_run_spans(&run, MSG_FORM_AWX, &made);
	for (int q = 0; q < 3; q++)
		sendq_init(&queues[q], MSG_FORM_AWX, NULL);
	pushed = sendq_push_run(&queues[0], &run);
	same = sendq_push_run(&queues[1], &run) == pushed && pushed == (*spans > 0);
	for (size_t i = 0; i < count; i++) {
		sendq_push_msg(&queues[2], &msgs[i]);
		if (!pushed)
			sendq_push_msg(&queues[0], &msgs[i]);
	}
	same = same && queues[0].bytes == queues[2].bytes && queues[0].count == queues[2].count &&
	       queues[0].held_bytes == queues[2].held_bytes &&
	       (!pushed || (queues[1].bytes == queues[2].bytes && queues[1].count == queues[2].count));
	for (int q = 0; q < 3; q++)
		sendq_clear(&queues[q]);
	for (size_t i = 0; i < count; i++)
		msg_done(&msgs[i]);
	return same;
}

static void
test_runs(void)
{
	size_t spans;

	ok(run_is_the_same(26, 300, &spans) && spans >= 1 && spans <= 2,
	    "a run of small messages is a span, or two");
	ok(run_is_the_same(3, 15000, &spans) && spans == 2, "it is as many as it lies in blocks");
	ok(run_is_the_same(4, 33000, &spans) && spans == 4, "messages with a block each are a span each");
	ok(run_is_the_same(6, 33000, &spans) && spans == 0,
	    "very many spans are no run: each is pushed for itself");
	msg_release_blocks();
}

int
main(void)
{
	test_spans();
	test_gaps();
	test_growth();
	test_empty();
	test_stream(1000);
	test_stream(65536);
	test_many_items();
	test_share();
	test_truncate();
	test_mark();
	test_forgive();
	test_memory();
	test_memory_of_items();
	test_tickets();
	test_runs();
	return tap_end();
}
