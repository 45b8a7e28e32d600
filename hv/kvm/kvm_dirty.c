/* SPDX-License-Identifier: Apache-2.0 */

/*
 * kvm_dirty - memory slots, and which of their pages the guest wrote.
 *
 * The kernel has a bitmap per slot. A fetch copies it and then protects those pages again in
 * pieces, so that KVM's MMU lock is never held for long. The order is what makes it safe: a page is
 * protected before the caller gets to know of it and copies, so that a write after the copy is
 * reported the next time. Rings of pages per VP were tried and left: decision 0110.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"

#define DIRTY_PAGE_BYTES 4096u
/* Pages protected with one call: 64 MiB, some tens of microseconds under the MMU lock. */
#define DIRTY_CLEAR_WORDS 256u

static void dirty_lock(struct kvm_vm *vm)
{
	CHECK(pthread_mutex_lock(&vm->dirty.lock) == 0);
}

static void dirty_unlock(struct kvm_vm *vm)
{
	CHECK(pthread_mutex_unlock(&vm->dirty.lock) == 0);
}

static uint64_t dirty_pages(const struct kvm_slot *s)
{
	return s->len_bytes / DIRTY_PAGE_BYTES;
}

/* ---- slots ---- */

static int kvm_slot_set(struct kvm_vm *vm, uint32_t slot, bool log)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = vm->slots[slot].gpa,
		.memory_size = vm->slots[slot].len_bytes,
		.userspace_addr = (uintptr_t)vm->slots[slot].host,
	};

	return ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0 ? 0 : -errno;
}

int kvm_vm_memory(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t len_bytes, void *host)
{
	int err;

	CHECK(slot < KVM_SLOTS_MAX && len_bytes != 0 && vm->slots[slot].len_bytes == 0);
	vm->slots[slot] = (struct kvm_slot){.gpa = gpa, .len_bytes = len_bytes, .host = host};
	err = kvm_slot_set(vm, slot, false);
	if (err != 0) {
		vm->slots[slot].len_bytes = 0;
	}
	return err;
}

/* ---- the log ---- */

void kvm_dirty_init(struct kvm_vm *vm)
{
	int can = kvm_cap(vm->kvm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {(uint64_t)can &
	                 (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)},
	};

	/* Without it fetching protects everything at once: slower, not wrong. */
	vm->dirty.manual = can != 0 && ioctl(vm->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

void kvm_dirty_fini(struct kvm_vm *vm)
{
	for (uint32_t i = 0; i < KVM_SLOTS_MAX; i++) {
		free(vm->slots[i].bits);
	}
	CHECK(pthread_mutex_destroy(&vm->dirty.lock) == 0);
}

/* Protect again what @count words of the slot's bits from @first on say was written. */
static int dirty_clear(struct kvm_vm *vm, uint32_t slot, size_t first, size_t count)
{
	uint64_t pages = dirty_pages(&vm->slots[slot]);
	uint64_t from = first * 64;
	uint64_t len = count * 64;
	struct kvm_clear_dirty_log clear = {
		.slot = slot,
		.first_page = from,
		.num_pages = (uint32_t)(len < pages - from ? len : pages - from),
		.dirty_bitmap = vm->slots[slot].bits + first,
	};

	return ioctl(vm->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) == 0 ? 0 : -errno;
}

static int dirty_clear_all(struct kvm_vm *vm, uint32_t slot)
{
	const struct kvm_slot *s = &vm->slots[slot];
	size_t at = 0;
	int err = 0;

	while (at < s->words && err == 0) {
		size_t n = 0;

		if (s->bits[at] == 0) {
			at++;
			continue;
		}
		while (n < DIRTY_CLEAR_WORDS && at + n < s->words && s->bits[at + n] != 0) {
			n++;
		}
		err = dirty_clear(vm, slot, at, n);
		at += n;
	}
	return err;
}

/* What was written, into the slot's own bits, clean again. */
static int dirty_log_take(struct kvm_vm *vm, uint32_t slot)
{
	struct kvm_slot *s = &vm->slots[slot];
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = s->bits};

	if (ioctl(vm->vm_fd, KVM_GET_DIRTY_LOG, &log) != 0) {
		return -errno;
	}
	return vm->dirty.manual ? dirty_clear_all(vm, slot) : 0;
}

/* ---- on and off ---- */

static int dirty_slot_start(struct kvm_vm *vm, uint32_t slot)
{
	struct kvm_slot *s = &vm->slots[slot];
	int err;

	if (s->bits == NULL) {
		/* The kernel writes whole longs. */
		s->words = (size_t)((dirty_pages(s) + 63) / 64);
		s->bits = gw_calloc(s->words, sizeof(*s->bits));
		if (s->bits == NULL) {
			return -ENOMEM;
		}
	}
	err = kvm_slot_set(vm, slot, true);
	if (err == 0) {
		/* A manual log starts with everything marked and nothing protected. */
		err = dirty_log_take(vm, slot);
	}
	memset(s->bits, 0, s->words * sizeof(*s->bits));
	return err;
}

static void dirty_slots_stop(struct kvm_vm *vm)
{
	for (uint32_t i = 0; i < KVM_SLOTS_MAX; i++) {
		if (vm->slots[i].len_bytes != 0) {
			(void)kvm_slot_set(vm, i, false); /* slower writes at worst */
		}
	}
}

int kvm_vm_dirty_start(struct kvm_vm *vm)
{
	int err = 0;

	dirty_lock(vm);
	if (vm->dirty.on) {
		err = -EALREADY;
		goto unlock;
	}
	for (uint32_t i = 0; i < KVM_SLOTS_MAX && err == 0; i++) {
		err = vm->slots[i].len_bytes != 0 ? dirty_slot_start(vm, i) : 0;
	}
	vm->dirty.on = err == 0;
	if (err != 0) {
		dirty_slots_stop(vm);
	}
unlock:
	dirty_unlock(vm);
	return err;
}

int kvm_vm_dirty_fetch(struct kvm_vm *vm, uint32_t slot, uint64_t *bits, size_t words)
{
	struct kvm_slot *s = &vm->slots[slot];
	int err = -EINVAL;

	CHECK(slot < KVM_SLOTS_MAX);
	dirty_lock(vm);
	if (vm->dirty.on && s->bits != NULL) {
		CHECK(words >= s->words);
		err = dirty_log_take(vm, slot);
		/* Also after an error: what was found is in nobody else's hands. */
		for (size_t w = 0; w < s->words; w++) {
			bits[w] |= s->bits[w];
		}
		memset(s->bits, 0, s->words * sizeof(*s->bits));
	}
	dirty_unlock(vm);
	return err;
}

void kvm_vm_dirty_stop(struct kvm_vm *vm)
{
	dirty_lock(vm);
	if (vm->dirty.on) {
		vm->dirty.on = false;
		dirty_slots_stop(vm);
	}
	dirty_unlock(vm);
}
