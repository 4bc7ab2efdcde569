/*
 * Messages on standard output. The output of a job is its events' stdout, one line each; with several jobs,
 * each line bears its job. A line that pgrelay run cut because of its length is put together again.
 */
#include "config.h"
#include "cli/watch_view.h"
#include "cli/watch_message.h"
#include "core/loop.h"
#include "core/mem.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct watch_view {
	bool raw, many_jobs;
	struct loop_task flush;
	void (*on_failed)(void *arg);
	void *arg;
	int64_t open_job; /* whose line goes on in its next event; 0 for none */
};

static void
watch_view_flush(void *arg)
{
	struct watch_view *v = arg;

	if (fflush(stdout) != 0 || ferror(stdout))
		v->on_failed(v->arg);
}

struct watch_view *
watch_view_new(bool raw, bool many_jobs, void (*on_failed)(void *arg), void *arg)
{
	struct watch_view *v = mem_zalloc(sizeof(*v));

	v->raw = raw;
	v->many_jobs = many_jobs;
	v->on_failed = on_failed;
	v->arg = arg;
	loop_task_init(&v->flush, watch_view_flush, v);
	return v;
}

void
watch_view_free(struct watch_view *v)
{
	if (v == NULL)
		return;
	loop_task_cancel(&v->flush);
	free(v);
}

/* ---- kinds of messages ---- */

/* An event that stands for no line of output: AWX's playbook_on_start, for one. */
static bool
watch_view_is_silent(const json_t *event, const char *out)
{
	return *out == '\0' && strcmp(watch_message_text(event, "event"), "verbose") != 0 &&
	       watch_message_number(event, "end_line") <= watch_message_number(event, "start_line");
}

static void
watch_view_show_output(struct watch_view *v, const json_t *event, int64_t job)
{
	const json_t *out = json_object_get(event, "stdout");
	bool goes_on = json_is_true(json_object_get(json_object_get(event, "event_data"), "continued"));

	if (watch_view_is_silent(event, json_string_value(out)))
		return;
	if (v->open_job != 0 && v->open_job != job)
		putchar('\n');
	if (v->many_jobs && v->open_job != job)
		printf("%" PRId64 " | ", job);
	fwrite(json_string_value(out), 1, json_string_length(out), stdout);
	if (!goes_on)
		putchar('\n');
	v->open_job = goes_on ? job : 0;
}

static void
watch_view_show_status(const json_t *event)
{
	char *name = json_dumps(json_object_get(event, "name"), JSON_ENCODE_ANY);

	printf("job %" PRId64, watch_message_number(event, "unified_job_id"));
	if (name != NULL && strcmp(name, "\"\"") != 0)
		printf(" %s", name);
	printf(": %s\n", watch_message_text(event, "status"));
	free(name);
}

static void
watch_view_show_summary(const json_t *event)
{
	printf("job %" PRId64 ": %" PRId64 " events\n", watch_message_number(event, "unified_job_id"),
	    watch_message_number(event, "final_counter"));
}

static void
watch_view_show_other(
    struct watch_view *v, const json_t *event, enum watch_kind kind, const char *text, size_t len)
{
	if (v->open_job != 0)
		putchar('\n');
	v->open_job = 0;
	if (kind == WATCH_STATUS && !v->raw) {
		watch_view_show_status(event);
	} else if (kind == WATCH_SUMMARY && !v->raw) {
		watch_view_show_summary(event);
	} else {
		fwrite(text, 1, len, stdout);
		putchar('\n');
	}
}

void
watch_view_show(struct watch_view *v, const json_t *event, const char *text, size_t len)
{
	int64_t job;
	enum watch_kind kind = watch_message_kind(event, &job);

	if (kind == WATCH_LINE && !v->raw && json_is_string(json_object_get(event, "stdout")))
		watch_view_show_output(v, event, job);
	else
		watch_view_show_other(v, event, kind, text, len);
	loop_task_queue(&v->flush);
}
