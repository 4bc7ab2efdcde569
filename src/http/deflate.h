/*
 * permessage-deflate (RFC 7692), without context take-over: a message is compressed by itself, so once for all who
 * get it. zlib's header enters through deflate.c alone; in a build without zlib nothing is ever taken or compressed.
 */
#ifndef PGRELAY_HTTP_DEFLATE_H
#define PGRELAY_HTTP_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/slice.h"

#define DEFLATE_MAX (256 * 1024) /* octets of a message that is compressed, at most: it holds up the loop */

/* Is zlib there? */
bool deflate_is_built_in(void);

/* What to answer to a client's Sec-WebSocket-Extensions (NULL: it sent none); NULL when nothing of it is taken. */
const char *deflate_negotiate(const char *offers);

/* Compresses the parts, in a row. False when that gains nothing. *out is valid until the next call. */
bool deflate_compress(const struct slice *parts, int count, struct slice *out);

enum deflate_result { DEFLATE_OK, DEFLATE_TOO_BIG, DEFLATE_CORRUPT };
/* A message back as it was, of at most max octets; valid until the next call. */
enum deflate_result deflate_expand(struct slice in, size_t max, struct slice *out);

/* Lets go of the memory that is kept from call to call. */
void deflate_free(void);

#endif
