/* SPDX-License-Identifier: Apache-2.0 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hostfs.h"
#include "hv/cpu/cpuid.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"

/* Below 4 GiB, above the IOAPIC and LAPIC, inside no RAM slot: three pages VMX needs for itself. */
#define KVM_TSS_GPA 0xfffbd000ull
#define KVM_IDENTITY_GPA 0xfffbc000ull

int kvm_cap(int fd, unsigned long capability)
{
	int value = ioctl(fd, KVM_CHECK_EXTENSION, capability);

	return value > 0 ? value : 0;
}

/* CPUID 1, ECX bit 31: reserved for hypervisors to say that they are there. */
static bool kvm_host_is_guest(void)
{
	unsigned eax, ebx, ecx, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 31) != 0;
}

bool kvm_eoi_assist(void)
{
	static const char *const parameters[] = {
		"/sys/module/kvm_intel/parameters/enable_apicv",
		"/sys/module/kvm_amd/parameters/avic",
	};
	const struct hostfs here = {.root = ""};

	if (kvm_host_is_guest()) {
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(parameters); i++) {
		char text[8];

		if (hostfs_read(&here, parameters[i], text, sizeof(text)) > 0 &&
		    (text[0] == 'Y' || text[0] == '1')) {
			return false;
		}
	}
	return true;
}

static int kvm_open(int given_fd, int *out, struct errbuf *eb)
{
	int err;
	int fd = given_fd >= 0 ? fcntl(given_fd, F_DUPFD_CLOEXEC, 3)
	                       : open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		err = errbuf_sys(eb, -errno, "cannot open /dev/kvm");
		errbuf_hint(eb, "load kvm_intel or kvm_amd, enable virtualization in the firmware, "
		                "and run: godwit host check");
		return err;
	}

	int version = ioctl(fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION) {
		(void)close(fd);
		return errbuf_set(eb, -ENOTSUP, "KVM API version %d, needed %d", version,
		                  KVM_API_VERSION);
	}
	*out = fd;
	return 0;
}

static void kvm_features_read(int fd, struct kvm_features *f)
{
	*f = (struct kvm_features){
		.hyperv = kvm_cap(fd, KVM_CAP_HYPERV) && kvm_cap(fd, KVM_CAP_HYPERV_VP_INDEX),
		.synic = kvm_cap(fd, KVM_CAP_HYPERV_SYNIC2) != 0,
		.synic_eventfd = kvm_cap(fd, KVM_CAP_HYPERV_EVENTFD) != 0,
		.hyperv_time = kvm_cap(fd, KVM_CAP_HYPERV_TIME) != 0,
		.enforce_cpuid = kvm_cap(fd, KVM_CAP_HYPERV_ENFORCE_CPUID) != 0,
		.x2apic_api = kvm_cap(fd, KVM_CAP_X2APIC_API) != 0,
		.tsc_control = kvm_cap(fd, KVM_CAP_TSC_CONTROL) != 0,
		.dirty_ring = kvm_cap(fd, KVM_CAP_DIRTY_LOG_RING) != 0,
		.dirty_log_manual = kvm_cap(fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) != 0,
		.vcpus_max = (uint32_t)kvm_cap(fd, KVM_CAP_MAX_VCPUS),
	};
}

static int kvm_features_check(const struct kvm_vm_cfg *cfg, const struct kvm_features *f,
                              struct errbuf *eb)
{
	if (cfg->vp_count == 0 || cfg->vp_count > KVM_VCPUS_MAX || cfg->vp_count > f->vcpus_max) {
		return errbuf_set(eb, -EINVAL, "%u virtual processors: 1..%u are possible",
		                  cfg->vp_count,
		                  f->vcpus_max < KVM_VCPUS_MAX ? f->vcpus_max : KVM_VCPUS_MAX);
	}
	if (cfg->hyperv && !(f->hyperv && f->synic && f->synic_eventfd && f->hyperv_time)) {
		int err = errbuf_set(eb, -ENOTSUP, "this kernel's KVM lacks the Hyper-V interface");

		errbuf_hint(eb, "use a kernel with CONFIG_KVM_HYPERV and hardware virtualization "
		                "(every distribution kernel); see: godwit host check");
		return err;
	}
	return 0;
}

