/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/cpu/cpuid.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"

#define MSR_HV_VP_INDEX 0x40000002u
#define CR0_PE 0x1ull
#define CR0_ET 0x10ull
#define CR0_PG 0x80000000ull
#define CR4_PAE 0x20ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull

static int kvm_vcpu_cpuid_set(struct kvm_vcpu *vcpu, const struct cpuid_table *cpuid)
{
	CHECK(cpuid->count <= CPUID_LEAVES_MAX);

	struct kvm_cpuid2 *table =
		gw_calloc(1, sizeof(*table) + cpuid->count * sizeof(struct kvm_cpuid_entry2));

	if (table == NULL) {
		return -ENOMEM;
	}
	table->nent = cpuid->count;
	for (uint32_t i = 0; i < cpuid->count; i++) {
		const struct cpuid_leaf *l = &cpuid->leaves[i];

		table->entries[i] = (struct kvm_cpuid_entry2){
			.function = l->function,
			.index = l->index,
			.flags = l->has_index ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = l->eax,
			.ebx = l->ebx,
			.ecx = l->ecx,
			.edx = l->edx,
		};
	}

	int err = ioctl(vcpu->fd, KVM_SET_CPUID2, table) == 0 ? 0 : -errno;

	free(table);
	return err;
}

static int kvm_vcpu_hyperv_enable(struct kvm_vcpu *vcpu, struct errbuf *eb)
{
	struct kvm_enable_cap synic = {.cap = KVM_CAP_HYPERV_SYNIC2};
	struct kvm_enable_cap enforce = {.cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args = {1}};
	int err;

	if (ioctl(vcpu->fd, KVM_ENABLE_CAP, &synic) != 0) {
		return errbuf_sys(eb, -errno, "cannot enable the SynIC");
	}
	/* The guest gets what its CPUID promises and not what this kernel happens to have. */
	if (vcpu->vm->features.enforce_cpuid && ioctl(vcpu->fd, KVM_ENABLE_CAP, &enforce) != 0) {
		return errbuf_sys(eb, -errno, "cannot bind the Hyper-V interface to CPUID");
	}
	err = kvm_msr_set(vcpu, MSR_HV_VP_INDEX, vcpu->vp_index);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot set the VP index");
	}
	err = kvm_routing_set(vcpu->vm);
	return err != 0 ? errbuf_sys(eb, err, "cannot route the SINTs") : 0;
}

int kvm_vcpu_create(struct kvm_vm *vm, uint32_t vp_index, const struct cpuid_table *cpuid,
                    struct kvm_vcpu **out, struct errbuf *eb)
{
	struct kvm_vcpu *vcpu;
	int err;

	*out = NULL;
	CHECK(vp_index < vm->vp_count && vm->vcpus[vp_index] == NULL);
	vcpu = gw_calloc(1, sizeof(*vcpu));
	if (vcpu == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot create VP %u", vp_index);
	}
	vcpu->vm = vm;
	vcpu->vp_index = vp_index;
	vcpu->run = MAP_FAILED;
	vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, vp_index);
	if (vcpu->fd < 0) {
		err = errbuf_sys(eb, -errno, "cannot create VP %u", vp_index);
		goto destroy_vcpu;
	}
	vcpu->run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		err = errbuf_sys(eb, -errno, "cannot map VP %u", vp_index);
		goto destroy_vcpu;
	}
	err = kvm_vcpu_cpuid_set(vcpu, cpuid);
	if (err != 0) {
		(void)errbuf_sys(eb, err, "VP %u: KVM refuses the CPU model", vp_index);
		goto destroy_vcpu;
	}
	vcpu->xsave_bytes = (uint32_t)kvm_cap(vm->vm_fd, KVM_CAP_XSAVE2);
	if (vm->hyperv) {
		err = kvm_vcpu_hyperv_enable(vcpu, eb);
		if (err != 0) {
			errbuf_prepend(eb, "VP %u", vp_index);
			goto destroy_vcpu;
		}
	}
	vm->vcpus[vp_index] = vcpu;
	*out = vcpu;
	return 0;

destroy_vcpu:
	kvm_vcpu_destroy(vcpu);
	return err;
}

