/*
 * The log: one line an occurrence, to standard error, with its time, its level and the subject it is about.
 * A subject is the name that an object bears for its whole life ("session 17 127.0.0.1:4242", "listen",
 * "query"); NULL where the process itself is meant. Messages follow PostgreSQL's style: short, lower case, no
 * full stop. Credentials never go in.
 */
#ifndef PGRELAY_CORE_LOG_H
#define PGRELAY_CORE_LOG_H

#include <stdbool.h>
#include <time.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_set_level(enum log_level least);
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *subject, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(subject, ...)                                                                              \
	do {                                                                                                 \
		if (log_enabled(LOG_DEBUG))                                                                  \
			log_line(LOG_DEBUG, (subject), __VA_ARGS__);                                         \
	} while (0)
#define log_info(subject, ...)    log_line(LOG_INFO, (subject), __VA_ARGS__)
#define log_warning(subject, ...) log_line(LOG_WARNING, (subject), __VA_ARGS__)
#define log_error(subject, ...)   log_line(LOG_ERROR, (subject), __VA_ARGS__)

/* Logs and ends the process with status 1; only while starting. */
void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* For what a peer could repeat without end: true at most once in interval_s seconds; suppressed counts what
 * was held back since. */
struct log_limit {
	time_t last;
	unsigned long suppressed;
};
bool log_limit_pass(struct log_limit *limit, int interval_s, unsigned long *suppressed);

#endif
