/*
 * A hash of octets for tables in memory, of eight at a time by a multiplication of 64 to 128 bits. Where the
 * octets are others' choice, the seed is to be random: else they choose those that meet.
 */
#ifndef PGRELAY_CORE_HASH_H
#define PGRELAY_CORE_HASH_H

#include <stdint.h>
#include <string.h>

#include "core/slice.h"

static inline uint64_t
hash_mix(uint64_t h, uint64_t v)
{
	__uint128_t product =
	    (__uint128_t)(h ^ v ^ UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
hash_load_four(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The last octets, up to eight: some may be taken twice. */
static inline uint64_t
hash_load_end(struct slice s)
{
	if (s.len >= 8)
		return slice_load_eight(s.ptr + s.len - 8);
	if (s.len >= 4)
		return hash_load_four(s.ptr) | hash_load_four(s.ptr + s.len - 4) << 32;
	if (s.len > 0)
		return (uint64_t)(unsigned char)s.ptr[0] | (uint64_t)(unsigned char)s.ptr[s.len / 2] << 8 |
		       (uint64_t)(unsigned char)s.ptr[s.len - 1] << 16;
	return 0;
}

static inline uint64_t
hash_octets(struct slice s, uint64_t seed)
{
	uint64_t h = seed + s.len * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t at = 0; at + 8 < s.len; at += 8)
		h = hash_mix(h, slice_load_eight(s.ptr + at));
	return hash_mix(h, hash_load_end(s));
}

#endif
