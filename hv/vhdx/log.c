/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/format_int.h"

/*
 * The log is a ring: an entry may wrap, a sector cannot. No sector of an entry but its first
 * starts with "loge", so valid entries never overlap and one pass over the ring finds them all:
 * a hostile log costs no more time than an honest one.
 */

#define SECTOR VHDX_LOG_SECTOR_BYTES
#define DESC_BYTES ((uint32_t)sizeof(struct vhdx_log_desc_wire))
#define HEAD_BYTES ((uint32_t)sizeof(struct vhdx_log_entry_wire))

static const uint8_t *log_sector(const uint8_t *log, uint32_t log_bytes, uint32_t at,
                                 uint32_t index)
{
	uint64_t offset = (uint64_t)at + (uint64_t)index * SECTOR;

	return log + offset % log_bytes;
}

/* Sectors that head and descriptors take. */
static uint32_t log_desc_sectors(uint32_t desc_count)
{
	return (uint32_t)((HEAD_BYTES + (uint64_t)desc_count * DESC_BYTES + SECTOR - 1) / SECTOR);
}

static void log_desc(const uint8_t *log, uint32_t log_bytes, uint32_t at, uint32_t index,
                     struct vhdx_log_desc_wire *out)
{
	uint32_t offset = HEAD_BYTES + index * DESC_BYTES;

	memcpy(out, log_sector(log, log_bytes, at, offset / SECTOR) + offset % SECTOR,
	       sizeof(*out));
}

/* Descriptors may reach anything but what the log cannot protect: file ID, headers, itself. */
static bool log_target_ok(uint64_t offset, uint64_t bytes)
{
	return offset % SECTOR == 0 && bytes % SECTOR == 0 && offset >= VHDX_REGION_1_OFFSET &&
	       offset <= VHDX_FILE_SIZE_MAX && bytes <= VHDX_FILE_SIZE_MAX;
}

/* All descriptors and data sectors have the right form. */
static int log_check_body(const uint8_t *log, uint32_t log_bytes, uint32_t at,
                          const struct vhdx_log_entry *entry)
{
	uint32_t next = log_desc_sectors(entry->desc_count);
	uint32_t sectors = entry->bytes / SECTOR;

	for (uint32_t i = 0; i < entry->desc_count; i++) {
		struct vhdx_log_desc_wire d;
		struct vhdx_log_data_wire data;

		log_desc(log, log_bytes, at, i, &d);
		if (le64_get(d.sequence) != entry->sequence) {
			return -EBADMSG;
		}
		if (le32_get(d.signature) == VHDX_LOG_ZERO_SIGNATURE) {
			if (!log_target_ok(le64_get(d.offset), le64_get(d.leading))) {
				return -EBADMSG;
			}
			continue;
		}
		if (le32_get(d.signature) != VHDX_LOG_DESC_SIGNATURE || next >= sectors ||
		    !log_target_ok(le64_get(d.offset), SECTOR)) {
			return -EBADMSG;
		}
		memcpy(&data, log_sector(log, log_bytes, at, next++), sizeof(data));
		if (le32_get(data.signature) != VHDX_LOG_DATA_SIGNATURE ||
		    le32_get(data.sequence_high) != (uint32_t)(entry->sequence >> 32) ||
		    le32_get(data.sequence_low) != (uint32_t)entry->sequence) {
			return -EBADMSG;
		}
	}
	return next == sectors ? 0 : -EBADMSG;
}

