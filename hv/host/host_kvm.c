/* SPDX-License-Identifier: Apache-2.0 */
/* KVM: is it there, may we use it, and can it do what the partitions need. */
#include <errno.h>
#include <string.h>

#include "base/report.h"
#include "hv/host/host_int.h"

static const struct report_check device = {
	.id = "kvm.device",
	.what = KVM_PROBE_DEVICE,
	.needed = "present, may be opened",
	.mend = "Load the module: modprobe kvm_amd (or kvm_intel); its message in the kernel log "
		"says "
		"why it refuses.",
};
static const struct report_check access_right = {
	.id = "kvm.device",
	.what = KVM_PROBE_DEVICE,
	.needed = "present, may be opened",
	.mend = "Run this as root, or join the group that owns the device (usually kvm).",
};
static const struct report_check api = {
	.id = "kvm.api",
	.what = "KVM interface version",
	.needed = "12",
	.mend = "This is no KVM that Godwit knows; run a kernel of a distribution.",
};
static const struct report_check vm = {
	.id = "kvm.vm",
	.what = "A VM can be made",
	.needed = "an empty VM with one vCPU",
	.mend = "EBUSY: another hypervisor (VirtualBox, VMware) holds the processor, stop it. "
		"Otherwise the kernel log says why.",
};
static const struct report_check nested = {
	.id = "kvm.nested",
	.what = "Nested virtualization",
	.needed = "only for guests that run VMs themselves",
	.mend = "Load kvm_amd or kvm_intel with nested=1.",
};
static const struct report_check size = {
	.id = "kvm.limits",
	.what = "Largest VM",
	.needed = "as many vCPUs as the VMs have",
	.mend = "Run a kernel built for more vCPUs.",
};

const char *host_kvm_backend(const struct host_probe *probe)
{
	static const struct {
		const char *path;
		const char *name;
	} modules[] = {
		{"/sys/module/kvm_amd", "kvm_amd"},
		{"/sys/module/kvm_intel", "kvm_intel"},
		{"/sys/module/kvm_pvm", "kvm_pvm"},
	};

	for (size_t i = 0; i < ARRAY_LEN(modules); i++) {
		if (hostfs_exists(&probe->fs, modules[i].path)) {
			return modules[i].name;
		}
	}
	return probe->kvm.open_err == 0 ? "kvm" : "none";
}

bool host_kvm_nested(const struct hostfs *fs)
{
	char text[8];

	if (hostfs_read(fs, "/sys/module/kvm_amd/parameters/nested", text, sizeof(text)) > 0 ||
	    hostfs_read(fs, "/sys/module/kvm_intel/parameters/nested", text, sizeof(text)) > 0) {
		return text[0] == 'Y' || text[0] == '1';
	}
	return false;
}

static void check_caps(const struct host_probe *probe, struct report *report)
{
	size_t count;
	const struct kvm_probe_cap *caps = kvm_probe_caps(&count);

	for (size_t i = 0; i < count; i++) {
		int value = probe->kvm.caps[i];

		if (value == 0) {
			report_add(report, &caps[i].check, caps[i].missing, "missing");
		} else {
			report_add(report, &caps[i].check, REPORT_OK, "yes");
		}
	}
}

void host_check_kvm(const struct host_probe *probe, struct report *report)
{
	const struct kvm_probe *kvm = &probe->kvm;

	if (kvm->open_err != 0) {
		bool denied = kvm->open_err == -EACCES || kvm->open_err == -EPERM;

		report_add(report, denied ? &access_right : &device, REPORT_FAIL, "%s",
		           strerrordesc_np(-kvm->open_err));
		return; /* nothing else is known */
	}
	report_add(report, &device, REPORT_OK, "%s", host_kvm_backend(probe));
	if (kvm->api_version != KVM_PROBE_API_VERSION) {
		report_add(report, &api, REPORT_FAIL, "%s",
		           kvm->api_version < 0 ? strerrordesc_np(-kvm->api_version)
		                                : "another version");
		return;
	}
	report_add(report, &api, REPORT_OK, "%d", kvm->api_version);
	if (kvm->vm_err != 0 || kvm->vcpu_err != 0) {
		int err = kvm->vm_err != 0 ? kvm->vm_err : kvm->vcpu_err;

		report_add(report, &vm, REPORT_FAIL, "%s: %s (%s)",
		           kvm->vm_err != 0 ? "no VM" : "no vCPU", strerrorname_np(-err),
		           strerrordesc_np(-err));
	} else {
		report_add(report, &vm, REPORT_OK, "yes");
	}
	check_caps(probe, report);
	report_add(report, &nested, REPORT_INFO, "%s", host_kvm_nested(&probe->fs) ? "on" : "off");
	report_add(report, &size, REPORT_INFO, "%d vCPUs, %d memory regions", kvm->vcpus_max,
	           kvm->memslots_max);
}
