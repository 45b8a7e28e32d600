/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_KVM_KVM_INT_H
#define HV_KVM_KVM_INT_H

/* Private to hv/kvm: the kernel's types. */

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/kvm/kvm.h"

struct kvm_vm {
	int kvm_fd; /* owned */
	int vm_fd;  /* owned */
	bool hyperv;
	uint32_t vp_count;
	size_t run_bytes; /* size of the shared kvm_run mapping */
	struct kvm_features features;
	struct kvm_vcpu *vcpus[KVM_VCPUS_MAX]; /* borrowed: set by create, cleared by destroy */
	uint32_t *msrs;                        /* owned: KVM_GET_MSR_INDEX_LIST */
	uint32_t msr_count;
};

struct kvm_vcpu {
	struct kvm_vm *vm; /* borrowed until kvm_vcpu_destroy() */
	uint32_t vp_index;
	int fd;              /* owned */
	struct kvm_run *run; /* owned mapping, shared with the kernel */
	uint32_t xsave_bytes;
};

/*
 * kvm_routing_set() - tell KVM what each GSI does. Again after each VP: KVM notes the GSI of a SINT
 * (for the notification at its EOM) when the routes are set, in the SynICs that exist then.
 */
int kvm_routing_set(struct kvm_vm *vm);

/* kvm_cap() - the value of a capability, 0 = absent. */
int kvm_cap(int fd, unsigned long capability);

#endif
