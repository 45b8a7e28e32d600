/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_FLIGHT_FLIGHT_WIRE_H
#define CLUSTER_FLIGHT_FLIGHT_WIRE_H

/* Layout of a flight recorder's file: docs/formats/flight.md. */

#include "base/guid.h"
#include "base/wire.h"

#define FLIGHT_MAGIC 0x3148474c46574721ull /* "!GWFLGH1" */
#define FLIGHT_VERSION 1u
#define FLIGHT_HEAD_BYTES 4096u /* records begin behind it */

struct flight_head_wire {
	le64 magic;          /* 0 */
	le32 version;        /* 8 */
	le32 records;        /* 12: room for so many */
	struct guid cluster; /* 16 */
	struct guid boot;    /* 32: the kernel's boot_id */
	le32 nodeid;         /* 48 */
	le32 reserved;       /* 52 */
	le64 begin_boot_ns;  /* 56: the same moment on CLOCK_BOOTTIME ... */
	le64 begin_wall_ns;  /* 64: ... and for people */
	le32 reserved2;      /* 72 */
	le32 crc;            /* 76: crc32c of what is before */
};

WIRE_SIZE(struct flight_head_wire, 80);
WIRE_AT(struct flight_head_wire, begin_boot_ns, 56);
WIRE_AT(struct flight_head_wire, crc, 76);

/* At FLIGHT_HEAD_BYTES + 32 * ((seq - 1) % records). A sector holds whole ones. */
struct flight_record_wire {
	le64 seq;     /* 0: 1, 2, ...; 0 = nothing here yet */
	le64 boot_ns; /* 8 */
	le16 kind;    /* 16 */
	le16 node;    /* 18 */
	le32 value;   /* 20 */
	le32 value2;  /* 24 */
	le32 crc;     /* 28: crc32c of what is before */
};

WIRE_SIZE(struct flight_record_wire, 32);
WIRE_AT(struct flight_record_wire, kind, 16);
WIRE_AT(struct flight_record_wire, crc, 28);

#endif
