/*
 * Questions between nodes (docs/cluster.md, section 3): one of this node's goes to the others over their links,
 * and theirs are answered by who serves the subject. Answers may be large: they go in pieces, a window at a time,
 * so that nothing else on the link waits for long.
 */
#ifndef PGRELAY_CLUSTER_QUESTION_H
#define PGRELAY_CLUSTER_QUESTION_H

#include <stddef.h>

#include "core/slice.h"

#define QUESTION_TEXT_MAX   (512 * 1024)      /* octets of a question */
#define QUESTION_ANSWER_MAX (4 * 1024 * 1024) /* octets of an answer; one that is longer ends the link */

struct link;
struct question;

void question_init(void);
void question_free_all(void);

struct question_ops {
	/* A node's whole answer; valid during the call. */
	void (*answered)(void *arg, const char *node, struct slice text);
	/* All have answered that will, or a second is over; once, never from inside. The question is gone. */
	void (*done)(void *arg);
};

/* text is the subject and what belongs to it, at most QUESTION_TEXT_MAX. node: whom to ask, NULL for all that are
 * linked. */
struct question *question_ask(const char *node, const char *text, const struct question_ops *ops, void *arg);
/* Nothing is called any more. */
void question_cancel(struct question *q);

/* The answer to what follows the subject, of *len octets, at most QUESTION_ANSWER_MAX; released with free(). NULL:
 * none. */
typedef char *(*question_answer)(struct slice rest, size_t *len);
/* subject must outlive the module. */
void question_serve(const char *subject, question_answer answer);

/* What links tell; words that are not ours are left alone. */
void question_on_message(struct link *link, struct slice word, struct slice rest);
void question_on_drained(struct link *link);
void question_on_link_ended(struct link *link);

#endif
