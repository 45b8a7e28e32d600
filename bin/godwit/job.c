/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit job ...`: work that takes long. */
#include "bin/godwit/job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/ui/ui.h"

const struct cli_opt job_wait_opt = {
	.name = "wait",
	.kind = CLI_TOGGLE,
	.summary =
		"Wait until the job is over and show how far it is; --no-wait prints its number.",
};

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

/* ---- following one ---- */

struct follow {
	const struct cli_call *call;
	struct ui_style style;
	struct ui_progress bar;
	json_t *last; /* owned */
};

static void follow_write(const struct follow *f, struct ui_buf *buf)
{
	char *text;

	if (ui_buf_end(buf, &text) == 0) {
		(void)fputs(text, f->call->err);
		(void)fflush(f->call->err);
		free(text);
	}
}

static void follow_draw(struct follow *f, const json_t *job)
{
	const json_t *progress = json_object_get(job, "progress");
	const json_t *percent = json_object_get(progress, "percent");
	const struct ui_step step = {
		.what = godwit_text(job, "text"),
		.percent = json_is_integer(percent) ? (int)json_integer_value(percent) : -1,
		.detail = godwit_text(progress, "detail"),
		.last = strcmp(godwit_text(job, "state"), "done") == 0,
	};
	struct ui_buf buf = {0};

	if (!cli_flag(f->call, "quiet", false)) {
		ui_progress(&f->bar, &f->style, &step, clock_now_ns(), &buf);
		follow_write(f, &buf);
	}
}

static int follow_event(const json_t *job, void *arg)
{
	struct follow *f = arg;

	json_decref(f->last);
	f->last = json_deep_copy(job);
	if (cli_flag(f->call, "json", false)) {
		char *text = json_text(job, 0);

		(void)fprintf(f->call->out, "%s\n", text != NULL ? text : "{}");
		(void)fflush(f->call->out);
		free(text);
	} else {
		follow_draw(f, job);
	}
	return 0;
}

/* How it ended, as exit status; says why if not well. */
static int follow_end(const struct cli_call *call, const json_t *job)
{
	const json_t *error = json_object_get(job, "error");
	const char *state = godwit_text(job, "state");
	struct errbuf eb = {0};

	if (strcmp(state, "done") == 0) {
		return CLI_DONE;
	}
	if (error == NULL) {
		(void)errbuf_set(&eb, -ECONNRESET, "job %" PRIu64 " is %s, its end was not seen",
		                 number_of(job, "id"), state);
		errbuf_hint(&eb, "godwit job watch %" PRIu64, number_of(job, "id"));
		return godwit_fail(call, -ECONNRESET, &eb);
	}
	(void)errbuf_set(&eb, -EIO, "%s", godwit_text(error, "message"));
	errbuf_hint(&eb, "%s", godwit_text(error, "hint"));
	return cli_flag(call, "json", false)
	               ? CLI_FAILED /* the last line has said it */
	               : godwit_fail(call, api_error_errno(godwit_text(error, "code"), 0), &eb);
}

static int follow_job(const struct cli_call *call, uint64_t id, json_t **last)
{
	struct follow f = {.call = call};
	struct ui_buf buf = {0};
	struct errbuf eb = {0};
	char path[64];
	int status;
	int err;

	ui_style_get(fileno(call->err), &f.style);
	(void)snprintf(path, sizeof(path), "/v1/jobs/%" PRIu64 "/watch", id);
	godwit_on_interrupt(call,
	                    "\ngodwit: job %" PRIu64 " goes on without you\n"
	                    "  godwit job watch %" PRIu64 " follows it, godwit job cancel %" PRIu64
	                    " stops it\n",
	                    id, id, id);
	err = godwit_events(call, path, follow_event, &f, &eb);
	godwit_on_interrupt(call, NULL);
	if (!cli_flag(call, "json", false) && !cli_flag(call, "quiet", false)) {
		ui_progress_end(&f.bar, &f.style, false, &buf);
		follow_write(&f, &buf);
	}
	status = err < 0 ? godwit_fail(call, err, &eb) : follow_end(call, f.last);
	if (last != NULL) {
		*last = f.last;
	} else {
		json_decref(f.last);
	}
	return status;
}

int job_wait(const struct cli_call *call, const json_t *job, json_t **last)
{
	uint64_t id = number_of(job, "id");

	*last = NULL;
	if (cli_flag(call, "wait", true)) {
		return follow_job(call, id, last);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, job);
	} else {
		godwit_put(call, "%" PRIu64, id);
		godwit_end(call);
		godwit_note(call, "godwit job watch %" PRIu64 " follows it", id);
	}
	return CLI_DONE;
}

/* ---- the commands ---- */

static void job_row(struct ui_table *table, const json_t *job)
{
	const json_t *progress = json_object_get(job, "progress");
	const json_t *error = json_object_get(job, "error");
	uint64_t started = number_of(job, "started_ns");
	uint64_t ended = number_of(job, "ended_ns");
	char took[FMT_MAX];

	if (ended == 0) {
		ended = clock_wall_ns();
	}
	ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(job, "id"));
	ui_table_cell(table, error != NULL ? UI_BAD : UI_PLAIN, "%s", godwit_text(job, "state"));
	ui_table_cell(table, UI_PLAIN, "%s",
	              fmt_duration(ended > started ? ended - started : 0, took));
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(job, "text"));
	ui_table_cell(table, UI_PLAIN, "%s",
	              error != NULL ? godwit_text(error, "message")
	                            : godwit_text(progress, "detail"));
}

/* @jobs: an array, or one of them. */
static int print_jobs(const struct cli_call *call, const json_t *jobs)
{
	static const struct ui_column columns[] = {
		{.title = "ID", .right = true},
		{.title = "STATE"},
		{.title = "TIME"},
		{.title = "WHAT", .columns_min = 12},
		{.title = "STATUS", .columns_min = 12},
	};
	struct errbuf eb = {0};
	struct ui_table *table;
	const json_t *job;
	size_t i;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (json_is_object(jobs)) {
		job_row(table, jobs);
	}
	json_array_foreach(jobs, i, job)
	{
		job_row(table, job);
	}
	return godwit_table(call, table);
}

static int job_list_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int status = CLI_DONE;
	int err = godwit_get(call, "/v1/jobs", &answer, &eb);

	(void)arg;
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else if (json_array_size(json_object_get(answer, "jobs")) == 0) {
		godwit_note(call, "no jobs since the service started");
	} else {
		status = print_jobs(call, json_object_get(answer, "jobs"));
	}
	json_decref(answer);
	return status;
}

/* One call about the job that the user named; prints the job as JSON or as a line. */
static int job_one(const struct cli_call *call, enum api_method method, const char *pattern)
{
	struct errbuf eb = {0};
	json_t *job = NULL;
	char *path = api_path(pattern, cli_arg_at(call, 0));
	int status = CLI_DONE;
	int err = path != NULL ? godwit_call(call, method, path, NULL, &job, &eb) : -ENOMEM;

	free(path);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, job);
	} else {
		status = print_jobs(call, job);
	}
	json_decref(job);
	return status;
}

static int job_show_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return job_one(call, API_GET, "/v1/jobs/{id}");
}

static int job_cancel_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return job_one(call, API_POST, "/v1/jobs/{id}/cancel");
}

static int job_watch_run(const struct cli_call *call, void *arg)
{
	const char *text = cli_arg_at(call, 0);
	char *end = NULL;
	uint64_t id = strtoull(text, &end, 10);

	(void)arg;
	if (id == 0 || *end != '\0') {
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -EINVAL, "'%s' is no job's number", text);
		errbuf_hint(&eb, "godwit job list shows the last ones");
		return godwit_fail(call, -EINVAL, &eb);
	}
	return follow_job(call, id, NULL);
}

static const struct cli_arg one_job[] = {
	{.name = "ID", .summary = "Number of the job.", .source = "job"},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "list", .summary = "List the last jobs of this host", .run = job_list_run},
	{.verb = "show", .summary = "Show one job", .args = one_job, .run = job_show_run},
	{.verb = "watch",
         .summary = "Follow a job until it is over",
         .details = "The exit status is that of the job.",
         .args = one_job,
         .run = job_watch_run},
	{.verb = "cancel",
         .summary = "Stop a job; what it changed is undone",
         .args = one_job,
         .run = job_cancel_run},
	{0},
};

const struct cli_noun noun_job = {
	.name = "job",
	.summary = "Work that takes long",
	.details = "Moving a VM is a job: it goes on if the command that started it ends.",
	.cmds = cmds,
};
