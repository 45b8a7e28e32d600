/* SPDX-License-Identifier: Apache-2.0 */

/*
 * io - the requests. Each is one transfer at a time: data_go() looks at what lies at the next byte
 * and starts what it takes, a completion calls it again. A request is in the kernel's hands, in the
 * provider's, or in exactly one list.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "csv/data/data_int.h"

static struct data_req *data_req(struct blk_req *req)
{
	return (struct data_req *)req->priv;
}

/* ---- the caller's memory ---- */

static bool data_fits(const struct csv_data *d, const struct blk_req *req)
{
	uint64_t bad = 0;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		bad |= (uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len;
	}
	return (bad & (d->mem_align - 1)) == 0;
}

/* Elements for at most @limit bytes from done_bytes on: whole ones, or a part of one. */
static const struct iovec *data_piece(struct data_req *r, uint64_t limit, uint32_t *count,
                                      uint64_t *bytes)
{
	const struct iovec *v = r->req->iov;
	uint64_t skip = r->done_bytes;
	uint64_t sum = 0;
	uint32_t n = 0;

	while (skip >= v->iov_len) {
		skip -= v->iov_len;
		v++;
	}
	if (skip != 0 || v->iov_len > limit) {
		r->part = *v;
		r->part.iov_base = (char *)v->iov_base + skip;
		r->part.iov_len -= skip;
		if (r->part.iov_len > limit) {
			r->part.iov_len = limit;
		}
		*count = 1;
		*bytes = r->part.iov_len;
		return &r->part;
	}
	while (sum < limit && v[n].iov_len <= limit - sum) {
		sum += v[n].iov_len;
		n++;
	}
	*count = n;
	*bytes = sum;
	return v;
}

enum data_way { TO_BOUNCE, FROM_BOUNCE, CLEAR };

/* Between the bounce buffer and @len bytes of the caller's memory from done_bytes on. */
static void data_copy(const struct data_req *r, uint64_t len, enum data_way way)
{
	const struct iovec *v = r->req->iov;
	uint64_t skip = r->done_bytes;
	uint8_t *buf = r->bounce;

	while (skip >= v->iov_len) {
		skip -= v->iov_len;
		v++;
	}
	while (len != 0) {
		uint64_t n = v->iov_len - skip < len ? v->iov_len - skip : len;
		uint8_t *at = (uint8_t *)v->iov_base + skip;

		if (n != 0 && way == CLEAR) {
			memset(at, 0, n);
		} else if (n != 0) {
			memcpy(way == TO_BOUNCE ? buf : at, way == TO_BOUNCE ? at : buf, n);
			buf += n;
		}
		len -= n;
		skip = 0;
		v++;
	}
}

/* ---- lists ---- */

void data_kick(struct csv_data *d)
{
	if (!d->kicked) {
		d->kicked = true;
		uring_defer(d->blk.ring, &d->kick, 0);
	}
}

void data_poke_recall(struct csv_data *d)
{
	if (d->recall) {
		data_kick(d);
	}
}

void data_kicked(struct uring_op *op, int32_t res, bool more)
{
	struct csv_data *d = op->arg;

	(void)res;
	(void)more;
	d->kicked = false;
	data_go_all(d, &d->again);
	if (!d->round && (d->want_round || !list_empty(&d->round_next))) {
		data_round_start(d);
	}
	data_recall_step(d);
}

/* No request completes in here but through blk_complete_later(), so @d stays. */
void data_go_all(struct csv_data *d, struct list *from)
{
	struct list ready;

	list_init(&ready);
	list_splice_tail(&ready, from);
	for (struct list *link = list_pop(&ready); link != NULL; link = list_pop(&ready)) {
		data_go(d, list_entry(link, struct data_req, link));
	}
}

void data_fail_all(struct csv_data *d, struct list *from, int result)
{
	for (struct list *link = list_pop(from); link != NULL; link = list_pop(from)) {
		data_finish(d, list_entry(link, struct data_req, link), result);
	}
}

