/* Octets into lines, as `pgrelay run` reads them: src/cli/run_lines.c. Everything is fed whole, cut in two at
 * every position, and octet by octet. */
#include "config.h"
#include "cli/run_lines.h"
#include "core/mem.h"

#include "tap.h"

#define TEXT(s) s, sizeof(s) - 1
#define R       "\xef\xbf\xbd" /* U+FFFD */
#define ONE     SIZE_MAX       /* octet by octet */

/* All that came out: a line ends with "$\n" when it is whole, with "+\n" when it goes on. */
struct result {
	char *text;
	size_t len, size;
};

static void
result_add(struct result *r, const void *data, size_t len)
{
	if (r->len + len + 1 > r->size) {
		r->size = 2 * (r->len + len + 1);
		r->text = mem_resize(r->text, r->size);
	}
	if (len > 0)
		memcpy(r->text + r->len, data, len);
	r->len += len;
	r->text[r->len] = '\0';
}

static void
result_take(void *arg, const char *text, size_t len, bool whole)
{
	result_add(arg, text, len);
	result_add(arg, whole ? "$\n" : "+\n", 2);
}

static void
feed(struct run_lines *lines, const char *text, size_t len)
{
	char *copy = tap_copy(text, len);

	run_lines_feed(lines, copy, len);
	free(copy);
}

/* What comes out of a text that is cut after so many octets, or everywhere. The caller releases it. */
static struct result
lines_of(const char *text, size_t len, size_t cut)
{
	struct result r = {0};
	struct run_lines *lines = run_lines_new(result_take, &r);

	result_add(&r, "", 0);
	if (cut == ONE) {
		for (size_t i = 0; i < len; i++)
			feed(lines, text + i, 1);
	} else {
		feed(lines, text, cut);
		feed(lines, text + cut, len - cut);
	}
	run_lines_end(lines);
	run_lines_free(lines);
	return r;
}

static bool
lines_are(const char *text, size_t len, size_t cut, const char *want, size_t want_len)
{
	struct result r = lines_of(text, len, cut);
	bool right = tap_same_octets(r.text, r.len, want, want_len);

	if (!right)
		diag("cut at %zd: got %.100s", (ssize_t)cut, r.text);
	free(r.text);
	return right;
}

