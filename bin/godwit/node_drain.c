/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit node drain` and `node resume`: maintenance. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "bin/godwit/job.h"
#include "bin/godwit/node.h"

#define NODE_NAME_MAX 256

static int post(const struct cli_call *call, const char *pattern, const char *node,
                const json_t *body, json_t **answer, struct errbuf *eb)
{
	char *path = api_path(pattern, node);
	int err = path != NULL ? godwit_call(call, API_POST, path, body, answer, eb) : -ENOMEM;

	free(path);
	return err;
}

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

/* One line per VM: where it went or goes, how, how long it stood still, or what is in its way. */
static void put_vms(const struct cli_call *call, const json_t *result)
{
	const json_t *row;
	char ns[FMT_MAX];
	size_t i;

	json_array_foreach(json_object_get(result, "vms"), i, row)
	{
		const char *to = godwit_text(row, "to");
		const char *how = godwit_text(row, "how");
		const char *text = godwit_text(row, "text");
		uint64_t blackout = number_of(row, "blackout_ns");

		godwit_put(call, "%-20s %-9s %-12s %-8s %s%s", godwit_text(row, "vm"),
		           godwit_text(row, "state"), to, how, blackout != 0 ? "blackout " : "",
		           blackout != 0 ? fmt_duration(blackout, ns) : "");
		godwit_put(call, "%s%s", blackout != 0 && text[0] != '\0' ? "  " : "", text);
		godwit_end(call);
	}
	if (godwit_text(result, "coordinates")[0] != '\0') {
		godwit_note(call, "it coordinates volume %s", godwit_text(result, "coordinates"));
	}
}

static json_t *drain_body(const struct cli_call *call)
{
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	if (cli_given(call, "deadline")) {
		json_add_u64(&b, "deadline_ns", cli_number(call, "deadline", 0));
	}
	if (cli_given(call, "moves")) {
		json_add_u64(&b, "moves", cli_number(call, "moves", 0));
	}
	if (cli_text(call, "fallback") != NULL) {
		json_add_str(&b, "fallback", cli_text(call, "fallback"));
	}
	if (cli_flag(call, "shutdown", false)) {
		json_add_bool(&b, "shutdown", true);
		json_add_str(&b, "failback", "policy");
		json_add_bool(&b, "force", cli_flag(call, "force", false));
	}
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

/* Only what would be done. */
static int drain_plan(const struct cli_call *call, const char *node, const json_t *body)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = post(call, "/v1/nodes/{name}/drain?dry_run", node, body, &answer, &eb);
	uint64_t blocked = number_of(answer, "blocked");

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		put_vms(call, answer);
		godwit_note(call, "%" PRIu64 " VMs, %" PRIu64 " of them cannot go",
		            number_of(answer, "total"), blocked);
	}
	json_decref(answer);
	return blocked != 0 ? CLI_PARTLY : CLI_DONE;
}

static int drain_follow(const struct cli_call *call, const char *node, const json_t *job)
{
	const json_t *result;
	json_t *last = NULL;
	int status = job_wait(call, job, &last);

	result = json_object_get(last, "result");
	if (result != NULL && !cli_flag(call, "json", false)) {
		put_vms(call, result);
	}
	if (status == CLI_DONE && number_of(result, "left") != 0) {
		status = CLI_PARTLY;
		godwit_note(call, "%" PRIu64 " VMs are left on it", number_of(result, "left"));
	} else if (status == CLI_DONE && last != NULL && !cli_flag(call, "json", false)) {
		godwit_note(call, "%s runs no VM of the cluster; godwit node resume %s ends that",
		            node, node);
	}
	json_decref(last);
	return status;
}

/* Of this host in its cluster; *out "" if it is in none. */
static int own_name(const struct cli_call *call, char out[NODE_NAME_MAX], struct errbuf *eb)
{
	json_t *answer = NULL;
	int err = godwit_get(call, "/v1/cluster", &answer, eb);

	(void)snprintf(out, NODE_NAME_MAX, "%s",
	               json_is_true(json_object_get(answer, "present"))
	                       ? godwit_text(answer, "node")
	                       : "");
	json_decref(answer);
	return err;
}

static int drain(const struct cli_call *call, const char *node)
{
	json_t *body = drain_body(call);
	struct errbuf eb = {0};
	json_t *job = NULL;
	int status;
	int err;

	if (body != NULL && cli_flag(call, "dry-run", false)) {
		status = drain_plan(call, node, body);
	} else {
		err = body != NULL ? post(call, "/v1/nodes/{name}/drain", node, body, &job, &eb)
		                   : -ENOMEM;
		status = err < 0 ? godwit_fail(call, err, &eb) : drain_follow(call, node, job);
	}
	json_decref(body);
	json_decref(job);
	return status;
}

int node_drain_run(const struct cli_call *call, void *arg)
{
	const char *node = cli_arg_at(call, 0);
	char self[NODE_NAME_MAX] = "";
	struct errbuf eb = {0};
	int err = 0;

	if ((node != NULL) == cli_flag(call, "self", false) ||
	    (node == NULL && cli_flag(call, "cancel", false))) {
		err = errbuf_set(&eb, -EINVAL, "which node? its name, or --self");
		(void)godwit_fail(call, err, &eb);
		return CLI_USAGE;
	}
	if (cli_flag(call, "cancel", false)) {
		return node_resume_run(call, arg);
	}
	if (node == NULL) {
		err = own_name(call, self, &eb);
		node = self;
	}
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (node[0] == '\0') {
		godwit_note(call, "this host is in no cluster: there is nothing to do");
		return CLI_DONE;
	}
	return drain(call, node);
}

static int back_follow(const struct cli_call *call, const json_t *job)
{
	json_t *last = NULL;
	int status = job_wait(call, job, &last);

	if (last != NULL && !cli_flag(call, "json", false)) {
		put_vms(call, json_object_get(last, "result"));
	}
	json_decref(last);
	return status;
}

int node_resume_run(const struct cli_call *call, void *arg)
{
	const char *failback = cli_text(call, "failback");
	json_t *body = json_pack("{s:s}", "failback", failback != NULL ? failback : "none");
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int status = CLI_DONE;
	int err = body != NULL ? post(call, "/v1/nodes/{name}/resume", cli_arg_at(call, 0), body,
	                              &answer, &eb)
	                       : -ENOMEM;

	(void)arg;
	json_decref(body);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (number_of(answer, "id") != 0) {
		status = back_follow(call, answer);
	} else if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		godwit_note(call, "%s takes VMs again", cli_arg_at(call, 0));
	}
	json_decref(answer);
	return status;
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
	err = post(call, "/v1/nodes/{name}/confirm-off", cli_arg_at(call, 0), NULL, &answer, &eb);
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
	{.name = "dry-run",
         .kind = CLI_FLAG,
         .summary =
                 "Only say of each VM where it would go and how, or what is in its way; the exit "
                 "status is 3 if something is."},
	{.name = "deadline",
         .kind = CLI_DURATION,
         .value = "TIME",
         .summary = "The job fails if it is not empty by then; the node stays in maintenance."},
	{.name = "fallback",
         .kind = CLI_CHOICE,
         .value = "live|quick|shutdown|leave",
         .summary =
                 "What is done with VMs that cannot be moved alive, whatever their definitions "
                 "say. live: wait and try again. quick: they stand still while they are copied. "
                 "shutdown: the guest is shut down, and started elsewhere, as soon as there is a "
                 "node for it. leave: they stay, and the job does not wait for them."},
	{.name = "moves",
         .kind = CLI_UINT,
         .value = "N",
         .summary = "So many VMs at once, 1 to 8; else as cluster set --moves-per-node says."},
	{.name = "self",
         .kind = CLI_FLAG,
         .summary = "The node of this host; instead of its name."},
	{.name = "shutdown",
         .kind = CLI_FLAG,
         .summary = "The host goes down for a while: refused if the others would have no majority; "
                    "when it is back it takes VMs again by itself, and those that prefer it come."},
	{.name = "force",
         .kind = CLI_FLAG,
         .summary = "With --shutdown: also if the others would have no majority."},
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
         .summary = "Whether the VMs that were there when it was drained come back, alive. policy: "
                    "those whose --preferred names it before the node where they are."},
	{.name = "wait",
         .kind = CLI_TOGGLE,
         .summary =
                 "With --failback: wait until they are back; --no-wait prints the job's number."},
	{0},
};
