/* SPDX-License-Identifier: Apache-2.0 */

/*
 * raw_io - the requests. Each is one operation of the ring at a time: raw_next() starts the next
 * one of a request, raw_io_done() looks at what came of it. A request that cannot start (no room
 * in the ring, no bounce buffer) is in a list until it can.
 *
 * What the storage refuses (holes, ranges of zeroes) is remembered and not tried again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/raw/raw_direct.h"
#include "hv/raw/raw_int.h"

static struct raw_req *raw_req(struct blk_req *req)
{
	return (struct raw_req *)req->priv;
}

/* What base/blk.h calls it. */
static int raw_result(int32_t res)
{
	switch (-res) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return -ENOSPC;
	case EBADE: /* reservation conflict: another node took the device over */
		return -ESTALE;
	case EROFS:
		return -EROFS;
	case ECANCELED:
		return -ECANCELED;
	default:
		return res >= 0 ? 0 : -EIO;
	}
}

static void raw_next(struct raw *raw, struct raw_req *r);

/* ---- the caller's vector ---- */

const struct iovec *raw_piece(const struct blk_req *req, uint64_t done_bytes, struct iovec *part,
                              uint32_t *count, uint64_t *bytes)
{
	uint32_t i = 0;
	uint64_t skip = done_bytes;

	while (skip >= req->iov[i].iov_len) {
		skip -= req->iov[i].iov_len;
		i++;
		CHECK(i < req->iov_count); /* done_bytes < len_bytes, the sum */
	}
	if (skip != 0) {
		*part = req->iov[i];
		part->iov_base = (char *)part->iov_base + skip;
		part->iov_len -= skip;
		*count = 1;
		*bytes = part->iov_len;
		return part;
	}
	*count = req->iov_count - i;
	*bytes = req->len_bytes - done_bytes;
	return &req->iov[i];
}

/* Copy @len bytes between @buf and the caller's memory from @done_bytes on. */
static void raw_copy(const struct raw_req *r, uint32_t len, bool to_caller)
{
	const struct iovec *v = r->req->iov;
	uint64_t skip = r->done_bytes;
	uint8_t *buf = r->bounce;

	while (skip >= v->iov_len) {
		skip -= v->iov_len;
		v++;
	}
	while (len != 0) {
		uint64_t left = v->iov_len - skip;
		uint32_t n = left < len ? (uint32_t)left : len;
		uint8_t *at = (uint8_t *)v->iov_base + skip;

		if (n != 0) {
			memcpy(to_caller ? at : buf, to_caller ? buf : at, n);
		}
		buf += n;
		len -= n;
		skip = 0;
		v++;
	}
}

/* May the kernel transfer from and to the caller's memory without the page cache? */
static bool raw_fits(const struct raw *raw, const struct blk_req *req)
{
	uint64_t bad = 0;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		bad |= (uintptr_t)req->iov[i].iov_base & (raw->limits.mem_align - 1);
		bad |= req->iov[i].iov_len & (raw->limits.dio_align - 1);
	}
	return bad == 0;
}

/* ---- start ---- */

void raw_kick(struct raw *raw)
{
	if (!raw->kicked) {
		raw->kicked = true;
		uring_defer(raw->blk.ring, &raw->kick, 0);
	}
}

void raw_kicked(struct uring_op *op, int32_t res, bool more)
{
	struct raw *raw = op->arg;
	struct list ready;

	(void)res;
	(void)more;
	raw->kicked = false;
	list_init(&ready);
	list_splice_tail(&ready, &raw->stalled);
	/* No request completes in here, so raw stays. */
	for (struct list *link = list_pop(&ready); link != NULL; link = list_pop(&ready)) {
		raw_next(raw, list_entry(link, struct raw_req, link));
	}
}

static int raw_prep_direct(struct raw *raw, struct raw_req *r)
{
	const struct blk_req *req = r->req;
	struct uring *ring = raw->blk.ring;
	uint64_t at = req->offset_bytes + r->done_bytes;
	uint64_t bytes;
	uint32_t count;
	const struct iovec *iov = raw_piece(req, r->done_bytes, &r->part, &count, &bytes);

	r->ask_bytes = (uint32_t)bytes; /* <= BLK_TRANSFER_MAX */
	if (req->op == BLK_READ) {
		return uring_prep_readv(ring, &r->op, raw->fd, iov, count, at);
	}
	if ((req->flags & BLK_FUA) != 0) {
		return uring_prep_writev_dsync(ring, &r->op, raw->fd, iov, count, at);
	}
	return uring_prep_writev(ring, &r->op, raw->fd, iov, count, at);
}

