/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_KVM_KVM_H
#define HV_KVM_KVM_H

/*
 * kvm - the door to the kernel's hypervisor: one VM, its vCPUs, memory slots, interrupts.
 *
 * Nobody else includes <linux/kvm.h>; exits, registers and CPUID leaves are converted here to
 * our own types. The interrupt controllers (LAPIC, IOAPIC, PIC) and, where the kernel has it, the
 * Hyper-V interface (SynIC, synthetic timers, reference TSC) run in the kernel.
 *
 * Threads: kvm_vm functions on any thread; kvm_vcpu functions on the vCPU's own thread, except
 * kvm_vcpu_kick(), and all of them while that thread is known not to run (paused, not started).
 * Source: Documentation/virt/kvm/api.rst of Linux 6.1.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct cpuid_table;
struct errbuf;
struct kvm_vcpu;
struct kvm_vm;
struct load;
struct save;

#define KVM_VCPUS_MAX 64u
#define KVM_GSI_IOAPIC_COUNT 24u
#define KVM_SINT_COUNT 16u

/* Which parts of the Hyper-V interface this kernel's KVM has. */
struct kvm_features {
	bool hyperv;        /* hypercalls, VP index */
	bool synic;         /* SynIC version 2 */
	bool synic_eventfd; /* KVM_HYPERV_EVENTFD */
	bool hyperv_time;   /* reference counter and TSC page */
	bool enforce_cpuid;
	bool x2apic_api;
	bool tsc_control; /* TSC scaling */
	bool dirty_ring;
	bool dirty_log_manual; /* with initially-all-set */
	uint32_t vcpus_max;
};

struct kvm_vm_cfg {
	int kvm_fd;        /* an open /dev/kvm, borrowed for the call; -1 = open it */
	uint32_t vp_count; /* 1..KVM_VCPUS_MAX */
	bool hyperv;       /* SynIC, VP index...: -ENOTSUP where the kernel lacks it */
};

/*
 * kvm_eoi_assist() - is it worth it that guests look at the VP assist page before they end an
 * interrupt? True where each EOI is an exit; false where the processor does it (APICv, AVIC in
 * use): there the question would cost the exit that it saves elsewhere. False on hosts that are
 * virtual machines themselves, too (decision 0171). Reads parameters of KVM's modules in /sys.
 */
bool kvm_eoi_assist(void);

/*
 * kvm_vm_create() - an empty VM with in-kernel interrupt controllers and, for each VP and SINT, a
 * GSI (kvm_gsi_sint()).
 * Returns 0; -ENOENT, -EACCES /dev/kvm (hint); -ENOTSUP something is missing, named; -errno.
 */
MUST_USE int kvm_vm_create(const struct kvm_vm_cfg *cfg, struct kvm_vm **out, struct errbuf *eb);

/* kvm_vm_destroy() - all vCPUs are destroyed. NULL is fine. */
void kvm_vm_destroy(struct kvm_vm *vm);

/*
 * kvm_probe_xsave() - can guests on this host use XSAVE and AVX? Not where the processor is
 * emulated without telling KVM about XSETBV; then a CPU model must leave them out.
 * @kvm_fd: as in struct kvm_vm_cfg. Takes a millisecond. Returns 0; as kvm_vm_create().
 */
MUST_USE int kvm_probe_xsave(int kvm_fd, bool *works, struct errbuf *eb);

/* kvm_vm_features() - what the kernel offers. Borrowed until kvm_vm_destroy(). */
const struct kvm_features *kvm_vm_features(const struct kvm_vm *vm);

/* kvm_cpuid_supported() - what KVM can give a guest on this host, KVM's own leaves left out. */
MUST_USE int kvm_cpuid_supported(struct kvm_vm *vm, struct cpuid_table *out, struct errbuf *eb);

