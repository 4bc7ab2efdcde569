/* PostgreSQL's snapshots: src/relay/snapshot.c, against a list of transactions and a small server. */
#include "config.h"
#include "core/mem.h"
#include "relay/snapshot.h"

#include "tap.h"

#include <inttypes.h>

#define TEXT(s) s, sizeof(s) - 1

/* Parses a copy of just this size into *s. */
static bool
parse(struct snapshot *s, const char *text, size_t len)
{
	char *copy = tap_copy(text, len);
	bool good = snapshot_parse(s, (struct slice){copy, len});

	free(copy);
	return good;
}

static struct snapshot
snapshot_of(const char *text)
{
	struct snapshot s = {0};

	if (!parse(&s, text, strlen(text)))
		abort();
	return s;
}

static bool
snapshot_is(const struct snapshot *s, const char *want)
{
	char *text = snapshot_text(s);
	bool same = strcmp(text, want) == 0;

	if (!same)
		diag("got %s, wanted %s", text, want);
	free(text);
	return same;
}

/* ---- text ---- */

static const struct parse_row {
	const char *text;
	size_t len;
	const char *want; /* NULL: no snapshot */
} parse_rows[] = {
    {TEXT("10:10:"), "10:10:"},
    {TEXT("10:20:"), "10:20:"},
    {TEXT("10:20:10"), "10:20:10"},
    {TEXT("10:20:10,11,19"), "10:20:10,11,19"},
    {TEXT("1:2:1"), "1:2:1"},
    {TEXT("010:020:011"), "10:20:11"},
    {TEXT("4294967295:4294967297:4294967296"), "4294967295:4294967297:4294967296"},
    {TEXT("9223372036854775799:9223372036854775807:9223372036854775806"), NULL}, /* too near bigint's end */
    {TEXT("9223372036854775790:9223372036854775799:9223372036854775791"),
	"9223372036854775790:9223372036854775799:9223372036854775791"},
    {TEXT("10:9223372036854775808:"), NULL},
    {TEXT("9223372036854775809:9223372036854775809:"), NULL},
    {TEXT("18446744073709551609:18446744073709551609:"), NULL},
    {TEXT(""), NULL},
    {TEXT(":"), NULL},
    {TEXT("::"), NULL},
    {TEXT("10"), NULL},
    {TEXT("10:"), NULL},
    {TEXT("10:20"), NULL},
    {TEXT("10::"), NULL},
    {TEXT(":20:"), NULL},
    {TEXT("10:20::"), NULL},
    {TEXT("10:20:15:"), NULL},
    {TEXT("0:20:"), NULL},
    {TEXT("0:0:"), NULL},
    {TEXT("20:10:"), NULL},
    {TEXT("10:20:,"), NULL},
    {TEXT("10:20:,15"), NULL},
    {TEXT("10:20:15,"), NULL},
    {TEXT("10:20:15,,16"), NULL},
    {TEXT("10:20:9"), NULL},
    {TEXT("10:20:0"), NULL},
    {TEXT("10:20:20"), NULL},
    {TEXT("10:10:10"), NULL},
    {TEXT("10:20:16,15"), NULL},
    {TEXT("10:20:15,15"), NULL},
    {TEXT(" 10:20:"), NULL},
    {TEXT("10 :20:"), NULL},
    {TEXT("10:20: "), NULL},
    {TEXT("10:20:15 "), NULL},
    {TEXT("10:20:15\n"), NULL},
    {TEXT("10:20:\0"), NULL},
    {TEXT("10:20:15\0"), NULL},
    {TEXT("10\0:20:"), NULL},
    {TEXT("+10:20:"), NULL},
    {TEXT("-10:20:"), NULL},
    {TEXT("10:-20:"), NULL},
    {TEXT("10:20:-15"), NULL},
    {TEXT("10:20:0x0f"), NULL},
    {TEXT("10:1e3:"), NULL},
    {TEXT("10,20,"), NULL},
    {TEXT("10:20:15:16"), NULL},
    {TEXT("10:20:15;16"), NULL},
    {TEXT("18446744073709551616:18446744073709551617:"), NULL},
    {TEXT("10:18446744073709551616:"), NULL},
    {TEXT("18446744073709551619:20:"), NULL}, /* 3 modulo 2^64 */
    {TEXT("10:184467440737095516150:"), NULL},
    {TEXT("10:20:36893488147419103247"), NULL}, /* 15 modulo 2^65 */
    {TEXT("4294967296:4294967297:"), NULL},     /* PostgreSQL: the xid 0 of an epoch is none */
    {TEXT("4294967295:4294967296:"), NULL},
    {TEXT("8589934592:8589934592:"), NULL},
};

