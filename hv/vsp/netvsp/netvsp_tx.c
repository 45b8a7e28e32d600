/* SPDX-License-Identifier: Apache-2.0 */

/*
 * netvsp_tx - frames from the guest to the tap.
 *
 * A transfer's bytes lie in a section of the send buffer, in guest pages, or in both. They are
 * gathered as host ranges; of each message the header, the per-packet information and the frame's
 * first bytes are copied once and judged; the rest goes from guest memory to the kernel.
 */

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "hv/mem/gmem.h"
#include "hv/vsp/netvsp/netvsp_int.h"

/* ---- the transfer's bytes ---- */

static int netvsp_gather_section(struct netvsp *n, const struct netvsp_rndis_wire *rndis,
                                 uint32_t *total_bytes)
{
	uint32_t section = le32_get(rndis->section);
	uint32_t bytes = le32_get(rndis->section_bytes);

	if (section == NETVSP_NO_SECTION) {
		return 0;
	}
	if (n->send.gpadl == NULL || section >= n->send.sections || bytes > NETVSP_SECTION_BYTES) {
		return -EBADMSG;
	}
	*total_bytes = bytes;
	return vmbus_gpadl_iov(n->send.gpadl, (uint64_t)section * NETVSP_SECTION_BYTES, bytes,
	                       n->pieces, NETVSP_TX_PIECES_MAX);
}

int netvsp_gather(struct netvsp *n, const struct vmbus_packet *pkt,
                  const struct netvsp_rndis_wire *rndis, uint32_t *count, uint32_t *total_bytes)
{
	uint32_t ranges = 0;
	uint64_t range_bytes = 0;
	int pieces;

	*count = 0;
	*total_bytes = 0;
	pieces = netvsp_gather_section(n, rndis, total_bytes);
	if (pieces < 0) {
		return -EBADMSG;
	}
	*count = (uint32_t)pieces;
	if (pkt->type != VMBUS_PACKET_GPA_DIRECT) {
		return *total_bytes != 0 ? 0 : -EBADMSG;
	}
	if (vmbus_ranges_decode(n->env.mem, pkt, n->ranges, NETVSP_TX_PIECES_MAX - *count, &ranges,
	                        &range_bytes) != 0 ||
	    range_bytes > UINT32_MAX - *total_bytes) {
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < ranges; i++) {
		void *host = gmem_range(n->env.mem, n->ranges[i].gpa, n->ranges[i].len_bytes);

		if (host == NULL) {
			return -EBADMSG; /* never: the ranges were checked */
		}
		n->pieces[(*count)++] =
			(struct iovec){.iov_base = host, .iov_len = n->ranges[i].len_bytes};
	}
	*total_bytes += (uint32_t)range_bytes;
	return *total_bytes != 0 ? 0 : -EBADMSG;
}

/* The pieces' part [offset, offset+len) as iovecs; the caller knows that it is inside. */
static uint32_t netvsp_gathered_slice(const struct netvsp *n, uint32_t count, uint32_t offset_bytes,
                                      uint32_t len_bytes, struct iovec out[NETVSP_TX_PIECES_MAX])
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < count && len_bytes != 0; i++) {
		size_t len = n->pieces[i].iov_len;

		if (offset_bytes >= len) {
			offset_bytes -= (uint32_t)len;
			continue;
		}
		len -= offset_bytes;
		if (len > len_bytes) {
			len = len_bytes;
		}
		out[used++] = (struct iovec){
			.iov_base = (uint8_t *)n->pieces[i].iov_base + offset_bytes,
			.iov_len = len,
		};
		len_bytes -= (uint32_t)len;
		offset_bytes = 0;
	}
	return used;
}

void netvsp_gathered_copy(const struct netvsp *n, uint32_t count, uint32_t offset_bytes, void *buf,
                          uint32_t len_bytes)
{
	struct iovec part[NETVSP_TX_PIECES_MAX];
	uint32_t used = netvsp_gathered_slice(n, count, offset_bytes, len_bytes, part);
	uint8_t *to = buf;

	for (uint32_t i = 0; i < used; i++) {
		memcpy(to, part[i].iov_base, part[i].iov_len);
		to += part[i].iov_len;
	}
}

/* ---- one frame ---- */

struct netvsp_tx_frame {
	struct netvsp_vnet_wire vnet;
	uint32_t head_bytes;
	uint8_t head[NETFRAME_HEAD_MAX + NETFRAME_VLAN_BYTES];
};