/* kvm_cpuid_hyperv() - the Hyper-V leaves this KVM implements (0x40000000..). -ENOTSUP none. */
MUST_USE int kvm_cpuid_hyperv(struct kvm_vm *vm, struct cpuid_table *out, struct errbuf *eb);

#define KVM_SLOTS_MAX 8u

/* kvm_vm_memory() - let guest physical [gpa, gpa+len) be @host. @slot < KVM_SLOTS_MAX, once each.
 * Before kvm_vm_dirty_start(). Returns 0; -errno. */
MUST_USE int kvm_vm_memory(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t len_bytes,
                           void *host);

/*
 * kvm_vm_dirty_start() - from now on note which pages the guest writes, and the kernel for it; all
 * clean. VPs may run. A write of this process is not seen: hv/mem notes those.
 * Returns 0; -EALREADY; -ENOMEM; -errno.
 */
MUST_USE int kvm_vm_dirty_start(struct kvm_vm *vm);

/*
 * kvm_vm_dirty_fetch() - or the pages of @slot written since the last fetch into @bits (bit n: page
 * n; @words >= pages / 64 rounded up). They are clean again before this returns: what is read
 * from such a page afterwards is either new enough or reported again. VPs may run; only when they
 * are stopped the answer is complete. Returns 0; -EINVAL not started; -errno.
 */
MUST_USE int kvm_vm_dirty_fetch(struct kvm_vm *vm, uint32_t slot, uint64_t *bits, size_t words);

/* kvm_vm_dirty_stop() - no more of it. Nothing if it was not started. */
void kvm_vm_dirty_stop(struct kvm_vm *vm);

/* kvm_gsi_sint() - the GSI that raises @sint of VP @vp_index. */
uint32_t kvm_gsi_sint(uint32_t vp_index, uint32_t sint);

/* kvm_vm_irq() - set the level of @gsi; for a SINT, level true interrupts once.
 * Returns 0; -ENXIO the SINT is masked or the SynIC is off; -errno. */
MUST_USE int kvm_vm_irq(struct kvm_vm *vm, uint32_t gsi, bool level);

/*
 * kvm_vm_irqfd() - writes to @event_fd raise @gsi; with @resample_fd >= 0 the kernel writes to it
 * at the guest's EOI or EOM. @on false takes it away. Returns 0; -errno.
 */
MUST_USE int kvm_vm_irqfd(struct kvm_vm *vm, uint32_t gsi, int event_fd, int resample_fd, bool on);

/* kvm_vm_doorbell() - HvSignalEvent(@connection_id) writes to @event_fd without an exit; @on false
 * takes it away. Returns 0; -EEXIST; -ENOENT; -errno. */
MUST_USE int kvm_vm_doorbell(struct kvm_vm *vm, uint32_t connection_id, int event_fd, bool on);

/* kvm_vm_clock_ns() - the VM's clock, which the reference counter shows in units of 100 ns. */
uint64_t kvm_vm_clock_ns(struct kvm_vm *vm);

/* kvm_vcpu_tsc_khz() - frequency of the guests' TSC on this host [kHz]; 0 unknown. */
uint32_t kvm_vcpu_tsc_khz(const struct kvm_vcpu *vcpu);

/*
 * kvm_vcpu_create() - VP @vp_index (dense, from 0; also its APIC id), with CPUID and, if the VM has
 * the Hyper-V interface, SynIC and VP index.
 */
MUST_USE int kvm_vcpu_create(struct kvm_vm *vm, uint32_t vp_index, const struct cpuid_table *cpuid,
                             struct kvm_vcpu **out, struct errbuf *eb);
void kvm_vcpu_destroy(struct kvm_vcpu *vcpu);

enum kvm_exit_type {
	KVM_EXITED_INTERRUPTED, /* kicked or a signal; run again or stop */
	KVM_EXITED_IO,
	KVM_EXITED_MMIO,
	KVM_EXITED_HALT,
	KVM_EXITED_HYPERCALL, /* a hypercall KVM leaves to us: answer in *result */
	KVM_EXITED_SYNIC,     /* the guest wrote SCONTROL, SIEFP or SIMP */
	KVM_EXITED_RESET,     /* triple fault or the reset MSR */
	KVM_EXITED_CRASH,     /* crash MSRs */
	KVM_EXITED_FAILED,    /* KVM cannot go on; see @text */
};

