/* Numbers in decimal, two digits at a time. */
#include "config.h"
#include "core/decimal.h"

#include <string.h>

static const char decimal_pairs[] = "00010203040506070809"
				    "10111213141516171819"
				    "20212223242526272829"
				    "30313233343536373839"
				    "40414243444546474849"
				    "50515253545556575859"
				    "60616263646566676869"
				    "70717273747576777879"
				    "80818283848586878889"
				    "90919293949596979899";

static size_t
decimal_count(uint64_t n)
{
	size_t digits = 1;

	for (; n >= 10000; n /= 10000)
		digits += 4;
	return digits + (n >= 10) + (n >= 100) + (n >= 1000);
}

void
decimal_write_digits(char *out, size_t digits, uint64_t n)
{
	for (; digits >= 2; digits -= 2, n /= 100)
		memcpy(out + digits - 2, &decimal_pairs[n % 100 * 2], 2);
	if (digits == 1)
		*out = (char)('0' + n % 10);
}

size_t
decimal_write(char *out, uint64_t n)
{
	size_t digits = decimal_count(n);

	decimal_write_digits(out, digits, n);
	return digits;
}
