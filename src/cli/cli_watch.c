/*
 * pgrelay watch: follows groups over a node's WebSocket.
 *
 * watch_link keeps the connection, watch_cursor the place in the stream of events, watch_jobs knows what has
 * come of each job, watch_view shows it; here they meet. With --until-finished each job's status and summary
 * are followed too (the group jobs-ID) without being shown. A node sends a job's summary before its last
 * status, both after its lines; when the status is there and something is missing, it is waited for.
 */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "cli/cli_node.h"
#include "cli/watch_cursor.h"
#include "cli/watch_jobs.h"
#include "cli/watch_link.h"
#include "cli/watch_message.h"
#include "cli/watch_view.h"
#include "client/awx_group.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "http/ws_client.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_MAGIC          0x3a7c4000u
#define WATCH_LATE_MS        1000
#define WATCH_RETURN_LATE_MS 30000 /* a node may first have to read what passed */
#define WATCH_CURSOR_BYTES   (1 << 20)

enum watch_status { WATCH_LINES_MISSING = 5, WATCH_REFUSED = 6 };

struct watch {
	unsigned magic;
	char **groups; /* as asked for; ends with NULL */
	bool until_finished, json;
	struct ws_client_url **urls;
	size_t url_count;
	char *token;
	struct watch_jobs *jobs;
	struct watch_cursor *cursor;
	struct watch_link *link;
	struct watch_view *view;
	struct event *late, *interrupt, *terminate;
	bool announced; /* "following ..." has been said */
	bool joined;    /* on this connection */
	bool asking;    /* a reply is due */
	bool returned;  /* this is not the first connection */
	bool resuming;  /* a cursor was given; whether the node knows cursors is to be seen */
	bool ending;
	int status;
};

static struct watch *
watch_check(void *arg)
{
	struct watch *w = arg;

	assert(w->magic == WATCH_MAGIC);
	return w;
}

/* Nothing is shown any more; the close frame is still sent. */
static void
watch_end(struct watch *w, int status)
{
	if (w->ending)
		return;
	w->ending = true;
	w->status = status;
	event_del(w->late);
	watch_link_close(w->link);
}

/* ---- groups ---- */

/* The job that a group is the output of: "job_events-42"; 0 for none. A workflow's events are no output, but
 * it has an end. */
static int64_t
watch_group_job(const char *name, const char *value)
{
	size_t len = strlen(name);
	char *end;
	long long id;

	if (len <= 7 || strcmp(name + len - 7, "_events") != 0)
		return 0;
	errno = 0;
	id = strtoll(value, &end, 10);
	return errno == 0 && end != value && *end == '\0' && id > 0 ? id : 0;
}

static bool
watch_parse_groups(struct watch *w)
{
	for (char **group = w->groups; *group != NULL; group++) {
		char *name, *value, *pattern;

		if (!awx_group_split(*group, &name, &value)) {
			cli_error("\"%s\" is no group", *group);
			cli_hint("A group is NAME-VALUE: job_events-42, jobs-status_changed.");
			return false;
		}
		pattern = awx_group_pattern(name, value);
		if (pattern == NULL)
			cli_error("\"%s\" is no group: its parts are words, or the second a number or UUID",
			    *group);
		else if (watch_group_job(name, value) > 0)
			watch_jobs_add(w->jobs, watch_group_job(name, value));
		free(name);
		free(value);
		free(pattern);
		if (pattern == NULL)
			return false;
	}
	if (w->until_finished && watch_jobs_count(w->jobs) == 0) {
		cli_error("--until-finished wants a job's events to follow: job_events-42");
		return false;
	}
	return true;
}

static void
watch_request_add(json_t *groups, const char *name, const char *value)
{
	json_t *values = json_object_get(groups, name);

	if (values == NULL) {
		values = json_array();
		json_object_set_new(groups, name, values);
	}
	json_array_append_new(values, json_string(value));
}

