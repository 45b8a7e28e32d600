/* SPDX-License-Identifier: Apache-2.0 */

/*
 * load - the structures of a file, from the outside in: identifier, header, log, region table,
 * metadata, BAT. Each is named in front of its fault: "vhdx: region table 1: bad checksum".
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/vhdx/vhdx_int.h"

static int load_read(struct vhdx *v, uint64_t offset, void *buf, size_t len, struct errbuf *eb)
{
	int err = blk_sync_read(v->file, offset, buf, len);

	return err != 0 ? errbuf_sys(eb, err, "read at 0x%llx", (unsigned long long)offset) : 0;
}

/* Is [offset, offset+bytes) inside the file? */
static int load_inside(const struct vhdx *v, uint64_t offset, uint64_t bytes, struct errbuf *eb)
{
	if (offset > v->file_bytes || bytes > v->file_bytes - offset) {
		return errbuf_set(eb, -EBADMSG,
		                  "0x%llx bytes at 0x%llx lie outside the file of 0x%llx bytes",
		                  (unsigned long long)bytes, (unsigned long long)offset,
		                  (unsigned long long)v->file_bytes);
	}
	return 0;
}

/* ---- headers ---- */

static int load_headers(struct vhdx *v, struct errbuf *eb)
{
	struct vhdx_header header[2];
	struct errbuf fault[2] = {{.text = ""}, {.text = ""}};
	uint8_t buf[VHDX_HEADER_BYTES];
	int err[2];

	err[0] = load_read(v, VHDX_FILE_ID_OFFSET, buf, sizeof(buf), eb);
	if (err[0] == 0) {
		err[0] = vhdx_file_id_check(buf, sizeof(buf), eb);
	}
	if (err[0] != 0) {
		errbuf_prepend(eb, "file identifier");
		return err[0];
	}
	for (uint32_t i = 0; i < 2; i++) {
		err[i] = load_read(v, i == 0 ? VHDX_HEADER_1_OFFSET : VHDX_HEADER_2_OFFSET, buf,
		                   sizeof(buf), &fault[i]);
		if (err[i] != 0) {
			*eb = fault[i];
			errbuf_prepend(eb, "header %u", i + 1);
			return err[i]; /* unreadable is not invalid: do not take the older one */
		}
		err[i] = vhdx_header_decode(buf, sizeof(buf), &header[i], &fault[i]);
	}
	if (err[0] != 0 && err[1] != 0) {
		(void)errbuf_set(eb, -EBADMSG, "header 1: %s; header 2: %s", fault[0].text,
		                 fault[1].text);
		return err[0] == -ENOTSUP || err[1] == -ENOTSUP ? -ENOTSUP : -EBADMSG;
	}
	v->header_slot = err[0] != 0 || (err[1] == 0 && header[1].sequence > header[0].sequence);
	v->header = header[v->header_slot];
	if (load_inside(v, v->header.log_offset, v->header.log_bytes, eb) != 0) {
		errbuf_prepend(eb, "log");
		return -EBADMSG;
	}
	return 0;
}

static int load_header_store(struct vhdx *v, const struct vhdx_header *header, struct errbuf *eb)
{
	struct vhdx_header_wire w;
	struct vhdx_header next = *header;
	int err;

	next.sequence = v->header.sequence + 1;
	vhdx_header_encode(&next, &w);
	err = blk_sync_write(v->file,
	                     v->header_slot == 0 ? VHDX_HEADER_2_OFFSET : VHDX_HEADER_1_OFFSET, &w,
	                     sizeof(w));
	if (err == 0) {
		err = blk_sync_flush(v->file);
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "header %u: write", 2 - v->header_slot);
	}
	v->header = next;
	v->header_slot ^= 1;
	return 0;
}

int vhdx_header_store(struct vhdx *v, const struct vhdx_header *header, struct errbuf *eb)
{
	int err = load_header_store(v, header, eb);

	return err == 0 ? load_header_store(v, header, eb) : err;
}

/* ---- log ---- */

static int load_apply(struct vhdx *v, const struct vhdx_log_change *change, struct errbuf *eb)
{
	uint64_t bytes = change->zero_bytes != 0 ? change->zero_bytes : VHDX_LOG_SECTOR_BYTES;
	uint64_t log_end = v->header.log_offset + v->header.log_bytes;
	int err;

	if (load_inside(v, change->offset, bytes, eb) != 0) {
		return -EBADMSG;
	}
	if (change->offset < log_end && v->header.log_offset < change->offset + bytes) {
		return errbuf_set(eb, -EBADMSG, "an entry overwrites the log at 0x%llx",
		                  (unsigned long long)change->offset);
	}
	err = change->zero_bytes != 0
	              ? blk_sync_zero(v->file, change->offset, change->zero_bytes)
	              : blk_sync_write(v->file, change->offset, change->page, sizeof(change->page));
	return err != 0 ? errbuf_sys(eb, err, "write at 0x%llx", (unsigned long long)change->offset)
	                : 0;
}

