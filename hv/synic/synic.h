/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SYNIC_SYNIC_H
#define HV_SYNIC_SYNIC_H

/*
 * synic - the host's hand in the guest's synthetic interrupt controllers.
 *
 * The SynIC itself (MSRs, SINT vectors, timers) runs in KVM. What is left for us: put messages
 * into a VP's message page, set event flags, raise the SINT, and learn when a slot is free again
 * (KVM's resample notification at the guest's EOM). Also the vmbus_host_ops table on KVM.
 *
 * Threads: synic_pages() on the VP's thread; everything else on the device thread.
 * Source: TLFS chapter 11; KVM api.rst 4.98 (KVM_IRQ_ROUTING_HV_SINT), 5 (KVM_EXIT_HYPERV).
 */

#include <stdint.h>

#include "base/attr.h"

struct gmem;
struct kvm_vm;
struct synic;
struct uring;
struct vmbus_host_ops;

struct synic_cfg {
	struct gmem *mem; /* borrowed until synic_destroy(), like the rest */
	struct uring *ring;
	uint32_t vp_count;
	/* A message slot of this VP may be free. Device thread. */
	void (*slot_free)(void *arg, uint32_t vp_index);
	void *arg;
};

MUST_USE int synic_create(const struct synic_cfg *cfg, struct synic **out);

/* synic_destroy() - detached, and not from inside a completion: the ring dispatches until the last
 * poll has ended. NULL is fine. */
void synic_destroy(struct synic *synic);

/* synic_attach() - work on this VM from now on (a reset makes a new one; borrowed until detach).
 * synic_detach() - VPs do not run any more; forget their pages. */
void synic_attach(struct synic *synic, struct kvm_vm *vm);
void synic_detach(struct synic *synic);

/* The registers that say where a VP's pages are; MSRs as the guest wrote them. */
struct synic_regs {
	uint64_t scontrol, siefp, simp;
};

/* synic_pages() - the guest wrote one of them (or they were restored). */
void synic_pages(struct synic *synic, uint32_t vp_index, const struct synic_regs *regs);

/* synic_interrupt_all() - raise @sint on every VP whose page has something in it: after a restore,
 * a lost interrupt would be a hang, one too many is nothing. */
void synic_interrupt_all(struct synic *synic, uint32_t sint);

/* For struct vmbus_cfg; the argument is the struct synic. */
const struct vmbus_host_ops *synic_vmbus_ops(void);

#endif