void data_stall(struct csv_data *d, struct data_req *r, enum csv_data_reason why)
{
	if (r->wait_ns == 0) {
		r->wait_ns = d->cfg.now_ns();
		d->wait_since_ns = d->waiters++ == 0 ? r->wait_ns : d->wait_since_ns;
	}
	d->wait_reason = why;
	list_add_tail(&d->stalled, &r->link);
	data_tick_arm(d);
}

/* It got what it waited for, or ends. */
static void data_unwait(struct csv_data *d, struct data_req *r)
{
	if (r->wait_ns != 0) {
		r->wait_ns = 0;
		if (--d->waiters == 0) {
			data_update(d);
		}
	}
}

void data_stall_all(struct csv_data *d, struct list *from, enum csv_data_reason why)
{
	for (struct list *link = list_pop(from); link != NULL; link = list_pop(from)) {
		data_stall(d, list_entry(link, struct data_req, link), why);
	}
}

static void data_give_bounce(struct csv_data *d, struct data_req *r)
{
	struct list *next;

	if (r->bounce == NULL) {
		return;
	}
	d->bounce_free[d->bounce_count++] = r->bounce;
	r->bounce = NULL;
	next = list_pop(&d->want_bounce);
	if (next != NULL) {
		list_add_tail(&d->again, next);
		data_kick(d);
	}
}

void data_finish(struct csv_data *d, struct data_req *r, int result)
{
	data_give_bounce(d, r);
	data_unwait(d, r);
	blk_complete_later(&d->blk, r->req, result);
}

/* Without delay. The last thing that is done: it may close the device. */
static void data_finish_now(struct csv_data *d, struct data_req *r, int result)
{
	data_give_bounce(d, r);
	data_unwait(d, r);
	blk_complete(&d->blk, r->req, result);
}

/* ---- blocks that are written in part ---- */

static void data_fill_io_done(struct uring_op *op, int32_t res, bool more)
{
	struct data_fill *f = op->arg;

	(void)more;
	if (res >= 0 && fault_io() != 0) {
		res = -EIO;
	}
	data_fill_done(f->data, f, res >= 0 && res != (int32_t)DATA_BLOCK_BYTES ? -EIO : res, true);
}

/* Returns 0; a reason to wait. */
static enum csv_data_reason data_fill_send(struct csv_data *d, struct data_fill *f)
{
	uint64_t now;

	f->stalled = true;
	if (!data_may(d, &now)) {
		return CSV_DATA_RIGHTS;
	}
	if (!d->lost && !f->doubt) {
		f->op = (struct uring_op){.fn = data_fill_io_done, .arg = f};
		if (uring_prep_write(d->blk.ring, &f->op, d->fd, d->zero_page, DATA_BLOCK_BYTES,
		                     f->device) != 0) {
			return CSV_DATA_PATH;
		}
		d->direct_busy++;
	} else if (!d->cfg.ops->redirects) {
		return CSV_DATA_PATH;
	}
	f->stalled = false;
	d->busy++;
	if (d->lost || f->doubt) {
		f->iov = (struct iovec){d->zero_page, DATA_BLOCK_BYTES};
		f->ask = (struct csv_data_ask){
			.what = CSV_DATA_REDIRECT,
			.op = BLK_WRITE,
			.iov = &f->iov,
			.iov_count = 1,
			.id = f->id,
			.file_bytes = f->file,
			.len_bytes = DATA_BLOCK_BYTES,
			.device_bytes = f->device,
			.data = d,
		};
		d->cfg.ops->ask(d->cfg.arg, &f->ask);
	}
	return CSV_DATA_NO_REASON;
}

/* Zeroes over the block at @file, then @r again. */
static void data_fill(struct csv_data *d, struct data_req *r, uint64_t file, uint64_t device)
{
	struct data_fill *free_one = NULL;
	struct data_fill *f = NULL;
	enum csv_data_reason why = CSV_DATA_META;

	for (uint32_t i = 0; i < DATA_FILLS; i++) {
		if (!d->fills[i].busy) {
			free_one = &d->fills[i];
		} else if (d->fills[i].file == file) {
			f = &d->fills[i];
		}
	}
	if (f != NULL && !f->stalled) {
		list_add_tail(&d->waiting, &r->link);
		return;
	}
	if (f == NULL && free_one != NULL) {
		f = free_one;
		*f = (struct data_fill){
			.data = d,
			.file = file,
			.device = device,
			.id = d->next_id++,
			.busy = true,
		};
	}
	if (f != NULL) {
		why = data_fill_send(d, f);
	}
	if (d->dead) {
		data_finish(d, r, -ESTALE);
	} else if (why != CSV_DATA_NO_REASON) {
		data_stall(d, r, why);
	} else {
		list_add_tail(&d->waiting, &r->link);
	}
}

