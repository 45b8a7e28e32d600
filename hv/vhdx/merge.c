/* SPDX-License-Identifier: Apache-2.0 */

/*
 * merge - a differencing disk into its parent.
 *
 * Writing to the parent gives it another data write GUID, and then the child would not be its
 * child any more. So the child is told first: its locator may name two GUIDs, the parent's now and
 * the one that it is about to get ([MS-VHDX] 2.6.2.6.3, parent_linkage2). From then on the child
 * shows the same at any moment, however much has been merged, because what is merged it has itself.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

#define MERGE_BYTES VHDX_MIB

struct merge {
	struct vhdx *child; /* of a struct vhdx_tool; its BAT is loaded */
	struct blk *parent; /* owned */
	uint8_t *buf;       /* owned; MERGE_BYTES */
	struct guid next;   /* what the parent's data write GUID becomes */
	char path[VHDX_PATH_MAX];
};

/* ---- the child's locator ---- */

/* Where the items other than the locator end, from the start of the region. */
static uint32_t merge_items_end(const struct vhdx *v)
{
	uint32_t end = VHDX_METADATA_TABLE_BYTES;

	for (enum vhdx_item i = 0; i < VHDX_ITEM_LOCATOR; i++) {
		uint32_t item = v->items.item[i].offset + v->items.item[i].bytes;

		end = item > end ? item : end;
	}
	return v->items.others_end > end ? v->items.others_end : end;
}

/* A place in the metadata region for a locator of @bytes that is nobody's; 0: there is none. */
static uint32_t merge_place(const struct vhdx *v, uint32_t bytes)
{
	uint32_t old = v->items.item[VHDX_ITEM_LOCATOR].offset;
	uint32_t old_end = old + v->items.item[VHDX_ITEM_LOCATOR].bytes;
	uint64_t at = ((uint64_t)merge_items_end(v) + 7) & ~7ull;

	if (at < old_end && old < at + bytes) {
		at = ((uint64_t)old_end + 7) & ~7ull; /* this time behind the old one */
	}
	return at + bytes <= v->regions.metadata.bytes ? (uint32_t)at : 0;
}

/* The table's entry for the locator, as it lies in the file; its offset there in *at. */
static int merge_entry(struct vhdx *v, struct vhdx_metadata_entry_wire *out, uint64_t *at,
                       struct errbuf *eb)
{
	uint8_t *table = gw_malloc(VHDX_METADATA_TABLE_BYTES);
	int err = table == NULL ? -ENOMEM
	                        : blk_sync_read(v->file, v->regions.metadata.offset, table,
	                                        VHDX_METADATA_TABLE_BYTES);
	uint32_t offset = err == 0 ? vhdx_metadata_entry_find(table, VHDX_ITEM_LOCATOR) : 0;

	if (err == 0 && offset == 0) {
		err = -EBADMSG;
	}
	if (err == 0) {
		memcpy(out, table + offset, sizeof(*out));
		*at = v->regions.metadata.offset + offset;
	}
	free(table);
	return err != 0 ? errbuf_sys(eb, err, "metadata: read") : 0;
}

/* Write the locator to its new place, then let the table point there. */
static int merge_store_locator(struct vhdx *v, const uint8_t *locator, uint32_t bytes,
                               struct errbuf *eb)
{
	struct vhdx_metadata_entry_wire entry;
	struct vhdx_txn txn;
	uint64_t at = 0;
	uint32_t place = merge_place(v, bytes);
	int err = vhdx_txn_init(&txn, v, eb);

	if (err == 0 && place == 0) {
		err = errbuf_set(eb, -ENOSPC, "metadata: no room for the parent locator");
	}
	if (err == 0) {
		err = merge_entry(v, &entry, &at, eb);
	}
	if (err == 0) {
		entry.offset = le32_make(place);
		entry.len = le32_make(bytes);
		err = vhdx_txn_edit(&txn, at, &entry, sizeof(entry), eb);
	}
	if (err == 0) {
		err = vhdx_txn_edit(&txn, v->regions.metadata.offset + place, locator, bytes, eb);
	}
	if (err == 0) {
		err = vhdx_txn_commit(&txn, NULL, eb);
	}
	vhdx_txn_fini(&txn);
	return err;
}