/* cursor is NULL where none is given back. The caller releases it with free(). */
static char *
watch_request(const struct watch *w, const char *cursor)
{
	json_t *groups = json_object();
	json_t *request = json_pack("{so sb so}", "groups", groups, "status", watch_jobs_count(w->jobs) > 0,
	    "cursor", cursor != NULL ? json_string(cursor) : json_true());
	char *text;

	for (char **group = w->groups; *group != NULL; group++) {
		char *name, *value;

		if (!awx_group_split(*group, &name, &value))
			abort(); /* watch_parse_groups() has checked it */
		watch_request_add(groups, name, value);
		free(name);
		free(value);
	}
	for (size_t i = 0; w->until_finished && i < watch_jobs_count(w->jobs); i++) {
		char *id = mem_printf("%" PRId64, watch_job_id(watch_jobs_at(w->jobs, i)));

		watch_request_add(groups, "jobs", id);
		free(id);
	}
	text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (text == NULL)
		log_fatal("out of memory");
	return text;
}

static bool
watch_is_asked(const struct watch *w, const char *label)
{
	for (char **group = w->groups; *group != NULL; group++)
		if (strcmp(*group, label) == 0)
			return true;
	return false;
}

/* Messages about jobs may come for our own use alone. */
static bool
watch_is_wanted(const struct watch *w, enum watch_kind kind, int64_t job)
{
	char label[32];

	if (kind != WATCH_STATUS && kind != WATCH_SUMMARY)
		return true;
	snprintf(label, sizeof(label), "jobs-%" PRId64, job);
	return watch_is_asked(w, label) ||
	       watch_is_asked(w, kind == WATCH_STATUS ? "jobs-status_changed" : "jobs-summary");
}

/* ---- the end of jobs ---- */

static int
watch_job_exit_status(const struct watch_job *job)
{
	const char *status = watch_job_last_status(job);

	return strcmp(status, "successful") == 0 ? 0
	       : strcmp(status, "failed") == 0   ? 1
	       : strcmp(status, "error") == 0    ? 3
						 : 4;
}

/* Says how the job ended and returns the exit status that it stands for. */
static int
watch_conclude(const struct watch_job *job)
{
	int64_t id = watch_job_id(job), missing = watch_job_missing(job);
	const char *status = watch_job_last_status(job);

	if (missing > 0) {
		cli_error("job %" PRId64 " has ended: %s, but %" PRId64 " of its lines are missing", id,
		    status, missing);
		return WATCH_LINES_MISSING;
	}
	if (watch_job_is_uncertain(job)) {
		cli_error("job %" PRId64 " has ended: %s, where messages did not come; lines may be missing",
		    id, status);
		return WATCH_LINES_MISSING;
	}
	if (watch_job_has_summary(job))
		cli_say("notice", "job %" PRId64 " has ended: %s", id, status);
	else if (watch_job_first(job) == 0)
		cli_say("notice", "job %" PRId64 " had ended before: %s", id, status);
	else
		cli_say("notice",
		    "job %" PRId64 " has ended: %s; without its summary, whether all lines came is not known",
		    id, status);
	return watch_job_exit_status(job);
}

static void
watch_conclude_all(struct watch *w)
{
	int worst = 0;
	bool missing = false;

	for (size_t i = 0; i < watch_jobs_count(w->jobs); i++) {
		int status;

		if (w->resuming) /* by now it has said nothing of cursors: it knows none */
			watch_job_gap(watch_jobs_at(w->jobs, i));
		status = watch_conclude(watch_jobs_at(w->jobs, i));
		missing |= status == WATCH_LINES_MISSING;
		worst = status > worst ? status : worst;
	}
	watch_end(w, missing ? WATCH_LINES_MISSING : worst);
}

static void
watch_on_late(evutil_socket_t fd, short what, void *arg)
{
	watch_conclude_all(watch_check(arg));
}

/* What passed while the connection was lost comes before the summaries do. */
static void
watch_wait_for_late(struct watch *w, bool summaries)
{
	bool resumed = w->returned && watch_cursor_text(w->cursor) != NULL;
	long ms = resumed && !summaries ? WATCH_RETURN_LATE_MS : WATCH_LATE_MS;
	struct timeval late = {ms / 1000, ms % 1000 * 1000};

	if (!event_pending(w->late, EV_TIMEOUT, NULL))
		event_add(w->late, &late);
}

