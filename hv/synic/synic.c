/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/synic/synic.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/uring.h"
#include "hv/kvm/kvm.h"
#include "hv/mem/gmem.h"
#include "hv/synic/synic_shm.h"
#include "hv/vmbus/vmbus_host.h"

#define TAG "synic"
#define SYNIC_PAGE_ENABLE 1ull
#define SYNIC_PAGE_GPA(v) ((v) & ~0xfffull)
#define VMBUS_MESSAGE_TYPE 1u

struct synic_vp {
	struct synic *synic; /* back pointer */
	uint32_t index;
	/* Written by the VP's thread, read by the device thread. */
	_Atomic uint64_t scontrol, siefp, simp;
	/* Device thread: the resample notification of the one SINT that carries messages. */
	bool attached; /* KVM knows raise_fd and resample_fd, for sint */
	bool watched;  /* poll is in flight */
	bool stopping;
	uint32_t sint;
	int raise_fd;    /* owned; -1 */
	int resample_fd; /* owned; -1 */
	struct uring_op poll;
};

struct synic {
	struct synic_cfg cfg;
	struct kvm_vm *vm;     /* borrowed between attach and detach, else NULL */
	uint64_t masked_count; /* interrupts that met a masked SINT */
	struct synic_vp vps[]; /* cfg.vp_count */
};

int synic_create(const struct synic_cfg *cfg, struct synic **out)
{
	struct synic *s = gw_calloc(1, sizeof(*s) + cfg->vp_count * sizeof(s->vps[0]));

	*out = NULL;
	if (s == NULL) {
		return -ENOMEM;
	}
	s->cfg = *cfg;
	for (uint32_t i = 0; i < cfg->vp_count; i++) {
		s->vps[i].synic = s;
		s->vps[i].index = i;
		s->vps[i].raise_fd = -1;
		s->vps[i].resample_fd = -1;
	}
	*out = s;
	return 0;
}

static void synic_resampled(struct uring_op *op, int32_t res, bool more)
{
	struct synic_vp *vp = op->arg;
	uint64_t count;

	if (!more) {
		vp->watched = false;
	}
	if (res < 0 || vp->stopping) {
		return;
	}
	(void)!read(vp->resample_fd, &count, sizeof(count)); /* nonblocking: only clears it */
	if (!more &&
	    uring_prep_poll(vp->synic->cfg.ring, &vp->poll, vp->resample_fd, POLLIN, true) == 0) {
		vp->watched = true;
	}
	vp->synic->cfg.slot_free(vp->synic->cfg.arg, vp->index);
}

/* No more notifications from KVM; the descriptors and the poll stay for the next time. */
static void synic_vp_detach(struct synic_vp *vp)
{
	if (vp->attached) {
		int err = kvm_vm_irqfd(vp->synic->vm, kvm_gsi_sint(vp->index, vp->sint),
		                       vp->raise_fd, -1, false);

		if (err != 0) {
			log_warn(TAG, "irqfd not removed vp=%u error=%d", vp->index, err);
		}
		vp->attached = false;
	}
}

