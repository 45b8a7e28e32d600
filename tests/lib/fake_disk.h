/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_FAKE_DISK_H
#define TESTS_LIB_FAKE_DISK_H

/*
 * fake_disk - a block device in memory that keeps the promises of base/blk.h and not one more.
 *
 * What is not durable by a flush or FUA may be lost when the power fails, in any way a real disk
 * may lose it: unsynced writes, completed or in flight, survive or not, in any order, whole or
 * torn between sectors, and so do changes of the size. fake_disk_crash_image() gives one possible
 * content per seed. A crash test runs like this:
 *
 *	for (n = 1; ; n++) {                            // at every request of the scenario
 *		fake_disk_create(&cfg, ring, &d);
 *		fake_disk_cut_at(d, n);
 *		run the scenario on fake_disk_blk(d) until it ends or fails with -EIO; close it
 *		cut = fake_disk_is_cut(d);
 *		for each of some seeds:
 *			image = fake_disk_crash_image(d, seed);
 *			create a disk from it, open, check that every promise was kept
 *		fake_disk_destroy(d);
 *		if (!cut) break;                        // the scenario is shorter than n
 *	}
 *
 * All randomness comes from seeds. One thread, the ring's. Aborts when memory runs out, and its
 * own allocations are not counted by base/fault.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blk.h"

struct fake_disk;
struct uring;

enum fake_disk_order {
	FAKE_DISK_FIFO,    /* requests complete in order, from the next dispatch */
	FAKE_DISK_SHUFFLE, /* in random order, after a random number of dispatches */
	FAKE_DISK_MANUAL,  /* when the test calls fake_disk_step() */
};

enum fake_disk_discard {
	FAKE_DISK_DISCARD_NONE,    /* discard_bytes 0 in blk_info; does nothing */
	FAKE_DISK_DISCARD_ZERO,    /* discarded sectors read as zero */
	FAKE_DISK_DISCARD_GARBAGE, /* they read as 0xdb: "undefined" taken at its word */
};

struct fake_disk_cfg {
	uint64_t size_bytes;     /* multiple of logical_bytes */
	uint32_t logical_bytes;  /* 512 or 4096; 0 = 512. Never torn */
	uint32_t physical_bytes; /* 0 = 4096 */
	bool read_only;
	bool can_resize;
	enum fake_disk_order order;
	enum fake_disk_discard discard;
	uint64_t seed;     /* of the order and of failed writes */
	const void *image; /* content at the start, durable; NULL = zeroes. Copied. */
};

/* A content that can be after a crash. */
struct fake_disk_image {
	uint8_t *data; /* owned: free() it */
	uint64_t size_bytes;
};

/* fake_disk_create() - cannot fail. @ring is borrowed until fake_disk_destroy(). */
struct fake_disk *fake_disk_create(const struct fake_disk_cfg *cfg, struct uring *ring);

/* fake_disk_destroy() - nothing is in flight; the device may still be open. NULL is fine. */
void fake_disk_destroy(struct fake_disk *d);

/* fake_disk_blk() - the device. Closing it only marks it closed: @d and its content stay. */
struct blk *fake_disk_blk(struct fake_disk *d);
bool fake_disk_is_closed(const struct fake_disk *d);

/* fake_disk_step() - complete one request, chosen by the seed. Returns false if there is none. */
bool fake_disk_step(struct fake_disk *d);

#define FAKE_DISK_ALL_OPS ((1u << BLK_OP_COUNT) - 1)

struct fake_disk_failure {
	uint32_t ops;   /* which requests: bit per enum blk_op */
	uint64_t nth;   /* the first of these that fails, 1.. from now */
	uint64_t count; /* and how many in a row */
	int err;        /* their result */
};

/* fake_disk_fail() - let requests fail, as planned; NULL = no more. Of a failed write any sectors
 * may have changed. */
void fake_disk_fail(struct fake_disk *d, const struct fake_disk_failure *plan);

/*
 * fake_disk_cut_at() - the power fails at the @nth (1..) request from now, before the disk sees
 * it: that one, those in flight and all later ones complete with -EIO, what was not durable is in
 * limbo. 0 = do not (any more).
 */
void fake_disk_cut_at(struct fake_disk *d, uint64_t nth);

/* fake_disk_cut() - the power fails now. */
void fake_disk_cut(struct fake_disk *d);
bool fake_disk_is_cut(const struct fake_disk *d);

/*
 * fake_disk_crash_image() - a content that may be found after a power failure now (or when it was
 * cut). Does not change the disk. Seeds 0 and 1: nothing and everything unsynced survived.
 */
struct fake_disk_image fake_disk_crash_image(const struct fake_disk *d, uint64_t seed);

/* fake_disk_data() - what reads see now: fake_disk_size() bytes. Write to it to corrupt the disk;
 * call fake_disk_settle() then. */
uint8_t *fake_disk_data(struct fake_disk *d);
uint64_t fake_disk_size(const struct fake_disk *d);

/* fake_disk_settle() - what reads see now is durable, whatever was promised. */
void fake_disk_settle(struct fake_disk *d);

/* Requests accepted so far, of one kind and in all; and now in flight. */
uint64_t fake_disk_count(const struct fake_disk *d, enum blk_op op);
uint64_t fake_disk_requests(const struct fake_disk *d);
uint32_t fake_disk_in_flight(const struct fake_disk *d);

#endif
