/* SPDX-License-Identifier: Apache-2.0 */

/*
 * kvm_save - the state of vCPUs, interrupt controllers and clock, to and from save sections.
 *
 * The kernel's structures are written as they are: they are its ABI, little-endian x86 and frozen.
 * Order on load: registers, XSAVE, LAPIC, then MSRs (the TSC deadline needs the LAPIC, the SynIC
 * its pages), events last; the partition's clock after all VPs have their TSC.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/attr.h"
#include "base/fault.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"
#include "hv/save/save.h"

#define KVM_SAVE_VERSION 1u
#define KVM_SAVE_MSRS_MAX 512u
#define KVM_SAVE_XSAVE_MAX 16384u /* AMX state is 8 KiB; KVM says how much this host needs */
#define MSR_TSC 0x10u
#define MSR_HV_FIRST 0x40000000u
#define MSR_HV_LAST 0x400001ffu
#define MSR_KVM_FIRST 0x4b564d00u
#define MSR_KVM_LAST 0x4b564dffu

/* Partition-wide, on VP 0: the OS id first, the hypercall page needs it. */
static const uint32_t kvm_hv_partition_msrs[] = {
	0x40000000u, 0x40000001u, 0x40000021u, 0x40000100u,
	0x40000101u, 0x40000102u, 0x40000103u, 0x40000104u,
};

/* Per VP. A timer's count comes before its configuration: the other way round a count would
 * enable a timer that had already fired. */
static const uint32_t kvm_hv_vp_msrs[] = {
	0x40000010u, 0x40000073u, 0x40000080u, 0x40000082u, 0x40000083u, 0x40000090u,
	0x40000091u, 0x40000092u, 0x40000093u, 0x40000094u, 0x40000095u, 0x40000096u,
	0x40000097u, 0x40000098u, 0x40000099u, 0x4000009au, 0x4000009bu, 0x4000009cu,
	0x4000009du, 0x4000009eu, 0x4000009fu, 0x400000b1u, 0x400000b0u, 0x400000b3u,
	0x400000b2u, 0x400000b5u, 0x400000b4u, 0x400000b7u, 0x400000b6u,
};

static void kvm_save_fail(struct save *s, int err)
{
	if (s->error == 0) {
		s->error = err;
	}
}

static void kvm_save_get(struct kvm_vcpu *vcpu, struct save *s, unsigned long request, void *buf,
                         uint32_t len)
{
	if (ioctl(vcpu->fd, request, buf) != 0) {
		kvm_save_fail(s, -errno);
	}
	save_blob(s, buf, len);
}

static bool kvm_save_msr_skip(uint32_t msr)
{
	return (msr >= MSR_HV_FIRST && msr <= MSR_HV_LAST) ||
	       (msr >= MSR_KVM_FIRST && msr <= MSR_KVM_LAST) || msr == MSR_TSC;
}

static void kvm_save_msr(struct save *s, uint32_t msr, uint64_t value)
{
	save_u32(s, msr);
	save_u64(s, value);
}

/* Those that exist for this VP; the count goes first. */
static void kvm_save_msrs(struct kvm_vcpu *vcpu, struct save *s)
{
	struct {
		uint32_t msr;
		uint64_t value;
	} found[KVM_SAVE_MSRS_MAX];
	uint32_t count = 0;

	for (uint32_t i = 0; i < vcpu->vm->msr_count && count < KVM_SAVE_MSRS_MAX; i++) {
		uint32_t msr = vcpu->vm->msrs[i];

		if (!kvm_save_msr_skip(msr) && kvm_msr_get(vcpu, msr, &found[count].value) == 0) {
			found[count++].msr = msr;
		}
	}
	save_u32(s, count);
	for (uint32_t i = 0; i < count; i++) {
		kvm_save_msr(s, found[i].msr, found[i].value);
	}
}

static void kvm_save_hv_msrs(struct kvm_vcpu *vcpu, struct save *s, const uint32_t *list,
                             size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = 0;
		int err = kvm_msr_get(vcpu, list[i], &value);

		if (err != 0) {
			kvm_save_fail(s, err);
		}
		kvm_save_msr(s, list[i], value);
	}
}

static void kvm_save_xsave(struct kvm_vcpu *vcpu, struct save *s)
{
	uint32_t len = vcpu->xsave_bytes != 0 ? vcpu->xsave_bytes : sizeof(struct kvm_xsave);
	void *buf = len <= KVM_SAVE_XSAVE_MAX ? gw_calloc(1, len) : NULL;

	if (buf == NULL) {
		kvm_save_fail(s, -ENOMEM);
		return;
	}
	kvm_save_get(vcpu, s, vcpu->xsave_bytes != 0 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, buf, len);
	free(buf);
}

