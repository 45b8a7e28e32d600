/* SPDX-License-Identifier: Apache-2.0 */

/* The part of a partition that is made anew at every start and reset: KVM VM, vCPUs, boot state. */

#include <errno.h>
#include <fcntl.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "hv/cpu/cpuid.h"
#include "hv/cpu/enlighten.h"
#include "hv/cpu/model.h"
#include "hv/machine/acpi.h"
#include "hv/machine/boot.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"
#include "hv/partition/host_model.h"
#include "hv/partition/partition_int.h"
#include "hv/synic/synic.h"

static int partition_memory_set(struct partition *p, struct errbuf *eb)
{
	for (uint32_t i = 0; i < gmem_slots(p->mem); i++) {
		struct gmem_slot slot;
		int err;

		gmem_slot(p->mem, i, &slot);
		err = kvm_vm_memory(p->vm, i, slot.gpa, slot.len_bytes, slot.host);
		if (err != 0) {
			return errbuf_sys(eb, err, "KVM refuses guest memory at 0x%llx",
			                  (unsigned long long)slot.gpa);
		}
	}
	return 0;
}

/* The VM's CPU: as defined, or this host's baseline; then what this kernel can show as Hyper-V. */
static int partition_cpuid_make(struct partition *p, struct cpuid_table *out, struct errbuf *eb)
{
	struct cpuid_table host;
	int err = kvm_cpuid_supported(p->vm, &host, eb);

	if (err != 0) {
		return err;
	}
	if (p->cfg.cpuid != NULL) {
		err = model_check(p->cfg.cpuid, &host, eb);
		*out = *p->cfg.cpuid;
	} else {
		err = partition_host_model(p->cfg.kvm_fd, out, eb);
	}
	if (err == 0 && p->cfg.hyperv) {
		err = kvm_cpuid_hyperv(p->vm, &host, eb);
		if (err == 0) {
			const struct enlighten_cfg show = {
				.vp_count_max = KVM_VCPUS_MAX,
				.eoi_assist = p->cfg.eoi_assist,
			};

			err = enlighten_leaves(out, &host, &show, eb);
		}
	}
	return err;
}

static int partition_vcpus_create(struct partition *p, struct errbuf *eb)
{
	struct cpuid_table model;
	struct cpuid_table vp_table;
	int err = partition_cpuid_make(p, &model, eb);

	while (err == 0 && p->vcpu_count < p->cfg.vp_count) {
		uint32_t i = p->vcpu_count;

		err = model_vp(&model, i, p->cfg.vp_count, &vp_table);
		if (err == 0) {
			err = kvm_vcpu_create(p->vm, i, &vp_table, &p->vcpus[i], eb);
		}
		if (err == 0) {
			p->vcpu_count++;
		}
	}
	return err;
}

static int partition_vps_start(struct partition *p, struct errbuf *eb)
{
	const struct vp_env env = {
		.mem = p->mem,
		.machine = &p->machine,
		.mailbox = &p->mailbox,
		.synic = p->synic,
	};

	while (p->vp_count < p->cfg.vp_count) {
		uint32_t i = p->vp_count;
		int err = vp_start(&p->vps[i], i, p->vcpus[i], &env, p->cfg.vm_name);

		if (err != 0) {
			return errbuf_sys(eb, err, "cannot start the thread of VP %u", i);
		}
		p->vp_count++;
	}
	return 0;
}

int partition_build(struct partition *p, struct errbuf *eb)
{
	const struct kvm_vm_cfg cfg = {
		.kvm_fd = p->cfg.kvm_fd,
		.vp_count = p->cfg.vp_count,
		.hyperv = p->cfg.hyperv,
	};
	int err;

	partition_track_lock(p);
	err = kvm_vm_create(&cfg, &p->vm, eb);
	if (err == 0) {
		err = partition_memory_set(p, eb);
	}
	if (err == 0) {
		err = partition_vcpus_create(p, eb);
	}
	if (err == 0 && p->synic != NULL) {
		synic_attach(p->synic, p->vm);
	}
	if (err == 0) {
		err = partition_track_rebuilt(p, eb);
	}
	if (err == 0) {
		err = partition_vps_start(p, eb);
	}
	partition_track_unlock(p);
	if (err != 0) {
		partition_teardown(p);
	}
	return err;
}

void partition_teardown(struct partition *p)
{
	partition_track_lock(p);
	while (p->vp_count != 0) {
		vp_end(&p->vps[--p->vp_count]);
	}
	if (p->synic != NULL && p->vm != NULL) {
		synic_detach(p->synic);
	}
	while (p->vcpu_count != 0) {
		kvm_vcpu_destroy(p->vcpus[--p->vcpu_count]);
	}
	kvm_vm_destroy(p->vm);
	p->vm = NULL;
	partition_track_unlock(p);
	mailbox_clear(&p->mailbox);
}

/* Memory as after power-on: what a rebooted guest left behind is gone, and its pages are free. */
static int partition_memory_clear(struct partition *p)
{
	for (uint32_t i = 0; i < gmem_slots(p->mem); i++) {
		struct gmem_slot slot;

		gmem_slot(p->mem, i, &slot);
		if (fallocate(slot.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		              (off_t)slot.fd_offset_bytes, (off_t)slot.len_bytes) != 0) {
			return -errno;
		}
	}
	gmem_dirty_all(p->mem); /* a move that is under way */
	return 0;
}

int partition_boot(struct partition *p, struct errbuf *eb)
{
	const struct acpi_cfg acpi = {
		.vp_count = p->cfg.vp_count,
		.generation_id = p->cfg.generation_id,
	};
	const struct boot_cfg boot = {
		.kernel_fd = p->cfg.kernel_fd,
		.initrd_fd = p->cfg.initrd_fd,
		.cmdline = p->cfg.cmdline != NULL ? p->cfg.cmdline : "",
	};
	struct boot_entry entry;
	int err = partition_memory_clear(p);

	if (err != 0) {
		return errbuf_sys(eb, err, "cannot clear the guest's memory");
	}
	machine_reset(&p->machine);
	err = acpi_build(p->mem, &acpi);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot write the firmware tables");
	}
	err = boot_load(p->mem, &boot, &entry, eb);
	if (err != 0) {
		return err;
	}

	const struct kvm_boot_regs regs = {
		.long_mode = entry.long_mode,
		.rip = entry.rip,
		.rsi = entry.rsi,
		.rbx = entry.rbx,
		.cr3 = entry.cr3,
		.gdt_gpa = entry.gdt_gpa,
		.gdt_limit = entry.gdt_limit,
	};

	for (uint32_t i = 0; i < p->cfg.vp_count; i++) {
		err = kvm_vcpu_reset(p->vcpus[i], i == 0 ? &regs : NULL);
		if (err != 0) {
			return errbuf_sys(eb, err, "cannot set the registers of VP %u", i);
		}
	}
	return 0;
}

void partition_vps_run(struct partition *p)
{
	for (uint32_t i = 0; i < p->vp_count; i++) {
		vp_run(&p->vps[i]);
	}
}

void partition_vps_stop(struct partition *p)
{
	for (uint32_t i = 0; i < p->vp_count; i++) {
		vp_stop_ask(&p->vps[i]); /* all at once, then wait for the last */
	}
	for (uint32_t i = 0; i < p->vp_count; i++) {
		vp_stop_wait(&p->vps[i]);
	}
}
