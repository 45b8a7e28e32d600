/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_RNDIS_H
#define HV_VSP_NETVSP_RNDIS_H

/*
 * rndis - RNDIS messages to and from bytes: pure, no guest memory, no state.
 *
 * What is decoded was copied out of the guest before; what it says is hostile.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/* The part of a data message that must hold its header and all its per-packet information.
 * Linux sends at most 44 + 4 * 16 bytes. */
#define RNDIS_HEAD_MAX 512u
#define RNDIS_REQUEST_MAX 4096u /* of a control message; the longest legal one (RSS) has 620 */
#define RNDIS_REPLY_MAX 256u    /* of our answers; the longest (offload capabilities) has 180 */
#define RNDIS_INFO_MAX (RNDIS_REPLY_MAX - 24u)
#define RNDIS_PACKETS_MAX 8u /* data messages in one transfer; told in INITIALIZE_COMPLETE */
#define RNDIS_ALIGNMENT 3u   /* they start at multiples of 2^this */
/* In front of a received frame: header, checksum, VLAN and packet id take 92; aligned. */
#define RNDIS_RX_ROOM 112u

/* A data message from the guest. Offsets count from the message's first byte. */
struct rndis_tx {
	uint32_t message_bytes;
	uint32_t data_offset;
	uint32_t data_bytes;
	bool has_checksum, has_lso, has_vlan;
	uint32_t checksum; /* RNDIS_CSUM_TX_* */
	uint32_t lso;      /* RNDIS_LSO_* */
	uint32_t vlan;     /* RNDIS_VLAN_* */
};

/*
 * rndis_tx_decode() - a data message.
 * @buf[len_bytes]: its first bytes, at least min(@total_bytes, RNDIS_HEAD_MAX) of them.
 * @total_bytes: from its first byte to the end of the transfer.
 * Returns 0; -EBADMSG no data message, or its lengths and offsets do not fit.
 */
MUST_USE int rndis_tx_decode(const void *buf, size_t len_bytes, uint32_t total_bytes,
                             struct rndis_tx *out);

/* A control message. */
struct rndis_request {
	uint32_t type; /* enum rndis_type */
	uint32_t id;
	uint32_t oid;        /* QUERY, SET */
	const uint8_t *info; /* borrowed: inside the decoded buffer */
	uint32_t info_bytes;
};

/*
 * rndis_request_decode() - a control message.
 * @buf[len_bytes]: all of it; what is behind its own length is ignored.
 * Returns 0; -EBADMSG too short, a type that is none, information outside of it.
 */
MUST_USE int rndis_request_decode(const void *buf, size_t len_bytes, struct rndis_request *out);

/* The answers; @out[RNDIS_REPLY_MAX]. All return the message's length. */
uint32_t rndis_initialize_reply(uint8_t *out, uint32_t id, uint32_t transfer_bytes_max);
/* @info[info_bytes <= RNDIS_INFO_MAX]; not with a @status that is a failure. */
uint32_t rndis_query_reply(uint8_t *out, const struct rndis_request *request, uint32_t status,
                           const void *info, uint32_t info_bytes);
uint32_t rndis_set_reply(uint8_t *out, const struct rndis_request *request, uint32_t status);
uint32_t rndis_reset_reply(uint8_t *out);
uint32_t rndis_indicate(uint8_t *out, uint32_t status);

/* What is told with a frame to the guest. */
struct rndis_rx {
	uint32_t data_offset; /* from the message's first byte; RNDIS_RX_ROOM or more */
	uint32_t data_bytes;
	uint32_t checksum; /* RNDIS_CSUM_RX_*; 0 = nothing is known */
	bool has_vlan;
	uint32_t vlan;      /* as the PPI has it */
	uint8_t part_flags; /* RNDIS_PACKET_ID_*; 0 = the whole frame */
	uint16_t part_id;
};

/* rndis_rx_encode() - the message's first RNDIS_RX_ROOM bytes. */
void rndis_rx_encode(uint8_t out[RNDIS_RX_ROOM], const struct rndis_rx *rx);

#endif
