/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_WITNESS_WITNESS_WIRE_H
#define CLUSTER_WITNESS_WITNESS_WIRE_H

/* Layout of a witness on a disk or in a file: docs/formats/witness.md. */

#include "base/guid.h"
#include "base/wire.h"

#define WITNESS_MAGIC_HEAD 0x3148544957574721ull  /* "!GWWITH1" */
#define WITNESS_MAGIC_BLOCK 0x3142544957574721ull /* "!GWWITB1" */

struct witness_head_wire {
	le64 magic;          /* 0 */
	struct guid cluster; /* 8 */
	struct guid witness; /* 24 */
	le32 slots;          /* 40 */
	le32 crc;            /* 44: crc32c of what is before */
};

WIRE_SIZE(struct witness_head_wire, 48);

struct witness_tag_wire {
	le64 seq;          /* 0 */
	le64 epoch;        /* 8 */
	struct guid claim; /* 16 */
	le32 count;        /* 32 */
	le32 reserved;     /* 36 */
	le32 nodes[32];    /* 40 */
};

WIRE_SIZE(struct witness_tag_wire, 168);

/* Below 512 bytes: the smallest disk writes it whole or not at all. */
struct witness_block_wire {
	le64 magic;                      /* 0 */
	struct guid witness;             /* 8 */
	le32 nodeid;                     /* 24 */
	le32 reserved;                   /* 28 */
	le64 seq;                        /* 32 */
	le64 mbal;                       /* 40 */
	le64 bal;                        /* 48 */
	struct witness_tag_wire decided; /* 56 */
	struct witness_tag_wire value;   /* 224 */
	le32 reserved2;                  /* 392 */
	le32 crc;                        /* 396: crc32c of what is before */
};

WIRE_SIZE(struct witness_block_wire, 400);
WIRE_AT(struct witness_block_wire, decided, 56);
WIRE_AT(struct witness_block_wire, crc, 396);

#endif
