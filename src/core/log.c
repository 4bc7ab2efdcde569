/* The log: formatted into one buffer and written with one call, so that lines of several processes do not
 * mix. */
#include "config.h"
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define LOG_LINE_MAX 4096

static enum log_level log_least = LOG_INFO;
static const char *const log_names[] = {"debug", "info", "warning", "error"};

void
log_set_level(enum log_level least)
{
	log_least = least;
}

bool
log_enabled(enum log_level level)
{
	return level >= log_least;
}

/* The text of a second is made once: thousands of lines may fall into it. */
static const char *
log_second(time_t second)
{
	static char text[24];
	static time_t made;
	struct tm tm;

	if (second != made || *text == '\0')
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&second, &tm));
	made = second;
	return text;
}

static size_t
log_head(char *buf, size_t size, enum log_level level, const char *subject)
{
	struct timeval now;
	size_t n;

	gettimeofday(&now, NULL);
	n = (size_t)snprintf(buf, size, "%s.%03dZ [%d] %s: ", log_second(now.tv_sec),
	    (int)(now.tv_usec / 1000), (int)getpid(), log_names[level]);
	if (subject != NULL)
		n += (size_t)snprintf(buf + n, size - n, "%.200s: ", subject);
	return n;
}

/* Control characters in what a peer sent must not forge lines. */
static void
log_clean(char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f ||
		    ((unsigned char)s[i] == 0xc2 && i + 1 < len && (unsigned char)s[i + 1] < 0xa0))
			s[i] = '?';
}

static void
log_write(enum log_level level, const char *subject, const char *fmt, va_list ap)
{
	char buf[LOG_LINE_MAX];
	size_t n = log_head(buf, sizeof(buf), level, subject);
	int body = vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);

	if (body < 0)
		return;
	n += (size_t)body < sizeof(buf) - n - 1 ? (size_t)body : sizeof(buf) - n - 2;
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	log_clean(buf, n);
	buf[n++] = '\n';
	while (write(STDERR_FILENO, buf, n) < 0 && errno == EINTR)
		continue;
}

void
log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	log_write(level, subject, fmt, ap);
	va_end(ap);
}

void
log_fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_write(LOG_ERROR, NULL, fmt, ap);
	va_end(ap);
	exit(1);
}

bool
log_limit_pass(struct log_limit *limit, int interval_s, unsigned long *suppressed)
{
	time_t now = time(NULL);

	if (limit->last != 0 && now - limit->last < interval_s) {
		limit->suppressed++;
		return false;
	}
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	limit->last = now;
	return true;
}
