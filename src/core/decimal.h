/* Numbers written in decimal, without printf's cost: what each event holds is written so. */
#ifndef PGRELAY_CORE_DECIMAL_H
#define PGRELAY_CORE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#define DECIMAL_MAX 20

/* Writes n without zeros in front, and no NUL; returns how many digits, DECIMAL_MAX at most. */
size_t decimal_write(char *out, uint64_t n);
/* Writes its last digits, so many, with zeros in front. */
void decimal_write_digits(char *out, size_t digits, uint64_t n);

#endif
