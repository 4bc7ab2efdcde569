/* Records, topics and patterns: src/relay/event.c. */
#include "config.h"
#include "core/mem.h"
#include "relay/event.h"

#include "tap.h"

#include <errno.h>

#define SHA       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TEXT(s)   s, sizeof(s) - 1
#define TEN(s)    s s s s s s s s s s
#define WORD_63   TEN("abcdef") "xyz"
#define KEY_255   TEN(TEN("kk")) TEN("fffff") "12345"
#define SPACE_255 TEN(TEN("%20%2C")) TEN("%25%2A%20%20%20") "%20%20%20%20%20"

static void
slice_print(FILE *out, const char *before, struct slice s)
{
	fputs(before, out);
	fwrite(s.ptr, 1, s.len, out);
}

static void
topic_print(FILE *out, const struct topic *t)
{
	slice_print(out, "", t->type);
	slice_print(out, ".", t->action);
	slice_print(out, ".", t->key);
}

/* A record as the line it came from; numbers without leading zeros. */
static void
record_print(FILE *out, const struct record *r)
{
	switch (r->kind) {
	case RECORD_EVENT:
		fprintf(out, "%c %lld %lld ", r->logged ? 'e' : 'u', (long long)r->id, (long long)r->time_us);
		topic_print(out, &r->topic);
		slice_print(out, " ", r->payload);
		return;
	case RECORD_TICKET:
		fprintf(out, "t %lld %lld ", (long long)r->id, (long long)r->time_us);
		topic_print(out, &r->topic);
		fprintf(out, " %zu", r->payload_octets);
		slice_print(out, " ", r->sha256);
		slice_print(out, " ", r->origin);
		return;
	case RECORD_ACCESS:
		fprintf(out, "a %lld", (long long)r->user_id);
		return;
	case RECORD_SETTINGS:
		fputs("s", out);
		return;
	case RECORD_DEFERRED:
		slice_print(out, "d ", r->since);
		slice_print(out, " ", r->until);
		return;
	case RECORD_TRANSACTION:
		fprintf(out, "x %llu", (unsigned long long)r->xid);
		return;
	case RECORD_UNKNOWN:
		fputs("unknown", out);
		return;
	case RECORD_MALFORMED:
		fputs("malformed", out);
		return;
	}
	abort();
}

/* All records of a payload, one a line. The caller releases it. */
static char *
records_of(const char *text, size_t len, size_t *out_len)
{
	char *copy = tap_copy(text, len), *all = NULL;
	struct slice rest = {copy, len};
	FILE *out = open_memstream(&all, out_len);
	struct record r;

	for (int n = 0; record_next(&rest, &r); n++) {
		if (n > 0)
			fputc('\n', out);
		record_print(out, &r);
	}
	fclose(out);
	free(copy);
	return all;
}

/* ---- records ---- */

