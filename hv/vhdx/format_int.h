/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_FORMAT_INT_H
#define HV_VHDX_FORMAT_INT_H

/*
 * format - the VHDX structures decoded and encoded. Pure: no I/O, no clock, no allocation but
 * where it says so. Every decoder takes bytes that may hold anything, leaves *out alone unless it
 * returns 0, and returns -EBADMSG with the fault in @eb (without naming the structure: the caller
 * does that), or -ENOTSUP for what is valid but not ours to read.
 *
 * Source: [MS-VHDX]; docs/spec/ms-vhdx.md says what is done and where we deviate.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vhdx/vhdx_wire.h"

struct errbuf;

#define VHDX_SIZE_MAX (64ull << 40)       /* [MS-VHDX] 2.6.2.2 */
#define VHDX_FILE_SIZE_MAX (128ull << 40) /* twice the largest disk: beyond it a file is damaged */
#define VHDX_BLOCK_BYTES_MIN VHDX_MIB
#define VHDX_BLOCK_BYTES_MAX (256u << 20)
#define VHDX_BAT_BYTES_MAX (513u << 20) /* 64 TiB in blocks of 1 MiB, with sector bitmaps */
#define VHDX_LOG_BYTES_MAX (128u << 20) /* read whole to replay; writers use 1 MiB, ours too */
#define VHDX_LOCATOR_BYTES_MAX (64u << 10)
#define VHDX_PATH_MAX 4096u /* PATH_MAX of Linux */

/* ---- header.c ---- */

/* vhdx_crc() - crc32c of @buf[len] as if the 4 bytes at @hole were 0; hole + 4 <= len. */
uint32_t vhdx_crc(const void *buf, size_t len, size_t hole);

struct vhdx_header {
	uint64_t sequence;
	struct guid file_write;
	struct guid data_write;
	struct guid log; /* nil: nothing to replay */
	uint32_t log_bytes;
	uint64_t log_offset;
};

/* vhdx_file_id_check() - is it a VHDX at all? Returns 0; -EBADMSG. */
MUST_USE int vhdx_file_id_check(const void *buf, size_t len, struct errbuf *eb);

/* vhdx_file_id_encode() - @creator: ASCII, cut at 255 characters. */
struct vhdx_file_id_wire vhdx_file_id_encode(const char *creator);

/*
 * vhdx_header_decode() - one copy of the header.
 * @buf[len]: len >= VHDX_HEADER_BYTES.
 * Returns 0; -EBADMSG; -ENOTSUP version.
 */
MUST_USE int vhdx_header_decode(const void *buf, size_t len, struct vhdx_header *out,
                                struct errbuf *eb);

void vhdx_header_encode(const struct vhdx_header *header, struct vhdx_header_wire *out);

/* ---- region.c ---- */

#define VHDX_REGIONS_OTHER_MAX 14u /* no known writer has any: two are defined */

struct vhdx_region {
	struct guid id;
	uint64_t offset;
	uint32_t bytes;
	bool required;
};

struct vhdx_regions {
	struct vhdx_region bat;
	struct vhdx_region metadata;
	struct vhdx_region other[VHDX_REGIONS_OTHER_MAX]; /* unknown, not required: their space */
	uint32_t other_count;
};

/*
 * vhdx_regions_decode() - a region table: checksum, alignment, no overlaps, BAT and metadata there.
 * @buf[len]: len >= VHDX_REGION_BYTES.
 * Returns 0; -EBADMSG; -ENOTSUP a required region that we do not know, or too many.
 */
MUST_USE int vhdx_regions_decode(const void *buf, size_t len, struct vhdx_regions *out,
                                 struct errbuf *eb);

/* vhdx_regions_encode() - @out[VHDX_REGION_BYTES]. */
void vhdx_regions_encode(const struct vhdx_regions *regions, void *out);

/* ---- metadata.c ---- */

enum vhdx_item {
	VHDX_ITEM_FILE_PARAMS,
	VHDX_ITEM_DISK_SIZE,
	VHDX_ITEM_DISK_ID,
	VHDX_ITEM_LOGICAL,
	VHDX_ITEM_PHYSICAL,
	VHDX_ITEM_LOCATOR,
	VHDX_ITEM_COUNT
};

struct vhdx_metadata_table {
	struct {
		uint32_t offset; /* from the start of the region */
		uint32_t bytes;  /* 0: the item is not there */
	} item[VHDX_ITEM_COUNT];
	uint32_t others_end; /* where items that we do not know end; 0: there are none */
};

/* What the items say; the locator is read apart. */
struct vhdx_metadata {
	uint64_t size_bytes; /* of the disk */
	uint32_t block_bytes;
	uint32_t logical_bytes;
	uint32_t physical_bytes;
	bool fixed; /* blocks stay allocated */
	bool has_parent;
	struct guid disk_id;
};

