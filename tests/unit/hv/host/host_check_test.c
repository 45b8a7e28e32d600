/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/json.h"
#include "base/report.h"
#include "hv/host/host_int.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/host/machine.h"

static struct machine machine;
static json_t *answer;

static int setup(void **state)
{
	(void)state;
	machine_init(&machine);
	answer = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(answer);
	machine_fini(&machine);
	return 0;
}

static void check(void)
{
	struct report *report;

	json_decref(answer);
	assert_int_equal(report_create(&report), 0);
	host_check(&machine.probe, report);
	assert_int_equal(report_error(report), 0);
	answer = report_json(report);
	assert_non_null(answer);
	report_destroy(report);
}

static const json_t *line_of(const char *id)
{
	const json_t *checks = json_object_get(answer, "checks");

	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *line = json_array_get(checks, i);

		if (strcmp(json_string_value(json_object_get(line, "id")), id) == 0) {
			return line;
		}
	}
	fail_msg("no line %s", id);
	return NULL;
}

static void expect(const char *id, const char *verdict, const char *found)
{
	const json_t *line = line_of(id);
	const char *got_verdict = json_string_value(json_object_get(line, "verdict"));
	const char *got_found = json_string_value(json_object_get(line, "found"));

	if (strcmp(got_verdict, verdict) != 0 || strcmp(got_found, found) != 0) {
		fail_msg("%s: %s '%s', not %s '%s'", id, got_verdict, got_found, verdict, found);
	}
}

static void a_good_machine_passes_everything(void **state)
{
	(void)state;
	check();
	assert_string_equal(json_string_value(json_object_get(answer, "verdict")), "ok");
	expect("cpu.64bit", "ok", "AMD EPYC 7302 16-Core Processor");
	expect("cpu.virtualization", "ok", "AMD-V (svm)");
	expect("cpu.slat", "ok", "NPT");
	expect("cpu.mitigations", "ok", "all mitigated");
	expect("kvm.device", "ok", "kvm_amd");
	expect("kvm.hyperv-synic2", "ok", "yes");
	expect("kvm.nested", "info", "on");
	expect("memory.total", "ok", "62.7 GiB");
	expect("memory.hugepages", "ok", "transparent: advise, reserved: 16 of 2 MiB");
	expect("memory.numa", "info", "2");
	expect("net.bridge", "ok", "can be loaded");
	expect("net.rdma", "info", "mlx5_0");
	expect("storage.space", "ok", "100 GiB of 200 GiB free at /var/lib/godwit");
	expect("time.sync", "ok", "yes, error at most 1 ms");
}