static const struct record_row {
	const char *name, *text;
	size_t len;
	const char *records;
} record_rows[] = {
    {"nothing", TEXT(""), ""},
    {"an event", TEXT("e 1 2 job.new.k {\"a\": 1}"), "e 1 2 job.new.k {\"a\": 1}"},
    {"an event with the shortest payload", TEXT("e 1 2 a.b.c {}"), "e 1 2 a.b.c {}"},
    {"an event with an empty key", TEXT("e 1 2 a.b. {}"), "e 1 2 a.b. {}"},
    {"an event whose key holds dots", TEXT("e 1 2 a.b.c..d. {}"), "e 1 2 a.b.c..d. {}"},
    {"an event whose key is encoded", TEXT("e 1 2 a.b.%20%25%2A%2C {}"), "e 1 2 a.b.%20%25%2A%2C {}"},
    {"an event whose key is UTF-8", TEXT("e 1 2 a.b.k\xc3\xa4\xf0\x9f\x98\x80 {}"),
	"e 1 2 a.b.k\xc3\xa4\xf0\x9f\x98\x80 {}"},
    {"an event whose key is as long as can be", TEXT("e 1 2 a.b." KEY_255 " {}"), "e 1 2 a.b." KEY_255 " {}"},
    {"the same, all of it encoded", TEXT("e 1 2 a.b." SPACE_255 " {}"), "e 1 2 a.b." SPACE_255 " {}"},
    {"a key of 256 octets", TEXT("e 1 2 a.b." KEY_255 "x {}"), "malformed"},
    {"a key of 256 octets, encoded", TEXT("e 1 2 a.b." SPACE_255 "%20 {}"), "malformed"},
    {"a payload with spaces and braces", TEXT("e 1 2 a.b.c { } {} }"), "e 1 2 a.b.c { } {} }"},
    {"the largest numbers", TEXT("e 9223372036854775806 9223372036854775807 a.b.c {}"),
	"e 9223372036854775806 9223372036854775807 a.b.c {}"},
    {"an id one too large", TEXT("e 9223372036854775808 2 a.b.c {}"), "malformed"},
    {"an id of 20 digits", TEXT("e 99999999999999999999 2 a.b.c {}"), "malformed"},
    {"a time one too large", TEXT("e 1 9223372036854775808 a.b.c {}"), "malformed"},
    {"the time 0", TEXT("e 1 0 a.b.c {}"), "e 1 0 a.b.c {}"},
    {"a negative id", TEXT("e -1 2 a.b.c {}"), "malformed"},
    {"an id with a plus", TEXT("e +1 2 a.b.c {}"), "malformed"},
    {"an id in hexadecimal", TEXT("e 0x1 2 a.b.c {}"), "malformed"},
    {"a negative time", TEXT("e 1 -2 a.b.c {}"), "malformed"},
    {"no id", TEXT("e  2 a.b.c {}"), "malformed"},
    {"two spaces", TEXT("e 1  2 a.b.c {}"), "malformed"},
    {"a space in front", TEXT(" e 1 2 a.b.c {}"), "malformed"},
    {"a tab for a space", TEXT("e\t1 2 a.b.c {}"), "unknown"},
    {"a topic of two parts", TEXT("e 1 2 a.b {}"), "malformed"},
    {"a topic with a wildcard", TEXT("e 1 2 a.*.c {}"), "malformed"},
    {"a key that is a wildcard", TEXT("e 1 2 a.b.* {}"), "malformed"},
    {"no payload", TEXT("e 1 2 a.b.c"), "malformed"},
    {"an empty payload", TEXT("e 1 2 a.b.c "), "malformed"},
    {"a payload that is an array", TEXT("e 1 2 a.b.c []"), "malformed"},
    {"a payload of one brace", TEXT("e 1 2 a.b.c {"), "malformed"},
    {"a payload with a space behind", TEXT("e 1 2 a.b.c {} "), "malformed"},
    {"a payload with a CR behind", TEXT("e 1 2 a.b.c {}\r"), "malformed"},
    {"a payload with a NUL behind", TEXT("e 1 2 a.b.c {}\0"), "malformed"},
    {"a payload cut short", TEXT("e 1 2 a.b.c {\"a\": "), "malformed"},
    {"a ticket", TEXT("t 1 2 a.b.c 20000 " SHA " -"), "t 1 2 a.b.c 20000 " SHA " -"},
    {"a ticket with an origin", TEXT("t 1 2 a.b.c 8000 " SHA " web1:8052"),
	"t 1 2 a.b.c 8000 " SHA " web1:8052"},
    {"a ticket of 2 GiB - 1", TEXT("t 1 2 a.b.c 2147483647 " SHA " -"), "t 1 2 a.b.c 2147483647 " SHA " -"},
    {"a ticket of 2 GiB", TEXT("t 1 2 a.b.c 2147483648 " SHA " -"), "malformed"},
    {"a ticket of a negative size", TEXT("t 1 2 a.b.c -1 " SHA " -"), "malformed"},
    {"a digest one digit short",
	TEXT("t 1 2 a.b.c 8000 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde -"),
	"malformed"},
    {"a digest one digit long", TEXT("t 1 2 a.b.c 8000 " SHA "0 -"), "malformed"},
    {"a digest in upper case",
	TEXT("t 1 2 a.b.c 8000 0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef -"),
	"malformed"},
    {"a digest with a g",
	TEXT("t 1 2 a.b.c 8000 g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef -"),
	"malformed"},
    {"a ticket without an origin", TEXT("t 1 2 a.b.c 8000 " SHA), "malformed"},
    {"a ticket with an empty origin", TEXT("t 1 2 a.b.c 8000 " SHA " "), "malformed"},
    {"a ticket with a payload", TEXT("t 1 2 a.b.c {}"), "malformed"},
    {"a change of access", TEXT("a 42"), "a 42"},
    {"a change of access, largest user", TEXT("a 9223372036854775807"), "a 9223372036854775807"},
    {"a change of access, user too large", TEXT("a 9223372036854775808"), "malformed"},
    {"a change of access without a user", TEXT("a "), "malformed"},
    {"a change of access with more behind", TEXT("a 42 43"), "malformed"},
    {"a change of access with a CR", TEXT("a 42\r"), "malformed"},
    {"an event that is not in the log", TEXT("u 1 2 a.b.c {}"), "u 1 2 a.b.c {}"},
    {"changed settings", TEXT("s"), "s"},
    {"changed settings with a field", TEXT("s 1"), "malformed"},
    {"deferred events", TEXT("d 10:20: 10:25:12,13"), "d 10:20: 10:25:12,13"},
    {"deferred events without a second snapshot", TEXT("d 10:20:"), "malformed"},
    {"deferred events with an empty one", TEXT("d 10:20: "), "malformed"},
    {"a transaction", TEXT("x 4711"), "x 4711"},
    {"a transaction without a number", TEXT("x "), "malformed"},
    {"a transaction 0", TEXT("x 0"), "malformed"},
    {"an event with the id 0", TEXT("e 0 2 a.b.c {}"), "malformed"},
    {"a kind from the future", TEXT("z 1 2 3"), "unknown"},
    {"a kind from the future without fields", TEXT("z\nhello"), "unknown\nunknown"},
    {"a ticket's kind and nothing else", TEXT("t"), "malformed"},
    {"an access change's kind and nothing else", TEXT("a"), "malformed"},
    {"a kind of two letters", TEXT("ee 1 2 a.b.c {}"), "unknown"},
    {"a kind in upper case", TEXT("E 1 2 a.b.c {}"), "unknown"},
    {"a kind and nothing else", TEXT("e"), "malformed"},
    {"an empty line", TEXT("\n"), "malformed"},
    {"a CR alone", TEXT("\r"), "unknown"},
    {"a NUL alone", TEXT("\0"), "unknown"},
    {"a line end behind", TEXT("a 1\n"), "a 1"},
    {"two line ends behind", TEXT("a 1\n\n"), "a 1\nmalformed"},
    {"several records", TEXT("a 1\ne 1 2 a.b.c {}\nt 1 2 a.b.c 9 " SHA " -"),
	"a 1\ne 1 2 a.b.c {}\nt 1 2 a.b.c 9 " SHA " -"},
    {"malformed and unknown ones between", TEXT("a 1\ne 1\n\nz 9\na 2"),
	"a 1\nmalformed\nmalformed\nunknown\na 2"},
    {"lines with CR LF", TEXT("a 1\r\na 2"), "malformed\na 2"},
};

