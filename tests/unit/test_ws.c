/* WebSocket framing, both ends: src/http/ws.c. Everything is fed whole, then one octet at a time. */
#include "config.h"
#include "core/mem.h"
#include "http/ws.h"

#include "tap.h"

#define TEXT(s)     s, sizeof(s) - 1
#define MESSAGE_MAX 100000
#define FIN         0x80
#define MASK        0x80

/* One end: what it got, and what it gave to send. */
struct end {
	struct ws *ws;
	char *log; /* of the messages: "text:..." or "binary:...", separated by | */
	size_t log_len;
	char *out;
	size_t out_len;
	bool open; /* what ws_feed() said last */
};

static void
append(char **to, size_t *to_len, const void *data, size_t len)
{
	*to = mem_resize(*to, *to_len + len + 1);
	if (len > 0)
		memcpy(*to + *to_len, data, len);
	*to_len += len;
	(*to)[*to_len] = '\0';
}

static void
end_on_message(void *arg, bool text, const uint8_t *data, size_t len)
{
	struct end *e = arg;
	const char *kind = text ? "text:" : "binary:";

	if (e->log_len > 0)
		append(&e->log, &e->log_len, "|", 1);
	append(&e->log, &e->log_len, kind, strlen(kind));
	append(&e->log, &e->log_len, data, len);
}

static void
end_send(void *arg, const uint8_t *data, size_t len)
{
	struct end *e = arg;

	append(&e->out, &e->out_len, data, len);
}

static const struct ws_ops end_ops = {end_on_message, end_send};

static void
end_init(struct end *e, enum ws_role role)
{
	memset(e, 0, sizeof(*e));
	append(&e->log, &e->log_len, "", 0);
	append(&e->out, &e->out_len, "", 0);
	e->ws = ws_new(role, MESSAGE_MAX, &end_ops, e);
	e->open = true;
}

static void
end_done(struct end *e)
{
	ws_free(e->ws);
	free(e->log);
	free(e->out);
}

/* In pieces of so many octets, each in a buffer of just its size. False from ws_feed() ends it, as it does
 * for a connection. */
static void
end_feed(struct end *e, const void *data, size_t len, size_t piece)
{
	for (size_t at = 0; e->open && at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;
		char *copy = tap_copy((const char *)data + at, n);

		e->open = ws_feed(e->ws, (const uint8_t *)copy, n);
		free(copy);
	}
}

/* What one end gave to send goes to the other. */
static void
carry(struct end *from, struct end *to, size_t piece)
{
	char *out = from->out;
	size_t len = from->out_len;

	from->out = NULL;
	from->out_len = 0;
	append(&from->out, &from->out_len, "", 0);
	end_feed(to, out, len, piece);
	free(out);
}

/* ---- frames by hand, as a peer that need not keep to the rules sends them ---- */

struct wire {
	size_t len;
	char octets[4 * MESSAGE_MAX];
};

/* A frame of a client; mask 0 makes it an unmasked one. */
static void
wire_add(struct wire *w, unsigned first, unsigned mask, const char *payload, size_t len)
{
	static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
	uint8_t *p = (uint8_t *)w->octets + w->len;
	int octets = len < 126 ? 0 : len < 65536 ? 2 : 8;

	*p++ = (uint8_t)first;
	*p++ = (uint8_t)(mask | (octets == 0 ? len : octets == 2 ? 126 : 127));
	for (int i = octets - 1; i >= 0; i--)
		*p++ = (uint8_t)((uint64_t)len >> (8 * i));
	if (mask != 0) {
		memcpy(p, key, 4);
		p += 4;
	}
	for (size_t i = 0; i < len; i++)
		*p++ = (uint8_t)payload[i] ^ (mask != 0 ? key[i % 4] : 0);
	w->len = (size_t)(p - (uint8_t *)w->octets);
}

