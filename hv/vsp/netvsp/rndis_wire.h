/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_RNDIS_WIRE_H
#define HV_VSP_NETVSP_RNDIS_WIRE_H

/*
 * rndis_wire - RNDIS messages and the NDIS structures in them. Source: [MS-RNDIS] 2.2; per-packet
 * information and NDIS structures: docs/spec/netvsp.md.
 */

#include <stdint.h>

#include "base/wire.h"

enum rndis_type {
	RNDIS_PACKET = 1,
	RNDIS_INITIALIZE = 2,
	RNDIS_HALT = 3,
	RNDIS_QUERY = 4,
	RNDIS_SET = 5,
	RNDIS_RESET = 6,
	RNDIS_INDICATE_STATUS = 7,
	RNDIS_KEEPALIVE = 8,
};
#define RNDIS_COMPLETE 0x80000000u /* of an answer's type */

#define RNDIS_STATUS_SUCCESS 0u
#define RNDIS_STATUS_FAILURE 0xc0000001u
#define RNDIS_STATUS_NOT_SUPPORTED 0xc00000bbu
#define RNDIS_STATUS_INVALID_LENGTH 0xc0010014u
#define RNDIS_STATUS_INVALID_DATA 0xc0010015u
#define RNDIS_STATUS_MEDIA_CONNECT 0x4001000bu
#define RNDIS_STATUS_MEDIA_DISCONNECT 0x4001000cu

#define RNDIS_OID_SUPPORTED_LIST 0x00010101u
#define RNDIS_OID_HARDWARE_STATUS 0x00010102u
#define RNDIS_OID_MEDIA_SUPPORTED 0x00010103u
#define RNDIS_OID_MEDIA_IN_USE 0x00010104u
#define RNDIS_OID_MAXIMUM_FRAME_SIZE 0x00010106u
#define RNDIS_OID_LINK_SPEED 0x00010107u
#define RNDIS_OID_TRANSMIT_BLOCK_SIZE 0x0001010au
#define RNDIS_OID_RECEIVE_BLOCK_SIZE 0x0001010bu
#define RNDIS_OID_VENDOR_ID 0x0001010cu
#define RNDIS_OID_VENDOR_DESCRIPTION 0x0001010du
#define RNDIS_OID_PACKET_FILTER 0x0001010eu
#define RNDIS_OID_MAXIMUM_TOTAL_SIZE 0x00010111u
#define RNDIS_OID_MEDIA_CONNECT_STATUS 0x00010114u
#define RNDIS_OID_VENDOR_DRIVER_VERSION 0x00010116u
#define RNDIS_OID_RSS_CAPABILITIES 0x00010203u
#define RNDIS_OID_RSS_PARAMETERS 0x00010204u
#define RNDIS_OID_FRIENDLY_NAME 0x00020216u
#define RNDIS_OID_CONFIG_PARAMETER 0x0001021bu
#define RNDIS_OID_XMIT_OK 0x00020101u
#define RNDIS_OID_RCV_OK 0x00020102u
#define RNDIS_OID_XMIT_ERROR 0x00020103u
#define RNDIS_OID_RCV_ERROR 0x00020104u
#define RNDIS_OID_RCV_NO_BUFFER 0x00020105u
#define RNDIS_OID_PERMANENT_ADDRESS 0x01010101u
#define RNDIS_OID_CURRENT_ADDRESS 0x01010102u
#define RNDIS_OID_MULTICAST_LIST 0x01010103u
#define RNDIS_OID_MAXIMUM_LIST_SIZE 0x01010104u
#define RNDIS_OID_OFFLOAD_CURRENT 0xfc01020bu
#define RNDIS_OID_OFFLOAD_PARAMETERS 0xfc01020cu
#define RNDIS_OID_OFFLOAD_CAPABILITIES 0xfc01020du
#define RNDIS_OID_OFFLOAD_ENCAPSULATION 0x0101010au

#define RNDIS_FILTER_DIRECTED 0x01u
#define RNDIS_FILTER_MULTICAST 0x02u
#define RNDIS_FILTER_ALL_MULTICAST 0x04u
#define RNDIS_FILTER_BROADCAST 0x08u
#define RNDIS_FILTER_PROMISCUOUS 0x20u

struct rndis_header_wire {
	le32 type;
	le32 bytes; /* of the whole message */
};
WIRE_SIZE(struct rndis_header_wire, 8);

/* All offsets in message bodies count from the byte behind the header. */
struct rndis_packet_wire {
	struct rndis_header_wire header;
	le32 data_offset;
	le32 data_bytes;
	le32 oob_offset;
	le32 oob_bytes;
	le32 oob_count;
	le32 ppi_offset;
	le32 ppi_bytes;
	le32 vc;
	le32 reserved;
};
WIRE_SIZE(struct rndis_packet_wire, 44);

struct rndis_ppi_wire {
	le32 bytes; /* with this header */
	le32 type;  /* enum rndis_ppi_type; bit 31: internal, another name space */
	le32 offset;
};
WIRE_SIZE(struct rndis_ppi_wire, 12);