/*
 * vhdx_metadata_table_decode() - where the items are.
 * @buf[len]: the first 64 KiB of the region; @region_bytes: all of it.
 * Returns 0; -EBADMSG; -ENOTSUP a required item that we do not know.
 */
MUST_USE int vhdx_metadata_table_decode(const void *buf, size_t len, uint32_t region_bytes,
                                        struct vhdx_metadata_table *out, struct errbuf *eb);

/*
 * vhdx_metadata_item_decode() - one item (not the locator) into its fields of @out.
 * Returns 0; -EBADMSG.
 */
MUST_USE int vhdx_metadata_item_decode(enum vhdx_item item, const void *buf, size_t len,
                                       struct vhdx_metadata *out, struct errbuf *eb);

/* vhdx_metadata_check() - do the items fit together? Returns 0; -EBADMSG. */
MUST_USE int vhdx_metadata_check(const struct vhdx_metadata *metadata, struct errbuf *eb);

/*
 * vhdx_metadata_encode() - table and items.
 * @locator[locator_bytes]: from vhdx_locator_encode(), or NULL, 0.
 * @out[VHDX_METADATA_TABLE_BYTES + VHDX_METADATA_ITEMS_BYTES]: zeroed by us.
 */
#define VHDX_METADATA_ITEMS_BYTES (128u << 10)
void vhdx_metadata_encode(const struct vhdx_metadata *metadata, const void *locator,
                          uint32_t locator_bytes, void *out);

/*
 * vhdx_metadata_entry_find() - where in the table @table[VHDX_METADATA_TABLE_BYTES], which was
 * decoded before, the entry of @item is; 0: nowhere.
 */
uint32_t vhdx_metadata_entry_find(const void *table, enum vhdx_item item);

/* vhdx_item_name() - for messages. */
const char *vhdx_item_name(enum vhdx_item item);

/* ---- locator.c ---- */

/* 12 KiB: keep it on the heap. A path is "" if its key is not there. */
struct vhdx_locator {
	struct guid linkage;               /* the parent's data_write GUID */
	struct guid linkage2;              /* another one that is as good; nil if not there */
	char relative_path[VHDX_PATH_MAX]; /* UTF-8, separators as in the file */
	char absolute_path[VHDX_PATH_MAX];
	char volume_path[VHDX_PATH_MAX];
};

/* vhdx_locator_decode() - *out is empty on failure (too large for a second copy).
 * Returns 0; -EBADMSG; -ENOTSUP another type of locator. */
MUST_USE int vhdx_locator_decode(const void *buf, size_t len, struct vhdx_locator *out,
                                 struct errbuf *eb);

/*
 * vhdx_locator_encode() - @out[size]; size >= VHDX_LOCATOR_BYTES_MAX always suffices.
 * Returns the bytes used; -EINVAL a path is no UTF-8; -ENAMETOOLONG.
 */
MUST_USE int vhdx_locator_encode(const struct vhdx_locator *locator, void *out, size_t size);

/* ---- bat.c ---- */

enum vhdx_state {
	VHDX_NOT_PRESENT = 0, /* zeros, or the parent's */
	VHDX_UNDEFINED = 1,   /* as VHDX_UNMAPPED, never written */
	VHDX_ZERO = 2,
	VHDX_UNMAPPED = 3, /* trimmed: we read zeros */
	VHDX_PRESENT = 6,  /* payload: FULLY_PRESENT */
	VHDX_PARTIAL = 7,  /* payload in a differencing disk: the sector bitmap decides */
};

/* The numbers that follow from the metadata. */
struct vhdx_geometry {
	uint64_t size_bytes;
	uint32_t logical_bytes;
	uint32_t block_bytes;
	uint32_t block_shift;
	uint32_t logical_shift;
	uint32_t chunk_shift; /* payload blocks per sector bitmap block, as a power of two */
	uint64_t block_count; /* payload blocks */
	uint64_t chunk_count; /* sector bitmap blocks */
	uint64_t entry_count; /* of the BAT */
	bool has_parent;
};

/* vhdx_geometry_init() - @metadata has passed vhdx_metadata_check(). */
void vhdx_geometry_init(const struct vhdx_metadata *metadata, struct vhdx_geometry *out);

/* Where in the BAT: payload block @block, sector bitmap block @chunk. */
static inline uint64_t vhdx_bat_index(const struct vhdx_geometry *g, uint64_t block)
{
	return block + (block >> g->chunk_shift);
}

