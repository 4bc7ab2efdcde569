/*
 * Three things are held here:
 *
 * - what this node has asked others for (fetches), each for a second at most; and among these what it may be
 *   publishing itself, just now: those who hear of it are faster than the answer to the one who committed,
 * - what others have asked this node for (answers), sent in pieces that take turns, a window at a time,
 * - what this node keeps for those who will ask (kept): tickets it has read from the log, or published.
 *
 * And who let a fetch time out (slow).
 */
#include "config.h"
#include "cluster/payload.h"
#include "cluster/link.h"
#include "cluster/mesh.h"
#include "cluster/node.h"
#include "cluster/secret.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/metrics.h"
#include "relay/ticket.h"

#include <event2/event.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#define PAYLOAD_FETCH_MS    1000
#define PAYLOAD_PIECE       (64 * 1024)
#define PAYLOAD_WINDOW      (256 * 1024)
#define PAYLOAD_ANSWERS_MAX 1000 /* of one link */
#define PAYLOAD_KEEP_MS     30000
#define PAYLOAD_KEEP_BYTES  (64u * 1024 * 1024)
#define PAYLOAD_SLOW_MIN_MS 5000
#define PAYLOAD_SLOW_MAX_MS 60000
#define PAYLOAD_SWEEP_MS    1000
#define PAYLOAD_LOG_SECONDS 10
#define PAYLOAD_OCTETS_MAX  (INT64_C(1) << 30) /* what PostgreSQL can hold in a value */
#define PAYLOAD_WRITTEN_MAX (3 * 255)

struct fetch {
	int64_t request;
	struct ticket *ticket; /* not ours: it cancels */
	struct link *link;     /* NULL: this node itself */
	struct event *timer;
	char *buffer;
	size_t length, size;
	UT_hash_handle hh;
};

struct answer {
	TAILQ_ENTRY(answer) entry;
	struct ticket_waiter waiter;
	struct link *link;
	struct ticket *ticket;
	struct span frame; /* block NULL: the payload is waited for */
	int64_t request;
	size_t offset;
};

struct kept {
	TAILQ_ENTRY(kept) entry;
	struct ticket *ticket;
	int64_t since_ms;
};

struct slow {
	char *node;
	int64_t until_ms, pause_ms;
	UT_hash_handle hh;
};

static struct {
	bool (*is_publishing)(void);
	bool serving; /* somebody else asks for what is being fetched */
	int64_t last_request;
	struct fetch *fetches;
	TAILQ_HEAD(, answer) answers;
	TAILQ_HEAD(, kept) kept;
	size_t kept_bytes;
	struct slow *slow;
	struct event *sweep;
} payload;

/* ---- what is kept ---- */

static void
payload_forget(struct kept *k)
{
	TAILQ_REMOVE(&payload.kept, k, entry);
	payload.kept_bytes -= ticket_octets(k->ticket);
	metrics[METRIC_PAYLOADS_KEPT_BYTES] = (double)payload.kept_bytes;
	ticket_unref(k->ticket);
	free(k);
}

static void
payload_remember(struct ticket *t)
{
	struct kept *k = mem_zalloc(sizeof(*k));

	ticket_ref(t);
	k->ticket = t;
	k->since_ms = loop_now_ms();
	TAILQ_INSERT_TAIL(&payload.kept, k, entry);
	payload.kept_bytes += ticket_octets(t);
	metrics[METRIC_PAYLOADS_KEPT_BYTES] = (double)payload.kept_bytes;
	while (payload.kept_bytes > PAYLOAD_KEEP_BYTES && TAILQ_FIRST(&payload.kept) != k)
		payload_forget(TAILQ_FIRST(&payload.kept));
}

static void
payload_on_sweep(evutil_socket_t fd, short what, void *arg)
{
	int64_t now = loop_now_ms();
	struct kept *k;

	while ((k = TAILQ_FIRST(&payload.kept)) != NULL && now - k->since_ms > PAYLOAD_KEEP_MS)
		payload_forget(k);
}

