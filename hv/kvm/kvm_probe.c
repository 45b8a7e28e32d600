/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/kvm/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/check.h"

#define NEWER_KERNEL "Run Linux 6.1 or newer."
#define HYPERV_KERNEL                                                                     \
	"Run a kernel whose KVM has the Hyper-V interface (CONFIG_KVM_HYPERV, on in the " \
	"kernels of all distributions)."

#define CAP(id_, what_, needed_, missing_, mend_)                                              \
	{                                                                                      \
		.check = {.id = (id_), .what = (what_), .needed = (needed_), .mend = (mend_)}, \
		.missing = (missing_)                                                          \
	}

/* caps[] and numbers[] go together, line by line. */
static const struct kvm_probe_cap caps[] = {
	CAP("kvm.hyperv", "Hyper-V hypercalls and MSRs", "guests see a Hyper-V partition",
            REPORT_FAIL, HYPERV_KERNEL),
	CAP("kvm.hyperv-cpuid", "Hyper-V CPUID leaves", "guests see a Hyper-V partition",
            REPORT_FAIL, HYPERV_KERNEL),
	CAP("kvm.hyperv-time", "Hyper-V reference time", "the guest's clock", REPORT_FAIL,
            HYPERV_KERNEL),
	CAP("kvm.hyperv-synic2", "Hyper-V SynIC", "VMBus interrupts and messages", REPORT_FAIL,
            HYPERV_KERNEL),
	CAP("kvm.hyperv-vp-index", "Hyper-V VP index", "save and move VMs", REPORT_FAIL,
            HYPERV_KERNEL),
	CAP("kvm.hyperv-eventfd", "Hyper-V signal eventfd", "VMBus signals without an exit",
            REPORT_FAIL, HYPERV_KERNEL),
	CAP("kvm.hyperv-tlbflush", "Hyper-V TLB flush", "fast guests with several vCPUs",
            REPORT_WARN, HYPERV_KERNEL),
	CAP("kvm.hyperv-ipi", "Hyper-V IPI", "fast guests with several vCPUs", REPORT_WARN,
            HYPERV_KERNEL),
	CAP("kvm.hyperv-enforce", "Hyper-V CPUID enforcement",
            "guests use only what they are offered", REPORT_WARN, NEWER_KERNEL),
	CAP("kvm.irqchip", "In-kernel APIC", "interrupts", REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.irqfd", "irqfd", "interrupts without a system call", REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.irqfd-resample", "irqfd with resampling", "see when a message slot is free",
            REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.irq-routing", "Interrupt routing", "interrupts of the SynIC", REPORT_FAIL,
            NEWER_KERNEL),
	CAP("kvm.ioeventfd", "ioeventfd", "signals without an exit", REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.immediate-exit", "Immediate exit", "stop a vCPU at once", REPORT_FAIL,
            NEWER_KERNEL),
	CAP("kvm.x2apic", "x2APIC interface", "more than 255 vCPUs", REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.user-msr", "MSR exits", "answer MSRs that KVM does not know", REPORT_FAIL,
            NEWER_KERNEL),
	CAP("kvm.msr-filter", "MSR filter", "answer chosen MSRs ourselves", REPORT_FAIL,
            NEWER_KERNEL),
	CAP("kvm.vcpu-events", "vCPU events", "save and move VMs", REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.xcrs", "Extended control registers", "save and move VMs", REPORT_FAIL,
            NEWER_KERNEL),
	CAP("kvm.adjust-clock", "Clock adjustment", "the guest's time after a move", REPORT_FAIL,
            NEWER_KERNEL),
	CAP("kvm.dirty-log", "Manual dirty log", "live migration", REPORT_FAIL, NEWER_KERNEL),
	CAP("kvm.dirty-ring", "Dirty ring", "live migration of large VMs", REPORT_WARN,
            NEWER_KERNEL),
	CAP("kvm.xsave2", "Large XSAVE state", "guests that use AMX", REPORT_WARN, NEWER_KERNEL),
	CAP("kvm.tsc-control", "TSC scaling", "move VMs between hosts with different TSC frequency",
            REPORT_WARN,
            "The processor lacks it (or the outer hypervisor does not offer it): move VMs only "
            "between hosts whose TSC runs at the same frequency."),
};

static const unsigned numbers[] = {
	KVM_CAP_HYPERV,
	KVM_CAP_HYPERV_CPUID,
	KVM_CAP_HYPERV_TIME,
	KVM_CAP_HYPERV_SYNIC2,
	KVM_CAP_HYPERV_VP_INDEX,
	KVM_CAP_HYPERV_EVENTFD,
	KVM_CAP_HYPERV_TLBFLUSH,
	KVM_CAP_HYPERV_SEND_IPI,
	KVM_CAP_HYPERV_ENFORCE_CPUID,
	KVM_CAP_IRQCHIP,
	KVM_CAP_IRQFD,
	KVM_CAP_IRQFD_RESAMPLE,
	KVM_CAP_IRQ_ROUTING,
	KVM_CAP_IOEVENTFD,
	KVM_CAP_IMMEDIATE_EXIT,
	KVM_CAP_X2APIC_API,
	KVM_CAP_X86_USER_SPACE_MSR,
	KVM_CAP_X86_MSR_FILTER,
	KVM_CAP_VCPU_EVENTS,
	KVM_CAP_XCRS,
	KVM_CAP_ADJUST_CLOCK,
	KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
	KVM_CAP_DIRTY_LOG_RING,
	KVM_CAP_XSAVE2,
	KVM_CAP_TSC_CONTROL,
};

_Static_assert(ARRAY_LEN(caps) == ARRAY_LEN(numbers), "one number per capability");
_Static_assert(ARRAY_LEN(caps) <= KVM_PROBE_CAPS_MAX, "the result has room for all");

const struct kvm_probe_cap *kvm_probe_caps(size_t *count)
{
	*count = ARRAY_LEN(caps);
	return caps;
}

int kvm_probe_cap_value(const struct kvm_probe *probe, const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
		if (strcmp(caps[i].check.id, id) == 0) {
			return probe->caps[i];
		}
	}
	CHECK(false);
	return 0;
}

/* Values of 0 or more; failure means that the kernel does not know the question. */
static int capability(int fd, unsigned number)
{
	int value = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)number);

	return value > 0 ? value : 0;
}

static void probe_vm(int kvm, struct kvm_probe *out)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0ul);

	if (vm < 0) {
		out->vm_err = -errno;
		return;
	}

	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);

	if (vcpu < 0) {
		out->vcpu_err = -errno;
	} else {
		(void)close(vcpu);
	}
	(void)close(vm);
}

void kvm_probe_run(const char *path, struct kvm_probe *out)
{
	memset(out, 0, sizeof(*out));

	int kvm = open(path, O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		out->open_err = -errno;
		return;
	}
	out->api_version = ioctl(kvm, KVM_GET_API_VERSION, 0ul);
	if (out->api_version < 0) {
		out->api_version = -errno;
	} else {
		probe_vm(kvm, out);
		for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
			out->caps[i] = capability(kvm, numbers[i]);
		}
		out->vcpus_max = capability(kvm, KVM_CAP_MAX_VCPUS);
		out->memslots_max = capability(kvm, KVM_CAP_NR_MEMSLOTS);
	}
	(void)close(kvm);
}
