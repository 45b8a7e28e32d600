/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SYNIC_SYNIC_SHM_H
#define HV_SYNIC_SYNIC_SHM_H

/*
 * synic_shm - the SynIC pages that guest, kernel and we write at the same time.
 * Host integers: x86 on x86, asserted here once for all *_shm.h. Source: TLFS 11.10.
 */

#include <stdatomic.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "guest and host are little-endian");

#define SYNIC_SINTS 16u
#define SYNIC_FLAGS_PER_SINT 2048u

/* One slot of the message page; 16 of them. */
struct synic_message_slot {
	/* 0 = empty. Written last (release) when a message is put in; the guest writes 0 back. */
	_Atomic uint32_t type;
	uint8_t payload_bytes;
	/* Bit 0: another message waits, say EOM after clearing type. Set before type is re-read. */
	_Atomic uint8_t flags;
	uint8_t reserved[2];
	uint64_t sender;
	uint8_t payload[240];
};
_Static_assert(sizeof(struct synic_message_slot) == 256, "TLFS: HV_MESSAGE is 256 bytes");

#define SYNIC_MESSAGE_PENDING 1u

struct synic_message_page {
	struct synic_message_slot slots[SYNIC_SINTS];
};

/* The event flags page. A set bit is consumed by the guest with an atomic clear. */
struct synic_event_page {
	_Atomic uint64_t flags[SYNIC_SINTS][SYNIC_FLAGS_PER_SINT / 64];
};
_Static_assert(sizeof(struct synic_event_page) == 4096, "TLFS: one page");

#endif
