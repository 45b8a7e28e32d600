/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit vm ...`: list, show, power. */
#include "bin/godwit/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/ui/ui.h"

#define KEY_COLUMNS 12

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

static enum ui_tone tone_of(const char *state)
{
	if (strcmp(state, "running") == 0) {
		return UI_GOOD;
	}
	if (strcmp(state, "crashed") == 0 || strcmp(state, "critical") == 0) {
		return UI_BAD;
	}
	return strcmp(state, "off") == 0 ? UI_PLAIN : UI_WARN;
}

/* CPU time over uptime, of all processors together; 0 if it never ran. */
static uint64_t cpu_percent(const json_t *vm)
{
	uint64_t up = number_of(vm, "uptime_ns");

	return up != 0 ? number_of(vm, "cpu_ns") * 100 / up : 0;
}

/* Does the cluster say where each of them is? */
static bool have_nodes(const json_t *vms)
{
	for (size_t i = 0; i < json_array_size(vms); i++) {
		if (godwit_text(json_array_get(vms, i), "node")[0] != '\0') {
			return true;
		}
	}
	return false;
}

static void list_row(struct ui_table *table, const json_t *vm, bool nodes)
{
	const char *state = godwit_text(vm, "state");
	const char *error = godwit_text(vm, "error");
	/* Its worker is on another node, or there is none. */
	bool known = json_object_get(vm, "uptime_ns") != NULL;
	char text[FMT_MAX];
	char cpu[24] = "";

	if (known) {
		(void)snprintf(cpu, sizeof(cpu), "%" PRIu64 "%%", cpu_percent(vm));
	}
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(vm, "name"));
	ui_table_cell(table, tone_of(state), "%s", state);
	if (nodes) {
		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(vm, "node"));
	}
	ui_table_cell(table, UI_PLAIN, "%s", cpu);
	ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(vm, "cpus"));
	ui_table_cell(table, UI_PLAIN, "%s", fmt_size(number_of(vm, "memory_bytes"), text));
	ui_table_cell(table, UI_PLAIN, "%s",
	              known ? fmt_duration(number_of(vm, "uptime_ns"), text) : "");
	ui_table_cell(table, error[0] != '\0' ? UI_BAD : UI_PLAIN, "%s",
	              error[0] != '\0' ? error : godwit_text(vm, "heartbeat"));
}

static int print_list(const struct cli_call *call, const json_t *vms)
{
	static const struct ui_column name = {.title = "NAME", .columns_min = 8};
	static const struct ui_column node = {.title = "NODE", .columns_min = 4};
	static const struct ui_column rest[] = {
		{.title = "CPU", .right = true},
		{.title = "CPUS", .right = true},
		{.title = "MEMORY"},
		{.title = "UPTIME"},
		{.title = "STATUS", .columns_min = 10},
	};
	struct ui_column columns[3 + ARRAY_LEN(rest)] = {name, {.title = "STATE"}, node};
	bool nodes = have_nodes(vms);
	size_t count = nodes ? 3 : 2;
	struct errbuf eb = {0};
	struct ui_table *table;
	int err;

	memcpy(&columns[count], rest, sizeof(rest));
	err = ui_table_create(columns, count + ARRAY_LEN(rest), &table);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	for (size_t i = 0; i < json_array_size(vms); i++) {
		list_row(table, json_array_get(vms, i), nodes);
	}
	return godwit_table(call, table);
}

static int vm_list_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer;
	const json_t *vms;
	int status = CLI_DONE;
	int err = godwit_get(call, "/v1/vms", &answer, &eb);

	(void)arg;
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	vms = json_object_get(answer, "vms");
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else if (json_array_size(vms) == 0) {
		godwit_note(call, "no VMs yet; godwit help vm create says how to make one");
	} else {
		status = print_list(call, vms);
	}
	json_decref(answer);
	return status;
}

static void print_field(const struct cli_call *call, const char *key, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static void print_field(const struct cli_call *call, const char *key, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	godwit_colour(call, COLOUR_TITLE);
	godwit_put(call, "%-*s", KEY_COLUMNS, key);
	godwit_colour(call, COLOUR_NONE);
	godwit_put(call, " %s", text);
	godwit_end(call);
}

static void print_devices(const struct cli_call *call, const json_t *definition)
{
	const json_t *boot = json_object_get(definition, "boot");
	size_t i;
	json_t *item;

	if (boot != NULL) {
		print_field(call, "Kernel", "%s", godwit_text(boot, "kernel"));
		print_field(call, "Initrd", "%s", godwit_text(boot, "initrd"));
		print_field(call, "Append", "%s", godwit_text(boot, "append"));
	}
	json_array_foreach(json_object_get(definition, "disks"), i, item)
	{
		print_field(call, i == 0 ? "Disks" : "", "lun %" PRIu64 "  %s  %s  %s%s",
		            number_of(item, "lun"), godwit_text(item, "kind"),
		            godwit_text(item, "format"), godwit_text(item, "path"),
		            json_is_true(json_object_get(item, "read_only")) ? "  (read-only)"
		                                                             : "");
	}
	json_array_foreach(json_object_get(definition, "nics"), i, item)
	{
		print_field(call, i == 0 ? "Adapters" : "", "%s  switch %s  vlan %" PRIu64,
		            godwit_text(item, "mac"), godwit_text(item, "switch"),
		            number_of(item, "vlan"));
	}
}

/* What people want of the cluster. */
static void print_wishes(const struct cli_call *call, const json_t *ha)
{
	const json_t *name;
	size_t i;

	json_array_foreach(json_object_get(ha, "start_after"), i, name)
	{
		print_field(call, i == 0 ? "Starts after" : "", "%s", json_string_value(name));
	}
	if (godwit_text(ha, "objective")[0] != '\0') {
		print_field(call, "Objective", "%s", godwit_text(ha, "objective"));
	}
}

static void print_show(const struct cli_call *call, const json_t *vm)
{
	char memory[FMT_MAX];
	char uptime[FMT_MAX];
	char cpu[FMT_MAX];
	const char *key;
	json_t *value;

	print_field(call, "Name", "%s", godwit_text(vm, "name"));
	print_field(call, "Id", "%s", godwit_text(vm, "id"));
	print_field(call, "State", "%s", godwit_text(vm, "state"));
	if (json_object_get(vm, "node") != NULL) {
		print_field(call, "Node", "%s", godwit_text(vm, "node"));
	}
	if (json_object_get(vm, "ha") != NULL) {
		print_field(call, "Cluster", "%s", godwit_text(json_object_get(vm, "ha"), "text"));
		print_wishes(call, json_object_get(vm, "ha"));
	}
	if (godwit_text(vm, "error")[0] != '\0') {
		print_field(call, "Error", "%s", godwit_text(vm, "error"));
	}
	print_field(call, "Memory", "%s", fmt_size(number_of(vm, "memory_bytes"), memory));
	print_field(call, "Processors", "%" PRIu64, number_of(vm, "cpus"));
	print_field(call, "Uptime", "%s", fmt_duration(number_of(vm, "uptime_ns"), uptime));
	print_field(call, "CPU time", "%s", fmt_duration(number_of(vm, "cpu_ns"), cpu));
	print_field(call, "Heartbeat", "%s", godwit_text(vm, "heartbeat"));
	json_object_foreach(json_object_get(vm, "guest"), key, value)
	{
		print_field(call, "Guest", "%s: %s", key,
		            json_string_value(value) != NULL ? json_string_value(value) : "");
	}
	print_devices(call, json_object_get(vm, "definition"));
}

static int vm_show_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *vm = NULL;
	char *path = api_path("/v1/vms/{name}", cli_arg_at(call, 0));
	int err = path != NULL ? godwit_get(call, path, &vm, &eb) : -ENOMEM;

	(void)arg;
	free(path);
	return godwit_finish(call, err, vm, &eb, print_show);
}

/* POST @pattern for every VM named; what could not be done does not stop the others. */
static int vm_each(const struct cli_call *call, enum api_method method, const char *pattern)
{
	uint32_t failed = 0;
	uint32_t count = 0;
	int status = CLI_DONE;

	for (; cli_arg_at(call, count) != NULL; count++) {
		const char *name = cli_arg_at(call, count);
		struct errbuf eb = {0};
		json_t *vm = NULL;
		char *path = api_path(pattern, name);
		int err = path != NULL ? godwit_call(call, method, path, NULL, &vm, &eb) : -ENOMEM;

		free(path);
		if (err < 0) {
			status = godwit_fail(call, err, &eb);
			failed++;
		} else if (cli_flag(call, "json", false)) {
			godwit_json(call, vm);
		} else if (method != API_DELETE) {
			godwit_note(call, "%s is %s", name, godwit_text(vm, "state"));
		} else {
			godwit_note(call, "%s is removed; its disks stay", name);
		}
		json_decref(vm);
	}
	return failed != 0 && failed < count ? CLI_PARTLY : status;
}

static int vm_start_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return vm_each(call, API_POST, "/v1/vms/{name}/start");
}

static int vm_stop_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	if (cli_flag(call, "save", false)) {
		return vm_each(call, API_POST, "/v1/vms/{name}/save");
	}
	return vm_each(call, API_POST,
	               cli_flag(call, "off", false) ? "/v1/vms/{name}/stop?off"
	                                            : "/v1/vms/{name}/stop");
}

static int vm_restart_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return vm_each(call, API_POST,
	               cli_flag(call, "reset", false) ? "/v1/vms/{name}/restart?reset"
	                                              : "/v1/vms/{name}/restart");
}

static int vm_pause_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return vm_each(call, API_POST, "/v1/vms/{name}/pause");
}

static int vm_resume_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return vm_each(call, API_POST, "/v1/vms/{name}/resume");
}

static int vm_save_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return vm_each(call, API_POST, "/v1/vms/{name}/save");
}

static int vm_remove_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return vm_each(call, API_DELETE, "/v1/vms/{name}");
}

static int log_write_out(const void *buf, size_t len, void *arg)
{
	return fwrite(buf, 1, len, arg) == len ? 0 : -EPIPE;
}

static int vm_log_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	char *path = api_path("/v1/vms/{name}/log", cli_arg_at(call, 0));
	int err = path != NULL ? godwit_bytes(call, path, log_write_out, call->out, &eb) : -ENOMEM;

	(void)arg;
	free(path);
	return err < 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}

static const struct cli_arg one_vm[] = {
	{.name = "NAME", .summary = "The VM.", .source = "vm"},
	{0},
};

static const struct cli_arg some_vms[] = {
	{.name = "NAME",
         .summary = "The VM; several may be named.",
         .source = "vm",
         .repeat = true},
	{0},
};

static const struct cli_opt stop_opts[] = {
	{.name = "off",
         .kind = CLI_FLAG,
         .summary = "Pull the power cord instead of asking the guest. Of a saved VM: throw the "
                    "saved state away."},
	{.name = "save",
         .kind = CLI_FLAG,
         .summary = "Save its state to disk instead; start continues from there."},
	{0},
};

static const struct cli_opt restart_opts[] = {
	{.name = "reset",
         .kind = CLI_FLAG,
         .summary = "Press the reset button instead of asking the guest."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "create",
         .summary = "Define a VM",
         .details = "Defines it; start boots it. Disks that are given a size or a parent are "
                    "made, others must exist when it starts. The processor model is fixed now and "
                    "stays the same "
                    "wherever the VM runs.",
         .examples = "godwit vm create web1 --memory 512M --cpus 2 --kernel /boot/vmlinuz "
                     "--initrd /boot/initrd.img --append 'console=ttyS0 root=/dev/sda1' "
                     "--disk web1.vhdx --disk data.vhdx,size=20G --iso tools.iso",
         .args = one_vm,
         .opts = vm_create_opts,
         .run = vm_create_run},
	{.verb = "list", .summary = "List the VMs of this host", .run = vm_list_run},
	{.verb = "show",
         .summary = "Show one VM: state, what the guest tells, devices",
         .args = one_vm,
         .run = vm_show_run},
	{.verb = "set",
         .summary = "Change the definition of a VM that is off",
         .args = one_vm,
         .opts = vm_set_opts,
         .run = vm_set_run},
	{.verb = "start",
         .summary = "Boot a VM, or continue a saved one",
         .args = some_vms,
         .run = vm_start_run},
	{.verb = "stop",
         .summary = "Shut a VM down; wait until it is off",
         .args = some_vms,
         .opts = stop_opts,
         .run = vm_stop_run},
	{.verb = "restart",
         .summary = "Restart the guest's system",
         .args = some_vms,
         .opts = restart_opts,
         .run = vm_restart_run},
	{.verb = "pause",
         .summary = "Stop the processors of a VM; its memory stays",
         .args = some_vms,
         .run = vm_pause_run},
	{.verb = "resume", .summary = "Go on after pause", .args = some_vms, .run = vm_resume_run},
	{.verb = "save",
         .summary = "Save the state of a VM to disk and turn it off",
         .args = some_vms,
         .run = vm_save_run},
	{.verb = "move",
         .summary = "Move a running VM to another node",
         .details =
                 "Its connections go on. Both nodes must see its disks under the same paths and "
                 "have "
                 "the switches it is plugged into. It is a job: it goes on if this command ends.",
         .examples = "godwit vm move web1 --to n2\n"
                     "godwit vm move web1 --to n2 --max-blackout 300ms --bandwidth 1G",
         .args = one_vm,
         .opts = vm_move_opts,
         .run = vm_move_run},
	{.verb = "remove",
         .summary = "Forget a VM that is off; its disks stay",
         .args = some_vms,
         .run = vm_remove_run},
	{.verb = "console",
         .summary = "Connect to the serial console; ^] leaves",
         .args = one_vm,
         .run = vm_console_run},
	{.verb = "log",
         .summary = "Print what the serial console wrote so far",
         .args = one_vm,
         .run = vm_log_run},
	{0},
};

const struct cli_noun noun_vm = {
	.name = "vm",
	.summary = "Virtual machines",
	.details = "The VMs that are defined on this host.",
	.cmds = cmds,
};
