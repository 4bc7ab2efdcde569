/*
 * AWX's wsrelay at the other end of a session (docs/cluster.md, section 6): what it pushes goes to this
 * node's clients, and it is told in which groups these are.
 */
#ifndef PGRELAY_CLIENT_DIALECT_WSRELAY_H
#define PGRELAY_CLIENT_DIALECT_WSRELAY_H

#include "client/session.h"

extern const struct dialect dialect_wsrelay;

#endif
