/* SPDX-License-Identifier: Apache-2.0 */

/*
 * resize - what the new size needs is written where nothing points to yet; then one log entry
 * changes the size and, if the BAT had to move, the region tables. Blocks beyond a smaller size
 * are forgotten with it: their entries and the file's end go afterwards, and an interruption there
 * leaves only unused space.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

struct resize {
	struct vhdx *v;
	struct vhdx_geometry geo; /* the new one */
	struct vhdx_regions regions;
	uint64_t *bat; /* owned; geo.entry_count: the new one, whole */
	bool moved;    /* the BAT is in a new region */
	struct vhdx_txn txn;
};

static uint64_t resize_round(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

static int resize_check(struct resize *r, const struct vhdx_resize_cfg *cfg, struct errbuf *eb)
{
	struct vhdx *v = r->v;
	struct vhdx_metadata metadata = v->metadata;
	uint64_t end = 0;

	if (v->metadata.has_parent && cfg->size_bytes < v->geo.size_bytes) {
		/* Growing it again later would show what the parent has there. */
		(void)errbuf_set(eb, -ENOTSUP, "a differencing disk cannot become smaller");
		errbuf_hint(eb, "merge it into its parent first");
		return -ENOTSUP;
	}
	metadata.size_bytes = cfg->size_bytes;
	if (vhdx_metadata_check(&metadata, eb) != 0) {
		return -EINVAL;
	}
	vhdx_geometry_init(&metadata, &r->geo);
	for (uint64_t block = r->geo.block_count; block < v->geo.block_count; block++) {
		if (vhdx_bat_has_data(v->bat[vhdx_bat_index(&v->geo, block)])) {
			end = (block + 1) << v->geo.block_shift;
		}
	}
	if (end != 0 && !cfg->discard && !v->metadata.fixed) {
		(void)errbuf_set(eb, -ENOTEMPTY, "there is data up to %llu, beyond the new size",
		                 (unsigned long long)end);
		errbuf_hint(eb, "shrink partitions and trim the disk first, or discard the data");
		return -ENOTEMPTY;
	}
	if (end != 0 && !cfg->discard) {
		(void)errbuf_set(eb, -ENOTEMPTY, "a fixed disk has storage beyond the new size");
		errbuf_hint(eb, "if no partition reaches there, discard it");
		return -ENOTEMPTY;
	}
	return 0;
}

/* Longer by @bytes at its end. Returns where that is. */
static int resize_file(struct vhdx *v, uint64_t bytes, uint64_t *offset, struct errbuf *eb)
{
	int err = vhdx_space_alloc(&v->space, bytes, offset);

	if (err == 0 && *offset + bytes > v->file_bytes) {
		err = blk_sync_resize(v->file, *offset + bytes);
		if (err == 0) {
			v->file_bytes = *offset + bytes;
		}
	}
	if (err == 0) {
		err = blk_sync_zero(v->file, *offset, bytes);
	}
	return err != 0 ? errbuf_sys(eb, err, "resize the file") : 0;
}

/* The entries that stay, and for a fixed disk new blocks. */
static int resize_blocks(struct resize *r, const struct vhdx_progress *progress, struct errbuf *eb)
{
	struct vhdx *v = r->v;
	uint64_t both =
		v->geo.entry_count < r->geo.entry_count ? v->geo.entry_count : r->geo.entry_count;
	int err = 0;

	r->bat = gw_calloc(r->geo.entry_count, sizeof(*r->bat));
	if (r->bat == NULL) {
		return errbuf_sys(eb, -ENOMEM, "BAT");
	}
	memcpy(r->bat, v->bat, both * sizeof(*r->bat));
	for (uint64_t block = v->geo.block_count;
	     err == 0 && v->metadata.fixed && block < r->geo.block_count; block++) {
		uint64_t offset;

		err = resize_file(v, r->geo.block_bytes, &offset, eb);
		r->bat[vhdx_bat_index(&r->geo, block)] = vhdx_bat_make(VHDX_PRESENT, offset);
		if (err == 0) {
			err = vhdx_tool_progress(progress, block - v->geo.block_count,
			                         r->geo.block_count - v->geo.block_count);
		}
	}
	return err;
}

/* The end of the last block, which was beyond the disk, becomes part of it: as zeros. */
static int resize_clear_tail(struct resize *r, struct errbuf *eb)
{
	struct vhdx *v = r->v;
	uint64_t within = v->geo.size_bytes & (v->geo.block_bytes - 1);
	uint64_t entry = v->bat[vhdx_bat_index(&v->geo, v->geo.block_count - 1)];
	uint64_t end = vhdx_bat_offset(entry) + v->geo.block_bytes;
	int err = 0;

	if (r->geo.size_bytes <= v->geo.size_bytes || within == 0 || !vhdx_bat_has_data(entry)) {
		return 0;
	}
	if (end > v->file_bytes) {
		err = blk_sync_resize(v->file, end);
		v->file_bytes = err == 0 ? end : v->file_bytes;
	}
	if (err == 0) {
		err = blk_sync_zero(v->file, vhdx_bat_offset(entry) + within,
		                    v->geo.block_bytes - within);
	}
	return err != 0 ? errbuf_sys(eb, err, "clear the end of the last block") : 0;
}

/* Write entries from @first on into the new table's place. */
static int resize_write_bat(struct resize *r, uint64_t first, struct errbuf *eb)
{
	uint8_t *buf = gw_malloc(VHDX_MIB);
	int err = buf == NULL ? errbuf_sys(eb, -ENOMEM, "BAT") : 0;

	first -= first % VHDX_PAGE_ENTRIES;
	while (err == 0 && first < r->geo.entry_count) {
		uint64_t offset = r->regions.bat.offset + first * sizeof(le64);
		uint64_t left = (r->geo.entry_count - first) * sizeof(le64);
		size_t len = (size_t)resize_round(left, VHDX_PAGE_BYTES);

		len = len < VHDX_MIB ? len : VHDX_MIB;
		/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): err is 0 */
		memset(buf, 0, len);
		for (size_t i = 0; i < len / sizeof(le64) && first + i < r->geo.entry_count; i++) {
			le64 entry = le64_make(r->bat[first + i]);

			memcpy(buf + i * sizeof(entry), &entry, sizeof(entry));
		}
		err = blk_sync_write(r->v->file, offset, buf, len);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "BAT: write");
		}
		first += len / sizeof(le64);
	}
	free(buf);
	return err;
}

