/*
 * Publishing for clients (docs/cluster.md, section 5): their requests go to pgrelay.publish() over a session
 * of their own, one transaction at a time; those that come while it is under way share the next one. The
 * session is made when the first request comes.
 */
#ifndef PGRELAY_RELAY_PUBLISHER_H
#define PGRELAY_RELAY_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/event.h"
#include "relay/publish_body.h"

struct publish;

enum publish_verdict {
	PUBLISH_DONE,       /* committed */
	PUBLISH_INVALID,    /* these events cannot be published */
	PUBLISH_DENIED,     /* the user may not */
	PUBLISH_UNAVAILABLE /* the database could not be asked, or did not answer in time: it may have been done
			       where the text says so */
};
struct publish_answer {
	enum publish_verdict verdict;
	const char *text; /* the ids, a JSON array; else what was wrong */
	long index;       /* of the event that is wrong, from 0; -1: none in particular */
};
typedef void (*publish_done)(void *arg, const struct publish_answer *answer);

struct publisher_ops {
	/* This node's id. */
	const char *(*origin)(void);
	/* A payload that went out as a ticket; the topic in its written form. */
	void (*keep)(int64_t id, const struct topic *topic, struct slice payload);
	/* The transaction that was under way is over: all that it published big has been given to keep. */
	void (*settled)(void);
};
void publisher_init(const char *conninfo, const struct publisher_ops *ops);
/* What waits is answered PUBLISH_UNAVAILABLE; the node is ending. */
void publisher_give_up(void);
/* The same, and frees what it holds. */
void publisher_free(void);
/* The settings have been read anew. */
void publisher_settings_changed(void);

/*
 * events is JSON that publish_body_check() has passed, len octets, and what it found; it is copied. done is
 * called once, never from inside, unless the request is cancelled before. NULL: too much is waiting.
 */
struct publish *publisher_send(int64_t user_id, const char *events, size_t len,
    const struct publish_body *body, publish_done done, void *arg);
/* Nobody waits for the answer any more: what has not been sent is dropped, what has been is published. */
void publisher_cancel(struct publish *publish);

/* Is a transaction under way? */
bool publisher_is_busy(void);
/* Nothing waits, and no transaction is under way. */
bool publisher_is_idle(void);

#endif
