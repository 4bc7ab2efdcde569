/*
 * Questions. What is held here:
 *
 * - what this node has asked (questions), each with what the nodes asked have answered so far (replies), for a
 *   second at most,
 * - what it was asked and has not sent whole (answers), each until it has gone out or its link ends.
 */
#include "config.h"
#include "cluster/question.h"
#include "cluster/link.h"
#include "cluster/mesh.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define QUESTION_WAIT_MS     1000
#define QUESTION_SUBJECTS    8
#define QUESTION_PIECE       (64 * 1024)
#define QUESTION_WINDOW      (384 * 1024)        /* more than payloads', so that these leave room */
#define QUESTION_BACKLOG_MAX (1024 * 1024)       /* who does not read gets no more answers */
#define QUESTION_HELD_MAX    (32u * 1024 * 1024) /* of all answers that are on their way */

struct reply {
	TAILQ_ENTRY(reply) entry;
	struct link *link; /* NULL: over */
	char *node;
	char *text;
	size_t len;
};

struct question {
	TAILQ_ENTRY(question) entry;
	int64_t number;
	TAILQ_HEAD(, reply) replies;
	size_t open; /* replies that are not over */
	struct event *timer;
	const struct question_ops *ops;
	void *arg;
};

struct answer {
	TAILQ_ENTRY(answer) entry;
	struct link *link;
	int64_t number;
	char *text;
	size_t len, sent;
};

struct subject {
	const char *name;
	question_answer answer;
};

static struct {
	TAILQ_HEAD(question_list, question) questions;
	TAILQ_HEAD(, answer) answers;
	int64_t last_number;
	size_t held_bytes;
	struct subject subjects[QUESTION_SUBJECTS];
	size_t subject_count;
} question;

/* ---- asking ---- */

static void
question_free(struct question *q)
{
	struct reply *r;

	while ((r = TAILQ_FIRST(&q->replies)) != NULL) {
		TAILQ_REMOVE(&q->replies, r, entry);
		free(r->node);
		free(r->text);
		free(r);
	}
	event_free(q->timer);
	free(q);
}

void
question_cancel(struct question *q)
{
	TAILQ_REMOVE(&question.questions, q, entry);
	question_free(q);
}

static void
question_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct question *q = arg;

	TAILQ_REMOVE(&question.questions, q, entry);
	q->ops->done(q->arg);
	question_free(q);
}

/* With the last reply it is done, at the end of this turn. */
static void
question_close_reply(struct question *q, struct reply *r)
{
	r->link = NULL;
	if (--q->open == 0)
		event_active(q->timer, EV_TIMEOUT, 0);
}

static void
question_send(struct question *q, struct link *link, const char *text)
{
	struct reply *r = mem_zalloc(sizeof(*r));

	r->link = link;
	r->node = mem_strdup(link_node(link));
	TAILQ_INSERT_TAIL(&q->replies, r, entry);
	q->open++;
	link_send(link, "ask %" PRId64 " %s", q->number, text);
}

struct question *
question_ask(const char *node, const char *text, const struct question_ops *ops, void *arg)
{
	struct timeval tv = {QUESTION_WAIT_MS / 1000, QUESTION_WAIT_MS % 1000 * 1000};
	struct question *q = mem_zalloc(sizeof(*q));
	struct link *link = NULL;

	q->number = ++question.last_number;
	q->ops = ops;
	q->arg = arg;
	TAILQ_INIT(&q->replies);
	TAILQ_INSERT_TAIL(&question.questions, q, entry);
	q->timer = evtimer_new(loop_base(), question_on_timer, q);
	if (q->timer == NULL)
		log_fatal("could not create a timer");
	event_add(q->timer, &tv);
	while ((link = mesh_next_link(link)) != NULL)
		if (node == NULL || strcmp(link_node(link), node) == 0)
			question_send(q, link, text);
	if (q->open == 0)
		event_active(q->timer, EV_TIMEOUT, 0);
	return q;
}

static bool
question_find_reply(const struct link *link, int64_t number, struct question **q, struct reply **r)
{
	TAILQ_FOREACH (*q, &question.questions, entry) {
		if ((*q)->number != number)
			continue;
		TAILQ_FOREACH (*r, &(*q)->replies, entry)
			if ((*r)->link == link)
				return true;
	}
	return false;
}

static void
question_add(struct reply *r, struct slice piece)
{
	r->text = mem_resize(r->text, r->len + piece.len + 1);
	memcpy(r->text + r->len, piece.ptr, piece.len);
	r->len += piece.len;
}