static void
test_parsing(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(parse_rows); i++) {
		const struct parse_row *row = &parse_rows[i];
		struct snapshot s = {0}, before = snapshot_of("5:9:6,8");
		bool good = parse(&s, row->text, row->len);

		if (row->want != NULL) {
			ok(good && snapshot_is(&s, row->want), "\"%s\" is a snapshot", row->text);
			ok(parse(&before, row->text, row->len) && snapshot_is(&before, row->want),
			    "and replaces another one");
		} else {
			ok(!good && !snapshot_is_set(&s), "\"%s\" is no snapshot", row->text);
			ok(!parse(&before, row->text, row->len) && snapshot_is(&before, "5:9:6,8"),
			    "and leaves another one as it is");
		}
		snapshot_clear(&s);
		snapshot_clear(&before);
	}
}

/* The longest text that is taken: XIDs of five octets, then what is missing in leading zeros. */
static char *
long_text(size_t len)
{
	char *text = mem_alloc(len + 8);
	size_t n = (size_t)sprintf(text, "1000:9999:"), zeros;

	for (int xid = 1000; n + 10 <= len; xid++)
		n += (size_t)sprintf(text + n, "%d,", xid);
	for (zeros = len - n - 4; zeros > 0; zeros--)
		text[n++] = '0';
	sprintf(text + n, "%d", 9998);
	return text;
}

static void
test_length(void)
{
	char *text = long_text(SNAPSHOT_TEXT_MAX), *more = long_text(SNAPSHOT_TEXT_MAX + 1);
	struct snapshot s = {0};

	if (strlen(text) != SNAPSHOT_TEXT_MAX || strlen(more) != SNAPSHOT_TEXT_MAX + 1)
		abort();
	ok(parse(&s, text, SNAPSHOT_TEXT_MAX), "a snapshot of %d octets", SNAPSHOT_TEXT_MAX);
	ok(s.count > 1000 && !snapshot_sees(&s, 1000) && snapshot_sees(&s, 9997) && !snapshot_sees(&s, 9998),
	    "has all its transactions, %zu", s.count);
	ok(!parse(&s, more, SNAPSHOT_TEXT_MAX + 1), "one more octet is too many");
	snapshot_clear(&s);
	free(text);
	free(more);
}

/* Is it written where it fits, and nothing behind its end in any case? */
static bool
writes_within(const struct snapshot *s, const char *want, size_t size)
{
	size_t len = strlen(want), n;
	char out[64];

	memset(out, '!', sizeof(out));
	n = snapshot_write(s, out, size);
	for (size_t i = size; i < sizeof(out); i++)
		if (out[i] != '!')
			return false;
	return size > len ? n == len && memcmp(out, want, len) == 0 && out[len] == '!' : n == size;
}

static void
test_sizes(void)
{
	static const char *const texts[] = {"10:20:", "10:20:12", "10:20:12,15,17"};
	bool right = true;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct snapshot s = snapshot_of(texts[i]);

		for (size_t size = 0; size <= strlen(texts[i]) + 2; size++)
			right = writes_within(&s, texts[i], size) && right;
		snapshot_clear(&s);
	}
	ok(right, "what does not fit is not written");
}

static void
test_equal(void)
{
	struct snapshot a = snapshot_of("10:20:12,15"), b = {0}, none = {0};

	snapshot_copy(&b, &a);
	ok(snapshot_is_equal(&a, &b) && snapshot_is_equal(&none, &none) && !snapshot_is_equal(&a, &none),
	    "a copy is equal, and none only to none");
	b.xip[1] = 16;
	ok(!snapshot_is_equal(&a, &b), "another transaction in progress makes another snapshot");
	b.xip[1] = 15;
	b.count = 1;
	ok(!snapshot_is_equal(&a, &b), "so does one less");
	snapshot_clear(&b);
	b = snapshot_of("10:21:12,15");
	ok(!snapshot_is_equal(&a, &b), "or another end");
	snapshot_clear(&b);
	b = snapshot_of("11:20:12,15");
	ok(!snapshot_is_equal(&a, &b), "or beginning");
	snapshot_clear(&a);
	snapshot_clear(&b);
}