static int raw_prep_bounce(struct raw *raw, struct raw_req *r)
{
	const struct blk_req *req = r->req;
	struct uring *ring = raw->blk.ring;
	uint64_t left = req->len_bytes - r->done_bytes;
	uint64_t at = req->offset_bytes + r->done_bytes;

	r->ask_bytes = left < RAW_BOUNCE_BYTES ? (uint32_t)left : RAW_BOUNCE_BYTES;
	if (req->op == BLK_READ) {
		return uring_prep_read(ring, &r->op, raw->fd, r->bounce, r->ask_bytes, at);
	}
	raw_copy(r, r->ask_bytes, false);
	if ((req->flags & BLK_FUA) != 0) {
		r->part = (struct iovec){.iov_base = r->bounce, .iov_len = r->ask_bytes};
		return uring_prep_writev_dsync(ring, &r->op, raw->fd, &r->part, 1, at);
	}
	return uring_prep_write(ring, &r->op, raw->fd, r->bounce, r->ask_bytes, at);
}

static int raw_prep_range(struct raw *raw, struct raw_req *r)
{
	const struct blk_req *req = r->req;
	int mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;

	r->tried = (uint8_t)raw->zero;
	if (req->op == BLK_ZERO && raw->zero == RAW_ZERO_RANGE) {
		mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE;
	}
	return uring_prep_fallocate(raw->blk.ring, &r->op, raw->fd, mode, req->offset_bytes,
	                            req->len_bytes);
}

static int raw_prep_fill(struct raw *raw, struct raw_req *r)
{
	uint64_t left = r->req->len_bytes - r->done_bytes;
	uint64_t at = r->req->offset_bytes + r->done_bytes;
	uint32_t count = left / RAW_ZERO_BYTES < RAW_ZERO_IOVS ? (uint32_t)(left / RAW_ZERO_BYTES)
	                                                       : RAW_ZERO_IOVS;

	if (count == 0) {
		r->ask_bytes = (uint32_t)left;
		return uring_prep_write(raw->blk.ring, &r->op, raw->fd, raw->zero_iov[0].iov_base,
		                        r->ask_bytes, at);
	}
	r->ask_bytes = count * RAW_ZERO_BYTES;
	return uring_prep_writev(raw->blk.ring, &r->op, raw->fd, raw->zero_iov, count, at);
}

/* Returns false if it has to wait for one. */
static bool raw_take_bounce(struct raw *raw, struct raw_req *r)
{
	if (r->bounce != NULL) {
		return true;
	}
	if (raw->bounce_free_count == 0) {
		raw->stats.waited++;
		list_add_tail(&raw->bounce_waiting, &r->link);
		return false;
	}
	r->bounce = raw->bounce_free[--raw->bounce_free_count];
	return true;
}

static void raw_give_bounce(struct raw *raw, struct raw_req *r)
{
	if (r->bounce == NULL) {
		return;
	}
	raw->bounce_free[raw->bounce_free_count++] = r->bounce;
	r->bounce = NULL;

	struct list *waiting = list_pop(&raw->bounce_waiting);

	if (waiting != NULL) {
		raw_next(raw, list_entry(waiting, struct raw_req, link));
	}
}

static bool raw_changes(const struct blk_req *req)
{
	return req->op != BLK_READ && req->op != BLK_FLUSH;
}

/* On a shared volume: directly if possible. Returns 1 it is on its way, or waits for its turn; 0 it
 * goes by the file; -EAGAIN no room in the ring. */
static int raw_next_direct(struct raw *raw, struct raw_req *r)
{
	int ret = r->phase == RAW_DIRECT ? raw_direct_start(raw, r) : 0;

	if (ret == 0 && r->phase == RAW_RESIZE) {
		ret = raw_direct_drain(raw, r) ? 0 : 1;
	} else if (ret == 0 && r->phase != RAW_SYNC && raw_changes(r->req)) {
		ret = raw_direct_enter(raw, r) ? 0 : 1;
	}
	raw->file_seq += ret == 0 && raw_changes(r->req) ? 1 : 0;
	return ret;
}