enum rndis_ppi_type {
	RNDIS_PPI_CHECKSUM = 0,
	RNDIS_PPI_LSO = 2,
	RNDIS_PPI_VLAN = 6,
	RNDIS_PPI_HASH = 8,
};
#define RNDIS_PPI_INTERNAL 0x80000000u
#define RNDIS_PPI_PACKET_ID (RNDIS_PPI_INTERNAL | 1u)

/* Checksum, to the host. */
#define RNDIS_CSUM_TX_IPV4 0x01u
#define RNDIS_CSUM_TX_IPV6 0x02u
#define RNDIS_CSUM_TX_TCP 0x04u
#define RNDIS_CSUM_TX_UDP 0x08u
#define RNDIS_CSUM_TX_IP_HEADER 0x10u
#define RNDIS_CSUM_TX_HEADER_OFFSET(v) ((v) >> 16 & 0x3ffu)
/* Checksum, to the guest. */
#define RNDIS_CSUM_RX_TCP_OK 0x08u
#define RNDIS_CSUM_RX_UDP_OK 0x10u
#define RNDIS_CSUM_RX_IP_OK 0x20u

#define RNDIS_LSO_MSS(v) ((v)&0xfffffu)
#define RNDIS_LSO_HEADER_OFFSET(v) ((v) >> 20 & 0x3ffu)
#define RNDIS_LSO_V2 0x40000000u
#define RNDIS_LSO_IPV6 0x80000000u

/* Priority, CFI, VLAN id as the PPI has them. */
#define RNDIS_VLAN_PRIORITY(v) ((v)&7u)
#define RNDIS_VLAN_CFI(v) ((v) >> 3 & 1u)
#define RNDIS_VLAN_ID(v) ((v) >> 4 & 0xfffu)

/* One frame in several packets of one transfer: RNDIS_PPI_PACKET_ID. */
#define RNDIS_PACKET_ID_V1 1u
#define RNDIS_PACKET_ID_PART 1u
#define RNDIS_PACKET_ID_FIRST 2u
#define RNDIS_PACKET_ID_LAST 4u

struct rndis_packet_id_wire {
	uint8_t version;
	uint8_t flags;
	le16 id;
};
WIRE_SIZE(struct rndis_packet_id_wire, 4);

struct rndis_initialize_wire {
	struct rndis_header_wire header;
	le32 id;
	le32 major;
	le32 minor;
	le32 transfer_bytes_max;
};
WIRE_SIZE(struct rndis_initialize_wire, 24);

struct rndis_initialize_complete_wire {
	struct rndis_header_wire header;
	le32 id;
	le32 status;
	le32 major;
	le32 minor;
	le32 device_flags; /* 1: connectionless */
	le32 medium;       /* 0: 802.3 */
	le32 packets_max;
	le32 transfer_bytes_max;
	le32 alignment; /* exponent of 2 */
	le32 af_list_offset;
	le32 af_list_bytes;
};
WIRE_SIZE(struct rndis_initialize_complete_wire, 52);

struct rndis_request_wire { /* QUERY, SET */
	struct rndis_header_wire header;
	le32 id;
	le32 oid;
	le32 info_bytes;
	le32 info_offset;
	le32 vc;
};
WIRE_SIZE(struct rndis_request_wire, 28);

struct rndis_query_complete_wire {
	struct rndis_header_wire header;
	le32 id;
	le32 status;
	le32 info_bytes;
	le32 info_offset;
};
WIRE_SIZE(struct rndis_query_complete_wire, 24);

struct rndis_set_complete_wire { /* also KEEPALIVE */
	struct rndis_header_wire header;
	le32 id;
	le32 status;
};
WIRE_SIZE(struct rndis_set_complete_wire, 16);

struct rndis_reset_complete_wire {
	struct rndis_header_wire header;
	le32 status;
	le32 addressing_reset;
};
WIRE_SIZE(struct rndis_reset_complete_wire, 16);

struct rndis_indicate_wire {
	struct rndis_header_wire header;
	le32 status;
	le32 buffer_bytes;
	le32 buffer_offset;
};
WIRE_SIZE(struct rndis_indicate_wire, 20);

/* ---- NDIS structures inside of OIDs ---- */

#define NDIS_OBJECT_DEFAULT 0x80u
#define NDIS_OBJECT_RSS_CAPABILITIES 0x88u
#define NDIS_OBJECT_RSS_PARAMETERS 0x89u
#define NDIS_OBJECT_OFFLOAD 0xa7u

struct ndis_object_wire {
	uint8_t type;
	uint8_t revision;
	le16 bytes;
};
WIRE_SIZE(struct ndis_object_wire, 4);

#define NDIS_ENCAPSULATION_8023 2u
/* Checksum capabilities, the same bits for both directions; the options' bits 0 and 2 mean IP
 * options and TCP options with IPv4, extension headers and TCP options with IPv6. */
