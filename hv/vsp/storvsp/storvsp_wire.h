/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORVSP_STORVSP_WIRE_H
#define HV_VSP_STORVSP_STORVSP_WIRE_H

/* storvsp_wire - the packets of the synthetic SCSI controller. Source: docs/spec/storvsp.md. */

#include <stdint.h>

#include "base/wire.h"

enum storvsp_op {
	STORVSP_COMPLETE_IO = 1, /* every reply */
	STORVSP_REMOVE_DEVICE = 2,
	STORVSP_EXECUTE_SRB = 3,
	STORVSP_RESET_LUN = 4,
	STORVSP_RESET_ADAPTER = 5,
	STORVSP_RESET_BUS = 6,
	STORVSP_BEGIN_INIT = 7,
	STORVSP_END_INIT = 8,
	STORVSP_QUERY_VERSION = 9,
	STORVSP_QUERY_PROPERTIES = 10,
	STORVSP_ENUMERATE_BUS = 11,
	STORVSP_FCHBA_DATA = 12,
	STORVSP_CREATE_SUB_CHANNELS = 13,
};

#define STORVSP_VERSION_WIN8 0x0501u
#define STORVSP_VERSION_WIN81 0x0600u
#define STORVSP_VERSION_WIN10 0x0602u

#define STORVSP_STATUS_OK 0u
#define STORVSP_STATUS_REVISION_MISMATCH 0xc0000059u
#define STORVSP_STATUS_INVALID_PARAMETER 0xc000000du
#define STORVSP_STATUS_NOT_SUPPORTED 0xc00000bbu
#define STORVSP_STATUS_INVALID_DEVICE_STATE 0xc0000184u

/* srb_status */
#define STORVSP_SRB_SUCCESS 0x01u
#define STORVSP_SRB_ABORTED 0x02u
#define STORVSP_SRB_ERROR 0x04u
#define STORVSP_SRB_INVALID_REQUEST 0x06u
#define STORVSP_SRB_INVALID_LUN 0x20u
#define STORVSP_SRB_SENSE_VALID 0x80u

#define STORVSP_SENSE_BYTES 20u

enum storvsp_direction { STORVSP_WRITE = 0, STORVSP_READ = 1, STORVSP_NO_DATA = 2 };

/* A SCSI request and its result. */
struct storvsp_srb {
	le16 length; /* 0x34 */
	uint8_t srb_status;
	uint8_t scsi_status;
	uint8_t port;
	uint8_t path;
	uint8_t target;
	uint8_t lun;
	uint8_t cdb_bytes;   /* 8 */
	uint8_t sense_bytes; /* 9: room, and in the reply how much is valid */
	uint8_t direction;   /* 10: enum storvsp_direction */
	uint8_t reserved0;
	le32 transfer_bytes;                       /* 12 */
	uint8_t cdb_or_sense[STORVSP_SENSE_BYTES]; /* 16 */
	le16 reserved1;                            /* 36 */
	uint8_t queue_tag;
	uint8_t queue_action;
	le32 srb_flags;
	le32 timeout_s;
	le32 sort_key;
};
WIRE_SIZE(struct storvsp_srb, 52);
WIRE_AT(struct storvsp_srb, transfer_bytes, 12);
WIRE_AT(struct storvsp_srb, cdb_or_sense, 16);

struct storvsp_version {
	le16 version;
	le16 revision;
};
WIRE_SIZE(struct storvsp_version, 4);

struct storvsp_properties {
	le32 reserved0;
	le16 channels_max; /* sub-channels the guest may ask for */
	le16 reserved1;
	le32 flags; /* bit 0: multi-channel */
	le32 transfer_bytes_max;
	le64 reserved2;
};
WIRE_SIZE(struct storvsp_properties, 24);

/* The packet: requests and replies. */
struct storvsp_packet {
	le32 op;
	le32 flags; /* bit 0: completion requested */
	le32 status;
	union {
		struct storvsp_srb srb;
		struct storvsp_version version;
		struct storvsp_properties properties;
		le16 sub_channels;
		uint8_t bytes[52];
	} u;
};
WIRE_SIZE(struct storvsp_packet, 64);
WIRE_AT(struct storvsp_packet, u, 12);

#endif
