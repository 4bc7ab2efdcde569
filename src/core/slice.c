/* Slices. Invariant: whatever stands in one, no octet outside of it is read. */
#include "config.h"
#include "core/slice.h"

#include <string.h>

bool
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

bool
slice_next(struct slice *line, struct slice *field)
{
	if (!slice_cut(line, ' ', field)) {
		*field = *line;
		*line = (struct slice){line->ptr + line->len, 0};
	}
	return field->len > 0;
}

bool
slice_is(struct slice s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

bool
slice_is_hex(struct slice s, size_t digits)
{
	if (s.len != digits)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!((s.ptr[i] >= '0' && s.ptr[i] <= '9') || (s.ptr[i] >= 'a' && s.ptr[i] <= 'f')))
			return false;
	return true;
}

bool
slice_to_int64(struct slice s, int64_t *out)
{
	int64_t n = 0;

	if (s.len == 0 || s.len > 19)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		int digit = s.ptr[i] - '0';

		if (digit < 0 || digit > 9 || n > (INT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}
