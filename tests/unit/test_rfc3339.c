/* Times: src/core/rfc3339.c. What is valid is what Go reads. */
#include "config.h"
#include "core/rfc3339.h"
#include "core/mem.h"

#include "tap.h"

static const struct time_row {
	const char *text;
	bool valid;
} time_rows[] = {
    {"2026-11-22T10:00:00Z", true},
    {"2026-11-22T10:00:00.123456789Z", true},
    {"2026-11-22T10:00:00.1234567890Z", false},
    {"2026-11-22T10:00:00+00:00", true},
    {"2026-11-22T23:59:59.5-23:59", true},
    {"0001-01-01T00:00:00Z", true},
    {"2024-02-29T00:00:00Z", true},
    {"2023-02-29T00:00:00Z", false},
    {"1900-02-29T00:00:00Z", false},
    {"2000-02-29T00:00:00Z", true},
    {"2026-13-01T00:00:00Z", false},
    {"2026-00-01T00:00:00Z", false},
    {"2026-11-31T00:00:00Z", false},
    {"2026-11-00T00:00:00Z", false},
    {"2026-11-22T24:00:00Z", false},
    {"2026-11-22T10:60:00Z", false},
    {"2026-11-22T10:00:60Z", false},
    {"2026-11-22T10:00:00", false},
    {"2026-11-22T10:00:00.Z", false},
    {"2026-11-22T10:00:00z", false},
    {"2026-11-22t10:00:00Z", false},
    {"2026-11-22 10:00:00Z", false},
    {"2026-11-22T10:00:00+0100", false},
    {"2026-11-22T10:00:00+24:00", false},
    {"2026-11-22T10:00:00+01:60", false},
    {"2026-11-22T10:00:00ZZ", false},
    {"2026-11-22T10:00:00\\u005a", false},
    {"2026-11-22", false},
    {"", false},
};

static void
test_valid(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(time_rows); i++) {
		size_t len = strlen(time_rows[i].text);
		char *copy = tap_copy(time_rows[i].text, len);

		ok(rfc3339_is_valid((struct slice){copy, len}) == time_rows[i].valid, "\"%s\" is %s time",
		    time_rows[i].text, time_rows[i].valid ? "a" : "no");
		free(copy);
	}
	ok(!rfc3339_is_valid((struct slice){"2026-11-22T10:00:00Z\0", 21}), "a NUL behind it is none of it");
}

static const struct format_row {
	int64_t us;
	const char *text;
} format_rows[] = {
    {0, "1970-01-01T00:00:00Z"},
    {1, "1970-01-01T00:00:00.000001Z"},
    {-1, "1969-12-31T23:59:59.999999Z"},
    {INT64_C(1795341600123450), "2026-11-22T10:00:00.12345Z"},
    {INT64_C(1795341600000000), "2026-11-22T10:00:00Z"},
    {INT64_C(951782400500000), "2000-02-29T00:00:00.5Z"},
};

static void
test_format(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(format_rows); i++) {
		char text[RFC3339_SIZE];
		size_t len = rfc3339_format(format_rows[i].us, text);

		is_str(text, format_rows[i].text, "%lld microseconds", (long long)format_rows[i].us);
		ok(len == strlen(text) && rfc3339_is_valid((struct slice){text, len}), "and it is valid");
	}
}

int
main(void)
{
	test_valid();
	test_format();
	return tap_end();
}
