/* Octets in somebody else's buffer, and what parsers of lines do with them. Nothing allocates or copies. */
#ifndef PGRELAY_CORE_SLICE_H
#define PGRELAY_CORE_SLICE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Not ended by a NUL. */
struct slice {
	const char *ptr;
	size_t len;
};

/* The eight octets that p begins with, the first in the lowest. */
static inline uint64_t
slice_load_eight(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* Cuts s at the first c: head gets what stands before it. False when there is none. */
static inline bool
slice_cut(struct slice *s, char c, struct slice *head)
{
	const char *at = s->len > 0 ? memchr(s->ptr, c, s->len) : NULL;

	if (at == NULL)
		return false;
	*head = (struct slice){s->ptr, (size_t)(at - s->ptr)};
	s->len -= head->len + 1;
	s->ptr = at + 1;
	return true;
}

/* The same for the next field of a line, which may be the last; false when it is empty. */
bool slice_next(struct slice *line, struct slice *field);

bool slice_is(struct slice s, const char *text);
/* Octets of the UTF-8 character that it begins with (RFC 3629); 0: it begins with none. */
size_t slice_utf8_octets(struct slice s);
bool slice_is_utf8(struct slice s);
/* So many lower-case hexadecimal digits? */
bool slice_is_hex(struct slice s, size_t digits);
/* Digits only, no sign, within int64_t. */
bool slice_to_int64(struct slice s, int64_t *out);

#endif