static int kvm_msr_list(struct kvm_vm *vm)
{
	struct kvm_msr_list probe = {.nmsrs = 0};

	(void)ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe); /* E2BIG tells the count */

	struct kvm_msr_list *list = gw_calloc(1, sizeof(*list) + probe.nmsrs * sizeof(uint32_t));

	if (list == NULL) {
		return -ENOMEM;
	}
	list->nmsrs = probe.nmsrs;
	if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) != 0) {
		int err = -errno;

		free(list);
		return err;
	}
	vm->msrs = gw_calloc(list->nmsrs != 0 ? list->nmsrs : 1, sizeof(*vm->msrs));
	if (vm->msrs == NULL) {
		free(list);
		return -ENOMEM;
	}
	memcpy(vm->msrs, list->indices, list->nmsrs * sizeof(*vm->msrs));
	vm->msr_count = list->nmsrs;
	free(list);
	return 0;
}

/* GSI 0..23 are the IOAPIC's pins (0..15 also the PIC's); behind them 16 SINTs for each VP. */
int kvm_routing_set(struct kvm_vm *vm)
{
	uint32_t sints = vm->hyperv ? vm->vp_count * KVM_SINT_COUNT : 0;
	uint32_t count = KVM_GSI_IOAPIC_COUNT + 16 + sints;
	struct kvm_irq_routing *table =
		gw_calloc(1, sizeof(*table) + count * sizeof(struct kvm_irq_routing_entry));
	struct kvm_irq_routing_entry *e;
	int err = 0;

	if (table == NULL) {
		return -ENOMEM;
	}
	table->nr = count;
	e = table->entries;
	for (uint32_t pin = 0; pin < 16; pin++, e++) {
		e->gsi = pin;
		e->type = KVM_IRQ_ROUTING_IRQCHIP;
		e->u.irqchip.irqchip = pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		e->u.irqchip.pin = pin % 8;
	}
	for (uint32_t pin = 0; pin < KVM_GSI_IOAPIC_COUNT; pin++, e++) {
		e->gsi = pin;
		e->type = KVM_IRQ_ROUTING_IRQCHIP;
		e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e->u.irqchip.pin = pin;
	}
	for (uint32_t i = 0; i < sints; i++, e++) {
		e->gsi = kvm_gsi_sint(i / KVM_SINT_COUNT, i % KVM_SINT_COUNT);
		e->type = KVM_IRQ_ROUTING_HV_SINT;
		e->u.hv_sint.vcpu = i / KVM_SINT_COUNT;
		e->u.hv_sint.sint = i % KVM_SINT_COUNT;
	}
	if (ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, table) != 0) {
		err = -errno;
	}
	free(table);
	return err;
}

static int kvm_vm_setup(struct kvm_vm *vm, struct errbuf *eb)
{
	uint64_t identity = KVM_IDENTITY_GPA;
	int err;

	/* Only VMX wants these two; elsewhere they may not exist. */
	(void)ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	(void)ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA);
	if (vm->features.x2apic_api) {
		struct kvm_enable_cap cap = {
			.cap = KVM_CAP_X2APIC_API,
			.args = {KVM_X2APIC_API_USE_32BIT_IDS |
		                 KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
		};

		(void)ioctl(vm->vm_fd, KVM_ENABLE_CAP, &cap);
	}
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0) != 0) {
		return errbuf_sys(eb, -errno, "cannot create the interrupt controllers");
	}
	err = kvm_routing_set(vm);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot route interrupts");
	}
	err = kvm_msr_list(vm);
	return err != 0 ? errbuf_sys(eb, err, "cannot list MSRs") : 0;
}

int kvm_vm_create(const struct kvm_vm_cfg *cfg, struct kvm_vm **out, struct errbuf *eb)
{
	struct kvm_vm *vm = gw_calloc(1, sizeof(*vm));
	int err;

	*out = NULL;
	if (vm == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot create a VM");
	}
	CHECK(pthread_mutex_init(&vm->dirty.lock, NULL) == 0);
	vm->kvm_fd = -1;
	vm->vm_fd = -1;
	vm->hyperv = cfg->hyperv;
	vm->vp_count = cfg->vp_count;
	err = kvm_open(cfg->kvm_fd, &vm->kvm_fd, eb);
	if (err != 0) {
		goto destroy_vm;
	}
	kvm_features_read(vm->kvm_fd, &vm->features);
	err = kvm_features_check(cfg, &vm->features, eb);
	if (err != 0) {
		goto destroy_vm;
	}
	do { /* a signal of ours may interrupt it */
		vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	} while (vm->vm_fd < 0 && errno == EINTR);
	if (vm->vm_fd < 0) {
		err = errbuf_sys(eb, -errno, "cannot create a VM");
		goto destroy_vm;
	}
	vm->run_bytes = (size_t)ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	err = kvm_vm_setup(vm, eb);
	if (err != 0) {
		goto destroy_vm;
	}
	kvm_dirty_init(vm);
	*out = vm;
	return 0;

destroy_vm:
	kvm_vm_destroy(vm);
	return err;
}

