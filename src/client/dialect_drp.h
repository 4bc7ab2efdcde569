/* Digital Rebar Provision's event protocol (docs/drp.md, sections 1 to 3). */
#ifndef PGRELAY_CLIENT_DIALECT_DRP_H
#define PGRELAY_CLIENT_DIALECT_DRP_H

#include "client/session.h"

extern const struct dialect dialect_drp;

#endif