static void
watch_check_finished(struct watch *w)
{
	bool complete = true, summaries = true;

	if (!w->until_finished || w->ending)
		return;
	for (size_t i = 0; i < watch_jobs_count(w->jobs); i++) {
		const struct watch_job *job = watch_jobs_at(w->jobs, i);

		if (!watch_job_is_final(job))
			return;
		complete = complete && watch_job_is_complete(job);
		summaries = summaries && watch_job_has_summary(job);
	}
	if (complete)
		watch_conclude_all(w);
	else
		watch_wait_for_late(w, summaries);
}

/* ---- messages ---- */

/* False: it has been shown before. */
static bool
watch_take_line(struct watch *w, struct watch_job *job, int64_t counter)
{
	int64_t missing = watch_job_missing(job), id = watch_job_id(job);
	bool first = watch_job_first(job) == 0;

	if (w->resuming && !first)
		watch_job_interrupt(job);
	switch (watch_job_line(job, counter)) {
	case WATCH_LINE_SEEN:
		return false;
	case WATCH_LINE_AFTER_LOSS:
		cli_say("warning",
		    "job %" PRId64 ": %" PRId64 " of the lines before its line %" PRId64 " are missing", id,
		    watch_job_missing(job) - missing, counter);
		break;
	case WATCH_LINE_NEW:
		if (first && watch_job_first(job) > 1)
			cli_say("notice", "job %" PRId64 " is followed from its line %" PRId64 " on", id,
			    watch_job_first(job));
		break;
	}
	event_del(w->late); /* it is counted from now on */
	return true;
}

static void
watch_take_summary(struct watch *w, struct watch_job *job, int64_t final_counter)
{
	watch_job_summary(job, final_counter);
	event_del(w->late);
}

/* With --follow nobody waits for the end, so one that is long past is told at once. False: it is
 * nothing new. */
static bool
watch_take_status(struct watch *w, struct watch_job *job, const char *status)
{
	if (!watch_job_status(job, status))
		return false;
	if (!w->until_finished && watch_job_is_final(job) && !watch_job_has_summary(job) &&
	    watch_job_first(job) == 0)
		cli_say("notice", "job %" PRId64 " had ended before: %s", watch_job_id(job), status);
	return true;
}

/* True when it is to be shown. Of a job that is followed, lines and status are known when they come again. */
static bool
watch_take_event(
    struct watch *w, const json_t *event, enum watch_kind kind, int64_t id, const char *text, size_t len)
{
	struct watch_job *job = watch_jobs_find(w->jobs, id);
	int64_t counter = watch_message_number(event, "counter");
	const char *status = watch_job_status_name(watch_message_text(event, "status"));

	if (job != NULL && kind == WATCH_LINE && counter > 0)
		return watch_take_line(w, job, counter);
	if (job != NULL && kind == WATCH_STATUS && status != NULL)
		return watch_take_status(w, job, status) && watch_is_wanted(w, kind, id);
	if (!watch_cursor_take(w->cursor, text, len))
		return false;
	if (job != NULL && kind == WATCH_SUMMARY)
		watch_take_summary(w, job, watch_message_number(event, "final_counter"));
	return watch_is_wanted(w, kind, id);
}

/* ---- cursors and gaps ---- */

/* For the groups, and the present status of the jobs. */
static void
watch_ask(struct watch *w, const char *cursor)
{
	char *request = watch_request(w, cursor);

	w->asking = true;
	watch_link_send(w->link, request);
	free(request);
}

static void
watch_join(struct watch *w)
{
	w->resuming = watch_cursor_text(w->cursor) != NULL;
	watch_ask(w, watch_cursor_text(w->cursor));
}

static void
watch_take_cursor(struct watch *w, const char *text)
{
	w->resuming = false;
	watch_cursor_move(w->cursor, text);
}

static void
watch_interrupt_jobs(struct watch *w)
{
	for (size_t i = 0; i < watch_jobs_count(w->jobs); i++)
		watch_job_interrupt(watch_jobs_at(w->jobs, i));
}

/* The node does not take the cursor: what passed is missing, and we go on without. */
static void
watch_refuse_cursor(struct watch *w, const char *error)
{
	cli_say("warning",
	    "%s does not take the cursor: %s; messages that came while the connection was lost are missing",
	    watch_link_url(w->link), error);
	watch_cursor_forget(w->cursor);
	watch_interrupt_jobs(w);
	watch_join(w);
}