void kvm_vcpu_save(struct kvm_vcpu *vcpu, struct save *s)
{
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	uint64_t tsc = 0;
	char name[SAVE_NAME_MAX + 1];
	int err = kvm_msr_get(vcpu, MSR_TSC, &tsc);

	(void)snprintf(name, sizeof(name), "vcpu.%u", vcpu->vp_index);
	save_begin(s, name, KVM_SAVE_VERSION, true);
	if (err != 0) {
		kvm_save_fail(s, err);
	}
	/* Reading it makes KVM deliver pending INIT and SIPI first: so it is the first of all. */
	kvm_save_get(vcpu, s, KVM_GET_MP_STATE, &mp, sizeof(mp));
	kvm_save_get(vcpu, s, KVM_GET_REGS, &regs, sizeof(regs));
	kvm_save_get(vcpu, s, KVM_GET_SREGS, &sregs, sizeof(sregs));
	kvm_save_xsave(vcpu, s);
	kvm_save_get(vcpu, s, KVM_GET_XCRS, &xcrs, sizeof(xcrs));
	kvm_save_get(vcpu, s, KVM_GET_DEBUGREGS, &debug, sizeof(debug));
	kvm_save_get(vcpu, s, KVM_GET_LAPIC, &lapic, sizeof(lapic));
	save_u64(s, tsc);
	kvm_save_msrs(vcpu, s);
	save_bool(s, vcpu->vm->hyperv);
	if (vcpu->vm->hyperv) {
		if (vcpu->vp_index == 0) {
			kvm_save_hv_msrs(vcpu, s, kvm_hv_partition_msrs,
			                 ARRAY_LEN(kvm_hv_partition_msrs));
		}
		kvm_save_hv_msrs(vcpu, s, kvm_hv_vp_msrs, ARRAY_LEN(kvm_hv_vp_msrs));
	}
	kvm_save_get(vcpu, s, KVM_GET_VCPU_EVENTS, &events, sizeof(events));
	save_end(s);
}

/* A blob of exactly @len bytes into @buf, then to the kernel. */
static void kvm_load_set(struct kvm_vcpu *vcpu, struct load *l, unsigned long request, void *buf,
                         uint32_t len, const char *what)
{
	uint32_t got = 0;
	const uint8_t *from = load_blob(l, len, &got);

	if (load_error(l) != 0) {
		return;
	}
	if (from == NULL || got != len) {
		(void)load_fail(l, -EBADMSG, "%s has %u bytes, not %u", what, got, len);
		return;
	}
	memcpy(buf, from, len);
	if (ioctl(vcpu->fd, request, buf) != 0) {
		(void)load_fail(l, -errno, "KVM refuses the %s", what);
	}
}

static void kvm_load_xsave(struct kvm_vcpu *vcpu, struct load *l)
{
	uint32_t room = vcpu->xsave_bytes != 0 ? vcpu->xsave_bytes : sizeof(struct kvm_xsave);
	uint32_t got = 0;
	const uint8_t *from = load_blob(l, KVM_SAVE_XSAVE_MAX, &got);
	uint8_t *buf;

	if (load_error(l) != 0) {
		return;
	}
	/* A host with more state components needs more; what the other did not have is initial. */
	if (from == NULL || got < sizeof(struct kvm_xsave) || got > room) {
		(void)load_fail(l, -ENOTSUP, "XSAVE state of %u bytes; this host takes %u", got,
		                room);
		return;
	}
	buf = gw_calloc(1, room);
	if (buf == NULL) {
		(void)load_fail(l, -ENOMEM, "no memory for XSAVE state");
		return;
	}
	memcpy(buf, from, got);
	if (ioctl(vcpu->fd, KVM_SET_XSAVE, buf) != 0) {
		(void)load_fail(l, -errno, "KVM refuses the XSAVE state");
	}
	free(buf);
}

static void kvm_load_msr(struct kvm_vcpu *vcpu, struct load *l, uint32_t msr, uint64_t value)
{
	uint64_t now = 0;
	int err;

	if (load_error(l) != 0) {
		return;
	}
	err = kvm_msr_set(vcpu, msr, value);
	/* A read-only or absent one is fine if the guest saw nothing of it: same value, or zero. */
	if (err == -EINVAL && (value == 0 || (kvm_msr_get(vcpu, msr, &now) == 0 && now == value))) {
		err = 0;
	}
	if (err != 0) {
		(void)load_fail(l, -ENOTSUP, "KVM refuses MSR 0x%x = 0x%llx", msr,
		                (unsigned long long)value);
	}
}

static void kvm_load_msrs(struct kvm_vcpu *vcpu, struct load *l)
{
	uint32_t count = load_u32_max(l, KVM_SAVE_MSRS_MAX, "MSR count");

	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		uint32_t msr = load_u32(l);
		uint64_t value = load_u64(l);

		if (kvm_save_msr_skip(msr)) {
			(void)load_fail(l, -EBADMSG, "MSR 0x%x does not belong here", msr);
		}
		kvm_load_msr(vcpu, l, msr, value);
	}
}

