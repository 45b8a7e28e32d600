/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit vm move`: to another node, running. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "bin/godwit/job.h"
#include "bin/godwit/vm.h"

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

static json_t *move_body(const struct cli_call *call)
{
	const char *addr = cli_text(call, "addr");
	const char *storage = cli_text(call, "storage");
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_str(&b, "to", cli_text(call, "to"));
	if (addr != NULL) {
		json_add_str(&b, "addr", addr);
	}
	json_add_str(&b, "transport", cli_text(call, "transport"));
	if (storage != NULL) {
		json_add_str(&b, "storage", storage);
	}
	json_add_str(&b, "mode", cli_flag(call, "quick", false) ? "quick" : "live");
	json_add_u64(&b, "streams", cli_number(call, "streams", 4));
	if (cli_given(call, "max-blackout")) {
		json_add_u64(&b, "blackout_max_ns", cli_number(call, "max-blackout", 0));
	}
	json_add_u64(&b, "bandwidth_bytes_s", cli_number(call, "bandwidth", 0));
	json_add_str(&b, "compress", cli_text(call, "compress"));
	json_add_bool(&b, "plain", cli_flag(call, "plain", false));
	json_add_bool(&b, "check", cli_flag(call, "check", false));
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

/* What the destination found: a line each, with what to do. */
static void move_report(const struct cli_call *call, const json_t *job)
{
	const json_t *report = json_object_get(json_object_get(job, "result"), "report");
	const json_t *items = json_object_get(report, "items");
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item)
	{
		const char *hint = godwit_text(item, "hint");

		godwit_note(call, "%s: %s%s%s%s",
		            json_is_true(json_object_get(item, "blocker")) ? "in the way" : "note",
		            godwit_text(item, "text"), hint[0] != '\0' ? " (" : "", hint,
		            hint[0] != '\0' ? ")" : "");
	}
}

static void move_say(const struct cli_call *call, const json_t *job)
{
	const json_t *result = json_object_get(job, "result");
	char memory[FMT_MAX];
	char total[FMT_MAX];
	char blackout[FMT_MAX];

	if (cli_flag(call, "check", false)) {
		godwit_note(call, "%s could move to %s", cli_arg_at(call, 0), cli_text(call, "to"));
		return;
	}
	godwit_note(call, "%s runs on %s: %s in %s, %" PRIu64 " rounds, blackout %s",
	            cli_arg_at(call, 0), cli_text(call, "to"),
	            fmt_size(number_of(result, "wire_bytes"), memory),
	            fmt_duration(number_of(result, "total_ns"), total), number_of(result, "rounds"),
	            fmt_duration(number_of(result, "blackout_ns"), blackout));
}

int vm_move_run(const struct cli_call *call, void *arg)
{
	char *path = api_path("/v1/vms/{name}/move", cli_arg_at(call, 0));
	json_t *body = move_body(call);
	struct errbuf eb = {0};
	json_t *job = NULL;
	json_t *last = NULL;
	int status;
	int err = path != NULL && body != NULL ? godwit_call(call, API_POST, path, body, &job, &eb)
	                                       : -ENOMEM;

	(void)arg;
	free(path);
	json_decref(body);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	status = job_wait(call, job, &last);
	if (last != NULL && !cli_flag(call, "json", false)) {
		move_report(call, last);
		if (status == CLI_DONE) {
			move_say(call, last);
		}
	}
	json_decref(job);
	json_decref(last);
	return status;
}

const struct cli_opt vm_move_opts[] = {
	{.name = "to",
         .kind = CLI_TEXT,
         .value = "NODE",
         .required = true,
         .summary = "The node it is to run on, as its certificate calls it."},
	{.name = "addr",
         .kind = CLI_TEXT,
         .value = "ADDR",
         .summary = "Where that node is, if its name cannot be looked up."},
	{.name = "quick",
         .kind = CLI_FLAG,
         .summary = "Stop it first, then copy: takes less in all, but it stands still meanwhile."},
	{.name = "transport",
         .kind = CLI_CHOICE,
         .value = "tcp|rdma|smb",
         .preset = "tcp",
         .summary = "How its memory gets there; this version knows TCP only."},
	{.name = "storage",
         .kind = CLI_TEXT,
         .value = "PATH|VOLUME",
         .summary = "Move its disks there, too; not in this version yet."},
	{.name = "streams",
         .kind = CLI_UINT,
         .value = "N",
         .preset = "4",
         .summary = "Connections for its memory, 1 to 16."},
	{.name = "max-blackout",
         .kind = CLI_DURATION,
         .value = "TIME",
         .summary = "It must not stand still for longer; a move that cannot keep that is given up, "
                    "and the VM runs on here. If it is not given: what vm create --blackout-limit "
                    "or cluster set --blackout-limit said, else 50ms."},
	{.name = "bandwidth",
         .kind = CLI_BANDWIDTH,
         .value = "RATE",
         .summary = "Use no more than that, e.g. 1G or 10Gbit."},
	{.name = "compress",
         .kind = CLI_CHOICE,
         .value = "none|lz4|zstd",
         .preset = "none",
         .summary =
                 "Compress its memory; switches itself off where that costs more than it gains."},
	{.name = "plain", .kind = CLI_FLAG, .summary = "Without encryption."},
	{.name = "check", .kind = CLI_FLAG, .summary = "Only say what speaks against it."},
	{.name = "wait",
         .kind = CLI_TOGGLE,
         .summary = "Wait until it is over and show how far it is; --no-wait prints the job's "
                    "number."},
	{0},
};
