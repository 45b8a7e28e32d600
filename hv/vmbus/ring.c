/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vmbus/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"
#include "hv/vmbus/vmbus_wire.h"

#define VMBUS_RING_PAGE 4096u
#define VMBUS_RING_WORD 8u

int vmbus_ring_init(struct vmbus_ring *ring, struct gmem *mem, const uint64_t *pfns,
                    uint32_t page_count)
{
	uint32_t data_pages = page_count - 1;

	*ring = (struct vmbus_ring){
		.mem = mem,
		.pfns = pfns,
		.ctrl = gmem_range(mem, pfns[0] * VMBUS_RING_PAGE, VMBUS_RING_PAGE),
		.flat = gmem_range(mem, pfns[1] * VMBUS_RING_PAGE, VMBUS_RING_PAGE),
		.size_bytes = data_pages * VMBUS_RING_PAGE,
	};
	if (ring->ctrl == NULL || ring->flat == NULL) {
		return -EFAULT;
	}

	uint8_t **pages = gw_calloc(data_pages, sizeof(*pages));
	bool flat = true;

	if (pages == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < data_pages; i++) {
		pages[i] = gmem_range(mem, pfns[i + 1] * VMBUS_RING_PAGE, VMBUS_RING_PAGE);
		if (pages[i] == NULL) {
			free(pages);
			return -EFAULT;
		}
		flat = flat && pages[i] == ring->flat + (size_t)i * VMBUS_RING_PAGE;
	}
	if (flat) {
		free(pages);
	} else {
		ring->flat = NULL;
		ring->pages = pages;
	}
	return 0;
}

void vmbus_ring_fini(struct vmbus_ring *ring)
{
	free(ring->pages);
	*ring = (struct vmbus_ring){0};
}

/* @from - @to around the ring; both are indices. */
static uint32_t vmbus_ring_distance(const struct vmbus_ring *ring, uint32_t from, uint32_t to)
{
	return to >= from ? to - from : ring->size_bytes - (from - to);
}

/* @at + @len_bytes around the ring, @len_bytes <= size. */
static uint32_t vmbus_ring_advance(const struct vmbus_ring *ring, uint32_t at, uint32_t len_bytes)
{
	uint32_t left = ring->size_bytes - at;

	return len_bytes < left ? at + len_bytes : len_bytes - left;
}

static bool vmbus_ring_index_ok(const struct vmbus_ring *ring, uint32_t index)
{
	return index < ring->size_bytes && index % VMBUS_RING_WORD == 0;
}

/* The longest piece of [at, at+len) that is contiguous here. */
static uint8_t *vmbus_ring_piece(const struct vmbus_ring *ring, uint32_t at, uint32_t len_bytes,
                                 uint32_t *piece_bytes)
{
	uint32_t left;
	uint8_t *p;

	if (ring->flat != NULL) {
		p = ring->flat + at;
		left = ring->size_bytes - at;
	} else {
		p = ring->pages[at / VMBUS_RING_PAGE] + at % VMBUS_RING_PAGE;
		left = VMBUS_RING_PAGE - at % VMBUS_RING_PAGE;
	}
	*piece_bytes = len_bytes < left ? len_bytes : left;
	return p;
}

static void vmbus_ring_read(const struct vmbus_ring *ring, uint32_t at, void *buf,
                            uint32_t len_bytes)
{
	uint8_t *to = buf;

	while (len_bytes != 0) {
		uint32_t n;
		const uint8_t *from = vmbus_ring_piece(ring, at, len_bytes, &n);

		memcpy(to, from, n);
		to += n;
		len_bytes -= n;
		at = vmbus_ring_advance(ring, at, n);
	}
	/* The guest writes meanwhile: the compiler must not read it a second time instead of the
	 * copy. */
	atomic_signal_fence(memory_order_seq_cst);
}

/* Returns the index behind what was written. */
static uint32_t vmbus_ring_write(const struct vmbus_ring *ring, uint32_t at, const void *buf,
                                 uint32_t len_bytes)
{
	const uint8_t *from = buf;

	while (len_bytes != 0) {
		uint32_t n;
		uint8_t *to = vmbus_ring_piece(ring, at, len_bytes, &n);

		memcpy(to, from, n);
		from += n;
		len_bytes -= n;
		at = vmbus_ring_advance(ring, at, n);
	}
	return at;
}