static const struct row {
	const char *name, *text;
	size_t len;
	const char *lines;
	size_t lines_len;
} rows[] = {
    {"nothing", TEXT(""), TEXT("")},
    {"one line", TEXT("one\n"), TEXT("one$\n")},
    {"two lines", TEXT("one\ntwo\n"), TEXT("one$\ntwo$\n")},
    {"no line end behind", TEXT("one\ntwo"), TEXT("one$\ntwo$\n")},
    {"empty lines", TEXT("\n\na\n\n"), TEXT("$\n$\na$\n$\n")},
    {"CR LF", TEXT("one\r\ntwo\r\n\r\n"), TEXT("one$\ntwo$\n$\n")},
    {"CR by itself", TEXT("10%\r20%\r\n"), TEXT("10%\r20%$\n")},
    {"two CR before LF", TEXT("a\r\r\n"), TEXT("a\r$\n")},
    {"CR at the end", TEXT("a\r"), TEXT("a\r$\n")},
    {"CR alone", TEXT("\r"), TEXT("\r$\n")},
    {"LF CR", TEXT("a\n\rb\n"), TEXT("a$\n\rb$\n")},
    {"CR before a character of several octets", TEXT("\r\xc3\xa4\n"), TEXT("\r\xc3\xa4$\n")},
    {"CR within a character", TEXT("\xc3\r\n"), TEXT(R "$\n")},
    {"CR behind half a character", TEXT("\xc3\rx\n"), TEXT(R "\rx$\n")},
    {"tabs and escapes stay", TEXT("\ta\x1b[31m\x7f\b\n"), TEXT("\ta\x1b[31m\x7f\b$\n")},
    {"NUL", TEXT("a\0b\0\n\0"), TEXT("a" R "b" R "$\n" R "$\n")},
    {"UTF-8 of 2, 3 and 4 octets", TEXT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\n"),
	TEXT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80$\n")},
    {"the first and last of each length",
	TEXT("\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\n"),
	TEXT("\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf$\n")},
    {"around the surrogates", TEXT("\xed\x9f\xbf\xee\x80\x80\n"), TEXT("\xed\x9f\xbf\xee\x80\x80$\n")},
    {"a surrogate", TEXT("\xed\xa0\x80\n"), TEXT(R R R "$\n")},
    {"a pair of surrogates", TEXT("\xed\xa0\xbd\xed\xb8\x80"), TEXT(R R R R R R "$\n")},
    {"an overlong slash", TEXT("\xc0\xaf\n"), TEXT(R R "$\n")},
    {"an overlong NUL", TEXT("\xc0\x80\n"), TEXT(R R "$\n")},
    {"overlong, 0xc1", TEXT("\xc1\xbf\n"), TEXT(R R "$\n")},
    {"overlong of 3", TEXT("\xe0\x9f\xbf\n"), TEXT(R R R "$\n")},
    {"overlong of 4", TEXT("\xf0\x8f\xbf\xbf\n"), TEXT(R R R R "$\n")},
    {"past U+10FFFF", TEXT("\xf4\x90\x80\x80\n"), TEXT(R R R R "$\n")},
    {"far past it", TEXT("\xf5\x80\x80\x80\xff\xfe\n"), TEXT(R R R R R R "$\n")},
    {"a continuation by itself",
	TEXT("\x80"
	     "a\xbf\n"),
	TEXT(R "a" R "$\n")},
    {"one of 2 octets cut by a letter",
	TEXT("\xc3"
	     "a\n"),
	TEXT(R "a$\n")},
    {"two of 3 octets, one replacement",
	TEXT("\xe2\x82"
	     "a\n"),
	TEXT(R "a$\n")},
    {"three of 4 octets, one replacement",
	TEXT("\xf0\x9f\x98"
	     "a\n"),
	TEXT(R "a$\n")},
    {"cut by another character", TEXT("\xf0\x9f\xc3\xa4\n"), TEXT(R "\xc3\xa4$\n")},
    {"cut by the line's end", TEXT("\xe2\x82\n\xac\n"), TEXT(R "$\n" R "$\n")},
    {"cut by the end", TEXT("a\xf0\x9f\x98"), TEXT("a" R "$\n")},
    {"cut by the end, at once", TEXT("\xc3"), TEXT(R "$\n")},
    {"cut by NUL", TEXT("\xe2\x82\0\n"), TEXT(R R "$\n")},
    {"Unicode's own example", TEXT("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64"),
	TEXT("a" R R R "b" R "c" R R "d$\n")},
};

static void
test_rows(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		const struct row *r = &rows[i];
		bool right = lines_are(r->text, r->len, ONE, r->lines, r->lines_len);

		for (size_t cut = 0; cut <= r->len; cut++)
			right = lines_are(r->text, r->len, cut, r->lines, r->lines_len) && right;
		ok(right, "%s", r->name);
	}
}

