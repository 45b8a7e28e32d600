/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vhdx/vhdx_int.h"

/* ---- the memory of a request ---- */

static bool io_has_memory(const struct blk_req *req)
{
	return req->op == BLK_READ || req->op == BLK_WRITE;
}

/* Move io->iov_* on by @len bytes. */
static void io_skip(const struct blk_req *req, struct vhdx_io *io, uint64_t len)
{
	while (len > 0) {
		size_t left = req->iov[io->iov_index].iov_len - io->iov_offset;

		if (len < left) {
			io->iov_offset += (size_t)len;
			return;
		}
		len -= left;
		io->iov_index++;
		io->iov_offset = 0;
	}
}

/* @len zero bytes into the memory at io->pos. */
static void io_fill(const struct blk_req *req, const struct vhdx_io *io, uint64_t len)
{
	uint32_t index = io->iov_index;
	size_t offset = io->iov_offset;

	while (len > 0) {
		const struct iovec *iov = &req->iov[index++];
		size_t part = iov->iov_len - offset;

		part = len < part ? (size_t)len : part;
		memset((uint8_t *)iov->iov_base + offset, 0, part);
		len -= part;
		offset = 0;
	}
}

/* The @len bytes at io->pos as an iov of their own; @out == NULL: only count. */
static uint32_t io_slice(const struct blk_req *req, const struct vhdx_io *io, uint64_t len,
                         struct iovec *out)
{
	uint32_t index = io->iov_index;
	size_t offset = io->iov_offset;
	uint32_t n = 0;

	while (len > 0) {
		const struct iovec *iov = &req->iov[index++];
		size_t part = iov->iov_len - offset;

		part = len < part ? (size_t)len : part;
		if (part != 0) {
			if (out != NULL) {
				out[n] = (struct iovec){.iov_base =
				                                (uint8_t *)iov->iov_base + offset,
				                        .iov_len = part};
			}
			n++;
		}
		len -= part;
		offset = 0;
	}
	return n;
}

/* ---- fragments ---- */

static void io_iovs_put(struct vhdx *v, struct vhdx_frag *frag)
{
	if (frag->iovs != NULL) {
		v->iovs_busy &= ~(1u << (uint32_t)((frag->iovs - v->iovs) / BLK_IOV_MAX));
		frag->iovs = NULL;
	}
}

/* Give the fragment's request its part of the memory. False: none of the long iovs is free. */
static bool io_frag_memory(struct vhdx *v, struct vhdx_frag *frag, const struct blk_req *req,
                           const struct vhdx_io *io, uint64_t len)
{
	if (len == req->len_bytes) {
		frag->req.iov = req->iov; /* the usual case: all in one piece */
		frag->req.iov_count = req->iov_count;
		return true;
	}

	uint32_t n = io_slice(req, io, len, NULL);
	struct iovec *out = frag->iov;

	if (n > VHDX_FRAG_IOV) {
		uint32_t free_iovs = ~v->iovs_busy & ((1u << VHDX_IOVS_MAX) - 1);

		if (free_iovs == 0) {
			return false;
		}

		uint32_t which = (uint32_t)__builtin_ctz(free_iovs);

		v->iovs_busy |= 1u << which;
		frag->iovs = out = &v->iovs[(size_t)which * BLK_IOV_MAX];
	}
	frag->req.iov = out;
	frag->req.iov_count = io_slice(req, io, len, out);
	return true;
}

/* The data of a partial block is in place: now its bits, unless the block has gone meanwhile. */
static void io_frag_bits(struct vhdx *v, struct vhdx_frag *frag, int result)
{
	uint64_t index = vhdx_bat_index(&v->geo, frag->block);
	uint64_t within = (frag->pos & (v->geo.block_bytes - 1));
	bool set = result == 0 &&
	           v->bat[index] == vhdx_bat_make(VHDX_PARTIAL, frag->req.offset_bytes - within);

	if (set) {
		vhdx_bits_set(frag->page->data, frag->bit, frag->bits, true);
	}
	vhdx_page_unpin(v, frag->page, set);
	frag->page = NULL;
	if (set) {
		vhdx_change_complete(v, frag->block);
	}
}