static int synic_vp_poll(struct synic_vp *vp)
{
	int err;

	if (vp->watched) {
		return 0;
	}
	if (vp->raise_fd < 0) {
		vp->raise_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (vp->resample_fd < 0) {
		vp->resample_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (vp->raise_fd < 0 || vp->resample_fd < 0) {
		return -errno;
	}
	vp->poll = (struct uring_op){.fn = synic_resampled, .arg = vp};
	err = uring_prep_poll(vp->synic->cfg.ring, &vp->poll, vp->resample_fd, POLLIN, true);
	vp->watched = err == 0;
	return err;
}

/* Have KVM tell us when the guest is done with a message on @sint of this VP. */
static int synic_vp_attach(struct synic_vp *vp, uint32_t sint)
{
	int err;

	if (vp->attached && vp->sint == sint) {
		return 0;
	}
	synic_vp_detach(vp);
	err = synic_vp_poll(vp);
	if (err != 0) {
		return err;
	}
	err = kvm_vm_irqfd(vp->synic->vm, kvm_gsi_sint(vp->index, sint), vp->raise_fd,
	                   vp->resample_fd, true);
	vp->sint = sint;
	vp->attached = err == 0;
	return err;
}

void synic_detach(struct synic *s)
{
	static const struct synic_regs none;
	for (uint32_t i = 0; i < s->cfg.vp_count; i++) {
		synic_vp_detach(&s->vps[i]);
		synic_pages(s, i, &none);
	}
	s->vm = NULL;
}

void synic_attach(struct synic *s, struct kvm_vm *vm)
{
	s->vm = vm;
}

void synic_destroy(struct synic *s)
{
	if (s == NULL) {
		return;
	}
	for (uint32_t i = 0; i < s->cfg.vp_count; i++) {
		struct synic_vp *vp = &s->vps[i];

		CHECK(!vp->attached);
		vp->stopping = true;
		if (vp->watched) {
			CHECK(uring_cancel(s->cfg.ring, &vp->poll) == 0);
		}
		while (vp->watched) {
			CHECK(uring_wait(s->cfg.ring, UINT64_MAX) >= 0);
		}
		if (vp->raise_fd >= 0) {
			(void)close(vp->raise_fd);
		}
		if (vp->resample_fd >= 0) {
			(void)close(vp->resample_fd);
		}
	}
	free(s);
}

void synic_pages(struct synic *s, uint32_t vp_index, const struct synic_regs *regs)
{
	struct synic_vp *vp = &s->vps[vp_index];

	CHECK(vp_index < s->cfg.vp_count);
	atomic_store(&vp->siefp, regs->siefp);
	atomic_store(&vp->simp, regs->simp);
	atomic_store(&vp->scontrol, regs->scontrol);
}

/* The host address of a SynIC page, or NULL if the guest has none there. */
static void *synic_page(const struct synic *s, const struct synic_vp *vp, uint64_t msr)
{
	if ((atomic_load(&vp->scontrol) & 1) == 0 || (msr & SYNIC_PAGE_ENABLE) == 0) {
		return NULL;
	}
	return gmem_range(s->cfg.mem, SYNIC_PAGE_GPA(msr), GMEM_PAGE_BYTES);
}

static void synic_raise(struct synic *s, uint32_t vp_index, uint32_t sint)
{
	/* A masked SINT is the guest's choice: what we wrote stays in the page for its polling. */
	if (kvm_vm_irq(s->vm, kvm_gsi_sint(vp_index, sint), true) != 0) {
		s->masked_count++;
	}
}

/* Is the slot free? If not, leave the mark that makes the guest say EOM, and look again. */
static bool synic_slot_take(struct synic_message_slot *slot)
{
	if (atomic_load_explicit(&slot->type, memory_order_acquire) == 0) {
		return true;
	}
	atomic_fetch_or(&slot->flags, SYNIC_MESSAGE_PENDING);
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&slot->type, memory_order_acquire) == 0;
}

static int synic_message_post(void *arg, uint32_t vp_index, uint32_t sint, const void *payload,
                              uint32_t len_bytes)
{
	struct synic *s = arg;
	struct synic_message_page *page;
	struct synic_message_slot *slot;
	uint64_t simp;
	int err;

	CHECK(sint < SYNIC_SINTS && len_bytes <= sizeof(slot->payload));
	if (vp_index >= s->cfg.vp_count) {
		return -ENXIO;
	}
	simp = atomic_load(&s->vps[vp_index].simp);
	page = synic_page(s, &s->vps[vp_index], simp);
	if (page == NULL) {
		return -ENXIO;
	}
	err = synic_vp_attach(&s->vps[vp_index], sint);
	if (err != 0) {
		return err;
	}
	slot = &page->slots[sint];
	if (!synic_slot_take(slot)) {
		gmem_dirty(s->cfg.mem, SYNIC_PAGE_GPA(simp), GMEM_PAGE_BYTES); /* the mark */
		return -EAGAIN;
	}
	memcpy(slot->payload, payload, len_bytes);
	slot->payload_bytes = (uint8_t)len_bytes;
	slot->sender = 0;
	atomic_store_explicit(&slot->flags, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->type, VMBUS_MESSAGE_TYPE, memory_order_release);
	gmem_dirty(s->cfg.mem, SYNIC_PAGE_GPA(simp), GMEM_PAGE_BYTES);
	synic_raise(s, vp_index, sint);
	return 0;
}

static void synic_event_signal(void *arg, uint32_t vp_index, uint32_t sint, uint32_t flag)
{
	struct synic *s = arg;
	struct synic_event_page *page;
	uint64_t siefp;
	uint64_t bit = 1ull << (flag % 64);

	CHECK(sint < SYNIC_SINTS && flag < SYNIC_FLAGS_PER_SINT);
	if (vp_index >= s->cfg.vp_count) {
		return;
	}
	siefp = atomic_load(&s->vps[vp_index].siefp);
	page = synic_page(s, &s->vps[vp_index], siefp);
	if (page == NULL) {
		return;
	}
	if ((atomic_fetch_or(&page->flags[sint][flag / 64], bit) & bit) == 0) {
		gmem_dirty(s->cfg.mem, SYNIC_PAGE_GPA(siefp), GMEM_PAGE_BYTES);
		synic_raise(s, vp_index, sint);
	}
}

static int synic_doorbell_add(void *arg, uint32_t connection_id, int event_fd)
{
	struct synic *s = arg;

	return kvm_vm_doorbell(s->vm, connection_id, event_fd, true);
}

static void synic_doorbell_del(void *arg, uint32_t connection_id, int event_fd)
{
	struct synic *s = arg;

	if (s->vm == NULL) {
		return; /* detached: the doorbells went with the VM */
	}

	int err = kvm_vm_doorbell(s->vm, connection_id, event_fd, false);

	if (err != 0) {
		log_warn(TAG, "doorbell not removed connection=%u error=%d", connection_id, err);
	}
}

void synic_interrupt_all(struct synic *s, uint32_t sint)
{
	for (uint32_t i = 0; i < s->cfg.vp_count; i++) {
		if (synic_page(s, &s->vps[i], atomic_load(&s->vps[i].siefp)) != NULL) {
			synic_raise(s, i, sint);
		}
	}
}

const struct vmbus_host_ops *synic_vmbus_ops(void)
{
	static const struct vmbus_host_ops ops = {
		.message_post = synic_message_post,
		.event_signal = synic_event_signal,
		.doorbell_add = synic_doorbell_add,
		.doorbell_del = synic_doorbell_del,
	};

	return &ops;
}
