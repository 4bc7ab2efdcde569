/*
 * What pgrelay watch knows about the jobs that it follows: which lines have come, which have not, how the job
 * ended. No I/O. Lines are told apart by their event's counter, which counts from 1 in each job.
 */
#ifndef PGRELAY_CLI_WATCH_JOBS_H
#define PGRELAY_CLI_WATCH_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watch_jobs;
struct watch_job;

/* The caller releases it with watch_jobs_free(). */
struct watch_jobs *watch_jobs_new(void);
void watch_jobs_free(struct watch_jobs *jobs);
/* A job that is followed; one is added once. */
void watch_jobs_add(struct watch_jobs *jobs, int64_t id);
/* NULL when it is not followed. */
struct watch_job *watch_jobs_find(const struct watch_jobs *jobs, int64_t id);
size_t watch_jobs_count(const struct watch_jobs *jobs);
struct watch_job *watch_jobs_at(const struct watch_jobs *jobs, size_t i);

int64_t watch_job_id(const struct watch_job *job);

/* A line has come. */
enum watch_line {
	WATCH_LINE_NEW,
	WATCH_LINE_SEEN,      /* it had come before */
	WATCH_LINE_AFTER_LOSS /* the first since then, and lines before it are missing */
};
enum watch_line watch_job_line(struct watch_job *job, int64_t counter);
/* The job's output has ended: final is its last counter. */
void watch_job_summary(struct watch_job *job, int64_t final);
/* status is one of watch_job_status_name(). False: that is nothing new, or the former one was final. */
bool watch_job_status(struct watch_job *job, const char *status);
/* The connection was lost, with no way to come back to the same place: what comes now passes us by. */
void watch_job_interrupt(struct watch_job *job);
/* Messages about it are missing, or may be, at this place. */
void watch_job_gap(struct watch_job *job);

/* The known name that is equal to text; NULL for none. */
const char *watch_job_status_name(const char *text);

/* The last status; NULL before the first. */
const char *watch_job_last_status(const struct watch_job *job);
/* The line from which on it is followed; 0: none has come. */
int64_t watch_job_first(const struct watch_job *job);
bool watch_job_has_summary(const struct watch_job *job);
bool watch_job_is_final(const struct watch_job *job);
/* It is over and every line since the first has come. */
bool watch_job_is_complete(const struct watch_job *job);
/* Lines known to be missing so far. */
int64_t watch_job_missing(const struct watch_job *job);
/* It ended where messages were missing: after which line is not known. */
bool watch_job_is_uncertain(const struct watch_job *job);

#endif
