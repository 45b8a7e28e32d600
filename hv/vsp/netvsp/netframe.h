/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_NETFRAME_H
#define HV_VSP_NETVSP_NETFRAME_H

/*
 * netframe - the headers of Ethernet frames: checksums, large sends, VLAN tags. Pure.
 *
 * A head is a private copy of a frame's first bytes; what is behind it is never looked at, except
 * by netframe_sum(), whose result only says how right the guest's own data is.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vsp/netvsp/netvsp_wire.h"
#include "hv/vsp/netvsp/rndis.h"

#define NETFRAME_ETHER_BYTES 14u
#define NETFRAME_VLAN_BYTES 4u
#define NETFRAME_MAC_BYTES 6u
/* Ethernet, VLAN, IPv4 or IPv6 and TCP with all their options: 14 + 4 + 60 + 60, and more for
 * extension headers. */
#define NETFRAME_HEAD_MAX 256u
#define NETFRAME_TCP 6u
#define NETFRAME_UDP 17u

struct netframe {
	bool ip4, ip6; /* neither: something else, the rest is not set */
	uint8_t protocol;
	uint32_t l3_offset;
	uint32_t l4_offset; /* 0: a later fragment, or headers end outside of the head */
};

/* netframe_parse() - where the headers are, behind at most two VLAN tags. */
void netframe_parse(const uint8_t *head, uint32_t head_bytes, struct netframe *out);

/* netframe_sum() - add the 16 bit words of @buf[len_bytes] to @sum (ones' complement, in memory
 * order). All pieces but the last have even lengths. netframe_fold() - the 16 bit sum. */
uint64_t netframe_sum(const void *buf, size_t len_bytes, uint64_t sum);
uint16_t netframe_fold(uint64_t sum);

/*
 * netframe_offload() - the vnet header for what the guest asks with @tx; mends the length and
 * checksum fields in the head that the guest left for the host to fill.
 * @head[head_bytes]: of a frame of @frame_bytes in all; min(frame_bytes, NETFRAME_HEAD_MAX) long.
 * Returns 0; -EBADMSG it asks for what the frame is not.
 */
MUST_USE int netframe_offload(uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes,
                              const struct rndis_tx *tx, struct netvsp_vnet_wire *vnet);

/* netframe_is_tagged() - does a VLAN tag follow the addresses? @head has 14 bytes. */
bool netframe_is_tagged(const uint8_t *head);

/* netframe_vlan_put() - insert a tag with @tci behind the addresses: @head has room for 4 more.
 * Moves the offsets in @vnet. */
void netframe_vlan_put(uint8_t *head, uint32_t head_bytes, uint16_t tci,
                       struct netvsp_vnet_wire *vnet);

/* netframe_vlan_take() - is there a tag? Then @tci is set, and the addresses are moved behind it:
 * the frame begins NETFRAME_VLAN_BYTES later. */
bool netframe_vlan_take(uint8_t *head, uint32_t head_bytes, uint16_t *tci);

#endif
