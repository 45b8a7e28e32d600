/* SPDX-License-Identifier: Apache-2.0 */

/*
 * netvsp_rx - frames from the tap to the guest.
 *
 * A poll says that a queue has frames; then they are read one by one until there are none, the
 * queue's turn is over, or the guest has no room: then the queue is left alone until the guest
 * returns slots or reads its ring, and frames wait (and drop) in the tap. Each frame's first bytes
 * come into private memory, where it is judged; the rest goes straight into the slot behind where
 * they will be. Nobody but the tap's own filter keeps that rest from a frame that is then dropped,
 * so the filter is set (netvsp_tap_update()) before anything is read.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#include "base/check.h"
#include "hv/vsp/netvsp/netvsp_int.h"

/* ---- from us to the guest's ring ---- */

int netvsp_transfer(struct netvsp_channel *ch, uint32_t channel_type,
                    const struct netvsp_batch *batch)
{
	struct netvsp *n = ch->n;
	struct {
		struct netvsp_transfer_wire w;
		struct netvsp_transfer_range_wire ranges[NETVSP_BATCH_MAX];
	} header;
	struct netvsp_message m = {
		.type = le32_make(NETVSP_SEND_RNDIS_PACKET),
		.u.rndis = {.channel_type = le32_make(channel_type),
	                    .section = le32_make(NETVSP_NO_SECTION)},
	};
	const struct iovec payload = {.iov_base = &m, .iov_len = sizeof(m)};
	uint32_t bytes = (uint32_t)(sizeof(header.w) + batch->count * sizeof(header.ranges[0]));
	int err;

	header.w = (struct netvsp_transfer_wire){
		.buffer_id = le16_make(n->recv.id),
		.count = le32_make(batch->count),
	};
	for (uint32_t i = 0; i < batch->count; i++) {
		header.ranges[i] = (struct netvsp_transfer_range_wire){
			.byte_count = le32_make(batch->bytes[i]),
			.byte_offset = le32_make(batch->slot[i] * n->recv.slot_bytes),
		};
	}
	/* Named by its first slot; 0 would mean unsolicited. */
	err = vmbus_send(ch->chan, VMBUS_PACKET_TRANSFER_PAGES, VMBUS_PACKET_WANTS_COMPLETION,
	                 batch->slot[0] + 1ull, &header, bytes, &payload, 1);
	if (err == 0) {
		slots_give(&n->recv.slots, ch->index, batch->slot, batch->count);
	}
	return err;
}

bool netvsp_batch_flush(struct netvsp_channel *ch)
{
	if (ch->batch.count == 0) {
		return true;
	}

	int err = netvsp_transfer(ch, NETVSP_CHANNEL_DATA, &ch->batch);

	if (err == -EAGAIN) {
		return false;
	}
	if (err != 0) { /* the channel is about to close, or its ring is too small for this */
		for (uint32_t i = 0; i < ch->batch.count; i++) {
			slots_put(&ch->n->recv.slots, ch->batch.slot[i]);
		}
		ch->n->stats.rx_dropped += ch->batch.count;
	}
	ch->batch.count = 0;
	return true;
}

/* ---- slots to read into ---- */

static uint32_t netvsp_slot_room(const struct netvsp *n)
{
	return n->recv.slot_bytes - RNDIS_RX_ROOM;
}

/* How many slots the next frame may need. */
static uint32_t netvsp_spares_want(const struct netvsp *n)
{
	uint32_t want = 1;

	if (netvsp_coalesces(n)) {
		want += (UINT16_MAX + NETFRAME_ETHER_BYTES + NETFRAME_VLAN_BYTES) /
		        netvsp_slot_room(n);
		want = want < NETVSP_SPARES_MAX ? want : NETVSP_SPARES_MAX;
	}
	return want;
}

/* Are there slots for a frame, beside what is kept for control messages? */
static bool netvsp_rx_has_room(const struct netvsp_queue *q)
{
	return q->spare_count + q->n->recv.slots.free_count >=
	       netvsp_spares_want(q->n) + NETVSP_CONTROL_SLOTS;
}