static void io_finish(struct vhdx *v, struct blk_req *req, bool from_completion)
{
	struct vhdx_io *io = vhdx_io_of(req);

	if (io->error == 0 && io->need_fua) {
		io->need_fua = false;
		vhdx_commit_flush(v, req);
	} else if (from_completion) {
		blk_complete(&v->blk, req, io->error);
	} else {
		blk_complete_later(&v->blk, req, io->error);
	}
}

static void io_frag_done(struct blk_req *lower, int result)
{
	struct vhdx_frag *frag = lower->arg;
	struct vhdx *v = frag->v;
	struct blk_req *req = frag->owner;
	struct vhdx_io *io = vhdx_io_of(req);

	if (frag->page != NULL) {
		io_frag_bits(v, frag, result);
	}
	io_iovs_put(v, frag);
	list_del(&frag->link);
	list_add_head(&v->frags_free, &frag->link);
	io->frags--;
	if (result != 0 && io->error == 0) {
		io->error = result;
	}
	if (v->leaving_committed) {
		vhdx_reclaim(v);
	}
	if (v->stalled_count != 0) {
		vhdx_wake(v, VHDX_WAIT_POOL | VHDX_WAIT_PAGE);
	}
	if (io->frags == 0 && io->issued) {
		io_finish(v, req, true); /* last: the owner may close the disk */
	}
}

struct vhdx_frag *vhdx_frag_start(struct vhdx *v, struct blk_req *req, struct blk *lower,
                                  uint64_t offset, uint64_t len)
{
	struct vhdx_io *io = vhdx_io_of(req);
	struct list *link = list_first(&v->frags_free);

	if (link == NULL) {
		return NULL;
	}

	struct vhdx_frag *frag = list_entry(link, struct vhdx_frag, link);

	frag->req = (struct blk_req){.op = req->op,
	                             .offset_bytes = offset,
	                             .len_bytes = len,
	                             .done = io_frag_done,
	                             .arg = frag};
	if (io_has_memory(req) && !io_frag_memory(v, frag, req, io, len)) {
		return NULL;
	}
	list_del(link);
	list_add_tail(&v->frags_busy, link);
	frag->owner = req;
	frag->pos = req->offset_bytes + io->pos;
	frag->seq = v->frag_seq++;
	frag->page = NULL;
	io->frags++;
	blk_submit(lower, &frag->req);
	return frag;
}

/* ---- requests ---- */

int vhdx_stall(struct blk_req *req, uint32_t reason, uint64_t key)
{
	struct vhdx_io *io = vhdx_io_of(req);

	io->wait = reason;
	io->key = key;
	return -EAGAIN;
}

static int64_t io_step_read(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len)
{
	struct vhdx_io *io = vhdx_io_of(req);
	struct vhdx_run run;
	int err = vhdx_map(v, pos, len, &run);

	if (err == -EAGAIN) {
		return vhdx_stall(req, VHDX_WAIT_PAGE, 0);
	}
	if (err != 0) {
		return err;
	}
	if (run.where == VHDX_AT_PARENT) {
		if (run.offset >= v->parent_bytes) { /* the child may be longer */
			run.where = VHDX_AT_NOTHING;
		} else if (run.len > v->parent_bytes - run.offset) {
			run.len = v->parent_bytes - run.offset;
		}
	}
	if (run.where == VHDX_AT_NOTHING) {
		io_fill(req, io, run.len);
	} else if (vhdx_frag_start(v, req, run.where == VHDX_AT_FILE ? v->file : v->parent,
	                           run.offset, run.len) == NULL) {
		return vhdx_stall(req, VHDX_WAIT_POOL, 0);
	}
	return (int64_t)run.len;
}

