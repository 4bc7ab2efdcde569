/*
 * A slab holds objects of one size, a multiple of SLAB_UNIT. An area is a row of slabs. Both begin at multiples of
 * their sizes: so the address of an object tells where its slab is, and where the area.
 *
 * Invariant: each slab of an area is full, or in the list of its objects' size, or, without objects, in the list
 * of empty ones. An area without objects is released. With AddressSanitizer each object is malloc's, for that one
 * to watch.
 */
#include "config.h"
#include "core/slab.h"
#include "core/log.h"
#include "core/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/queue.h>

#define SLAB_UNIT    8
#define SLAB_MAX     512 /* octets of an object; a larger one is malloc's */
#define SLAB_CLASSES (SLAB_MAX / SLAB_UNIT + 1)
#define SLAB_SIZE    ((size_t)32 * 1024)
#define SLAB_COUNT   32 /* of an area */
#define SLAB_AREA    (SLAB_COUNT * SLAB_SIZE)

#ifdef __SANITIZE_ADDRESS__
#define SLAB_IS_OFF true
#else
#define SLAB_IS_OFF false
#endif

struct slab_hole {
	struct slab_hole *next;
};

struct slab {
	LIST_ENTRY(slab) entry; /* unless it is full */
	struct slab_hole *holes;
	uint32_t object_size;
	uint32_t objects;
	uint32_t end;        /* of the octets that have been used */
	uint32_t area_slabs; /* that have objects; in the area's first slab */
};

_Static_assert(sizeof(struct slab) % SLAB_UNIT == 0, "the objects behind it are aligned");

LIST_HEAD(slab_list, slab);
static struct slab_list slab_lists[SLAB_CLASSES], slab_empty;

/* ---- areas ---- */

static struct slab *
slab_at(void *ptr, size_t size)
{
	return (struct slab *)((uintptr_t)ptr & ~(uintptr_t)(size - 1));
}

static void
slab_new_area(void)
{
	char *area = aligned_alloc(SLAB_AREA, SLAB_AREA);

	if (area == NULL)
		log_fatal("out of memory");
	((struct slab *)(void *)area)->area_slabs = 0;
	for (size_t i = SLAB_COUNT; i-- > 0;)
		LIST_INSERT_HEAD(&slab_empty, (struct slab *)(void *)(area + i * SLAB_SIZE), entry);
}

static void
slab_free_area(struct slab *area)
{
	for (size_t i = 0; i < SLAB_COUNT; i++) {
		struct slab *s = (struct slab *)(void *)((char *)area + i * SLAB_SIZE);

		LIST_REMOVE(s, entry);
	}
	free(area);
}

static struct slab *
slab_new(size_t class)
{
	struct slab *s;

	if (LIST_EMPTY(&slab_empty))
		slab_new_area();
	s = LIST_FIRST(&slab_empty);
	LIST_REMOVE(s, entry);
	slab_at(s, SLAB_AREA)->area_slabs++;
	s->holes = NULL;
	s->object_size = (uint32_t)(class * SLAB_UNIT);
	s->objects = 0;
	s->end = sizeof(*s);
	LIST_INSERT_HEAD(&slab_lists[class], s, entry);
	return s;
}

static void
slab_release(struct slab *s)
{
	struct slab *area = slab_at(s, SLAB_AREA);

	LIST_REMOVE(s, entry);
	LIST_INSERT_HEAD(&slab_empty, s, entry);
	if (--area->area_slabs == 0)
		slab_free_area(area);
}

/* ---- objects ---- */

static size_t
slab_class(size_t size)
{
	return (size + SLAB_UNIT - 1) / SLAB_UNIT;
}

static bool
slab_has_room(const struct slab *s)
{
	return s->holes != NULL || s->end + s->object_size <= SLAB_SIZE;
}

static void *
slab_take(struct slab *s)
{
	void *object = s->holes;

	if (object != NULL) {
		s->holes = s->holes->next;
	} else {
		object = (char *)s + s->end;
		s->end += s->object_size;
	}
	s->objects++;
	return object;
}

void *
slab_alloc(size_t size)
{
	size_t class = slab_class(size);
	struct slab *s;
	void *object;

	if (SLAB_IS_OFF || class == 0 || class >= SLAB_CLASSES)
		return mem_alloc(size);
	s = LIST_FIRST(&slab_lists[class]);
	if (s == NULL)
		s = slab_new(class);
	object = slab_take(s);
	if (!slab_has_room(s))
		LIST_REMOVE(s, entry);
	return object;
}

void
slab_free(void *ptr, size_t size)
{
	size_t class = slab_class(size);
	struct slab_hole *hole = ptr;
	struct slab *s;

	if (SLAB_IS_OFF || class == 0 || class >= SLAB_CLASSES) {
		free(ptr);
		return;
	}
	s = slab_at(ptr, SLAB_SIZE);
	if (!slab_has_room(s))
		LIST_INSERT_HEAD(&slab_lists[class], s, entry);
	hole->next = s->holes;
	s->holes = hole;
	if (--s->objects == 0)
		slab_release(s);
}
