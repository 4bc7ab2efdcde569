/* pgrelay watch's place in the stream: what comes again after a loss is known again, once, and nothing else. */
#include "config.h"
#include "cli/watch_cursor.h"
#include "tap.h"

#define LIMIT (1 << 20)

static bool
take(struct watch_cursor *c, const char *text)
{
	char *copy = tap_copy(text, strlen(text));
	bool is_new = watch_cursor_take(c, copy, strlen(text));

	free(copy);
	return is_new;
}

/* One letter a message: those that are new, in order. Others than letters are cursors. The caller releases
 * it. */
static char *
feed(struct watch_cursor *c, const char *stream)
{
	size_t len = 0;
	char *got = tap_copy(stream, strlen(stream) + 1);

	for (; *stream != '\0'; stream++) {
		const char text[2] = {*stream, '\0'};

		if (*stream >= '0' && *stream <= '9')
			watch_cursor_move(c, text);
		else if (take(c, text))
			got[len++] = *stream;
	}
	got[len] = '\0';
	return got;
}

/* Connections, separated by spaces: what is new of the last. */
static void
check_stream(const char *connections, const char *want, const char *what)
{
	struct watch_cursor *c = watch_cursor_new(LIMIT);
	char *list = tap_copy(connections, strlen(connections) + 1), *rest = list, *got = NULL;

	for (char *one; (one = strsep(&rest, " ")) != NULL;) {
		free(got);
		got = feed(c, one);
		watch_cursor_rewind(c);
	}
	is_str(got, want, "%s (%s)", what, connections);
	free(got);
	free(list);
	watch_cursor_free(c);
}

static void
test_streams(void)
{
	check_stream("aab1cc", "aabcc", "messages of one connection are all new, alike or not");
	check_stream("ab ab", "ab", "without a cursor nothing comes again");
	check_stream("1ab abc", "c", "what came behind the cursor is known again");
	check_stream("1ab2c cd", "d", "what came before it is not expected");
	check_stream("1ab2 ab", "ab", "nor known: the same text is another message");
	check_stream("1aab aabab", "ab", "as often as it had come, not more");
	check_stream("1ab bac", "c", "overlapping transactions may come in another order");
	check_stream("1abc a2b bcd", "d", "a second loss in the middle of what comes again");
	check_stream("1abc ab abcd", "d", "a second loss without a cursor");
	check_stream("1abc a2 bcd", "d", "a second loss behind a cursor");
	check_stream("1abc 1a2b3c4d", "d", "a cursor behind each message");
	check_stream("1abc xyz2abc", "xyzabc", "a gap: what has not come by then does not come any more");
	check_stream("1abc axy2bc", "xy", "but while some still come, the rest may");
	check_stream("1abc ax2b3yz4c", "xyzc", "and then no more");
}

static void
test_text(void)
{
	struct watch_cursor *c = watch_cursor_new(LIMIT);

	is_str(watch_cursor_text(c), NULL, "there is no cursor before the first");
	watch_cursor_move(c, "7-x:1.2,3_4");
	is_str(watch_cursor_text(c), "7-x:1.2,3_4", "the last one, as it came");
	watch_cursor_move(c, "8");
	watch_cursor_rewind(c);
	is_str(watch_cursor_text(c), "8", "a loss leaves it");
	take(c, "a");
	watch_cursor_rewind(c);
	watch_cursor_forget(c);
	is_str(watch_cursor_text(c), NULL, "forgotten");
	ok(take(c, "a"), "and so is what came behind it");
	watch_cursor_free(c);
	watch_cursor_free(NULL);
}

/* Equal in the beginning, and with a NUL in the middle. */
static void
test_octets(void)
{
	struct watch_cursor *c = watch_cursor_new(LIMIT);

	watch_cursor_move(c, "1");
	watch_cursor_take(c, "a\0b", 3);
	watch_cursor_rewind(c);
	ok(watch_cursor_take(c, "a\0c", 3), "another text of the same length is another message");
	ok(watch_cursor_take(c, "a", 1), "and so is its beginning");
	ok(!watch_cursor_take(c, "a\0b", 3), "the same octets are the same");
	watch_cursor_free(c);
}

static void
test_bound(void)
{
	struct watch_cursor *c = watch_cursor_new(4000);
	char text[32];
	int known = 0;

	watch_cursor_move(c, "1");
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		take(c, text);
	}
	watch_cursor_rewind(c);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		known += !take(c, text);
	}
	ok(known > 10 && known < 4000 / 10, "of too many messages the last are remembered");
	watch_cursor_free(c);

	c = watch_cursor_new(100);
	watch_cursor_move(c, "1");
	for (int i = 0; i < 1000; i++)
		watch_cursor_take(c, text, 0);
	watch_cursor_rewind(c);
	for (int i = known = 0; i < 1000; i++)
		known += !watch_cursor_take(c, text, 0);
	ok(known > 0 && known < 10, "empty ones take memory, too");
	watch_cursor_free(c);
}

int
main(void)
{
	test_streams();
	test_text();
	test_octets();
	test_bound();
	return tap_end();
}