int vhdx_log_entry_check(const uint8_t *log, uint32_t log_bytes, uint32_t at,
                         const struct guid *guid, struct vhdx_log_entry *out)
{
	struct vhdx_log_entry_wire w;

	CHECK(log_bytes % SECTOR == 0 && at % SECTOR == 0 && at < log_bytes);
	memcpy(&w, log + at, sizeof(w));

	struct vhdx_log_entry entry = {
		.sequence = le64_get(w.sequence),
		.bytes = le32_get(w.entry_len),
		.tail = le32_get(w.tail),
		.desc_count = le32_get(w.desc_count),
		.flushed_size = le64_get(w.flushed_size),
		.last_size = le64_get(w.last_size),
	};

	if (le32_get(w.signature) != VHDX_LOG_ENTRY_SIGNATURE || !guid_equal(&w.log, guid) ||
	    entry.sequence == 0 || entry.bytes % SECTOR != 0 || entry.bytes > log_bytes ||
	    entry.tail % SECTOR != 0 || entry.tail >= log_bytes ||
	    entry.last_size > VHDX_FILE_SIZE_MAX ||
	    log_desc_sectors(entry.desc_count) > entry.bytes / SECTOR) {
		return -EBADMSG;
	}
	if (log_check_body(log, log_bytes, at, &entry) != 0) {
		return -EBADMSG;
	}

	uint32_t crc = vhdx_crc(log + at, SECTOR, offsetof(struct vhdx_log_entry_wire, checksum));

	for (uint32_t i = 1; i < entry.bytes / SECTOR; i++) {
		crc = crc32c_update(crc, log_sector(log, log_bytes, at, i), SECTOR);
	}
	if (crc != le32_get(w.checksum)) {
		return -EBADMSG;
	}
	*out = entry;
	return 0;
}

/* What the search knows of the entry that starts at a sector. */
struct log_found {
	uint64_t sequence; /* 0: no valid entry starts here */
	uint64_t flushed_size;
	uint64_t last_size;
	uint32_t bytes;
	uint32_t tail;
	bool continued; /* the entry before it in the ring has the number before it */
};

/*
 * Follow the run of entries that starts at @first. Fills *out and returns true if the newest
 * entry's tail is one of them.
 */
static bool log_follow(const struct log_found *found, uint32_t log_bytes, uint32_t first,
                       struct vhdx_log_sequence *out)
{
	uint32_t at = first;
	uint64_t total = 0;
	uint32_t head;

	for (;;) {
		total += found[at].bytes;
		head = (uint32_t)(((uint64_t)at * SECTOR + found[at].bytes) % log_bytes);
		if (total >= log_bytes || found[head / SECTOR].sequence != found[at].sequence + 1) {
			break;
		}
		at = head / SECTOR;
	}
	*out = (struct vhdx_log_sequence){
		.tail = found[at].tail,
		.head = head,
		.last = found[at].sequence,
		.flushed_size = found[at].flushed_size,
		.last_size = found[at].last_size,
	};
	for (uint32_t i = first;;
	     i = (uint32_t)(((uint64_t)i * SECTOR + found[i].bytes) % log_bytes / SECTOR)) {
		if (i == out->tail / SECTOR) {
			return true;
		}
		if (i == at) {
			return false;
		}
	}
}

int vhdx_log_find(const uint8_t *log, uint32_t log_bytes, const struct guid *guid,
                  struct vhdx_log_sequence *out, struct errbuf *eb)
{
	uint32_t sectors = log_bytes / SECTOR;
	struct log_found *found = gw_calloc(sectors, sizeof(*found));
	struct vhdx_log_sequence best = {0};

	if (found == NULL) {
		return errbuf_sys(eb, -ENOMEM, "search");
	}
	for (uint32_t i = 0; i < sectors; i++) {
		struct vhdx_log_entry e;

		if (vhdx_log_entry_check(log, log_bytes, i * SECTOR, guid, &e) == 0) {
			found[i].sequence = e.sequence;
			found[i].flushed_size = e.flushed_size;
			found[i].last_size = e.last_size;
			found[i].bytes = e.bytes;
			found[i].tail = e.tail;
		}
	}
	for (uint32_t i = 0; i < sectors; i++) {
		uint64_t next = ((uint64_t)i * SECTOR + found[i].bytes) % log_bytes / SECTOR;

		if (found[i].sequence != 0 && found[next].sequence == found[i].sequence + 1) {
			found[next].continued = true;
		}
	}
	for (uint32_t i = 0; i < sectors; i++) {
		struct vhdx_log_sequence run;

		if (found[i].sequence != 0 && !found[i].continued &&
		    log_follow(found, log_bytes, i, &run) && run.last > best.last) {
			best = run;
		}
	}
	free(found);
	if (best.last == 0) {
		return errbuf_set(eb, -EBADMSG,
		                  "the header says there are entries to replay, but "
		                  "none is valid");
	}
	*out = best;
	return 0;
}