static void
test_records(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(record_rows); i++) {
		const struct record_row *row = &record_rows[i];
		size_t len;
		char *got = records_of(row->text, row->len, &len);

		is_str(got, row->records, "record: %s", row->name);
		free(got);
	}
}

/* Three good records; the numbers are such that mutations reach each branch. */
static const char good[] = "e 17 1700000000000000 job_events.new.a%20b {\"k\": {\"n\": [1, 2]}}\n"
			   "t 18 1700000000000001 job-x.y.c.d 12345 " SHA " web1\n"
			   "a 9223372036854775807";
#define GOOD_LEN (sizeof(good) - 1)

/* Is a record the line it was made from? Only leading zeros are lost on the way. */
static bool
record_is_line(const struct record *r, const char *line, size_t len)
{
	char *text = NULL;
	size_t text_len, i = 0, j = 0;
	FILE *out;

	if (r->kind == RECORD_MALFORMED || r->kind == RECORD_UNKNOWN)
		return true;
	out = open_memstream(&text, &text_len);
	record_print(out, r);
	fclose(out);
	while (i < len) {
		if (j < text_len && line[i] == text[j])
			i++, j++;
		else if (i > 0 && line[i] == '0' && (line[i - 1] == ' ' || line[i - 1] == '0'))
			i++;
		else
			break;
	}
	free(text);
	return i == len && j == text_len;
}

