/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_NETVSP_WIRE_H
#define HV_VSP_NETVSP_NETVSP_WIRE_H

/* netvsp_wire - NVSP, the messages on a network adapter's channel. Source: docs/spec/netvsp.md. */

#include <stdint.h>

#include "base/wire.h"

#define NETVSP_VERSION_1 0x00002u
#define NETVSP_VERSION_2 0x30002u
#define NETVSP_VERSION_4 0x40000u
#define NETVSP_VERSION_5 0x50000u
#define NETVSP_VERSION_6 0x60000u
#define NETVSP_VERSION_61 0x60001u

enum netvsp_type {
	NETVSP_INIT = 1,
	NETVSP_INIT_COMPLETE = 2,
	NETVSP_SEND_NDIS_VERSION = 100,
	NETVSP_SEND_RECV_BUFFER = 101,
	NETVSP_SEND_RECV_BUFFER_COMPLETE = 102,
	NETVSP_REVOKE_RECV_BUFFER = 103,
	NETVSP_SEND_SEND_BUFFER = 104,
	NETVSP_SEND_SEND_BUFFER_COMPLETE = 105,
	NETVSP_REVOKE_SEND_BUFFER = 106,
	NETVSP_SEND_RNDIS_PACKET = 107,
	NETVSP_SEND_RNDIS_PACKET_COMPLETE = 108,
	NETVSP_SEND_NDIS_CONFIG = 125,
	NETVSP_SWITCH_DATA_PATH = 129,
	NETVSP_SUBCHANNEL = 133,
	NETVSP_SEND_INDIRECTION_TABLE = 134,
};

enum netvsp_status {
	NETVSP_STATUS_SUCCESS = 1,
	NETVSP_STATUS_FAIL = 2,
	NETVSP_STATUS_TOO_NEW = 3,
	NETVSP_STATUS_TOO_OLD = 4,
	NETVSP_STATUS_INVALID_RNDIS = 5,
	NETVSP_STATUS_BUSY = 6,
	NETVSP_STATUS_UNSUPPORTED = 7,
};

#define NETVSP_CHANNEL_DATA 0u
#define NETVSP_CHANNEL_CONTROL 1u
#define NETVSP_NO_SECTION 0xffffffffu
#define NETVSP_MDL_CHAIN_MAX 34u
#define NETVSP_SUBCHANNEL_ALLOCATE 1u
#define NETVSP_SEND_TABLE_ENTRIES 16u

#define NETVSP_CAP_8021Q (1ull << 3) /* in SEND_NDIS_CONFIG */
#define NETVSP_CAP_RSC (1ull << 7)

struct netvsp_init_wire { /* G */
	le32 version_min;
	le32 version_max;
};
WIRE_SIZE(struct netvsp_init_wire, 8);

struct netvsp_init_complete_wire { /* H */
	le32 version;
	le32 mdl_chain_max;
	le32 status;
};
WIRE_SIZE(struct netvsp_init_complete_wire, 12);

struct netvsp_ndis_version_wire { /* G */
	le32 major;
	le32 minor;
};
WIRE_SIZE(struct netvsp_ndis_version_wire, 8);

struct netvsp_ndis_config_wire { /* G */
	le32 frame_max;          /* MTU + 14 */
	le32 reserved;
	le64 capabilities; /* NETVSP_CAP_* */
};
WIRE_SIZE(struct netvsp_ndis_config_wire, 16);

struct netvsp_buffer_wire { /* G: SEND_RECV_BUFFER, SEND_SEND_BUFFER */
	le32 gpadl;
	le16 id;
};
WIRE_SIZE(struct netvsp_buffer_wire, 6);

struct netvsp_recv_complete_wire { /* H */
	le32 status;
	le32 sections; /* one */
	le32 offset;
	le32 slot_bytes;
	le32 slots;
	le32 end_offset;
};
WIRE_SIZE(struct netvsp_recv_complete_wire, 24);

struct netvsp_send_complete_wire { /* H */
	le32 status;
	le32 section_bytes;
};
WIRE_SIZE(struct netvsp_send_complete_wire, 8);

struct netvsp_rndis_wire { /* both */
	le32 channel_type;
	le32 section;
	le32 section_bytes;
};
WIRE_SIZE(struct netvsp_rndis_wire, 12);

struct netvsp_subchannel_wire { /* G: operation, count; H: status, count */
	le32 operation;
	le32 count;
};
WIRE_SIZE(struct netvsp_subchannel_wire, 8);

struct netvsp_send_table_wire { /* H */
	le32 count;
	le32 offset; /* from the start of the message */
};
WIRE_SIZE(struct netvsp_send_table_wire, 8);

/* A message; guests of versions below 6.1 may send fewer bytes. We always send all of it. */
struct netvsp_message {
	le32 type;
	union {
		struct netvsp_init_wire init;
		struct netvsp_init_complete_wire init_complete;
		struct netvsp_ndis_version_wire ndis_version;
		struct netvsp_ndis_config_wire ndis_config;
		struct netvsp_buffer_wire buffer;
		struct netvsp_recv_complete_wire recv_complete;
		struct netvsp_send_complete_wire send_complete;
		struct netvsp_rndis_wire rndis;
		struct netvsp_subchannel_wire subchannel;
		struct netvsp_send_table_wire send_table;
		le16 buffer_id; /* REVOKE_* */
		le32 status;    /* SEND_RNDIS_PACKET_COMPLETE, SWITCH_DATA_PATH */
		uint8_t bytes[36];
	} u;
};
WIRE_SIZE(struct netvsp_message, 40);
WIRE_AT(struct netvsp_message, u, 4);

/* The type's own header of a transfer-page packet: receive buffer ranges to the guest. */
struct netvsp_transfer_wire {
	le16 buffer_id;
	uint8_t sender_owns_set;
	uint8_t reserved;
	le32 count;
};
WIRE_SIZE(struct netvsp_transfer_wire, 8);

struct netvsp_transfer_range_wire {
	le32 byte_count;
	le32 byte_offset;
};
WIRE_SIZE(struct netvsp_transfer_range_wire, 8);

/* In front of each frame on the tap. Source: virtio 1.2, 5.1.6 (struct virtio_net_hdr). */
#define NETVSP_VNET_NEEDS_CSUM 1u
#define NETVSP_VNET_DATA_VALID 2u
#define NETVSP_VNET_GSO_NONE 0u
#define NETVSP_VNET_GSO_TCPV4 1u
#define NETVSP_VNET_GSO_TCPV6 4u
#define NETVSP_VNET_GSO_ECN 0x80u

struct netvsp_vnet_wire {
	uint8_t flags;
	uint8_t gso_type;
	le16 header_bytes;
	le16 gso_bytes;
	le16 csum_start;
	le16 csum_offset;
	le16 buffers;
};
WIRE_SIZE(struct netvsp_vnet_wire, 12);

#endif
