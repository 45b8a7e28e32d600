/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit node drain` and `node resume`: maintenance. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/job.h"
#include "bin/godwit/node.h"

static int post(const struct cli_call *call, const char *pattern, const json_t *body,
                json_t **answer, struct errbuf *eb)
{
	char *path = api_path(pattern, cli_arg_at(call, 0));
	int err = path != NULL ? godwit_call(call, API_POST, path, body, answer, eb) : -ENOMEM;

	free(path);
	return err;
}

int node_drain_run(const struct cli_call *call, void *arg)
{
	json_t *body = json_object();
	struct errbuf eb = {0};
	json_t *job = NULL;
	json_t *last = NULL;
	int status;
	int err;

	if (cli_flag(call, "cancel", false)) {
		json_decref(body);
		return node_resume_run(call, arg);
	}
	if (body != NULL && cli_given(call, "deadline")) {
		(void)json_object_set_new(
			body, "deadline_ns",
			json_integer((json_int_t)cli_number(call, "deadline", 0)));
	}
	err = body != NULL ? post(call, "/v1/nodes/{name}/drain", body, &job, &eb) : -ENOMEM;
	json_decref(body);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	status = job_wait(call, job, &last);
	if (status == CLI_DONE && last != NULL && !cli_flag(call, "json", false)) {
		godwit_note(call, "%s runs no VM of the cluster; godwit node resume %s ends that",
		            cli_arg_at(call, 0), cli_arg_at(call, 0));
	}
	json_decref(job);
	json_decref(last);
	return status;
}

int node_resume_run(const struct cli_call *call, void *arg)
{
	const char *failback = cli_text(call, "failback");
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = 0;

	(void)arg;
	if (failback != NULL && strcmp(failback, "none") != 0) {
		err = errbuf_set(&eb, -ENOTSUP, "--failback %s is not in this version yet",
		                 failback);
		errbuf_hint(&eb, "godwit vm move brings VMs back");
	}
	if (err == 0) {
		err = post(call, "/v1/nodes/{name}/resume", NULL, &answer, &eb);
	}
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		godwit_note(call, "%s takes VMs again", cli_arg_at(call, 0));
	}
	json_decref(answer);
	return CLI_DONE;
}

int node_confirm_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err;

	(void)arg;
	if (!cli_flag(call, "off", false)) {
		err = errbuf_set(&eb, -EINVAL, "what about it? --off says that it is switched off");
		(void)godwit_fail(call, err, &eb);
		return CLI_USAGE;
	}
	err = post(call, "/v1/nodes/{name}/confirm-off", NULL, &answer, &eb);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		godwit_note(call, "its VMs start elsewhere now, because you said so");
	}
	json_decref(answer);
	return CLI_DONE;
}

const struct cli_opt node_confirm_opts[] = {
	{.name = "off",
         .kind = CLI_FLAG,
         .summary = "It is switched off, or will be before anything of it can run: you looked. If "
                    "that is not so its VMs run twice and destroy their disks."},
	{0},
};

const struct cli_opt node_drain_opts[] = {
	{.name = "deadline",
         .kind = CLI_DURATION,
         .value = "TIME",
         .summary = "The job fails if it is not empty by then; the node stays in maintenance."},
	{.name = "cancel",
         .kind = CLI_FLAG,
         .summary = "Stop a drain that is under way; what has moved stays where it is."},
	{.name = "wait",
         .kind = CLI_TOGGLE,
         .summary = "Wait until it is over and show how far it is; --no-wait prints the job's "
                    "number."},
	{0},
};

const struct cli_opt node_resume_opts[] = {
	{.name = "failback",
         .kind = CLI_CHOICE,
         .value = "none|now|policy",
         .preset = "none",
         .summary = "Whether its VMs come back; this version knows none only."},
	{0},
};