void kvm_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	if (vcpu == NULL) {
		return;
	}
	if (vcpu->vm->vcpus[vcpu->vp_index] == vcpu) {
		vcpu->vm->vcpus[vcpu->vp_index] = NULL;
	}
	if (vcpu->run != MAP_FAILED) {
		(void)munmap(vcpu->run, vcpu->vm->run_bytes);
	}
	if (vcpu->fd >= 0) {
		(void)close(vcpu->fd);
	}
	free(vcpu);
}

uint32_t kvm_vcpu_tsc_khz(const struct kvm_vcpu *vcpu)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	return khz > 0 ? (uint32_t)khz : 0;
}

static void kvm_exit_io(struct kvm_run *run, struct kvm_exit *exit)
{
	exit->type = KVM_EXITED_IO;
	exit->io.port = run->io.port;
	exit->io.size_bytes = run->io.size;
	exit->io.is_in = run->io.direction == KVM_EXIT_IO_IN;
	exit->io.count = run->io.count;
	exit->io.data = (uint8_t *)run + run->io.data_offset;
}

static void kvm_exit_hyperv(struct kvm_run *run, struct kvm_exit *exit)
{
	struct kvm_hyperv_exit *hv = &run->hyperv;

	switch (hv->type) {
	case KVM_EXIT_HYPERV_SYNIC:
		exit->type = KVM_EXITED_SYNIC;
		exit->synic.scontrol = hv->u.synic.control;
		exit->synic.siefp = hv->u.synic.evt_page;
		exit->synic.simp = hv->u.synic.msg_page;
		return;
	case KVM_EXIT_HYPERV_HCALL:
		exit->type = KVM_EXITED_HYPERCALL;
		exit->hypercall.control = hv->u.hcall.input;
		exit->hypercall.param[0] = hv->u.hcall.params[0];
		exit->hypercall.param[1] = hv->u.hcall.params[1];
		/* Aligned: the kernel lays kvm_run out for its own use of the same field. */
		exit->hypercall.result = (uint64_t *)(void *)&hv->u.hcall.result;
		return;
	default: /* a kernel's number, not an enum of ours */
		exit->type = KVM_EXITED_FAILED;
		(void)snprintf(exit->failed.text, sizeof(exit->failed.text),
		               "unknown Hyper-V exit %u", hv->type);
	}
}

static void kvm_exit_internal_error(const struct kvm_run *run, struct kvm_exit *exit)
{
	char *text = exit->failed.text;
	size_t room = sizeof(exit->failed.text);
	int used = snprintf(text, room, "KVM internal error %u", run->internal.suberror);

	for (uint32_t i = 0; i < run->internal.ndata && i < 4 && used > 0 && (size_t)used < room;
	     i++) {
		used += snprintf(text + used, room - (size_t)used, " %016llx",
		                 (unsigned long long)run->internal.data[i]);
	}
	exit->type = KVM_EXITED_FAILED;
}

static void kvm_exit_decode(struct kvm_run *run, struct kvm_exit *exit)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		kvm_exit_io(run, exit);
		return;
	case KVM_EXIT_MMIO:
		exit->type = KVM_EXITED_MMIO;
		exit->mmio.gpa = run->mmio.phys_addr;
		exit->mmio.data = run->mmio.data;
		exit->mmio.size_bytes = run->mmio.len;
		exit->mmio.is_write = run->mmio.is_write != 0;
		return;
	case KVM_EXIT_HLT:
		exit->type = KVM_EXITED_HALT;
		return;
	case KVM_EXIT_HYPERV:
		kvm_exit_hyperv(run, exit);
		return;
	case KVM_EXIT_SHUTDOWN:
		exit->type = KVM_EXITED_RESET;
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		exit->type = run->system_event.type == KVM_SYSTEM_EVENT_CRASH ? KVM_EXITED_CRASH
		                                                              : KVM_EXITED_RESET;
		return;
	case KVM_EXIT_INTR:
		exit->type = KVM_EXITED_INTERRUPTED;
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		kvm_exit_internal_error(run, exit);
		return;
	case KVM_EXIT_FAIL_ENTRY:
		exit->type = KVM_EXITED_FAILED;
		(void)snprintf(exit->failed.text, sizeof(exit->failed.text),
		               "hardware refuses to enter the guest, reason 0x%llx",
		               (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return;
	default: /* a kernel's number, not an enum of ours */
		exit->type = KVM_EXITED_FAILED;
		(void)snprintf(exit->failed.text, sizeof(exit->failed.text), "unknown exit %u",
		               run->exit_reason);
	}
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_exit *exit)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0) != 0) {
		if (errno == EINTR || errno == EAGAIN) {
			exit->type = KVM_EXITED_INTERRUPTED;
			return 0;
		}
		return -errno;
	}
	kvm_exit_decode(vcpu->run, exit);
	return 0;
}