static void vmbus_ring_dirty_ctrl(const struct vmbus_ring *ring)
{
	gmem_dirty(ring->mem, ring->pfns[0] * VMBUS_RING_PAGE, sizeof(struct vmbus_ring_shm));
}

static void vmbus_ring_dirty_data(const struct vmbus_ring *ring, uint32_t at, uint32_t len_bytes)
{
	while (len_bytes != 0) {
		uint32_t left = VMBUS_RING_PAGE - at % VMBUS_RING_PAGE;
		uint32_t n = len_bytes < left ? len_bytes : left;

		gmem_dirty(ring->mem,
		           ring->pfns[1 + at / VMBUS_RING_PAGE] * VMBUS_RING_PAGE +
		                   at % VMBUS_RING_PAGE,
		           n);
		len_bytes -= n;
		at = vmbus_ring_advance(ring, at, n);
	}
}

/* ---- guest to host ---- */

int vmbus_ring_rx_start(struct vmbus_ring_rx *rx)
{
	struct vmbus_ring_shm *ctrl = rx->ring.ctrl;

	rx->in = atomic_load_explicit(&ctrl->in, memory_order_acquire);
	rx->out = atomic_load_explicit(&ctrl->out, memory_order_relaxed);
	rx->shown = rx->out;
	rx->next_bytes = 0;
	rx->armed = atomic_load_explicit(&ctrl->mask, memory_order_relaxed) == 0;
	return vmbus_ring_index_ok(&rx->ring, rx->in) && vmbus_ring_index_ok(&rx->ring, rx->out)
	               ? 0
	               : -EBADMSG;
}

/* Bytes between our index and the guest's, which is read again only if nothing is left of what
 * was seen before. 0 = nothing there. */
static int vmbus_ring_rx_available(struct vmbus_ring_rx *rx, uint32_t *available)
{
	*available = vmbus_ring_distance(&rx->ring, rx->out, rx->in);
	if (*available != 0) {
		return 0;
	}

	uint32_t in = atomic_load_explicit(&rx->ring.ctrl->in, memory_order_acquire);

	if (!vmbus_ring_index_ok(&rx->ring, in)) {
		return -EBADMSG;
	}
	rx->in = in;
	*available = vmbus_ring_distance(&rx->ring, rx->out, in);
	return 0;
}

int vmbus_ring_rx_next(struct vmbus_ring_rx *rx, void *buf, uint32_t room_bytes,
                       struct vmbus_packet *out)
{
	const uint32_t trailer = sizeof(struct vmbus_trailer_wire);
	struct vmbus_packet_wire w;
	uint32_t available;
	int err = vmbus_ring_rx_available(rx, &available);

	if (err != 0) {
		return err;
	}
	if (available == 0) {
		return -EAGAIN;
	}
	if (available < sizeof(w) + trailer) {
		return -EBADMSG;
	}
	vmbus_ring_read(&rx->ring, rx->out, &w, sizeof(w));

	uint32_t header = le16_get(w.header_words) * VMBUS_RING_WORD;
	uint32_t total = le16_get(w.total_words) * VMBUS_RING_WORD;

	if (header < sizeof(w) || total < header || total > available - trailer ||
	    total > VMBUS_PACKET_BYTES_MAX) {
		return -EBADMSG;
	}
	if (total > room_bytes) {
		return -EMSGSIZE;
	}
	/* All again, the descriptor too: one copy instead of two, and nobody reads that part. */
	vmbus_ring_read(&rx->ring, rx->out, buf, total);
	rx->next_bytes = total + trailer;
	*out = (struct vmbus_packet){
		.type = le16_get(w.type),
		.flags = le16_get(w.flags),
		.transaction_id = le64_get(w.transaction_id),
		.header = (const uint8_t *)buf + sizeof(w),
		.header_bytes = header - (uint32_t)sizeof(w),
		.payload = (const uint8_t *)buf + header,
		.payload_bytes = total - header,
	};
	return 0;
}

void vmbus_ring_rx_done(struct vmbus_ring_rx *rx)
{
	rx->out = vmbus_ring_advance(&rx->ring, rx->out, rx->next_bytes);
	rx->next_bytes = 0;
}

uint32_t vmbus_ring_rx_unshown(const struct vmbus_ring_rx *rx)
{
	return vmbus_ring_distance(&rx->ring, rx->shown, rx->out);
}

