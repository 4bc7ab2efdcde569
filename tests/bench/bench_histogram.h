/* A histogram of microseconds: exact up to 1,023, then within 0.2 %. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB     512 /* buckets for each doubling */
#define HISTOGRAM_BUCKETS (HISTOGRAM_SUB * 40)

/* Starts as all zeros. */
struct histogram {
	int64_t count, max_us;
	int64_t buckets[HISTOGRAM_BUCKETS];
};

/* A negative value (the clock was set) counts as 0. */
void histogram_add(struct histogram *h, int64_t us);

/* The least value that a share of all values (0 to 1) does not exceed; 0 when there are none. */
int64_t histogram_quantile_us(const struct histogram *h, double share);

/*
 * Members of a JSON object, with a prefix, and without a comma behind the last: "p50_us": 1, ..., "max_us": 9
 */
void histogram_print(const struct histogram *h, const char *prefix);

#endif
