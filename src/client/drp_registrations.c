/* The block: heads, each with its text behind it. */
#include "config.h"
#include "client/drp_registrations.h"
#include "core/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct registration_head {
	uint32_t seen, allowed;
	uint16_t patterns, len;
};

void
drp_registrations_clear(struct drp_registrations *r)
{
	free(r->block);
	*r = (struct drp_registrations){NULL, 0, 0, 0};
}

bool
drp_registrations_next(const struct drp_registrations *r, size_t *at, struct drp_registration *one)
{
	const char *p = r->block + *at;
	struct registration_head head;

	if (*at == r->used)
		return false;
	memcpy(&head, p, sizeof(head));
	*one =
	    (struct drp_registration){{p + sizeof(head), head.len}, head.patterns, head.seen, head.allowed};
	*at += sizeof(head) + head.len;
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
	struct registration_head head = {one->seen, one->allowed, one->patterns, (uint16_t)one->text.len};
	char *p;

	assert(one->text.len <= DRP_REGISTRATION_MAX);
	/* No room to spare: there are many sessions, and few registrations in most of them. */
	r->block = mem_resize(r->block, r->used + sizeof(head) + head.len);
	p = mempcpy(r->block + r->used, &head, sizeof(head));
	memcpy(p, one->text.ptr, head.len);
	r->used += sizeof(head) + head.len;
	r->patterns += one->patterns;
	r->allowed += one->allowed;
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
	r->allowed -= one.allowed;
	return true;
}

void
drp_registrations_see(
    struct drp_registrations *r, const struct drp_registration *one, uint32_t seen, uint32_t allowed)
{
	struct registration_head head = {seen, allowed, one->patterns, (uint16_t)one->text.len};

	r->allowed = r->allowed - one->allowed + allowed;
	memcpy(r->block + (one->text.ptr - r->block) - sizeof(head), &head, sizeof(head));
}
