/* The payload of a measured event: written by the publisher, read by the client. */
#include "config.h"
#include "bench_event.h"
#include "bench_common.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EVENT_OPENING "{\"t\": "
#define EVENT_SEQ     ", \"seq\": "
#define EVENT_LETTERS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
#define EVENT_BIG     8000 /* octets that no NOTIFY holds */

/* What PostgreSQL cannot compress: a log's row is as long as it looks. */
static void
event_fill(char *out, size_t len)
{
	static uint64_t state = 88172645463325252;

	for (size_t i = 0; i < len; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		out[i] = EVENT_LETTERS[state >> 58];
	}
}

void
bench_event_write(char *out, size_t octets, int64_t stamp_us, int64_t seq)
{
	char head[BENCH_EVENT_MIN];
	int len = snprintf(head, sizeof(head),
	    EVENT_OPENING "%" PRId64 EVENT_SEQ "%" PRId64 ", \"filler\": \"", stamp_us, seq);

	assert(octets >= BENCH_EVENT_MIN && len + 2 <= BENCH_EVENT_MIN);
	memcpy(out, head, (size_t)len);
	if (octets < EVENT_BIG)
		memset(out + len, 'x', octets - (size_t)len - 2);
	else
		event_fill(out + len, octets - (size_t)len - 2);
	memcpy(out + octets - 2, "\"}", 2);
}

static const char *
event_digits(const char *p, const char *end, int64_t *value)
{
	const char *start = p;

	for (*value = 0; p < end && *p >= '0' && *p <= '9' && p - start < 18; p++)
		*value = *value * 10 + (*p - '0');
	return p > start ? p : NULL;
}

static const char *
event_skip(const char *p, const char *end, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(end - p) >= len && memcmp(p, text, len) == 0 ? p + len : NULL;
}

bool
bench_event_read(const char *text, size_t len, int64_t *stamp_us, int64_t *seq)
{
	const char *end = text + len, *p = event_skip(text, end, EVENT_OPENING);

	if (p != NULL)
		p = event_digits(p, end, stamp_us);
	if (p != NULL)
		p = event_skip(p, end, EVENT_SEQ);
	return p != NULL && event_digits(p, end, seq) != NULL;
}

bool
bench_event_find(const char *text, size_t len, const char *key, int64_t *value)
{
	char wanted[64];
	int n = snprintf(wanted, sizeof(wanted), "\"%s\"", key);
	const char *p, *end = text + len;

	if (n < 0 || (size_t)n >= sizeof(wanted))
		bench_fatal("key \"%s\" is too long", key);
	p = memmem(text, len, wanted, (size_t)n);
	if (p == NULL)
		return false;
	for (p += n; p < end && (*p == ' ' || *p == ':');)
		p++;
	return event_digits(p, end, value) != NULL;
}

int64_t *
bench_event_map_commits(const char *path, int64_t events)
{
	size_t size = (size_t)(events + 1) * sizeof(int64_t);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	void *map;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		bench_fatal("could not make file \"%s\": %m", path);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		bench_fatal("could not map file \"%s\": %m", path);
	close(fd);
	return map;
}
