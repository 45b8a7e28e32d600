/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HOST_HOST_INT_H
#define HV_HOST_HOST_INT_H

/* What the files of hv/host share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/host/host.h"

#define HOST_CPUINFO_MAX 16384 /* of the first processor: some 3 KiB */
#define HOST_LINE_MAX 256

/* What /proc/cpuinfo says about the first processor. */
struct host_cpu {
	char model[HOST_LINE_MAX];
	char vendor[64];
	char flags[8192];     /* words, parted by blanks */
	char vmx_flags[2048]; /* Intel only */
};

/* How processors virtualize here. */
enum host_virt { HOST_VIRT_NONE, HOST_VIRT_AMD, HOST_VIRT_INTEL };

/* host_cpu_read() - all texts are "" if unknown. */
void host_cpu_read(const struct hostfs *fs, struct host_cpu *out);
enum host_virt host_cpu_virt(const struct host_cpu *cpu);

/* host_kvm_backend() - the module that drives KVM: "kvm_amd", ..., or "kvm", "none"; static. */
const char *host_kvm_backend(const struct host_probe *probe);

/* host_kvm_nested() - may guests be hosts? */
bool host_kvm_nested(const struct hostfs *fs);

/* host_meminfo_bytes() - a field of /proc/meminfo [bytes]; 0 = not there. */
uint64_t host_meminfo_bytes(const struct hostfs *fs, const char *key);

/* Is a kernel module there? */
enum host_module {
	HOST_MODULE_ABSENT,
	HOST_MODULE_LOADABLE,
	HOST_MODULE_PRESENT,
	HOST_MODULE_UNKNOWN
};

enum host_module host_module(const struct hostfs *fs, const char *name);

void host_check_cpu(const struct host_probe *probe, struct report *report);
void host_check_kvm(const struct host_probe *probe, struct report *report);
void host_check_memory(const struct host_probe *probe, struct report *report);
void host_check_kernel(const struct host_probe *probe, struct report *report);
void host_check_network(const struct host_probe *probe, struct report *report);
void host_check_storage(const struct host_probe *probe, struct report *report);

#endif