/* The last frame that an end gave to send, when it is a close frame of a server: its code; else 0. */
static unsigned
close_sent(const struct end *e)
{
	const uint8_t *p = (const uint8_t *)e->out, *end = p + e->out_len;

	while (end - p >= 2) {
		size_t len = p[1] & 0x7f;

		if (p[0] == (FIN | 8))
			return len >= 2 && end - p >= 4 ? (unsigned)p[2] << 8 | p[3] : 1005;
		p += 2 + len;
	}
	return 0;
}

static const struct wire_row {
	const char *name;
	struct {
		unsigned first, mask;
		const char *payload;
		size_t len;
	} frames[5];
	const char *messages;
	unsigned close_code; /* sent and told; 0: the connection stays open */
} wire_rows[] = {
    {"a text", {{FIN | 1, MASK, TEXT("hello")}}, "text:hello", 0},
    {"an empty text", {{FIN | 1, MASK, TEXT("")}, {FIN | 1, MASK, TEXT("x")}}, "text:|text:x", 0},
    {"a text of 4 octets a character", {{FIN | 1, MASK, TEXT("\xf0\x9f\x98\x80")}}, "text:\xf0\x9f\x98\x80",
	0},
    {"a binary message, UTF-8 or not", {{FIN | 2, MASK, TEXT("\xff\xfe")}}, "binary:\xff\xfe", 0},
    {"two texts", {{FIN | 1, MASK, TEXT("one")}, {FIN | 1, MASK, TEXT("two")}}, "text:one|text:two", 0},
    {"a text in three fragments", {{1, MASK, TEXT("a")}, {0, MASK, TEXT("")}, {FIN | 0, MASK, TEXT("b")}},
	"text:ab", 0},
    {"a text with a ping between its fragments",
	{{1, MASK, TEXT("a")}, {FIN | 9, MASK, TEXT("p")}, {FIN | 0, MASK, TEXT("b")},
	    {FIN | 1, MASK, TEXT("c")}},
	"text:ab|text:c", 0},
    {"a character cut by fragments", {{1, MASK, TEXT("\xe2\x82")}, {FIN | 0, MASK, TEXT("\xac")}},
	"text:\xe2\x82\xac", 0},
    {"a pong that nobody asked for", {{FIN | 10, MASK, TEXT("x")}, {FIN | 1, MASK, TEXT("y")}}, "text:y", 0},
    {"an unmasked frame", {{FIN | 1, 0, TEXT("hello")}}, "", 1002},
    {"an unmasked ping", {{FIN | 9, 0, TEXT("")}}, "", 1002},
    {"an unmasked close frame", {{FIN | 8, 0, TEXT("\x03\xe8")}}, "", 1002},
    {"an unmasked frame after a good one", {{FIN | 1, MASK, TEXT("a")}, {FIN | 1, 0, TEXT("b")}}, "text:a",
	1002},
    {"reserved bit 1", {{FIN | 0x40 | 1, MASK, TEXT("a")}}, "", 1002},
    {"reserved bit 2", {{FIN | 0x20 | 1, MASK, TEXT("a")}}, "", 1002},
    {"reserved bit 3", {{FIN | 0x10 | 1, MASK, TEXT("a")}}, "", 1002},
    {"a reserved bit on a ping", {{FIN | 0x40 | 9, MASK, TEXT("a")}}, "", 1002},
    {"reserved opcode 3", {{FIN | 3, MASK, TEXT("a")}}, "", 1002},
    {"reserved opcode 7", {{FIN | 7, MASK, TEXT("a")}}, "", 1002},
    {"reserved opcode 11", {{FIN | 11, MASK, TEXT("a")}}, "", 1002},
    {"reserved opcode 15", {{FIN | 15, MASK, TEXT("a")}}, "", 1002},
    {"a fragment that continues nothing", {{FIN | 0, MASK, TEXT("a")}}, "", 1002},
    {"a new text inside a fragmented one", {{1, MASK, TEXT("a")}, {FIN | 1, MASK, TEXT("b")}}, "", 1002},
    {"a ping in fragments", {{9, MASK, TEXT("a")}}, "", 1002},
    {"a ping of 126 octets",
	{{FIN | 9, MASK,
	    TEXT("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
		 "123"
		 "45678901234567890123456789012345")}},
	"", 1002},
    {"text that is not UTF-8", {{FIN | 1, MASK, TEXT("a\xff")}}, "", 1007},
    {"text that ends within a character", {{FIN | 1, MASK, TEXT("\xe2\x82")}}, "", 1007},
    {"text with a surrogate", {{FIN | 1, MASK, TEXT("\xed\xa0\x80")}}, "", 1007},
    {"text with an overlong character", {{FIN | 1, MASK, TEXT("\xc0\x80")}}, "", 1007},
    {"text past U+10FFFF", {{FIN | 1, MASK, TEXT("\xf4\x90\x80\x80")}}, "", 1007},
    {"a character that the next fragment spoils", {{1, MASK, TEXT("\xe2\x82")}, {FIN | 0, MASK, TEXT("x")}},
	"", 1007},
    {"fragments that end within a character", {{1, MASK, TEXT("a")}, {FIN | 0, MASK, TEXT("\xe2")}}, "",
	1007},
    {"a close frame", {{FIN | 8, MASK, TEXT("\x03\xe8")}}, "", 1000},
    {"a close frame with a reason", {{FIN | 8, MASK, TEXT("\x03\xe9going away")}}, "", 1001},
    {"a close frame without a code", {{FIN | 8, MASK, TEXT("")}}, "", 1005},
    {"a close frame whose code is reserved", {{FIN | 8, MASK, TEXT("\x03\xed")}}, "", 1002},
    {"a text behind a close frame", {{FIN | 8, MASK, TEXT("\x03\xe8")}, {FIN | 1, MASK, TEXT("late")}}, "",
	1000},
    {"a close frame inside a fragmented text", {{1, MASK, TEXT("a")}, {FIN | 8, MASK, TEXT("\x03\xe8")}}, "",
	1000},
};

