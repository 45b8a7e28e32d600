/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_KVM_KVM_PROBE_H
#define HV_KVM_KVM_PROBE_H

/*
 * kvm_probe - what this kernel's KVM can do, before anybody needs it.
 *
 * Opens the device, makes one empty VM with one vCPU to see that this really works (another
 * hypervisor may hold the processor), and asks for every capability in a table that says what it
 * is for and what its absence means. The result is plain data, so that checks can be tested with
 * made-up kernels.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/report.h"

#define KVM_PROBE_DEVICE "/dev/kvm"
#define KVM_PROBE_CAPS_MAX 40u
#define KVM_PROBE_API_VERSION 12 /* the only one there ever was since 2.6.22 */

struct kvm_probe_cap {
	struct report_check check;
	enum report_verdict missing; /* the verdict if it is not there */
};

struct kvm_probe {
	int open_err;    /* 0; -errno: then nothing below is known */
	int api_version; /* or -errno */
	int vm_err;      /* of creating a VM: 0; -errno */
	int vcpu_err;    /* of creating a vCPU in it */
	int vcpus_max;   /* of one VM; 0 = unknown */
	int memslots_max;
	int caps[KVM_PROBE_CAPS_MAX]; /* value by index in the table; 0 = not there */
};

/* kvm_probe_caps() - the table of capabilities we use. */
const struct kvm_probe_cap *kvm_probe_caps(size_t *count);

/* kvm_probe_cap_value() - value of the capability with that id ("kvm.hyperv"). CHECKs the id. */
int kvm_probe_cap_value(const struct kvm_probe *probe, const char *id);

/*
 * kvm_probe_run() - look at @path. Failures are part of the result.
 * Context: any thread; creates and frees a VM, some milliseconds.
 */
void kvm_probe_run(const char *path, struct kvm_probe *out);

#endif