static int netvsp_writev(int fd, const struct iovec *iov, uint32_t count)
{
	ssize_t ret;

	do {
		ret = writev(fd, iov, (int)count);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* May this frame leave? Puts in the tag that it leaves with. */
static bool netvsp_tx_admit(struct netvsp *n, const struct rndis_tx *tx, struct netvsp_tx_frame *f)
{
	bool tagged = tx->has_vlan;
	uint16_t tci = (uint16_t)(RNDIS_VLAN_PRIORITY(tx->vlan) << 13 |
	                          RNDIS_VLAN_CFI(tx->vlan) << 12 | RNDIS_VLAN_ID(tx->vlan));

	if (!n->spoofing &&
	    memcmp(f->head + NETFRAME_MAC_BYTES, n->mac_now, NETFRAME_MAC_BYTES) != 0) {
		return false;
	}
	if (n->vlan != 0) {
		/* A priority tag (VLAN 0) is no VLAN. */
		if ((tagged && RNDIS_VLAN_ID(tx->vlan) != 0) || netframe_is_tagged(f->head)) {
			return false;
		}
		tci = (uint16_t)((tagged ? tci & 0xe000u : 0) | n->vlan);
		tagged = true;
	}
	if (tagged) {
		netframe_vlan_put(f->head, f->head_bytes, tci, &f->vnet);
		f->head_bytes += NETFRAME_VLAN_BYTES;
	}
	return true;
}

/* @offset: of the frame in the gathered bytes. */
static void netvsp_tx_frame(struct netvsp_channel *ch, uint32_t count, uint32_t offset_bytes,
                            const struct rndis_tx *tx)
{
	struct netvsp *n = ch->n;
	struct netvsp_tx_frame f;
	struct iovec iov[2 + NETVSP_TX_PIECES_MAX];
	uint32_t bytes = tx->data_bytes;
	uint32_t private_bytes = bytes < NETFRAME_HEAD_MAX ? bytes : NETFRAME_HEAD_MAX;
	bool large = tx->has_lso && RNDIS_LSO_MSS(tx->lso) != 0;
	int err;

	if (bytes < NETFRAME_ETHER_BYTES ||
	    (!large && bytes > n->mtu + NETFRAME_ETHER_BYTES + NETFRAME_VLAN_BYTES)) {
		n->stats.tx_invalid++;
		return;
	}
	netvsp_gathered_copy(n, count, offset_bytes, f.head, private_bytes);
	f.head_bytes = private_bytes;
	if (netframe_offload(f.head, private_bytes, bytes, tx, &f.vnet) != 0) {
		n->stats.tx_invalid++;
		return;
	}
	if (!netvsp_tx_admit(n, tx, &f)) {
		n->stats.tx_spoofed++;
		return;
	}
	iov[0] = (struct iovec){.iov_base = &f.vnet, .iov_len = sizeof(f.vnet)};
	iov[1] = (struct iovec){.iov_base = f.head, .iov_len = f.head_bytes};
	count = netvsp_gathered_slice(n, count, offset_bytes + private_bytes, bytes - private_bytes,
	                              iov + 2);
	err = n->link_up ? netvsp_writev(n->queues[ch->index].fd, iov, 2 + count) : -ENOLINK;
	if (err != 0) {
		n->stats.tx_dropped++;
		return;
	}
	n->stats.tx_frames++;
	n->stats.tx_bytes += bytes;
	n->stats.tx_large += large;
}

/* ---- a transfer ---- */

enum netvsp_status netvsp_tx(struct netvsp_channel *ch, uint32_t count, uint32_t total_bytes)
{
	struct netvsp *n = ch->n;
	uint32_t at = 0;

	if (!n->nego.initialized) {
		n->stats.tx_invalid++;
		return NETVSP_STATUS_INVALID_RNDIS;
	}
	for (uint32_t i = 0; i < RNDIS_PACKETS_MAX && at < total_bytes; i++) {
		uint32_t left = total_bytes - at;
		uint32_t head_bytes = left < RNDIS_HEAD_MAX ? left : RNDIS_HEAD_MAX;
		uint8_t head[RNDIS_HEAD_MAX];
		struct rndis_tx tx;

		netvsp_gathered_copy(n, count, at, head, head_bytes);
		if (rndis_tx_decode(head, head_bytes, left, &tx) != 0) {
			n->stats.tx_invalid++;
			return NETVSP_STATUS_INVALID_RNDIS;
		}
		netvsp_tx_frame(ch, count, at + tx.data_offset, &tx);
		at += tx.message_bytes;
	}
	if (at < total_bytes) { /* more than we said we take */
		n->stats.tx_invalid++;
		return NETVSP_STATUS_INVALID_RNDIS;
	}
	return NETVSP_STATUS_SUCCESS;
}

/* ---- frames of our own ---- */

void netvsp_announce_send(struct netvsp *n)
{
	/* "Request reverse" with the guest's address everywhere. Source: RFC 903, RFC 826. */
	struct netvsp_rarp {
		struct netvsp_vnet_wire vnet;
		uint8_t frame[60 + NETFRAME_VLAN_BYTES];
	} f = {.frame = {
		       [12] = 0x80, [13] = 0x35, [15] = 1, [16] = 8, [18] = 6, [19] = 4, [21] = 3}};
	uint32_t bytes = 60;
	struct iovec iov;

	memset(f.frame, 0xff, NETFRAME_MAC_BYTES);
	memcpy(f.frame + 6, n->mac_now, NETFRAME_MAC_BYTES);
	memcpy(f.frame + 22, n->mac_now, NETFRAME_MAC_BYTES);
	memcpy(f.frame + 32, n->mac_now, NETFRAME_MAC_BYTES);
	if (n->vlan != 0) {
		netframe_vlan_put(f.frame, bytes, n->vlan, &f.vnet);
		bytes += NETFRAME_VLAN_BYTES;
	}
	iov = (struct iovec){.iov_base = &f, .iov_len = sizeof(f.vnet) + bytes};
	if (netvsp_writev(n->queues[0].fd, &iov, 1) != 0) {
		n->stats.tx_dropped++;
	}
}