static void
test_copies(void)
{
	struct snapshot none = {0}, a = snapshot_of("10:20:12,15"), b = {0};

	ok(!snapshot_is_set(&none) && snapshot_is_set(&a), "zeroed it is none, parsed it is one");
	snapshot_copy(&b, &a);
	snapshot_clear(&a);
	ok(snapshot_is(&b, "10:20:12,15") && !snapshot_is_set(&a),
	    "a copy stays when the first one is cleared");
	snapshot_copy(&b, &b);
	ok(snapshot_is(&b, "10:20:12,15"), "a copy of itself is itself");
	snapshot_copy(&b, &none);
	ok(!snapshot_is_set(&b) && !snapshot_sees(&b, 1), "a copy of none is none, and sees nothing");
	snapshot_clear(&b);
	snapshot_clear(&b);
	ok(!snapshot_is_set(&b), "clearing twice is harmless");
}

/* ---- octets at random ---- */

/* Taken, it is the text that it was parsed from, but for leading zeros. */
static bool
parse_is_sound(const char *text, size_t len, bool *taken)
{
	struct snapshot s = {0};
	size_t i = 0, j = 0;
	char *back;

	*taken = parse(&s, text, len);
	if (!*taken)
		return !snapshot_is_set(&s) && s.xip == NULL;
	back = snapshot_text(&s);
	for (; i < len; i++) {
		bool starts = i == 0 || text[i - 1] < '0' || text[i - 1] > '9';

		if (text[i] == back[j])
			j++;
		else if (text[i] != '0' || !(starts || text[i - 1] == '0'))
			break;
	}
	free(back);
	snapshot_clear(&s);
	return i == len;
}

static void
test_mutations(void)
{
	static const char base[] = "812:4294967301:813,900,4294967300";
	static const char alphabet[] = "0123456789:,. -\0";
	struct tap_random random = {1996};
	char text[sizeof(base) + 8];
	bool right = true, taken;
	size_t total = 0, good = 0;

	for (size_t at = 0; at < sizeof(base) - 1; at++) {
		for (int c = 0; c < 256; c++) {
			memcpy(text, base, sizeof(base));
			text[at] = (char)c;
			right = parse_is_sound(text, sizeof(base) - 1, &taken) && right;
			good += taken;
			total++;
		}
	}
	ok(right && good > 0 && good < total, "every octet at every position: %zu of %zu are snapshots", good,
	    total);
	total = good = 0;
	diag("seed 1996");
	for (int round = 0; round < 50000; round++) {
		size_t len = sizeof(base) - 1;

		memcpy(text, base, sizeof(base));
		for (uint32_t n = 1 + tap_random(&random, 3); n > 0; n--) {
			size_t at = tap_random(&random, (uint32_t)len);

			if (tap_random(&random, 3) == 0 && len < sizeof(text)) {
				memmove(text + at + 1, text + at, len++ - at);
				text[at] = alphabet[tap_random(&random, sizeof(alphabet) - 1)];
			} else if (tap_random(&random, 2) == 0 && len > 1) {
				memmove(text + at, text + at + 1, --len - at);
			} else {
				text[at] = alphabet[tap_random(&random, sizeof(alphabet) - 1)];
			}
		}
		right = parse_is_sound(text, len, &taken) && right;
		good += taken;
		total++;
	}
	ok(right && good > 0 && good < total, "random changes: %zu of %zu are snapshots", good, total);
}

/* ---- what it sees ---- */

static bool
naive_sees(const struct snapshot *s, uint64_t xid)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->xip[i] == xid)
			return false;
	return xid < s->xmax;
}

static void
test_seeing(void)
{
	struct snapshot s = snapshot_of("10:20:10,12,18");

	ok(snapshot_sees(&s, 9) && snapshot_sees(&s, 3), "below xmin all is seen");
	ok(!snapshot_sees(&s, 20) && !snapshot_sees(&s, 21) && !snapshot_sees(&s, UINT64_MAX),
	    "from xmax on nothing is");
	ok(snapshot_sees(&s, 11) && snapshot_sees(&s, 19) && !snapshot_sees(&s, 10) &&
		!snapshot_sees(&s, 12) && !snapshot_sees(&s, 18),
	    "between them what was not in progress");
	snapshot_clear(&s);
}

/* A server's transactions, one after the other; some take long. */
#define XIDS 400

struct server {
	uint64_t next; /* xid; they start at 3 */
	bool done[XIDS];
};

static void
server_run(struct server *sv, struct tap_random *random)
{
	for (uint32_t n = tap_random(random, 4); n > 0 && sv->next < XIDS; n--)
		sv->next++;
	for (uint32_t n = tap_random(random, 5); n > 0; n--) {
		uint64_t xid = 3 + tap_random(random, (uint32_t)(sv->next - 2));

		if (xid < sv->next)
			sv->done[xid] = true;
	}
}

