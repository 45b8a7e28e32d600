/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_VHDX_DISK_H
#define TESTS_UNIT_HV_VHDX_DISK_H

/* disk - a small VHDX on a fake_disk, with its parent if it is a differencing one. */

#include <stdbool.h>
#include <stdint.h>

#include "hv/vhdx/vhdx.h"
#include "tests/lib/fake_disk.h"
#include "tests/unit/hv/vhdx/workload.h"

#define DISK_MIB (1ull << 20)
#define DISK_BYTES (DISK_MIB * 15 / 2) /* blocks of 1 MiB; the last one is half a block */

struct disk_cfg {
	enum vhdx_kind kind;
	uint32_t logical_bytes; /* 0: 512 */
	enum fake_disk_order order;
	enum fake_disk_discard discard;
	uint64_t seed;
};

struct disk {
	struct disk_cfg cfg;
	struct uring *ring;
	struct fake_disk *file;
	struct fake_disk *parent_file;
	struct workload parent_model;
	struct blk *blk;
	uint64_t writes_before; /* the making of it */
};

/* disk_create() - make it; its file is settled. disk_destroy() - nothing is open. */
void disk_create(struct disk *d, const struct disk_cfg *cfg);
void disk_destroy(struct disk *d);

/* disk_replace() - another file: one that a crash left. Takes @image. */
void disk_replace(struct disk *d, struct fake_disk_image image);

void disk_open(struct disk *d);
void disk_open_read_only(struct disk *d);
void disk_close(struct disk *d);

/* disk_try_open() - Returns what vhdx_open() returns; d->blk. */
int disk_try_open(struct disk *d, bool read_only, struct errbuf *eb);

/* disk_parent() - the parent, opened; NULL if there is none. */
struct blk *disk_parent(struct disk *d);

#endif
