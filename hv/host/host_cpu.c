/* SPDX-License-Identifier: Apache-2.0 */
/* The processor: virtualization, second-level address translation, clock, known weaknesses. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/report.h"
#include "hv/host/host_int.h"

static const struct report_check virtualization = {
	.id = "cpu.virtualization",
	.what = "CPU virtualization",
	.needed = "AMD-V (svm) or VT-x (vmx)",
	.mend = "Enable AMD-V (SVM) or VT-x in the firmware setup; in a virtual machine, let its "
		"hypervisor offer nested virtualization.",
};
static const struct report_check slat = {
	.id = "cpu.slat",
	.what = "Second-level paging",
	.needed = "NPT or EPT",
	.mend = "Without it KVM shadows the guests' page tables: it works, but memory-heavy guests "
		"are slow. Use a processor with EPT or NPT, or let the outer hypervisor offer it.",
};
static const struct report_check nx = {
	.id = "cpu.nx",
	.what = "No-execute pages",
	.needed = "nx",
	.mend = "Enable Execute Disable (XD, NX) in the firmware setup.",
};
static const struct report_check long_mode = {
	.id = "cpu.64bit",
	.what = "64-bit processor",
	.needed = "x86-64",
	.mend = "Godwit runs on 64-bit AMD and Intel processors only.",
};
static const struct report_check tsc = {
	.id = "cpu.tsc",
	.what = "Time stamp counter",
	.needed = "constant, the kernel's clock source",
	.mend = "Guests' clocks rest on it: look for 'tsc' in the kernel log to see why the kernel "
		"does not trust it.",
};
static const struct report_check weaknesses = {
	.id = "cpu.mitigations",
	.what = "CPU weaknesses",
	.needed = "none without mitigation",
	.mend = "Guests could spy on each other: update kernel and microcode, do not boot with "
		"mitigations=off.",
};

void host_cpu_read(const struct hostfs *fs, struct host_cpu *out)
{
	char text[HOST_CPUINFO_MAX];

	memset(out, 0, sizeof(*out));
	if (hostfs_read(fs, "/proc/cpuinfo", text, sizeof(text)) < 0) {
		return;
	}
	(void)hostfs_field(text, "model name", out->model, sizeof(out->model));
	(void)hostfs_field(text, "vendor_id", out->vendor, sizeof(out->vendor));
	(void)hostfs_field(text, "flags", out->flags, sizeof(out->flags));
	(void)hostfs_field(text, "vmx flags", out->vmx_flags, sizeof(out->vmx_flags));
}

enum host_virt host_cpu_virt(const struct host_cpu *cpu)
{
	if (hostfs_word(cpu->flags, "svm")) {
		return HOST_VIRT_AMD;
	}
	return hostfs_word(cpu->flags, "vmx") ? HOST_VIRT_INTEL : HOST_VIRT_NONE;
}

static bool kvm_works(const struct host_probe *probe)
{
	return probe->kvm.open_err == 0 && probe->kvm.api_version == KVM_PROBE_API_VERSION &&
	       probe->kvm.vm_err == 0 && probe->kvm.vcpu_err == 0;
}

static void check_virtualization(const struct host_probe *probe, const struct host_cpu *cpu,
                                 struct report *report)
{
	switch (host_cpu_virt(cpu)) {
	case HOST_VIRT_AMD:
		report_add(report, &virtualization, REPORT_OK, "AMD-V (svm)");
		return;
	case HOST_VIRT_INTEL:
		report_add(report, &virtualization, REPORT_OK, "VT-x (vmx)");
		return;
	case HOST_VIRT_NONE:
		break;
	}
	if (kvm_works(probe)) {
		report_add(report, &virtualization, REPORT_WARN,
		           "no svm or vmx, but KVM makes VMs without it (%s)",
		           host_kvm_backend(probe));
	} else {
		report_add(report, &virtualization, REPORT_FAIL, "none%s",
		           hostfs_word(cpu->flags, "hypervisor")
		                   ? ", and this machine is itself a virtual machine"
		                   : "");
	}
}

/* The flag says that the processor has it, the module's parameter that KVM uses it. */
static void check_slat(const struct host_probe *probe, const struct host_cpu *cpu,
                       struct report *report)
{
	char used[8] = "";
	const char *name = NULL;