/* last: the answer is whole. False: it is too long. */
static bool
question_take(struct link *link, int64_t number, struct slice piece, bool last)
{
	struct question *q;
	struct reply *r;

	if (!question_find_reply(link, number, &q, &r))
		return true; /* too late */
	if (r->len + piece.len > QUESTION_ANSWER_MAX)
		return false;
	question_add(r, piece);
	if (!last)
		return true;
	q->ops->answered(q->arg, r->node, (struct slice){r->text, r->len});
	free(r->text);
	r->text = NULL;
	question_close_reply(q, r);
	return true;
}

/* ---- answering ---- */

static void
question_free_answer(struct answer *a)
{
	TAILQ_REMOVE(&question.answers, a, entry);
	question.held_bytes -= a->len;
	free(a->text);
	free(a);
}

/* True when it was the last. */
static bool
question_send_piece(struct answer *a)
{
	size_t left = a->len - a->sent, len = left < QUESTION_PIECE ? left : QUESTION_PIECE;
	char head[40];

	snprintf(head, sizeof(head), "%s %" PRId64, len == left ? "answer" : "part", a->number);
	link_send_with(a->link, head, (struct slice){a->text + a->sent, len});
	a->sent += len;
	return len == left;
}

static struct answer *
question_next_answer(const struct link *link)
{
	struct answer *a;

	TAILQ_FOREACH (a, &question.answers, entry)
		if (a->link == link)
			return a;
	return NULL;
}

/* A window's worth: each answer in its turn. */
static void
question_pump(struct link *link)
{
	struct answer *a;

	while (link_is_open(link) && link_backlog(link) < QUESTION_WINDOW &&
	       (a = question_next_answer(link)) != NULL) {
		if (question_send_piece(a)) {
			question_free_answer(a);
		} else {
			TAILQ_REMOVE(&question.answers, a, entry);
			TAILQ_INSERT_TAIL(&question.answers, a, entry);
		}
	}
}

static void
question_begin_answer(struct link *link, int64_t number, char *text, size_t len)
{
	struct answer *a = mem_zalloc(sizeof(*a));

	a->link = link;
	a->number = number;
	a->text = text;
	a->len = len;
	question.held_bytes += len;
	TAILQ_INSERT_TAIL(&question.answers, a, entry);
	question_pump(link);
}

/* Who asks for more than goes out is not answered; nor is what nobody serves. */
static void
question_serve_one(struct link *link, int64_t number, struct slice rest)
{
	struct slice subject;
	char *text = NULL;
	size_t len = 0;

	if (link_backlog(link) >= QUESTION_BACKLOG_MAX || question.held_bytes >= QUESTION_HELD_MAX)
		return;
	(void)slice_next(&rest, &subject);
	for (size_t i = 0; i < question.subject_count; i++)
		if (slice_is(subject, question.subjects[i].name))
			text = question.subjects[i].answer(rest, &len);
	if (text != NULL)
		question_begin_answer(link, number, text, len);
}

void
question_serve(const char *subject, question_answer answer)
{
	if (question.subject_count == QUESTION_SUBJECTS)
		log_fatal("too many subjects of questions");
	question.subjects[question.subject_count++] = (struct subject){subject, answer};
}

/* ---- what links tell ---- */

void
question_on_message(struct link *link, struct slice word, struct slice rest)
{
	bool ask = slice_is(word, "ask"), last = slice_is(word, "answer");
	struct slice field;
	int64_t number;

	if (!ask && !last && !slice_is(word, "part"))
		return;
	if (!slice_cut(&rest, ' ', &field) || !slice_to_int64(field, &number))
		link_break(link, "a malformed question or answer");
	else if (ask)
		question_serve_one(link, number, rest);
	else if (!question_take(link, number, rest, last))
		link_break(link, "an answer is too long");
}

void
question_on_drained(struct link *link)
{
	question_pump(link);
}

void
question_on_link_ended(struct link *link)
{
	struct answer *a, *next;
	struct question *q;
	struct reply *r;

	for (a = TAILQ_FIRST(&question.answers); a != NULL; a = next) {
		next = TAILQ_NEXT(a, entry);
		if (a->link == link)
			question_free_answer(a);
	}
	TAILQ_FOREACH (q, &question.questions, entry)
		TAILQ_FOREACH (r, &q->replies, entry)
			if (r->link == link)
				question_close_reply(q, r);
}

/* ---- life ---- */

void
question_init(void)
{
	memset(&question, 0, sizeof(question));
	TAILQ_INIT(&question.questions);
	TAILQ_INIT(&question.answers);
}

void
question_free_all(void)
{
	while (!TAILQ_EMPTY(&question.answers))
		question_free_answer(TAILQ_FIRST(&question.answers));
	while (!TAILQ_EMPTY(&question.questions))
		question_cancel(TAILQ_FIRST(&question.questions));
}
