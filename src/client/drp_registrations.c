/* The block: one behind the other `seen`, the number of patterns, the text and a NUL. */
#include "config.h"
#include "client/drp_registrations.h"
#include "core/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define REGISTRATION_HEAD (sizeof(uint32_t) + 2 * sizeof(uint16_t)) /* seen, patterns, length */

void
drp_registrations_clear(struct drp_registrations *r)
{
	free(r->block);
	*r = (struct drp_registrations){NULL, 0, 0};
}

bool
drp_registrations_next(const struct drp_registrations *r, size_t *at, struct drp_registration *one)
{
	const char *p = r->block + *at;
	uint16_t len;

	if (*at == r->used)
		return false;
	memcpy(&one->seen, p, sizeof(one->seen));
	memcpy(&one->patterns, p + sizeof(one->seen), sizeof(one->patterns));
	memcpy(&len, p + sizeof(one->seen) + sizeof(one->patterns), sizeof(len));
	one->text = (struct slice){p + REGISTRATION_HEAD, len};
	*at += REGISTRATION_HEAD + len;
	return true;
}

/* Where it begins; r->used when it is not there. */
static size_t
drp_registrations_find(const struct drp_registrations *r, struct slice text)
{
	struct drp_registration one;
	size_t at = 0, begin = 0;

	for (; drp_registrations_next(r, &at, &one); begin = at)
		if (one.text.len == text.len && memcmp(one.text.ptr, text.ptr, text.len) == 0)
			return begin;
	return r->used;
}

bool
drp_registrations_has(const struct drp_registrations *r, struct slice text)
{
	return drp_registrations_find(r, text) < r->used;
}

void
drp_registrations_add(struct drp_registrations *r, const struct drp_registration *one)
{
	uint16_t len = (uint16_t)one->text.len;
	char *p;

	assert(one->text.len <= DRP_REGISTRATION_MAX);
	/* No room to spare: there are many sessions, and few registrations in most of them. */
	r->block = mem_resize(r->block, r->used + REGISTRATION_HEAD + len);
	p = r->block + r->used;
	p = mempcpy(p, &one->seen, sizeof(one->seen));
	p = mempcpy(p, &one->patterns, sizeof(one->patterns));
	p = mempcpy(p, &len, sizeof(len));
	memcpy(p, one->text.ptr, len);
	r->used += REGISTRATION_HEAD + len;
	r->patterns += one->patterns;
}

bool
drp_registrations_remove(struct drp_registrations *r, struct slice text)
{
	size_t begin = drp_registrations_find(r, text), end = begin;
	struct drp_registration one;

	if (!drp_registrations_next(r, &end, &one))
		return false;
	memmove(r->block + begin, r->block + end, r->used - end);
	r->used -= end - begin;
	r->patterns -= one.patterns;
	return true;
}

void
drp_registrations_see(struct drp_registrations *r, const struct drp_registration *one, uint32_t seen)
{
	memcpy(r->block + (one->text.ptr - r->block) - REGISTRATION_HEAD, &seen, sizeof(seen));
}