static void
wire_row_check(const struct wire_row *row, size_t piece)
{
	static struct wire w;
	const char *how = piece == 1 ? "by octets" : "whole";
	struct end server;

	w.len = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(row->frames) && row->frames[i].payload != NULL; i++)
		wire_add(&w, row->frames[i].first, row->frames[i].mask, row->frames[i].payload,
		    row->frames[i].len);
	end_init(&server, WS_SERVER);
	end_feed(&server, w.octets, w.len, piece);
	is_str(server.log, row->messages, "%s, %s: the messages", row->name, how);
	is_int(close_sent(&server), row->close_code, "%s, %s: the close frame sent", row->name, how);
	is_int(ws_close_code(server.ws), row->close_code, "%s, %s: the code told", row->name, how);
	ok(server.open == (row->close_code == 0), "%s, %s: the connection %s", row->name, how,
	    row->close_code == 0 ? "stays open" : "ends");
	end_done(&server);
}

static void
test_wire(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(wire_rows); i++) {
		wire_row_check(&wire_rows[i], SIZE_MAX / 2);
		wire_row_check(&wire_rows[i], 1);
	}
}

/* The code told is of the frame that came, where that is a close frame. */
static void
test_wire_broken_close(void)
{
	static struct wire w;
	struct end server;

	wire_add(&w, FIN | 8, MASK, TEXT("\x03"));
	end_init(&server, WS_SERVER);
	end_feed(&server, w.octets, w.len, 1);
	is_int(close_sent(&server), WS_CLOSE_PROTOCOL, "a close frame of one octet breaks the protocol");
	ok(!server.open, "and ends the connection");
	end_done(&server);

	w.len = 0;
	wire_add(&w, FIN | 8, MASK,
	    TEXT("\x03\xe8\xff")); /* whole: of one that comes in pieces wslay checks a part only */
	end_init(&server, WS_SERVER);
	end_feed(&server, w.octets, w.len, w.len);
	is_int(close_sent(&server), WS_CLOSE_NOT_UTF8, "a close frame's reason must be UTF-8");
	ok(!server.open, "and ends the connection");
	end_done(&server);
}

