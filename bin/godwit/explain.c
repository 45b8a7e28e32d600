/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit explain vm|node NAME`: why something is as it is, in sentences. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

static int ask(const struct cli_call *call, const char *pattern, json_t **out, struct errbuf *eb)
{
	char *path = api_path(pattern, cli_arg_at(call, 0));
	int err = path != NULL ? godwit_get(call, path, out, eb) : -ENOMEM;

	free(path);
	return err;
}

static void put_vm(const struct cli_call *call, const json_t *vm)
{
	const json_t *ha = json_object_get(vm, "ha");
	const char *node = godwit_text(vm, "node");
	const json_t *first;
	size_t i;

	if (ha == NULL) {
		godwit_say(call,
		           "%s is %s. It belongs to this host alone: nobody starts it elsewhere.",
		           godwit_text(vm, "name"), godwit_text(vm, "state"));
		return;
	}
	godwit_say(call, "%s.", godwit_text(ha, "text"));
	godwit_say(call, "It is wanted %s, its priority is %s.", godwit_text(ha, "want"),
	           godwit_text(ha, "priority"));
	if (godwit_text(ha, "objective")[0] != '\0') {
		godwit_say(call, "What is expected of it: %s.", godwit_text(ha, "objective"));
	}
	json_array_foreach(json_object_get(ha, "start_after"), i, first)
	{
		godwit_say(call, "It starts after %s.", json_string_value(first));
	}
	if (node[0] != '\0') {
		godwit_say(call,
		           "Only %s may run it, as its run %" JSON_INTEGER_FORMAT
		           " and with token %" JSON_INTEGER_FORMAT ".",
		           node, json_integer_value(json_object_get(ha, "run")),
		           json_integer_value(json_object_get(ha, "token")));
	} else {
		godwit_say(call, "No node may run it now.");
	}
	if (godwit_text(vm, "error")[0] != '\0') {
		godwit_say(call, "The last start failed: %s", godwit_text(vm, "error"));
	}
	if (strcmp(godwit_text(ha, "state"), "fencing") == 0) {
		godwit_say(
			call,
			"It starts elsewhere when it is certain that %s has stopped: when a fence "
			"device has switched it off, when its keys are gone from all shared "
			"volumes, if their LUNs have reservations (godwit csv list), when its "
			"lease is over, if that is a proof of it (godwit explain node %s), when "
			"it comes back, or when a person says so: godwit node confirm %s --off",
			node, node, node);
	}
}

/* What switches it off, and what that said last. */
static void put_fences(const struct cli_call *call, const char *name, const json_t *fences)
{
	size_t i;
	json_t *f;

	json_array_foreach(json_object_get(fences, "fences"), i, f)
	{
		const json_t *last = json_object_get(f, "last");

		if (strcmp(godwit_text(f, "node"), name) != 0) {
			continue;
		}
		godwit_say(call,
		           "%s can switch it off (%s, level %" JSON_INTEGER_FORMAT
		           "); used last: %s.",
		           godwit_text(f, "name"), godwit_text(f, "agent"),
		           json_integer_value(json_object_get(f, "level")),
		           json_is_object(last) ? godwit_text(last, "text") : "never");
		if (!json_is_true(json_object_get(f, "counts"))) {
			godwit_say(call, "But %s does not count: %s.", godwit_text(f, "name"),
			           godwit_text(f, "why"));
		}
	}
}

static void put_node(const struct cli_call *call, const json_t *node, const json_t *vms,
                     const json_t *fences)
{
	const json_t *ha = json_object_get(node, "ha");
	const char *name = godwit_text(node, "name");
	const char *drain = godwit_text(ha, "drain");
	size_t i;
	json_t *vm;

	godwit_say(call, "%s is %s of the cluster and is %s.", name, godwit_text(node, "state"),
	           json_is_true(json_object_get(node, "up")) ? "here" : "not here");
	if (ha == NULL) {
		godwit_say(call, "It has not taken part in running the cluster's VMs yet.");
		return;
	}
	godwit_say(call, "To those who run VMs it is %s, in its run %" JSON_INTEGER_FORMAT ".",
	           godwit_text(ha, "state"), json_integer_value(json_object_get(ha, "run")));
	godwit_say(call,
	           json_is_true(json_object_get(ha, "lease_proof"))
	                   ? "When it is silent, the end of its lease proves that it has stopped."
	                   : "Its silence proves nothing: it has no watchdog that counts (godwitd "
	                     "--watchdog). Its VMs would wait for it, for a fence device, for "
	                     "its keys to be gone from all shared volumes, or for a person's "
	                     "word.");
	put_fences(call, name, fences);
	if (strcmp(drain, "none") != 0) {
		godwit_say(call,
		           "It is in maintenance%s: it takes no VMs until godwit node resume %s.",
		           strcmp(drain, "done") == 0 ? " and empty" : ", being emptied", name);
	}
	json_array_foreach(json_object_get(vms, "vms"), i, vm)
	{
		const json_t *role = json_object_get(vm, "ha");

		if (role != NULL && strcmp(godwit_text(vm, "node"), name) == 0) {
			godwit_say(call, "It has %s.", godwit_text(role, "text"));
		}
	}
}

static int explain_vm_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *vm = NULL;
	int err = ask(call, "/v1/vms/{name}", &vm, &eb);

	(void)arg;
	return godwit_finish(call, err, vm, &eb, put_vm);
}

static int explain_node_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *node = NULL;
	json_t *vms = NULL;
	json_t *fences = NULL;
	int err = ask(call, "/v1/nodes/{name}", &node, &eb);

	(void)arg;
	if (err == 0) {
		err = godwit_get(call, "/v1/vms", &vms, &eb);
	}
	if (err == 0) {
		err = godwit_get(call, "/v1/fences", &fences, &eb);
	}
	if (err < 0) {
		json_decref(node);
		json_decref(vms);
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, node);
	} else {
		put_node(call, node, vms, fences);
	}
	json_decref(node);
	json_decref(vms);
	json_decref(fences);
	return CLI_DONE;
}

static const struct cli_arg arg_vm[] = {{.name = "NAME", .summary = "The VM.", .source = "vm"},
                                        {0}};
static const struct cli_arg arg_node[] = {{.name = "NAME", .summary = "The node."}, {0}};

static const struct cli_cmd cmds[] = {
	{.verb = "vm",
         .summary = "Say where a VM stands, and what it waits for",
         .details = "The node that leads the cluster knows most: which proof is tried, which timer "
                    "runs. godwit cluster status shows which one that is.",
         .args = arg_vm,
         .run = explain_vm_run},
	{.verb = "node",
         .summary = "Say what a node is to the cluster's VMs",
         .args = arg_node,
         .run = explain_node_run},
	{0},
};

const struct cli_noun noun_explain = {
	.name = "explain",
	.summary = "Why things are as they are",
	.cmds = cmds,
};
