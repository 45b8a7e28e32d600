/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blk.h"

#include <errno.h>

#include "base/check.h"

/* What blk_req.priv holds while a result waits to be told. */
struct blk_later {
	struct blk_req *next;
	int result;
} MAY_ALIAS;

static struct blk_later *blk_later(struct blk_req *req)
{
	return (struct blk_later *)req->priv;
}

void blk_init(struct blk *blk, const struct blk_ops *ops, struct uring *ring)
{
	CHECK(ops->name != NULL && ops->submit != NULL && ops->info != NULL && ops->close != NULL);
	CHECK(ring != NULL);
	*blk = (struct blk){.ops = ops, .ring = ring};
}

static int blk_check_iov(const struct blk_req *req)
{
	uint64_t left = req->len_bytes;

	if (left > BLK_TRANSFER_MAX || req->iov_count == 0 || req->iov_count > BLK_IOV_MAX) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < req->iov_count; i++) {
		if (req->iov[i].iov_len > left) {
			return -EINVAL;
		}
		left -= req->iov[i].iov_len;
	}
	return left == 0 ? 0 : -EINVAL;
}

static int blk_check_range(const struct blk_req *req, const struct blk_info *info)
{
	uint64_t unit = info->logical_bytes - 1;

	if (((req->offset_bytes | req->len_bytes) & unit) != 0 || req->len_bytes == 0) {
		return -EINVAL;
	}
	if (req->offset_bytes > info->size_bytes ||
	    req->len_bytes > info->size_bytes - req->offset_bytes) {
		return -EINVAL;
	}
	return 0;
}

static int blk_check_resize(const struct blk_req *req, const struct blk_info *info)
{
	if (!info->can_resize) {
		return -ENOTSUP;
	}
	/* Offsets of files are signed. */
	if (req->len_bytes != 0 || req->offset_bytes > INT64_MAX ||
	    (req->offset_bytes & (info->logical_bytes - 1)) != 0) {
		return -EINVAL;
	}
	return 0;
}

static int blk_check(const struct blk_req *req, const struct blk_info *info)
{
	if ((req->flags & ~BLK_FUA) != 0) {
		return -EINVAL;
	}
	if (info->read_only && req->op != BLK_READ && req->op != BLK_FLUSH) {
		return -EROFS;
	}
	switch (req->op) {
	case BLK_WRITE:
	case BLK_READ:
		if (req->op == BLK_READ && req->flags != 0) {
			return -EINVAL;
		}
		return blk_check_range(req, info) != 0 ? -EINVAL : blk_check_iov(req);
	case BLK_FLUSH:
		return (req->offset_bytes | req->len_bytes | req->flags) != 0 ? -EINVAL : 0;
	case BLK_DISCARD:
		return req->flags != 0 ? -EINVAL : blk_check_range(req, info);
	case BLK_ZERO:
		return blk_check_range(req, info);
	case BLK_RESIZE:
		return blk_check_resize(req, info);
	case BLK_OP_COUNT:
		break;
	}
	return -EINVAL;
}

void blk_submit(struct blk *blk, struct blk_req *req)
{
	struct blk_info info;

	blk->ops->info(blk, &info);
	blk->in_flight++;

	int err = blk_check(req, &info);

	if (err != 0) {
		blk_complete_later(blk, req, err);
		return;
	}
	blk->ops->submit(blk, req);
}

void blk_complete(struct blk *blk, struct blk_req *req, int result)
{
	CHECK(blk->in_flight > 0);
	CHECK(result <= 0);
	blk->in_flight--;
	req->done(req, result); /* may submit again, or close blk */
}

static void blk_run_later(struct uring_op *op, int32_t res, bool more)
{
	struct blk *blk = op->arg;
	struct blk_req *req = blk->later_head;

	(void)res;
	(void)more;
	/* What is added from here on waits for the next dispatch. The last call may close blk. */
	blk->later_head = NULL;
	while (req != NULL) {
		struct blk_req *next = blk_later(req)->next;
		int result = blk_later(req)->result;

		blk_complete(blk, req, result);
		req = next;
	}
}

void blk_complete_later(struct blk *blk, struct blk_req *req, int result)
{
	*blk_later(req) = (struct blk_later){.result = result};
	if (blk->later_head != NULL) {
		blk_later(blk->later_tail)->next = req;
	} else {
		blk->later_head = req;
		blk->later_op.fn = blk_run_later;
		blk->later_op.arg = blk;
		uring_defer(blk->ring, &blk->later_op, 0);
	}
	blk->later_tail = req;
}

void blk_get_info(const struct blk *blk, struct blk_info *out)
{
	blk->ops->info(blk, out);
}

int blk_close(struct blk *blk, struct errbuf *eb)
{
	if (blk == NULL) {
		return 0;
	}
	CHECK(blk->in_flight == 0);
	return blk->ops->close(blk, eb);
}
