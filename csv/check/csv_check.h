/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_CHECK_CSV_CHECK_H
#define CSV_CHECK_CSV_CHECK_H

/*
 * csv_check - is a volume that nobody uses in order? Everything is read from the roots:
 * superblocks, journal, every directory, inode and tree node; then the maps and the counts are
 * compared with what was found. With repair, what is wrong is put right, and said: copies of the
 * superblock and maps and counts are written anew; records that point at something damaged are
 * removed; files that lost their directory come into lost+found. Data of files is not looked at.
 *
 * What the disk says is hostile: damage is reported with its block, never followed. Memory: one
 * bit per unit and per block of the pool, and some blocks. Blocks on I/O.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "csv/format/csv_format.h"

struct csv_meta;
struct errbuf;

/* The disk. All return 0 or -errno. */
struct csv_check_disk {
	int (*read)(void *arg, uint64_t block, uint32_t count, void *buf);
	int (*write)(void *arg, uint64_t block, uint32_t count, const void *buf);
	int (*flush)(void *arg);
	void *arg;
	uint64_t size_bytes;
};

struct csv_check_cfg {
	bool repair;
	/* One line about something that is wrong (@fault), was done, or was found. */
	void (*say)(void *arg, bool fault, const char *text);
	void *arg;
};

struct csv_check_result {
	struct csv_super super;
	uint64_t faults;   /* in the first look */
	uint64_t remain;   /* after repair; = faults without */
	uint64_t replayed; /* transactions that were not in place */
	uint64_t files;
	uint64_t directories;
	uint64_t units;
	uint64_t free_units;
	uint64_t term; /* of the volume */
};

/*
 * csv_check_run() - look at a volume, and repair it if asked.
 * Returns 0: it was looked at, *out says what was found; -EUCLEAN, -EPROTONOSUPPORT no superblock
 * that we can use (@eb names the block), or no journal; -ENOMEM; -EIO.
 */
MUST_USE int csv_check_run(const struct csv_check_disk *disk, const struct csv_check_cfg *cfg,
                           struct csv_check_result *out, struct errbuf *eb);

/*
 * csv_check_super() - the newest good superblock of a device.
 * @bad_copies: how many of the three are not it; may be NULL.
 * Returns 0; -EUCLEAN none, @eb says what is wrong with the first; -EPROTONOSUPPORT; -EINVAL the
 * device is too small to have one; -EIO.
 */
MUST_USE int csv_check_super(const struct csv_check_disk *disk, struct csv_super *out,
                             uint32_t *bad_copies, struct errbuf *eb);

/* csv_check_drive() - do what @m asks for, until it asks for nothing. Returns csv_meta_status(). */
int csv_check_drive(struct csv_meta *m, const struct csv_check_disk *disk, struct errbuf *eb);

/* csv_check_live() - is some node using the volume? Compares the liveness slots with what they
 * were in @before[CSV_NODES_MAX] (counts; 0 = free); call twice, longer apart than a node
 * needs to write. Fills @before. Returns 1 + the first node that changed, 0 none, -EIO. */
MUST_USE int csv_check_live(const struct csv_check_disk *disk, const struct guid *volume,
                            uint64_t *before);

#endif
