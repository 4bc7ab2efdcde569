/* Blocks and frames: src/relay/msg.c. That references drop to nothing is for the leak checkers to see. */
#include "config.h"
#include "http/ws.h"
#include "relay/msg.h"

#include "tap.h"

#define PAYLOAD_MAX 200000

/* A payload of len octets, each of its own kind so that a frame laid over another is seen. */
static struct slice
payload_of(size_t len, char c)
{
	static char octets[PAYLOAD_MAX];

	memset(octets, c, len);
	if (len >= 2) {
		octets[0] = '{';
		octets[len - 1] = '}';
	}
	return (struct slice){octets, len};
}

/* Is the span one text frame with this payload? */
static bool
span_is_frame(struct span s, size_t len, char c)
{
	const uint8_t *p = block_data(s.block) + s.offset;
	struct slice payload = payload_of(len, c);
	uint8_t header[WS_FRAME_HEADER_MAX];
	size_t header_len = ws_frame_header(header, len);

	return s.length == header_len + len && memcmp(p, header, header_len) == 0 &&
	       memcmp(p + header_len, payload.ptr, len) == 0;
}

/* A frame whose reference the caller owns. */
static struct span
frame_of(size_t len, char c)
{
	struct msg m = {.payload = payload_of(len, c)};
	struct span s = msg_frame(&m, MSG_FORM_AWX);

	block_ref(s.block);
	msg_done(&m);
	return s;
}

static void
test_sizes(void)
{
	static const size_t sizes[] = {
	    2, 3, 125, 126, 127, 32757, 32758, 32759, 32768, 65535, 65536, PAYLOAD_MAX};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct span s = frame_of(sizes[i], 'a'),
			    own = msg_make_frame(MSG_FORM_AWX, NULL, 0, payload_of(sizes[i], 'b'));

		ok(span_is_frame(s, sizes[i], 'a'), "a frame of %zu octets", sizes[i]);
		ok(span_is_frame(own, sizes[i], 'b') && own.offset == 0 && own.block != s.block,
		    "a frame of %zu octets in a block of its own", sizes[i]);
		block_unref(s.block);
		block_unref(own.block);
	}
	msg_release_blocks();
}

static void
test_made_once(void)
{
	struct msg m = {.payload = payload_of(10, 'a')};
	struct span a = msg_frame(&m, MSG_FORM_AWX), b = msg_frame(&m, MSG_FORM_AWX), c;

	ok(a.block == b.block && a.offset == b.offset && a.length == b.length,
	    "a message's frame is made once");
	msg_done(&m);
	c = frame_of(10, 'b');
	ok(c.block == a.block && c.offset == a.offset + a.length,
	    "the next message's frame lies right behind it");
	block_unref(c.block);
	msg_release_blocks();
}

static void
test_unused(void)
{
	struct msg m = {.payload = payload_of(10, 'a')};

	msg_done(&m);
	ok(true, "a message that nobody wanted has nothing to drop");
	msg_release_blocks();
	msg_release_blocks();
	ok(true, "letting go of no block, and twice, is harmless");
}

/* A run of frames over several blocks: each block is filled from its start without gaps, and all octets stay
 * as they were. */
static void
test_blocks(void)
{
	enum { FRAMES = 400 };
	struct span spans[FRAMES];
	struct tap_random random = {99};
	size_t lens[FRAMES];
	int blocks = 1;
	bool laid = true, intact = true;

	for (int i = 0; i < FRAMES; i++) {
		lens[i] = 2 + tap_random(&random, 900);
		spans[i] = frame_of(lens[i], (char)('a' + i % 26));
		if (i > 0 && spans[i].block != spans[i - 1].block) {
			blocks++;
			laid = laid && spans[i].offset == 0 &&
			       spans[i - 1].offset + spans[i - 1].length + lens[i] + 10 > 32768;
		} else if (i > 0) {
			laid = laid && spans[i].offset == spans[i - 1].offset + spans[i - 1].length;
		}
	}
	ok(laid,
	    "frames lie one behind the other, and a new block is begun only when the next would not fit");
	ok(blocks >= 5 && blocks <= 7, "400 frames of 450 octets on the average take %d blocks of 32 KiB",
	    blocks);
	for (int i = 0; i < FRAMES; i++)
		intact = intact && span_is_frame(spans[i], lens[i], (char)('a' + i % 26));
	ok(intact, "no frame is laid over another");
	for (int i = FRAMES - 1; i >= 0; i--)
		block_unref(spans[i].block);
	msg_release_blocks();
}

static void
test_large(void)
{
	struct span before = frame_of(100, 'a'), large = frame_of(100000, 'b'), after = frame_of(100, 'c');

	ok(large.block != before.block && large.offset == 0, "a frame larger than a block gets its own");
	ok(after.block == before.block && after.offset == before.offset + before.length,
	    "and the block that is being filled goes on");
	ok(span_is_frame(before, 100, 'a') && span_is_frame(large, 100000, 'b') &&
		span_is_frame(after, 100, 'c'),
	    "all three are whole");
	block_unref(before.block);
	block_unref(large.block);
	block_unref(after.block);
	msg_release_blocks();
}

