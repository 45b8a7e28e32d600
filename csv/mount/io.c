/* SPDX-License-Identifier: Apache-2.0 */

/*
 * io - read and write. The device has blocks of 4 KiB; what is written in part is read before,
 * under a lock on its blocks. Behind the size all blocks are zero, also in the block that it ends
 * in: who writes there writes whole blocks with zeroes, who makes a file shorter writes zeroes.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "csv/mount/mount_int.h"

static uint64_t down(uint64_t bytes)
{
	return bytes - bytes % MOUNT_BLOCK;
}

static uint64_t up(uint64_t bytes)
{
	return down(bytes + MOUNT_BLOCK - 1);
}

/* ---- read ---- */

static void read_done(struct mreq *r, int result)
{
	const uint8_t *buf = r->slot->base + MOUNT_BLOCK + r->offset % MOUNT_BLOCK;

	file_unlock(r);
	if (result != 0) {
		mount_reply_err(r, result);
		return;
	}
	r->m->stats.reads++;
	r->m->stats.read_bytes += r->len;
	mount_reply_data(r, buf, r->len);
}

static void read_locked(struct mreq *r, int result)
{
	uint64_t size = r->file->size_bytes;

	(void)result;
	if (r->offset >= size || r->len == 0) {
		file_unlock(r);
		mount_reply_data(r, NULL, 0);
		return;
	}
	r->len = r->len < size - r->offset ? r->len : size - r->offset;
	r->iov[0].iov_base = r->slot->base + MOUNT_BLOCK;
	r->iov[0].iov_len = up(r->offset + r->len) - down(r->offset);
	file_blk(r, BLK_READ, down(r->offset), 1, read_done);
}

static void read_slot(struct mreq *r, int result)
{
	(void)result;
	file_lock(r, down(r->offset), up(r->offset + r->len), false, read_locked);
}

void mount_read(struct mreq *r)
{
	if (r->offset > MOUNT_SIZE_MAX - r->len) {
		mount_reply_data(r, NULL, 0);
		return;
	}
	mount_slot_want(r, read_slot);
}

/* ---- write ---- */

static uint64_t end_of(const struct mreq *r)
{
	return r->offset + r->len;
}

static void write_synced(struct mreq *r, int result)
{
	if (result != 0) {
		mount_reply_err(r, result);
	} else {
		mount_reply_write(r, r->len);
	}
}

static void write_sync_done(struct mreq *r, int result)
{
	file_unlock(r);
	write_synced(r, result);
}

static void write_sync(struct mreq *r, int result)
{
	(void)result;
	file_sync(r, false, write_sync_done);
}

static void write_done(struct mreq *r, int result)
{
	struct file *f = r->file;

	if (result == 0) {
		f->size_bytes = end_of(r) > f->size_bytes ? end_of(r) : f->size_bytes;
		f->dirty = true;
		f->time_dirty = true;
		f->modified_ns = clock_wall_ns();
	}
	file_unlock(r);
	if (result == 0 && (r->flags & (O_SYNC | O_DSYNC)) != 0) {
		file_lock(r, MOUNT_SIZE_LOCK, MOUNT_END, false, write_sync);
	} else {
		write_synced(r, result);
	}
}

static void write_go(struct mreq *r)
{
	r->iov[0].iov_base = r->slot->base + MOUNT_BLOCK;
	r->iov[0].iov_len = up(end_of(r)) - down(r->offset);
	file_blk(r, BLK_WRITE, down(r->offset), 1, write_done);
}

static uint8_t *tail_of(const struct mreq *r)
{
	return r->slot->base + MOUNT_SLOT_BYTES - MOUNT_BLOCK;
}

static void tail_read(struct mreq *r, int result)
{
	uint64_t in = end_of(r) % MOUNT_BLOCK;

	if (result != 0) {
		write_done(r, result);
		return;
	}
	memcpy(r->slot->base + MOUNT_BLOCK + (end_of(r) - down(r->offset)), tail_of(r) + in,
	       MOUNT_BLOCK - in);
	write_go(r);
}

/* The block at @at, to @buf: zeroes if it lies behind the size. */
static void read_block(struct mreq *r, uint64_t at, uint8_t *buf, mount_fn next)
{
	if (at >= r->file->size_bytes) {
		memset(buf, 0, MOUNT_BLOCK);
		next(r, 0);
		return;
	}
	r->m->stats.part_blocks++;
	r->iov[0].iov_base = buf;
	r->iov[0].iov_len = MOUNT_BLOCK;
	file_blk(r, BLK_READ, at, 1, next);
}

static void write_tail(struct mreq *r)
{
	if (end_of(r) % MOUNT_BLOCK == 0) {
		write_go(r);
	} else {
		read_block(r, down(end_of(r)), tail_of(r), tail_read);
	}
}

static void head_read(struct mreq *r, int result)
{
	uint64_t in = r->offset % MOUNT_BLOCK;
	uint8_t *head = r->slot->base;

	if (result != 0) {
		write_done(r, result);
		return;
	}
	memcpy(head + MOUNT_BLOCK, head, in);
	if (down(end_of(r)) == down(r->offset)) {
		memcpy(head + MOUNT_BLOCK + in + r->len, head + in + r->len,
		       MOUNT_BLOCK - in - r->len);
		write_go(r);
	} else {
		write_tail(r);
	}
}

static void write_locked(struct mreq *r, int result)
{
	uint64_t in = r->offset % MOUNT_BLOCK;

	(void)result;
	if (!r->file->writes) {
		write_done(r, r->file->lost ? -ESTALE : -EBADF);
	} else if (in == 0) {
		write_tail(r);
	} else {
		memmove(r->data + in, r->data, r->len);
		read_block(r, down(r->offset), r->slot->base, head_read);
	}
}

void mount_write(struct mreq *r)
{
	if (r->len == 0) {
		mount_reply_write(r, 0);
		return;
	}
	file_lock(r, down(r->offset), up(end_of(r)), true, write_locked);
}

/* ---- zeroes ---- */

static void zeroed(struct mreq *r, int result)
{
	if (result == 0) {
		r->file->dirty = true;
	}
	r->after_zero(r, result);
}

static void zero_read(struct mreq *r, int result)
{
	uint64_t at = down(r->zero_from);
	uint8_t *from = r->slot->base + (r->zero_from - at);
	uint64_t len = r->zero_to - r->zero_from;
	bool is_zero = true;

	for (uint64_t i = 0; result == 0 && is_zero && i < len; i++) {
		is_zero = from[i] == 0;
	}
	if (result != 0 || is_zero) {
		r->after_zero(r, result);
		return;
	}
	memset(from, 0, len);
	file_blk(r, BLK_WRITE, at, 1, zeroed);
}

void file_zero(struct mreq *r, uint64_t from, uint64_t to, mount_fn next)
{
	r->zero_from = from;
	r->zero_to = to;
	r->after_zero = next;
	read_block(r, down(from), r->slot->base, zero_read);
}
