/* Slices. Invariant: whatever stands in one, no octet outside of it is read. */
#include "config.h"
#include "core/slice.h"

#include <string.h>

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

		if (digit < 0 || digit > 9 || (i == 18 && n > (INT64_MAX - digit) / 10))
			return false; /* the 19th digit alone can be too much */
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

size_t
slice_utf8_octets(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	size_t len;

	if (s.len == 0 || p[0] < 0x80)
		return s.len > 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < len || (p[0] == 0xe0 && p[1] < 0xa0) ||
	    (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool
slice_is_utf8(struct slice s)
{
	while (s.len > 0) {
		size_t len = slice_utf8_octets(s);

		if (len == 0)
			return false;
		s.ptr += len;
		s.len -= len;
	}
	return true;
}