static void
test_references(void)
{
	struct span a = frame_of(50, 'a');
	struct span copy;

	msg_release_blocks();
	ok(span_is_frame(a, 50, 'a'), "a block lives as long as somebody refers to it");
	block_ref(a.block);
	block_unref(a.block);
	ok(span_is_frame(a, 50, 'a'), "and dropping one of two references leaves it");
	block_unref(a.block);
	copy = span_copy("octets", 6);
	ok(copy.offset == 0 && tap_same_octets(block_data(copy.block), copy.length, "octets", 6),
	    "a copy holds its octets");
	block_unref(copy.block);
	copy = span_copy("", 0);
	is_int(copy.length, 0, "a copy of nothing is empty");
	block_unref(copy.block);
}

/* ---- server-sent events ---- */

static const char *sse_cursor;

static size_t
write_cursor(const struct msg *msg, char *out, size_t size)
{
	return sse_cursor != NULL ? (size_t)snprintf(out, size, "%s", sse_cursor) : 0;
}

static void
check_sse(const char *payload, const char *want, const char *what)
{
	struct msg m = {.payload = {payload, strlen(payload)}};
	struct span s = msg_frame(&m, MSG_FORM_SSE), again = msg_frame(&m, MSG_FORM_SSE);

	ok(tap_same_octets(block_data(s.block) + s.offset, s.length, want, strlen(want)), "%s", what);
	ok(again.block == s.block && again.offset == s.offset, "and it is made once");
	msg_done(&m);
}

static void
test_sse(void)
{
	struct span own;

	check_sse("{\"a\": 1}", "data: {\"a\": 1}\n\n", "a server-sent event where there are no cursors");
	msg_set_cursor_source(write_cursor);
	check_sse("{}", "data: {}\n\n", "one while there is no cursor");
	sse_cursor = "1.2:3,4";
	check_sse("{}", "id: 1.2:3,4\ndata: {}\n\n", "one with its cursor");
	check_sse(
	    "{\"a\":\r1,\r\n\n2}", "id: 1.2:3,4\ndata: {\"a\": 1,   2}\n\n", "no line's end ends its data");
	own = msg_make_frame(MSG_FORM_SSE, NULL, 0, (struct slice){"{}", 2});
	ok(tap_same_octets(block_data(own.block), own.length, "data: {}\n\n", 10),
	    "one made alone has no cursor");
	block_unref(own.block);
	msg_set_cursor_source(NULL);
	msg_release_blocks();
}

/* The longest cursor before payloads around a block's size. */
static void
test_sse_sizes(void)
{
	static char cursor[MSG_CURSOR_MAX + 1];
	static const size_t sizes[] = {2, 28000, 28653, 28654, 28655, 32768, PAYLOAD_MAX};
	size_t head = 4 + MSG_CURSOR_MAX + 1 + 6;

	memset(cursor, '7', MSG_CURSOR_MAX);
	sse_cursor = cursor;
	msg_set_cursor_source(write_cursor);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct msg m = {.payload = payload_of(sizes[i], 'a')};
		struct span s = msg_frame(&m, MSG_FORM_SSE);
		const uint8_t *p = block_data(s.block) + s.offset;

		ok(s.length == head + sizes[i] + 2 && memcmp(p, "id: 7", 5) == 0 &&
			memcmp(p + head - 7, "\ndata: {", 8) == 0 &&
			memcmp(p + s.length - 3, "}\n\n", 3) == 0,
		    "a server-sent event with %zu octets of data", sizes[i]);
		msg_done(&m);
	}
	msg_set_cursor_source(NULL);
	msg_release_blocks();
}

/* ---- for wsbroadcast ---- */

static void
check_broadcast(const char *type, const char *key, const char *payload, const char *want)
{
	struct topic topic = {{type, strlen(type)}, {"x", 1}, {key, strlen(key)}};
	char *octets = tap_copy(payload, strlen(payload));
	struct msg m = {.topic = &topic, .payload = {octets, strlen(payload)}};
	struct span frame = msg_frame(&m, MSG_FORM_BROADCAST), again = msg_frame(&m, MSG_FORM_BROADCAST),
		    own = msg_make_frame(MSG_FORM_BROADCAST, &topic, 0, m.payload);
	uint8_t header[WS_FRAME_HEADER_MAX];
	size_t len = ws_frame_header(header, strlen(want));
	const uint8_t *p = block_data(frame.block) + frame.offset;

	ok(frame.length == len + strlen(want) && memcmp(p, header, len) == 0 &&
		memcmp(p + len, want, strlen(want)) == 0,
	    "a frame for wsbroadcast: %s", want);
	ok(again.block == frame.block && again.offset == frame.offset, "is made once");
	ok(tap_same_octets(block_data(own.block), own.length, p, frame.length),
	    "and in a block of its own, too");
	block_unref(own.block);
	msg_done(&m);
	free(octets);
}