struct kvm_exit {
	enum kvm_exit_type type;
	union {
		struct {
			uint16_t port;
			uint8_t size_bytes; /* 1, 2, 4 */
			bool is_in;
			uint32_t count; /* string instructions: elements at data */
			uint8_t *data;  /* in or out; valid until the next run */
		} io;
		struct {
			uint64_t gpa;
			uint8_t *data;
			uint32_t size_bytes; /* 1..8 */
			bool is_write;
		} mmio;
		struct {
			uint64_t control; /* RCX: call code, fast bit, ... */
			uint64_t param[2];
			uint64_t *result;
		} hypercall;
		struct {
			uint64_t scontrol;
			uint64_t siefp;
			uint64_t simp;
		} synic;
		struct {
			char text[160];
		} failed;
	};
};

/* kvm_vcpu_run() - enter the guest until the next exit. Returns 0; -errno (the vCPU is lost). */
MUST_USE int kvm_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_exit *exit);

/*
 * kvm_vcpu_settle() - finish a half-done I/O or MSR exit without entering the guest, so that the
 * registers are complete before they are saved. An access that crosses a page is two exits: answer
 * @exit as after kvm_vcpu_run() and call again until it is KVM_EXITED_INTERRUPTED.
 * Returns 0; -errno (the vCPU is lost).
 */
MUST_USE int kvm_vcpu_settle(struct kvm_vcpu *vcpu, struct kvm_exit *exit);

/*
 * kvm_vcpu_kick_set() - make kvm_vcpu_run() return at once from now on (true), or run normally
 * (false). Any thread; the caller also interrupts a running vCPU with a signal to its thread.
 */
void kvm_vcpu_kick_set(struct kvm_vcpu *vcpu, bool kicked);

/* Boot state. 64-bit: paging on, identity map at @cr3; 32-bit: flat, paging off. */
struct kvm_boot_regs {
	bool long_mode;
	uint64_t rip;
	uint64_t rsi; /* 64-bit Linux protocol: boot_params */
	uint64_t rbx; /* PVH: start info */
	uint64_t rsp;
	uint64_t cr3;
	uint64_t gdt_gpa;
	uint16_t gdt_limit;
};

/* kvm_vcpu_reset() - power-on state: the boot VP starts at @boot; the others (NULL) wait for
 * SIPI. */
MUST_USE int kvm_vcpu_reset(struct kvm_vcpu *vcpu, const struct kvm_boot_regs *boot);

/* kvm_msr_get()/kvm_msr_set() - one MSR, as the host. Returns 0; -EINVAL KVM refuses it; -errno. */
MUST_USE int kvm_msr_get(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value);
MUST_USE int kvm_msr_set(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value);

/* kvm_vcpu_regs_text() - a few lines of registers for a crash report. */
void kvm_vcpu_regs_text(struct kvm_vcpu *vcpu, char *buf, size_t room_bytes);

/* Section "vcpu.<index>": registers, XSAVE, MSRs, LAPIC, SynIC, timers, events. The vCPU is stopped
 * and settled. The CPUID is part of the VM's definition, not of the section. */
void kvm_vcpu_save(struct kvm_vcpu *vcpu, struct save *s);
MUST_USE int kvm_vcpu_load(struct kvm_vcpu *vcpu, struct load *l);

/* Section "irqchip": IOAPIC and PIC. Section "clock": partition-wide time and Hyper-V MSRs. */
void kvm_vm_save(struct kvm_vm *vm, struct save *s);
MUST_USE int kvm_vm_load(struct kvm_vm *vm, struct load *l);

#endif
