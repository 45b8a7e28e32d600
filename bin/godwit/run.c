/* SPDX-License-Identifier: Apache-2.0 */
/* Work that takes time: a stream of progress, then the result. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/ui/ui.h"
#include "bin/godwit/godwit.h"

#define INTERRUPTED_MAX 400

struct run {
	const struct cli_call *call;
	const char *what;
	bool show;
	struct ui_style style;
	struct ui_progress progress;
	json_t *result; /* owned; NULL = has not come */
	int err;        /* what the service says */
	struct errbuf *eb;
};

/* ---- Ctrl-C ---- */

static char interrupted[INTERRUPTED_MAX]; /* complete before the handler is there */

static void on_interrupt(int signo)
{
	ssize_t n = write(STDERR_FILENO, interrupted, strlen(interrupted));

	(void)n;
	(void)signal(signo, SIG_DFL);
	(void)raise(signo); /* ends us when we return */
}

void godwit_on_interrupt(const struct cli_call *call, const char *fmt, ...)
{
	struct sigaction was;
	struct sigaction now = {.sa_handler = SIG_DFL};
	va_list ap;

	if (cli_flag(call, "quiet", false) || cli_flag(call, "json", false) ||
	    sigaction(SIGINT, NULL, &was) != 0 || was.sa_handler == SIG_IGN) {
		return;
	}
	(void)sigaction(SIGINT, &now, NULL);
	if (fmt == NULL) {
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(interrupted, sizeof(interrupted), fmt, ap);
	va_end(ap);
	now.sa_handler = on_interrupt;
	(void)sigaction(SIGINT, &now, NULL);
}

/* ---- work ---- */

/* Write what is to be seen now, on the terminal behind standard error. */
static void run_write(const struct run *run, struct ui_buf *buf)
{
	char *text;

	if (ui_buf_end(buf, &text) == 0) {
		(void)fputs(text, run->call->err);
		(void)fflush(run->call->err);
		free(text);
	}
}

static void run_progress(struct run *run, const json_t *progress)
{
	json_int_t done = json_integer_value(json_object_get(progress, "done"));
	json_int_t total = json_integer_value(json_object_get(progress, "total"));
	struct ui_step step = {.what = run->what, .percent = -1};
	struct ui_buf buf = {0};

	if (!run->show) {
		return;
	}
	if (total > 0 && done >= 0 && done <= total) {
		step.percent = (int)((double)done * 100 / (double)total);
	}
	ui_progress(&run->progress, &run->style, &step, clock_now_ns(), &buf);
	run_write(run, &buf);
}

static int run_line(const json_t *line, void *arg)
{
	struct run *run = arg;
	const json_t *progress = json_object_get(line, "progress");
	const json_t *error = json_object_get(line, "error");
	json_t *result = json_object_get(line, "result");

	if (progress != NULL) {
		run_progress(run, progress);
	} else if (error != NULL) {
		run->err = errbuf_set(run->eb, api_error_errno(godwit_text(error, "code"), 500),
		                      "%s", godwit_text(error, "message"));
		errbuf_hint(run->eb, "%s", godwit_text(error, "hint"));
	} else if (json_is_object(result) && run->result == NULL) {
		run->result = json_incref(result);
	}
	return 0;
}

int godwit_run(const struct cli_call *call, const char *path, const json_t *body, const char *what,
               json_t **out, struct errbuf *eb)
{
	struct run run = {.call = call, .what = what, .eb = eb};
	const struct api_client_cfg cfg = {.url = godwit_host(call)};
	const struct api_call request = {.method = API_POST, .path = path, .body = body};
	struct ui_buf buf = {0};
	struct api_client *client;
	int err = api_client_create(&cfg, &client, eb);

	*out = NULL;
	if (err < 0) {
		return err;
	}
	ui_style_get(fileno(call->err), &run.style);
	run.show = run.style.columns != 0 && !cli_flag(call, "quiet", false) &&
	           !cli_flag(call, "json", false);
	godwit_on_interrupt(call,
	                    "\ngodwit: interrupted: %.200s is stopped; what was to be made is not "
	                    "there, what was to be changed can be changed again\n",
	                    what);
	err = api_client_events(client, &request, run_line, &run, eb);
	godwit_on_interrupt(call, NULL);
	ui_progress_end(&run.progress, &run.style, true, &buf);
	run_write(&run, &buf);
	if (err == 0) {
		err = run.err;
	}
	if (err == 0 && run.result == NULL) {
		err = errbuf_set(eb, -EPROTO, "the service gave no result");
	}
	if (err != 0) {
		json_decref(run.result);
	} else {
		*out = run.result;
	}
	api_client_destroy(client);
	return err;
}

int godwit_file(const struct cli_call *call, const char *path, char *buf, struct errbuf *eb)
{
	const char *host = godwit_host(call);
	char folder[GODWIT_PATH_MAX] = "";

	if (path[0] != '/' && host != NULL && strncmp(host, "unix:", 5) != 0) {
		return errbuf_set(eb, -EINVAL, "%s: another host needs an absolute path", path);
	}
	if (path[0] != '/' && getcwd(folder, sizeof(folder)) == NULL) {
		return errbuf_sys(eb, -errno, "the folder we are in");
	}
	while (path[0] == '.' && path[1] == '/') {
		path += 2;
	}
	if (snprintf(buf, GODWIT_PATH_MAX, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", path) >=
	    GODWIT_PATH_MAX) {
		return errbuf_sys(eb, -ENAMETOOLONG, "%s", path);
	}
	return 0;
}
