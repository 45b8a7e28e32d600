/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/partition/host_model.h"

#include "hv/cpu/cpuid.h"
#include "hv/cpu/model.h"
#include "hv/kvm/kvm.h"
#include "hv/partition/partition.h"

int partition_host_model(int kvm_fd, struct cpuid_table *out, struct errbuf *eb)
{
	const struct kvm_vm_cfg cfg = {.kvm_fd = kvm_fd, .vp_count = 1};
	struct cpuid_table host;
	struct kvm_vm *vm;
	bool xsave = false;
	int err = kvm_vm_create(&cfg, &vm, eb);

	if (err != 0) {
		return err;
	}
	err = kvm_cpuid_supported(vm, &host, eb);
	kvm_vm_destroy(vm);
	if (err == 0) {
		err = model_baseline(&host, out, eb);
	}
	if (err == 0) {
		err = kvm_probe_xsave(kvm_fd, &xsave, eb);
	}
	if (err == 0 && !xsave) {
		model_drop_xsave(out);
	}
	return err;
}

int partition_cpu_check(int kvm_fd, const struct cpuid_table *model, struct errbuf *eb)
{
	struct cpuid_table host;
	int err = partition_host_model(kvm_fd, &host, eb);

	return err != 0 ? err : model_check(model, &host, eb);
}