static void
test_broadcast(void)
{
	check_broadcast("a", "", "{}", "{\"group\": \"a-x\", \"message\": \"{}\"}");
	check_broadcast("my_events", "a%20\"\\b", "{\"a\": \"\\\"\\n\"}",
	    "{\"group\": \"my_events-a \\\"\\\\b\", \"message\": \"{\\\"a\\\": \\\"\\\\\\\"\\\\n\\\"}\"}");
	check_broadcast("a", "", "{\x01\b\t\n\x1f\x7f/\xc3\xa4\xf0\x9f\x98\x80}",
	    "{\"group\": \"a-x\", \"message\": "
	    "\"{\\u0001\\u0008\\u0009\\u000a\\u001f\x7f/\xc3\xa4\xf0\x9f\x98\x80}\"}");
	msg_release_blocks();
}

/* Of any octets, each the long way. */
static bool
broadcast_is_escaped(const char *payload, size_t payload_len)
{
	struct topic topic = {{"a", 1}, {"x", 1}, {"", 0}};
	struct msg m = {.topic = &topic, .payload = {payload, payload_len}};
	struct span frame = msg_frame(&m, MSG_FORM_BROADCAST);
	uint8_t header[WS_FRAME_HEADER_MAX];
	char want[512];
	size_t len = (size_t)sprintf(want, "{\"group\": \"a-x\", \"message\": \""), header_len;
	bool right;

	for (size_t i = 0; i < payload_len; i++) {
		unsigned char c = (unsigned char)payload[i];

		len += (size_t)sprintf(want + len,
		    c < 0x20                ? "\\u%04x"
		    : c == '"' || c == '\\' ? "\\%c"
					    : "%c",
		    c);
	}
	len += (size_t)sprintf(want + len, "\"}");
	header_len = ws_frame_header(header, len);
	right = frame.length == header_len + len &&
		memcmp(block_data(frame.block) + frame.offset + header_len, want, len) == 0;
	msg_done(&m);
	return right;
}

static void
test_broadcast_random(void)
{
	struct tap_random random = {8};
	bool right = true;

	for (int i = 0; i < 20000; i++) {
		char octets[40], *copy;
		size_t len = tap_random(&random, sizeof(octets));

		for (size_t j = 0; j < len; j++)
			octets[j] = (char)(tap_random(&random, 12) > 0 ? 'a' + (int)j % 26
								       : 1 + (int)tap_random(&random, 255));
		copy = tap_copy(octets, len);
		right = broadcast_is_escaped(copy, len) && right;
		free(copy);
	}
	ok(right, "20000 payloads of letters and others, escaped");
	msg_release_blocks();
}

/* Of quotes alone, around the sizes of headers and blocks. */
static void
test_broadcast_sizes(void)
{
	static const size_t sizes[] = {1, 40, 50, 100, 16000, 16350, 16370, 16400, 32730, 65536, PAYLOAD_MAX};
	struct topic topic = {{"a", 1}, {"x", 1}, {"", 0}};
	const size_t around = strlen("{\"group\": \"a-x\", \"message\": \"\"}");

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct msg m = {.topic = &topic,
		    .payload = {tap_copy(payload_of(sizes[i], 'a').ptr, sizes[i]), sizes[i]}};
		uint8_t header[WS_FRAME_HEADER_MAX];
		struct span frame;
		bool escaped = true;
		const uint8_t *p;

		memset((char *)(uintptr_t)m.payload.ptr, '"', sizes[i]);
		frame = msg_frame(&m, MSG_FORM_BROADCAST);
		p = block_data(frame.block) + frame.offset + ws_frame_header(header, around + 2 * sizes[i]) +
		    around - 2;
		for (size_t j = 0; j < sizes[i]; j++)
			escaped = escaped && p[2 * j] == '\\' && p[2 * j + 1] == '"';
		ok(escaped && frame.length ==
				  ws_frame_header(header, around + 2 * sizes[i]) + around + 2 * sizes[i],
		    "a frame of %zu quotes for wsbroadcast", sizes[i]);
		msg_done(&m);
		free((char *)(uintptr_t)m.payload.ptr);
	}
	msg_release_blocks();
}

/* What a relay brought is no part of the stream. */
static void
test_relayed(void)
{
	struct msg m = {.payload = payload_of(10, 'a'), .group = "a-1"};
	struct span frame;

	sse_cursor = "1.2:3,4";
	msg_set_cursor_source(write_cursor);
	frame = msg_frame(&m, MSG_FORM_SSE);
	ok(memcmp(block_data(frame.block) + frame.offset, "data: {", 7) == 0,
	    "what relays bring has no cursor");
	msg_done(&m);
	msg_set_cursor_source(NULL);
	msg_release_blocks();
}

int
main(void)
{
	test_sizes();
	test_made_once();
	test_unused();
	test_blocks();
	test_large();
	test_references();
	test_sse();
	test_sse_sizes();
	test_broadcast();
	test_broadcast_sizes();
	test_broadcast_random();
	test_relayed();
	return tap_end();
}