/* A place for the BAT if it outgrows its own; its new entries where nobody looks yet. */
static int resize_bat(struct resize *r, struct errbuf *eb)
{
	struct vhdx *v = r->v;
	uint64_t bytes = r->geo.entry_count * sizeof(le64);
	uint64_t offset;
	int err;

	r->regions = v->regions;
	if (bytes <= v->regions.bat.bytes) {
		/* In the page that both share the old entries stay as they are. */
		return r->geo.entry_count > v->geo.entry_count
		               ? resize_write_bat(r, v->geo.entry_count, eb)
		               : 0;
	}
	bytes = resize_round(bytes, VHDX_MIB);
	err = resize_file(v, bytes, &offset, eb);
	if (err != 0) {
		return err;
	}
	r->moved = true;
	r->regions.bat.offset = offset;
	r->regions.bat.bytes = (uint32_t)bytes;
	return resize_write_bat(r, 0, eb);
}

/* Both region tables: what differs lies in their first pages. */
static int resize_regions(struct resize *r, struct errbuf *eb)
{
	uint8_t *table = gw_malloc(VHDX_REGION_BYTES);
	int err = table == NULL ? errbuf_sys(eb, -ENOMEM, "region table") : 0;

	if (err == 0) {
		vhdx_regions_encode(&r->regions, table);
		err = vhdx_txn_edit(&r->txn, VHDX_REGION_1_OFFSET, table, VHDX_REGION_BYTES, eb);
	}
	if (err == 0) {
		err = vhdx_txn_edit(&r->txn, VHDX_REGION_2_OFFSET, table, VHDX_REGION_BYTES, eb);
	}
	free(table);
	return err;
}

