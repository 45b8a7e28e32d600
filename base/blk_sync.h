/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BLK_SYNC_H
#define BASE_BLK_SYNC_H

/*
 * blk_sync - block requests that wait: for the control path (open, check, convert) and for tools.
 *
 * Each call drives the device's ring until its request is done, and so also runs the completions
 * of whatever else is in flight there. Never from inside a completion (CHECK). Lengths above
 * BLK_TRANSFER_MAX are split. Device's thread.
 *
 * All return 0 or what blk_req's completion may say (base/blk.h).
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct blk;

/* Transfer @buf[len_bytes], any alignment in memory, at @offset_bytes. len_bytes 0: nothing. */
MUST_USE int blk_sync_read(struct blk *blk, uint64_t offset_bytes, void *buf, size_t len_bytes);
MUST_USE int blk_sync_write(struct blk *blk, uint64_t offset_bytes, const void *buf,
                            size_t len_bytes);

/* What was written before is durable. */
MUST_USE int blk_sync_flush(struct blk *blk);

MUST_USE int blk_sync_discard(struct blk *blk, uint64_t offset_bytes, uint64_t len_bytes);
MUST_USE int blk_sync_zero(struct blk *blk, uint64_t offset_bytes, uint64_t len_bytes);
MUST_USE int blk_sync_resize(struct blk *blk, uint64_t size_bytes);

#endif
