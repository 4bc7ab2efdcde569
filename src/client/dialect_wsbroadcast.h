/*
 * AWX's wsbroadcast at the other end of a session (docs/cluster.md, section 6): it gets every event of the
 * stream, and has nothing to say.
 */
#ifndef PGRELAY_CLIENT_DIALECT_WSBROADCAST_H
#define PGRELAY_CLIENT_DIALECT_WSBROADCAST_H

#include "client/session.h"

extern const struct dialect dialect_wsbroadcast;

#endif