static int raw_prep_sync(struct raw *raw, struct raw_req *r)
{
	int ret = raw->direct != NULL ? raw_direct_sync(raw, r) : 0;

	r->began_ns = raw->file_seq;
	if (ret != 0) {
		return ret > 0 ? 0 : ret;
	}
	return uring_prep_fsync(raw->blk.ring, &r->op, raw->fd, true);
}

static void raw_stall(struct raw *raw, struct raw_req *r)
{
	list_add_tail(&raw->stalled, &r->link);
	raw_kick(raw);
}

/* Start the next operation of @r. Never completes a request from here. */
static void raw_next(struct raw *raw, struct raw_req *r)
{
	int err = raw->direct != NULL ? raw_next_direct(raw, r) : 0;

	if (err != 0) {
		if (err < 0) {
			raw_stall(raw, r);
		}
		return;
	}
	switch ((enum raw_phase)r->phase) {
	case RAW_DIRECT:
		err = raw_prep_direct(raw, r);
		break;
	case RAW_BOUNCE:
		if (!raw_take_bounce(raw, r)) {
			return;
		}
		err = raw_prep_bounce(raw, r);
		break;
	case RAW_RANGE:
		err = raw_prep_range(raw, r);
		break;
	case RAW_STEP:
	case RAW_RESIZE:
		uring_defer(raw->blk.ring, &r->op, 0);
		return;
	case RAW_FILL:
		err = raw_prep_fill(raw, r);
		break;
	case RAW_SYNC:
		err = raw_prep_sync(raw, r);
		break;
	}
	if (err != 0) { /* the ring is full; whatever else it is, trying again costs little */
		raw_stall(raw, r);
	} else if (raw->direct != NULL) {
		/* The kernel may wait inside for another request of the file, whose service waits
		 * for a word of this thread. */
		CHECK(uring_apart(raw->blk.ring));
	}
}

/* ---- done ---- */

static void raw_finish(struct raw *raw, struct raw_req *r, int result)
{
	raw_give_bounce(raw, r);
	raw->room.begun[r->age]--;
	raw_room_end(raw, r);
	if (raw->direct != NULL) {
		raw_direct_leave(raw, r);
		if (result == 0 && (r->phase == RAW_DIRECT || r->phase == RAW_BOUNCE)) {
			raw_direct_want(raw, r);
		}
	}
	blk_complete(&raw->blk, r->req, result); /* may close raw */
}

/* What the kernel says, < 0. */
static void raw_fail(struct raw *raw, struct raw_req *r, int32_t res)
{
	raw_give_bounce(raw, r);
	if (!raw_room_want(raw, r, res)) {
		raw_finish(raw, r, raw_result(res));
	}
}

/* All of it is written; @r asked for more than that? */
static void raw_finish_durable(struct raw *raw, struct raw_req *r)
{
	if ((r->req->flags & BLK_FUA) != 0) {
		r->phase = RAW_SYNC;
		raw_next(raw, r);
		return;
	}
	raw_finish(raw, r, 0);
}

static void raw_transfer_done(struct raw *raw, struct raw_req *r, int32_t res)
{
	uint32_t got = (uint32_t)res;

	if (res == -EINVAL && r->phase == RAW_DIRECT && raw->limits.direct) {
		/* Stricter than it said: aligned to pages it will do. */
		r->phase = RAW_BOUNCE;
		raw->stats.bounced++;
		raw_next(raw, r);
		return;
	}
	if (res <= 0) { /* 0: the file has become shorter than we were told */
		raw_fail(raw, r, res == 0 ? -EIO : res);
		return;
	}
	if (r->phase == RAW_BOUNCE && r->req->op == BLK_READ) {
		raw_copy(r, got, true);
	}
	if (got < r->ask_bytes) {
		raw->stats.continued++;
		got -= got % raw->limits.dio_align; /* the torn sector again */
		if (got == 0) {
			raw_finish(raw, r, -EIO);
			return;
		}
	}
	r->done_bytes += got;
	if (r->done_bytes < r->req->len_bytes) {
		raw_next(raw, r);
	} else if (r->phase == RAW_FILL) {
		raw_finish_durable(raw, r);
	} else {
		raw_finish(raw, r, 0);
	}
}