/* The child belongs to the parent as it is now, and as it will be. */
static int merge_link(struct merge *m, const struct guid *now, struct errbuf *eb)
{
	struct vhdx *v = m->child;
	uint8_t *text = gw_malloc(VHDX_LOCATOR_BYTES_MAX);
	int len;
	int err;

	if (text == NULL) {
		return errbuf_sys(eb, -ENOMEM, "parent locator");
	}
	v->locator->linkage = *now;
	v->locator->linkage2 = m->next;
	len = vhdx_locator_encode(v->locator, text, VHDX_LOCATOR_BYTES_MAX);
	err = len < 0 ? errbuf_sys(eb, len, "parent locator")
	              : merge_store_locator(v, text, (uint32_t)len, eb);
	free(text);
	return err;
}

/* ---- the data ---- */

/* @len bytes of the child's file to the parent's disk at @pos. */
/* NOLINTNEXTLINE(bugprone-easily-swappable-parameters): file, then disk, then length */
static int merge_copy(struct merge *m, uint64_t offset, uint64_t pos, uint64_t len)
{
	int err = 0;

	while (len > 0 && err == 0) {
		size_t part = len < MERGE_BYTES ? (size_t)len : MERGE_BYTES;

		err = blk_sync_read(m->child->file, offset, m->buf, part);
		if (err == 0) {
			err = blk_sync_write(m->parent, pos, m->buf, part);
		}
		offset += part;
		pos += part;
		len -= part;
	}
	return err;
}

/* The sectors of a partial block whose bits are set. */
static int merge_partial(struct merge *m, uint64_t block)
{
	struct vhdx *v = m->child;
	const struct vhdx_geometry *g = &v->geo;
	uint64_t start = block << g->block_shift;
	uint64_t end = start + vhdx_block_bytes(g, block);
	uint64_t data = vhdx_bat_offset(v->bat[vhdx_bat_index(g, block)]);
	uint8_t page[VHDX_PAGE_BYTES];
	uint64_t loaded = 0;
	int err = 0;

	for (uint64_t pos = start; err == 0 && pos < end;) {
		uint32_t bit;
		uint64_t at = vhdx_map_page(v, pos, &bit);
		uint64_t left = (end - pos) >> g->logical_shift;
		uint32_t count =
			left < VHDX_PAGE_BITS - bit ? (uint32_t)left : VHDX_PAGE_BITS - bit;
		uint64_t len;
		bool here = false;

		if (at != loaded) {
			err = blk_sync_read(v->file, at, page, sizeof(page));
			loaded = at;
		}
		if (err == 0) {
			count = vhdx_bits_run(page, bit, count, &here);
		}
		len = (uint64_t)count << g->logical_shift;
		if (err == 0 && here) {
			err = merge_copy(m, data + (pos - start), pos, len);
		}
		pos += len;
	}
	return err;
}

static int merge_block(struct merge *m, uint64_t block)
{
	const struct vhdx_geometry *g = &m->child->geo;
	uint64_t entry = m->child->bat[vhdx_bat_index(g, block)];
	uint64_t pos = block << g->block_shift;
	uint64_t len = vhdx_block_bytes(g, block);

	switch (vhdx_bat_state(entry)) {
	case VHDX_NOT_PRESENT:
		break;
	case VHDX_PRESENT:
		return merge_copy(m, vhdx_bat_offset(entry), pos, len);
	case VHDX_PARTIAL:
		return merge_partial(m, block);
	case VHDX_UNDEFINED:
	case VHDX_ZERO:
	case VHDX_UNMAPPED:
		return blk_sync_zero(m->parent, pos, len);
	}
	return 0;
}

