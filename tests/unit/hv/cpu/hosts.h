/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_CPU_HOSTS_H
#define TESTS_UNIT_HV_CPU_HOSTS_H

/*
 * hosts - CPUID tables as KVM gives them on two processors: an Intel server with AVX-512, AMX and
 * MPX, and a small AMD one. Written by hand from the vendors' manuals.
 */

#include "hv/cpu/cpuid.h"

void host_intel(struct cpuid_table *out);
void host_amd(struct cpuid_table *out);

/* What Linux's KVM implements of the Hyper-V interface. */
void host_kvm_hyperv(struct cpuid_table *out);

#endif
