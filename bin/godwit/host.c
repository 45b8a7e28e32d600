/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit host ...`: this machine. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/report.h"
#include "bin/common/hostinfo.h"
#include "bin/godwit/godwit.h"

#define WHAT_COLUMNS 30 /* the longest "what" is "Hyper-V CPUID enforcement" */
#define FOUND_COLUMNS 36
#define KEY_COLUMNS 12

static const struct {
	const char *group; /* of the id, up to the dot */
	const char *title;
} groups[] = {
	{"cpu", "Processor"}, {"kvm", "KVM"},
	{"memory", "Memory"}, {"kernel", "Kernel"},
	{"net", "Network"},   {"storage", "Storage"},
	{"time", "Time"},     {"cluster", "Cluster (only needed to become a node)"},
};

static const char *title_of(const char *id, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		if (strlen(groups[i].group) == len && strncmp(groups[i].group, id, len) == 0) {
			return groups[i].title;
		}
	}
	return id;
}

/* @above: the line printed before, or NULL. Its advice is not given twice in a row. */
static void print_line(const struct cli_call *call, const json_t *line, const json_t *above)
{
	const char *verdict = godwit_text(line, "verdict");
	const char *mend = godwit_text(line, "mend");
	bool fail = strcmp(verdict, "fail") == 0;
	enum godwit_colour colour = COLOUR_NONE;

	if (fail) {
		colour = COLOUR_BAD;
	} else if (strcmp(verdict, "warn") == 0) {
		colour = COLOUR_WARN;
	} else if (strcmp(verdict, "ok") == 0) {
		colour = COLOUR_GOOD;
	}
	godwit_colour(call, colour);
	godwit_put(call, "  %-5s", fail ? "FAIL" : verdict);
	godwit_colour(call, COLOUR_NONE);
	godwit_put(call, " %-*s %-*s  needed: %s", WHAT_COLUMNS, godwit_text(line, "what"),
	           FOUND_COLUMNS, godwit_text(line, "found"), godwit_text(line, "needed"));
	godwit_end(call);
	if (mend[0] != '\0' && strcmp(mend, godwit_text(above, "mend")) != 0) {
		godwit_put(call, "        -> %s", mend);
		godwit_end(call);
	}
}

static void print_check(const struct cli_call *call, const json_t *report)
{
	const json_t *checks = json_object_get(report, "checks");
	const json_t *counts = json_object_get(report, "counts");
	const char *group = "";
	size_t group_len = 0;

	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *line = json_array_get(checks, i);
		const char *id = godwit_text(line, "id");
		size_t len = strcspn(id, ".");

		if (len != group_len || strncmp(id, group, len) != 0) {
			group = id;
			group_len = len;
			if (i > 0) {
				godwit_end(call);
			}
			godwit_colour(call, COLOUR_TITLE);
			godwit_put(call, "%s", title_of(id, len));
			godwit_colour(call, COLOUR_NONE);
			godwit_end(call);
		}
		print_line(call, line, i > 0 ? json_array_get(checks, i - 1) : NULL);
	}
	godwit_end(call);
	godwit_put(call,
	           "%" JSON_INTEGER_FORMAT " ok, %" JSON_INTEGER_FORMAT
	           " warn, %" JSON_INTEGER_FORMAT " failed",
	           json_integer_value(json_object_get(counts, "ok")),
	           json_integer_value(json_object_get(counts, "warn")),
	           json_integer_value(json_object_get(counts, "fail")));
	godwit_end(call);
}

typedef int (*look_fn)(const char *state_dir, const char *source, json_t **out, struct errbuf *eb);

/*
 * The answer of godwitd; of this process if the user wants it so, or if no godwitd can be asked
 * and none was named. Another host's cannot be replaced by our own look.
 */
static int ask(const struct cli_call *call, const char *path, look_fn look, json_t **out,
               struct errbuf *eb)
{
	if (!cli_flag(call, "local", false)) {
		int err = godwit_get(call, path, out, eb);
		bool nobody = err == -ENOENT || err == -ECONNREFUSED || err == -EACCES;

		if (err == 0 || !nobody || godwit_host(call) != NULL) {
			return err;
		}
		godwit_note(call, "%s; looking without it", errbuf_text(eb, err));
	}
	return look(HOSTINFO_STATE_DIR, "local", out, eb);
}

/* The verdict decides over the exit status, so it must be one. */
static int verdict_of(const json_t *report, size_t *verdict, struct errbuf *eb)
{
	static const char *const words[] = {
		[REPORT_INFO] = "info",
		[REPORT_OK] = "ok",
		[REPORT_WARN] = "warn",
		[REPORT_FAIL] = "fail",
	};
	struct json_at root = json_root(report, "answer");

	return json_get_word(&root, "verdict", words, ARRAY_LEN(words), verdict, eb);
}

static int host_check_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *report;
	size_t verdict = REPORT_FAIL;
	int err = ask(call, "/v1/host/check", hostinfo_check, &report, &eb);

	(void)arg;
	if (err == 0) {
		err = verdict_of(report, &verdict, &eb);
	}
	if (err < 0) {
		json_decref(report);
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, report);
	} else {
		print_check(call, report);
	}
	json_decref(report);
	return verdict == REPORT_FAIL ? CLI_FAILED : CLI_DONE;
}

static json_int_t number_of(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

/* @buf: FMT_MAX. A negative number can only come from a broken server. */
static const char *size_of(const json_t *json, const char *key, char *buf)
{
	json_int_t bytes = number_of(json, key);

	return fmt_size(bytes > 0 ? (uint64_t)bytes : 0, buf);
}

/* The name only in front of the first of several lines. */
static void print_key(const struct cli_call *call, const char *key, size_t index)
{
	godwit_colour(call, COLOUR_TITLE);
	godwit_put(call, "%-*s ", KEY_COLUMNS, index == 0 ? key : "");
	godwit_colour(call, COLOUR_NONE);
}

static void print_hardware(const struct cli_call *call, const json_t *host)
{
	const json_t *cpu = json_object_get(host, "cpu");
	const json_t *memory = json_object_get(host, "memory");
	const json_t *pages = json_object_get(memory, "hugepages");
	const json_t *numa = json_object_get(host, "numa");
	char total[FMT_MAX];
	char available[FMT_MAX];
	char page[FMT_MAX];

	print_key(call, "Processor", 0);
	godwit_put(call, "%s", godwit_text(cpu, "model"));
	godwit_end(call);
	print_key(call, "", 0);
	godwit_put(call,
	           "sockets: %" JSON_INTEGER_FORMAT ", cores: %" JSON_INTEGER_FORMAT
	           ", threads: %" JSON_INTEGER_FORMAT ", virtualization: %s",
	           number_of(cpu, "sockets"), number_of(cpu, "cores"), number_of(cpu, "threads"),
	           godwit_text(cpu, "virtualization"));
	godwit_end(call);
	print_key(call, "Memory", 0);
	godwit_put(call, "%s, %s available, %" JSON_INTEGER_FORMAT " huge pages of %s",
	           size_of(memory, "total_bytes", total),
	           size_of(memory, "available_bytes", available), number_of(pages, "total"),
	           size_of(pages, "size_bytes", page));
	godwit_end(call);
	for (size_t i = 0; i < json_array_size(numa); i++) {
		const json_t *node = json_array_get(numa, i);

		print_key(call, "NUMA", i);
		godwit_put(call, "node %" JSON_INTEGER_FORMAT ": CPUs %s, %s",
		           number_of(node, "node"), godwit_text(node, "cpus"),
		           size_of(node, "memory_bytes", total));
		godwit_end(call);
	}
}

static void print_network(const struct cli_call *call, const json_t *host)
{
	const json_t *nics = json_object_get(host, "nics");
	const json_t *rdma = json_object_get(host, "rdma");

	for (size_t i = 0; i < json_array_size(nics); i++) {
		const json_t *nic = json_array_get(nics, i);

		print_key(call, "Network", i);
		godwit_put(call, "%-15s %-8s %s, mtu %" JSON_INTEGER_FORMAT,
		           godwit_text(nic, "name"), godwit_text(nic, "state"),
		           godwit_text(nic, "mac"), number_of(nic, "mtu_bytes"));
		if (number_of(nic, "speed_mbps") > 0) {
			godwit_put(call, ", %" JSON_INTEGER_FORMAT " Mbit/s",
			           number_of(nic, "speed_mbps"));
		}
		godwit_put(call, "%s",
		           json_is_true(json_object_get(nic, "physical")) ? "" : ", virtual");
		godwit_end(call);
	}
	for (size_t i = 0; i < json_array_size(rdma); i++) {
		const json_t *device = json_array_get(rdma, i);

		print_key(call, "RDMA", i);
		godwit_put(call, "%s %s, %s, %s", godwit_text(device, "name"),
		           godwit_text(device, "state"), godwit_text(device, "rate"),
		           godwit_text(device, "link_layer"));
		godwit_end(call);
	}
}

static void print_show(const struct cli_call *call, const json_t *host)
{
	const json_t *kvm = json_object_get(host, "kvm");
	const json_t *versions = json_object_get(host, "versions");
	const char *corosync = godwit_text(versions, "corosync");

	print_key(call, "Name", 0);
	godwit_put(call, "%s", godwit_text(host, "name"));
	godwit_end(call);
	print_key(call, "System", 0);
	godwit_put(call, "%s, Linux %s", godwit_text(host, "os"), godwit_text(host, "kernel"));
	godwit_end(call);
	print_hardware(call, host);
	print_key(call, "KVM", 0);
	godwit_put(call,
	           "%s, Hyper-V interface: %s, nested: %s, up to %" JSON_INTEGER_FORMAT
	           " vCPUs in a VM",
	           godwit_text(kvm, "backend"),
	           json_is_true(json_object_get(kvm, "hyperv")) ? "yes" : "no",
	           json_is_true(json_object_get(kvm, "nested")) ? "on" : "off",
	           number_of(kvm, "vcpus_max"));
	godwit_end(call);
	print_network(call, host);
	print_key(call, "Versions", 0);
	godwit_put(call, "godwit %s, corosync %s", godwit_text(versions, "godwit"),
	           corosync[0] != '\0' ? corosync : "not installed");
	godwit_end(call);
}

static int host_show_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *host;
	int err = ask(call, "/v1/host", hostinfo_show, &host, &eb);

	(void)arg;
	return godwit_finish(call, err, host, &eb, print_show);
}

static const struct cli_opt opts[] = {
	{.name = "local",
         .kind = CLI_FLAG,
         .summary = "Do not ask godwitd; look from this process, with its rights."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "check",
         .summary = "Check whether this machine is fit to run VMs and to be a cluster node",
         .details =
                 "One line per requirement: the verdict, what was looked at, what was found, what "
                 "is needed; below it, what to do about it. ok: good. warn: works, but something "
                 "is missing or slow. FAIL: VMs cannot run. The exit status is 1 if anything "
                 "failed.\n\nIf no godwitd answers, godwit looks by itself and says so.",
         .examples = "godwit host check\ngodwit host check --json",
         .opts = opts,
         .run = host_check_run},
	{.verb = "show",
         .summary = "Show what this machine is: processor, memory, KVM, networks, versions",
         .examples = "godwit host show --json",
         .opts = opts,
         .run = host_show_run},
	{0},
};

const struct cli_noun noun_host = {
	.name = "host",
	.summary = "This machine: is it fit, what does it have",
	.details = "The machine on which godwit runs, as a host of virtual machines.",
	.cmds = cmds,
};
