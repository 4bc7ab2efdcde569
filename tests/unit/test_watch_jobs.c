/* What pgrelay watch knows of a job: which lines are missing, decided by the summary, whatever gaps were told. */
#include "config.h"
#include "cli/watch_jobs.h"
#include "tap.h"

#define JOB 42

static struct watch_job *
job_new(struct watch_jobs **jobs)
{
	*jobs = watch_jobs_new();
	watch_jobs_add(*jobs, JOB);
	return watch_jobs_find(*jobs, JOB);
}

static int
take_lines(struct watch_job *job, int from, int to)
{
	int count = 0;

	for (int n = from; n <= to; n++)
		count += watch_job_line(job, n) != WATCH_LINE_SEEN;
	return count;
}

static void
end_job(struct watch_job *job, int lines)
{
	watch_job_summary(job, lines);
	watch_job_status(job, "successful");
}

static void
test_a_whole_job(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	ok(watch_job_status(job, "pending"), "the first status is news");
	ok(!watch_job_status(job, "pending"), "the same again is none");
	ok(watch_job_status(job, "running"), "another is");
	is_int(take_lines(job, 1, 5), 5, "lines are new");
	is_int(take_lines(job, 3, 6), 1, "and known when they come again");
	end_job(job, 6);
	ok(watch_job_is_complete(job), "all have come");
	ok(!watch_job_status(job, "running") && !watch_job_status(job, "successful"), "a final status stays");
	watch_jobs_free(jobs);
}

static void
test_out_of_order(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	watch_job_line(job, 1);
	is_int(watch_job_line(job, 4), WATCH_LINE_NEW, "a hole alone is no loss: another writer may be late");
	is_int(watch_job_missing(job), 2, "what is in it has not come yet");
	is_int(watch_job_line(job, 3), WATCH_LINE_NEW, "it is filled");
	is_int(watch_job_line(job, 3), WATCH_LINE_SEEN, "once");
	is_int(watch_job_line(job, 2), WATCH_LINE_NEW, "and whole");
	end_job(job, 4);
	ok(watch_job_is_complete(job), "nothing is missing");
	watch_jobs_free(jobs);
}

static void
test_gap_without_loss(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	watch_job_line(job, 1);
	watch_job_gap(job);
	is_int(watch_job_line(job, 2), WATCH_LINE_NEW, "a gap in which none of its lines were");
	end_job(job, 2);
	ok(watch_job_is_complete(job) && !watch_job_is_uncertain(job), "is no loss");
	watch_jobs_free(jobs);
}

static void
test_gap_with_loss(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	watch_job_line(job, 1);
	watch_job_gap(job);
	is_int(watch_job_line(job, 5), WATCH_LINE_AFTER_LOSS, "a gap in which lines were is told at once");
	is_int(watch_job_missing(job), 3, "and counted");
	end_job(job, 7);
	is_int(watch_job_missing(job), 5, "the last lines are missing, too");
	ok(!watch_job_is_complete(job), "it is not complete");
	watch_jobs_free(jobs);
}

static void
test_gap_before_the_first_line(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	watch_job_gap(job);
	end_job(job, 3);
	is_int(watch_job_missing(job), 3, "a gap took all lines");
	watch_jobs_free(jobs);

	job = job_new(&jobs);
	watch_job_line(job, 3);
	end_job(job, 3);
	ok(watch_job_is_complete(job), "who comes in the middle misses nothing by that");
	is_int(watch_job_first(job), 3, "and knows from where on");
	watch_jobs_free(jobs);
}

static void
test_gap_over_the_end(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	watch_job_line(job, 1);
	watch_job_gap(job);
	watch_job_status(job, "failed");
	ok(watch_job_is_uncertain(job), "the end was in a gap: lines may be missing");
	watch_job_summary(job, 1);
	ok(!watch_job_is_uncertain(job) && watch_job_is_complete(job), "the summary decides");
	watch_jobs_free(jobs);

	job = job_new(&jobs);
	watch_job_line(job, 1);
	watch_job_status(job, "failed");
	ok(!watch_job_is_uncertain(job), "a status alone says nothing");
	watch_job_gap(job);
	ok(watch_job_is_uncertain(job), "the gap is told behind the status");
	watch_job_summary(job, 2);
	is_int(watch_job_missing(job), 1, "the summary decides");
	watch_jobs_free(jobs);
}

static void
test_lost_for_good(void)
{
	struct watch_jobs *jobs;
	struct watch_job *job = job_new(&jobs);

	watch_job_line(job, 1);
	watch_job_interrupt(job);
	watch_job_status(job, "failed");
	ok(watch_job_is_uncertain(job), "it ended while nobody listened: lines may be missing");
	watch_jobs_free(jobs);

	job = job_new(&jobs);
	watch_job_status(job, "failed");
	watch_job_interrupt(job);
	ok(!watch_job_is_uncertain(job), "it had ended before: nothing is");
	watch_jobs_free(jobs);
}

int
main(void)
{
	test_a_whole_job();
	test_out_of_order();
	test_gap_without_loss();
	test_gap_with_loss();
	test_gap_before_the_first_line();
	test_gap_over_the_end();
	test_lost_for_good();
	return tap_end();
}