void kvm_vcpu_kick_set(struct kvm_vcpu *vcpu, bool kicked)
{
	__atomic_store_n(&vcpu->run->immediate_exit, kicked ? 1 : 0, __ATOMIC_SEQ_CST);
}

int kvm_vcpu_settle(struct kvm_vcpu *vcpu, struct kvm_exit *exit)
{
	kvm_vcpu_kick_set(vcpu, true);
	return kvm_vcpu_run(vcpu, exit); /* completes the exit, then says EINTR */
}

static void kvm_segment_flat(struct kvm_segment *seg, uint16_t selector, bool code, bool long_mode)
{
	*seg = (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = selector,
		.type = code ? 0xb : 0x3,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && long_mode,
		.db = !(code && long_mode),
	};
}

static void kvm_boot_sregs(const struct kvm_boot_regs *boot, struct kvm_sregs *s)
{
	kvm_segment_flat(&s->cs, 0x10, true, boot->long_mode);
	kvm_segment_flat(&s->ds, 0x18, false, boot->long_mode);
	s->es = s->ds;
	s->fs = s->ds;
	s->gs = s->ds;
	s->ss = s->ds;
	s->tr = (struct kvm_segment){.limit = 0x67, .type = 0xb, .present = 1};
	s->gdt.base = boot->gdt_gpa;
	s->gdt.limit = boot->gdt_limit;
	s->idt.limit = 0;
	s->cr0 = CR0_PE | CR0_ET;
	if (boot->long_mode) {
		s->cr0 |= CR0_PG;
		s->cr3 = boot->cr3;
		s->cr4 = CR4_PAE;
		s->efer = EFER_LME | EFER_LMA;
	}
}

int kvm_vcpu_reset(struct kvm_vcpu *vcpu, const struct kvm_boot_regs *boot)
{
	struct kvm_mp_state mp = {.mp_state = boot != NULL ? KVM_MP_STATE_RUNNABLE
	                                                   : KVM_MP_STATE_UNINITIALIZED};

	if (boot != NULL) {
		struct kvm_sregs sregs;
		struct kvm_regs regs = {
			.rip = boot->rip,
			.rsi = boot->rsi,
			.rbx = boot->rbx,
			.rsp = boot->rsp,
			.rflags = 2,
		};

		if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) != 0) {
			return -errno;
		}
		kvm_boot_sregs(boot, &sregs);
		if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) != 0 ||
		    ioctl(vcpu->fd, KVM_SET_REGS, &regs) != 0) {
			return -errno;
		}
	}
	return ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp) == 0 ? 0 : -errno;
}

/* struct kvm_msrs with room for its one entry. */
union kvm_one_msr {
	struct kvm_msrs head;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

int kvm_msr_get(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	union kvm_one_msr one = {.head.nmsrs = 1};

	one.head.entries[0] = (struct kvm_msr_entry){.index = msr};

	int done = ioctl(vcpu->fd, KVM_GET_MSRS, &one);

	if (done < 0) {
		return -errno;
	}
	if (done != 1) {
		return -EINVAL;
	}
	*value = one.head.entries[0].data;
	return 0;
}

int kvm_msr_set(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value)
{
	union kvm_one_msr one = {.head.nmsrs = 1};

	one.head.entries[0] = (struct kvm_msr_entry){.index = msr, .data = value};

	int done = ioctl(vcpu->fd, KVM_SET_MSRS, &one);

	if (done < 0) {
		return -errno;
	}
	return done == 1 ? 0 : -EINVAL;
}

void kvm_vcpu_regs_text(struct kvm_vcpu *vcpu, char *buf, size_t room_bytes)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) != 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) != 0) {
		(void)snprintf(buf, room_bytes, "registers unavailable");
		return;
	}
	(void)snprintf(
		buf, room_bytes,
		"rip=%04x:%016llx rsp=%016llx rflags=%llx cr0=%llx cr2=%llx cr3=%llx cr4=%llx "
		"efer=%llx rax=%llx rbx=%llx rcx=%llx rdx=%llx rsi=%llx rdi=%llx rbp=%llx",
		s.cs.selector, r.rip, r.rsp, r.rflags, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, r.rax,
		r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp);
}
