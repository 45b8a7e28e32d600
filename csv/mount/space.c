/* SPDX-License-Identifier: Apache-2.0 */

/*
 * space - truncate, fallocate, lseek. Who frees blocks or changes the size has the whole file for
 * itself meanwhile: a write in flight must not end in a block that is somebody else's.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "csv/mount/mount_int.h"

#define PUNCHES_MAX 1000000u /* steps of one request: more than the greatest file has units */
#define ALLOC_STEP (1ull << 30)

static uint64_t down(uint64_t bytes)
{
	return bytes - bytes % MOUNT_BLOCK;
}

static uint64_t up(uint64_t bytes)
{
	return down(bytes + MOUNT_BLOCK - 1);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- the size; the file is locked, and r->slot is there ---- */

static void size_set(struct mreq *r, int result)
{
	struct file *f = r->file;

	if (result == 0) {
		file_heard(f, &r->ask.op.attr);
		f->server_bytes = r->size_bytes;
		f->size_bytes = r->size_bytes;
		f->time_dirty = false;
	}
	r->after_size(r, result);
}

static void size_recalled(struct mreq *r, int result)
{
	(void)result;
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.type = CSV_OP_TRUNCATE;
	r->ask.op.ino = r->file->node->ino;
	r->ask.op.generation = r->file->node->generation;
	r->ask.op.size_bytes = r->size_bytes;
	r->ask.handle = r->file->handle;
	mount_ask(r, CSV_MOUNT_OP, size_set);
}

static void size_ready(struct mreq *r, int result)
{
	if (result != 0) {
		r->after_size(r, result);
	} else {
		file_recall(r, down(r->size_bytes), MOUNT_END, size_recalled);
	}
}

/* The end of the last block is zero; durable before the size is smaller. */
static void size_zeroed(struct mreq *r, int result)
{
	if (result == 0 && r->file->dirty) {
		file_sync(r, false, size_ready);
	} else {
		size_ready(r, result);
	}
}

static void size_synced(struct mreq *r, int result)
{
	struct file *f = r->file;
	uint64_t to = least(f->size_bytes, up(r->size_bytes));

	if (result != 0) {
		size_ready(r, result);
	} else if (r->size_bytes < to) {
		file_zero(r, r->size_bytes, to, size_zeroed);
	} else {
		size_ready(r, 0);
	}
}

static void size_free(struct mreq *r, int result)
{
	struct file *f = r->file;

	if (result != 0) {
		r->after_size(r, result);
	} else if (r->size_bytes > f->server_bytes && f->size_bytes > f->server_bytes) {
		/* The volume must not take for growth what makes the file shorter here. */
		file_sync(r, false, size_synced);
	} else {
		size_synced(r, 0);
	}
}

/* Users first: what is refused for them has not changed anything, and no block is written here that
 * they write as well. */
static void set_size(struct mreq *r, uint64_t size, mount_fn next)
{
	r->after_size = next;
	r->size_bytes = size;
	file_recall_or_not(r, down(size), MOUNT_END, size_free);
}

static void truncated(struct mreq *r, int result)
{
	file_unlock(r);
	r->after_truncate(r, result);
}

static void truncate_locked(struct mreq *r, int result)
{
	(void)result;
	if (r->file->lost || !r->file->writes) {
		truncated(r, -ESTALE);
	} else {
		set_size(r, r->to, truncated);
	}
}

static void truncate_slot(struct mreq *r, int result)
{
	(void)result;
	file_lock(r, 0, MOUNT_END, true, truncate_locked);
}

void file_truncate(struct mreq *r, uint64_t size, mount_fn next)
{
	r->after_truncate = next;
	r->to = size;
	mount_slot_want(r, truncate_slot);
}

/* ---- fallocate ---- */

static bool keeps_size(const struct mreq *r)
{
	return (r->mode & FALLOC_FL_KEEP_SIZE) != 0;
}

static void fallocated(struct mreq *r, int result)
{
	file_unlock(r);
	mount_reply_err(r, result);
}

static void alloc_step(struct mreq *r, int result);

static void alloc_grow(struct mreq *r)
{
	struct file *f = r->file;
	uint64_t end = r->offset + r->len;

	if (end <= f->size_bytes) {
		fallocated(r, 0);
	} else if (keeps_size(r)) {
		f->keep_ahead = true;
		fallocated(r, 0);
	} else {
		set_size(r, end, fallocated);
	}
}

static void alloc_leased(struct csv_mount_ask *ask, int result,
                         const struct csv_layout_lease *lease)
{
	struct mreq *r = ask->arg;

	if (result == 0 && lease->to_bytes <= r->from) {
		result = -EIO;
	}
	if (result != 0) {
		fallocated(r, result);
		return;
	}
	r->lease = lease->number;
	r->from = lease->to_bytes;
	file_return_lease(r, alloc_step);
}

static void alloc_step(struct mreq *r, int result)
{
	(void)result; /* of returning */
	if (r->from >= r->to) {
		alloc_grow(r);
	} else {
		file_ask_lease(r, r->from, least(r->to, r->from + ALLOC_STEP), true, alloc_leased);
	}
}

static void alloc(struct mreq *r)
{
	r->from = down(r->offset);
	r->to = up(r->offset + r->len);
	alloc_step(r, 0);
}

static void punch_end(struct mreq *r, int result)
{
	if (result == 0 && (r->mode & FALLOC_FL_ZERO_RANGE) != 0) {
		alloc(r);
	} else {
		fallocated(r, result);
	}
}

static void punch_step(struct mreq *r);

static void punched(struct mreq *r, int result)
{
	if (result == 0 && r->ask.op.count > r->to - r->from) {
		result = -EIO;
	}
	if (result == 0 && r->tries++ == PUNCHES_MAX) {
		result = -EIO;
	}
	if (result != 0) {
		punch_end(r, result);
		return;
	}
	file_heard(r->file, &r->ask.op.attr);
	r->from += r->ask.op.count;
	punch_step(r);
}

/* [r->from, r->to) [blocks] */
static void punch_step(struct mreq *r)
{
	if (r->from >= r->to) {
		punch_end(r, 0);
		return;
	}
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.type = CSV_OP_PUNCH;
	r->ask.op.ino = r->file->node->ino;
	r->ask.op.generation = r->file->node->generation;
	r->ask.op.block = r->from;
	r->ask.op.count = r->to - r->from;
	r->ask.handle = r->file->handle;
	mount_ask(r, CSV_MOUNT_OP, punched);
}

static void punch_recalled(struct mreq *r, int result)
{
	(void)result;
	r->from /= MOUNT_BLOCK;
	r->to /= MOUNT_BLOCK;
	r->tries = 0;
	punch_step(r);
}

static void punch_blocks(struct mreq *r, int result)
{
	if (result != 0 || r->from >= r->to) {
		punch_end(r, result);
	} else {
		file_recall(r, r->from, r->to, punch_recalled);
	}
}

/* The rest of the last block, if it has any that counts. */
static void punch_tail(struct mreq *r, int result)
{
	uint64_t end = r->offset + r->len;

	if (result == 0 && down(end) < end && down(end) >= r->from && end < r->file->size_bytes) {
		file_zero(r, down(end), end, punch_blocks);
	} else {
		punch_blocks(r, result);
	}
}

static void punch(struct mreq *r)
{
	uint64_t size = r->file->size_bytes;
	uint64_t end = r->offset + r->len;

	/* Whole blocks: what lies behind the size is zero anyway. */
	r->from = up(r->offset);
	r->to = end >= size ? up(end) : down(end);
	if (r->offset < r->from && r->offset < size) {
		file_zero(r, r->offset, least(least(end, r->from), size), punch_tail);
	} else {
		punch_tail(r, 0);
	}
}

static void punch_synced(struct mreq *r, int result)
{
	if (result != 0) {
		fallocated(r, result);
	} else {
		punch(r);
	}
}

static void punch_free(struct mreq *r, int result)
{
	struct file *f = r->file;

	if (result != 0) {
		fallocated(r, result);
	} else if (f->size_bytes > f->server_bytes) {
		/* A size is told with the conversion of the block that it ends in. Once that is
		 * punched, converting it would bring to light what lies there. */
		file_sync(r, false, punch_synced);
	} else {
		punch(r);
	}
}

static void fallocate_locked(struct mreq *r, int result)
{
	struct file *f = r->file;

	(void)result;
	if (f->lost || !f->writes) {
		fallocated(r, f->lost ? -ESTALE : -EBADF);
	} else if ((r->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
		file_recall_or_not(r, down(r->offset), up(r->offset + r->len), punch_free);
	} else {
		alloc(r);
	}
}

static void fallocate_slot(struct mreq *r, int result)
{
	(void)result;
	file_lock(r, 0, MOUNT_END, true, fallocate_locked);
}

void mount_fallocate(struct mreq *r)
{
	int err = mount_fallocate_check(r->mode, r->offset, r->len);

	if (err != 0) {
		mount_reply_err(r, err);
	} else {
		mount_slot_want(r, fallocate_slot);
	}
}

/* ---- lseek ---- */

static void seek_step(struct mreq *r, int result);

/* The first byte at or behind r->from that is what is looked for; lease->to_bytes: none. */
static uint64_t seek_in(const struct mreq *r, const struct csv_layout_lease *lease)
{
	uint64_t at = r->from;

	while (at < lease->to_bytes) {
		struct csv_layout_extent e;
		bool data;

		if (csv_layout_lease_find(lease, at, &e) != 0) {
			break;
		}
		data = e.device_bytes != UINT64_MAX && !e.unwritten;
		if (data == (r->whence == SEEK_DATA)) {
			return at;
		}
		at = e.file_bytes + e.length_bytes;
	}
	return lease->to_bytes;
}

static void seek_end(struct mreq *r, int result)
{
	uint64_t size = r->file->size_bytes;

	file_unlock(r);
	if (result != 0) {
		mount_reply_err(r, result);
	} else if (r->found < size) {
		mount_reply_lseek(r, r->found);
	} else if (r->whence == SEEK_HOLE) {
		mount_reply_lseek(r, size);
	} else {
		mount_reply_err(r, -ENXIO);
	}
}

static void seek_leased(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease)
{
	struct mreq *r = ask->arg;

	if (result == 0 && lease->to_bytes <= r->from) {
		result = -EIO;
	}
	if (result != 0) {
		seek_end(r, result);
		return;
	}
	r->found = seek_in(r, lease);
	r->at = lease->to_bytes;
	r->lease = lease->number;
	file_return_lease(r, seek_step);
}

static void seek_step(struct mreq *r, int result)
{
	uint64_t size = r->file->size_bytes;

	(void)result;
	if (r->found < r->at || r->at >= size) {
		seek_end(r, 0);
		return;
	}
	r->from = r->at;
	file_ask_lease(r, down(r->from), up(size), false, seek_leased);
}

static void seek_synced(struct mreq *r, int result)
{
	if (result != 0) {
		seek_end(r, result);
		return;
	}
	r->found = r->offset;
	r->at = r->offset;
	seek_step(r, 0);
}

/* What was written and not converted looks like a hole to the volume. */
static void seek_locked(struct mreq *r, int result)
{
	(void)result;
	if (r->offset >= r->file->size_bytes) {
		file_unlock(r);
		mount_reply_err(r, -ENXIO);
	} else {
		file_sync(r, false, seek_synced);
	}
}

void mount_lseek(struct mreq *r)
{
	if (r->whence != SEEK_DATA && r->whence != SEEK_HOLE) {
		mount_reply_err(r, -EINVAL);
	} else {
		file_lock(r, MOUNT_SIZE_LOCK, MOUNT_END, false, seek_locked);
	}
}