static void raw_zero_done(struct raw *raw, struct raw_req *r, int32_t res)
{
	if (res == 0) {
		raw_finish_durable(raw, r);
		return;
	}
	if (res == -EOPNOTSUPP || res == -ENODEV || res == -ENOSYS) {
		bool punch = r->tried == RAW_ZERO_RANGE && !raw->keep_allocated;

		if (r->tried >= raw->zero) {
			raw->zero = punch ? RAW_ZERO_PUNCH : RAW_ZERO_WRITE;
		}
		r->phase = raw->zero == RAW_ZERO_WRITE ? RAW_FILL : RAW_RANGE;
		raw_next(raw, r);
		return;
	}
	if (res == -EINVAL) { /* this range; others may do */
		r->phase = RAW_FILL;
		raw_next(raw, r);
		return;
	}
	raw_fail(raw, r, res);
}

static bool raw_cannot_discard(int32_t res)
{
	return res == -EOPNOTSUPP || res == -ENODEV || res == -ENOSYS || res == -ENOTTY;
}

static void raw_discard_done(struct raw *raw, struct raw_req *r, int32_t res)
{
	if (raw_cannot_discard(res)) {
		/* A device that can forget sectors but not zero them knows only the ioctl. */
		if (raw->limits.device && r->phase == RAW_RANGE) {
			raw->discard = RAW_DISCARD_IOCTL;
			r->phase = RAW_STEP;
			raw_next(raw, r);
			return;
		}
		raw->discard = RAW_DISCARD_NONE;
		raw->limits.discard_bytes = 0;
	}
	/* A hint: what cannot be done need not be, also for lack of room to note it. */
	raw_finish(raw, r,
	           raw_cannot_discard(res) || res == -EINVAL || res == -ENOSPC || res == -EDQUOT
	                   ? 0
	                   : raw_result(res));
}

/* Before this thread waits: what is prepared by any device of the ring begins, since who looked at
 * the time (raw_direct) must not submit after that. Returns false if it cannot now: once more from
 * the next dispatch. */
static bool raw_may_wait(struct raw *raw, struct raw_req *r)
{
	if (uring_submit(raw->blk.ring) < 0) {
		uring_defer(raw->blk.ring, &r->op, 0);
		return false;
	}
	return true;
}

/* One blocking call, short enough for the others on this ring. */
static void raw_discard_step(struct raw *raw, struct raw_req *r)
{
	if (!raw_may_wait(raw, r)) {
		return;
	}

	uint64_t left = r->req->len_bytes - r->done_bytes;
	uint64_t range[2] = {
		r->req->offset_bytes + r->done_bytes,
		left < RAW_DISCARD_STEP ? left : RAW_DISCARD_STEP,
	};
	int res = ioctl(raw->fd, BLKDISCARD, range) == 0 ? 0 : -errno;

	if (res == 0 && range[1] < left) {
		r->done_bytes += range[1];
		raw_next(raw, r);
		return;
	}
	raw_discard_done(raw, r, res);
}

/* Not queued, which newer kernels only can: it is a change of metadata. */
static int raw_resize(struct raw *raw, uint64_t size_bytes)
{
	int err;

	do {
		err = ftruncate(raw->fd, (off_t)size_bytes) == 0 ? 0 : -errno;
	} while (err == -EINTR);
	if (err == 0) {
		raw->limits.size_bytes = size_bytes;
	}
	return err;
}

/* With a direct way: who changes the size there waits for us to give back what we know, and this
 * thread waits for him. */
static void raw_resize_now(struct raw *raw, struct raw_req *r)
{
	int err;

	if (raw->direct != NULL && !raw_direct_drain(raw, r)) {
		return; /* another one has let things begin again */
	}
	if (!raw_may_wait(raw, r)) {
		return;
	}
	if (raw->direct != NULL) {
		raw_direct_release(raw);
	}
	err = raw_resize(raw, r->req->offset_bytes);
	raw->file_seq++;
	if (err != 0) {
		raw_fail(raw, r, err);
	} else {
		raw_finish_durable(raw, r);
	}
}

static void raw_sync_done(struct raw *raw, struct raw_req *r, int32_t res, bool on_device)
{
	if (on_device && res < 0 && res != -EIO) {
		r->by_file = true; /* about the way, not about what was written */
		raw_next(raw, r);
		return;
	}
	if (res >= 0 && !on_device && r->began_ns > raw->synced_seq) {
		raw->synced_seq = r->began_ns;
	}
	if (res < 0) {
		raw_fail(raw, r, res);
	} else {
		raw_finish(raw, r, 0);
	}
}

