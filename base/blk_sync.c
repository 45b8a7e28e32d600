/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blk_sync.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/uring.h"

struct blk_sync {
	struct blk_req req;
	bool done;
	int result;
};

static void blk_sync_done(struct blk_req *req, int result)
{
	struct blk_sync *wait = container_of(req, struct blk_sync, req);

	wait->done = true;
	wait->result = result;
}

static int blk_sync_run(struct blk *blk, const struct blk_req *req)
{
	struct blk_sync wait = {.req = *req};

	wait.req.done = blk_sync_done;
	blk_submit(blk, &wait.req);
	while (!wait.done) {
		int ret = uring_wait(blk->ring, UINT64_MAX);

		/* The request is on our stack: nothing but its completion lets us go. */
		CHECK(ret >= 0 || ret == -EAGAIN || ret == -EBUSY || ret == -ENOMEM);
	}
	return wait.result;
}

static int blk_sync_range(struct blk *blk, enum blk_op op, uint64_t offset_bytes,
                          uint64_t len_bytes)
{
	const struct blk_req req = {.op = op, .offset_bytes = offset_bytes, .len_bytes = len_bytes};

	return len_bytes != 0 || op == BLK_FLUSH || op == BLK_RESIZE ? blk_sync_run(blk, &req) : 0;
}

static int blk_sync_transfer(struct blk *blk, enum blk_op op, uint64_t offset_bytes,
                             struct iovec rest)
{
	while (rest.iov_len != 0) {
		size_t len = rest.iov_len < BLK_TRANSFER_MAX ? rest.iov_len : BLK_TRANSFER_MAX;
		const struct iovec iov = {.iov_base = rest.iov_base, .iov_len = len};
		const struct blk_req req = {
			.op = op,
			.offset_bytes = offset_bytes,
			.len_bytes = len,
			.iov = &iov,
			.iov_count = 1,
		};
		int err = blk_sync_run(blk, &req);

		if (err != 0) {
			return err;
		}
		offset_bytes += len;
		rest.iov_base = (char *)rest.iov_base + len;
		rest.iov_len -= len;
	}
	return 0;
}

int blk_sync_read(struct blk *blk, uint64_t offset_bytes, void *buf, size_t len_bytes)
{
	const struct iovec iov = {.iov_base = buf, .iov_len = len_bytes};

	return blk_sync_transfer(blk, BLK_READ, offset_bytes, iov);
}

int blk_sync_write(struct blk *blk, uint64_t offset_bytes, const void *buf, size_t len_bytes)
{
	/* struct iovec has no const; a write only reads. */
	union {
		const void *from;
		void *base;
	} u = {.from = buf};
	const struct iovec iov = {.iov_base = u.base, .iov_len = len_bytes};

	return blk_sync_transfer(blk, BLK_WRITE, offset_bytes, iov);
}

int blk_sync_flush(struct blk *blk)
{
	return blk_sync_range(blk, BLK_FLUSH, 0, 0);
}

int blk_sync_discard(struct blk *blk, uint64_t offset_bytes, uint64_t len_bytes)
{
	return blk_sync_range(blk, BLK_DISCARD, offset_bytes, len_bytes);
}

int blk_sync_zero(struct blk *blk, uint64_t offset_bytes, uint64_t len_bytes)
{
	return blk_sync_range(blk, BLK_ZERO, offset_bytes, len_bytes);
}

int blk_sync_resize(struct blk *blk, uint64_t size_bytes)
{
	return blk_sync_range(blk, BLK_RESIZE, size_bytes, 0);
}