static void netvsp_spares_fill(struct netvsp_queue *q)
{
	struct netvsp *n = q->n;
	uint32_t want = netvsp_spares_want(n);

	while (q->spare_count < want) {
		struct netvsp_spare *spare = &q->spares[q->spare_count];
		int pieces;

		spare->slot = slots_take(&n->recv.slots);
		CHECK(spare->slot != SLOTS_NONE); /* netvsp_rx_has_room() */
		pieces = vmbus_gpadl_iov(n->recv.gpadl,
		                         (uint64_t)spare->slot * n->recv.slot_bytes + RNDIS_RX_ROOM,
		                         netvsp_slot_room(n), spare->iov, NETVSP_SPARE_PIECES_MAX);
		CHECK(pieces > 0); /* the slots are inside of the buffer, by construction */
		spare->pieces = (uint32_t)pieces;
		q->spare_count++;
	}
}

/* The first @used spares are the guest's now. */
static void netvsp_spares_use(struct netvsp_queue *q, uint32_t used)
{
	q->spare_count -= used;
	memmove(&q->spares[0], &q->spares[used], q->spare_count * sizeof(q->spares[0]));
}

static void netvsp_spares_drop(struct netvsp_queue *q)
{
	for (uint32_t i = 0; i < q->spare_count; i++) {
		slots_put(&q->n->recv.slots, q->spares[i].slot);
	}
	q->spare_count = 0;
}

/* vnet header, private head, then the spares: but of the first not what the head covers. */
static uint32_t netvsp_rx_iov(struct netvsp_queue *q)
{
	uint32_t count = 2;
	size_t skip = NETVSP_RX_HEAD;

	q->iov[0] = (struct iovec){.iov_base = &q->vnet, .iov_len = sizeof(q->vnet)};
	q->iov[1] = (struct iovec){.iov_base = q->head, .iov_len = sizeof(q->head)};
	for (uint32_t i = 0; i < q->spare_count; i++) {
		for (uint32_t p = 0; p < q->spares[i].pieces; p++) {
			struct iovec v = q->spares[i].iov[p];
			size_t cut = skip < v.iov_len ? skip : v.iov_len;

			skip -= cut;
			if (v.iov_len > cut) {
				q->iov[count++] = (struct iovec){
					.iov_base = (uint8_t *)v.iov_base + cut,
					.iov_len = v.iov_len - cut,
				};
			}
		}
	}
	return count;
}