/* Whatever text holds: as many records as lines, each its own line or none. */
static bool
records_are_lines(const char *text, size_t len)
{
	char *copy = tap_copy(text, len);
	struct slice rest = {copy, len};
	bool right = true;

	while (right && rest.len > 0) {
		const char *line = rest.ptr, *end = memchr(line, '\n', rest.len);
		size_t line_len = end != NULL ? (size_t)(end - line) : rest.len;
		struct record r;

		right = record_next(&rest, &r) && record_is_line(&r, line, line_len) &&
			(rest.len == 0 || rest.ptr == line + line_len + 1) &&
			(rest.len > 0 || line + line_len + (end != NULL) == copy + len);
	}
	free(copy);
	return right;
}

static void
test_record_prefixes(void)
{
	bool right = true;

	for (size_t len = 0; len <= GOOD_LEN; len++)
		if (!records_are_lines(good, len)) {
			diag("the first %zu octets", len);
			right = false;
		}
	ok(right, "every prefix of a payload yields its lines' records or malformed ones");
}

/* The lines before and behind the mutated one come out as without it. */
static bool
neighbours_are_whole(const char *text, size_t at)
{
	const char *first_end = strchr(good, '\n'), *second_end = strchr(first_end + 1, '\n');
	size_t len, first = (size_t)(first_end - good), third = GOOD_LEN - (size_t)(second_end + 1 - good);
	char *got = records_of(text, GOOD_LEN, &len);
	bool right =
	    (at <= first || memcmp(got, good, first + 1) == 0) &&
	    (at >= (size_t)(second_end - good) || memcmp(got + len - third - 1, second_end, third + 1) == 0);

	free(got);
	return right;
}

static void
test_record_mutations(void)
{
	char text[sizeof(good)];
	bool right = true;

	memcpy(text, good, sizeof(good));
	for (size_t at = 0; at < GOOD_LEN; at++) {
		for (int c = 0; c < 256; c++) {
			text[at] = (char)c;
			if (!records_are_lines(text, GOOD_LEN) || !neighbours_are_whole(text, at)) {
				diag("octet %zu is 0x%02x", at, (unsigned)c);
				right = false;
			}
		}
		text[at] = good[at];
	}
	ok(right, "every octet at every position harms its own record at most");
}

static void
test_record_noise(void)
{
	static const char alphabet[] = "eta z0123456789.-*%2A{}\n\r\t\0ab";
	struct tap_random random = {20240607};
	char text[200];
	bool right = true;

	for (int round = 0; round < 50000; round++) {
		size_t len = tap_random(&random, sizeof(text));

		for (size_t i = 0; i < len; i++)
			text[i] = alphabet[tap_random(&random, sizeof(alphabet) - 1)];
		right = records_are_lines(text, len) && right;
	}
	ok(right, "50000 payloads of noise (seed 20240607)");
}

static void
test_record_many(void)
{
	char text[7999];
	struct slice rest = {text, 0};
	struct record r;
	int n = 0;

	while (rest.len + 5 <= sizeof(text)) {
		memcpy(text + rest.len, "a 77\n", 5);
		rest.len += 5;
	}
	while (record_next(&rest, &r) && r.kind == RECORD_ACCESS && r.user_id == 77)
		n++;
	is_int(n, (int)sizeof(text) / 5, "a payload full of records");
	is_int((long long)rest.len, 0, "nothing is left of it");
}

/* ---- topics and patterns ---- */