/* One file changed (NULL: removed), one line of the report. */
static void each_fault_of_the_machine_is_found(void **state)
{
	static const struct {
		const char *path;
		const char *text;
		const char *id;
		const char *verdict;
		const char *found;
	} faults[] = {
		{"/proc/cpuinfo", "flags: lm nx vmx\nvmx flags: ept vpid\n", "cpu.slat", "ok",
	         "EPT"},
		{"/proc/cpuinfo", "flags: lm nx vmx\n", "cpu.slat", "warn", "none"},
		{"/proc/cpuinfo", "flags: lm svm\n", "cpu.nx", "fail", "none"},
		{"/proc/cpuinfo", "flags: nx svm\n", "cpu.64bit", "fail", "unknown"},
		{"/proc/cpuinfo", NULL, "cpu.64bit", "fail", "unknown"},
		{"/proc/cpuinfo", "flags: lm nx svm npt\n", "cpu.tsc", "warn",
	         "not constant, clock source is tsc"},
		{"/proc/cpuinfo", "flags: lm nx\n", "cpu.virtualization", "warn",
	         "no svm or vmx, but KVM makes VMs without it (kvm_amd)"},
		{"/sys/module/kvm_amd/parameters/npt", "N\n", "cpu.slat", "warn",
	         "NPT, but switched off in KVM"},
		{"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n",
	         "cpu.tsc", "warn", "constant, clock source is hpet"},
		{"/sys/devices/system/cpu/vulnerabilities/meltdown", "Vulnerable\n",
	         "cpu.mitigations", "warn", "not mitigated: meltdown"},
		{"/sys/module/kvm_amd/parameters/nested", "0\n", "kvm.nested", "info", "off"},
		{"/proc/meminfo", "MemTotal: 300000 kB\n", "memory.total", "fail", "292 MiB"},
		{"/proc/meminfo", "MemTotal: 1000000 kB\n", "memory.total", "warn", "976 MiB"},
		{"/proc/meminfo", NULL, "memory.total", "fail", "0 B"},
		{"/proc/meminfo", "MemAvailable: 100000 kB\n", "memory.available", "warn",
	         "97.6 MiB"},
		{"/sys/kernel/mm/transparent_hugepage/shmem_enabled",
	         "always within_size advise [never] deny force\n", "memory.hugepages", "ok",
	         "transparent: never, reserved: 16 of 2 MiB"},
		{"/proc/sys/vm/overcommit_memory", "2\n", "memory.overcommit", "warn",
	         "strict (2)"},
		{"/sys/devices/system/node/node1/cpulist", "2\n", "memory.numa", "info", "2"},
		{"/proc/sys/kernel/osrelease", "5.15.0\n", "kernel.version", "warn", "5.15.0"},
		{"/proc/sys/kernel/osrelease", "5.10.0-28-amd64\n", "kernel.version", "fail",
	         "5.10.0-28-amd64"},
		{"/proc/sys/kernel/osrelease", "10.0\n", "kernel.version", "ok", "10.0"},
		{"/proc/sys/kernel/osrelease", "strange\n", "kernel.version", "fail", "strange"},
		{"/proc/sys/kernel/osrelease", NULL, "kernel.version", "fail", "unknown"},
		{"/sys/fs/cgroup/cgroup.controllers", NULL, "kernel.cgroup2", "fail",
	         "not mounted on /sys/fs/cgroup"},
		{"/sys/fs/cgroup/cgroup.controllers", "cpuset cpu pids\n", "kernel.cgroup2", "fail",
	         "version 2 without io memory"},
		{"/proc/sys/kernel/seccomp/actions_avail", NULL, "kernel.seccomp", "fail",
	         "missing"},
		{"/dev/fuse", NULL, "kernel.fuse", "warn", "missing"},
		{"/proc/sys/net/ipv4/tcp_available_ulp", "mptcp\n", "kernel.ktls", "warn",
	         "missing"},
		{"/dev/net/tun", NULL, "net.tun", "fail", "missing"},
		{"/lib/modules/6.1.0-18-amd64/modules.dep", "x\n", "net.bridge", "fail", "missing"},
		{"/lib/modules/6.1.0-18-amd64/modules.dep", NULL, "net.bridge", "warn",
	         "cannot tell: no list of kernel modules"},
		{"/lib/modules/6.1.0-18-amd64/modules.builtin", "kernel/net/bridge/bridge.ko\n",
	         "net.bridge", "ok", "present"},
		{"/usr/sbin/nft", NULL, "net.nftables", "warn", "missing"},
		{"/usr/sbin/dnsmasq", NULL, "net.dnsmasq", "warn", "missing"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		if (faults[i].text != NULL) {
			tree_file(&machine.tree, faults[i].path, faults[i].text);
		} else {
			tree_remove(&machine.tree, faults[i].path);
		}
		check();
		expect(faults[i].id, faults[i].verdict, faults[i].found);
		machine_restore(&machine, faults[i].path);
	}
}

static void a_module_that_is_not_loaded_is_no_failure(void **state)
{
	(void)state;
	tree_remove(&machine.tree, "/dev/net/tun");
	tree_file(&machine.tree, "/lib/modules/6.1.0-18-amd64/modules.dep",
	          "kernel/net/bridge/bridge.ko:\nkernel/drivers/net/tun.ko:\n");
	check();
	expect("net.tun", "warn", "not loaded");
	expect("net.bridge", "ok", "can be loaded");
	tree_file(&machine.tree, "/sys/module/bridge/version", "1\n");
	check();
	expect("net.bridge", "ok", "present");
}

static void kvm_that_cannot_be_used_says_why(void **state)
{
	(void)state;
	machine.probe.kvm = (struct kvm_probe){.open_err = -EACCES};
	check();
	expect("kvm.device", "fail", "Permission denied");
	assert_non_null(
		strstr(json_string_value(json_object_get(line_of("kvm.device"), "mend")), "root"));
	machine.probe.kvm = (struct kvm_probe){.open_err = -ENOENT};
	check();
	expect("kvm.device", "fail", "No such file or directory");
	assert_non_null(strstr(json_string_value(json_object_get(line_of("kvm.device"), "mend")),
	                       "modprobe"));
	machine.probe.kvm = (struct kvm_probe){.api_version = -ENOTTY};
	check();
	expect("kvm.api", "fail", "Inappropriate ioctl for device");
	machine.probe.kvm.api_version = 11;
	check();
	expect("kvm.api", "fail", "another version");
}

static void a_processor_held_by_another_hypervisor_is_found(void **state)
{
	(void)state;
	machine.probe.kvm.vm_err = -EBUSY;
	check();
	expect("kvm.vm", "fail", "no VM: EBUSY (Device or resource busy)");
	machine.probe.kvm.vm_err = 0;
	machine.probe.kvm.vcpu_err = -ENOMEM;
	check();
	expect("kvm.vm", "fail", "no vCPU: ENOMEM (Cannot allocate memory)");
}

static void a_virtual_machine_without_nesting_is_named(void **state)
{
	(void)state;
	tree_file(&machine.tree, "/proc/cpuinfo", "flags: lm nx hypervisor\n");
	machine.probe.kvm = (struct kvm_probe){.open_err = -ENOENT};
	check();
	expect("cpu.virtualization", "fail", "none, and this machine is itself a virtual machine");
	tree_file(&machine.tree, "/proc/cpuinfo", "flags: lm nx\n");
	check();
	expect("cpu.virtualization", "fail", "none");
}

static void each_missing_capability_has_its_verdict(void **state)
{
	size_t count;
	const struct kvm_probe_cap *caps = kvm_probe_caps(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		machine.probe.kvm.caps[i] = 0;
		check();
		expect(caps[i].check.id, report_verdict_name(caps[i].missing), "missing");
		machine.probe.kvm.caps[i] = 1;
	}
}

static void answers_of_system_calls_are_judged(void **state)
{
	(void)state;
	machine.probe.io_uring_err = -EPERM;
	machine.probe.clock_synced = false;
	machine.probe.space_free_bytes = 5ull << 30;
	check();
	expect("kernel.io-uring", "fail", "forbidden");
	expect("time.sync", "warn", "not synchronized");
	expect("storage.space", "warn", "5 GiB of 200 GiB free at /var/lib/godwit");
	machine.probe.io_uring_err = -ENOSYS;
	machine.probe.clock_synced = true;
	machine.probe.clock_error_us = 2000000;
	machine.probe.space_free_bytes = 1000;
	check();
	expect("kernel.io-uring", "fail", "not in this kernel");
	expect("time.sync", "warn", "yes, error at most 2000 ms");
	expect("storage.space", "fail", "1000 B of 200 GiB free at /var/lib/godwit");
	machine.probe.space_err = -EIO;
	check();
	expect("storage.space", "fail", "/var/lib/godwit: Input/output error");
}

static void an_empty_root_gives_verdicts_and_no_crash(void **state)
{
	(void)state;
	(void)snprintf(machine.probe.fs.root, sizeof(machine.probe.fs.root), "%s/nowhere",
	               machine.tree.root);
	machine.probe.kvm = (struct kvm_probe){.open_err = -ENOENT};
	check();
	assert_string_equal(json_string_value(json_object_get(answer, "verdict")), "fail");
}

static void every_line_is_complete_and_ids_are_unique(void **state)
{
	(void)state;
	check();

	const json_t *checks = json_object_get(answer, "checks");

	assert_true(json_array_size(checks) > 40);
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *line = json_array_get(checks, i);
		const char *id = json_string_value(json_object_get(line, "id"));

		assert_non_null(strchr(id, '.'));
		assert_ptr_equal(line_of(id), line);
		assert_true(strlen(json_string_value(json_object_get(line, "what"))) > 2);
		assert_true(strlen(json_string_value(json_object_get(line, "needed"))) > 0);
		assert_true(strlen(json_string_value(json_object_get(line, "found"))) > 0);
	}
}

