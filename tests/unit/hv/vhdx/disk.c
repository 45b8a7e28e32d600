/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/vhdx/disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/uring.h"
#include "hv/vhdx/tool_int.h"
#include "tests/lib/test.h"

#define DISK_PARENT_BYTES (5 * DISK_MIB) /* the child is longer */

static struct fake_disk *new_file(struct disk *d, const void *image, uint64_t size)
{
	const struct fake_disk_cfg cfg = {
		.size_bytes = size,
		.logical_bytes = d->cfg.logical_bytes,
		.can_resize = true,
		.order = d->cfg.order,
		.discard = d->cfg.discard,
		.seed = d->cfg.seed,
		.image = image,
	};

	return fake_disk_create(&cfg, d->ring);
}

/* A file that was closed, open again with what it holds. */
static void reopen(struct disk *d, struct fake_disk **file)
{
	struct fake_disk *old = *file;

	if (fake_disk_is_closed(old)) {
		*file = new_file(d, fake_disk_data(old), fake_disk_size(old));
		fake_disk_destroy(old);
	}
}

static void format(struct disk *d, struct fake_disk *file, enum vhdx_kind kind, uint64_t size,
                   const struct vhdx_locator *locator)
{
	const struct vhdx_create_cfg cfg = {
		.kind = kind,
		.size_bytes = size,
		.block_bytes = DISK_MIB,
		.logical_bytes = d->cfg.logical_bytes,
		.physical_bytes = 4096,
		.log_bytes = DISK_MIB,
	};
	struct errbuf eb = {.text = ""};

	if (vhdx_format_with(fake_disk_blk(file), &cfg, locator, NULL, &eb) != 0) {
		print_error("%s\n", eb.text);
		fail();
	}
}

static void create_parent(struct disk *d, struct vhdx_locator *locator)
{
	const struct vhdx_cfg *cfg;
	struct vhdx_stat stat;
	struct blk *blk;

	d->parent_file = new_file(d, NULL, 0);
	format(d, d->parent_file, VHDX_DYNAMIC, DISK_PARENT_BYTES, NULL);
	workload_init(&d->parent_model, DISK_PARENT_BYTES, d->cfg.logical_bytes, DISK_MIB,
	              d->cfg.seed + 7);
	d->parent_model.no_trim = true;
	cfg = &(struct vhdx_cfg){.file = fake_disk_blk(d->parent_file)};
	assert_int_equal(vhdx_open(cfg, &blk, NULL), 0);
	assert_int_equal(workload_run(&d->parent_model, blk, 200, 8), 0);
	vhdx_stat(blk, &stat);
	locator->linkage = stat.data_write;
	assert_int_equal(blk_close(blk, NULL), 0);
	fake_disk_settle(d->parent_file);
	workload_settle(&d->parent_model);
}

void disk_create(struct disk *d, const struct disk_cfg *cfg)
{
	struct vhdx_locator *locator = calloc(1, sizeof(*locator));

	CHECK(locator != NULL);
	*d = (struct disk){.cfg = *cfg};
	if (d->cfg.logical_bytes == 0) {
		d->cfg.logical_bytes = 512;
	}
	assert_int_equal(uring_create(&(struct uring_cfg){.entries = 64, .force_fallback = true},
	                              &d->ring, NULL),
	                 0);
	if (cfg->kind == VHDX_DIFFERENCING) {
		create_parent(d, locator);
		(void)memcpy(locator->relative_path, ".\\parent.vhdx", 14);
	}
	d->file = new_file(d, NULL, 0);
	format(d, d->file, cfg->kind, DISK_BYTES, cfg->kind == VHDX_DIFFERENCING ? locator : NULL);
	fake_disk_settle(d->file);
	d->writes_before = fake_disk_count(d->file, BLK_WRITE);
	free(locator);
}

void disk_destroy(struct disk *d)
{
	fake_disk_destroy(d->file);
	if (d->parent_file != NULL) {
		fake_disk_destroy(d->parent_file);
		workload_fini(&d->parent_model);
	}
	uring_destroy(d->ring);
}

void disk_replace(struct disk *d, struct fake_disk_image image)
{
	fake_disk_destroy(d->file);
	d->file = new_file(d, image.data, image.size_bytes);
	free(image.data);
}

struct blk *disk_parent(struct disk *d)
{
	struct blk *blk = NULL;

	if (d->parent_file != NULL) {
		struct vhdx_cfg cfg = {.read_only = true};

		reopen(d, &d->parent_file);
		cfg.file = fake_disk_blk(d->parent_file);
		assert_int_equal(vhdx_open(&cfg, &blk, NULL), 0);
	}
	return blk;
}

int disk_try_open(struct disk *d, bool read_only, struct errbuf *eb)
{
	struct vhdx_cfg cfg = {.parent = disk_parent(d), .read_only = read_only};
	int err;

	reopen(d, &d->file);
	cfg.file = fake_disk_blk(d->file);
	err = vhdx_open(&cfg, &d->blk, eb);

	if (err != 0 && cfg.parent != NULL) {
		assert_int_equal(blk_close(cfg.parent, NULL), 0);
	}
	return err;
}

static void open_either(struct disk *d, bool read_only)
{
	struct errbuf eb = {.text = ""};

	if (disk_try_open(d, read_only, &eb) != 0) {
		print_error("%s\n", eb.text);
		fail();
	}
}

void disk_open(struct disk *d)
{
	open_either(d, false);
}

void disk_open_read_only(struct disk *d)
{
	open_either(d, true);
}

void disk_close(struct disk *d)
{
	struct errbuf eb = {.text = ""};

	if (blk_close(d->blk, &eb) != 0) {
		print_error("%s\n", eb.text);
		fail();
	}
	d->blk = NULL;
}
