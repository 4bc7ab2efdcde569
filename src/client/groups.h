/*
 * The groups that one client is in, each with the pattern it stands for, and the question to the database
 * which of them the user may see. What comes of an answer is the dialect's business: it puts the patterns in
 * force and tells the client.
 */
#ifndef PGRELAY_CLIENT_GROUPS_H
#define PGRELAY_CLIENT_GROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/awx_group.h"
#include "relay/event.h"

struct groups;

/* In none. The caller releases it with groups_free(), which cancels a question under way. */
struct groups *groups_new(int64_t user_id);
void groups_free(struct groups *groups);

/*
 * GROUPS_KNOWN: the groups are a new set, and patterns, valid during the call, are what the user may see of
 * them. GROUPS_UNKNOWN: the database could not be asked, GROUPS_TOO_MANY: that is more than a session may
 * hold (groups_too_many() tells it to a client); the groups are the former ones, or none where rights had
 * changed.
 */
enum groups_outcome { GROUPS_KNOWN, GROUPS_UNKNOWN, GROUPS_TOO_MANY };
typedef void (*groups_done)(
    void *arg, enum groups_outcome outcome, const struct topic *patterns, size_t count);

/* Questions come one after the other; done is called once, never from inside, unless groups_free() is first. */

/* Of these the allowed ones become the groups; wanted stays the caller's, and there until done. */
void groups_ask(
    struct groups *groups, const struct awx_group *wanted, size_t count, groups_done done, void *arg);
/* Rights have changed: those of the groups that are still allowed stay. Until the database has an answer it
 * is asked again; where it refuses to answer, or has too much to say, none stays. Never GROUPS_UNKNOWN. */
void groups_ask_again(struct groups *groups, groups_done done, void *arg);
/* What a client is told of GROUPS_TOO_MANY. The caller releases it with free(). */
char *groups_too_many(void);
/* Leaves all of them; not while a question is under way. */
void groups_clear(struct groups *groups);

bool groups_has(const struct groups *groups, const char *label);
size_t groups_count(const struct groups *groups);

/* The labels of those groups whose patterns concern somebody, as a JSON list; NULL when there are none.
 * concerns NULL: all of them. The caller releases it with free(). */
typedef bool (*groups_concern)(const void *arg, const struct topic *pattern);
char *groups_labels(const struct groups *groups, groups_concern concerns, const void *arg);

/* Has the set become smaller since it was last told? */
bool groups_have_shrunk(const struct groups *groups);
/* Tells the set, and what has changed since it was last told, as JSON: groups_current, groups_left,
 * groups_joined. The caller releases it with free(). */
char *groups_tell(struct groups *groups);

/*
 * Somebody who is told of all clients' groups, and how they change; embedded in who that is. Changes of those
 * whom groups_watch_next() has not come to yet are left out: it will tell how they are then.
 */
struct groups_watcher {
	TAILQ_ENTRY(groups_watcher) entry;
	struct groups *next; /* whom groups_watch_next() comes to; NULL: it has come to all */
	/*
	 * This session has joined, or left, groups. labels is a JSON list of at most GROUPS_TOLD_MAX of them.
	 */
	void (*told)(struct groups_watcher *watcher, uint64_t session, bool joined, const char *labels);
};
#define GROUPS_TOLD_MAX 1000

/*
 * These groups are those of the session with this number, which grows from call to call: watchers see them from
 * now on. Once, when the session is open.
 */
void groups_show(struct groups *groups, uint64_t session);
void groups_watch(struct groups_watcher *watcher);
void groups_unwatch(struct groups_watcher *watcher);
/* Tells of the next session; false when there is none left. */
bool groups_watch_next(struct groups_watcher *watcher);

#endif
