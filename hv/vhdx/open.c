/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/blk_sync.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/vhdx/vhdx.h"
#include "hv/vhdx/vhdx_int.h"

static void open_info(const struct blk *blk, struct blk_info *out)
{
	*out = ((const struct vhdx *)(const void *)blk)->info;
}

static void open_info_init(struct vhdx *v)
{
	struct blk_info file;

	blk_get_info(v->file, &file);
	v->info = (struct blk_info){
		.size_bytes = v->geo.size_bytes,
		.logical_bytes = v->geo.logical_bytes,
		.physical_bytes = v->metadata.physical_bytes,
		.read_only = v->read_only,
		.rotational = file.rotational,
		.driver = "vhdx",
	};
	if (!v->metadata.fixed) {
		v->info.discard_bytes = v->file_discards && file.discard_bytes < v->geo.block_bytes
		                                ? file.discard_bytes
		                                : v->geo.block_bytes;
	}
}

static int open_close(struct blk *blk, struct errbuf *eb);

static const struct blk_ops vhdx_ops = {
	.name = "vhdx",
	.submit = vhdx_submit,
	.info = open_info,
	.close = open_close,
};

/* Everything that is allocated after the structures are known. */
static int open_memory(struct vhdx *v)
{
	bool pages = v->parent != NULL;
	size_t commit =
		v->read_only ? 0 : VHDX_HEADER_BYTES + (VHDX_DIRTY_MAX + 1) * VHDX_LOG_SECTOR_BYTES;
	size_t bytes = commit + (pages ? VHDX_PAGES_MAX * VHDX_PAGE_BYTES : 0);
	uint8_t *at;

	v->frags = gw_calloc(VHDX_FRAGS_MAX, sizeof(*v->frags));
	v->iovs = gw_calloc(VHDX_IOVS_MAX, BLK_IOV_MAX * sizeof(*v->iovs));
	v->arena = gw_malloc(bytes + VHDX_PAGE_BYTES); /* not touched before it is used */
	v->pages = pages ? gw_calloc(VHDX_PAGES_MAX, sizeof(*v->pages)) : NULL;
	if (v->frags == NULL || v->iovs == NULL || v->arena == NULL ||
	    (pages && v->pages == NULL)) {
		return -ENOMEM;
	}
	/* Aligned for a file that is opened for direct I/O. */
	at = (uint8_t *)v->arena + (VHDX_PAGE_BYTES - (uintptr_t)v->arena % VHDX_PAGE_BYTES);
	v->commit.header_buf = at;
	v->commit.buf = at + VHDX_HEADER_BYTES;
	at += commit;
	for (uint32_t i = 0; i < VHDX_FRAGS_MAX; i++) {
		v->frags[i].v = v;
		list_add_tail(&v->frags_free, &v->frags[i].link);
	}
	for (uint32_t i = 0; pages && i < VHDX_PAGES_MAX; i++) {
		v->pages[i].v = v;
		v->pages[i].data = at + (size_t)i * VHDX_PAGE_BYTES;
		list_add_tail(&v->lru, &v->pages[i].link);
	}
	return 0;
}

static void open_free(struct vhdx *v)
{
	vhdx_space_fini(&v->space);
	free(v->locator);
	free(v->bat);
	free(v->bat_dirty);
	free(v->frags);
	free(v->iovs);
	free(v->arena);
	free(v->pages);
	free(v);
}

/* Does the parent belong to this disk? */
static int open_check_parent(const struct vhdx *v, struct errbuf *eb)
{
	const struct vhdx *parent = (const struct vhdx *)(const void *)v->parent;
	char want[GUID_TEXT_SIZE];
	char have[GUID_TEXT_SIZE];

	if (!v->metadata.has_parent) {
		return v->parent == NULL
		               ? 0
		               : errbuf_set(eb, -EINVAL, "has no parent, but one was given");
	}
	if (v->parent == NULL) {
		(void)errbuf_set(eb, -EINVAL, "is a differencing disk, and no parent was given");
		errbuf_hint(eb, "its parent is \"%s\"", v->locator->relative_path);
		return -EINVAL;
	}
	CHECK(v->parent->ops == &vhdx_ops && v->parent->ring == v->file->ring);
	if (!guid_equal(&parent->header.data_write, &v->locator->linkage) &&
	    !(guid_equal(&parent->header.data_write, &v->locator->linkage2))) {
		(void)errbuf_set(eb, -ESTALE,
		                 "parent: it has changed since this disk was made from it "
		                 "(data write GUID %s, not %s)",
		                 guid_format(&parent->header.data_write, have),
		                 guid_format(&v->locator->linkage, want));
		errbuf_hint(eb, "restore the parent as it was, or use a copy of this disk");
		return -ESTALE;
	}
	if (parent->geo.logical_bytes != v->geo.logical_bytes) {
		return errbuf_set(eb, -ENOTSUP, "parent: its sectors have %u bytes, not %u",
		                  parent->geo.logical_bytes, v->geo.logical_bytes);
	}
	return 0;
}

static int open_check_file(const struct vhdx *v, struct errbuf *eb)
{
	struct blk_info info;

	blk_get_info(v->file, &info);
	if (info.logical_bytes > v->geo.logical_bytes) {
		(void)errbuf_set(eb, -ENOTSUP,
		                 "its sectors have %u bytes, those of the file's device %u",
		                 v->geo.logical_bytes, info.logical_bytes);
		errbuf_hint(eb, "keep it on a device with smaller sectors, or convert it");
		return -ENOTSUP;
	}
	if (info.read_only && !v->read_only) {
		return errbuf_set(eb, -EROFS, "the file is opened read-only");
	}
	return 0;
}

