/* permessage-deflate: src/http/deflate.c (RFC 7692). */
#include "config.h"
#include "core/mem.h"
#include "http/deflate.h"

#include "tap.h"

static struct slice
slice_of(const char *text)
{
	return (struct slice){text, strlen(text)};
}

static void
test_offers(void)
{
	static const struct {
		const char *offers;
		bool taken;
	} rows[] = {
	    {NULL, false},
	    {"", false},
	    {"permessage-deflate", true},
	    {"permessage-deflate; client_max_window_bits", true},
	    {"permessage-deflate;client_max_window_bits=10", true},
	    {"permessage-deflate; client_max_window_bits=\"15\"", true},
	    {"permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
	    {"permessage-deflate; server_max_window_bits=15", true},
	    {"permessage-deflate; server_max_window_bits=10", false},
	    {"permessage-deflate; server_max_window_bits=10, permessage-deflate", true},
	    {"permessage-deflate; server_max_window_bits", false},
	    {"permessage-deflate; client_max_window_bits=16", false},
	    {"permessage-deflate; client_max_window_bits=7", false},
	    {"permessage-deflate; client_max_window_bits=", false},
	    {"permessage-deflate; server_no_context_takeover=1", false},
	    {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", false},
	    {"permessage-deflate; unknown", false},
	    {"permessage-deflate; unknown, foo, permessage-deflate", true},
	    {"permessage-deflate;", false},
	    {"permessage-bzip2", false},
	    {"x-webkit-deflate-frame", false},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		const char *answer = deflate_negotiate(rows[i].offers);

		ok((answer != NULL) == (rows[i].taken && deflate_is_built_in()), "offer \"%s\"",
		    rows[i].offers != NULL ? rows[i].offers : "none");
	}
}

static struct slice
copy_of(struct slice s)
{
	char *copy = mem_alloc(s.len + 1);

	memcpy(copy, s.ptr, s.len);
	return (struct slice){copy, s.len};
}

static bool
comes_back(const struct slice *parts, int count, size_t max)
{
	struct slice out, kept, back;
	size_t at = 0;
	bool same;

	if (!deflate_compress(parts, count, &out))
		return false;
	kept = copy_of(out);
	same = deflate_expand(kept, max, &back) == DEFLATE_OK;
	for (int i = 0; same && i < count; i++) {
		same =
		    back.len - at >= parts[i].len && memcmp(back.ptr + at, parts[i].ptr, parts[i].len) == 0;
		at += parts[i].len;
	}
	free((char *)(uintptr_t)kept.ptr);
	return same && at == back.len;
}

static void
test_messages(void)
{
	char *text = mem_alloc(DEFLATE_MAX + 1);
	struct slice parts[] = {slice_of("{\"Object\":"),
	    slice_of("{\"a\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"), slice_of(",\"Original\":null}")},
		     out;
	struct tap_random random = {1};

	for (size_t i = 0; i <= DEFLATE_MAX; i++)
		text[i] = (char)('a' + tap_random(&random, 4));
	ok(comes_back(parts, 3, 1000), "parts come back as one message");
	ok(comes_back(parts, 3, 1000), "the next message knows nothing of the last");
	ok(comes_back(&(struct slice){text, DEFLATE_MAX}, 1, DEFLATE_MAX), "a large one");
	ok(!deflate_compress(&(struct slice){text, DEFLATE_MAX + 1}, 1, &out),
	    "a larger one is left as it is");
	ok(!deflate_compress(&(struct slice){"\x01", 1}, 1, &out), "so is what gains nothing");
	ok(!deflate_compress(&(struct slice){"", 0}, 1, &out), "and what is empty");
	free(text);
}

static void
test_bad_ones(void)
{
	char *zeros = mem_zalloc(DEFLATE_MAX);
	struct slice out, back, kept;

	ok(deflate_compress(&(struct slice){zeros, DEFLATE_MAX}, 1, &out), "a bomb");
	kept = copy_of(out);
	ok(kept.len < 2000, "is small");
	is_int(deflate_expand(kept, 10000, &back), DEFLATE_TOO_BIG, "and is not let go off");
	is_int(deflate_expand(kept, DEFLATE_MAX, &back), DEFLATE_OK, "where there is room it is a message");
	is_int((long long)back.len, DEFLATE_MAX, "of its length");
	is_int(deflate_expand(slice_of("\x07nonsense"), 1000, &back), DEFLATE_CORRUPT, "nonsense is corrupt");
	is_int(deflate_expand(slice_of(""), 1000, &back), DEFLATE_OK, "nothing is an empty message");
	is_int((long long)back.len, 0, "without octets");
	/* RFC 7692, section 7.2.3 */
	ok(deflate_expand((struct slice){"\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, 5, &back) == DEFLATE_OK &&
		slice_is(back, "Hello"),
	    "the RFC's example");
	ok(deflate_expand((struct slice){"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8}, 5, &back) == DEFLATE_OK &&
		slice_is(back, "Hello"),
	    "the RFC's example with a final block");
	ok(deflate_expand((struct slice){"\x00\x05\x00\xfa\xffHello\x00", 11}, 5, &back) == DEFLATE_OK &&
		slice_is(back, "Hello"),
	    "the RFC's example without compression");
	free((char *)(uintptr_t)kept.ptr);
	free(zeros);
}

int
main(void)
{
	test_offers();
	if (deflate_is_built_in()) {
		test_messages();
		test_bad_ones();
	}
	deflate_free();
	return tap_end();
}