static const struct topic_row {
	const char *text;
	size_t len;
	bool topic, pattern;
	const char *parts; /* separated by | */
} topic_rows[] = {
    {TEXT("a.b.c"), true, true, "a|b|c"},
    {TEXT("a.b."), true, true, "a|b|"},
    {TEXT("a.b.c.d"), true, true, "a|b|c.d"},
    {TEXT("a.b..."), true, true, "a|b|.."},
    {TEXT("A-Z_0.9.|"), true, true, "A-Z_0|9||"},
    {TEXT("-._.\xc3\xa4"), true, true, "-|_|\xc3\xa4"},
    {TEXT("a.b.%2A"), true, true, "a|b|%2A"},
    {TEXT("a.b.%20%25%2A%2C"), true, true, "a|b|%20%25%2A%2C"},
    {TEXT(WORD_63 "." WORD_63 "."), true, true, WORD_63 "|" WORD_63 "|"},
    {TEXT("a.b." KEY_255), true, true, "a|b|" KEY_255},
    {TEXT("a.b." SPACE_255), true, true, "a|b|" SPACE_255},
    {TEXT("*.b.c"), false, true, "*|b|c"},
    {TEXT("a.*.c"), false, true, "a|*|c"},
    {TEXT("a.b.*"), false, true, "a|b|*"},
    {TEXT("*.*.*"), false, true, "*|*|*"},
    {TEXT("*.*.%2A"), false, true, "*|*|%2A"},
    {TEXT(""), false, false, NULL},
    {TEXT("a"), false, false, NULL},
    {TEXT("a.b"), false, false, NULL},
    {TEXT("*"), false, false, NULL},
    {TEXT("*.*"), false, false, NULL},
    {TEXT(".."), false, false, NULL},
    {TEXT(".b.c"), false, false, NULL},
    {TEXT("a..c"), false, false, NULL},
    {TEXT("**.b.c"), false, false, NULL},
    {TEXT("a*.b.c"), false, false, NULL},
    {TEXT("a.b.**"), false, false, NULL},
    {TEXT("a.b.c*"), false, false, NULL},
    {TEXT("a.b.*.c"), false, false, NULL},
    {TEXT("%2A.b.c"), false, false, NULL},
    {TEXT("a b.b.c"), false, false, NULL},
    {TEXT("\xc3\xa4.b.c"), false, false, NULL},
    {TEXT("a.b.c d"), false, false, NULL},
    {TEXT("a.b.c,d"), false, false, NULL},
    {TEXT("a.b.%"), false, false, NULL},
    {TEXT("a.b.%2"), false, false, NULL},
    {TEXT("a.b.%2a"), false, false, NULL},
    {TEXT("a.b.%41"), false, false, NULL},
    {TEXT("a.b.%%20"), false, false, NULL},
    {TEXT("a.b.\t"), false, false, NULL},
    {TEXT("a.b.\n"), false, false, NULL},
    {TEXT("a.b.\0"), false, false, NULL},
    {TEXT("a.b.\x1f"), false, false, NULL},
    {TEXT("a.b.\x7f"), false, false, NULL},
    {TEXT("a\0.b.c"), false, false, NULL},
    {TEXT(WORD_63 "x.b.c"), false, false, NULL},
    {TEXT("a." WORD_63 "x.c"), false, false, NULL},
    {TEXT("a.b." KEY_255 "x"), false, false, NULL},
    {TEXT("a.b." SPACE_255 "x"), false, false, NULL},
};

static bool
topic_is(const struct topic *t, const char *parts)
{
	char text[EVENT_TOPIC_MAX + 4];

	snprintf(text, sizeof(text), "%.*s|%.*s|%.*s", (int)t->type.len, t->type.ptr, (int)t->action.len,
	    t->action.ptr, (int)t->key.len, t->key.ptr);
	return strcmp(text, parts) == 0;
}

static bool
topic_row_is_right(const struct topic_row *row, bool wildcards)
{
	char *copy = tap_copy(row->text, row->len);
	bool want = wildcards ? row->pattern : row->topic;
	struct topic t;
	bool got = topic_parse((struct slice){copy, row->len}, wildcards, &t);
	bool right = got == want && (!got || topic_is(&t, row->parts));

	free(copy);
	return right;
}

static void
test_topics(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(topic_rows); i++) {
		const struct topic_row *row = &topic_rows[i];

		ok(topic_row_is_right(row, false), "\"%s\" is %s topic", row->text, row->topic ? "a" : "no");
		ok(topic_row_is_right(row, true), "\"%s\" is %s pattern", row->text,
		    row->pattern ? "a" : "no");
	}
}

static const struct match_row {
	const char *pattern, *topic;
	bool match;
} match_rows[] = {
    {"a.b.c", "a.b.c", true},
    {"a.b.", "a.b.", true},
    {"a.b.c.d", "a.b.c.d", true},
    {"a.b.%2A", "a.b.%2A", true},
    {"a.b.\xc3\xa4", "a.b.\xc3\xa4", true},
    {"*.b.c", "x.b.c", true},
    {"a.*.c", "a.x.c", true},
    {"a.b.*", "a.b.x", true},
    {"a.b.*", "a.b.", true},
    {"a.b.*", "a.b.c.d", true},
    {"a.b.*", "a.b.%2A", true},
    {"*.*.*", "x.y.z", true},
    {"*.*.*", "x.y.", true},
    {"a.b.c", "x.b.c", false},
    {"a.b.c", "a.x.c", false},
    {"a.b.c", "a.b.x", false},
    {"a.b.c", "a.b.", false},
    {"a.b.", "a.b.c", false},
    {"a.b.c", "a.b.cd", false},
    {"a.b.cd", "a.b.c", false},
    {"a.b.c", "a.b.c.d", false},
    {"a.b.c", "aa.b.c", false},
    {"aa.b.c", "a.b.c", false},
    {"a.b.c", "a.bb.c", false},
    {"a.bb.c", "a.b.c", false},
    {"ab.c.d", "a.bc.d", false},
    {"a.b.c", "A.b.c", false},
    {"a.b.%2A", "a.b.x", false},
    {"a.b.\xc3\xa4", "a.b.\xc3\xb6", false},
    {"*.b.c", "x.x.c", false},
    {"*.b.c", "x.b.x", false},
    {"a.*.c", "x.x.c", false},
    {"a.*.c", "a.x.x", false},
    {"a.b.*", "x.b.x", false},
    {"a.b.*", "a.x.x", false},
    {"*.*.c", "x.y.z", false},
    {"*.*.", "x.y.z", false},
    {"*.b.*", "x.y.z", false},
    {"a.*.*", "x.y.z", false},
};