static void this_machine_can_be_looked_at(void **state)
{
	struct host_probe probe;
	struct report *report;

	(void)state;
	host_probe_run("/var/lib/godwit/does/not/exist", &probe);
	assert_int_equal(probe.space_err, 0);
	assert_true(probe.space_total_bytes > 0);
	assert_int_equal(report_create(&report), 0);
	host_check(&probe, report);
	assert_int_equal(report_error(report), 0);
	assert_true(report_count(report, REPORT_OK) > 3);
	report_destroy(report);
	host_probe_run("relative", &probe);
	assert_int_equal(probe.space_err, -EINVAL);
}

#define HOST_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOST_TEST(a_good_machine_passes_everything),
		HOST_TEST(each_fault_of_the_machine_is_found),
		HOST_TEST(a_module_that_is_not_loaded_is_no_failure),
		HOST_TEST(kvm_that_cannot_be_used_says_why),
		HOST_TEST(a_processor_held_by_another_hypervisor_is_found),
		HOST_TEST(a_virtual_machine_without_nesting_is_named),
		HOST_TEST(each_missing_capability_has_its_verdict),
		HOST_TEST(answers_of_system_calls_are_judged),
		HOST_TEST(an_empty_root_gives_verdicts_and_no_crash),
		HOST_TEST(every_line_is_complete_and_ids_are_unique),
		cmocka_unit_test(this_machine_can_be_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