void data_fill_done(struct csv_data *d, struct data_fill *f, int result, bool direct)
{
	const struct data_extent fresh = {
		.file = f->file,
		.device = f->device,
		.len = DATA_BLOCK_BYTES,
		.kind = DATA_FRESH,
	};

	d->busy--;
	d->direct_busy -= direct ? 1 : 0;
	f->busy = false;
	if (result >= 0) {
		/* Room for it was made sure of before the first byte went out. */
		CHECK(data_map_put(&d->map, &fresh) == 0);
	} else if (result == -ESTALE || result == -EBADE) {
		data_die(d);
	} else if (direct ? data_is_path_error(result) : data_is_for_now(result)) {
		f->busy = true;
		f->stalled = true;
		f->doubt = !direct && result != -EAGAIN && result != -EHOSTUNREACH;
		if (direct) {
			data_lose_path(d, CSV_DATA_PATH);
		} else {
			data_stall_all(d, &d->waiting, CSV_DATA_PATH);
		}
	} else {
		const struct csv_data_ask at = {
			.write = true,
			.file_bytes = f->file,
			.len_bytes = DATA_BLOCK_BYTES,
		};

		data_fail_range(d, &at, -EIO);
	}
	data_go_all(d, &d->waiting);
	data_poke_recall(d);
}

/* ---- transfers ---- */

/* The request has all it wanted, but perhaps for the durability. */
static void data_end(struct csv_data *d, struct data_req *r, bool now)
{
	if (r->owes_sync) {
		data_give_bounce(d, r);
		data_round_join(d, r);
	} else if (now) {
		data_finish_now(d, r, 0);
	} else {
		data_finish(d, r, 0);
	}
}

/* @bytes of the piece were transferred. The last thing that is done if @now. */
static void data_piece_good(struct csv_data *d, struct data_req *r, uint32_t bytes, bool now)
{
	if (r->bounce != NULL && r->req->op == BLK_READ) {
		data_copy(r, bytes, FROM_BOUNCE);
	}
	if (bytes < r->piece_bytes) {
		bytes -= bytes %
		         (r->piece_kind == DATA_UNWRITTEN ? DATA_BLOCK_BYTES : d->logical_bytes);
	}
	if (bytes == 0) {
		data_finish(d, r, -EIO);
		return;
	}
	if (r->piece_kind == DATA_UNWRITTEN) {
		const struct data_extent fresh = {
			.file = r->req->offset_bytes + r->done_bytes,
			.device = r->piece_device,
			.len = bytes,
			.kind = DATA_FRESH,
		};

		CHECK(data_map_put(&d->map, &fresh) == 0); /* room was kept for it */
	}
	r->done_bytes += bytes;
	r->id = 0;
	r->doubt = false;
	r->retries = 0;
	data_unwait(d, r);
	if (d->recall) {
		now = false;
		data_poke_recall(d);
	}
	if (r->done_bytes < r->req->len_bytes) {
		data_go(d, r);
	} else {
		data_end(d, r, now);
	}
}

static void data_piece_bad(struct csv_data *d, struct data_req *r, int32_t res)
{
	if (res == -EBADE) {
		data_die(d);
		data_finish(d, r, -ESTALE);
	} else if (data_is_path_error(res)) {
		data_lose_path(d, CSV_DATA_PATH);
		data_go(d, r);
	} else if (res == -EINVAL && !r->odd && r->req->op != BLK_ZERO) {
		r->odd = true; /* stricter than it said: aligned to pages it will do */
		data_go(d, r);
	} else {
		data_finish(d, r, data_result(res));
	}
	data_poke_recall(d);
}

