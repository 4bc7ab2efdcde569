/*
 * The unit tests' output: TAP. Checks count themselves; tap_end() prints the plan and gives main() its
 * status. A check says in its description what must hold; one that a loop repeats is made once, over the
 * whole loop.
 */
#ifndef PGRELAY_TESTS_TAP_H
#define PGRELAY_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args), unused))

static unsigned tap_checks, tap_failures;

/* A description must not end its line nor start a directive. */
static inline void
tap_print(const char *head, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == '#')
			*p = '?';
	printf("%s%s\n", head, text);
	fflush(stdout); /* what led to a crash is to be seen */
}

static inline bool
tap_report(bool pass, const char *fmt, va_list ap)
{
	char head[32];

	snprintf(head, sizeof(head), "%sok %u - ", pass ? "" : "not ", ++tap_checks);
	tap_print(head, fmt, ap);
	tap_failures += !pass;
	return pass;
}

static inline void TAP_PRINTF(1, 2) diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_print("# ", fmt, ap);
	va_end(ap);
}

static inline bool TAP_PRINTF(2, 3) ok(bool pass, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_report(pass, fmt, ap);
	va_end(ap);
	return pass;
}

static inline bool TAP_PRINTF(3, 4) is_int(long long got, long long want, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_report(got == want, fmt, ap);
	va_end(ap);
	if (got != want)
		diag("got %lld, wanted %lld", got, want);
	return got == want;
}

/* NULL is a value, too. */
static inline bool TAP_PRINTF(3, 4) is_str(const char *got, const char *want, const char *fmt, ...)
{
	bool pass = got == want || (got != NULL && want != NULL && strcmp(got, want) == 0);
	va_list ap;

	va_start(ap, fmt);
	tap_report(pass, fmt, ap);
	va_end(ap);
	if (!pass) {
		diag("got    %s", got != NULL ? got : "NULL");
		diag("wanted %s", want != NULL ? want : "NULL");
	}
	return pass;
}

static inline bool
tap_same_octets(const void *got, size_t got_len, const void *want, size_t want_len)
{
	return got_len == want_len && (got_len == 0 || memcmp(got, want, got_len) == 0);
}

static inline void TAP_PRINTF(1, 2) skip(const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	printf("ok %u # SKIP %s\n", ++tap_checks, why);
}

static inline int
tap_end(void)
{
	printf("1..%u\n", tap_checks);
	return tap_failures == 0 ? 0 : 1;
}

/* A copy on the heap of just this size, so that reading one octet past it is seen. Released with free(). */
static inline char *
tap_copy(const void *data, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

/* The same numbers in each run (xorshift64*); tests print the seed that they start from. */
struct tap_random {
	uint64_t state;
};

static inline uint32_t
tap_random(struct tap_random *r, uint32_t below)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return (uint32_t)((r->state * UINT64_C(2685821657736338717)) >> 32) % below;
}

#endif
