/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_LAYOUT_CSV_LAYOUT_H
#define CSV_LAYOUT_CSV_LAYOUT_H

/*
 * csv_layout_lease - the right of one handle to do I/O directly on a part of a shared volume.
 *
 * The coordinator grants it, csv/client keeps it, the data path looks at it before each submission.
 * Whoever holds it may read, and with @write write, the extents it names, as long as
 *
 *  - it was neither returned nor revoked (its owner takes it away from the data path first and
 *    answers the coordinator when what was submitted is done), and
 *  - now < @expires_ns. That is the end of this node's lease on the volume (its liveness slot), so
 *    that it moves on with each renewal, whether there is a coordinator or not. Written by the
 *    owner, read with csv_layout_lease_usable().
 *
 * There is no other clock: the coordinator gives the blocks to nobody else before they were
 * returned, or before a fence proof of this node's incarnation, which waits for the end of that
 * lease. A new term of the volume does not end it either; it is reclaimed.
 *
 * What lies in no extent is a hole: reads as zero, has to be allocated before it is written. What
 * is @unwritten reads as zero whatever the device says; it may be written, and counts as written
 * when the coordinator has converted it, which has to happen before a flush is acknowledged.
 *
 * Value types; no state. Offsets and lengths are multiples of CSV_BLOCK_BYTES (4096).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define CSV_LAYOUT_EXTENTS_MAX 128u /* in one lease: with the rest they fit into one message */

struct csv_layout_extent {
	uint64_t file_bytes;   /* where it begins in the file */
	uint64_t device_bytes; /* where it begins on the device */
	uint64_t length_bytes; /* > 0 */
	bool unwritten;
};

/* Extents ascend, do not overlap, and lie inside the range. */
struct csv_layout_lease {
	uint64_t term; /* of the volume, in which it was granted or last reclaimed */
	uint64_t ino;  /* the file */
	uint64_t generation;
	uint64_t handle;     /* the open that it belongs to; unique per node and incarnation */
	uint64_t number;     /* of this lease, unique per node and incarnation; never 0 */
	uint64_t token;      /* of the file: what redirected requests are checked against */
	uint64_t expires_ns; /* CLOCK_BOOTTIME of this node */
	uint64_t from_bytes; /* the range that is leased: [from, to) */
	uint64_t to_bytes;
	bool write;
	uint32_t extents_count;
	struct csv_layout_extent extents[CSV_LAYOUT_EXTENTS_MAX];
};

/* csv_layout_lease_valid() - is it one that the comments above allow? For what came from a peer. */
bool csv_layout_lease_valid(const struct csv_layout_lease *l);

/*
 * csv_layout_lease_find() - the place of a byte of the file.
 * @out: from @file_bytes on, as far as it is one piece; a hole has device_bytes UINT64_MAX and
 * reaches to the next extent or the end of the range.
 * Returns 0; -ENXIO: @file_bytes is outside the range.
 */
MUST_USE int csv_layout_lease_find(const struct csv_layout_lease *l, uint64_t file_bytes,
                                   struct csv_layout_extent *out);

/* csv_layout_lease_usable() - may something be submitted at @now_ns (and @write: a write)? */
bool csv_layout_lease_usable(const struct csv_layout_lease *l, bool write, uint64_t now_ns);

/*
 * csv_layout_lease_written() - the coordinator converted this range: its extents are not unwritten
 * any more. The lease is untouched on failure.
 * @from_bytes, @to_bytes: borrowed bounds, multiples of 4096.
 * Returns 0; -ENOSPC it would take more than CSV_LAYOUT_EXTENTS_MAX extents (get a new lease).
 */
MUST_USE int csv_layout_lease_written(struct csv_layout_lease *l, uint64_t from_bytes,
                                      uint64_t to_bytes);

#endif