/* Is it UTF-8 (RFC 3629) without NUL? By decoding, unlike the module. */
static bool
is_utf8(const uint8_t *p, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	for (size_t i = 0; i < len;) {
		size_t n = p[i] < 0x80       ? 1
			   : p[i] >> 5 == 6  ? 2
			   : p[i] >> 4 == 14 ? 3
			   : p[i] >> 3 == 30 ? 4
					     : 0;
		uint32_t c = n == 1 ? p[i] : p[i] & (0x7fu >> n);

		if (n == 0 || len - i < n)
			return false;
		for (size_t j = 1; j < n; j++) {
			if (p[i + j] >> 6 != 2)
				return false;
			c = c << 6 | (p[i + j] & 0x3f);
		}
		if ((n > 1 && c < least[n]) || c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
		i += n;
	}
	return true;
}

/* All texts of up to 4 octets of those that matter: the output is UTF-8, and the input itself when that is.
 */
static void
test_all_short(void)
{
	static const uint8_t octets[] = {0x00, '\n', '\r', 'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
	    0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff};
	size_t n = ARRAY_LENGTH(octets), valid = 0, total = n * n * n * n;
	bool right = true;

	for (size_t i = 0; i < total; i++) {
		const char text[] = {(char)octets[i % n], (char)octets[i / n % n],
		    (char)octets[i / n / n % n], (char)octets[i / n / n / n]};
		struct result whole = lines_of(text, 4, 0), bytes = lines_of(text, 4, ONE);
		bool plain = is_utf8((const uint8_t *)text, 4) && memchr(text, '\n', 4) == NULL;

		right = right && is_utf8((uint8_t *)whole.text, whole.len) &&
			tap_same_octets(whole.text, whole.len, bytes.text, bytes.len) &&
			(!plain || (whole.len == 6 && memcmp(whole.text, text, 4) == 0)) &&
			(is_utf8((const uint8_t *)text, 4) || strstr(whole.text, R) != NULL);
		valid += plain;
		free(whole.text);
		free(bytes.text);
	}
	ok(right && valid > 0, "all %zu texts of four octets come out as UTF-8, %zu of them unchanged", total,
	    valid);
}

/* ---- long lines ---- */

/* A text of len octets, ended by last, into pieces: the lengths that come out, "65536+ 3$ ". */
struct pieces {
	char text[256];
	bool utf8;
};

static void
pieces_take(void *arg, const char *text, size_t len, bool whole)
{
	struct pieces *p = arg;
	size_t used = strlen(p->text);

	snprintf(p->text + used, sizeof(p->text) - used, "%zu%c ", len, whole ? '$' : '+');
	p->utf8 = p->utf8 && is_utf8((const uint8_t *)text, len);
}

static void
check_long(size_t letters, const char *behind, const char *want)
{
	static const size_t chunks[] = {1, 7, 4096, 65536, 1000000};
	size_t behind_len = strlen(behind);
	char *text = mem_alloc(letters + behind_len);
	bool right = true;

	memset(text, 'x', letters);
	memcpy(text + letters, behind, behind_len);
	for (size_t i = 0; i < ARRAY_LENGTH(chunks); i++) {
		struct pieces p = {"", true};
		struct run_lines *lines = run_lines_new(pieces_take, &p);
		size_t len = letters + behind_len;

		for (size_t at = 0; at < len; at += chunks[i])
			feed(lines, text + at, len - at < chunks[i] ? len - at : chunks[i]);
		run_lines_end(lines);
		run_lines_free(lines);
		if (strcmp(p.text, want) != 0 || !p.utf8) {
			diag("chunks of %zu: got %s", chunks[i], p.text);
			right = false;
		}
	}
	ok(right, "%zu letters and %zu octets more: %s", letters, behind_len, want);
	free(text);
}

static void
test_long(void)
{
	check_long(65535, "\n", "65535$ ");
	check_long(65536, "\n", "65536$ ");
	check_long(65536, "", "65536$ ");
	check_long(65536, "\r\n", "65536$ ");
	check_long(65536, "\r", "65536+ 1$ ");
	check_long(65536, "\rx\n", "65536+ 2$ ");
	check_long(65537, "\n", "65536+ 1$ ");
	check_long(65537, "", "65536+ 1$ ");
	check_long(65536, "\n\n", "65536$ 0$ ");
	check_long(65537, "\nab\n", "65536+ 1$ 2$ ");
	check_long(131072, "\n", "65536+ 65536$ ");
	check_long(131073, "\n", "65536+ 65536+ 1$ ");
	check_long(65535, "\xc3\xa4\n", "65535+ 2$ ");
	check_long(65534, "\xc3\xa4\n", "65536$ ");
	check_long(65533, "\xf0\x9f\x98\x80\n", "65533+ 4$ ");
	check_long(65532, "\xf0\x9f\x98\x80\n", "65536$ ");
	check_long(65535, "\xff\n", "65535+ 3$ ");
	check_long(65533, "\xff\n", "65536$ ");
	check_long(65535, "\xf0\x9f", "65535+ 3$ ");
}

static void
test_end(void)
{
	struct result r = {0};
	struct run_lines *lines = run_lines_new(result_take, &r);

	result_add(&r, "", 0);
	run_lines_feed(lines, "", 0);
	is_str(r.text, "", "no octets are no line");
	run_lines_feed(lines, "prompt> ", 8);
	is_str(r.text, "", "a line that does not end is not out");
	run_lines_end(lines);
	is_str(r.text, "prompt> $\n", "before the end comes");
	run_lines_free(lines);
	run_lines_free(NULL);
	free(r.text);
}

int
main(void)
{
	test_rows();
	test_all_short();
	test_long();
	test_end();
	return tap_end();
}
