/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_SHM_H
#define HV_VMBUS_VMBUS_SHM_H

/*
 * vmbus_shm - the control page of a ring, which guest and host read and write at the same time.
 *
 * Host integers: both sides run on little-endian machines (asserted below). The order that the
 * protocol needs, written P for the producer and C for the consumer:
 *
 *  - P writes data, then stores @in (release). C loads @in (acquire), then reads data.
 *  - C reads data, then stores @out (release). P loads @out (acquire), then overwrites.
 *  - No wake-up is lost on an empty ring: P stores @in, then loads @mask; C clears @mask, then
 *    loads @in again. Both are store-then-load pairs, so all four are sequentially consistent.
 *    P signals if it found @mask clear and C had consumed everything older.
 *  - None on a full ring: P stores @pending, then loads @out again; C stores @out, then loads
 *    @pending. Again all four sequentially consistent. C signals if its store made room for
 *    more than @pending where there was none before.
 *
 * Plain stores and loads on the guest's side with full barriers between them mean the same.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rings hold little-endian integers in place"
#endif

#define VMBUS_RING_PENDING 1u /* features: @pending is honoured */

struct vmbus_ring_shm {
	_Atomic uint32_t in;       /*  0: next byte P writes; by P */
	_Atomic uint32_t out;      /*  4: next byte C reads; by C */
	_Atomic uint32_t mask;     /*  8: 1 = C needs no signal for new data; by C */
	_Atomic uint32_t pending;  /* 12: bytes P waits for, 0 = none; by P */
	uint32_t reserved[12];     /* 16 */
	_Atomic uint32_t features; /* 64: VMBUS_RING_*; by both, before the ring is used */
				   /* the rest of the page: statistics of newer guests; not ours */
};

_Static_assert(sizeof(_Atomic uint32_t) == 4, "an index is four bytes");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "an index needs no lock");
_Static_assert(offsetof(struct vmbus_ring_shm, features) == 64, "ring control page");

#endif
