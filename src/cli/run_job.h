/*
 * The job of pgrelay run: its lines into job_event, in batches, whatever happens to the database meanwhile,
 * and its last status. One INSERT is under way at a time; the lines that come meanwhile are the next.
 */
#ifndef PGRELAY_CLI_RUN_JOB_H
#define PGRELAY_CLI_RUN_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pg_sync;
struct run_job;

struct run_job_ops {
	/* More than conf.run_buffer_bytes wait (full), or less again. */
	void (*on_full)(void *arg, bool full);
	/* After run_job_finish(): every line is stored and so is the status; or not, then it has been said
	 * why. */
	void (*on_finished)(void *arg, bool stored);
};

/* Where a job's output goes on: a job made by another may have events already. */
struct run_job_place {
	int64_t id;
	int64_t counter; /* of the last event */
	int64_t line;    /* lines so far */
};

/*
 * The first step, over a session of its own: makes a running job (id NULL), or takes the one of this id,
 * which must not have started. False after having said why not.
 */
bool run_job_claim(struct pg_sync *db, const char *id, const char *name, struct run_job_place *place)
    __attribute__((warn_unused_result));

/* The caller releases it with run_job_free(). */
struct run_job *run_job_new(const struct run_job_place *place, const struct run_job_ops *ops, void *arg);
void run_job_free(struct run_job *job);

/* text is UTF-8 without NUL; whole is false when the line goes on in the next event. */
void run_job_add(struct run_job *job, const char *text, size_t len, bool whole);
/* No more lines come. */
void run_job_finish(struct run_job *job, const char *status);

/* Lines that are not in the database. */
uint64_t run_job_waiting(const struct run_job *job);

#endif