bool vmbus_ring_rx_show(struct vmbus_ring_rx *rx)
{
	struct vmbus_ring_shm *ctrl = rx->ring.ctrl;
	uint32_t freed = vmbus_ring_rx_unshown(rx);

	if (freed == 0) {
		return false;
	}
	/* Store, then load: see vmbus_shm.h, full ring. */
	atomic_store_explicit(&ctrl->out, rx->out, memory_order_seq_cst);
	rx->shown = rx->out;
	vmbus_ring_dirty_ctrl(&rx->ring);

	uint32_t pending = atomic_load_explicit(&ctrl->pending, memory_order_seq_cst);

	if (pending == 0) {
		return false;
	}

	uint32_t in = atomic_load_explicit(&ctrl->in, memory_order_relaxed);

	if (!vmbus_ring_index_ok(&rx->ring, in)) {
		return false; /* the next read fails the channel */
	}

	/* Only when this made the room: a producer that had it before did not sleep, one that has
	 * not enough yet would wake up in vain. */
	uint32_t room = rx->ring.size_bytes - vmbus_ring_distance(&rx->ring, rx->shown, in);

	return room > pending && (room <= freed || room - freed <= pending);
}

bool vmbus_ring_rx_arm(struct vmbus_ring_rx *rx)
{
	struct vmbus_ring_shm *ctrl = rx->ring.ctrl;

	/* Store, then load: see vmbus_shm.h, empty ring. */
	atomic_store_explicit(&ctrl->mask, 0, memory_order_seq_cst);
	rx->armed = true;
	if (atomic_load_explicit(&ctrl->in, memory_order_seq_cst) == rx->out) {
		vmbus_ring_dirty_ctrl(&rx->ring);
		return true;
	}
	vmbus_ring_rx_disarm(rx);
	return false;
}

void vmbus_ring_rx_disarm(struct vmbus_ring_rx *rx)
{
	if (rx->armed) {
		atomic_store_explicit(&rx->ring.ctrl->mask, 1, memory_order_relaxed);
		rx->armed = false;
		vmbus_ring_dirty_ctrl(&rx->ring);
	}
}

/* ---- host to guest ---- */

int vmbus_ring_tx_start(struct vmbus_ring_tx *tx)
{
	struct vmbus_ring_shm *ctrl = tx->ring.ctrl;

	tx->in = atomic_load_explicit(&ctrl->in, memory_order_relaxed);
	tx->out = atomic_load_explicit(&ctrl->out, memory_order_acquire);
	tx->shown = tx->in;
	tx->due = false;
	tx->waits_bytes = atomic_load_explicit(&ctrl->pending, memory_order_relaxed);
	if (!vmbus_ring_index_ok(&tx->ring, tx->in) || !vmbus_ring_index_ok(&tx->ring, tx->out)) {
		return -EBADMSG;
	}
	(void)atomic_fetch_or_explicit(&ctrl->features, VMBUS_RING_PENDING, memory_order_relaxed);
	vmbus_ring_dirty_ctrl(&tx->ring);
	return 0;
}

/* Room as of the guest's index last read. in == out is empty, so one byte of it stays unused. */
static uint32_t vmbus_ring_tx_room(const struct vmbus_ring_tx *tx)
{
	return tx->ring.size_bytes - vmbus_ring_distance(&tx->ring, tx->out, tx->in);
}

static int vmbus_ring_tx_reload(struct vmbus_ring_tx *tx)
{
	uint32_t out = atomic_load_explicit(&tx->ring.ctrl->out, memory_order_seq_cst);

	if (!vmbus_ring_index_ok(&tx->ring, out)) {
		return -EBADMSG;
	}
	tx->out = out;
	return 0;
}

/* Returns true if the guest must be signalled. */
static bool vmbus_ring_tx_publish(struct vmbus_ring_tx *tx)
{
	struct vmbus_ring_shm *ctrl = tx->ring.ctrl;
	uint32_t old = tx->shown;

	if (tx->in == old) {
		return false;
	}
	vmbus_ring_dirty_data(&tx->ring, old, vmbus_ring_distance(&tx->ring, old, tx->in));
	/* Store, then load: see vmbus_shm.h, empty ring. */
	atomic_store_explicit(&ctrl->in, tx->in, memory_order_seq_cst);
	tx->shown = tx->in;
	vmbus_ring_dirty_ctrl(&tx->ring);
	if (atomic_load_explicit(&ctrl->mask, memory_order_seq_cst) != 0) {
		return false;
	}
	/* A guest that is not done with what it had will find this without being told. */
	return atomic_load_explicit(&ctrl->out, memory_order_seq_cst) == old;
}