static int load_replay_entries(struct vhdx *v, const uint8_t *log,
                               const struct vhdx_log_sequence *seq, struct errbuf *eb)
{
	uint32_t log_bytes = v->header.log_bytes;
	struct vhdx_log_change change;
	uint32_t at = seq->tail;

	do {
		struct vhdx_log_entry entry;
		uint32_t data_index = 0;
		int err = vhdx_log_entry_check(log, log_bytes, at, &v->header.log, &entry);

		if (err != 0) {
			return errbuf_set(eb, err, "entry at 0x%x", at);
		}
		for (uint32_t i = 0; i < entry.desc_count; i++) {
			vhdx_log_change(log, log_bytes, at, i, &data_index, &change);
			err = load_apply(v, &change, eb);
			if (err != 0) {
				return err;
			}
		}
		at = (at + entry.bytes) % log_bytes;
	} while (at != seq->head);
	return 0;
}

/* The file as long as the newest entry knew it. */
static int load_replay_size(struct vhdx *v, const struct vhdx_log_sequence *seq, struct errbuf *eb)
{
	uint64_t size = (seq->last_size + VHDX_MIB - 1) & ~(uint64_t)(VHDX_MIB - 1);
	int err;

	if (seq->flushed_size > v->file_bytes) {
		return errbuf_set(eb, -EBADMSG,
		                  "the file was cut: it has 0x%llx bytes, and had 0x%llx safely",
		                  (unsigned long long)v->file_bytes,
		                  (unsigned long long)seq->flushed_size);
	}
	if (seq->last_size <= v->file_bytes) {
		return 0;
	}
	err = blk_sync_resize(v->file, size);
	if (err != 0) {
		return errbuf_sys(eb, err, "resize the file to 0x%llx bytes",
		                  (unsigned long long)size);
	}
	v->file_bytes = size;
	return 0;
}

static int load_replay(struct vhdx *v, struct errbuf *eb)
{
	struct vhdx_log_sequence seq;
	struct vhdx_header header;
	uint8_t *log;
	int err;

	if (v->header.log_bytes > VHDX_LOG_BYTES_MAX) {
		return errbuf_set(eb, -ENOTSUP, "0x%x bytes to replay, more than 0x%x",
		                  v->header.log_bytes, VHDX_LOG_BYTES_MAX);
	}
	if (v->read_only) {
		(void)errbuf_set(eb, -EROFS, "has entries to replay, but is opened read-only");
		errbuf_hint(eb, "the disk was not closed cleanly: replay with "
		                "'godwit disk check --repair'");
		return -EROFS;
	}
	log = gw_malloc(v->header.log_bytes);
	if (log == NULL) {
		return errbuf_sys(eb, -ENOMEM, "read");
	}
	err = load_read(v, v->header.log_offset, log, v->header.log_bytes, eb);
	if (err == 0) {
		err = vhdx_log_find(log, v->header.log_bytes, &v->header.log, &seq, eb);
	}
	if (err == 0) {
		err = load_replay_size(v, &seq, eb);
	}
	if (err == 0) {
		err = load_replay_entries(v, log, &seq, eb);
	}
	free(log);
	if (err != 0) {
		return err;
	}
	/* Durable in place before the header forgets the log. */
	err = blk_sync_flush(v->file);
	if (err != 0) {
		return errbuf_sys(eb, err, "flush");
	}
	header = v->header;
	header.log = (struct guid){0};
	guid_random(&header.file_write);
	err = vhdx_header_store(v, &header, eb);
	if (err == 0) {
		log_info("vhdx", "log replayed last=%llu", (unsigned long long)seq.last);
	}
	return err;
}

/* ---- regions ---- */

static bool load_overlap(const struct vhdx_region *region, const struct vhdx_header *header)
{
	return region->offset < header->log_offset + header->log_bytes &&
	       header->log_offset < region->offset + region->bytes;
}

static int load_region_check(const struct vhdx *v, const struct vhdx_region *region,
                             const char *name, struct errbuf *eb)
{
	int err = load_inside(v, region->offset, region->bytes, eb);

	if (err == 0 && load_overlap(region, &v->header)) {
		err = errbuf_set(eb, -EBADMSG, "overlaps the log");
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s region", name);
	}
	return err;
}

static int load_regions(struct vhdx *v, struct errbuf *eb)
{
	uint8_t *buf = gw_malloc(VHDX_REGION_BYTES);
	struct errbuf fault[2] = {{.text = ""}, {.text = ""}};
	int err = -EBADMSG;

	if (buf == NULL) {
		return errbuf_sys(eb, -ENOMEM, "region table 1");
	}
	for (uint32_t i = 0; i < 2; i++) {
		err = load_read(v, i == 0 ? VHDX_REGION_1_OFFSET : VHDX_REGION_2_OFFSET, buf,
		                VHDX_REGION_BYTES, &fault[i]);
		if (err == 0) {
			err = vhdx_regions_decode(buf, VHDX_REGION_BYTES, &v->regions, &fault[i]);
		}
		if (err != -EBADMSG) {
			break;
		}
	}
	free(buf);
	if (err != 0) {
		(void)errbuf_set(eb, err, "region table 1: %s%s%s", fault[0].text,
		                 fault[1].text[0] != '\0' ? "; region table 2: " : "",
		                 fault[1].text);
		return err;
	}
	err = load_region_check(v, &v->regions.bat, "BAT", eb);
	if (err == 0) {
		err = load_region_check(v, &v->regions.metadata, "metadata", eb);
	}
	for (uint32_t i = 0; err == 0 && i < v->regions.other_count; i++) {
		err = load_region_check(v, &v->regions.other[i], "unknown", eb);
	}
	return err;
}