void vhdx_log_change(const uint8_t *log, uint32_t log_bytes, uint32_t at, uint32_t index,
                     uint32_t *data_index, struct vhdx_log_change *out)
{
	struct vhdx_log_entry_wire w;
	struct vhdx_log_desc_wire d;

	memcpy(&w, log + at, sizeof(w));
	log_desc(log, log_bytes, at, index, &d);
	out->offset = le64_get(d.offset);
	if (le32_get(d.signature) == VHDX_LOG_ZERO_SIGNATURE) {
		out->zero_bytes = le64_get(d.leading);
		return;
	}

	uint32_t sector = log_desc_sectors(le32_get(w.desc_count)) + (*data_index)++;

	out->zero_bytes = 0;
	memcpy(out->page, log_sector(log, log_bytes, at, sector), SECTOR);
	memcpy(out->page, &d.leading, sizeof(d.leading));
	memcpy(out->page + SECTOR - sizeof(d.trailing), &d.trailing, sizeof(d.trailing));
}

uint32_t vhdx_log_entry_bytes(uint32_t pages)
{
	return (log_desc_sectors(pages) + pages) * SECTOR;
}

void vhdx_log_entry_encode(const struct vhdx_log_entry *entry, const struct guid *guid,
                           const struct vhdx_log_page *pages, uint32_t count, void *out)
{
	uint8_t *p = out;
	uint32_t bytes = vhdx_log_entry_bytes(count);
	uint32_t desc_bytes = log_desc_sectors(count) * SECTOR;
	struct vhdx_log_entry_wire w = {
		.signature = le32_make(VHDX_LOG_ENTRY_SIGNATURE),
		.entry_len = le32_make(bytes),
		.tail = le32_make(entry->tail),
		.sequence = le64_make(entry->sequence),
		.desc_count = le32_make(count),
		.log = *guid,
		.flushed_size = le64_make(entry->flushed_size),
		.last_size = le64_make(entry->last_size),
	};

	memset(p, 0, desc_bytes);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *page = pages[i].data;
		struct vhdx_log_desc_wire d = {
			.signature = le32_make(VHDX_LOG_DESC_SIGNATURE),
			.offset = le64_make(pages[i].offset),
			.sequence = w.sequence,
		};
		struct vhdx_log_data_wire data = {
			.signature = le32_make(VHDX_LOG_DATA_SIGNATURE),
			.sequence_high = le32_make((uint32_t)(entry->sequence >> 32)),
			.sequence_low = le32_make((uint32_t)entry->sequence),
		};

		memcpy(&d.leading, page, sizeof(d.leading));
		memcpy(&d.trailing, page + SECTOR - sizeof(d.trailing), sizeof(d.trailing));
		memcpy(data.data, page + sizeof(d.leading), sizeof(data.data));
		memcpy(p + HEAD_BYTES + (size_t)i * DESC_BYTES, &d, sizeof(d));
		memcpy(p + desc_bytes + (size_t)i * SECTOR, &data, sizeof(data));
	}
	memcpy(p, &w, sizeof(w));
	w.checksum = le32_make(vhdx_crc(p, bytes, offsetof(struct vhdx_log_entry_wire, checksum)));
	memcpy(p, &w, sizeof(w));
}

void vhdx_log_page_restore(void *entry, uint32_t index)
{
	uint8_t *p = entry;
	struct vhdx_log_entry_wire w;
	struct vhdx_log_desc_wire d;

	memcpy(&w, p, sizeof(w));
	memcpy(&d, p + HEAD_BYTES + (size_t)index * DESC_BYTES, sizeof(d));
	p += ((size_t)log_desc_sectors(le32_get(w.desc_count)) + index) * SECTOR;
	memcpy(p, &d.leading, sizeof(d.leading));
	memcpy(p + SECTOR - sizeof(d.trailing), &d.trailing, sizeof(d.trailing));
}