static void data_io_done(struct uring_op *op, int32_t res, bool more)
{
	struct data_req *r = container_of(op, struct data_req, op);
	struct csv_data *d = op->arg;

	(void)more;
	list_del(&r->link);
	d->busy--;
	d->direct_busy--;
	d->unwritten_busy -= r->piece_kind == DATA_UNWRITTEN ? 1 : 0;
	if ((res == -EINTR || res == -EAGAIN) && r->retries < DATA_RETRY_MAX) {
		r->retries++;
		list_add_tail(&d->again, &r->link);
		data_kick(d);
		return;
	}
	if (res >= 0 && fault_io() != 0) {
		res = -EIO;
	}
	if (d->cfg.now_ns() >= d->until_ns) {
		d->stats.late++;
	}
	if (res <= 0) {
		data_piece_bad(d, r, res == 0 ? -EIO : res);
	} else {
		data_piece_good(d, r, (uint32_t)res, true);
	}
}

static int data_prep(struct csv_data *d, struct data_req *r, const struct iovec *iov,
                     uint32_t count)
{
	struct uring *ring = d->blk.ring;

	r->op = (struct uring_op){.fn = data_io_done, .arg = d};
	if (r->req->op == BLK_READ) {
		return uring_prep_readv(ring, &r->op, d->fd, iov, count, r->piece_device);
	}
	if ((r->req->flags & BLK_FUA) != 0 && r->piece_kind == DATA_WRITTEN) {
		return uring_prep_writev_dsync(ring, &r->op, d->fd, iov, count, r->piece_device);
	}
	r->owes_sync = (r->req->flags & BLK_FUA) != 0;
	return uring_prep_writev(ring, &r->op, d->fd, iov, count, r->piece_device);
}

static void data_redirect(struct csv_data *d, struct data_req *r, const struct iovec *iov,
                          uint32_t count)
{
	if (!d->cfg.ops->redirects) {
		data_stall(d, r, CSV_DATA_PATH);
		return;
	}
	if (r->id == 0) {
		r->id = d->next_id++;
	}
	r->owes_sync = (r->req->flags & BLK_FUA) != 0;
	r->ask = (struct csv_data_ask){
		.what = CSV_DATA_REDIRECT,
		.op = r->req->op == BLK_READ ? BLK_READ : BLK_WRITE,
		.iov = iov,
		.iov_count = count,
		.id = r->id,
		.file_bytes = r->req->offset_bytes + r->done_bytes,
		.len_bytes = r->piece_bytes,
		.device_bytes = r->piece_device,
		.data = d,
	};
	d->busy++;
	d->unwritten_busy += r->piece_kind == DATA_UNWRITTEN ? 1 : 0;
	d->stats.redirected++;
	d->cfg.ops->ask(d->cfg.arg, &r->ask);
}

void data_redirect_done(struct csv_data *d, struct data_req *r, int result)
{
	d->busy--;
	d->unwritten_busy -= r->piece_kind == DATA_UNWRITTEN ? 1 : 0;
	if (result == 0) {
		data_piece_good(d, r, r->piece_bytes, false);
		return;
	}
	if (result == -ESTALE) {
		data_die(d);
	}
	if (d->dead) {
		data_finish(d, r, -ESTALE);
	} else if (data_is_for_now(result)) {
		/* A write that may have been sent must not be overtaken by one on our own path. */
		r->doubt = r->doubt ||
		           (r->req->op != BLK_READ && result != -EAGAIN && result != -EHOSTUNREACH);
		data_stall(d, r, CSV_DATA_PATH);
	} else {
		data_finish(d, r, data_redirect_result(result));
	}
	data_poke_recall(d);
}