/* The job that a group says something about; NULL for none that is followed. */
static struct watch_job *
watch_label_job(const struct watch *w, const char *label)
{
	char *name, *value;
	int64_t id;

	if (!awx_group_split(label, &name, &value))
		return NULL;
	id = strcmp(name, "jobs") == 0 ? strtoll(value, NULL, 10) : watch_group_job(name, value);
	free(name);
	free(value);
	return watch_jobs_find(w->jobs, id);
}

static void
watch_tell_gap(const char *labels, const char *reason)
{
	const char *meaning = watch_message_gap_meaning(reason);

	if (meaning != NULL)
		cli_say("warning", "messages of %s are missing: %s (%s)", labels, reason, meaning);
	else
		cli_say("warning", "messages of %s are missing", labels);
}

static void
watch_add_label(char **labels, const char *label)
{
	char *more = mem_printf("%s%s%s", *labels, **labels != '\0' ? ", " : "", label);

	free(*labels);
	*labels = more;
}

/* What is missing may be a job's end: so its status is asked for again. */
static void
watch_take_gap(struct watch *w, const json_t *gap)
{
	const json_t *item;
	char *labels = mem_strdup("");
	bool jobs = false;
	size_t i;

	json_array_foreach (json_object_get(gap, "groups"), i, item) {
		const char *label = json_is_string(item) ? json_string_value(item) : "";
		struct watch_job *job = watch_label_job(w, label);

		if (job != NULL || watch_is_asked(w, label))
			watch_add_label(&labels, label);
		if (job != NULL)
			watch_job_gap(job);
		jobs = jobs || job != NULL;
	}
	if (*labels != '\0')
		watch_tell_gap(labels, watch_message_text(gap, "reason"));
	free(labels);
	w->resuming = false;
	if (jobs && !w->asking)
		watch_ask(w, NULL);
}

/* ---- the node's messages ---- */

static bool
watch_is_current(const json_t *reply, const char *label)
{
	const json_t *current = json_object_get(reply, "groups_current"), *item;
	size_t i;

	json_array_foreach (current, i, item)
		if (json_is_string(item) && strcmp(json_string_value(item), label) == 0)
			return true;
	return false;
}

/* The groups that could not be joined have been told as errors. */
static bool
watch_is_enough(const struct watch *w, const json_t *reply)
{
	size_t joined = 0, asked = 0;

	for (char **group = w->groups; *group != NULL; group++, asked++)
		joined += watch_is_current(reply, *group);
	if (!w->until_finished)
		return joined > 0;
	for (size_t i = 0; i < watch_jobs_count(w->jobs); i++) {
		char label[32];

		snprintf(label, sizeof(label), "jobs-%" PRId64, watch_job_id(watch_jobs_at(w->jobs, i)));
		if (!watch_is_current(reply, label))
			return false;
	}
	return joined == asked;
}

static void
watch_announce(struct watch *w, const json_t *reply)
{
	fputs("following", stderr);
	for (char **group = w->groups; *group != NULL; group++)
		if (watch_is_current(reply, *group))
			fprintf(stderr, " %s", *group);
	fputc('\n', stderr);
}

static void
watch_take_reply(struct watch *w, const json_t *reply)
{
	w->asking = false;
	if (w->joined)
		return;
	if (!watch_is_enough(w, reply)) {
		cli_hint("\"pgrelay grant add USER PATTERN\" lets USER see more%s.",
		    w->until_finished ? "; to know a job's end one must see \"jobs.*.ID\"" : "");
		watch_end(w, WATCH_REFUSED);
		return;
	}
	w->joined = true;
	watch_link_settle(w->link);
	if (!w->announced)
		watch_announce(w, reply);
	w->announced = true;
	watch_check_finished(w);
}

/* A group that is denied is told, and the reply still comes; after any other error it does not. */
static void
watch_take_error(struct watch *w, const char *error)
{
	if (strstr(error, " for resource id ") != NULL)
		cli_error("%s", error);
	else if (w->resuming && strstr(error, "cursor") != NULL)
		watch_refuse_cursor(w, error);
	else
		watch_link_retry(w->link, error);
}

