/* SPDX-License-Identifier: Apache-2.0 */

/* packet - a VSP's side of an open channel: receive, send, signal. */

#include <errno.h>

#include "base/check.h"
#include "hv/vmbus/vmbus_host.h"
#include "hv/vmbus/vmbus_int.h"

/* Room that is given back within a batch when it is an eighth of the ring: the guest can go on,
 * and the control page is not touched for every packet. */
#define VMBUS_SHOW_PART 8u

/* How often vmbus_recv() believes a guest that says both "something came" and "nothing there". */
#define VMBUS_ARM_TRIES 4u

void vmbus_channel_signal(struct vmbus_channel *chan)
{
	struct vmbus *bus = chan->bus;

	if (chan->open.target_vp != VMBUS_NO_VP) {
		bus->cfg.host->event_signal(bus->cfg.host_arg, chan->open.target_vp, VMBUS_SINT,
		                            chan->relid);
	}
}

static bool vmbus_channel_usable(const struct vmbus_channel *chan)
{
	return chan->state == VMBUS_CHANNEL_OPEN && !chan->failed;
}

void vmbus_flush(struct vmbus_channel *chan)
{
	if (!vmbus_channel_usable(chan) || chan->in_open) {
		return;
	}

	bool space = vmbus_ring_rx_show(&chan->rx);
	bool data = vmbus_ring_tx_show(&chan->tx);

	if (space || data) {
		vmbus_channel_signal(chan);
	}
}

void vmbus_kick(struct vmbus_channel *chan)
{
	vmbus_channel_work(chan, VMBUS_WORK_KICK);
}

void vmbus_fail(struct vmbus_channel *chan, const char *why)
{
	if (!vmbus_channel_usable(chan)) {
		return;
	}
	log_limited(&chan->limit, LOG_LEVEL_WARN, VMBUS_TAG,
	            "guest broke the channel vm=%s chan=%u reason=\"%s\"", chan->bus->cfg.vm_name,
	            chan->relid, why);
	chan->failed = true;
	vmbus_channel_work(chan, VMBUS_WORK_CLOSE);
}

bool vmbus_channel_is_open(const struct vmbus_channel *chan)
{
	return vmbus_channel_usable(chan);
}

uint32_t vmbus_channel_relid(const struct vmbus_channel *chan)
{
	return chan->relid;
}

uint32_t vmbus_channel_vp(const struct vmbus_channel *chan)
{
	return chan->open.target_vp;
}

uint32_t vmbus_channel_ring_bytes(const struct vmbus_channel *chan)
{
	return chan->rx.ring.size_bytes;
}

struct gmem *vmbus_channel_mem(const struct vmbus_channel *chan)
{
	return chan->bus->cfg.mem;
}

int vmbus_recv(struct vmbus_channel *chan, void *buf, uint32_t room_bytes, struct vmbus_packet *out)
{
	if (!vmbus_channel_usable(chan)) {
		return -ENOTCONN;
	}
	if (chan->bus->paused) {
		return -EAGAIN;
	}
	if (chan->in_ready && chan->batch_left == 0) {
		vmbus_kick(chan);
		return -EAGAIN;
	}
	for (uint32_t i = 0; i < VMBUS_ARM_TRIES; i++) {
		int err = vmbus_ring_rx_next(&chan->rx, buf, room_bytes, out);

		if (err == 0) {
			return 0;
		}
		if (err != -EAGAIN) {
			vmbus_fail(chan, err == -EMSGSIZE ? "packet too large for the device"
			                                  : "bad ring index or packet descriptor");
			return err;
		}
		if (vmbus_ring_rx_show(&chan->rx)) {
			vmbus_channel_signal(chan);
		}
		if (vmbus_ring_rx_arm(&chan->rx)) {
			return -EAGAIN;
		}
	}
	vmbus_kick(chan);
	return -EAGAIN;
}

void vmbus_recv_done(struct vmbus_channel *chan)
{
	if (!vmbus_channel_usable(chan)) {
		return; /* closed or failed since vmbus_recv(): nobody will read the ring again */
	}
	vmbus_ring_rx_done(&chan->rx);
	if (chan->in_ready) {
		chan->batch_left--;
		if (vmbus_ring_rx_unshown(&chan->rx) < chan->rx.ring.size_bytes / VMBUS_SHOW_PART) {
			return;
		}
	}
	if (vmbus_ring_rx_show(&chan->rx)) {
		vmbus_channel_signal(chan);
	}
}

int vmbus_send(struct vmbus_channel *chan, uint16_t type, uint16_t flags, uint64_t transaction_id,
               const void *header, uint32_t header_bytes, const struct iovec *payload,
               uint32_t payload_count)
{
	const struct vmbus_ring_packet pkt = {
		.type = type,
		.flags = flags,
		.transaction_id = transaction_id,
		.header = header,
		.header_bytes = header_bytes,
		.payload = payload,
		.payload_count = payload_count,
	};

	if (!vmbus_channel_usable(chan)) {
		return -ENOTCONN;
	}

	int err = vmbus_ring_tx_put(&chan->tx, &pkt);

	if (err == -EBADMSG) {
		vmbus_fail(chan, "bad ring index");
	} else if (err == -EAGAIN || chan->bus->paused) {
		/* Full: the guest can only make room by reading what it does not see yet. Paused:
		 * a save may come next. */
		vmbus_flush(chan);
	}
	return err;
}

int vmbus_complete(struct vmbus_channel *chan, uint64_t transaction_id, const void *buf,
                   uint32_t len_bytes)
{
	/* The iovec is the read side of a send: nothing writes through it. */
	union {
		const void *from;
		void *base;
	} u = {.from = buf};
	struct iovec iov = {.iov_base = u.base, .iov_len = len_bytes};

	return vmbus_send(chan, VMBUS_PACKET_COMPLETION, 0, transaction_id, NULL, 0, &iov, 1);
}