/* What a piece of at most @limit bytes is transferred from or to; NULL = wait for a buffer. */
static const struct iovec *data_memory(struct csv_data *d, struct data_req *r, bool whole,
                                       uint64_t limit, uint32_t *count, uint64_t *bytes)
{
	*count = 1;
	if (r->req->op == BLK_ZERO) {
		if (limit >= DATA_BLOCK_BYTES) {
			uint64_t n = limit / DATA_BLOCK_BYTES;

			*count = n < DATA_ZERO_IOVS ? (uint32_t)n : DATA_ZERO_IOVS;
			*bytes = (uint64_t)*count * DATA_BLOCK_BYTES;
			return d->zero_iov;
		}
		*bytes = limit;
		r->part = (struct iovec){d->zero_page, limit};
		return &r->part;
	}
	if (!r->odd) {
		const struct iovec *iov = data_piece(r, limit, count, bytes);

		/* Into what is unwritten go whole blocks. If one lies in two elements: copy. */
		while (whole && *bytes % DATA_BLOCK_BYTES != 0 && *bytes > DATA_BLOCK_BYTES) {
			iov = data_piece(r, *bytes - *bytes % DATA_BLOCK_BYTES, count, bytes);
		}
		if (!whole || *bytes % DATA_BLOCK_BYTES == 0) {
			return iov;
		}
		*count = 1;
	}
	if (r->bounce == NULL) {
		if (d->bounce_count == 0) {
			return NULL;
		}
		r->bounce = d->bounce_free[--d->bounce_count];
	}
	*bytes = limit < DATA_BOUNCE_BYTES ? limit : DATA_BOUNCE_BYTES;
	if (r->req->op == BLK_WRITE) {
		data_copy(r, *bytes, TO_BOUNCE);
	}
	r->part = (struct iovec){r->bounce, *bytes};
	return &r->part;
}

static void data_transfer(struct csv_data *d, struct data_req *r, const struct data_extent *e,
                          uint64_t limit)
{
	const struct iovec *iov;
	uint32_t count;
	uint64_t bytes;
	uint64_t now;

	if (!data_may(d, &now)) {
		if (d->dead) {
			data_finish(d, r, -ESTALE);
		} else {
			data_stall(d, r, CSV_DATA_RIGHTS);
		}
		return;
	}
	if ((d->lost || r->doubt) && limit > DATA_REDIRECT_BYTES) {
		limit = DATA_REDIRECT_BYTES;
	}
	/* What has an id is the same piece again, or another operation. */
	if (r->id != 0 && limit >= r->piece_bytes) {
		limit = r->piece_bytes;
	}
	iov = data_memory(d, r, e->kind == DATA_UNWRITTEN, limit, &count, &bytes);
	if (iov == NULL) {
		list_add_tail(&d->want_bounce, &r->link);
		return;
	}
	if (r->id != 0 && bytes != r->piece_bytes) {
		r->id = 0;
	}
	r->piece_bytes = (uint32_t)bytes; /* <= BLK_TRANSFER_MAX */
	r->piece_kind = (uint8_t)e->kind;
	r->piece_device = e->device;
	if (d->lost || r->doubt) {
		data_redirect(d, r, iov, count);
		return;
	}
	if (data_prep(d, r, iov, count) != 0) {
		list_add_tail(&d->again, &r->link);
		data_kick(d);
		return;
	}
	r->began_ns = now;
	list_add_tail(&d->flying, &r->link);
	d->busy++;
	d->direct_busy++;
	d->unwritten_busy += r->piece_kind == DATA_UNWRITTEN ? 1 : 0;
	d->stats.direct++;
	data_tick_arm(d);
}

/* Will the map have room for what becomes fresh? If not, make some. */
static bool data_room(struct csv_data *d)
{
	uint32_t need = 2 * (d->unwritten_busy + DATA_FILLS + 2);

	/* Small writes cut what is unwritten in pieces: it is asked for again, too. */
	for (uint32_t i = 0; i < 2 && d->map.count + need > d->map.max; i++) {
		data_map_evict(&d->map, i != 0);
	}
	if (d->map.count + need <= d->map.max) {
		return true;
	}
	d->want_round = true;
	data_kick(d);
	return false;
}

