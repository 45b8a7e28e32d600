/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_PARTITION_HOST_MODEL_H
#define HV_PARTITION_HOST_MODEL_H

#include "base/attr.h"

struct cpuid_table;
struct errbuf;

/*
 * partition_host_model() - the CPU model of a VM that is defined on this host: the baseline of what
 * its KVM supports, without XSAVE where guests cannot use it. @kvm_fd: as in struct kvm_vm_cfg.
 * Returns 0; -ENOENT, -EACCES no KVM; -ENOTSUP; -errno.
 */
MUST_USE int partition_host_model(int kvm_fd, struct cpuid_table *out, struct errbuf *eb);

#endif
