/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_NDIS_H
#define HV_VSP_NETVSP_NDIS_H

/* ndis - the structures inside of OIDs, to and from bytes: pure. What is decoded is hostile. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vsp/netvsp/rndis_wire.h"

/* The largest TSO frame without its Ethernet header. With IP it must stay below 64 KiB. */
#define NDIS_LSO_BYTES_MAX 62780u

/*
 * ndis_offload_encode() - what we can do (OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES).
 * @asked_bytes: the length the guest knows: 112, 144, 156; less means 112.
 * @rsc: the guest can take one frame in several packets.
 * Returns the length.
 */
uint32_t ndis_offload_encode(struct ndis_offload_wire *out, uint32_t asked_bytes, bool rsc);

/* What the guest turned on; true until it says otherwise is the caller's business. */
struct ndis_offload {
	bool rx4_tcp, rx4_udp, rx6_tcp, rx6_udp; /* it wants to hear what we know of checksums */
	bool rsc4, rsc6;
};

/*
 * ndis_offload_decode() - OID_TCP_OFFLOAD_PARAMETERS: apply @buf[len_bytes] to @out ("no change"
 * leaves a field as it is). Returns 0; -EBADMSG too short or another object; @out is as it was.
 */
MUST_USE int ndis_offload_decode(const void *buf, size_t len_bytes, struct ndis_offload *out);

/* ndis_rss_encode() - OID_GEN_RECEIVE_SCALE_CAPABILITIES for @queues. */
void ndis_rss_encode(struct ndis_rss_capabilities_wire *out, uint32_t queues);

struct ndis_rss {
	bool enabled;
	uint32_t hash; /* function and types, as the guest gave them */
	uint16_t table_entries;
	uint8_t table[NDIS_RSS_TABLE_MAX]; /* channel indices */
	uint8_t key[NDIS_RSS_KEY_BYTES];
};

/*
 * ndis_rss_decode() - OID_GEN_RECEIVE_SCALE_PARAMETERS, applied to @out.
 * @channels: table entries must be below that.
 * Returns 0; -EBADMSG (then @out is as it was).
 */
MUST_USE int ndis_rss_decode(const void *buf, size_t len_bytes, uint32_t channels,
                             struct ndis_rss *out);

/*
 * ndis_address_decode() - OID_GEN_RNDIS_CONFIG_PARAMETER "NetworkAddress": twelve hexadecimal
 * digits. Returns 0; -EBADMSG malformed or not an address for one adapter; -ENOENT another name.
 */
MUST_USE int ndis_address_decode(const void *buf, size_t len_bytes, uint8_t mac[6]);

#endif