/* Every octet in each place of a header and of a payload: no crash, and never a message that was not there.
 */
static void
test_wire_mutations(void)
{
	static struct wire w;
	int open = 0, closed = 0;

	for (size_t at = 0; at < 12; at++) {
		for (int c = 0; c < 256; c++) {
			struct end server;

			w.len = 0;
			wire_add(&w, 1, MASK, TEXT("ab"));
			wire_add(&w, FIN | 0, MASK, TEXT("c"));
			wire_add(&w, FIN | 9, MASK, TEXT("p"));
			w.octets[at] = (char)c;
			end_init(&server, WS_SERVER);
			end_feed(&server, w.octets, w.len, 1);
			open += server.open;
			closed += !server.open && close_sent(&server) != 0;
			end_done(&server);
		}
	}
	is_int(open + closed, 12 * 256,
	    "every octet in each place of a frame leaves the connection open or closes it with a code");
	ok(open > 0 && closed > 0, "%d and %d times", open, closed);
}

/* ---- sizes ---- */

static void
test_too_big(void)
{
	static struct wire w;
	static char octets[2 * MESSAGE_MAX];
	struct end server;

	memset(octets, 'x', sizeof(octets));
	end_init(&server, WS_SERVER);
	w.len = 0;
	wire_add(&w, FIN | 1, MASK, octets, MESSAGE_MAX);
	end_feed(&server, w.octets, w.len, 4096);
	is_int((long long)server.log_len, MESSAGE_MAX + 5, "the largest message comes whole");
	w.len = 0;
	wire_add(&w, FIN | 1, MASK, octets, MESSAGE_MAX + 1);
	end_feed(&server, w.octets, 15, SIZE_MAX / 2);
	is_int(ws_close_code(server.ws), WS_CLOSE_TOO_BIG,
	    "one octet more is too big, told by its header and first octet");
	is_int(close_sent(&server), WS_CLOSE_TOO_BIG, "and the close frame says so");
	ok(!server.open, "the connection ends");
	end_done(&server);

	end_init(&server, WS_SERVER);
	w.len = 0;
	wire_add(&w, 1, MASK, octets, MESSAGE_MAX - 10);
	wire_add(&w, FIN | 0, MASK, octets, 11);
	end_feed(&server, w.octets, w.len, 4096);
	is_int(close_sent(&server), WS_CLOSE_TOO_BIG, "fragments are too big together");
	is_str(server.log, "", "and nothing of them is a message");
	end_done(&server);

	end_init(&server, WS_SERVER);
	end_feed(&server, "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff...", 14, 1);
	is_int(close_sent(&server), WS_CLOSE_PROTOCOL, "a length of 2^64 - 1 breaks the protocol");
	end_done(&server);
	end_init(&server, WS_SERVER);
	end_feed(&server, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff....x", 15, 1);
	is_int(close_sent(&server), WS_CLOSE_TOO_BIG, "one of 2^63 - 1 is too big");
	end_done(&server);
}

static void
test_length_not_minimal(void)
{
	struct end server;

	end_init(&server, WS_SERVER);
	end_feed(&server, "\x81\xfe\x00\x05....hello", 13, 1);
	is_int(close_sent(&server), WS_CLOSE_PROTOCOL, "a length of two octets where one would do");
	end_done(&server);
	end_init(&server, WS_SERVER);
	end_feed(&server, "\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05....hello", 19, 1);
	is_int(close_sent(&server), WS_CLOSE_PROTOCOL, "a length of eight octets where one would do");
	end_done(&server);
}

/* ---- both ends joined ---- */

static void
test_talk(size_t piece)
{
	const char *how = piece == 1 ? "by octets" : "whole";
	static char big[70000];
	struct end server, client;

	memset(big, 'b', sizeof(big));
	end_init(&server, WS_SERVER);
	end_init(&client, WS_CLIENT);
	ws_send_text(client.ws, "{\"groups\": {}}", 14);
	ws_send_text(client.ws, "", 0);
	carry(&client, &server, piece);
	is_str(server.log, "text:{\"groups\": {}}|text:", "%s: what the client says", how);
	ws_send_text(server.ws, "answer", 6);
	ws_send_ping(server.ws);
	ws_send_text(server.ws, big, sizeof(big));
	carry(&server, &client, piece);
	ok(client.log_len == 12 + 5 + sizeof(big) && memcmp(client.log, "text:answer|text:bbb", 20) == 0,
	    "%s: what the server says, with a ping between", how);
	is_int((long long)client.out_len, 6, "%s: the ping is answered", how);
	ok((uint8_t)client.out[0] == (FIN | 10) && (uint8_t)client.out[1] == MASK, "%s: by a masked pong",
	    how);
	carry(&client, &server, piece);
	ok(server.open && client.open && ws_close_code(server.ws) == 0 && ws_close_code(client.ws) == 0,
	    "%s: both stay open", how);
	end_done(&server);
	end_done(&client);
}

static void
test_close_handshake(enum ws_role role, size_t piece)
{
	const char *who = role == WS_SERVER ? "the server" : "the client";
	struct end first, second;

	end_init(&first, role);
	end_init(&second, role == WS_SERVER ? WS_CLIENT : WS_SERVER);
	ws_send_close(first.ws, WS_CLOSE_GOING_AWAY, "the node is shutting down");
	ws_send_close(first.ws, WS_CLOSE_NORMAL, "again");
	carry(&first, &second, piece);
	is_int(ws_close_code(second.ws), WS_CLOSE_GOING_AWAY, "%s closes: the other end knows the code", who);
	ok(!second.open, "%s closes: the other end is done", who);
	ok(second.out_len >= 4, "%s closes: the other end answers", who);
	ok(first.open, "%s closes: it waits for the answer", who);
	carry(&second, &first, piece);
	ok(!first.open, "%s closes: the answer ends it", who);
	is_int(ws_close_code(first.ws), WS_CLOSE_GOING_AWAY, "%s closes: the answer has the same code", who);
	is_int((long long)first.out_len, 0, "%s closes: it sends one close frame only", who);
	end_done(&first);
	end_done(&second);
}

/* wslay takes the codes from 1012 on for a breach of the protocol; a client must know that it was too slow.
 */
static void
test_close_codes_told(size_t piece)
{
	static const int codes[] = {1000, 1001, 1003, 1008, 1009, 1011, 1012, 1013, 3000, 4999};

	for (size_t i = 0; i < ARRAY_LENGTH(codes); i++) {
		struct end server, client;

		end_init(&server, WS_SERVER);
		end_init(&client, WS_CLIENT);
		ws_send_text(server.ws, "text", 4);
		ws_send_close(server.ws, (enum ws_close_code)codes[i], "reason");
		carry(&server, &client, piece);
		is_int(ws_close_code(client.ws), codes[i], "a client knows that the server closed with %d",
		    codes[i]);
		ok(!client.open && strcmp(client.log, "text:text") == 0, "after what came before it");
		end_done(&server);
		end_done(&client);
	}
}

static void
test_close_reason(void)
{
	char reason[200];
	struct end server;

	memset(reason, 'r', sizeof(reason));
	reason[sizeof(reason) - 1] = '\0';
	end_init(&server, WS_SERVER);
	ws_send_close(server.ws, WS_CLOSE_POLICY, reason);
	is_int((long long)server.out_len, 2 + 125, "a long reason is cut to what a control frame holds");
	is_int(close_sent(&server), WS_CLOSE_POLICY, "the code is there");
	end_done(&server);
	end_init(&server, WS_SERVER);
	ws_send_close(server.ws, WS_CLOSE_NORMAL, "");
	ok(tap_same_octets(server.out, server.out_len, TEXT("\x88\x02\x03\xe8")),
	    "an empty reason leaves the code alone");
	end_done(&server);
	ws_free(NULL);
}

static void
test_client_rejects_mask(void)
{
	static struct wire w;
	struct end client;

	end_init(&client, WS_CLIENT);
	wire_add(&w, FIN | 1, MASK, TEXT("x"));
	end_feed(&client, w.octets, w.len, 1);
	is_int(ws_close_code(client.ws), WS_CLOSE_PROTOCOL, "a client takes no masked frame");
	is_str(client.log, "", "nor its message");
	end_done(&client);
}

/* ---- headers and handshake values ---- */

static void
test_frame_header(void)
{
	static const struct {
		uint64_t len;
		const char *header;
		size_t header_len;
	} rows[] = {
	    {0, TEXT("\x81\x00")},
	    {125, TEXT("\x81\x7d")},
	    {126, TEXT("\x81\x7e\x00\x7e")},
	    {65535, TEXT("\x81\x7e\xff\xff")},
	    {65536, TEXT("\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00")},
	    {UINT64_C(0x0123456789abcdef), TEXT("\x81\x7f\x01\x23\x45\x67\x89\xab\xcd\xef")},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		uint8_t *out = (uint8_t *)tap_copy("..........", WS_FRAME_HEADER_MAX);
		size_t len = ws_frame_header(out, rows[i].len);

		ok(tap_same_octets(out, len, rows[i].header, rows[i].header_len),
		    "the header of a frame of %llu octets", (unsigned long long)rows[i].len);
		free(out);
	}
}

/* What ws_frame_header() makes is what a client understands. */
static void
test_frame_header_read(void)
{
	static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, 99999};
	static char frame[WS_FRAME_HEADER_MAX + MESSAGE_MAX];

	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		struct end client;
		size_t header = ws_frame_header((uint8_t *)frame, sizes[i]);

		memset(frame + header, 'x', sizes[i]);
		end_init(&client, WS_CLIENT);
		end_feed(&client, frame, header + sizes[i], 1);
		ok(client.open && client.log_len == 5 + sizes[i], "a client reads a frame of %zu octets",
		    sizes[i]);
		end_done(&client);
	}
}

