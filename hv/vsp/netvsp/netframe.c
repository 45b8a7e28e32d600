/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/netframe.h"

#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "hv/vsp/netvsp/rndis_wire.h"

#define NETFRAME_TYPE_IP4 0x0800u
#define NETFRAME_TYPE_IP6 0x86ddu
#define NETFRAME_TYPE_VLAN 0x8100u
#define NETFRAME_TYPE_QINQ 0x88a8u
#define NETFRAME_TAGS_MAX 2u
#define NETFRAME_IP6_BYTES 40u
#define NETFRAME_IP6_EXTENSIONS_MAX 8u
#define NETFRAME_TCP_BYTES 20u
#define NETFRAME_TCP_CSUM 16u
#define NETFRAME_UDP_CSUM 6u
#define NETFRAME_TCP_CWR 0x80u
/* As in Linux: the smallest MSS of TCP (48) less the longest options. A smaller one from a guest
 * would only make the host cut its frames into dust. */
#define NETFRAME_SEGMENT_MIN 8u

static uint16_t netframe_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void netframe_be16_put(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* ---- where things are ---- */

/* Step over IPv6 extension headers. Returns the offset of what follows, 0 = not to be seen. */
static uint32_t netframe_ip6_skip(const uint8_t *head, uint32_t head_bytes, uint32_t at,
                                  uint8_t *protocol)
{
	for (uint32_t i = 0; i < NETFRAME_IP6_EXTENSIONS_MAX; i++) {
		switch (*protocol) {
		case 0:  /* hop by hop */
		case 43: /* routing */
		case 60: /* destination */
			if (at + 8 > head_bytes) {
				return 0;
			}
			*protocol = head[at];
			at += (head[at + 1] + 1u) * 8u;
			break;
		case 44: /* fragment: also the first one's checksum covers the whole packet */
			return 0;
		default: /* a protocol */
			return at < head_bytes ? at : 0;
		}
	}
	return 0;
}

static void netframe_parse_ip4(const uint8_t *head, uint32_t head_bytes, struct netframe *out)
{
	const uint8_t *ip = head + out->l3_offset;
	uint32_t bytes = (ip[0] & 0x0fu) * 4u;

	if (ip[0] >> 4 != 4 || bytes < 20) {
		return;
	}
	out->ip4 = true;
	out->protocol = ip[9];
	if (out->l3_offset + bytes < head_bytes && (netframe_be16(ip + 6) & 0x3fffu) == 0) {
		out->l4_offset = out->l3_offset + bytes; /* no fragment */
	}
}

void netframe_parse(const uint8_t *head, uint32_t head_bytes, struct netframe *out)
{
	uint32_t at = 12;

	*out = (struct netframe){0};
	for (uint32_t tags = 0; at + 2 <= head_bytes; tags++, at += NETFRAME_VLAN_BYTES) {
		uint16_t type = netframe_be16(head + at);

		if ((type == NETFRAME_TYPE_VLAN || type == NETFRAME_TYPE_QINQ) &&
		    tags < NETFRAME_TAGS_MAX) {
			continue;
		}
		out->l3_offset = at + 2;
		if (type == NETFRAME_TYPE_IP4 && out->l3_offset + 20 <= head_bytes) {
			netframe_parse_ip4(head, head_bytes, out);
		} else if (type == NETFRAME_TYPE_IP6 &&
		           out->l3_offset + NETFRAME_IP6_BYTES <= head_bytes &&
		           head[out->l3_offset] >> 4 == 6) {
			out->ip6 = true;
			out->protocol = head[out->l3_offset + 6];
			out->l4_offset = netframe_ip6_skip(head, head_bytes,
			                                   out->l3_offset + NETFRAME_IP6_BYTES,
			                                   &out->protocol);
		}
		return;
	}
}

/* ---- checksums ---- */

uint64_t netframe_sum(const void *buf, size_t len_bytes, uint64_t sum)
{
	const uint8_t *p = buf;

	/* 32 bits at a time into 64: carries cannot be lost in less than 16 GiB. */
	for (; len_bytes >= 16; len_bytes -= 16, p += 16) {
		uint32_t w[4];

		memcpy(w, p, sizeof(w));
		sum += (uint64_t)w[0] + w[1] + w[2] + w[3];
	}
	for (; len_bytes >= 2; len_bytes -= 2, p += 2) {
		uint16_t w;

		memcpy(&w, p, sizeof(w));
		sum += w;
	}
	if (len_bytes != 0) {
		const uint8_t last[2] = {*p, 0};
		uint16_t w;

		memcpy(&w, last, sizeof(w));
		sum += w;
	}
	return sum;
}

uint16_t netframe_fold(uint64_t sum)
{
	while (sum >> 16 != 0) {
		sum = (sum & 0xffffu) + (sum >> 16);
	}
	return (uint16_t)sum;
}

/* The IPv4 header's own checksum. */
static void netframe_ip4_header_sum(uint8_t *ip)
{
	uint16_t sum;

	memset(ip + 10, 0, 2);
	sum = (uint16_t)~netframe_fold(netframe_sum(ip, (size_t)(ip[0] & 0x0fu) * 4u, 0));
	memcpy(ip + 10, &sum, sizeof(sum));
}

/* The sum over the pseudo header, as the checksum field has to hold it before the payload is
 * added: addresses, protocol, length. */
static void netframe_pseudo_put(uint8_t *head, const struct netframe *f, uint32_t l4_bytes,
                                uint32_t csum_offset)
{
	const uint8_t *ip = head + f->l3_offset;
	const be32 tail[2] = {be32_make(l4_bytes), be32_make(f->protocol)};
	uint64_t sum = netframe_sum(tail, sizeof(tail), 0);
	uint16_t folded;

	sum = f->ip4 ? netframe_sum(ip + 12, 8, sum) : netframe_sum(ip + 8, 32, sum);
	folded = netframe_fold(sum);
	memcpy(head + f->l4_offset + csum_offset, &folded, sizeof(folded));
}

/* ---- what the guest leaves to us ---- */

static int netframe_large_send(uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes,
                               const struct rndis_tx *tx, struct netvsp_vnet_wire *vnet)
{
	uint32_t segment = RNDIS_LSO_MSS(tx->lso);
	struct netframe f;

	netframe_parse(head, head_bytes, &f);
	if ((tx->lso & RNDIS_LSO_V2) == 0 || segment < NETFRAME_SEGMENT_MIN ||
	    segment > UINT16_MAX || f.protocol != NETFRAME_TCP || f.l4_offset == 0 ||
	    f.l4_offset + NETFRAME_TCP_BYTES > head_bytes ||
	    frame_bytes - f.l3_offset > UINT16_MAX) {
		return -EBADMSG;
	}

	uint8_t *ip = head + f.l3_offset;
	const uint8_t *tcp = head + f.l4_offset;
	uint32_t header = f.l4_offset + (tcp[12] >> 4) * 4u;
	uint8_t gso = f.ip4 ? NETVSP_VNET_GSO_TCPV4 : NETVSP_VNET_GSO_TCPV6;

	if (header < f.l4_offset + NETFRAME_TCP_BYTES || header > head_bytes ||
	    header >= frame_bytes) {
		return -EBADMSG;
	}
	/* The guest left lengths and sums out, for they differ in each segment; the host's kernel
	 * wants those of the whole. */
	if (f.ip4) {
		netframe_be16_put(ip + 2, (uint16_t)(frame_bytes - f.l3_offset));
		netframe_ip4_header_sum(ip);
	} else {
		netframe_be16_put(ip + 4,
		                  (uint16_t)(frame_bytes - f.l3_offset - NETFRAME_IP6_BYTES));
	}
	netframe_pseudo_put(head, &f, frame_bytes - f.l4_offset, NETFRAME_TCP_CSUM);
	if ((tcp[13] & NETFRAME_TCP_CWR) != 0) {
		gso = (uint8_t)(gso | NETVSP_VNET_GSO_ECN);
	}
	*vnet = (struct netvsp_vnet_wire){
		.flags = NETVSP_VNET_NEEDS_CSUM,
		.gso_type = gso,
		.header_bytes = le16_make((uint16_t)header),
		.gso_bytes = le16_make((uint16_t)segment),
		.csum_start = le16_make((uint16_t)f.l4_offset),
		.csum_offset = le16_make(NETFRAME_TCP_CSUM),
	};
	return 0;
}

/* NOLINTNEXTLINE(bugprone-easily-swappable-parameters): sizes, then what was asked */
static int netframe_checksum(uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes,
                             uint32_t asked, struct netvsp_vnet_wire *vnet)
{
	uint32_t start = RNDIS_CSUM_TX_HEADER_OFFSET(asked);
	uint32_t offset = (asked & RNDIS_CSUM_TX_TCP) != 0 ? NETFRAME_TCP_CSUM : NETFRAME_UDP_CSUM;
	struct netframe f;

	netframe_parse(head, head_bytes, &f);
	if ((asked & RNDIS_CSUM_TX_IP_HEADER) != 0) {
		if (!f.ip4 || f.l3_offset + (head[f.l3_offset] & 0x0fu) * 4u > head_bytes) {
			return -EBADMSG;
		}
		netframe_ip4_header_sum(head + f.l3_offset);
	}
	if ((asked & (RNDIS_CSUM_TX_TCP | RNDIS_CSUM_TX_UDP)) == 0) {
		return 0;
	}
	start = start != 0 ? start : f.l4_offset;
	if (start < NETFRAME_ETHER_BYTES || start + offset + 2 > frame_bytes) {
		return -EBADMSG;
	}
	vnet->flags = NETVSP_VNET_NEEDS_CSUM;
	vnet->csum_start = le16_make((uint16_t)start);
	vnet->csum_offset = le16_make((uint16_t)offset);
	return 0;
}

int netframe_offload(uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes,
                     const struct rndis_tx *tx, struct netvsp_vnet_wire *vnet)
{
	*vnet = (struct netvsp_vnet_wire){0};
	if (tx->has_lso && RNDIS_LSO_MSS(tx->lso) != 0) {
		return netframe_large_send(head, head_bytes, frame_bytes, tx, vnet);
	}
	if (tx->has_checksum) {
		return netframe_checksum(head, head_bytes, frame_bytes, tx->checksum, vnet);
	}
	return 0;
}

/* ---- VLAN tags ---- */

static void netframe_shift(le16 *offset)
{
	if (le16_get(*offset) != 0) {
		*offset = le16_make((uint16_t)(le16_get(*offset) + NETFRAME_VLAN_BYTES));
	}
}

bool netframe_is_tagged(const uint8_t *head)
{
	uint16_t type = netframe_be16(head + (size_t)2 * NETFRAME_MAC_BYTES);

	return type == NETFRAME_TYPE_VLAN || type == NETFRAME_TYPE_QINQ;
}

void netframe_vlan_put(uint8_t *head, uint32_t head_bytes, uint16_t tci,
                       struct netvsp_vnet_wire *vnet)
{
	const uint32_t at = 2 * NETFRAME_MAC_BYTES;

	memmove(head + at + NETFRAME_VLAN_BYTES, head + at, head_bytes - at);
	netframe_be16_put(head + at, NETFRAME_TYPE_VLAN);
	netframe_be16_put(head + at + 2, tci);
	netframe_shift(&vnet->csum_start);
	netframe_shift(&vnet->header_bytes);
}

bool netframe_vlan_take(uint8_t *head, uint32_t head_bytes, uint16_t *tci)
{
	const uint32_t at = 2 * NETFRAME_MAC_BYTES;

	if (head_bytes < at + NETFRAME_VLAN_BYTES + 2 ||
	    netframe_be16(head + at) != NETFRAME_TYPE_VLAN) {
		return false;
	}
	*tci = netframe_be16(head + at + 2);
	memmove(head + NETFRAME_VLAN_BYTES, head, at);
	return true;
}
