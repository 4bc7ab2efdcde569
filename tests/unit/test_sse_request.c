/* What a request for server-sent events asks for: src/client/sse_request.c (docs/protocol.md, section 5). */
#include "config.h"
#include "client/sse_request.h"
#include "core/mem.h"

#include "tap.h"

#define UUID      "0123abcd-ef01-2345-6789-ABCDEF012345"
#define CURSOR    "1.7300000000000000001.1.0123456789abcdef.17.812:815:813.-."
#define NEWER     "1.7300000000000000001.1.0123456789abcdef.18.815:815:.s.5_2,7"
#define TEN(s)    s s s s s s s s s s
#define WORD_63   TEN("abcdef") "xyz"
#define NO_CURSOR "this is no cursor; give the last one received, unchanged"
#define WANTED    "groups are wanted, as in /events?groups=job_events-42,jobs-status_changed"
#define NONE(n)                                                                                              \
	"group " n " in the URL is none; groups are NAME-VALUE, separated by commas, as in "                 \
	"/events?groups=job_events-42,jobs-status_changed"

/* The groups as "label=pattern" each, or the error. The caller releases it. */
static char *
request_text(const struct sse_request *r)
{
	char *text = mem_strdup(r->error != NULL ? r->error : "");

	for (size_t i = 0; i < r->count; i++) {
		char *more = mem_printf("%s%s%s=%s", text, *text != '\0' ? " " : "", r->groups[i].label,
		    r->groups[i].pattern != NULL ? r->groups[i].pattern : "-");

		free(text);
		text = more;
	}
	return text;
}

static const struct groups_row {
	const char *name, *groups, *want;
} groups_rows[] = {
    {"one group", "job_events-42", "job_events-42=job_events.*.42"},
    {"several", "job_events-42,jobs-status_changed,t-" UUID,
	"job_events-42=job_events.*.42 jobs-status_changed=jobs.status_changed.* t-" UUID "=t.*." UUID},
    {"a hyphen in the name", "my-type-42", "my-type-42=my-type.*.42"},
    {"the same twice", "a-1,b-2,a-1", "a-1=a.*.1 b-2=b.*.2"},
    {"what can be no topic's", "a-b c,a-*", "a-b c=- a-*=-"},
    {"the longest name", WORD_63 "-1", WORD_63 "-1=" WORD_63 ".*.1"},
    {"a name too long", WORD_63 "x-1", NONE("1")},
    {"none", NULL, WANTED},
    {"an empty list", "", WANTED},
    {"no hyphen", "jobs", NONE("1")},
    {"no value", "jobs-", NONE("1")},
    {"no name", "-1", NONE("1")},
    {"a comma too many at the end", "a-1,", NONE("2")},
    {"and at the beginning", ",a-1", NONE("1")},
    {"two commas", "a-1,,b-2", NONE("2")},
    {"a good one before a wrong one", "a-1,b-2,nonsense", NONE("3")},
    {"what is not UTF-8", "a-1,b-\xff", NONE("2")},
    {"half a character", "a-\xc3", NONE("1")},
};

static void
test_groups(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(groups_rows); i++) {
		const struct groups_row *row = &groups_rows[i];
		char *groups = row->groups != NULL ? tap_copy(row->groups, strlen(row->groups) + 1) : NULL;
		struct sse_request *r = sse_request_parse(groups, NULL, NULL, 1000);
		char *text = request_text(r);

		is_str(text, row->want, "%s", row->name);
		ok(!r->resume, "and no cursor");
		free(text);
		free(groups);
		sse_request_free(r);
	}
}

static void
check_limit(const char *groups, size_t max, const char *error)
{
	struct sse_request *r = sse_request_parse(groups, NULL, NULL, max);

	is_str(r->error, error, "at most %zu groups: %s", max, groups);
	sse_request_free(r);
}

static void
test_limits(void)
{
	char value[2 + 256 + 1];

	check_limit("a-1,a-2,a-3", 3, NULL);
	check_limit("a-1,a-2,a-3,a-4", 3, "too many groups: at most 3");
	check_limit(",,,", 3, "too many groups: at most 3");
	memset(value, '9', sizeof(value));
	memcpy(value, "a-", 2);
	value[257] = '\0';
	check_limit(value, 3, NULL);
	value[257] = '9';
	value[258] = '\0';
	check_limit(value, 3, NONE("1"));
}

static const struct cursor_row {
	const char *name, *cursor, *last_event_id, *want, *error;
} cursor_rows[] = {
    {"no cursor", NULL, NULL, NULL, NULL},
    {"one in the URL", CURSOR, NULL, CURSOR, NULL},
    {"one from a browser that comes back", NULL, CURSOR, CURSOR, NULL},
    {"both: the browser's is newer", CURSOR, NEWER, NEWER, NULL},
    {"an empty one from the browser", CURSOR, "", CURSOR, NULL},
    {"empty ones are none", "", "", NULL, NULL},
    {"what is no cursor", "42", NULL, NULL, NO_CURSOR},
    {"another program's id", CURSOR, "42", NULL, NO_CURSOR},
    {"a cursor cut short", "1.7300000000000000001.1.0123456789abcdef.17.812:815:8", NULL, NULL, NO_CURSOR},
    {"something behind it", CURSOR " ", NULL, NULL, NO_CURSOR},
};

static void
test_cursors(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(cursor_rows); i++) {
		const struct cursor_row *row = &cursor_rows[i];
		struct sse_request *r = sse_request_parse("a-1", row->cursor, row->last_event_id, 1000);
		char text[POSITION_TEXT_MAX] = "";

		ok(r->resume == (row->want != NULL || row->error != NULL), "%s", row->name);
		position_format(&r->position, text);
		is_str(text, row->want != NULL ? row->want : "", "it is the one that counts");
		is_str(r->error, row->error, "and what is wrong with it");
		is_int((long long)r->count, row->error == NULL, "groups are there without an error only");
		sse_request_free(r);
	}
}

int
main(void)
{
	test_groups();
	test_limits();
	test_cursors();
	return tap_end();
}