static int merge_blocks(struct merge *m, const struct vhdx_progress *progress, struct errbuf *eb)
{
	uint64_t count = m->child->geo.block_count;
	int err = 0;

	for (uint64_t block = 0; err == 0 && block < count; block++) {
		err = merge_block(m, block);
		if (err == 0) {
			err = vhdx_tool_progress(progress, block + 1, count);
		}
	}
	if (err == 0) {
		err = blk_sync_flush(m->parent);
	}
	return err != 0 ? errbuf_sys(eb, err, "merge") : 0;
}

/* ---- the order of things ---- */

/* Open the parent for writing; check that it is the child's. */
static int merge_open_parent(struct merge *m, const struct vhdx_files *files, struct errbuf *eb)
{
	const struct vhdx_locator *locator = m->child->locator;
	struct vhdx_stat stat;
	int err = vhdx_open_path(files, m->path, false, &m->parent, eb);

	if (err != 0) {
		return err;
	}
	vhdx_stat(m->parent, &stat);
	if (!guid_equal(&stat.data_write, &locator->linkage) &&
	    !guid_equal(&stat.data_write, &locator->linkage2)) {
		return errbuf_set(eb, -ESTALE,
		                  "parent %s: it has changed since this disk was made from it",
		                  m->path);
	}
	if (stat.logical_bytes != m->child->geo.logical_bytes) {
		return errbuf_set(eb, -ENOTSUP, "parent %s: its sectors have another size",
		                  m->path);
	}
	return merge_link(m, &stat.data_write, eb);
}

static int merge_close_parent(struct merge *m, struct errbuf *eb)
{
	int err = blk_close(m->parent, eb);

	m->parent = NULL;
	return err;
}

/* A parent that is shorter than the child grows first. */
static int merge_grow_parent(struct merge *m, const struct vhdx_files *files, struct errbuf *eb)
{
	const struct vhdx_resize_cfg cfg = {.size_bytes = m->child->geo.size_bytes};
	struct blk_info info;
	int err;

	blk_get_info(m->parent, &info);
	if (info.size_bytes >= cfg.size_bytes) {
		return 0;
	}
	err = merge_close_parent(m, eb);
	if (err == 0) {
		err = vhdx_tool_resize(files, m->path, &cfg, &m->next, eb);
	}
	if (err == 0) {
		guid_random(&m->next);
		err = merge_open_parent(m, files, eb);
	}
	return err;
}

static int merge_run(struct merge *m, const struct vhdx_files *files, const char *path,
                     const struct vhdx_progress *progress, struct errbuf *eb)
{
	int err;

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): open set it */
	if (!m->child->metadata.has_parent) {
		return errbuf_set(eb, -EINVAL, "has no parent to be merged into");
	}
	err = vhdx_load_bat(m->child, eb);
	if (err == 0) {
		err = vhdx_tool_parent(files, path, m->child->locator, m->path, eb);
	}
	if (err == 0) {
		err = merge_open_parent(m, files, eb);
	}
	if (err == 0) {
		err = merge_grow_parent(m, files, eb);
	}
	if (err == 0) {
		((struct vhdx *)(void *)m->parent)->next_data_write = m->next;
		err = merge_blocks(m, progress, eb);
	}
	return err;
}

int vhdx_merge(const struct vhdx_files *files, const char *path,
               const struct vhdx_progress *progress, struct errbuf *eb)
{
	struct merge *m = gw_calloc(1, sizeof(*m));
	struct errbuf local = {.text = ""};
	struct vhdx_tool t = {0};
	int close_err;
	int err;

	eb = eb != NULL ? eb : &local;
	*eb = (struct errbuf){.text = ""};
	if (m == NULL) {
		return errbuf_sys(eb, -ENOMEM, "merge");
	}
	guid_random(&m->next);
	m->buf = gw_malloc(MERGE_BYTES);
	err = m->buf == NULL ? errbuf_sys(eb, -ENOMEM, "merge")
	                     : vhdx_tool_open(&t, files, path, false, false, eb);
	if (err == 0) {
		m->child = t.v;
		err = merge_run(m, files, path, progress, eb);
		close_err = merge_close_parent(m, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
		close_err = vhdx_tool_close(&t, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	free(m->buf);
	free(m);
	return err;
}
