/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_KVM_KVM_INT_H
#define HV_KVM_KVM_INT_H

/* Private to hv/kvm: the kernel's types. */

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/kvm/kvm.h"

/* A memory slot. Set by kvm_vm_memory(); bits under kvm_dirty.lock. */
struct kvm_slot {
	uint64_t gpa;
	uint64_t len_bytes; /* 0 = unused */
	void *host;         /* borrowed */
	uint64_t *bits;     /* owned; NULL until the first start: room for the kernel's answer */
	size_t words;
};

struct kvm_dirty {
	pthread_mutex_t lock; /* guards on and the slots' bits */
	bool on;
	bool manual; /* pages are protected again by KVM_CLEAR_DIRTY_LOG only */
};

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
	struct kvm_slot slots[KVM_SLOTS_MAX];
	struct kvm_dirty dirty;
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

/* kvm_dirty.c: part of kvm_vm_create() and kvm_vm_destroy(). */
void kvm_dirty_init(struct kvm_vm *vm);
void kvm_dirty_fini(struct kvm_vm *vm);

/* kvm_cap() - the value of a capability, 0 = absent. */
int kvm_cap(int fd, unsigned long capability);

#endif
