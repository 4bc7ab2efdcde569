/*
 * The jobs that are followed.
 *
 * A job's lines are known as an interval, from `first` to `highest`, and the gaps in it. Who comes in the
 * middle of a job does not miss what was before: the interval begins with the first line seen. It begins with
 * line 1 when the job was seen before it ran, or messages may be missing before its first line.
 */
#include "config.h"
#include "cli/watch_jobs.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

struct watch_gap {
	int64_t from, to;
};

struct watch_job {
	int64_t id;
	const char *status;
	int64_t first, highest; /* 0 before the first line */
	int64_t final;          /* -1 before the summary */
	bool from_start;        /* no line was before */
	bool interrupted;       /* messages may be missing since the last line or status */
	bool uncertain;         /* it ended so, unless there is a summary */
	struct watch_gap *gaps; /* in order */
	size_t gap_count;
};

struct watch_jobs {
	struct watch_job **list;
	size_t count;
};

static const char *const watch_job_names[] = {
    "new", "pending", "waiting", "running", "successful", "failed", "error", "canceled"};
#define WATCH_JOB_RUNNING 3

static size_t
watch_job_rank(const char *status)
{
	size_t i = 0;

	while (i < ARRAY_LENGTH(watch_job_names) && strcmp(watch_job_names[i], status) != 0)
		i++;
	return i;
}

const char *
watch_job_status_name(const char *text)
{
	size_t rank = watch_job_rank(text);

	return rank < ARRAY_LENGTH(watch_job_names) ? watch_job_names[rank] : NULL;
}

/* ---- the set ---- */

struct watch_jobs *
watch_jobs_new(void)
{
	return mem_zalloc(sizeof(struct watch_jobs));
}

void
watch_jobs_free(struct watch_jobs *jobs)
{
	if (jobs == NULL)
		return;
	for (size_t i = 0; i < jobs->count; i++) {
		free(jobs->list[i]->gaps);
		free(jobs->list[i]);
	}
	free(jobs->list);
	free(jobs);
}

void
watch_jobs_add(struct watch_jobs *jobs, int64_t id)
{
	struct watch_job *job;

	if (watch_jobs_find(jobs, id) != NULL)
		return;
	job = mem_zalloc(sizeof(*job));
	job->id = id;
	job->final = -1;
	jobs->list = mem_resize(jobs->list, sizeof(struct watch_job *) * (jobs->count + 1));
	jobs->list[jobs->count++] = job;
}

struct watch_job *
watch_jobs_find(const struct watch_jobs *jobs, int64_t id)
{
	for (size_t i = 0; i < jobs->count; i++)
		if (jobs->list[i]->id == id)
			return jobs->list[i];
	return NULL;
}

size_t
watch_jobs_count(const struct watch_jobs *jobs)
{
	return jobs->count;
}

struct watch_job *
watch_jobs_at(const struct watch_jobs *jobs, size_t i)
{
	return jobs->list[i];
}

/* ---- lines ---- */

static void
watch_job_begin(struct watch_job *job, int64_t counter)
{
	if (job->first != 0)
		return;
	job->first = job->from_start || job->interrupted ? 1 : counter;
	job->highest = job->first - 1;
}

static void
watch_job_add_gap(struct watch_job *job, struct watch_gap gap, size_t place)
{
	job->gaps = mem_resize(job->gaps, sizeof(*job->gaps) * (job->gap_count + 1));
	memmove(job->gaps + place + 1, job->gaps + place, sizeof(*job->gaps) * (job->gap_count - place));
	job->gaps[place] = gap;
	job->gap_count++;
}

/* A line from the middle: takes it out of its gap. False: it was in none. */
static bool
watch_job_fill(struct watch_job *job, int64_t counter)
{
	for (size_t i = 0; i < job->gap_count; i++) {
		struct watch_gap *g = &job->gaps[i], rest = {counter + 1, g->to};

		if (counter < g->from || counter > g->to)
			continue;
		g->to = counter - 1;
		if (rest.from <= rest.to)
			watch_job_add_gap(job, rest, i + 1);
		if (job->gaps[i].from > job->gaps[i].to)
			memmove(
			    job->gaps + i, job->gaps + i + 1, sizeof(*job->gaps) * (--job->gap_count - i));
		return true;
	}
	return false;
}

enum watch_line
watch_job_line(struct watch_job *job, int64_t counter)
{
	bool after_loss = job->interrupted;

	watch_job_begin(job, counter);
	job->interrupted = false;
	if (counter < job->first)
		return WATCH_LINE_NEW; /* several writers: it was committed after our first */
	if (counter <= job->highest)
		return watch_job_fill(job, counter) ? WATCH_LINE_NEW : WATCH_LINE_SEEN;
	if (counter > job->highest + 1)
		watch_job_add_gap(job, (struct watch_gap){job->highest + 1, counter - 1}, job->gap_count);
	after_loss = after_loss && counter > job->highest + 1;
	job->highest = counter;
	return after_loss ? WATCH_LINE_AFTER_LOSS : WATCH_LINE_NEW;
}

/* ---- the end ---- */

void
watch_job_summary(struct watch_job *job, int64_t final)
{
	job->final = final;
	if (job->from_start || (job->interrupted && job->first == 0))
		watch_job_begin(job, 1);
}

bool
watch_job_status(struct watch_job *job, const char *status)
{
	if (watch_job_is_final(job) || (job->status != NULL && strcmp(job->status, status) == 0))
		return false;
	job->status = status;
	if (watch_job_rank(status) < WATCH_JOB_RUNNING)
		job->from_start = true;
	if (watch_job_is_final(job) && job->final < 0)
		job->uncertain = job->interrupted;
	return true;
}

void
watch_job_interrupt(struct watch_job *job)
{
	if (!watch_job_is_final(job))
		job->interrupted = true;
}

void
watch_job_gap(struct watch_job *job)
{
	watch_job_interrupt(job);
	if (watch_job_is_final(job))
		job->uncertain = true;
}

/* ---- questions ---- */

int64_t
watch_job_id(const struct watch_job *job)
{
	return job->id;
}

const char *
watch_job_last_status(const struct watch_job *job)
{
	return job->status;
}

int64_t
watch_job_first(const struct watch_job *job)
{
	return job->first;
}

bool
watch_job_has_summary(const struct watch_job *job)
{
	return job->final >= 0;
}

bool
watch_job_is_final(const struct watch_job *job)
{
	return job->status != NULL && watch_job_rank(job->status) > WATCH_JOB_RUNNING;
}

int64_t
watch_job_missing(const struct watch_job *job)
{
	int64_t missing = 0;

	for (size_t i = 0; i < job->gap_count; i++)
		missing += job->gaps[i].to - job->gaps[i].from + 1;
	if (job->first != 0 && job->final > job->highest)
		missing += job->final - job->highest;
	return missing;
}

bool
watch_job_is_complete(const struct watch_job *job)
{
	return watch_job_is_final(job) && job->final >= 0 && watch_job_missing(job) == 0;
}

bool
watch_job_is_uncertain(const struct watch_job *job)
{
	return job->uncertain && job->final < 0;
}
