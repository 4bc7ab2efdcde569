/* RFC 3339, section 5.6. */
#include "config.h"
#include "core/rfc3339.h"
#include "core/decimal.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#define RFC3339_SECOND INT64_C(1000000)

/* Times come in rows of the same second, which is written once. */
static char *
rfc3339_write_second(time_t second, char *out)
{
	static time_t written;
	static char text[RFC3339_SIZE];
	static size_t len;
	struct tm tm;

	if (len == 0 || second != written) {
		gmtime_r(&second, &tm);
		len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		written = second;
	}
	return mempcpy(out, text, len);
}

size_t
rfc3339_format(int64_t us, char out[RFC3339_SIZE])
{
	int64_t part = us % RFC3339_SECOND;
	time_t second = (time_t)(us / RFC3339_SECOND);
	char *p;

	if (part < 0) {
		part += RFC3339_SECOND;
		second--;
	}
	p = rfc3339_write_second(second, out);
	if (part > 0) {
		*p++ = '.';
		decimal_write_digits(p, 6, (uint64_t)part);
		for (p += 6; p[-1] == '0'; p--)
			;
	}
	*p++ = 'Z';
	*p = '\0';
	return (size_t)(p - out);
}

/* 'd' stands for a digit; what is matched is taken off. */
static bool
rfc3339_take(struct slice *text, const char *shape)
{
	size_t len = strlen(shape);

	if (text->len < len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (shape[i] == 'd' ? !isdigit((unsigned char)text->ptr[i]) : text->ptr[i] != shape[i])
			return false;
	text->ptr += len;
	text->len -= len;
	return true;
}

/* A number of two digits, at this place of the text. */
static int
rfc3339_number(struct slice text, size_t at)
{
	return (text.ptr[at] - '0') * 10 + text.ptr[at + 1] - '0';
}

static bool
rfc3339_is_date(int year, int month, int day)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] + (leap && month == 2);
}

static bool
rfc3339_is_in_range(struct slice text)
{
	int year = rfc3339_number(text, 0) * 100 + rfc3339_number(text, 2);

	return rfc3339_is_date(year, rfc3339_number(text, 5), rfc3339_number(text, 8)) &&
	       rfc3339_number(text, 11) < 24 && rfc3339_number(text, 14) < 60 &&
	       rfc3339_number(text, 17) < 60;
}

static bool
rfc3339_is_zone(struct slice text)
{
	struct slice rest = text;

	if (rfc3339_take(&rest, "Z"))
		return rest.len == 0;
	return (rfc3339_take(&rest, "+dd:dd") || rfc3339_take(&rest, "-dd:dd")) && rest.len == 0 &&
	       rfc3339_number(text, 1) < 24 && rfc3339_number(text, 4) < 60;
}

bool
rfc3339_is_valid(struct slice text)
{
	struct slice rest = text;
	size_t digits = 0;

	if (!rfc3339_take(&rest, "dddd-dd-ddTdd:dd:dd") || !rfc3339_is_in_range(text))
		return false;
	if (rfc3339_take(&rest, ".")) {
		while (digits < 9 && digits < rest.len && isdigit((unsigned char)rest.ptr[digits]))
			digits++;
		if (digits == 0)
			return false;
		rest = (struct slice){rest.ptr + digits, rest.len - digits};
	}
	return rfc3339_is_zone(rest);
}

int64_t
rfc3339_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * RFC3339_SECOND + now.tv_nsec / 1000;
}
