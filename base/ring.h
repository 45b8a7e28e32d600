/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_RING_H
#define BASE_RING_H

/*
 * ring - a bounded queue of 64-bit values (indices, pointers) from one thread to another.
 *
 * Exactly one thread puts and exactly one takes; they need no lock. The slots are the caller's.
 * What the producer wrote before ring_put() is visible to the consumer after ring_take(). Nobody
 * is woken: use uring_wake(), loop_post() or an eventfd beside it.
 *
 * head and tail count puts and takes modulo 2^32; their difference is the fill, so all slots are
 * used and full differs from empty. Each side keeps a copy of the other's counter and looks again
 * only when the copy says full or empty: the two sides share no cache line most of the time.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/check.h"

#define RING_LINE 64 /* bytes of a cache line */

/* Embed it. */
struct ring {
	_Alignas(RING_LINE) _Atomic uint32_t head; /* producer writes */
	uint32_t tail_seen;                        /* producer's */
	_Alignas(RING_LINE) _Atomic uint32_t tail; /* consumer writes */
	uint32_t head_seen;                        /* consumer's */
	_Alignas(RING_LINE) uint64_t *slots;       /* borrowed: [mask + 1] */
	uint32_t mask;
};

/* ring_init() - empty. @count: of @slots, a power of two, 1..2^31. Before the threads start. */
static inline void ring_init(struct ring *r, uint64_t *slots, uint32_t count)
{
	CHECK(count != 0 && (count & (count - 1)) == 0);
	atomic_init(&r->head, 0);
	atomic_init(&r->tail, 0);
	r->tail_seen = 0;
	r->head_seen = 0;
	r->slots = slots;
	r->mask = count - 1;
}

/* ring_put() - append. Returns 0; -EAGAIN full. Context: the producer. */
MUST_USE static inline int ring_put(struct ring *r, uint64_t value)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (head - r->tail_seen > r->mask) {
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
		if (head - r->tail_seen > r->mask) {
			return -EAGAIN;
		}
	}
	r->slots[head & r->mask] = value;
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	return 0;
}

/* ring_take() - remove the oldest. Returns 0; -EAGAIN empty. Context: the consumer. */
MUST_USE static inline int ring_take(struct ring *r, uint64_t *value)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (tail == r->head_seen) {
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
		if (tail == r->head_seen) {
			return -EAGAIN;
		}
	}
	*value = r->slots[tail & r->mask];
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return 0;
}

/* ring_fill() - how many are queued; out of date at once for the other side. Either side. */
static inline uint32_t ring_fill(const struct ring *r)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);

	return atomic_load_explicit(&r->head, memory_order_acquire) - tail;
}

/* Pointers as values. */
MUST_USE static inline int ring_put_ptr(struct ring *r, void *ptr)
{
	return ring_put(r, (uintptr_t)ptr);
}

MUST_USE static inline int ring_take_ptr(struct ring *r, void **ptr)
{
	uint64_t value;
	int err = ring_take(r, &value);

	if (err == 0) {
		*ptr = (void *)(uintptr_t)value;
	}
	return err;
}

#endif
