/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_VMBUS_GUEST_INT_H
#define TESTS_LIB_VMBUS_GUEST_INT_H

/* vmbus_guest_int - what the two files of the simulated guest share. */

#include "base/list.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/vmbus_guest.h"

#define GUEST_VPS_MAX 64u
#define GUEST_FLAGS 2048u
#define GUEST_PAGE 4096u

struct guest_message {
	uint32_t len_bytes;
	uint8_t bytes[240];
};

/* One message slot and the event flags of one VP. */
struct guest_vp {
	bool full;
	struct guest_message slot;
	uint64_t flags[GUEST_FLAGS / 64];
	uint64_t interrupts;
};

struct guest {
	struct guest_cfg cfg;
	struct gmem *mem; /* owned, as the next two */
	struct uring *ring;
	struct vmbus *bus;
	struct vsp_env env;
	uint8_t *used; /* owned; one per page of the high slot */
	uint64_t page_first;
	uint32_t pages;
	uint32_t page_next; /* where to look for a free page */
	struct guest_vp vps[GUEST_VPS_MAX];
	int doorbells[GUEST_FLAGS];  /* borrowed eventfds, by connection id; -1 = none */
	struct guest_message *inbox; /* owned */
	uint32_t inbox_count;
	uint32_t inbox_room;
	struct guest_offer offers[GUEST_OFFERS_MAX];
	uint32_t offer_count;
	uint32_t post_connection;
	uint32_t gpadl_next;
	bool hold;
	uint8_t *shadow; /* owned; cfg.watch: memory as it was before the host's turn */
	uint64_t turns;
	struct list chans;
};

/* Abort the test: the simulated guest met what must not be. */
_Noreturn void guest_die(const char *what, int err);
/* Post, waiting while the host has no room. */
void guest_post_wait(struct guest *g, const void *msg, uint32_t len_bytes);

#endif
