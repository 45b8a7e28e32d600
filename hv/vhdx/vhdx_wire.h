/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_VHDX_WIRE_H
#define HV_VHDX_VHDX_WIRE_H

/*
 * vhdx_wire - the structures of a VHDX file, as they lie on disk. Little-endian throughout.
 *
 *	     0  file identifier            192 KiB  region table 1
 *	64 KiB  header 1                   256 KiB  region table 2
 *	128 KiB header 2                     1 MiB  log, metadata, BAT and blocks, in any order
 *
 * Source: [MS-VHDX] section 2; what we write: docs/formats/vhdx.md.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/guid.h"
#include "base/wire.h"

#define VHDX_MIB (1u << 20) /* every region and block starts at a multiple of it */

/* [MS-VHDX] 2.2.1 File Type Identifier: written at creation, never again. */
#define VHDX_FILE_ID_OFFSET 0u
#define VHDX_FILE_ID_SIGNATURE "vhdxfile"
#define VHDX_CREATOR_CHARS 256u

struct vhdx_file_id_wire {
	uint8_t signature[8]; /* 0: "vhdxfile" */
	le16 creator[256];    /* 8: UTF-16, for people; need not end with 0 */
};
WIRE_SIZE(struct vhdx_file_id_wire, 520);
WIRE_AT(struct vhdx_file_id_wire, creator, 8);

/* [MS-VHDX] 2.2.2 Headers: the valid one with the greater sequence number is current. */
#define VHDX_HEADER_1_OFFSET (64u << 10)
#define VHDX_HEADER_2_OFFSET (128u << 10)
#define VHDX_HEADER_BYTES 4096u
#define VHDX_HEADER_SIGNATURE 0x64616568u /* "head" */
#define VHDX_VERSION 1u
#define VHDX_LOG_VERSION 0u

struct vhdx_header_wire {
	le32 signature;         /*  0 */
	le32 checksum;          /*  4: crc32c of the 4 KiB with this field 0 */
	le64 sequence;          /*  8 */
	struct guid file_write; /* 16: new before the first change of the file */
	struct guid data_write; /* 32: new before the first change a guest can see */
	struct guid log;        /* 48: of the entries to replay; 0 = none */
	le16 log_version;       /* 64: 0 */
	le16 version;           /* 66: 1 */
	le32 log_len;           /* 68: [bytes], multiple of 1 MiB */
	le64 log_offset;        /* 72: [bytes], multiple of 1 MiB, >= 1 MiB */
	uint8_t reserved[4016]; /* 80: 0 */
};
WIRE_SIZE(struct vhdx_header_wire, VHDX_HEADER_BYTES);
WIRE_AT(struct vhdx_header_wire, log, 48);
WIRE_AT(struct vhdx_header_wire, log_offset, 72);

/* [MS-VHDX] 2.2.3 Region Tables: two copies; changed through the log. */
#define VHDX_REGION_1_OFFSET (192u << 10)
#define VHDX_REGION_2_OFFSET (256u << 10)
#define VHDX_REGION_BYTES (64u << 10)
#define VHDX_REGION_SIGNATURE 0x69676572u /* "regi" */
#define VHDX_REGION_ENTRIES_MAX 2047u
#define VHDX_REGION_REQUIRED 1u

struct vhdx_region_table_wire {
	le32 signature; /*  0 */
	le32 checksum;  /*  4: crc32c of the 64 KiB with this field 0 */
	le32 count;     /*  8: <= 2047 */
	le32 reserved;  /* 12: 0 */
};
WIRE_SIZE(struct vhdx_region_table_wire, 16);

struct vhdx_region_wire {
	struct guid id;
	le64 offset; /* 16: [bytes], multiple of 1 MiB, >= 1 MiB */
	le32 len;    /* 24: [bytes], multiple of 1 MiB */
	le32 flags;  /* 28: bit 0 = who does not know it must not open the file */
};
WIRE_SIZE(struct vhdx_region_wire, 32);
WIRE_AT(struct vhdx_region_wire, offset, 16);

/* [MS-VHDX] 2.3 Log: a ring of entries; everything in it in units of 4 KiB sectors. */
#define VHDX_LOG_SECTOR_BYTES 4096u
#define VHDX_LOG_ENTRY_SIGNATURE 0x65676f6cu /* "loge" */
#define VHDX_LOG_ZERO_SIGNATURE 0x6f72657au  /* "zero" */
#define VHDX_LOG_DESC_SIGNATURE 0x63736564u  /* "desc" */
#define VHDX_LOG_DATA_SIGNATURE 0x61746164u  /* "data" */