void kvm_vm_destroy(struct kvm_vm *vm)
{
	if (vm == NULL) {
		return;
	}
	for (uint32_t i = 0; i < KVM_VCPUS_MAX; i++) {
		CHECK(vm->vcpus[i] == NULL);
	}
	kvm_dirty_fini(vm);
	if (vm->vm_fd >= 0) {
		(void)close(vm->vm_fd);
	}
	if (vm->kvm_fd >= 0) {
		(void)close(vm->kvm_fd);
	}
	free(vm->msrs);
	free(vm);
}

const struct kvm_features *kvm_vm_features(const struct kvm_vm *vm)
{
	return &vm->features;
}

static int kvm_cpuid_get(int fd, unsigned long request, struct cpuid_table *out)
{
	struct kvm_cpuid2 *table =
		gw_calloc(1, sizeof(*table) + CPUID_LEAVES_MAX * sizeof(struct kvm_cpuid_entry2));

	if (table == NULL) {
		return -ENOMEM;
	}
	table->nent = CPUID_LEAVES_MAX;
	if (ioctl(fd, request, table) != 0) {
		int err = -errno;

		free(table);
		return err;
	}
	out->count = 0;
	for (uint32_t i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		out->leaves[out->count++] = (struct cpuid_leaf){
			.function = e->function,
			.index = e->index,
			.has_index = (e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
			.eax = e->eax,
			.ebx = e->ebx,
			.ecx = e->ecx,
			.edx = e->edx,
		};
	}
	free(table);
	return 0;
}

int kvm_cpuid_supported(struct kvm_vm *vm, struct cpuid_table *out, struct errbuf *eb)
{
	int err = kvm_cpuid_get(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, out);
	uint32_t kept = 0;

	if (err != 0) {
		return errbuf_sys(eb, err, "cannot read the CPU features KVM supports");
	}
	for (uint32_t i = 0; i < out->count; i++) {
		uint32_t function = out->leaves[i].function;

		if (function < 0x40000000u || function > 0x4fffffffu) {
			out->leaves[kept++] = out->leaves[i];
		}
	}
	out->count = kept;
	return 0;
}

int kvm_cpuid_hyperv(struct kvm_vm *vm, struct cpuid_table *out, struct errbuf *eb)
{
	if (kvm_cap(vm->kvm_fd, KVM_CAP_SYS_HYPERV_CPUID) == 0) {
		return errbuf_set(eb, -ENOTSUP,
		                  "this kernel's KVM cannot list its Hyper-V features");
	}

	int err = kvm_cpuid_get(vm->kvm_fd, KVM_GET_SUPPORTED_HV_CPUID, out);

	return err != 0 ? errbuf_sys(eb, err, "cannot read KVM's Hyper-V features") : 0;
}

uint32_t kvm_gsi_sint(uint32_t vp_index, uint32_t sint)
{
	return KVM_GSI_IOAPIC_COUNT + vp_index * KVM_SINT_COUNT + sint;
}

int kvm_vm_irq(struct kvm_vm *vm, uint32_t gsi, bool level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};

	if (ioctl(vm->vm_fd, KVM_IRQ_LINE_STATUS, &irq) != 0) {
		return -errno;
	}
	/* After the call the union holds the status: < 0 nobody took it. */
	return irq.status < 0 && level ? -ENXIO : 0;
}

int kvm_vm_irqfd(struct kvm_vm *vm, uint32_t gsi, int event_fd, int resample_fd, bool on)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)event_fd, .gsi = gsi};

	if (!on) {
		irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
	} else if (resample_fd >= 0) {
		irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = (uint32_t)resample_fd;
	}
	return ioctl(vm->vm_fd, KVM_IRQFD, &irqfd) == 0 ? 0 : -errno;
}

int kvm_vm_doorbell(struct kvm_vm *vm, uint32_t connection_id, int event_fd, bool on)
{
	struct kvm_hyperv_eventfd bell = {
		.conn_id = connection_id,
		.fd = event_fd,
		.flags = on ? 0 : KVM_HYPERV_EVENTFD_DEASSIGN,
	};

	return ioctl(vm->vm_fd, KVM_HYPERV_EVENTFD, &bell) == 0 ? 0 : -errno;
}