static void raw_io_done(struct uring_op *op, int32_t res, bool more)
{
	struct raw_req *r = container_of(op, struct raw_req, op);
	struct raw *raw = op->arg;
	bool synced = r->on_device && r->phase == RAW_SYNC;

	(void)more;
	if (synced) {
		r->on_device = false;
		raw_direct_synced(raw);
	} else if (r->on_device) {
		if (res >= 0 && fault_io() != 0) {
			res = -EIO;
		}
		res = raw_direct_done(raw, r, res);
		if (r->by_file) {
			raw_next(raw, r);
		} else {
			raw_transfer_done(raw, r, res);
		}
		return;
	}
	raw->file_seq += raw_changes(r->req) ? 1 : 0;
	if ((res == -EINTR || res == -EAGAIN) && r->retries < RAW_RETRY_MAX) {
		r->retries++;
		list_add_tail(&raw->stalled, &r->link);
		raw_kick(raw);
		return;
	}
	r->retries = 0;
	if (res >= 0 && r->phase != RAW_RESIZE && fault_io() != 0) { /* that one begins only now */
		res = -EIO;
	}
	switch ((enum raw_phase)r->phase) {
	case RAW_DIRECT:
	case RAW_BOUNCE:
	case RAW_FILL:
		raw_transfer_done(raw, r, res);
		return;
	case RAW_RANGE:
		if (r->req->op == BLK_ZERO) {
			raw_zero_done(raw, r, res);
		} else {
			raw_discard_done(raw, r, res);
		}
		return;
	case RAW_STEP:
		raw_discard_step(raw, r);
		return;
	case RAW_RESIZE:
		raw_resize_now(raw, r);
		return;
	case RAW_SYNC:
		raw_sync_done(raw, r, res, synced);
		return;
	}
}

/* ---- submit ---- */

/* Returns true if there is something to start; false with the @result: what the kernel says. */
static bool raw_plan(struct raw *raw, struct raw_req *r, int *result)
{
	*result = 0;
	switch (r->req->op) {
	case BLK_READ:
	case BLK_WRITE:
		r->phase = RAW_DIRECT;
		if (!raw_fits(raw, r->req)) {
			r->phase = RAW_BOUNCE;
			raw->stats.bounced++;
		}
		return true;
	case BLK_FLUSH:
		r->phase = RAW_SYNC;
		return true;
	case BLK_DISCARD:
		r->phase = raw->discard == RAW_DISCARD_IOCTL ? RAW_STEP : RAW_RANGE;
		return raw->discard != RAW_DISCARD_NONE;
	case BLK_ZERO:
		r->phase = raw->zero == RAW_ZERO_WRITE ? RAW_FILL : RAW_RANGE;
		return true;
	case BLK_RESIZE:
		r->phase = RAW_RESIZE;
		return true;
	case BLK_OP_COUNT:
		break;
	}
	*result = -EINVAL;
	return false;
}

void raw_again(struct raw *raw, struct raw_req *r)
{
	int result;

	r->age = raw->room.age;
	raw->room.begun[r->age]++;
	if (r->req->op != BLK_WRITE) {
		r->done_bytes = 0;
	}
	if (raw_plan(raw, r, &result)) {
		raw_next(raw, r);
	} else if (!raw_room_want(raw, r, result)) {
		raw->room.begun[r->age]--;
		if (raw->room.trial == r) {
			raw->room.trial = NULL; /* raw_look() finds another one */
		}
		if (raw->direct != NULL) {
			raw_direct_leave(raw, r);
		}
		blk_complete_later(&raw->blk, r->req, raw_result(result));
	}
}

void raw_submit(struct blk *blk, struct blk_req *req)
{
	struct raw *raw = container_of(blk, struct raw, blk);
	struct raw_req *r = raw_req(req);

	*r = (struct raw_req){
		.op = {.fn = raw_io_done, .arg = raw},
		.req = req,
	};
	list_init(&r->link);
	list_init(&r->track);
	if (raw->released) {
		blk_complete_later(blk, req, -ESTALE);
	} else {
		raw_again(raw, r);
	}
}
