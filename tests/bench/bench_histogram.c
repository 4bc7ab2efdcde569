/* A histogram of microseconds. A bucket's value is its upper end, so that no quantile looks better than it
 * was. */
#include "config.h"
#include "bench_histogram.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

static size_t
histogram_bucket(int64_t us)
{
	int shift = 0;
	size_t i;

	while (us >> shift >= 2 * HISTOGRAM_SUB)
		shift++;
	i = (size_t)shift * HISTOGRAM_SUB + (size_t)(us >> shift);
	return i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1;
}

static int64_t
histogram_bucket_end(size_t i)
{
	size_t shift = i < 2 * HISTOGRAM_SUB ? 0 : i / HISTOGRAM_SUB - 1;

	return ((int64_t)(i - shift * HISTOGRAM_SUB + 1) << shift) - 1;
}

void
histogram_add(struct histogram *h, int64_t us)
{
	if (us < 0)
		us = 0;
	h->count++;
	h->buckets[histogram_bucket(us)]++;
	if (us > h->max_us)
		h->max_us = us;
}

int64_t
histogram_quantile_us(const struct histogram *h, double share)
{
	double wanted = share * (double)h->count;
	int64_t seen = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen > 0 && (double)seen >= wanted) {
			int64_t end = histogram_bucket_end(i);

			return end < h->max_us ? end : h->max_us;
		}
	}
	return h->max_us;
}

void
histogram_print(const struct histogram *h, const char *prefix)
{
	static const struct {
		const char *name;
		double share;
	} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};

	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		printf("\"%s%s_us\": %" PRId64 ", ", prefix, quantiles[i].name,
		    histogram_quantile_us(h, quantiles[i].share));
	printf("\"%smax_us\": %" PRId64, prefix, h->max_us);
}