/* Returns bytes; -errno. */
static ssize_t netvsp_readv(int fd, const struct iovec *iov, uint32_t count)
{
	ssize_t ret;

	do {
		ret = readv(fd, iov, (int)count);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

/* ---- judging a frame ---- */

struct netvsp_rx_frame {
	uint32_t bytes; /* as read, without the vnet header */
	uint32_t head_bytes;
	uint32_t skip; /* bytes in front that fell away with a VLAN tag */
	bool large;
	struct rndis_rx rx;
};

static bool netvsp_rx_wanted(const struct netvsp *n, const uint8_t *mac)
{
	static const uint8_t broadcast[NETFRAME_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint32_t filter = n->nego.filter;

	if ((filter & RNDIS_FILTER_PROMISCUOUS) != 0 && (n->spoofing || (mac[0] & 1u) != 0)) {
		return true;
	}
	if (memcmp(mac, broadcast, sizeof(broadcast)) == 0) {
		return (filter & RNDIS_FILTER_BROADCAST) != 0;
	}
	if ((mac[0] & 1u) != 0) {
		return (filter & (RNDIS_FILTER_MULTICAST | RNDIS_FILTER_ALL_MULTICAST)) != 0;
	}
	return (filter & (RNDIS_FILTER_DIRECTED | RNDIS_FILTER_PROMISCUOUS)) != 0 &&
	       memcmp(mac, n->mac_now, NETFRAME_MAC_BYTES) == 0;
}

/* Take the tag out of the frame. Returns false: the frame is not for the adapter's VLAN. */
static bool netvsp_rx_vlan(const struct netvsp *n, struct netvsp_queue *q,
                           struct netvsp_rx_frame *f)
{
	uint16_t tci = 0;
	bool tagged = netframe_vlan_take(q->head, f->head_bytes, &tci);

	if (tagged) {
		f->skip = NETFRAME_VLAN_BYTES;
	}
	if (n->vlan != 0) {
		return tagged && (tci & 0xfffu) == n->vlan;
	}
	f->rx.has_vlan = tagged;
	f->rx.vlan = (tci & 0xfffu) << 4 | (tci >> 12 & 1u) << 3 | tci >> 13;
	return true;
}

/* A byte of the frame, in the head or in the first slot. */
static uint8_t *netvsp_rx_byte(struct netvsp_queue *q, uint32_t at)
{
	if (at < NETVSP_RX_HEAD) {
		return &q->head[at];
	}
	for (uint32_t p = 0; p < q->spares[0].pieces; p++) {
		const struct iovec *v = &q->spares[0].iov[p];

		if (at < v->iov_len) {
			return (uint8_t *)v->iov_base + at;
		}
		at -= (uint32_t)v->iov_len;
	}
	return NULL;
}

/*
 * The sender on this host left the checksum to whoever takes the frame out of the machine. A guest
 * cannot be told so (RNDIS knows only "good" and "bad"), and one that forwards it would send it as
 * it is: so it is filled in here.
 */
static bool netvsp_rx_checksum(struct netvsp_queue *q, const struct netvsp_rx_frame *f)
{
	uint32_t start = le16_get(q->vnet.csum_start);
	uint32_t field = start + le16_get(q->vnet.csum_offset);
	uint64_t sum = 0;
	uint32_t at;
	uint16_t folded;
	uint8_t *low = netvsp_rx_byte(q, field);
	uint8_t *high = netvsp_rx_byte(q, field + 1);

	/* The rest of the sum begins at an even distance from its start. */
	if (low == NULL || high == NULL || field + 2 > f->bytes || start % 2 != 0) {
		return false;
	}
	for (at = start; at < f->bytes;) {
		const uint8_t *from = netvsp_rx_byte(q, at);
		uint32_t len = f->bytes - at;

		if (at < NETVSP_RX_HEAD) {
			len = len < NETVSP_RX_HEAD - at ? len : NETVSP_RX_HEAD - at;
		} else { /* pieces end on pages, at even places of memory */
			len = len < 4096 - (uint32_t)((uintptr_t)from % 4096)
			              ? len
			              : 4096 - (uint32_t)((uintptr_t)from % 4096);
		}
		sum = netframe_sum(from, len, sum);
		at += len;
	}
	folded = (uint16_t)~netframe_fold(sum);
	if (folded == 0) {
		folded = 0xffff; /* 0 means "none" in UDP; equal in TCP */
	}
	memcpy(low, &folded, 1);
	memcpy(high, (const uint8_t *)&folded + 1, 1);
	return true;
}

/* What the guest may be told about the checksum of a frame that is known to be right. */
static uint32_t netvsp_rx_verdict(const struct netvsp *n, const struct netvsp_queue *q,
                                  const struct netvsp_rx_frame *f)
{
	const struct ndis_offload *o = &n->nego.offload;
	struct netframe parsed;

	netframe_parse(q->head, f->head_bytes, &parsed);
	if (parsed.l4_offset == 0) {
		return 0;
	}
	if (parsed.protocol == NETFRAME_TCP && (parsed.ip4 ? o->rx4_tcp : o->rx6_tcp)) {
		return RNDIS_CSUM_RX_TCP_OK;
	}
	if (parsed.protocol == NETFRAME_UDP && (parsed.ip4 ? o->rx4_udp : o->rx6_udp)) {
		return RNDIS_CSUM_RX_UDP_OK;
	}
	return 0;
}

/* Returns whether the frame goes to the guest; if not, it was counted. */
static bool netvsp_rx_judge(struct netvsp_queue *q, size_t read_bytes, struct netvsp_rx_frame *f)
{
	struct netvsp *n = q->n;
	uint32_t room = netvsp_slot_room(n);
	uint32_t most = n->mtu + NETFRAME_ETHER_BYTES + 2 * NETFRAME_VLAN_BYTES;

	*f = (struct netvsp_rx_frame){0};
	if (read_bytes < sizeof(q->vnet) + NETFRAME_ETHER_BYTES) {
		n->stats.rx_dropped++;
		return false;
	}
	f->bytes = (uint32_t)(read_bytes - sizeof(q->vnet));
	f->head_bytes = f->bytes < NETVSP_RX_HEAD ? f->bytes : NETVSP_RX_HEAD;
	f->large = q->vnet.gso_type != NETVSP_VNET_GSO_NONE;
	/* A large one that is not wanted is from before the guest changed its mind. */
	if (f->large ? !netvsp_coalesces(n) || f->bytes > q->spare_count * room
	             : f->bytes > most || f->bytes > room) {
		n->stats.rx_dropped++;
		return false;
	}
	if (!netvsp_rx_wanted(n, q->head)) {
		n->stats.rx_filtered++;
		return false;
	}
	if ((q->vnet.flags & NETVSP_VNET_NEEDS_CSUM) != 0 && !f->large &&
	    !netvsp_rx_checksum(q, f)) {
		n->stats.rx_dropped++;
		return false;
	}
	if ((q->vnet.flags & (NETVSP_VNET_NEEDS_CSUM | NETVSP_VNET_DATA_VALID)) != 0) {
		f->rx.checksum = netvsp_rx_verdict(n, q, f);
	}
	if (!netvsp_rx_vlan(n, q, f)) {
		n->stats.rx_filtered++;
		return false;
	}
	return true;
}

/* ---- handing it over ---- */

/* Write @len bytes at @offset of the receive buffer. Inside of it, by construction. */
static void netvsp_rx_put(struct netvsp *n, uint64_t offset_bytes, const void *buf, uint32_t len)
{
	CHECK(vmbus_gpadl_write(n->recv.gpadl, offset_bytes, buf, len) == 0);
}

/* The frame lies in the first spares: finish those slots and append them to the batch. */
static void netvsp_rx_deliver(struct netvsp_queue *q, struct netvsp_channel *ch,
                              struct netvsp_rx_frame *f)
{
	struct netvsp *n = q->n;
	uint32_t room = netvsp_slot_room(n);
	uint32_t used = (f->bytes + room - 1) / room;
	uint32_t left = f->bytes;

	f->rx.part_id = n->part_id++;
	for (uint32_t i = 0; i < used; i++) {
		uint64_t at = (uint64_t)q->spares[i].slot * n->recv.slot_bytes;
		uint32_t bytes = left < room ? left : room;
		uint32_t skip = i == 0 ? f->skip : 0;
		uint8_t header[RNDIS_RX_ROOM];

		f->rx.data_offset = RNDIS_RX_ROOM + skip;
		f->rx.data_bytes = bytes - skip;
		if (used > 1) {
			f->rx.part_flags = (uint8_t)(RNDIS_PACKET_ID_PART |
			                             (i == 0 ? RNDIS_PACKET_ID_FIRST : 0) |
			                             (i + 1 == used ? RNDIS_PACKET_ID_LAST : 0));
		}
		rndis_rx_encode(header, &f->rx);
		netvsp_rx_put(n, at, header, sizeof(header));
		if (i == 0) {
			netvsp_rx_put(n, at + RNDIS_RX_ROOM, q->head, f->head_bytes);
		}
		vmbus_gpadl_dirty(n->recv.gpadl, at + RNDIS_RX_ROOM, bytes);
		ch->batch.slot[ch->batch.count] = q->spares[i].slot;
		ch->batch.bytes[ch->batch.count++] = RNDIS_RX_ROOM + bytes;
		left -= bytes;
	}
	netvsp_spares_use(q, used);
	n->stats.rx_frames++;
	n->stats.rx_bytes += f->bytes - f->skip;
	n->stats.rx_large += f->large;
}

/* ---- the queue ---- */

/* Which channel serves this queue? Without RSS the primary does all. */
static struct netvsp_channel *netvsp_rx_channel(struct netvsp_queue *q)
{
	struct netvsp *n = q->n;
	size_t index = (size_t)(q - n->queues);

	return n->nego.rss.enabled && n->channels[index].open ? &n->channels[index]
	                                                      : &n->channels[0];
}

static bool netvsp_rx_may(struct netvsp_queue *q)
{
	return netvsp_listens(q->n) && netvsp_rx_channel(q)->batch.count == 0;
}

void netvsp_rx_start(struct netvsp_queue *q)
{
	if (q->polling || !netvsp_rx_may(q) || !netvsp_rx_has_room(q)) {
		return; /* whatever changes that starts the queue again */
	}
	q->polling = true;
	q->deferred = uring_prep_poll(q->n->env.ring, &q->poll, q->fd, POLLIN, false) != 0;
	if (q->deferred) { /* the ring is full: look without being told to */
		uring_defer(q->n->env.ring, &q->poll, POLLIN);
	}
}

void netvsp_rx_start_all(struct netvsp *n)
{
	for (uint32_t i = 0; i < n->queue_count; i++) {
		netvsp_rx_start(&n->queues[i]);
	}
}

void netvsp_rx_forget(struct netvsp *n)
{
	for (uint32_t i = 0; i < n->queue_count; i++) {
		netvsp_spares_drop(&n->queues[i]);
	}
	for (uint32_t i = 0; i < NETVSP_QUEUES_MAX; i++) {
		n->channels[i].batch.count = 0;
	}
}

void netvsp_rx_drain(struct netvsp *n)
{
	for (uint32_t i = 0; i < n->queue_count; i++) {
		struct netvsp_queue *q = &n->queues[i];
		const struct iovec iov = {.iov_base = q->head, .iov_len = sizeof(q->head)};

		for (uint32_t k = 0; k < NETVSP_STALE_MAX && netvsp_readv(q->fd, &iov, 1) > 0;
		     k++) {
			n->stats.rx_filtered++;
		}
	}
}

enum netvsp_rx_next { NETVSP_RX_MORE, NETVSP_RX_EMPTY, NETVSP_RX_FULL, NETVSP_RX_BROKEN };

/* One frame. */
static enum netvsp_rx_next netvsp_rx_one(struct netvsp_queue *q, struct netvsp_channel *ch)
{
	struct netvsp_rx_frame f;
	ssize_t ret;

	if (!netvsp_rx_has_room(q)) {
		return NETVSP_RX_FULL;
	}
	netvsp_spares_fill(q);
	if (ch->batch.count + q->spare_count > NETVSP_BATCH_MAX && !netvsp_batch_flush(ch)) {
		return NETVSP_RX_FULL;
	}
	ret = netvsp_readv(q->fd, q->iov, netvsp_rx_iov(q));
	if (ret == -EAGAIN) {
		return NETVSP_RX_EMPTY;
	}
	if (ret <= 0) {
		log_limited(&q->n->limit, LOG_LEVEL_ERR, NETVSP_TAG,
		            "cannot read the tap vm=%s nic=%u error=%d", q->n->env.vm_name,
		            q->n->vsp.index, (int)ret);
		return NETVSP_RX_BROKEN;
	}
	if (netvsp_rx_judge(q, (size_t)ret, &f)) {
		netvsp_rx_deliver(q, ch, &f);
	}
	return NETVSP_RX_MORE;
}

void netvsp_polled(struct uring_op *op, int32_t res, bool more)
{
	struct netvsp_queue *q = op->arg;
	struct netvsp_channel *ch = netvsp_rx_channel(q);
	enum netvsp_rx_next next = NETVSP_RX_MORE;

	(void)more;
	q->polling = false;
	if (!netvsp_rx_may(q)) {
		return;
	}
	for (uint32_t i = 0; i < NETVSP_RX_BUDGET && next == NETVSP_RX_MORE; i++) {
		next = netvsp_rx_one(q, ch);
	}
	if (!netvsp_batch_flush(ch)) {
		next = NETVSP_RX_FULL;
	}
	vmbus_flush(ch->chan);
	q->n->stats.rx_stalls += next == NETVSP_RX_FULL;
	/* A broken tap is tried again when the guest sends something, not in a circle. */
	if (next != NETVSP_RX_BROKEN && res >= 0) {
		netvsp_rx_start(q);
	}
}
