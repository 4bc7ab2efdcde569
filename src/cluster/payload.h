/*
 * Big payloads among nodes (docs/cluster.md, section 4): each is read from the log by one node, its owner, and
 * had from there by the others.
 */
#ifndef PGRELAY_CLUSTER_PAYLOAD_H
#define PGRELAY_CLUSTER_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/event.h"

struct link;
struct ticket_source;

/* is_publishing: is a transaction under way whose big payloads will be given to payload_keep()? */
void payload_init(bool (*is_publishing)(void));
void payload_free(void);

/* For ticket_init(). */
extern const struct ticket_source payload_source;

/* Keeps a payload that this node has published, for those who will ask. topic in its written form. */
void payload_keep(int64_t id, const struct topic *topic, struct slice payload);
/* All that was published has been given: who waited for it, and it was something else, waits no longer. */
void payload_settle(void);

/* What links tell. */

/* Words that are not ours are left alone. Malformed ones of ours break the link. */
void payload_on_message(struct link *link, struct slice word, struct slice rest);
void payload_on_drained(struct link *link);
void payload_on_link_ended(struct link *link);

#endif