/* Returns true if @r should go on at once. */
static bool data_go_piece(struct csv_data *d, struct data_req *r)
{
	const struct blk_req *req = r->req;
	uint64_t at = req->offset_bytes + r->done_bytes;
	uint64_t left = req->len_bytes - r->done_bytes;
	struct data_extent e;

	if (left == 0) {
		data_end(d, r, false);
		return false;
	}
	if (data_map_find(&d->map, at, &e) != 0) {
		data_want_layout(d, r, at, req->op == BLK_WRITE, false);
		return false;
	}
	if (e.kind == DATA_HOLE && req->op == BLK_WRITE) {
		data_want_layout(d, r, at, true, true);
		return false;
	}
	left = left < e.len ? left : e.len;
	if (e.kind <= DATA_UNWRITTEN && req->op != BLK_WRITE) { /* it is zero */
		if (req->op == BLK_READ) {
			data_copy(r, left, CLEAR);
		}
		r->done_bytes += left;
		return true;
	}
	if (e.kind == DATA_UNWRITTEN) {
		uint64_t in = at % DATA_BLOCK_BYTES;

		if (!data_room(d)) {
			data_stall(d, r, CSV_DATA_META);
			return false;
		}
		if (in != 0 || left < DATA_BLOCK_BYTES) {
			data_fill(d, r, at - in, e.device - in);
			return false;
		}
		left -= left % DATA_BLOCK_BYTES;
	}
	data_transfer(d, r, &e, left);
	return false;
}

static void data_go_resize(struct csv_data *d, struct data_req *r)
{
	if (r->done_bytes != 0) { /* it is done, but for the flush */
		data_round_join(d, r);
		return;
	}
	r->ask = (struct csv_data_ask){
		.what = CSV_DATA_RESIZE,
		.file_bytes = r->req->offset_bytes,
		.data = d,
	};
	d->busy++;
	d->cfg.ops->ask(d->cfg.arg, &r->ask);
}

void data_resize_done(struct csv_data *d, struct data_req *r, int result)
{
	uint64_t size = r->req->offset_bytes;

	d->busy--;
	if (result == -ESTALE) {
		data_die(d);
	}
	if (d->dead) {
		data_finish(d, r, -ESTALE);
	} else if (result == 0) {
		uint64_t cut = (size + DATA_BLOCK_BYTES - 1) / DATA_BLOCK_BYTES * DATA_BLOCK_BYTES;

		/* Drops a tail: never splits. What was a hole behind the old end may be learned
		 * anew. */
		CHECK(data_map_drop(&d->map, size < d->size_bytes ? cut : d->size_bytes,
		                    UINT64_MAX) == 0 ||
		      size >= d->size_bytes);
		d->size_bytes = size;
		r->done_bytes = 1;
		data_unwait(d, r);
		if ((r->req->flags & BLK_FUA) != 0) {
			data_round_join(d, r);
		} else {
			data_finish(d, r, 0);
		}
	} else if (data_is_for_now(result)) {
		data_stall(d, r, CSV_DATA_META);
	} else {
		data_finish(d, r, result == -ENOSPC ? -ENOSPC : -EIO);
	}
	data_poke_recall(d);
}

/* Start the next thing that @r needs. Completes nothing but through blk_complete_later(). */
void data_go(struct csv_data *d, struct data_req *r)
{
	if (d->dead) {
		data_finish(d, r, -ESTALE);
		return;
	}
	if (d->recall && r->req->op != BLK_FLUSH) {
		list_add_tail(&d->gated, &r->link);
		return;
	}
	switch (r->req->op) {
	case BLK_READ:
	case BLK_WRITE:
	case BLK_ZERO:
		while (data_go_piece(d, r)) {
		}
		return;
	case BLK_FLUSH:
		data_round_join(d, r);
		return;
	case BLK_RESIZE:
		data_go_resize(d, r);
		return;
	case BLK_DISCARD:
	case BLK_OP_COUNT:
		data_finish(d, r, 0); /* a hint */
		return;
	}
}

void data_submit(struct blk *blk, struct blk_req *req)
{
	struct csv_data *d = container_of(blk, struct csv_data, blk);
	struct data_req *r = data_req(req);

	*r = (struct data_req){.req = req};
	list_init(&r->link);
	r->odd = (req->op == BLK_READ || req->op == BLK_WRITE) && !data_fits(d, req);
	data_go(d, r);
}