#define NDIS_CSUM_IP_OPTIONS 0x001u
#define NDIS_CSUM_TCP_OPTIONS 0x004u
#define NDIS_CSUM_TCP 0x010u
#define NDIS_CSUM_UDP 0x040u
#define NDIS_CSUM_IP 0x100u
#define NDIS_LSO_IP6_OPTIONS 0x5u

struct ndis_checksum_wire {
	le32 encapsulation;
	le32 flags;
};
WIRE_SIZE(struct ndis_checksum_wire, 8);

struct ndis_offload_wire {
	struct ndis_object_wire object;
	struct ndis_checksum_wire ip4_tx; /*   4 */
	struct ndis_checksum_wire ip4_rx;
	struct ndis_checksum_wire ip6_tx;
	struct ndis_checksum_wire ip6_rx;
	le32 lso_v1[4];          /*  36 */
	le32 ipsec_v1[7];        /*  52 */
	le32 lso4_encapsulation; /*  80 */
	le32 lso4_bytes_max;
	le32 lso4_segments_min;
	le32 lso6_encapsulation;
	le32 lso6_bytes_max;
	le32 lso6_segments_min;
	le32 lso6_options;
	le32 flags;           /* 108 */
	uint8_t ipsec_v2[32]; /* 112: from here NDIS 6.1 */
	uint8_t rsc4;         /* 144: from here NDIS 6.30 */
	uint8_t rsc6;
	uint8_t pad[2];
	le32 encapsulated_types; /* 148 */
	le32 encapsulated_header_max;
};
WIRE_SIZE(struct ndis_offload_wire, 156);
WIRE_AT(struct ndis_offload_wire, lso4_encapsulation, 80);
WIRE_AT(struct ndis_offload_wire, ipsec_v2, 112);
WIRE_AT(struct ndis_offload_wire, rsc4, 144);
WIRE_AT(struct ndis_offload_wire, encapsulated_types, 148);

/* Values of the fields below. */
#define NDIS_PARAMETER_NO_CHANGE 0u
#define NDIS_PARAMETER_OFF 1u
#define NDIS_PARAMETER_TX 2u /* LSO and RSC: on */
#define NDIS_PARAMETER_RX 3u
#define NDIS_PARAMETER_BOTH 4u

struct ndis_offload_parameters_wire {
	struct ndis_object_wire object;
	uint8_t ip4_checksum; /*  4 */
	uint8_t tcp4_checksum;
	uint8_t udp4_checksum;
	uint8_t tcp6_checksum;
	uint8_t udp6_checksum;
	uint8_t lso_v1;
	uint8_t ipsec_v1;
	uint8_t lso4;
	uint8_t lso6;
	uint8_t connection4;
	uint8_t connection6;
	uint8_t pad;
	le32 flags; /* 16 */
	uint8_t ipsec_v2;
	uint8_t ipsec_v2_ip4; /* 21: up to here with NVSP 4 and older */
	uint8_t rsc4;
	uint8_t rsc6;
	uint8_t encapsulated;
	uint8_t encapsulated_types;
	uint8_t tail[2];
};
WIRE_SIZE(struct ndis_offload_parameters_wire, 28);
WIRE_AT(struct ndis_offload_parameters_wire, flags, 16);
WIRE_AT(struct ndis_offload_parameters_wire, rsc4, 22);
#define NDIS_OFFLOAD_PARAMETERS_BYTES_MIN 22u

/* Toeplitz over IPv4 and IPv6 with TCP ports; message signalled. */
#define NDIS_RSS_CAPS 0x01000300u
#define NDIS_RSS_TABLE_MAX 128u
#define NDIS_RSS_KEY_BYTES 40u
#define NDIS_RSS_DISABLE 0x10u
#define NDIS_RSS_HASH_UNCHANGED 0x02u
#define NDIS_RSS_TABLE_UNCHANGED 0x04u
#define NDIS_RSS_KEY_UNCHANGED 0x08u

struct ndis_rss_capabilities_wire {
	struct ndis_object_wire object;
	le32 flags;
	le32 interrupts;
	le32 queues;
	le16 table_entries;
};
WIRE_SIZE(struct ndis_rss_capabilities_wire, 18);

struct ndis_rss_parameters_wire {
	struct ndis_object_wire object;
	le16 flags;
	le16 base_processor;
	le32 hash; /* function and types */
	le16 table_bytes;
	le16 pad0;
	le32 table_offset; /* from the start of this structure, as the key's */
	le16 key_bytes;
	le16 pad1;
	le32 key_offset;
	le32 masks[3];
};
WIRE_SIZE(struct ndis_rss_parameters_wire, 40);
WIRE_AT(struct ndis_rss_parameters_wire, table_offset, 16);
WIRE_AT(struct ndis_rss_parameters_wire, key_offset, 24);

#define NDIS_CONFIG_STRING 2u

struct ndis_config_wire {
	le32 name_offset; /* from the start of this structure */
	le32 name_bytes;  /* UTF-16 */
	le32 type;        /* NDIS_CONFIG_STRING */
	le32 value_offset;
	le32 value_bytes;
};
WIRE_SIZE(struct ndis_config_wire, 20);

#endif
