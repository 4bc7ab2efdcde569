/* The AWX dialect (docs/protocol.md, section 4): groups in, flat JSON objects out. */
#ifndef PGRELAY_CLIENT_DIALECT_AWX_H
#define PGRELAY_CLIENT_DIALECT_AWX_H

#include "client/session.h"

extern const struct dialect dialect_awx;

/* The message of a refusal the AWX way. */
#define DIALECT_AWX_REFUSAL "{\"close\": true}"

#endif