void vmbus_ring_tx_wait_end(struct vmbus_ring_tx *tx)
{
	if (tx->waits_bytes != 0) {
		atomic_store_explicit(&tx->ring.ctrl->pending, 0, memory_order_relaxed);
		tx->waits_bytes = 0;
		vmbus_ring_dirty_ctrl(&tx->ring);
	}
}

/* Find room for more than @need_bytes, or tell the guest that we wait for it. */
static int vmbus_ring_tx_room_for(struct vmbus_ring_tx *tx, uint32_t need_bytes)
{
	struct vmbus_ring_shm *ctrl = tx->ring.ctrl;

	if (vmbus_ring_tx_room(tx) <= need_bytes) {
		int err = vmbus_ring_tx_reload(tx);

		if (err != 0) {
			return err;
		}
	}
	if (vmbus_ring_tx_room(tx) <= need_bytes) {
		/* The guest must count with the same index as we do, or it finds that there was
		 * room all the time and does not signal. */
		tx->due = vmbus_ring_tx_publish(tx) || tx->due;
		if (tx->waits_bytes < need_bytes) {
			tx->waits_bytes = need_bytes; /* several may wait: for the largest */
		}
		/* Store, then load: see vmbus_shm.h, full ring. */
		atomic_store_explicit(&ctrl->pending, tx->waits_bytes, memory_order_seq_cst);
		vmbus_ring_dirty_ctrl(&tx->ring);

		int err = vmbus_ring_tx_reload(tx);

		if (err != 0) {
			return err;
		}
		if (vmbus_ring_tx_room(tx) <= need_bytes) {
			return -EAGAIN;
		}
	}
	if (need_bytes >= tx->waits_bytes) {
		vmbus_ring_tx_wait_end(tx);
	}
	return 0;
}

int vmbus_ring_tx_put(struct vmbus_ring_tx *tx, const struct vmbus_ring_packet *pkt)
{
	static const uint8_t zeros[VMBUS_RING_WORD];
	uint64_t bytes = sizeof(struct vmbus_packet_wire) + pkt->header_bytes;

	for (uint32_t i = 0; i < pkt->payload_count; i++) {
		bytes += pkt->payload[i].iov_len;
	}

	uint64_t padded = (bytes + VMBUS_RING_WORD - 1) / VMBUS_RING_WORD * VMBUS_RING_WORD;
	uint32_t start = tx->in;

	if (pkt->header_bytes % VMBUS_RING_WORD != 0 || padded > VMBUS_PACKET_BYTES_MAX ||
	    padded + sizeof(struct vmbus_trailer_wire) >= tx->ring.size_bytes) {
		return -EMSGSIZE;
	}

	int err = vmbus_ring_tx_room_for(tx, (uint32_t)padded + sizeof(struct vmbus_trailer_wire));

	if (err != 0) {
		return err;
	}

	struct vmbus_packet_wire w = {
		.type = le16_make(pkt->type),
		.header_words =
			le16_make((uint16_t)((sizeof(w) + pkt->header_bytes) / VMBUS_RING_WORD)),
		.total_words = le16_make((uint16_t)(padded / VMBUS_RING_WORD)),
		.flags = le16_make(pkt->flags),
		.transaction_id = le64_make(pkt->transaction_id),
	};
	struct vmbus_trailer_wire trailer = {.start = le32_make(start)};
	uint32_t at = vmbus_ring_write(&tx->ring, start, &w, sizeof(w));

	at = vmbus_ring_write(&tx->ring, at, pkt->header, pkt->header_bytes);
	for (uint32_t i = 0; i < pkt->payload_count; i++) {
		at = vmbus_ring_write(&tx->ring, at, pkt->payload[i].iov_base,
		                      (uint32_t)pkt->payload[i].iov_len);
	}
	at = vmbus_ring_write(&tx->ring, at, zeros, (uint32_t)(padded - bytes));
	tx->in = vmbus_ring_write(&tx->ring, at, &trailer, sizeof(trailer));
	return 0;
}

bool vmbus_ring_tx_show(struct vmbus_ring_tx *tx)
{
	bool due = vmbus_ring_tx_publish(tx);

	due = due || tx->due;
	tx->due = false;
	return due;
}
