/* Times as RFC 3339 writes them. */
#ifndef PGRELAY_CORE_RFC3339_H
#define PGRELAY_CORE_RFC3339_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

#define RFC3339_SIZE 48

/* Microseconds since 1970, in UTC, with as many digits behind the second as are needed, as Go's RFC3339Nano has
 * it; returns the length. */
size_t rfc3339_format(int64_t us, char out[RFC3339_SIZE]);
/* Is it a time in this form, with up to nine such digits and any zone? */
bool rfc3339_is_valid(struct slice text);
/* Microseconds since 1970 by the system's clock. */
int64_t rfc3339_now_us(void);

#endif
