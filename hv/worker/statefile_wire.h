/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_STATEFILE_WIRE_H
#define HV_WORKER_STATEFILE_WIRE_H

/* statefile_wire - the head of a saved state. Source: docs/formats/statefile.md. */

#include <stdint.h>

#include "base/guid.h"
#include "base/wire.h"

#define STATEFILE_MAGIC 0x3154535457444f47ull /* "GODWTST1" */
#define STATEFILE_VERSION 1u
#define STATEFILE_CHUNK_BYTES (2u << 20)
#define STATEFILE_RAM_AT (2ull << 20)

struct statefile_header {
	le64 magic;
	le32 version;
	le32 chunk_bytes;
	struct guid vm_id;  /* 16 */
	le64 ram_bytes;     /* 32: at STATEFILE_RAM_AT */
	le64 crc_at;        /* 40: one le32 per chunk; 0 for a chunk that is all hole */
	le64 blob_at;       /* 48 */
	le64 blob_bytes;    /* 56 */
	le32 crc_table_crc; /* 64 */
	le32 blob_crc;      /* 68 */
	uint8_t reserved[4096 - 76];
	le32 crc; /* 4092: of what is before it */
};
WIRE_SIZE(struct statefile_header, 4096);
WIRE_AT(struct statefile_header, vm_id, 16);
WIRE_AT(struct statefile_header, crc, 4092);

#endif