/* Once we are in the groups there is one that matters: our question about status may get it. */
static bool
watch_is_node_error(const struct watch *w, const char *error)
{
	static const char later[] = "the database cannot be asked now";

	return !w->joined || (w->asking && strncmp(error, later, sizeof(later) - 1) == 0);
}

/* The node's other messages come before the first reply; later, what looks like one is a user's event. */
static bool
watch_take_node_message(struct watch *w, const json_t *message, enum watch_kind kind)
{
	if (kind == WATCH_JOINED)
		watch_take_reply(w, message);
	else if (kind == WATCH_CURSOR)
		watch_take_cursor(w, watch_message_text(message, "cursor"));
	else if (kind == WATCH_GAP)
		watch_take_gap(w, json_object_get(message, "gap"));
	else if (kind == WATCH_ERROR && watch_is_node_error(w, watch_message_text(message, "error")))
		watch_take_error(w, watch_message_text(message, "error"));
	else if (w->joined)
		return false;
	else if (kind == WATCH_ACCEPT)
		watch_join(w);
	else if (kind == WATCH_REFUSAL) {
		cli_error("%s refused the connection", watch_link_url(w->link));
		watch_end(w, WATCH_REFUSED);
	} else
		return false;
	return true;
}

static void
watch_on_message(void *arg, const char *text, size_t len)
{
	struct watch *w = watch_check(arg);
	json_t *message = json_loadb(text, len, 0, NULL);
	enum watch_kind kind;
	int64_t job;

	if (w->ending) {
		json_decref(message);
		return;
	}
	kind = watch_message_kind(message, &job);
	if (!watch_take_node_message(w, message, kind)) {
		if (watch_take_event(w, message, kind, job, text, len))
			watch_view_show(w->view, message, text, len);
		watch_check_finished(w);
	} else if (kind == WATCH_GAP && w->json) {
		watch_view_show(w->view, message, text, len);
	}
	json_decref(message);
}

/* ---- the connection, signals, standard output ---- */

static void
watch_on_lost(void *arg)
{
	struct watch *w = watch_check(arg);

	w->returned = w->returned || w->joined;
	if (watch_cursor_text(w->cursor) != NULL)
		event_del(w->late); /* what is missing comes again */
	else if (w->joined)
		watch_interrupt_jobs(w);
	watch_cursor_rewind(w->cursor);
	w->joined = w->asking = w->resuming = false;
}

static void
watch_on_refused(void *arg)
{
	watch_end(watch_check(arg), WATCH_REFUSED);
}

static void
watch_on_closed(void *arg)
{
	loop_stop();
}

static const struct watch_link_ops watch_link_callbacks = {
    watch_on_message, watch_on_lost, watch_on_refused, watch_on_closed};

static void
watch_on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct watch *w = watch_check(arg);

	if (w->ending)
		loop_stop();
	watch_end(w, 128 + (int)signo);
}

/* A reader who has left needs nothing any more, and no words about it. */
static void
watch_on_output_failed(void *arg)
{
	struct watch *w = watch_check(arg);

	if (errno == EPIPE)
		watch_end(w, 128 + SIGPIPE);
	else
		watch_end(w, cli_error("could not write to standard output: %s", strerror(errno)));
}

/* ---- the start ---- */

static bool
watch_add_url(struct watch *w, const char *text)
{
	char *error = NULL;
	struct ws_client_url *url = ws_client_url_parse(text, &error);

	if (url == NULL) {
		cli_error("%s", error);
		free(error);
		return false;
	}
	w->urls = mem_resize(w->urls, sizeof(*w->urls) * (w->url_count + 1));
	w->urls[w->url_count++] = url;
	return true;
}

/* Separated by commas, with spaces round them or not. */
static bool
watch_split_urls(struct watch *w, char *list)
{
	bool ok = true;

	for (char *text; ok && (text = strsep(&list, ",")) != NULL;) {
		text += strspn(text, " ");
		text[strcspn(text, " ")] = '\0';
		ok = watch_add_url(w, text);
	}
	return ok;
}