static int64_t io_step(struct vhdx *v, struct blk_req *req)
{
	struct vhdx_io *io = vhdx_io_of(req);
	uint64_t pos = req->offset_bytes + io->pos;
	uint64_t len = req->len_bytes - io->pos;

	switch (req->op) {
	case BLK_READ:
		return io_step_read(v, req, pos, len);
	case BLK_WRITE:
		return vhdx_step_write(v, req, pos, len);
	case BLK_ZERO:
		return vhdx_step_zero(v, req, pos, len);
	case BLK_DISCARD:
		return vhdx_step_discard(v, req, pos, len);
	case BLK_FLUSH:
	case BLK_RESIZE:
	case BLK_OP_COUNT:
		break;
	}
	return -ENOTSUP;
}

/* Start as much of @req as can be started; end it if that was all and nothing is under way. */
static void io_run(struct vhdx *v, struct blk_req *req)
{
	struct vhdx_io *io = vhdx_io_of(req);

	while (io->pos < req->len_bytes && io->error == 0) {
		int64_t n = io_step(v, req);

		if (n == -EAGAIN) {
			list_add_tail(&v->stalled, &io->link);
			v->stalled_count++;
			return;
		}
		if (n < 0) {
			io->error = (int)n;
			break;
		}
		if (io_has_memory(req)) {
			io_skip(req, io, (uint64_t)n);
		}
		io->pos += (uint64_t)n;
	}
	io->issued = true;
	if (io->frags == 0) {
		io_finish(v, req, false);
	}
}

void vhdx_wake(struct vhdx *v, uint32_t reasons)
{
	struct list ready;

	if (v->stalled_count == 0) {
		return;
	}
	list_init(&ready);
	list_for_each_safe(link, &v->stalled)
	{
		struct vhdx_io *io = list_entry(link, struct vhdx_io, link);

		if ((io->wait & reasons) != 0) {
			list_del(link);
			list_add_tail(&ready, link);
			v->stalled_count--;
		}
	}
	for (struct list *link = list_pop(&ready); link != NULL; link = list_pop(&ready)) {
		io_run(v, list_entry(link, struct vhdx_io, link)->req);
	}
}

void vhdx_wake_failed(struct vhdx *v, uint32_t reason, uint64_t key, int err)
{
	list_for_each(link, &v->stalled)
	{
		struct vhdx_io *io = list_entry(link, struct vhdx_io, link);

		if ((io->wait & reason) != 0 && (key == UINT64_MAX || io->key == key) &&
		    io->error == 0) {
			io->error = err;
		}
	}
	vhdx_wake(v, reason);
}

void vhdx_submit(struct blk *blk, struct blk_req *req)
{
	struct vhdx *v = container_of(blk, struct vhdx, blk);
	struct vhdx_io *io = vhdx_io_of(req);

	*io = (struct vhdx_io){.req = req};
	list_init(&io->link);
	if (req->op == BLK_READ) {
		io_run(v, req);
		return;
	}
	if (req->op == BLK_FLUSH && v->read_only) {
		blk_complete_later(blk, req, 0);
		return;
	}
	if (req->op == BLK_FLUSH) {
		vhdx_commit_flush(v, req);
		return;
	}
	if (req->op == BLK_RESIZE || v->read_only || v->failed != 0) {
		blk_complete_later(blk, req,
		                   req->op == BLK_RESIZE ? -ENOTSUP
		                   : v->read_only        ? -EROFS
		                                         : v->failed);
		return;
	}
	io->need_fua = (req->flags & BLK_FUA) != 0;
	if (!v->active) {
		v->commit.want_activate = true;
		(void)vhdx_stall(req, VHDX_WAIT_ACTIVATE, 0);
		list_add_tail(&v->stalled, &io->link);
		v->stalled_count++;
		vhdx_commit_kick(v);
		return;
	}
	io_run(v, req);
}
