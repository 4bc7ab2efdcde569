/*
 * Memory for very many small objects, of whatever sizes: none is spent on each by itself, and what is short-lived
 * leaves no holes between them, for they lie apart from it.
 */
#ifndef PGRELAY_CORE_SLAB_H
#define PGRELAY_CORE_SLAB_H

#include <stddef.h>

/* Cannot fail, as mem_alloc(). Aligned to 8 octets. */
void *slab_alloc(size_t size);
/* size is what it was allocated with. */
void slab_free(void *ptr, size_t size);

#endif