static void
payload_was_read(struct ticket *t)
{
	if (mesh_next_link(NULL) != NULL)
		payload_remember(t);
}

static size_t
payload_write_id(const char *node, char out[PAYLOAD_WRITTEN_MAX])
{
	size_t len = strlen(node);

	return topic_encode_key(node, len < PAYLOAD_WRITTEN_MAX / 3 ? len : PAYLOAD_WRITTEN_MAX / 3, out);
}

void
payload_keep(int64_t id, const struct topic *topic, struct slice text)
{
	char origin[PAYLOAD_WRITTEN_MAX];
	struct ticket *t =
	    ticket_new_of(id, topic, text, (struct slice){origin, payload_write_id(node_self_id(), origin)});

	payload_remember(t);
	ticket_unref(t);
}

/* ---- who is slow ---- */

static struct slow *
payload_find_slow(const char *node)
{
	struct slow *s;

	HASH_FIND_STR(payload.slow, node, s);
	return s;
}

static void
payload_note_slow(const char *node)
{
	struct slow *s = payload_find_slow(node);

	if (s == NULL) {
		s = mem_zalloc(sizeof(*s));
		s->node = mem_strdup(node);
		HASH_ADD_KEYPTR(hh, payload.slow, s->node, strlen(s->node), s);
	}
	s->pause_ms = s->pause_ms == 0                        ? PAYLOAD_SLOW_MIN_MS
		      : s->pause_ms * 2 < PAYLOAD_SLOW_MAX_MS ? s->pause_ms * 2
							      : PAYLOAD_SLOW_MAX_MS;
	s->until_ms = loop_now_ms() + s->pause_ms;
	log_warning("cluster",
	    "node \"%s\" did not give a payload in time: the log is read for %" PRId64 " s", node,
	    s->pause_ms / 1000);
}

static void
payload_forgive(const char *node)
{
	struct slow *s = payload_find_slow(node);

	if (s == NULL)
		return;
	HASH_DEL(payload.slow, s);
	free(s->node);
	free(s);
}

/* ---- who has it? ---- */

static uint64_t
payload_rank(const char *node, int64_t id)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char *text = mem_printf("%s\n%" PRId64, node, id);
	uint64_t rank = 0;

	SHA256((const unsigned char *)text, strlen(text), digest);
	free(text);
	for (int i = 0; i < 8; i++)
		rank = rank << 8 | digest[i];
	return rank;
}

/* Of those who are there, the one with the highest rank; NULL: this node. */
static const char *
payload_owner(int64_t id)
{
	uint64_t best = payload_rank(node_self_id(), id), rank;
	const char *owner = NULL;
	const struct node *n = NULL;

	while ((n = node_next(n)) != NULL) {
		if (n->kind != NODE_PEER || n->state != NODE_ONLINE)
			continue;
		rank = payload_rank(n->id, id);
		if (rank > best) {
			best = rank;
			owner = n->id;
		}
	}
	return owner;
}

static bool
payload_is_origin(const char *origin, const char *node)
{
	char written[PAYLOAD_WRITTEN_MAX];
	size_t len = strlen(origin);

	return payload_write_id(node, written) == len && memcmp(written, origin, len) == 0;
}

/* The link to the node that published it, if it is there. */
static struct link *
payload_origin_link(const char *origin)
{
	struct link *link = NULL;

	while ((link = mesh_next_link(link)) != NULL)
		if (payload_is_origin(origin, link_node(link)))
			return link;
	return NULL;
}