/* ---- metadata ---- */

/* Read an item into @buf, in whole sectors: *at is where in @buf it starts. */
static int load_item(struct vhdx *v, enum vhdx_item item, uint8_t *buf, const uint8_t **at,
                     struct errbuf *eb)
{
	uint64_t offset = v->regions.metadata.offset + v->items.item[item].offset;
	uint64_t start = offset & ~(uint64_t)4095;
	size_t len = (size_t)((offset - start + v->items.item[item].bytes + 4095) & ~4095ull);

	*at = buf + (offset - start);
	return load_read(v, start, buf, len, eb);
}

static int load_locator(struct vhdx *v, uint8_t *buf, struct errbuf *eb)
{
	const uint8_t *at;
	int err;

	if (v->items.item[VHDX_ITEM_LOCATOR].bytes == 0) {
		return errbuf_set(eb, -EBADMSG, "has a parent, but no parent locator");
	}
	v->locator = gw_malloc(sizeof(*v->locator));
	if (v->locator == NULL) {
		return errbuf_sys(eb, -ENOMEM, "parent locator");
	}
	err = load_item(v, VHDX_ITEM_LOCATOR, buf, &at, eb);
	if (err == 0) {
		err = vhdx_locator_decode(at, v->items.item[VHDX_ITEM_LOCATOR].bytes, v->locator,
		                          eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "parent locator");
	}
	return err;
}

static int load_metadata(struct vhdx *v, struct errbuf *eb)
{
	uint8_t *buf = gw_malloc(VHDX_METADATA_TABLE_BYTES + VHDX_LOCATOR_BYTES_MAX);
	const uint8_t *at;
	int err;

	if (buf == NULL) {
		return errbuf_sys(eb, -ENOMEM, "read");
	}
	err = load_read(v, v->regions.metadata.offset, buf, VHDX_METADATA_TABLE_BYTES, eb);
	if (err == 0) {
		err = vhdx_metadata_table_decode(buf, VHDX_METADATA_TABLE_BYTES,
		                                 v->regions.metadata.bytes, &v->items, eb);
	}
	for (enum vhdx_item item = 0; err == 0 && item < VHDX_ITEM_LOCATOR; item++) {
		err = load_item(v, item, buf, &at, eb);
		if (err == 0) {
			err = vhdx_metadata_item_decode(item, at, v->items.item[item].bytes,
			                                &v->metadata, eb);
		}
	}
	if (err == 0) {
		err = vhdx_metadata_check(&v->metadata, eb);
	}
	if (err == 0 && v->metadata.has_parent) {
		err = load_locator(v, buf, eb);
	}
	free(buf);
	if (err == 0) {
		vhdx_geometry_init(&v->metadata, &v->geo);
	}
	return err;
}

int vhdx_load(struct vhdx *v, struct errbuf *eb)
{
	struct blk_info info;
	int err;

	blk_get_info(v->file, &info);
	v->file_bytes = info.size_bytes;
	v->can_grow = info.can_resize;
	v->file_discards = info.discard_bytes != 0;
	if (v->file_bytes < VHDX_MIB) {
		return errbuf_set(eb, -EBADMSG, "a file of %llu bytes is too short for a VHDX",
		                  (unsigned long long)v->file_bytes);
	}
	err = load_headers(v, eb);
	if (err == 0 && !guid_is_nil(&v->header.log) && !v->ignore_log) {
		err = load_replay(v, eb);
		if (err != 0) {
			errbuf_prepend(eb, "log");
		}
	}
	if (err == 0) {
		err = load_regions(v, eb);
	}
	if (err == 0) {
		err = load_metadata(v, eb);
		if (err != 0) {
			errbuf_prepend(eb, "metadata");
		}
	}
	return err;
}

int vhdx_peek(struct blk *file, bool read_only, bool look, struct vhdx_locator **locator,
              struct errbuf *eb)
{
	struct errbuf local = {.text = ""};
	struct vhdx *v = gw_calloc(1, sizeof(*v));
	int err;

	*locator = NULL;
	if (v == NULL) {
		return errbuf_sys(eb, -ENOMEM, "open");
	}
	v->file = file;
	v->read_only = read_only;
	v->ignore_log = look;
	err = vhdx_load(v, eb != NULL ? eb : &local);
	if (err == 0) {
		*locator = v->locator;
		v->locator = NULL;
	}
	free(v->locator);
	free(v);
	return err;
}