static bool
watch_set_urls(struct watch *w, const struct cli_values *given)
{
	const char *environment = getenv("PGRELAY_URL");
	char *address, *text;
	bool ok = true;

	for (size_t i = 0; ok && i < given->count; i++)
		ok = watch_add_url(w, given->list[i]);
	if (given->count > 0)
		return ok;
	address = cli_node_address();
	text = environment != NULL ? mem_strdup(environment) : mem_printf("ws://%s", address);
	ok = watch_split_urls(w, text);
	free(text);
	free(address);
	return ok;
}

static struct event *
watch_catch(struct watch *w, int signo)
{
	struct event *event = evsignal_new(loop_base(), signo, watch_on_signal, w);

	if (event == NULL || event_add(event, NULL) < 0)
		log_fatal("could not catch signals");
	return event;
}

static void
watch_main(struct watch *w)
{
	signal(SIGPIPE, SIG_IGN);
	loop_init();
	w->late = evtimer_new(loop_base(), watch_on_late, w);
	if (w->late == NULL)
		log_fatal("could not create a timer");
	w->interrupt = watch_catch(w, SIGINT);
	w->terminate = watch_catch(w, SIGTERM);
	w->view = watch_view_new(w->json, watch_jobs_count(w->jobs) > 1, watch_on_output_failed, w);
	w->link = watch_link_new(w->urls, w->url_count, w->token, &watch_link_callbacks, w);
	loop_run();
	watch_link_free(w->link);
	watch_view_free(w->view);
	event_free(w->late);
	event_free(w->interrupt);
	event_free(w->terminate);
	loop_free();
}

static const char watch_text[] =
    "Follows groups of events: job_events-42 is the output of job 42, jobs-status_changed every change of a "
    "job's\n"
    "status. A job's output is printed as it is, other messages one line each. Connects again when the "
    "connection\n"
    "is lost, and gets what passed meanwhile.\n\n"
    "Exit status with --until-finished: 0 when every job was successful, 1 failed, 3 error, 4 canceled, 5 "
    "when lines\n"
    "are missing. 2 wrong usage, 6 refused, 130 and 143 when ended by SIGINT and SIGTERM.";

int
cli_watch(int argc, char **argv)
{
	struct watch w = {.magic = WATCH_MAGIC};
	struct cli_values urls = {NULL, 0};
	const char *token = NULL, *token_file = NULL;
	bool follow = false;
	const struct cli_option options[] = {
	    {"follow", NULL, "go on until interrupted; the default", NULL, &follow, NULL},
	    {"until-finished", NULL, "end when every job whose events are followed has finished", NULL,
		&w.until_finished, NULL},
	    {"json", NULL, "print each message as it came, one a line", NULL, &w.json, NULL},
	    {"url", "URL",
		"the node: ws://HOST:PORT or http://HOST:PORT, with TLS wss or https; several are tried in "
		"turn; without it $PGRELAY_URL, else the setting "
		"listen",
		NULL, NULL, &urls},
	    {"token", "TOKEN", "who you are; without it $PGRELAY_TOKEN", &token, NULL, NULL},
	    {"token-file", "FILE", "a file whose first line is the token", &token_file, NULL, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "watch",
	    .operands = "GROUP...",
	    .text = watch_text,
	    .options = options,
	    .operands_min = 1,
	    .operands_max = -1};
	struct cli_args args;

	if (!cli_args_start(&args, &usage, argc, argv, &w.status))
		return w.status;
	w.status = CLI_WRONG_USAGE;
	w.groups = args.argv;
	w.jobs = watch_jobs_new();
	w.cursor = watch_cursor_new(WATCH_CURSOR_BYTES);
	if (follow && w.until_finished)
		cli_error("--follow and --until-finished exclude each other");
	else if (watch_parse_groups(&w) && watch_set_urls(&w, &urls) &&
		 cli_node_token(token, token_file, &w.token))
		watch_main(&w);
	watch_jobs_free(w.jobs);
	watch_cursor_free(w.cursor);
	for (size_t i = 0; i < w.url_count; i++)
		ws_client_url_free(w.urls[i]);
	free(w.urls);
	free(urls.list);
	free(w.token);
	return w.status;
}
