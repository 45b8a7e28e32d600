/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_CHECK_CHECK_INT_H
#define CSV_CHECK_CHECK_INT_H

#include "base/attr.h"
#include "base/errbuf.h"
#include "csv/check/csv_check.h"
#include "csv/meta/csv_meta.h"

struct check {
	const struct csv_check_disk *disk; /* borrowed */
	const struct csv_check_cfg *cfg;   /* borrowed */
	struct csv_super super;
	struct csv_meta *meta; /* owned: knows where images are; NULL = all is in place */
	bool repair;
	uint64_t term;
	uint64_t faults;
	uint64_t *units; /* owned: bit per unit that somebody has */
	uint64_t *pool;  /* owned: bit per block of the pool */
	uint64_t *dirs;  /* owned: to be walked */
	uint64_t dirs_count;
	uint64_t dirs_max;
	uint64_t *lost; /* owned: inodes without a directory */
	uint64_t lost_count;
	uint64_t lost_max;
	uint8_t *bufs; /* owned: one block per level of a tree, and the inode's */
	/* What was found. */
	uint64_t files;
	uint64_t directories;
	uint64_t pending;
	uint64_t units_used;
	uint64_t reserved_units;
	uint64_t generation_max;
	int err; /* reading or memory: the look is over */
};

/* walk.c */
void walk_all(struct check *c);
void walk_lost(struct check *c);

/* maps.c */
void maps_compare(struct check *c);

/* check.c */
void check_fault(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
void check_did(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
int check_read(struct check *c, uint64_t block, void *buf);
void check_write(struct check *c, enum csv_block_type type, uint64_t block, void *buf);
int check_push(struct check *c, uint64_t **array, uint64_t *count, uint64_t *max, uint64_t value);

#endif
