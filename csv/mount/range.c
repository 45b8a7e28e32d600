/* SPDX-License-Identifier: Apache-2.0 */

/*
 * range - who of the requests works on which part of a file, and the transfers of blocks that they
 * do there.
 */
#include "csv/mount/mount_int.h"

/* ---- ranges ---- */

static bool collide(const struct range_lock *a, const struct range_lock *b)
{
	return (a->alone || b->alone) && a->from < b->to && b->from < a->to;
}

static bool is_free(const struct file *f, const struct range_lock *l)
{
	list_for_each(link, &f->locks)
	{
		if (collide(l, list_entry(link, struct range_lock, link))) {
			return false;
		}
	}
	list_for_each(link, &f->waiting)
	{
		const struct range_lock *other = list_entry(link, struct range_lock, link);

		if (other == l) {
			break; /* those behind it do not count */
		}
		if (collide(l, other)) {
			return false;
		}
	}
	return true;
}

void file_lock(struct mreq *r, uint64_t from, uint64_t to, bool alone, mount_fn next)
{
	struct file *f = r->file;

	r->lock.from = from;
	r->lock.to = to;
	r->lock.alone = alone;
	r->next = next;
	if (is_free(f, &r->lock)) {
		list_add_tail(&f->locks, &r->lock.link);
		next(r, 0);
	} else {
		list_add_tail(&f->waiting, &r->lock.link);
	}
}

void file_unlock(struct mreq *r)
{
	struct file *f = r->file;

	list_del(&r->lock.link);
	list_for_each_safe(link, &f->waiting)
	{
		struct range_lock *l = list_entry(link, struct range_lock, link);
		struct mreq *other = container_of(l, struct mreq, lock);

		if (is_free(f, l)) {
			list_del(&l->link);
			list_add_tail(&f->locks, &l->link);
			mount_later(other, 0, other->next);
		}
	}
}

/* ---- blocks ---- */

static void blk_done(struct blk_req *req, int result)
{
	struct mreq *r = req->arg;

	r->next(r, result);
}

void file_blk(struct mreq *r, enum blk_op op, uint64_t offset, uint32_t iov_count, mount_fn next)
{
	r->blk = (struct blk_req){
		.op = op,
		.offset_bytes = offset,
		.iov = r->iov,
		.iov_count = iov_count,
		.done = blk_done,
		.arg = r,
	};
	for (uint32_t i = 0; i < iov_count; i++) {
		r->blk.len_bytes += r->iov[i].iov_len;
	}
	r->next = next;
	blk_submit(r->file->blk, &r->blk);
}