/* NULL: the log. */
static struct link *
payload_choose(const struct ticket *t)
{
	const char *origin = ticket_origin(t), *owner;
	const struct slow *slow;
	struct link *link;

	if (payload_is_origin(origin, node_self_id()))
		return NULL;
	link = strcmp(origin, "-") != 0 ? payload_origin_link(origin) : NULL;
	if (link == NULL) {
		owner = payload_owner(ticket_id(t));
		link = owner != NULL ? mesh_link(owner) : NULL;
	}
	if (link == NULL)
		return NULL;
	slow = payload_find_slow(link_node(link));
	return slow == NULL || loop_now_ms() >= slow->until_ms ? link : NULL;
}

/* ---- asking ---- */

static void
payload_cancel(void *arg)
{
	struct fetch *f = arg;

	HASH_DEL(payload.fetches, f);
	event_free(f->timer);
	free(f->buffer);
	free(f);
}

/* The ticket gets what came, or nothing. */
static void
payload_finish(struct fetch *f, bool whole)
{
	struct ticket *t = f->ticket;
	char *buffer = f->buffer;
	struct slice text = {whole && buffer == NULL ? "" : whole ? buffer : NULL, f->length};

	metrics[METRIC_PAYLOADS_FALLBACK_TOTAL] += !whole && f->link != NULL;
	f->buffer = NULL;
	payload_cancel(f);
	ticket_fetched(t, text);
	free(buffer);
}

static void
payload_on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct fetch *f = arg;

	if (f->link != NULL)
		payload_note_slow(link_node(f->link));
	payload_finish(f, false);
}

/* Is it something that this node may be about to have, for it publishes? */
static bool
payload_is_coming(const struct ticket *t)
{
	return payload.is_publishing() &&
	       (payload.serving || payload_is_origin(ticket_origin(t), node_self_id()));
}

static void *
payload_fetch(struct ticket *t)
{
	struct timeval tv = {PAYLOAD_FETCH_MS / 1000, PAYLOAD_FETCH_MS % 1000 * 1000};
	bool coming = payload_is_coming(t);
	struct link *link = coming || payload.serving ? NULL : payload_choose(t);
	struct fetch *f;

	if (link == NULL && !coming)
		return NULL;
	f = mem_zalloc(sizeof(*f));
	f->request = ++payload.last_request;
	f->ticket = t;
	f->link = link;
	f->timer = evtimer_new(loop_base(), payload_on_timeout, f);
	if (f->timer == NULL)
		log_fatal("could not create a timer");
	event_add(f->timer, &tv);
	HASH_ADD(hh, payload.fetches, request, sizeof(f->request), f);
	if (link != NULL)
		link_send(link, "want %" PRId64 " %" PRId64 " %zu %.*s %s", f->request, ticket_id(t),
		    ticket_octets(t), EVENT_SHA256_HEX, ticket_sha256(t), ticket_topic(t));
	return f;
}

const struct ticket_source payload_source = {payload_fetch, payload_cancel, payload_was_read};

/* A fetch of this link; NULL when it is over. */
static struct fetch *
payload_find_fetch(const struct link *link, int64_t request)
{
	struct fetch *f;

	HASH_FIND(hh, payload.fetches, &request, sizeof(request), f);
	return f != NULL && f->link == link ? f : NULL;
}

/* Is this node itself waited for? */
static bool
payload_is_awaited(const struct ticket *t)
{
	struct fetch *f, *next;

	HASH_ITER(hh, payload.fetches, f, next)
	if (f->ticket == t)
		return f->link == NULL;
	return false;
}

void
payload_settle(void)
{
	struct fetch *f, *next;

	HASH_ITER(hh, payload.fetches, f, next)
	if (f->link == NULL)
		payload_finish(f, false);
}

static void
payload_take_piece(struct fetch *f, struct slice piece, size_t left)
{
	size_t octets = ticket_octets(f->ticket);

	if (piece.len > octets - f->length || left != octets - f->length - piece.len) {
		payload_finish(f, true); /* is not what the ticket says, whatever follows */
		return;
	}
	if (f->length + piece.len > f->size) {
		f->size = f->size == 0 && left == 0 ? piece.len : f->length + piece.len + f->size;
		f->buffer = mem_resize(f->buffer, f->size);
	}
	memcpy(f->buffer + f->length, piece.ptr, piece.len);
	f->length += piece.len;
	if (left > 0)
		return;
	payload_forgive(link_node(f->link));
	payload_finish(f, true);
}