/* As GetSnapshotData() makes it: xmax is behind the last transaction that is done. */
static struct snapshot
server_snapshot(const struct server *sv)
{
	struct snapshot s = {0};
	char text[SNAPSHOT_TEXT_MAX];
	uint64_t xmax = 3, xmin;
	size_t n;

	for (uint64_t xid = 3; xid < sv->next; xid++)
		if (sv->done[xid])
			xmax = xid + 1;
	for (xmin = 3; xmin < xmax && sv->done[xmin];)
		xmin++;
	n = (size_t)sprintf(text, "%" PRIu64 ":%" PRIu64 ":", xmin, xmax);
	for (uint64_t xid = xmin, first = true; xid < xmax; xid++)
		if (!sv->done[xid]) {
			n += (size_t)sprintf(text + n, first ? "%" PRIu64 : ",%" PRIu64, xid);
			first = false;
		}
	if (!parse(&s, text, n))
		abort();
	return s;
}

static bool
naive_covers(const struct snapshot *s, const struct snapshot *other)
{
	for (uint64_t xid = 1; xid < XIDS + 2; xid++)
		if (naive_sees(other, xid) && !naive_sees(s, xid))
			return false;
	return true;
}

static bool
snapshot_is_server(const struct snapshot *s, const struct server *sv)
{
	for (uint64_t xid = 1; xid < XIDS; xid++)
		if (snapshot_sees(s, xid) != (xid < 3 || sv->done[xid]))
			return false;
	return true;
}

static void
test_server(void)
{
	struct tap_random random = {1989};
	bool sees = true, covers = true, backwards = true;
	size_t equal = 0, older = 0;

	diag("seed 1989");
	for (int round = 0; round < 60; round++) {
		struct server sv = {.next = 3};
		struct snapshot all[40];

		for (size_t i = 0; i < ARRAY_LENGTH(all); i++) {
			server_run(&sv, &random);
			all[i] = server_snapshot(&sv);
			sees = sees && snapshot_is_server(&all[i], &sv);
			for (size_t j = 0; j <= i; j++) {
				bool back = naive_covers(&all[j], &all[i]);

				covers = covers && snapshot_covers(&all[i], &all[j]);
				backwards = backwards && snapshot_covers(&all[j], &all[i]) == back;
				equal += back && j < i;
				older += !back;
			}
		}
		for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
			snapshot_clear(&all[i]);
	}
	ok(sees, "a snapshot sees what was done when it was taken, and nothing else");
	ok(covers, "a later snapshot covers each earlier one, and itself");
	ok(backwards && equal > 0 && older > 0,
	    "an earlier one covers a later one only when both see the same: %zu did, %zu did not", equal,
	    older);
}

/* Of any two, also such as no one server has: never covered, unless all of it is seen. */
static void
test_any_pair(void)
{
	struct tap_random random = {42};
	struct snapshot none = {0};
	size_t covered = 0, exact = 0;
	bool right = true;

	diag("seed 42");
	for (int round = 0; round < 30000; round++) {
		struct snapshot pair[2] = {{0}};

		for (int i = 0; i < 2; i++) {
			uint64_t xmin = 3 + tap_random(&random, 6), xmax = xmin + tap_random(&random, 6);
			char text[100];
			size_t n = (size_t)sprintf(text, "%" PRIu64 ":%" PRIu64 ":", xmin, xmax), start = n;

			for (uint64_t xid = xmin; xid < xmax; xid++)
				if (tap_random(&random, 3) == 0)
					n += (size_t)sprintf(
					    text + n, n > start ? ",%" PRIu64 : "%" PRIu64, xid);
			if (!parse(&pair[i], text, n))
				abort();
		}
		if (snapshot_covers(&pair[0], &pair[1])) {
			covered++;
			right = right && naive_covers(&pair[0], &pair[1]);
		} else {
			exact += !naive_covers(&pair[0], &pair[1]);
		}
		for (uint64_t xid = 1; xid < 20; xid++)
			right = right && snapshot_sees(&pair[0], xid) == naive_sees(&pair[0], xid);
		right = right && snapshot_covers(&pair[0], &none) && !snapshot_covers(&none, &pair[0]);
		snapshot_clear(&pair[0]);
		snapshot_clear(&pair[1]);
	}
	ok(right && covered > 0 && exact > 0,
	    "30000 pairs: none is covered by one that sees less (%zu were, %zu rightly not)", covered, exact);
	ok(snapshot_covers(&none, &none), "none covers none");
}

int
main(void)
{
	test_parsing();
	test_length();
	test_sizes();
	test_equal();
	test_copies();
	test_mutations();
	test_seeing();
	test_server();
	test_any_pair();
	return tap_end();
}
