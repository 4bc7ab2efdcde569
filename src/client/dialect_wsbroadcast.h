/* AWX's wsbroadcast at the other end of a session (docs/cluster.md, section 6). */
#ifndef PGRELAY_CLIENT_DIALECT_WSBROADCAST_H
#define PGRELAY_CLIENT_DIALECT_WSBROADCAST_H

#include "client/session.h"

extern const struct dialect dialect_wsbroadcast;

#endif
