/* Numbers in decimal: src/core/decimal.c, against printf. */
#include "config.h"
#include "core/decimal.h"

#include "tap.h"

#include <inttypes.h>

static bool
writes_as_printf(uint64_t n)
{
	char want[DECIMAL_MAX + 1];
	size_t len = (size_t)snprintf(want, sizeof(want), "%" PRIu64, n);
	char *out = tap_copy(want, len);
	bool right;

	memset(out, '!', len);
	right = decimal_write(out, n) == len && memcmp(out, want, len) == 0;
	if (!right)
		diag("%s is written otherwise", want);
	free(out);
	return right;
}

static void
test_lengths(void)
{
	bool right = writes_as_printf(0) && writes_as_printf(UINT64_MAX);

	for (uint64_t n = 1; n <= UINT64_MAX / 10; n *= 10)
		right = writes_as_printf(n - 1) && writes_as_printf(n) && writes_as_printf(n + 1) &&
			writes_as_printf(10 * (n - 1) + 9) && right;
	ok(right, "numbers of each length, and around them");
}

static void
test_random(void)
{
	struct tap_random random = {20};
	bool right = true;

	for (int i = 0; i < 20000; i++) {
		uint64_t n =
		    (uint64_t)tap_random(&random, UINT32_MAX) << 32 | tap_random(&random, UINT32_MAX);

		right = writes_as_printf(n >> tap_random(&random, 64)) && right;
	}
	ok(right, "20000 random numbers");
}

static void
test_digits(void)
{
	char out[9] = "........";

	decimal_write_digits(out + 1, 6, 42);
	is_str(out, ".000042.", "zeros in front");
	decimal_write_digits(out + 1, 5, 1234567);
	is_str(out, ".345672.", "the last five digits of seven");
	decimal_write_digits(out + 1, 0, 7);
	is_str(out, ".345672.", "no digits");
}

int
main(void)
{
	test_lengths();
	test_random();
	test_digits();
	return tap_end();
}
