/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CPU_ENLIGHTEN_H
#define HV_CPU_ENLIGHTEN_H

/*
 * enlighten - the Hyper-V CPUID leaves (0x40000000..) a partition shows its guest.
 * Pure. Source: TLFS 2.4 (feature and interface discovery); docs/spec/tlfs.md says which bits and
 * why.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct cpuid_table;
struct errbuf;

struct enlighten_cfg {
	uint32_t vp_count_max;
	bool eoi_assist; /* let guests end interrupts by the VP assist page (decision 0171) */
};

/*
 * enlighten_leaves() - add the leaves to @table and set "a hypervisor is present".
 * @kvm: what the kernel's KVM implements (kvm_cpuid_hyperv()).
 * Returns 0; -ENOTSUP with the missing feature named; -E2BIG.
 */
MUST_USE int enlighten_leaves(struct cpuid_table *table, struct cpuid_table *kvm,
                              const struct enlighten_cfg *cfg, struct errbuf *eb);

#endif
