/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fmt.h"
#include "hv/vhdx/path_int.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

/*
 * The layout of what we make; others' files may have any.
 *
 *	0      identifier, headers, region tables      2 MiB + log    metadata
 *	1 MiB  log                                     3 MiB + log    BAT, then blocks
 */

#define CREATE_METADATA_BYTES VHDX_MIB
#define CREATE_CHUNK_BYTES VHDX_MIB

struct create {
	struct blk *file; /* borrowed */
	struct vhdx_header header;
	struct vhdx_regions regions;
	struct vhdx_metadata metadata;
	struct vhdx_geometry geo;
	uint64_t payload; /* where blocks start */
	uint8_t *buf;     /* owned; CREATE_CHUNK_BYTES */
};

int vhdx_tool_progress(const struct vhdx_progress *progress, uint64_t done, uint64_t total)
{
	if (progress == NULL || progress->fn == NULL || progress->fn(done, total, progress->arg)) {
		return 0;
	}
	return -ECANCELED;
}

static uint64_t create_round(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

static int create_check(const struct vhdx_create_cfg *cfg, struct create *c, struct errbuf *eb)
{
	int err;

	c->metadata = (struct vhdx_metadata){
		.size_bytes = cfg->size_bytes,
		.block_bytes = cfg->block_bytes,
		.logical_bytes = cfg->logical_bytes,
		.physical_bytes = cfg->physical_bytes,
		.fixed = cfg->kind == VHDX_FIXED,
		.has_parent = cfg->kind == VHDX_DIFFERENCING,
		.disk_id = cfg->disk_id,
	};
	if (cfg->log_bytes == 0 || cfg->log_bytes % VHDX_MIB != 0 ||
	    cfg->log_bytes > VHDX_LOG_BYTES_MAX) {
		return errbuf_set(eb, -EINVAL, "log of %u bytes: 1 to 128 MiB, in whole MiB",
		                  cfg->log_bytes);
	}
	err = vhdx_metadata_check(&c->metadata, eb);
	return err != 0 ? -EINVAL : 0;
}

static void create_layout(const struct vhdx_create_cfg *cfg, struct create *c)
{
	vhdx_geometry_init(&c->metadata, &c->geo);
	c->header = (struct vhdx_header){.log_bytes = cfg->log_bytes, .log_offset = VHDX_MIB};
	guid_random(&c->header.file_write);
	guid_random(&c->header.data_write);
	c->regions.metadata = (struct vhdx_region){
		.offset = VHDX_MIB + (uint64_t)cfg->log_bytes,
		.bytes = CREATE_METADATA_BYTES,
		.required = true,
	};
	c->regions.bat = (struct vhdx_region){
		.offset = c->regions.metadata.offset + CREATE_METADATA_BYTES,
		.bytes = (uint32_t)create_round(c->geo.entry_count * sizeof(le64), VHDX_MIB),
		.required = true,
	};
	c->payload = c->regions.bat.offset + c->regions.bat.bytes;
}

static int create_bat(struct create *c, const struct vhdx_progress *progress)
{
	uint64_t total = c->geo.entry_count;
	int err = 0;

	/* A dynamic disk's is all zeros, as the file is: every block NOT_PRESENT. */
	for (uint64_t first = 0; err == 0 && c->metadata.fixed && first < total;
	     first += CREATE_CHUNK_BYTES / sizeof(le64)) {
		memset(c->buf, 0, CREATE_CHUNK_BYTES);
		for (uint64_t i = first; i < total && i < first + CREATE_CHUNK_BYTES / sizeof(le64);
		     i++) {
			uint64_t block;

			if (vhdx_bat_is_payload(&c->geo, i, &block)) {
				le64 entry = le64_make(vhdx_bat_make(
					VHDX_PRESENT, c->payload + (block << c->geo.block_shift)));

				memcpy(c->buf + (i - first) * sizeof(entry), &entry, sizeof(entry));
			}
		}
		err = blk_sync_write(c->file, c->regions.bat.offset + first * sizeof(le64), c->buf,
		                     CREATE_CHUNK_BYTES);
		if (err == 0) {
			err = vhdx_tool_progress(progress, first, total);
		}
	}
	return err;
}

static int create_metadata(struct create *c, const struct vhdx_locator *locator, struct errbuf *eb)
{
	uint8_t *region = gw_malloc(VHDX_METADATA_TABLE_BYTES + VHDX_METADATA_ITEMS_BYTES);
	uint8_t *text = gw_malloc(VHDX_LOCATOR_BYTES_MAX);
	int len = 0;
	int err = region == NULL || text == NULL ? -ENOMEM : 0;

	if (err == 0 && locator != NULL) {
		len = vhdx_locator_encode(locator, text, VHDX_LOCATOR_BYTES_MAX);
		if (len < 0) {
			err = errbuf_sys(eb, len, "parent locator");
		}
	}
	if (err == 0) {
		vhdx_metadata_encode(&c->metadata, text, (uint32_t)len, region);
		err = blk_sync_write(c->file, c->regions.metadata.offset, region,
		                     VHDX_METADATA_TABLE_BYTES + VHDX_METADATA_ITEMS_BYTES);
	}
	free(region);
	free(text);
	return err;
}

/* What makes a VHDX of it, last: headers after a flush of all the rest, then the identifier. */
static int create_head(struct create *c)
{
	struct vhdx_header_wire header;
	struct vhdx_file_id_wire id = vhdx_file_id_encode("Godwit");
	int err = 0;

	vhdx_regions_encode(&c->regions, c->buf);
	err = blk_sync_write(c->file, VHDX_REGION_1_OFFSET, c->buf, VHDX_REGION_BYTES);
	if (err == 0) {
		err = blk_sync_write(c->file, VHDX_REGION_2_OFFSET, c->buf, VHDX_REGION_BYTES);
	}
	for (uint64_t i = 0; err == 0 && i < 2; i++) {
		c->header.sequence = i;
		vhdx_header_encode(&c->header, &header);
		err = blk_sync_write(c->file, i == 0 ? VHDX_HEADER_1_OFFSET : VHDX_HEADER_2_OFFSET,
		                     &header, sizeof(header));
	}
	if (err == 0) {
		err = blk_sync_flush(c->file);
	}
	if (err == 0) {
		memset(c->buf, 0, VHDX_HEADER_1_OFFSET);
		memcpy(c->buf, &id, sizeof(id));
		err = blk_sync_write(c->file, VHDX_FILE_ID_OFFSET, c->buf, VHDX_HEADER_1_OFFSET);
	}
	return err == 0 ? blk_sync_flush(c->file) : err;
}

static int create_write(struct create *c, const struct vhdx_locator *locator,
                        const struct vhdx_progress *progress, struct errbuf *eb)
{
	uint64_t blocks = c->metadata.fixed ? c->geo.block_count << c->geo.block_shift : 0;
	int err = blk_sync_resize(c->file, 0);

	if (err == 0) {
		err = blk_sync_resize(c->file, c->payload + blocks);
	}
	/* A fixed disk has its storage from the start: zeroing allocates where the file can. */
	for (uint64_t at = 0; err == 0 && at < blocks;) {
		uint64_t part = blocks - at < (1ull << 30) ? blocks - at : 1ull << 30;

		err = blk_sync_zero(c->file, c->payload + at, part);
		at += part;
		if (err == 0) {
			err = vhdx_tool_progress(progress, at, blocks);
		}
	}
	if (err == 0) {
		err = create_bat(c, NULL);
	}
	if (err == 0) {
		err = create_metadata(c, locator, eb);
	}
	if (err == 0) {
		err = create_head(c);
	}
	return err;
}

int vhdx_format_with(struct blk *file, const struct vhdx_create_cfg *cfg,
                     const struct vhdx_locator *locator, const struct vhdx_progress *progress,
                     struct errbuf *eb)
{
	struct create c = {.file = file};
	struct errbuf local = {.text = ""};
	int err;

	eb = eb != NULL ? eb : &local;
	*eb = (struct errbuf){.text = ""};
	err = create_check(cfg, &c, eb);
	if (err != 0) {
		errbuf_prepend(eb, "vhdx");
		return err;
	}
	create_layout(cfg, &c);
	c.buf = gw_malloc(CREATE_CHUNK_BYTES);
	err = c.buf == NULL ? -ENOMEM : create_write(&c, locator, progress, eb);
	free(c.buf);
	if (err != 0 && eb->text[0] == '\0') {
		(void)errbuf_sys(eb, err, "write");
	}
	if (err != 0) {
		errbuf_prepend(eb, "vhdx");
	}
	return err;
}

int vhdx_format(struct blk *file, const struct vhdx_create_cfg *cfg,
                const struct vhdx_progress *progress, struct errbuf *eb)
{
	return vhdx_format_with(file, cfg, NULL, progress, eb);
}

/* ---- by path ---- */

/* The rest of @cfg, from the parent or by default; the parent's name into @locator. */
static int create_complete(const struct vhdx_files *files, const char *path, const char *parent,
                           struct vhdx_create_cfg *cfg, struct vhdx_locator *locator,
                           struct errbuf *eb)
{
	char child_abs[VHDX_PATH_MAX];
	char size[FMT_MAX];
	char parent_size[FMT_MAX];
	struct vhdx_stat stat;
	struct blk *blk;
	int err = vhdx_open_path(files, parent, true, &blk, eb);

	if (err != 0) {
		return err;
	}
	vhdx_stat(blk, &stat);
	err = blk_close(blk, eb);
	cfg->size_bytes = cfg->size_bytes != 0 ? cfg->size_bytes : stat.size_bytes;
	cfg->logical_bytes = cfg->logical_bytes != 0 ? cfg->logical_bytes : stat.logical_bytes;
	cfg->physical_bytes = cfg->physical_bytes != 0 ? cfg->physical_bytes : stat.physical_bytes;
	/* The guest is to see the same disk when a child takes its parent's place. */
	cfg->disk_id = guid_is_nil(&cfg->disk_id) ? stat.disk_id : cfg->disk_id;
	if (cfg->logical_bytes != stat.logical_bytes) {
		return errbuf_set(eb, -EINVAL, "sectors of %u bytes, but the parent has %u",
		                  cfg->logical_bytes, stat.logical_bytes);
	}
	if (cfg->size_bytes < stat.size_bytes) {
		return errbuf_set(eb, -EINVAL, "%s (%ju bytes) is less than the parent's %s (%ju)",
		                  fmt_size(cfg->size_bytes, size), (uintmax_t)cfg->size_bytes,
		                  fmt_size(stat.size_bytes, parent_size),
		                  (uintmax_t)stat.size_bytes);
	}
	locator->linkage = stat.data_write;
	if (err == 0) {
		err = vhdx_path_absolute(path, child_abs, sizeof(child_abs));
	}
	if (err == 0) {
		err = vhdx_path_absolute(parent, locator->absolute_path,
		                         sizeof(locator->absolute_path));
	}
	if (err == 0) {
		err = vhdx_path_relative(child_abs, locator->absolute_path, locator->relative_path,
		                         sizeof(locator->relative_path));
	}
	/* As Windows writes them; relative paths are already so. */
	for (char *c = locator->absolute_path; *c != '\0'; c++) {
		if (*c == '/') {
			*c = '\\';
		}
	}
	return err != 0 ? errbuf_sys(eb, err, "the way from %s to its parent %s", path, parent) : 0;
}

static void create_defaults(struct vhdx_create_cfg *cfg)
{
	if (cfg->block_bytes == 0) {
		cfg->block_bytes = cfg->kind == VHDX_DIFFERENCING ? VHDX_BLOCK_BYTES_DIFFERENCING
		                                                  : VHDX_BLOCK_BYTES_DEFAULT;
	}
	cfg->logical_bytes = cfg->logical_bytes != 0 ? cfg->logical_bytes : 512;
	cfg->physical_bytes = cfg->physical_bytes != 0 ? cfg->physical_bytes : 4096;
	cfg->log_bytes = cfg->log_bytes != 0 ? cfg->log_bytes : VHDX_MIB;
	if (guid_is_nil(&cfg->disk_id)) {
		guid_random(&cfg->disk_id);
	}
}

static int create_file(const struct vhdx_files *files, const char *path,
                       const struct vhdx_create_cfg *cfg, const struct vhdx_locator *locator,
                       const struct vhdx_progress *progress, struct errbuf *eb)
{
	struct blk *file;
	int close_err;
	int err = files->create(path, VHDX_MIB, eb, files->arg);

	if (err != 0) {
		return err;
	}
	err = files->open(path, false, &file, eb, files->arg);
	if (err == 0) {
		err = vhdx_format_with(file, cfg, locator, progress, eb);
		close_err = blk_close(file, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
	}
	if (err != 0) {
		close_err = files->remove(path, NULL, files->arg);
		(void)close_err; /* the first error is the one to tell */
	}
	return err;
}

int vhdx_create(const struct vhdx_files *files, const char *path, const char *parent,
                const struct vhdx_create_cfg *cfg, const struct vhdx_progress *progress,
                struct errbuf *eb)
{
	struct vhdx_create_cfg full = *cfg;
	struct vhdx_locator *locator = NULL;
	int err = 0;

	if ((cfg->kind == VHDX_DIFFERENCING) != (parent != NULL)) {
		return errbuf_set(eb, -EINVAL, "%s",
		                  parent != NULL ? "only a differencing disk has a parent"
		                                 : "a differencing disk needs a parent");
	}
	if (parent != NULL) {
		locator = gw_calloc(1, sizeof(*locator));
		err = locator == NULL ? errbuf_sys(eb, -ENOMEM, "create")
		                      : create_complete(files, path, parent, &full, locator, eb);
	}
	create_defaults(&full);
	if (err == 0) {
		err = create_file(files, path, &full, locator, progress, eb);
	}
	free(locator);
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	return err;
}