/* ---- answering ---- */

static void
payload_free_answer(struct answer *a)
{
	TAILQ_REMOVE(&payload.answers, a, entry);
	ticket_unwait(&a->waiter);
	if (a->frame.block != NULL)
		block_unref(a->frame.block);
	ticket_unref(a->ticket);
	free(a);
}

static void
payload_lack(struct link *link, int64_t request, const char *reason)
{
	link_send(link, "lack %" PRId64 " %s", request, reason);
}

/* The next piece; true when it was the last. */
static bool
payload_send_piece(struct answer *a)
{
	struct slice text = ticket_payload(a->ticket, a->frame);
	size_t left = text.len - a->offset, len = left < PAYLOAD_PIECE ? left : PAYLOAD_PIECE;
	char head[64];

	snprintf(head, sizeof(head), "have %" PRId64 " %zu", a->request, left - len);
	link_send_with(a->link, head, (struct slice){text.ptr + a->offset, len});
	a->offset += len;
	return a->offset == text.len;
}

static struct answer *
payload_next_answer(const struct link *link)
{
	struct answer *a;

	TAILQ_FOREACH (a, &payload.answers, entry)
		if (a->link == link && a->frame.block != NULL)
			return a;
	return NULL;
}

/* A window's worth: each answer in its turn. */
static void
payload_pump(struct link *link)
{
	struct answer *a;

	while (link_is_open(link) && link_backlog(link) < PAYLOAD_WINDOW &&
	       (a = payload_next_answer(link)) != NULL) {
		if (payload_send_piece(a)) {
			metrics[METRIC_PAYLOADS_SERVED_TOTAL]++;
			payload_free_answer(a);
		} else {
			TAILQ_REMOVE(&payload.answers, a, entry);
			TAILQ_INSERT_TAIL(&payload.answers, a, entry);
		}
	}
}

static void
payload_on_ticket(struct ticket_waiter *waiter)
{
	struct answer *a = (struct answer *)((char *)waiter - offsetof(struct answer, waiter));
	struct link *link = a->link;

	if (ticket_state(a->ticket) == TICKET_READY) {
		a->frame = ticket_frame(a->ticket, MSG_FORM_AWX);
		payload_pump(link);
	} else {
		payload_lack(link, a->request, "the log does not have it");
		payload_free_answer(a);
	}
}

/* It is read from the log, unless it may be coming. False: it cannot be had here. */
static bool
payload_wait(struct ticket *t, struct ticket_waiter *waiter)
{
	if (ticket_state(t) == TICKET_FAILED)
		return false;
	if (ticket_state(t) == TICKET_READING ? !payload_is_awaited(t) : !payload.is_publishing())
		return ticket_wait_for_log(t, waiter);
	payload.serving = true;
	ticket_wait(t, waiter);
	payload.serving = false;
	return true;
}

static void
payload_answer(struct link *link, int64_t request, struct ticket *t)
{
	struct answer *a = mem_zalloc(sizeof(*a));

	ticket_ref(t);
	a->ticket = t;
	a->link = link;
	a->request = request;
	a->waiter.wake = payload_on_ticket;
	TAILQ_INSERT_TAIL(&payload.answers, a, entry);
	if (ticket_state(t) == TICKET_READY) {
		a->frame = ticket_frame(t, MSG_FORM_AWX);
		payload_pump(link);
	} else if (!payload_wait(t, &a->waiter)) {
		payload_lack(link, request, "it is asked for elsewhere");
		payload_free_answer(a);
	}
}

static size_t
payload_count_answers(const struct link *link)
{
	struct answer *a;
	size_t n = 0;

	TAILQ_FOREACH (a, &payload.answers, entry)
		n += a->link == link;
	return n;
}