/* [MS-VHDX] 2.3.1.1 Entry Header. */
struct vhdx_log_entry_wire {
	le32 signature;    /*  0 */
	le32 checksum;     /*  4: crc32c of the whole entry with this field 0 */
	le32 entry_len;    /*  8: [bytes], multiple of 4 KiB */
	le32 tail;         /* 12: where in the log the oldest entry still needed starts [bytes] */
	le64 sequence;     /* 16: > 0, one more than the entry before */
	le32 desc_count;   /* 24 */
	le32 reserved;     /* 28: 0 */
	struct guid log;   /* 32: header's log GUID, or the entry is from another life */
	le64 flushed_size; /* 48: the file was durably this long when the entry was written */
	le64 last_size;    /* 56: the file is to be at least this long after the replay */
};
WIRE_SIZE(struct vhdx_log_entry_wire, 64);
WIRE_AT(struct vhdx_log_entry_wire, sequence, 16);
WIRE_AT(struct vhdx_log_entry_wire, log, 32);
WIRE_AT(struct vhdx_log_entry_wire, last_size, 56);

/* [MS-VHDX] 2.3.1.2 Zero Descriptor and 2.3.1.3 Data Descriptor, told apart by the signature. */
struct vhdx_log_desc_wire {
	le32 signature; /*  0: "zero" or "desc" */
	le32 trailing;  /*  4: data: the last 4 bytes of the sector; zero: reserved */
	le64 leading;   /*  8: data: the first 8 bytes of the sector; zero: length [bytes] */
	le64 offset;    /* 16: where in the file [bytes], multiple of 4 KiB */
	le64 sequence;  /* 24: the entry's */
};
WIRE_SIZE(struct vhdx_log_desc_wire, 32);
WIRE_AT(struct vhdx_log_desc_wire, offset, 16);

/* [MS-VHDX] 2.3.1.4 Data Sector. */
struct vhdx_log_data_wire {
	le32 signature;     /*    0 */
	le32 sequence_high; /*    4: with sequence_low the entry's: a torn sector shows */
	uint8_t data[4084]; /*    8: bytes 8..4091 of the sector */
	le32 sequence_low;  /* 4092 */
};
WIRE_SIZE(struct vhdx_log_data_wire, VHDX_LOG_SECTOR_BYTES);
WIRE_AT(struct vhdx_log_data_wire, sequence_low, 4092);

/*
 * [MS-VHDX] 2.5.1 BAT entry: a le64. Bits 0-2 the state, 3-19 reserved (0), 20-63 the place in
 * the file [MiB]; since that is a multiple of 1 MiB, clearing the low 20 bits leaves bytes.
 */
#define VHDX_BAT_STATE_MASK 7u
#define VHDX_BAT_RESERVED_MASK 0xffff8u
#define VHDX_BAT_OFFSET_MASK (~(uint64_t)0xfffffu)

/* [MS-VHDX] 2.6.1 Metadata Table. */
#define VHDX_METADATA_TABLE_BYTES (64u << 10)
#define VHDX_METADATA_SIGNATURE "metadata"
#define VHDX_METADATA_ENTRIES_MAX 2047u
#define VHDX_METADATA_ITEM_BYTES_MAX VHDX_MIB
#define VHDX_METADATA_USER 1u         /* not ours: a user's */
#define VHDX_METADATA_VIRTUAL_DISK 2u /* belongs to the disk, not to the file */
#define VHDX_METADATA_REQUIRED 4u     /* who does not know it must not open the file */

struct vhdx_metadata_table_wire {
	uint8_t signature[8];  /*  0: "metadata" */
	le16 reserved;         /*  8: 0 */
	le16 count;            /* 10: <= 2047 */
	uint8_t reserved2[20]; /* 12: 0 */
};
WIRE_SIZE(struct vhdx_metadata_table_wire, 32);

struct vhdx_metadata_entry_wire {
	struct guid id;
	le32 offset;   /* 16: [bytes] from the start of the region, >= 64 KiB; 0 if len is 0 */
	le32 len;      /* 20: [bytes], <= 1 MiB */
	le32 flags;    /* 24 */
	le32 reserved; /* 28: 0 */
};
WIRE_SIZE(struct vhdx_metadata_entry_wire, 32);
WIRE_AT(struct vhdx_metadata_entry_wire, flags, 24);

/* [MS-VHDX] 2.6.2.1 File Parameters. */
#define VHDX_FILE_LEAVE_ALLOCATED 1u /* a fixed disk */
#define VHDX_FILE_HAS_PARENT 2u      /* a differencing disk */

struct vhdx_file_params_wire {
	le32 block_bytes; /* 0: power of two, 1..256 MiB */
	le32 flags;       /* 4 */
};
WIRE_SIZE(struct vhdx_file_params_wire, 8);

/* [MS-VHDX] 2.6.2.2, .3, .4, .5: a le64 [bytes], a GUID, a le32 [bytes], a le32 [bytes]. */

/* [MS-VHDX] 2.6.2.6 Parent Locator: this, then the entries, then the strings in UTF-16. */
struct vhdx_locator_wire {
	struct guid type;
	le16 reserved; /* 16: 0 */
	le16 count;    /* 18 */
};
WIRE_SIZE(struct vhdx_locator_wire, 20);

struct vhdx_locator_entry_wire {
	le32 key_offset;   /* 0: [bytes] from the start of the locator */
	le32 value_offset; /* 4 */
	le16 key_len;      /* 8: [bytes], no terminator */
	le16 value_len;    /* 10 */
};
WIRE_SIZE(struct vhdx_locator_entry_wire, 12);

#endif
