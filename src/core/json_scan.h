/*
 * Scanning JSON strictly: RFC 8259's grammar as PostgreSQL's jsonb takes it (UTF-8, no NUL, no half of a
 * surrogate pair, no number with more digits than numeric has). Nothing is built and nothing copied: strings and
 * values are slices of the text, as it is written. The first mistake ends the scan.
 *
 * For text that is known to be JSON already there is json_members.h, which is faster.
 */
#ifndef PGRELAY_CORE_JSON_SCAN_H
#define PGRELAY_CORE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/slice.h"

#define JSON_SCAN_DEPTH 512     /* of arrays and objects in each other */
#define JSON_SCAN_ZEROS 1000000 /* that PostgreSQL would write out for 1e100 and the like */
/* Digits of a number before and behind its point, as PostgreSQL's numeric has them at most. */
#define JSON_SCAN_WHOLE    131072
#define JSON_SCAN_FRACTION 16383

#define JSON_SCAN_ERROR 200 /* octets of an error's text, its NUL included */

struct json_scan {
	const char *start, *p, *end;
	int depth;
	size_t zeros;                /* of numbers with exponents so far */
	char error[JSON_SCAN_ERROR]; /* once something has failed */
};

/* len octets, which need not end with a NUL, and must outlive the scan. */
void json_scan_init(struct json_scan *s, const char *text, size_t len);

/* The next character behind white space, -1 at the end; it is not taken. */
int json_scan_next(struct json_scan *s);

/* Each takes what it names off the text, white space before it included, or fails: then it returns false, and
 * s->error says why. What is wanted goes to *text, which may be NULL. */

bool json_scan_value(struct json_scan *s, struct slice *text);
/* What lies between the quotes, escapes as they are. */
bool json_scan_string(struct json_scan *s, struct slice *text);
/* Of a member, between its quotes; and the colon. */
bool json_scan_name(struct json_scan *s, struct slice *text);
/* '{' or '['. *more is false when nothing is in it; then its end has been taken as well. */
bool json_scan_enter(struct json_scan *s, int bracket, bool *more);
/* Behind a member or an element of what '{' or '[' has begun: a comma, else its end, and *more is false. */
bool json_scan_more(struct json_scan *s, int bracket, bool *more);

/* Both return false. */
bool json_scan_fail(struct json_scan *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* what could not be read here: "not JSON: what at octet N". */
bool json_scan_fail_here(struct json_scan *s, const char *what);

/* The text of a string that has been scanned, without its escapes; NULL when it is written in more than max
 * octets. The caller releases it with free(). */
char *json_scan_text(struct slice written, size_t max);

#endif