static void
test_handshake_values(void)
{
	static const char *const wrong[] = {"", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ",
	    "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBsZSBub25j=Q==",
	    "dGhlIHNhbXBsZSBub25j Q==", "dGhlIHNhbXBsZSBub25jZ-==", "dGhlIHNhbXBsZSBub25jZQAA",
	    "========================", "dGhlIHNhbXBsZSBub25jZQA="};
	char accept[WS_ACCEPT_SIZE], a[WS_KEY_SIZE], b[WS_KEY_SIZE];

	ws_accept_value("dGhlIHNhbXBsZSBub25jZQ==", accept);
	is_str(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the accept value of RFC 6455's example");
	ok(ws_key_is_valid("dGhlIHNhbXBsZSBub25jZQ=="), "its key is valid");
	ok(ws_key_is_valid("AQIDBAUGBwgJCgsMDQ4PEC=="), "so is one of another end");
	for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++)
		ok(!ws_key_is_valid(wrong[i]), "no key: \"%s\"", wrong[i]);
	ws_make_key(a);
	ws_make_key(b);
	ok(ws_key_is_valid(a) && ws_key_is_valid(b), "a key that was made is valid");
	ok(strcmp(a, b) != 0, "and another one each time");
}

int
main(void)
{
	test_wire();
	test_wire_broken_close();
	test_wire_mutations();
	test_too_big();
	test_length_not_minimal();
	test_talk(SIZE_MAX / 2);
	test_talk(1);
	test_close_handshake(WS_SERVER, SIZE_MAX / 2);
	test_close_handshake(WS_CLIENT, SIZE_MAX / 2);
	test_close_handshake(WS_SERVER, 1);
	test_close_handshake(WS_CLIENT, 1);
	test_close_codes_told(SIZE_MAX / 2);
	test_close_codes_told(1);
	test_close_reason();
	test_client_rejects_mask();
	test_frame_header();
	test_frame_header_read();
	test_handshake_values();
	return tap_end();
}
