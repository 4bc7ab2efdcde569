/* Memory for many small objects: src/core/slab.c, against an array that knows what each object must hold. */
#include "config.h"
#include "core/slab.h"

#include "tap.h"

#define OBJECTS 40000
#define STEPS   400000
#define MAX     600 /* octets; the largest ones are malloc's */

static struct object {
	uint8_t *ptr; /* NULL: there is none */
	size_t size;
	uint8_t octet; /* which it is full of */
} objects[OBJECTS];

static uint32_t
random_below(uint32_t n)
{
	static uint32_t state = 2463534242;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % n;
}

/* Mostly of a few sizes, as patterns are. */
static void
object_make(struct object *o)
{
	o->size = random_below(4) > 0 ? 100 + random_below(24) : random_below(MAX + 1);
	o->octet = (uint8_t)random_below(256);
	o->ptr = slab_alloc(o->size);
	memset(o->ptr, o->octet, o->size);
}

static bool
object_is_whole(const struct object *o)
{
	for (size_t i = 0; i < o->size; i++)
		if (o->ptr[i] != o->octet)
			return false;
	return true;
}

static void
object_drop(struct object *o)
{
	slab_free(o->ptr, o->size);
	o->ptr = NULL;
}

static int
object_compare(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	return x->ptr < y->ptr ? -1 : x->ptr > y->ptr;
}

static bool
objects_are_apart(void)
{
	qsort(objects, OBJECTS, sizeof(objects[0]), object_compare);
	for (size_t i = 1; i < OBJECTS; i++)
		if (objects[i - 1].ptr != NULL && objects[i - 1].ptr + objects[i - 1].size > objects[i].ptr)
			return false;
	return true;
}

static void
test_at_random(void)
{
	bool whole = true, aligned = true;

	for (int step = 0; step < STEPS; step++) {
		struct object *o = &objects[random_below(OBJECTS)];

		if (o->ptr == NULL) {
			object_make(o);
			aligned = aligned && (uintptr_t)o->ptr % 8 == 0;
		} else {
			whole = whole && object_is_whole(o);
			object_drop(o);
		}
	}
	ok(whole, "an object keeps its octets, whatever comes and goes beside it");
	ok(aligned, "all are aligned to 8 octets");
	ok(objects_are_apart(), "none lies in another one");
}

static void
test_all_and_none(void)
{
	bool whole = true;

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < OBJECTS; i++)
			if (objects[i].ptr == NULL)
				object_make(&objects[i]);
		for (size_t i = 0; i < OBJECTS; i++) {
			whole = whole && object_is_whole(&objects[i]);
			object_drop(&objects[i]);
		}
	}
	ok(whole, "all are there, then none, and again");
}

#ifndef __SANITIZE_ADDRESS__
static void
test_again(void)
{
	void *other = slab_alloc(113), *first = slab_alloc(117), *second;

	slab_free(first, 117);
	second = slab_alloc(120);
	ok(second == first, "the place of a released object is the next one's");
	slab_free(second, 120);
	slab_free(other, 113);
}
#endif

int
main(void)
{
	test_at_random();
	test_all_and_none();
#ifndef __SANITIZE_ADDRESS__
	test_again();
#endif
	return tap_end();
}
