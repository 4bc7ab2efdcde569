/* From a NOTIFY payload to the hub: one record after the other, each event to those who subscribed to it. */
#ifndef PGRELAY_RELAY_DISPATCH_H
#define PGRELAY_RELAY_DISPATCH_H

#include <stdint.h>

#include "relay/event.h"

/*
 * Delivers the records of one payload in their order. A malformed record is counted, logged at most once a
 * minute and skipped. on_access is told of users whose tokens or grants changed.
 */
void dispatch_payload(struct slice payload, void (*on_access)(int64_t user_id));

#endif
