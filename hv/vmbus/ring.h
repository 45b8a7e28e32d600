/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_RING_H
#define HV_VMBUS_RING_H

/*
 * ring - the two rings of a channel, as the host uses them: pure code over guest memory.
 *
 * A ring is one control page (vmbus_shm.h) and data pages that may lie anywhere in guest memory.
 * If they are contiguous (most are) a packet is copied in at most two pieces, else page by page;
 * mapping them a second time would save the second piece and cost a mapping per page, and huge
 * pages cannot be mapped so (docs/decisions/0060).
 *
 * The indices in the control page belong to both sides; our own are kept here, and the guest's
 * are checked each time they are read. What was copied is what is checked and used.
 * Threads: the channel's. The other side runs at the same time.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"

struct gmem;
struct vmbus_packet;
struct vmbus_ring_shm;

/* Value types: embed. */
struct vmbus_ring {
	struct gmem *mem;            /* borrowed */
	const uint64_t *pfns;        /* borrowed from the GPADL; [0] is the control page */
	struct vmbus_ring_shm *ctrl; /* borrowed: guest memory, as the next two */
	uint8_t *flat;               /* the data, if contiguous; else NULL */
	uint8_t **pages;             /* owned; the data pages, if not contiguous */
	uint32_t size_bytes;         /* of the data; multiple of 4096 */
};

/* Guest to host. */
struct vmbus_ring_rx {
	struct vmbus_ring ring;
	uint32_t in;         /* the guest's, as last read */
	uint32_t out;        /* ours */
	uint32_t shown;      /* ours, as the guest sees it */
	uint32_t next_bytes; /* what vmbus_ring_rx_done() consumes */
	bool armed;          /* our mask is clear: the guest will signal */
};

/* Host to guest. */
struct vmbus_ring_tx {
	struct vmbus_ring ring;
	uint32_t in;          /* ours */
	uint32_t shown;       /* ours, as the guest sees it */
	uint32_t out;         /* the guest's, as last read */
	uint32_t waits_bytes; /* our pending; 0 = nothing waits for room */
	bool due;             /* the guest is to be signalled at the next show */
};

/* A packet to send; all borrowed for the call. */
struct vmbus_ring_packet {
	uint16_t type;
	uint16_t flags;
	uint64_t transaction_id;
	const void *header;
	uint32_t header_bytes; /* multiple of 8 */
	const struct iovec *payload;
	uint32_t payload_count;
};

/*
 * vmbus_ring_init() - a ring over @pfns[page_count] (each RAM; [0] the control page; >= 2).
 * Returns 0; -ENOMEM; -EFAULT a page is no RAM. After a failure there is nothing to fini.
 */
MUST_USE int vmbus_ring_init(struct vmbus_ring *ring, struct gmem *mem, const uint64_t *pfns,
                             uint32_t page_count);
void vmbus_ring_fini(struct vmbus_ring *ring);

/* vmbus_ring_rx_start() - take over the indices that are in the control page.
 * Returns 0; -EBADMSG they are impossible. */
MUST_USE int vmbus_ring_rx_start(struct vmbus_ring_rx *rx);

/*
 * vmbus_ring_rx_next() - copy the packet at our index; see vmbus_recv().
 * Returns 0; -EAGAIN none; -EMSGSIZE; -EBADMSG.
 */
MUST_USE int vmbus_ring_rx_next(struct vmbus_ring_rx *rx, void *buf, uint32_t room_bytes,
                                struct vmbus_packet *out);
/* vmbus_ring_rx_done() - step over it; the guest does not see that yet. */
void vmbus_ring_rx_done(struct vmbus_ring_rx *rx);
/* vmbus_ring_rx_unshown() - bytes consumed that the guest does not know of. */
uint32_t vmbus_ring_rx_unshown(const struct vmbus_ring_rx *rx);
/* vmbus_ring_rx_show() - publish our index. Returns true if a guest that waits for space must be
 * signalled. */
MUST_USE bool vmbus_ring_rx_show(struct vmbus_ring_rx *rx);
/* vmbus_ring_rx_arm() - ask for a signal; everything is shown. Returns true: the ring is empty and
 * the signal will come; false: something is there (then nothing is armed). */
MUST_USE bool vmbus_ring_rx_arm(struct vmbus_ring_rx *rx);
/* vmbus_ring_rx_disarm() - we are looking: no signals for a while. */
void vmbus_ring_rx_disarm(struct vmbus_ring_rx *rx);

MUST_USE int vmbus_ring_tx_start(struct vmbus_ring_tx *tx);

/*
 * vmbus_ring_tx_put() - append a packet; the guest does not see it yet.
 * Returns 0; -EAGAIN no room, and the guest was told how much we wait for (show what was put);
 * -EMSGSIZE it never fits; -EBADMSG the guest's index is impossible.
 */
MUST_USE int vmbus_ring_tx_put(struct vmbus_ring_tx *tx, const struct vmbus_ring_packet *pkt);
/* vmbus_ring_tx_wait_end() - whoever waits for room tries again now: take pending back. */
void vmbus_ring_tx_wait_end(struct vmbus_ring_tx *tx);
/* vmbus_ring_tx_show() - publish. Returns true if the guest must be signalled. */
MUST_USE bool vmbus_ring_tx_show(struct vmbus_ring_tx *tx);

#endif