static void kvm_load_hv_msrs(struct kvm_vcpu *vcpu, struct load *l, const uint32_t *list,
                             size_t count)
{
	for (size_t i = 0; i < count && load_error(l) == 0; i++) {
		uint32_t msr = load_u32(l);
		uint64_t value = load_u64(l);

		if (load_error(l) == 0 && msr != list[i]) {
			(void)load_fail(l, -EBADMSG, "MSR 0x%x where 0x%x belongs", msr, list[i]);
		}
		kvm_load_msr(vcpu, l, msr, value);
	}
}

int kvm_vcpu_load(struct kvm_vcpu *vcpu, struct load *l)
{
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	char name[SAVE_NAME_MAX + 1];
	int err;

	(void)snprintf(name, sizeof(name), "vcpu.%u", vcpu->vp_index);
	err = load_begin(l, name, KVM_SAVE_VERSION);
	if (err != 0) {
		return err;
	}
	kvm_load_set(vcpu, l, KVM_SET_MP_STATE, &mp, sizeof(mp), "MP state");
	kvm_load_set(vcpu, l, KVM_SET_REGS, &regs, sizeof(regs), "registers");
	kvm_load_set(vcpu, l, KVM_SET_SREGS, &sregs, sizeof(sregs), "system registers");
	kvm_load_xsave(vcpu, l);
	kvm_load_set(vcpu, l, KVM_SET_XCRS, &xcrs, sizeof(xcrs), "extended control registers");
	kvm_load_set(vcpu, l, KVM_SET_DEBUGREGS, &debug, sizeof(debug), "debug registers");
	kvm_load_set(vcpu, l, KVM_SET_LAPIC, &lapic, sizeof(lapic), "local APIC");
	/* All VPs within a second and from nearly one value: KVM gives them one offset. */
	kvm_load_msr(vcpu, l, MSR_TSC, load_u64(l));
	kvm_load_msrs(vcpu, l);
	if (load_bool(l) != vcpu->vm->hyperv) {
		(void)load_fail(l, -EBADMSG, "the state is of another kind of machine");
	}
	if (vcpu->vm->hyperv) {
		if (vcpu->vp_index == 0) {
			kvm_load_hv_msrs(vcpu, l, kvm_hv_partition_msrs,
			                 ARRAY_LEN(kvm_hv_partition_msrs));
		}
		kvm_load_hv_msrs(vcpu, l, kvm_hv_vp_msrs, ARRAY_LEN(kvm_hv_vp_msrs));
	}
	kvm_load_set(vcpu, l, KVM_SET_VCPU_EVENTS, &events, sizeof(events), "events");
	load_end(l);
	return load_error(l);
}

uint64_t kvm_vm_clock_ns(struct kvm_vm *vm)
{
	struct kvm_clock_data clock = {0};

	return ioctl(vm->vm_fd, KVM_GET_CLOCK, &clock) == 0 ? clock.clock : 0;
}

void kvm_vm_save(struct kvm_vm *vm, struct save *s)
{
	save_begin(s, "irqchip", KVM_SAVE_VERSION, true);
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip) != 0) {
			kvm_save_fail(s, -errno);
		}
		save_blob(s, &chip, sizeof(chip));
	}
	save_end(s);
	save_begin(s, "clock", KVM_SAVE_VERSION, true);
	save_u64(s, kvm_vm_clock_ns(vm));
	save_end(s);
}

static void kvm_load_irqchip(struct kvm_vm *vm, struct load *l, uint32_t id)
{
	struct kvm_irqchip chip;
	uint32_t got = 0;
	const uint8_t *from = load_blob(l, sizeof(chip), &got);

	if (load_error(l) != 0) {
		return;
	}
	if (from == NULL || got != sizeof(chip)) {
		(void)load_fail(l, -EBADMSG, "interrupt controller %u has %u bytes", id, got);
		return;
	}
	memcpy(&chip, from, sizeof(chip));
	if (chip.chip_id != id) {
		(void)load_fail(l, -EBADMSG, "interrupt controller %u where %u belongs",
		                chip.chip_id, id);
		return;
	}
	if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chip) != 0) {
		(void)load_fail(l, -errno, "KVM refuses interrupt controller %u", id);
	}
}

int kvm_vm_load(struct kvm_vm *vm, struct load *l)
{
	struct kvm_clock_data clock = {0};
	int err = load_begin(l, "irqchip", KVM_SAVE_VERSION);

	if (err != 0) {
		return err;
	}
	for (uint32_t i = 0; i < 3; i++) {
		kvm_load_irqchip(vm, l, i);
	}
	load_end(l);
	err = load_begin(l, "clock", KVM_SAVE_VERSION);
	if (err != 0) {
		return err;
	}
	clock.clock = load_u64(l);
	if (load_error(l) == 0 && ioctl(vm->vm_fd, KVM_SET_CLOCK, &clock) != 0) {
		(void)load_fail(l, -errno, "KVM refuses the clock");
	}
	load_end(l);
	return load_error(l);
}