/* ---- messages ---- */

static bool
payload_next_number(struct slice *rest, int64_t *out)
{
	struct slice field;

	return slice_cut(rest, ' ', &field) && slice_to_int64(field, out);
}

static bool
payload_take_want(struct link *link, struct slice rest)
{
	int64_t request, id, octets;
	struct slice sha256;
	struct topic topic;
	struct ticket *t;

	if (!payload_next_number(&rest, &request) || !payload_next_number(&rest, &id) ||
	    !payload_next_number(&rest, &octets) || octets > PAYLOAD_OCTETS_MAX ||
	    !slice_cut(&rest, ' ', &sha256) || !slice_is_hex(sha256, EVENT_SHA256_HEX) ||
	    !topic_parse(rest, false, &topic))
		return false;
	if (payload_count_answers(link) >= PAYLOAD_ANSWERS_MAX) {
		payload_lack(link, request, "too many are asked for");
		return true;
	}
	t = ticket_new(id, &topic, (size_t)octets, sha256.ptr, (struct slice){"-", 1});
	payload_answer(link, request, t);
	ticket_unref(t);
	return true;
}

static bool
payload_take_have(struct link *link, struct slice rest)
{
	int64_t request, left;
	struct fetch *f;

	if (!payload_next_number(&rest, &request) || !payload_next_number(&rest, &left))
		return false;
	f = payload_find_fetch(link, request);
	if (f != NULL)
		payload_take_piece(f, rest, (size_t)left);
	return true;
}

static bool
payload_take_lack(struct link *link, struct slice rest)
{
	int64_t request;
	struct fetch *f;

	if (!payload_next_number(&rest, &request))
		return false;
	f = payload_find_fetch(link, request);
	if (f != NULL)
		payload_finish(f, false);
	return true;
}

void
payload_on_message(struct link *link, struct slice word, struct slice rest)
{
	bool right = true;

	if (slice_is(word, "want"))
		right = payload_take_want(link, rest);
	else if (slice_is(word, "have"))
		right = payload_take_have(link, rest);
	else if (slice_is(word, "lack"))
		right = payload_take_lack(link, rest);
	if (!right)
		link_break(link, "a malformed message about a payload");
}

void
payload_on_drained(struct link *link)
{
	payload_pump(link);
}

void
payload_on_link_ended(struct link *link)
{
	struct fetch *f, *next_fetch;
	struct answer *a, *next_answer;

	for (a = TAILQ_FIRST(&payload.answers); a != NULL; a = next_answer) {
		next_answer = TAILQ_NEXT(a, entry);
		if (a->link == link)
			payload_free_answer(a);
	}
	HASH_ITER(hh, payload.fetches, f, next_fetch)
	if (f->link == link)
		payload_finish(f, false);
}

/* ---- life ---- */

void
payload_init(bool (*is_publishing)(void))
{
	struct timeval tv = {PAYLOAD_SWEEP_MS / 1000, 0};

	memset(&payload, 0, sizeof(payload));
	payload.is_publishing = is_publishing;
	TAILQ_INIT(&payload.answers);
	TAILQ_INIT(&payload.kept);
	payload.sweep = event_new(loop_base(), -1, EV_PERSIST, payload_on_sweep, NULL);
	if (payload.sweep == NULL)
		log_fatal("could not create a timer");
	event_add(payload.sweep, &tv);
}

void
payload_free(void)
{
	struct slow *s, *next;

	while (!TAILQ_EMPTY(&payload.answers))
		payload_free_answer(TAILQ_FIRST(&payload.answers));
	while (!TAILQ_EMPTY(&payload.kept))
		payload_forget(TAILQ_FIRST(&payload.kept));
	HASH_ITER(hh, payload.slow, s, next)
	payload_forgive(s->node);
	event_free(payload.sweep);
}
