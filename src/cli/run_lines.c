/*
 * Octets into lines. `text` holds the line so far, always whole characters; `part` holds the octets of a
 * character that is not complete yet, so nothing depends on how the octets were cut into calls.
 */
#include "config.h"
#include "cli/run_lines.h"
#include "core/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RUN_LINES_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

struct run_lines {
	run_lines_take take;
	void *arg;
	char *text;
	size_t len, size;
	bool cut; /* a piece of this line is out */
	bool cr;  /* a CR has come that may belong to a line end */
	char part[4];
	size_t part_len, part_want;
	uint8_t next_min, next_max; /* what the next octet of part may be */
};

struct run_lines *
run_lines_new(run_lines_take take, void *arg)
{
	struct run_lines *l = mem_zalloc(sizeof(*l));

	l->take = take;
	l->arg = arg;
	return l;
}

void
run_lines_free(struct run_lines *l)
{
	if (l == NULL)
		return;
	free(l->text);
	free(l);
}

static void
run_lines_out(struct run_lines *l, bool whole)
{
	l->take(l->arg, l->len > 0 ? l->text : "", l->len, whole);
	l->len = 0;
	l->cut = !whole;
}

/* len octets that must not be cut apart. */
static void
run_lines_put(struct run_lines *l, const char *data, size_t len)
{
	if (l->len + len > RUN_LINE_MAX)
		run_lines_out(l, false);
	if (l->len + len > l->size) {
		l->size = l->size * 2 + len + 128;
		l->text = mem_resize(l->text, l->size);
	}
	memcpy(l->text + l->len, data, len);
	l->len += len;
}

static void
run_lines_put_cr(struct run_lines *l)
{
	if (l->cr)
		run_lines_put(l, "\r", 1);
	l->cr = false;
}

/* The character under way is complete, or will never be. */
static void
run_lines_close_part(struct run_lines *l)
{
	if (l->part_len == 0)
		return;
	if (l->part_len == l->part_want)
		run_lines_put(l, l->part, l->part_len);
	else
		run_lines_put(l, RUN_LINES_REPLACEMENT, 3);
	l->part_len = 0;
}

static void
run_lines_newline(struct run_lines *l)
{
	l->cr = false;
	run_lines_out(l, true);
}

/* The first octet of a character of several: the second one's range keeps out what is too long, surrogates,
 * and past U+10FFFF. */
static void
run_lines_lead(struct run_lines *l, uint8_t c)
{
	if (c < 0xc2 || c > 0xf4) {
		run_lines_put(l, RUN_LINES_REPLACEMENT, 3);
		return;
	}
	l->part[0] = (char)c;
	l->part_len = 1;
	l->part_want = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	l->next_min = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	l->next_max = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
}

static void
run_lines_octet(struct run_lines *l, uint8_t c)
{
	if (l->part_len > 0 && c >= l->next_min && c <= l->next_max) {
		l->part[l->part_len++] = (char)c;
		l->next_min = 0x80;
		l->next_max = 0xbf;
		if (l->part_len == l->part_want)
			run_lines_close_part(l);
		return;
	}
	run_lines_close_part(l);
	if (c == '\n') {
		run_lines_newline(l);
		return;
	}
	run_lines_put_cr(l);
	if (c == '\r')
		l->cr = true;
	else if (c == '\0')
		run_lines_put(l, RUN_LINES_REPLACEMENT, 3);
	else if (c < 0x80)
		run_lines_put(l, (const char *)&c, 1);
	else
		run_lines_lead(l, c);
}

/* How many octets from here are plain ASCII, none of them special. */
static size_t
run_lines_plain(const uint8_t *data, size_t len)
{
	size_t n = 0;

	while (n < len && data[n] >= 0x20 && data[n] < 0x80)
		n++;
	return n;
}

void
run_lines_feed(struct run_lines *l, const void *data, size_t len)
{
	const uint8_t *p = data, *end = p + len;

	while (p < end) {
		size_t room = RUN_LINE_MAX - l->len, plain = 0;

		if (l->part_len == 0 && !l->cr)
			plain = run_lines_plain(p, room < (size_t)(end - p) ? room : (size_t)(end - p));
		if (plain > 0)
			run_lines_put(l, (const char *)p, plain);
		else
			run_lines_octet(l, *p);
		p += plain > 0 ? plain : 1;
	}
}

void
run_lines_end(struct run_lines *l)
{
	run_lines_close_part(l);
	run_lines_put_cr(l);
	if (l->len > 0 || l->cut)
		run_lines_out(l, true);
}