static void
test_matches(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(match_rows); i++) {
		const struct match_row *row = &match_rows[i];
		size_t pattern_len = strlen(row->pattern), topic_len = strlen(row->topic);
		char *pattern_copy = tap_copy(row->pattern, pattern_len),
		     *topic_copy = tap_copy(row->topic, topic_len);
		struct topic pattern, topic;

		if (!topic_parse((struct slice){pattern_copy, pattern_len}, true, &pattern) ||
		    !topic_parse((struct slice){topic_copy, topic_len}, false, &topic))
			abort();
		ok(topic_matches(&pattern, &topic) == row->match, "%s %s %s", row->pattern,
		    row->match ? "matches" : "does not match", row->topic);
		free(pattern_copy);
		free(topic_copy);
	}
}

static void
test_topic_mutations(void)
{
	static const char base[] = "ab.*.k%2A.x";
	char text[sizeof(base)];
	size_t taken = 0, total = 0;

	memcpy(text, base, sizeof(base));
	for (size_t at = 0; at < sizeof(base) - 1; at++) {
		for (int c = 0; c < 256; c++) {
			for (size_t len = 0; len < sizeof(base); len++) {
				char *copy;
				struct topic t;

				text[at] = (char)c;
				copy = tap_copy(text, len);
				taken += topic_parse((struct slice){copy, len}, true, &t) &&
					 t.type.ptr == copy && t.key.ptr + t.key.len == copy + len;
				total++;
				free(copy);
			}
		}
		text[at] = base[at];
	}
	ok(taken > 0 && taken < total,
	    "every octet at every position of every prefix of a pattern: %zu of %zu taken", taken, total);
}

/* ---- keys ---- */

/* Decodes all that starts with a percent sign: the reference for topic_encode_key(). */
static size_t
key_decode(const char *written, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned c = (unsigned char)written[i];

		if (c == '%' && sscanf(written + i + 1, "%2x", &c) == 1)
			i += 2;
		out[n++] = (char)c;
	}
	return n;
}

static bool
key_round_trips(const char *key, size_t len)
{
	char text[4 + 3 * EVENT_KEY_MAX + 1], back[sizeof(text)], *copy = tap_copy(key, len);
	size_t written = topic_encode_key(copy, len, text + 4);
	struct topic t;
	bool right;

	memcpy(text, "a.b.", 4);
	text[4 + written] = '\0';
	right = topic_key_is_valid(copy, len) && topic_parse((struct slice){text, 4 + written}, true, &t) &&
		!topic_is_wildcard(t.key) && t.key.len == written &&
		tap_same_octets(back, key_decode(text + 4, written, back), key, len);
	free(copy);
	return right;
}

static void
test_key_round_trip(void)
{
	struct tap_random random = {77};
	char key[EVENT_KEY_MAX];
	bool right = true;

	for (int round = 0; round < 20000; round++) {
		size_t len = tap_random(&random, 4) > 0 ? tap_random(&random, 12)
							: tap_random(&random, sizeof(key) + 1);

		for (size_t i = 0; i < len; i++) {
			unsigned c = tap_random(&random, 3) > 0 ? tap_random(&random, 256)
								: (unsigned)" %*,."[tap_random(&random, 5)];

			key[i] = (char)(c < 0x20 || c == 0x7f ? 'x' : c);
		}
		right = key_round_trips(key, len) && right;
	}
	ok(right, "20000 keys come back from their written form, which is a topic's key (seed 77)");
	memset(key, '*', sizeof(key));
	ok(key_round_trips(key, sizeof(key)), "so does the longest one, all of it encoded");
}

