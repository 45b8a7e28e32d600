/* SPDX-License-Identifier: Apache-2.0 */

/*
 * kvm_probe_xsave - does XSETBV of a guest reach KVM on this host?
 *
 * On real processors always. An emulated one (QEMU's TCG with nested SVM, as of 7.2) executes
 * XSETBV
 * of a nested guest without an exit: KVM keeps another XCR0 than the guest believes in, and AVX
 * faults. A few instructions in a throwaway VM tell: set XCR0 to 7, ask CPUID for the size of the
 * enabled state, which KVM computes from the XCR0 it knows.
 */

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/errbuf.h"
#include "hv/cpu/cpuid.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"

#define PROBE_GPA 0x1000u
#define PROBE_PORT 0x80u
#define PROBE_RUNS_MAX 1000u
#define CR4_OSXSAVE 0x40000ull
#define XSAVE_LEGACY_BYTES 576u /* x87 and SSE with the header: what XCR0 = 1 or 3 needs */
#define CPUID_XSAVE (1u << 26)

/* Real mode, at PROBE_GPA. */
static const uint8_t probe_code[] = {
	0x66, 0x31, 0xc9,                         /* xor ecx, ecx */
	0x66, 0x31, 0xd2,                         /* xor edx, edx */
	0x66, 0xb8, 0x07,       0x00, 0x00, 0x00, /* mov eax, 7: x87, SSE, AVX */
	0x0f, 0x01, 0xd1,                         /* xsetbv */
	0x66, 0xb8, 0x0d,       0x00, 0x00, 0x00, /* mov eax, 0xd */
	0x66, 0x31, 0xc9,                         /* xor ecx, ecx */
	0x0f, 0xa2,                               /* cpuid */
	0x66, 0x89, 0xd8,                         /* mov eax, ebx */
	0x66, 0xe7, PROBE_PORT,                   /* out PROBE_PORT, eax */
	0xf4,                                     /* hlt */
};

static int probe_regs(struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = PROBE_GPA, .rflags = 2};

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) != 0) {
		return -errno;
	}
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	sregs.cr4 |= CR4_OSXSAVE;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) != 0 ||
	    ioctl(vcpu->fd, KVM_SET_REGS, &regs) != 0) {
		return -errno;
	}
	return 0;
}

/* Run until the guest has said the size. */
static int probe_run(struct kvm_vcpu *vcpu, uint32_t *size)
{
	struct kvm_exit exit;

	for (uint32_t i = 0; i < PROBE_RUNS_MAX; i++) {
		int err = kvm_vcpu_run(vcpu, &exit);

		if (err != 0) {
			return err;
		}
		if (exit.type == KVM_EXITED_IO && exit.io.port == PROBE_PORT) {
			memcpy(size, exit.io.data, sizeof(*size));
			return 0;
		}
		if (exit.type != KVM_EXITED_INTERRUPTED) {
			return -EIO; /* it faulted: no XSAVE there */
		}
	}
	return -EIO;
}

int kvm_probe_xsave(int kvm_fd, bool *works, struct errbuf *eb)
{
	const struct kvm_vm_cfg cfg = {.kvm_fd = kvm_fd, .vp_count = 1};
	struct cpuid_table cpuid;
	struct kvm_vcpu *vcpu = NULL;
	struct kvm_vm *vm = NULL;
	uint32_t size = 0;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	*works = false;
	if (page == MAP_FAILED) {
		return errbuf_sys(eb, -errno, "cannot probe XSAVE");
	}
	memcpy(page, probe_code, sizeof(probe_code));
	err = kvm_vm_create(&cfg, &vm, eb);
	if (err != 0) {
		goto unmap_page;
	}
	err = kvm_cpuid_supported(vm, &cpuid, eb);
	if (err != 0) {
		goto destroy_vm;
	}

	const struct cpuid_leaf *basic = cpuid_find(&cpuid, 1, 0);

	if (basic == NULL || (basic->ecx & CPUID_XSAVE) == 0) {
		goto destroy_vm; /* nothing to probe, nothing to give */
	}
	err = kvm_vm_memory(vm, 0, PROBE_GPA, 4096, page);
	if (err == 0) {
		err = kvm_vcpu_create(vm, 0, &cpuid, &vcpu, eb);
	}
	if (err == 0) {
		err = probe_regs(vcpu);
	}
	if (err == 0) {
		*works = probe_run(vcpu, &size) == 0 && size > XSAVE_LEGACY_BYTES;
	} else {
		(void)errbuf_sys(eb, err, "cannot probe XSAVE");
	}
	kvm_vcpu_destroy(vcpu);
destroy_vm:
	kvm_vm_destroy(vm);
unmap_page:
	(void)munmap(page, 4096);
	return err;
}