	if (hostfs_word(cpu->flags, "npt")) {
		name = "NPT";
		(void)hostfs_read(&probe->fs, "/sys/module/kvm_amd/parameters/npt", used,
		                  sizeof(used));
	} else if (hostfs_word(cpu->flags, "ept") || hostfs_word(cpu->vmx_flags, "ept")) {
		name = "EPT";
		(void)hostfs_read(&probe->fs, "/sys/module/kvm_intel/parameters/ept", used,
		                  sizeof(used));
	}
	if (name == NULL) {
		report_add(report, &slat, REPORT_WARN, "none");
	} else if (used[0] == 'N' || used[0] == '0') {
		report_add(report, &slat, REPORT_WARN, "%s, but switched off in KVM", name);
	} else {
		report_add(report, &slat, REPORT_OK, "%s", name);
	}
}

static void check_tsc(const struct host_probe *probe, const struct host_cpu *cpu,
                      struct report *report)
{
	char source[32];
	bool constant = hostfs_word(cpu->flags, "constant_tsc");

	if (hostfs_read(&probe->fs,
	                "/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
	                sizeof(source)) < 0) {
		(void)snprintf(source, sizeof(source), "unknown");
	}
	report_add(report, &tsc, constant && strcmp(source, "tsc") == 0 ? REPORT_OK : REPORT_WARN,
	           "%s, clock source is %s", constant ? "constant" : "not constant", source);
}

struct weakness_list {
	const struct hostfs *fs;
	char names[HOST_LINE_MAX];
};

static int add_weakness(const char *name, void *arg)
{
	struct weakness_list *list = arg;
	size_t used = strlen(list->names);
	char path[320];
	char text[HOST_LINE_MAX];

	(void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", name);
	if (hostfs_read(list->fs, path, text, sizeof(text)) > 0 &&
	    strncmp(text, "Vulnerable", strlen("Vulnerable")) == 0) {
		(void)snprintf(list->names + used, sizeof(list->names) - used, "%s%s",
		               used > 0 ? ", " : "", name);
	}
	return 0;
}

static void check_weaknesses(const struct host_probe *probe, struct report *report)
{
	struct weakness_list list = {.fs = &probe->fs};

	if (hostfs_list(&probe->fs, "/sys/devices/system/cpu/vulnerabilities", add_weakness,
	                &list) < 0) {
		report_add(report, &weaknesses, REPORT_INFO, "the kernel does not tell");
	} else if (list.names[0] != '\0') {
		report_add(report, &weaknesses, REPORT_WARN, "not mitigated: %s", list.names);
	} else {
		report_add(report, &weaknesses, REPORT_OK, "all mitigated");
	}
}

void host_check_cpu(const struct host_probe *probe, struct report *report)
{
	struct host_cpu cpu;
	bool is64;
	bool has_nx;

	host_cpu_read(&probe->fs, &cpu);
	is64 = hostfs_word(cpu.flags, "lm");
	has_nx = hostfs_word(cpu.flags, "nx");
	report_add(report, &long_mode, is64 ? REPORT_OK : REPORT_FAIL, "%s",
	           cpu.model[0] != '\0' ? cpu.model : "unknown");
	check_virtualization(probe, &cpu, report);
	check_slat(probe, &cpu, report);
	report_add(report, &nx, has_nx ? REPORT_OK : REPORT_FAIL, "%s", has_nx ? "nx" : "none");
	check_tsc(probe, &cpu, report);
	check_weaknesses(probe, report);
}
