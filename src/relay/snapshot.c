/* PostgreSQL's snapshots. */
#include "config.h"
#include "relay/snapshot.h"
#include "core/decimal.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

static bool
snapshot_take_number(struct slice *rest, uint64_t *number)
{
	uint64_t n = 0;
	size_t i = 0;

	for (; i < rest->len && rest->ptr[i] >= '0' && rest->ptr[i] <= '9'; i++) {
		if (n > (INT64_MAX - 9) / 10) /* SQL reckons with them as bigint */
			return false;
		n = n * 10 + (uint64_t)(rest->ptr[i] - '0');
	}
	*rest = (struct slice){rest->ptr + i, rest->len - i};
	*number = n;
	return i > 0;
}

static bool
snapshot_take(struct slice *rest, char c)
{
	if (rest->len == 0 || *rest->ptr != c)
		return false;
	*rest = (struct slice){rest->ptr + 1, rest->len - 1};
	return true;
}

/*
 * A 64-bit transaction id is an epoch and a 32-bit one, which is never 0: PostgreSQL refuses such a snapshot.
 */
static bool
snapshot_is_xid(uint64_t xid)
{
	return (uint32_t)xid != 0;
}

bool
snapshot_parse(struct snapshot *snapshot, struct slice text)
{
	struct snapshot s = {0};

	if (text.len > SNAPSHOT_TEXT_MAX || !snapshot_take_number(&text, &s.xmin) ||
	    !snapshot_take(&text, ':') || !snapshot_take_number(&text, &s.xmax) ||
	    !snapshot_take(&text, ':') || !snapshot_is_xid(s.xmin) || !snapshot_is_xid(s.xmax) ||
	    s.xmax < s.xmin)
		return false;
	s.xip = mem_alloc(sizeof(*s.xip) * (text.len / 2 + 1));
	while (text.len > 0) {
		uint64_t xid;

		if ((s.count > 0 && !snapshot_take(&text, ',')) || !snapshot_take_number(&text, &xid) ||
		    xid < s.xmin || xid >= s.xmax || (s.count > 0 && xid <= s.xip[s.count - 1])) {
			free(s.xip);
			return false;
		}
		s.xip[s.count++] = xid;
	}
	snapshot_clear(snapshot);
	*snapshot = s;
	return true;
}

struct snapshot_out {
	char *p, *end;
};

/* What does not fit ends it. */
static void
snapshot_put(struct snapshot_out *out, const char *text, size_t len)
{
	if ((size_t)(out->end - out->p) < len) {
		out->p = out->end;
		return;
	}
	memcpy(out->p, text, len);
	out->p += len;
}

static void
snapshot_put_number(struct snapshot_out *out, uint64_t number, const char *behind)
{
	char text[DECIMAL_MAX];

	snapshot_put(out, text, decimal_write(text, number));
	snapshot_put(out, behind, strlen(behind));
}

size_t
snapshot_write(const struct snapshot *s, char *text, size_t size)
{
	struct snapshot_out out = {text, text + size};

	snapshot_put_number(&out, s->xmin, ":");
	snapshot_put_number(&out, s->xmax, ":");
	for (size_t i = 0; i < s->count; i++)
		snapshot_put_number(&out, s->xip[i], i + 1 < s->count ? "," : "");
	return (size_t)(out.p - text);
}

char *
snapshot_text(const struct snapshot *s)
{
	size_t size = (s->count + 2) * (DECIMAL_MAX + 1) + 1;
	char *text = mem_alloc(size);

	text[snapshot_write(s, text, size)] = '\0';
	return text;
}

void
snapshot_copy(struct snapshot *to, const struct snapshot *from)
{
	uint64_t *xip = mem_alloc(sizeof(*xip) * (from->count + 1));

	if (from->count > 0)
		memcpy(xip, from->xip, sizeof(*xip) * from->count);
	free(to->xip);
	*to = *from;
	to->xip = xip;
}

void
snapshot_clear(struct snapshot *s)
{
	free(s->xip);
	*s = (struct snapshot){0};
}

bool
snapshot_is_set(const struct snapshot *s)
{
	return s->xmax != 0;
}

bool
snapshot_is_equal(const struct snapshot *s, const struct snapshot *other)
{
	return s->xmin == other->xmin && s->xmax == other->xmax && s->count == other->count &&
	       (s->count == 0 || memcmp(s->xip, other->xip, s->count * sizeof(*s->xip)) == 0);
}

static int
snapshot_compare(const void *key, const void *member)
{
	uint64_t a = *(const uint64_t *)key, b = *(const uint64_t *)member;

	return a < b ? -1 : a > b;
}

static bool
snapshot_has_in_progress(const struct snapshot *s, uint64_t xid)
{
	return s->count > 0 && bsearch(&xid, s->xip, s->count, sizeof(*s->xip), snapshot_compare) != NULL;
}

bool
snapshot_sees(const struct snapshot *s, uint64_t xid)
{
	return xid < s->xmin || (xid < s->xmax && !snapshot_has_in_progress(s, xid));
}

void
snapshot_intersect(struct snapshot *s, const struct snapshot *other)
{
	struct snapshot both = {s->xmin < other->xmin ? s->xmin : other->xmin,
	    s->xmax < other->xmax ? s->xmax : other->xmax, NULL, 0};
	size_t i = 0, j = 0;

	both.xip = mem_alloc(sizeof(*both.xip) * (s->count + other->count + 1));
	while (i < s->count || j < other->count) {
		uint64_t a = i < s->count ? s->xip[i] : UINT64_MAX,
			 b = j < other->count ? other->xip[j] : UINT64_MAX;
		uint64_t xid = a < b ? a : b;

		i += a == xid;
		j += b == xid;
		if (xid < both.xmax)
			both.xip[both.count++] = xid;
	}
	free(s->xip);
	*s = both;
}

bool
snapshot_covers(const struct snapshot *s, const struct snapshot *other)
{
	if (other->xmax > s->xmax)
		return false;
	for (size_t i = 0; i < s->count; i++)
		if (snapshot_sees(other, s->xip[i]))
			return false;
	return true;
}