static int open_load(struct vhdx *v, struct errbuf *eb)
{
	int err = vhdx_load(v, eb);

	if (err == 0) {
		err = open_check_file(v, eb);
	}
	if (err == 0) {
		err = open_check_parent(v, eb);
	}
	if (err == 0) {
		err = vhdx_load_bat(v, eb);
		if (err != 0) {
			errbuf_prepend(eb, "BAT");
		}
	}
	if (err == 0 && open_memory(v) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "buffers");
	}
	return err;
}

int vhdx_open(const struct vhdx_cfg *cfg, struct blk **out, struct errbuf *eb)
{
	struct errbuf local = {.text = ""};
	struct vhdx *v = gw_calloc(1, sizeof(*v));
	int err;

	*out = NULL;
	eb = eb != NULL ? eb : &local; /* the loader compares what it has to say */
	if (v == NULL) {
		return errbuf_sys(eb, -ENOMEM, "vhdx");
	}
	v->file = cfg->file;
	v->parent = cfg->parent;
	v->read_only = cfg->read_only;
	list_init(&v->stalled);
	list_init(&v->frags_free);
	list_init(&v->frags_busy);
	list_init(&v->lru);
	list_init(&v->commit.waiting);
	list_init(&v->commit.cycle);
	v->commit.sequence = 1;
	guid_random(&v->log_guid);
	err = open_load(v, eb);
	if (err != 0) {
		errbuf_prepend(eb, "vhdx");
		open_free(v);
		return err;
	}
	if (v->parent != NULL) {
		v->parent_bytes = ((struct vhdx *)(void *)v->parent)->geo.size_bytes;
	}
	open_info_init(v);
	blk_init(&v->blk, &vhdx_ops, v->file->ring);
	*out = &v->blk;
	return 0;
}

/* Leave nothing to replay, and no more storage than is used. */
static int open_finish(struct vhdx *v, struct errbuf *eb)
{
	struct vhdx_header header = v->header;
	uint64_t end = vhdx_space_end_bytes(&v->space);
	int err = blk_sync_flush(v->file);

	if (err != 0) {
		return errbuf_sys(eb, err, "flush");
	}
	if (!guid_is_nil(&header.log)) {
		header.log = (struct guid){0};
		err = vhdx_header_store(v, &header, eb);
	}
	/* Only now: an entry in the log would take a shorter file for a damaged one. */
	if (err == 0 && v->can_grow && !v->metadata.fixed && end < v->file_bytes) {
		err = blk_sync_resize(v->file, end);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "resize the file");
		}
	}
	return err;
}

static int open_close(struct blk *blk, struct errbuf *eb)
{
	struct vhdx *v = container_of(blk, struct vhdx, blk);
	int err = v->failed;
	int file_err;
	int parent_err;

	if (v->active) {
		v->commit.wanted = true;
		vhdx_commit_kick(v);
		while (!vhdx_idle(v)) {
			int n = uring_wait(blk->ring, UINT64_MAX);

			/* What is under way uses our memory: no leaving before it ends. */
			CHECK(n >= 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY);
			vhdx_commit_kick(v);
		}
		err = v->failed;
		if (err != 0) {
			(void)errbuf_sys(eb, err, "vhdx: metadata could not be written");
		} else {
			err = open_finish(v, eb);
			if (err != 0) {
				errbuf_prepend(eb, "vhdx");
			}
		}
	}
	file_err = blk_close(v->file, err == 0 ? eb : NULL);
	parent_err = blk_close(v->parent, err == 0 && file_err == 0 ? eb : NULL);
	open_free(v);
	return err != 0 ? err : file_err != 0 ? file_err : parent_err;
}

void vhdx_stat_of(const struct vhdx *v, struct vhdx_stat *out)
{
	*out = (struct vhdx_stat){
		.kind = v->metadata.fixed        ? VHDX_FIXED
	                : v->metadata.has_parent ? VHDX_DIFFERENCING
	                                         : VHDX_DYNAMIC,
		.size_bytes = v->geo.size_bytes,
		.file_bytes = v->file_bytes,
		.block_bytes = v->geo.block_bytes,
		.logical_bytes = v->geo.logical_bytes,
		.physical_bytes = v->metadata.physical_bytes,
		.log_bytes = v->header.log_bytes,
		.block_count = v->geo.block_count,
		.disk_id = v->metadata.disk_id,
		.data_write = v->header.data_write,
		.commits = v->commits,
		.allocated = v->allocated,
		.stalled = v->stalled_count,
		.failed = v->failed,
	};
	for (uint64_t block = 0; block < v->geo.block_count; block++) {
		uint64_t entry = v->bat[vhdx_bat_index(&v->geo, block)];

		out->present_count += vhdx_bat_has_data(entry);
		out->partial_count += vhdx_bat_state(entry) == VHDX_PARTIAL;
	}
}

void vhdx_stat(const struct blk *blk, struct vhdx_stat *out)
{
	CHECK(blk->ops == &vhdx_ops);
	vhdx_stat_of((const struct vhdx *)(const void *)blk, out);
}