static void
test_keys(void)
{
	char written[16] = "", key[EVENT_KEY_MAX + 1];
	bool right = true;

	is_int((long long)topic_encode_key(" %*,.", 5, written), 13,
	    "a key's written form is as long as it must be");
	is_str(written, "%20%25%2A%2C.", "space, percent, asterisk and comma are encoded, a dot is not");
	is_int((long long)topic_encode_key(NULL, 0, written), 0, "an empty key is written empty");
	memset(key, 'k', sizeof(key));
	ok(topic_key_is_valid(key, EVENT_KEY_MAX), "a key of 255 octets is valid");
	ok(!topic_key_is_valid(key, EVENT_KEY_MAX + 1), "one of 256 is not");
	ok(topic_key_is_valid("", 0), "an empty one is valid");
	for (int c = 0; c < 256; c++) {
		char octet = (char)c;

		right = right && topic_key_is_valid(&octet, 1) == !(c < 0x20 || c == 0x7f);
	}
	ok(right, "of all octets the control characters alone are no key");
}

static void
test_words(void)
{
	bool right = true;

	for (int c = 0; c < 256; c++) {
		char octet = (char)c;
		bool want =
		    c != 0 &&
		    strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", c) != NULL;

		right = right && topic_is_word((struct slice){&octet, 1}) == want;
	}
	ok(right, "of all octets letters, digits, _ and - alone are words");
	ok(!topic_is_word((struct slice){"", 0}), "nothing is no word");
	ok(topic_is_word((struct slice){TEXT(WORD_63)}), "63 letters are a word");
	ok(!topic_is_word((struct slice){TEXT(WORD_63 "x")}), "64 are none");
	ok(topic_is_wildcard((struct slice){"*", 1}) && !topic_is_wildcard((struct slice){"**", 2}) &&
		!topic_is_wildcard((struct slice){"", 0}) && !topic_is_wildcard((struct slice){"a", 1}),
	    "the one octet * alone is a wildcard");
}

/* strtoll() tells what a number is. */
static bool
number_is_right(const char *digits, size_t len)
{
	char text[64], *end;
	int n = snprintf(text, sizeof(text), "u 1 %.*s a.b.c {}", (int)len, digits);
	long long want;
	struct slice rest;
	struct record r;
	bool valid, right;

	errno = 0;
	want = strtoll(text + 4, &end, 10);
	valid = len > 0 && len <= 19 && errno == 0 && *end == ' ' && end == text + 4 + len &&
		text[4] != ' ' && strspn(text + 4, "0123456789") == len;
	rest = (struct slice){tap_copy(text, (size_t)n), (size_t)n};
	right = record_next(&rest, &r) && r.kind == (valid ? RECORD_EVENT : RECORD_MALFORMED) &&
		(!valid || r.time_us == want);
	free((char *)(uintptr_t)(r.line.ptr));
	return right;
}

/* Digits are taken eight at a time, and the first eight are known if the number before began with them. */
static void
test_numbers(void)
{
	struct tap_random random = {31415};
	char digits[24] = "00000000";
	bool right = true;

	diag("seed 31415");
	for (int i = 0; right && i < 300000; i++) {
		size_t len = tap_random(&random, 23), same = tap_random(&random, 3) == 0 ? 8 : 0;

		for (size_t k = same; k < len; k++)
			digits[k] = (char)(tap_random(&random, 60) == 0 ? 1 + tap_random(&random, 255)
									: '0' + tap_random(&random, 10));
		if (same == 0 && len > 18 && tap_random(&random, 2) == 0)
			digits[0] = '9';
		right = memchr(digits, '\n', len) != NULL || memchr(digits, ' ', len) != NULL ||
			number_is_right(digits, len);
		if (!right)
			diag("\"%.*s\"", (int)len, digits);
	}
	ok(right, "numbers of any length, and what is none");
}

int
main(void)
{
	test_numbers();
	test_records();
	test_record_prefixes();
	test_record_mutations();
	test_record_noise();
	test_record_many();
	test_topics();
	test_matches();
	test_topic_mutations();
	test_keys();
	test_key_round_trip();
	test_words();
	return tap_end();
}
