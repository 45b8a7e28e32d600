/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_IC_IC_WIRE_H
#define HV_VSP_IC_IC_WIRE_H

/* ic_wire - the integration services' messages. Source: docs/spec/integration.md. */

#include <stdint.h>

#include "base/wire.h"

enum ic_type {
	IC_NEGOTIATE = 0,
	IC_HEARTBEAT = 1,
	IC_KVP = 2,
	IC_SHUTDOWN = 3,
	IC_TIMESYNC = 4,
};

#define IC_FLAG_TRANSACTION 1u
#define IC_FLAG_REQUEST 2u
#define IC_FLAG_RESPONSE 4u

#define IC_STATUS_OK 0u
#define IC_STATUS_FAIL 0x80004005u
#define IC_STATUS_NO_MORE_ITEMS 0x80070103u

#define IC_PIPE_DATA 1u

struct ic_version {
	le16 major;
	le16 minor;
};
WIRE_SIZE(struct ic_version, 4);

/* Before every message: the pipe's header, then the service's. */
struct ic_header {
	le32 pipe_type;              /* 0: IC_PIPE_DATA */
	le32 pipe_bytes;             /* 4: of what follows */
	struct ic_version framework; /* 8 */
	le16 type;                   /* 12 */
	struct ic_version service;   /* 14 */
	le16 payload_bytes;          /* 18 */
	le32 status;                 /* 20 */
	uint8_t transaction;         /* 24 */
	uint8_t flags;
	uint8_t reserved[2];
};
WIRE_SIZE(struct ic_header, 28);
WIRE_AT(struct ic_header, payload_bytes, 18);
WIRE_AT(struct ic_header, transaction, 24);

#define IC_PIPE_HEADER_BYTES 8u

/* Behind it: the framework versions, then the service versions. */
struct ic_negotiate {
	le16 framework_count;
	le16 service_count;
	le32 reserved;
};
WIRE_SIZE(struct ic_negotiate, 8);

struct ic_heartbeat {
	le64 sequence;
	le32 reserved[8];
};
WIRE_SIZE(struct ic_heartbeat, 40);

#define IC_SHUTDOWN_TEXT_BYTES 2048u
#define IC_SHUTDOWN_FORCE 1u
#define IC_SHUTDOWN_RESTART 2u

struct ic_shutdown {
	le32 reason;
	le32 timeout_s;
	le32 flags;
	uint8_t text[IC_SHUTDOWN_TEXT_BYTES]; /* UTF-16LE */
};
WIRE_SIZE(struct ic_shutdown, 2060);

#define IC_TIME_SYNC 1u   /* step the clock now */
#define IC_TIME_SAMPLE 2u /* feed the guest's clock discipline */

/* Version 4. */
struct ic_timesync {
	le64 host_time;      /* 100 ns since 1601 */
	le64 reference_time; /* the partition's reference counter at that instant */
	uint8_t flags;
	uint8_t leap;
	uint8_t stratum;
	uint8_t reserved[5];
};
WIRE_SIZE(struct ic_timesync, 24);

/* Version 3 and 1. */
struct ic_timesync_v3 {
	le64 parent_time;
	le64 child_time;
	le64 round_trip_time;
	uint8_t flags;
	uint8_t reserved[3];
};
WIRE_SIZE(struct ic_timesync_v3, 28);

#define IC_KVP_ENUMERATE 3u
#define IC_KVP_POOL_AUTO 2u
#define IC_KVP_KEY_BYTES 512u
#define IC_KVP_VALUE_BYTES 2048u
#define IC_KVP_STRING 1u

struct ic_kvp_header {
	uint8_t operation;
	uint8_t pool;
	le16 reserved;
};
WIRE_SIZE(struct ic_kvp_header, 4);

struct ic_kvp_enumerate {
	struct ic_kvp_header header;
	le32 index;
	le32 value_type;
	le32 key_bytes;
	le32 value_bytes;
	uint8_t key[IC_KVP_KEY_BYTES];     /* UTF-16LE with its end */
	uint8_t value[IC_KVP_VALUE_BYTES]; /* the same, if value_type is a string */
};
WIRE_SIZE(struct ic_kvp_enumerate, 4 + 4 + 12 + 512 + 2048);

#endif