static inline uint64_t vhdx_bat_chunk_index(const struct vhdx_geometry *g, uint64_t chunk)
{
	return ((chunk + 1) << g->chunk_shift) + chunk;
}

static inline enum vhdx_state vhdx_bat_state(uint64_t entry)
{
	return (enum vhdx_state)(entry & VHDX_BAT_STATE_MASK);
}

static inline uint64_t vhdx_bat_offset(uint64_t entry)
{
	return entry & VHDX_BAT_OFFSET_MASK;
}

static inline uint64_t vhdx_bat_make(enum vhdx_state state, uint64_t offset)
{
	return offset | (uint64_t)state;
}

/* Does the entry of a payload block hold data in the file? */
static inline bool vhdx_bat_has_data(uint64_t entry)
{
	return (entry & VHDX_BAT_STATE_MASK) >= VHDX_PRESENT;
}

/* How much of the disk payload block @block (< block_count) holds: the last one may hold less. */
static inline uint64_t vhdx_block_bytes(const struct vhdx_geometry *g, uint64_t block)
{
	uint64_t left = g->size_bytes - (block << g->block_shift);

	return left < g->block_bytes ? left : g->block_bytes;
}

/* What a BAT index is for; false: a sector bitmap block. *number: which block or chunk. */
bool vhdx_bat_is_payload(const struct vhdx_geometry *g, uint64_t index, uint64_t *number);

/*
 * vhdx_bat_entry_check() - state legal here, reserved bits, place inside a file of @file_bytes.
 * Whether places overlap is the space map's business (space_int.h).
 * Returns 0; -EBADMSG.
 */
MUST_USE int vhdx_bat_entry_check(const struct vhdx_geometry *g, uint64_t index, uint64_t entry,
                                  uint64_t file_bytes, struct errbuf *eb);

/* ---- log.c ---- */

/* A log entry's head, decoded. */
struct vhdx_log_entry {
	uint64_t sequence;
	uint32_t bytes;
	uint32_t tail;
	uint32_t desc_count;
	uint64_t flushed_size;
	uint64_t last_size;
};

/* The entries to replay: from @tail up to but not including @head, in the ring. */
struct vhdx_log_sequence {
	uint32_t tail;
	uint32_t head;
	uint64_t last; /* sequence number of the newest */
	uint64_t flushed_size;
	uint64_t last_size;
};

/*
 * vhdx_log_entry_check() - is there a whole, valid entry of this log at @at?
 * @log[log_bytes]: the ring; @at: multiple of 4 KiB, < log_bytes.
 * Returns 0; -EBADMSG (damaged, torn, of another life or none at all: no text, it is common).
 */
MUST_USE int vhdx_log_entry_check(const uint8_t *log, uint32_t log_bytes, uint32_t at,
                                  const struct guid *guid, struct vhdx_log_entry *out);

/*
 * vhdx_log_find() - the active sequence: of all runs of valid entries with consecutive numbers
 * whose newest entry's tail lies in the run, the one with the greatest number.
 * Allocates (and frees) one word per sector.
 * Returns 0; -EBADMSG there is none; -ENOMEM.
 */
MUST_USE int vhdx_log_find(const uint8_t *log, uint32_t log_bytes, const struct guid *guid,
                           struct vhdx_log_sequence *out, struct errbuf *eb);

/* One change of an entry. */
struct vhdx_log_change {
	uint64_t offset;
	uint64_t zero_bytes; /* 0: @page is to be written, else so many zeros */
	uint8_t page[VHDX_LOG_SECTOR_BYTES];
};

/*
 * vhdx_log_change() - change @index (< entry.desc_count) of the valid entry at @at.
 * @data_index: in, out: how many data sectors the changes before used; start at 0, ask in order.
 */
void vhdx_log_change(const uint8_t *log, uint32_t log_bytes, uint32_t at, uint32_t index,
                     uint32_t *data_index, struct vhdx_log_change *out);

/* vhdx_log_entry_bytes() - of an entry with @pages data descriptors, header and all. */
uint32_t vhdx_log_entry_bytes(uint32_t pages);

/* One page to log. */
struct vhdx_log_page {
	uint64_t offset;
	const uint8_t *data; /* [4096], borrowed */
};

/*
 * vhdx_log_entry_encode() - build an entry.
 * @entry: bytes and desc_count are computed, the rest is taken.
 * @out[vhdx_log_entry_bytes(count)]. A page may already lie where its data sector goes.
 */
void vhdx_log_entry_encode(const struct vhdx_log_entry *entry, const struct guid *guid,
                           const struct vhdx_log_page *pages, uint32_t count, void *out);

/* vhdx_log_page_restore() - in an encoded entry, make data sector @index the page again. */
void vhdx_log_page_restore(void *entry, uint32_t index);

#endif
