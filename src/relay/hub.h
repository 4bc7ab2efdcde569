/*
 * The index from patterns to the members (sessions) that subscribed to them. Finding who gets an event costs
 * at most eight hash look-ups, however many patterns there are. One hub a process.
 */
#ifndef PGRELAY_RELAY_HUB_H
#define PGRELAY_RELAY_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/msg.h"

struct hub_subscription;
struct hub_pattern;

/* Embedded in whoever receives events. */
struct hub_member {
	struct hub_subscription *subscriptions;
	size_t count;
	uint64_t stamp; /* of the last event delivered: one event once */
	/* Queues the events; must not change subscriptions nor free the member. */
	void (*deliver)(struct hub_member *member, struct msg_run *run);
};

void hub_init(void);
void hub_free(void);

/* member's subscriptions become these patterns (copied; repeated ones count once), in one step: no event
 * falls between. */
void hub_set_patterns(struct hub_member *member, const struct topic *patterns, size_t count);

/* The same for more of them, beside those that there are. */
void hub_add_patterns(struct hub_member *member, const struct topic *patterns, size_t count);
/* Only those stay that are to be kept. */
typedef bool (*hub_keep)(void *arg, const struct topic *pattern);
void hub_retain(struct hub_member *member, hub_keep keep, void *arg);

/* Appends the member's patterns to the count ones that are there already, each once, and returns how many there
 * are then; max + 1 when there are more than fit. They are valid until subscriptions change. */
size_t hub_list(const struct hub_member *member, struct topic *patterns, size_t count, size_t max);

/* Between hub_select() and hub_unselect(), which is soon: has this member a pattern that matches? */
void hub_select(const struct hub_member *member);
bool hub_selects(const struct topic *topic);
void hub_unselect(const struct hub_member *member);

/*
 * Delivers to each member that has a matching pattern, once; returns how many. Those who have one only for what
 * the payload tells (docs/drp.md, "Machines' jobs") get a ticket as a conditional message: when its payload is
 * there, hub_finds() says whether it is theirs.
 */
size_t hub_deliver(struct msg *msg);

/* The patterns that match a topic, until patterns change. */
#define HUB_SHAPES 8 /* of patterns: each of three parts is a literal or a wildcard */
struct hub_match {
	const struct hub_pattern *patterns[HUB_SHAPES];
	unsigned count;
	bool by_payload; /* what is in the payload may match others */
};
/* False: none, whatever is in the payload. */
bool hub_match(const struct topic *topic, struct hub_match *match);
/* What matched nothing matches nothing as long as this stays; not 0. */
uint64_t hub_version(void);
/* As hub_deliver(), for several events of the topic that has been looked for; returns how many of them somebody got. */
size_t hub_deliver_run(const struct hub_match *match, struct msg_run *run);
bool hub_finds(const struct hub_member *member, const struct topic *topic, struct slice payload);

#endif
