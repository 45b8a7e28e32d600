/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/uring.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

#define COPY_BYTES VHDX_MIB /* a piece: what reads and writes fast, and still finds zeros */
#define COPY_DEPTH 8u

struct copy;

/* One piece: read, and written if it is not zero. */
struct copy_slot {
	struct copy *c;
	struct blk_req req;
	struct iovec iov;
	uint8_t *buf; /* owned */
	bool busy;
};

struct copy {
	struct blk *from; /* borrowed, as @to */
	struct blk *to;
	uint64_t size;
	uint64_t next; /* to be read */
	uint64_t done;
	uint32_t busy;
	int error;
	struct copy_slot slot[COPY_DEPTH];
};

static void copy_next(struct copy_slot *slot);

static bool copy_is_zero(const uint8_t *buf, size_t len)
{
	return buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

static void copy_end(struct copy_slot *slot, int result)
{
	struct copy *c = slot->c;

	slot->busy = false;
	c->busy--;
	if (result != 0) {
		c->error = c->error != 0 ? c->error : result;
		return;
	}
	c->done += slot->req.len_bytes;
	copy_next(slot);
}

static void copy_written(struct blk_req *req, int result)
{
	copy_end(req->arg, result);
}

static void copy_read(struct blk_req *req, int result)
{
	struct copy_slot *slot = req->arg;

	if (result != 0 || copy_is_zero(slot->buf, slot->iov.iov_len)) {
		copy_end(slot, result);
		return;
	}
	slot->req = (struct blk_req){.op = BLK_WRITE,
	                             .offset_bytes = slot->req.offset_bytes,
	                             .len_bytes = slot->iov.iov_len,
	                             .iov = &slot->iov,
	                             .iov_count = 1,
	                             .done = copy_written,
	                             .arg = slot};
	blk_submit(slot->c->to, &slot->req);
}

static void copy_next(struct copy_slot *slot)
{
	struct copy *c = slot->c;
	uint64_t left = c->size - c->next;

	if (left == 0 || c->error != 0) {
		return;
	}
	slot->busy = true;
	c->busy++;
	slot->iov = (struct iovec){.iov_base = slot->buf,
	                           .iov_len = left < COPY_BYTES ? (size_t)left : COPY_BYTES};
	slot->req = (struct blk_req){.op = BLK_READ,
	                             .offset_bytes = c->next,
	                             .len_bytes = slot->iov.iov_len,
	                             .iov = &slot->iov,
	                             .iov_count = 1,
	                             .done = copy_read,
	                             .arg = slot};
	c->next += slot->iov.iov_len;
	blk_submit(c->from, &slot->req);
}

static void copy_run(struct copy *c, const struct vhdx_progress *progress)
{
	for (uint32_t i = 0; i < COPY_DEPTH; i++) {
		copy_next(&c->slot[i]);
	}
	while (c->busy != 0) {
		int n = uring_wait(c->from->ring, UINT64_MAX);

		CHECK(n >= 0 || n == -EAGAIN || n == -EBUSY || n == -ENOMEM);
		if (c->error == 0) {
			c->error = vhdx_tool_progress(progress, c->done, c->size);
		}
	}
}

int vhdx_tool_copy(struct blk *from, struct blk *to, const struct vhdx_progress *progress,
                   struct errbuf *eb)
{
	struct copy c = {.from = from, .to = to};
	struct blk_info a;
	struct blk_info b;
	int err = 0;

	CHECK(from->ring == to->ring);
	blk_get_info(from, &a);
	blk_get_info(to, &b);
	c.size = a.size_bytes < b.size_bytes ? a.size_bytes : b.size_bytes;
	for (uint32_t i = 0; i < COPY_DEPTH; i++) {
		c.slot[i].c = &c;
		c.slot[i].buf = gw_malloc(COPY_BYTES);
		err = c.slot[i].buf == NULL ? -ENOMEM : err;
	}
	if (err == 0) {
		copy_run(&c, progress);
		err = c.error;
	}
	for (uint32_t i = 0; i < COPY_DEPTH; i++) {
		free(c.slot[i].buf);
	}
	return err != 0 ? errbuf_sys(eb, err, "copy") : 0;
}
