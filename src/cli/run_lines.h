/*
 * Octets of any kind into lines of text: UTF-8 without NUL. What is not UTF-8 becomes U+FFFD, one for each
 * maximal part of a character (as Python and browsers do it), and so does NUL. A line ends at LF; a CR before
 * it goes with it, any other CR stays. A line longer than RUN_LINE_MAX is cut between characters.
 */
#ifndef PGRELAY_CLI_RUN_LINES_H
#define PGRELAY_CLI_RUN_LINES_H

#include <stdbool.h>
#include <stddef.h>

#define RUN_LINE_MAX 65536 /* octets of the text that comes out */

struct run_lines;

/* text has no line end and is valid during the call; whole is false when the line goes on in the next call.
 */
typedef void (*run_lines_take)(void *arg, const char *text, size_t len, bool whole);

/* The caller releases it with run_lines_free(). */
struct run_lines *run_lines_new(run_lines_take take, void *arg);
void run_lines_free(struct run_lines *lines);

void run_lines_feed(struct run_lines *lines, const void *data, size_t len);
/* No more comes: what is left without a line end is a line too. */
void run_lines_end(struct run_lines *lines);

#endif