static int resize_commit(struct resize *r, const struct guid *data_write, struct errbuf *eb)
{
	struct vhdx *v = r->v;
	le64 size = le64_make(r->geo.size_bytes);
	uint64_t at = v->regions.metadata.offset + v->items.item[VHDX_ITEM_DISK_SIZE].offset;
	int err = vhdx_txn_init(&r->txn, v, eb);

	if (err == 0) {
		err = vhdx_txn_edit(&r->txn, at, &size, sizeof(size), eb);
	}
	if (err == 0 && r->moved) {
		err = resize_regions(r, eb);
	}
	if (err == 0) {
		err = vhdx_txn_commit(&r->txn, data_write, eb);
	}
	vhdx_txn_fini(&r->txn);
	return err;
}

/* What lies behind the last block in use is not needed any more. */
static int resize_trim(struct resize *r, struct errbuf *eb)
{
	struct vhdx *v = r->v;
	uint64_t end;
	int err = 0;

	for (uint64_t block = r->geo.block_count; block < v->geo.block_count; block++) {
		uint64_t entry = v->bat[vhdx_bat_index(&v->geo, block)];

		if (vhdx_bat_has_data(entry)) {
			vhdx_space_cancel(&v->space, vhdx_bat_offset(entry), v->geo.block_bytes);
		}
	}
	if (r->moved) {
		vhdx_space_cancel(&v->space, v->regions.bat.offset, v->regions.bat.bytes);
	}
	end = vhdx_space_end_bytes(&v->space);
	if (v->can_grow && end < v->file_bytes) {
		err = blk_sync_resize(v->file, end);
	}
	return err != 0 ? errbuf_sys(eb, err, "shorten the file") : 0;
}

static int resize_run(struct resize *r, const struct vhdx_resize_cfg *cfg,
                      const struct guid *data_write, struct errbuf *eb)
{
	int err = vhdx_load_bat(r->v, eb);

	if (err != 0) {
		errbuf_prepend(eb, "BAT");
		return err;
	}
	err = resize_check(r, cfg, eb);
	if (err != 0 || cfg->size_bytes == r->v->geo.size_bytes) {
		return err;
	}
	err = resize_blocks(r, &cfg->progress, eb);
	if (err == 0) {
		err = resize_clear_tail(r, eb);
	}
	if (err == 0) {
		err = resize_bat(r, eb);
	}
	if (err == 0) {
		err = resize_commit(r, data_write, eb);
	}
	return err == 0 ? resize_trim(r, eb) : err;
}

int vhdx_tool_resize(const struct vhdx_files *files, const char *path,
                     const struct vhdx_resize_cfg *cfg, const struct guid *data_write,
                     struct errbuf *eb)
{
	struct resize r = {0};
	struct errbuf local = {.text = ""};
	struct vhdx_tool t;
	int close_err;
	int err;

	eb = eb != NULL ? eb : &local;
	*eb = (struct errbuf){.text = ""};
	err = vhdx_tool_open(&t, files, path, false, false, eb);
	if (err == 0) {
		r.v = t.v;
		err = resize_run(&r, cfg, data_write, eb);
		free(r.bat);
		close_err = vhdx_tool_close(&t, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	return err;
}

int vhdx_resize(const struct vhdx_files *files, const char *path, const struct vhdx_resize_cfg *cfg,
                struct errbuf *eb)
{
	struct guid data_write;

	guid_random(&data_write);
	return vhdx_tool_resize(files, path, cfg, &data_write, eb);
}
