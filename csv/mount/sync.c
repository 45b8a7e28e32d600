/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sync - what was written becomes durable and visible: the device is flushed, extents are converted
 * (csv/data does both), and the volume learns the size; at the end the time, too.
 */
#include <errno.h>
#include <string.h>

#include "csv/mount/mount_int.h"

static void sync_end(struct mreq *r, int result)
{
	r->file->syncing--;
	if (result != 0) {
		r->file->dirty = true;
	}
	r->after_sync(r, result);
}

static void time_set(struct mreq *r, int result)
{
	if (result == 0) {
		file_heard(r->file, &r->ask.op.attr);
		r->file->time_dirty = false;
	}
	sync_end(r, result == -ESTALE || result == -ENOENT ? 0 : result);
}

static void sync_time(struct mreq *r)
{
	struct file *f = r->file;

	if (!r->sync_final || !f->time_dirty || f->lost) {
		sync_end(r, 0);
		return;
	}
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.type = CSV_OP_SETATTR;
	r->ask.op.ino = f->node->ino;
	r->ask.op.generation = f->node->generation;
	r->ask.op.mask = CSV_SET_MODIFIED;
	r->ask.op.modified_ns = f->modified_ns;
	mount_ask(r, CSV_MOUNT_OP, time_set);
}

static void size_returned(struct mreq *r, int result)
{
	(void)result;
	if (r->sync_result != 0) {
		sync_end(r, r->sync_result);
	} else {
		sync_time(r);
	}
}

static void size_told(struct mreq *r, int result)
{
	r->sync_result = result;
	if (result == 0) {
		file_heard(r->file, &r->ask.op.attr);
		r->file->time_dirty = false;
	}
	if (r->lease != 0) {
		file_return_lease(r, size_returned);
	} else {
		size_returned(r, 0);
	}
}

static void tell_size(struct mreq *r)
{
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.type = CSV_OP_CONVERT;
	r->ask.op.ino = r->file->node->ino;
	r->ask.op.generation = r->file->node->generation;
	r->ask.op.block = (r->sync_bytes - 1) / MOUNT_BLOCK;
	r->ask.op.count = 1;
	r->ask.op.size_bytes = r->sync_bytes;
	r->ask.handle = r->file->handle;
	mount_ask(r, CSV_MOUNT_OP, size_told);
}

static void size_leased(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease)
{
	struct mreq *r = ask->arg;

	if (result != 0) {
		sync_end(r, result);
		return;
	}
	r->lease = lease->number;
	tell_size(r);
}

static void flushed(struct mreq *r, int result)
{
	struct file *f = r->file;
	uint64_t block = (r->sync_bytes - 1) / MOUNT_BLOCK * MOUNT_BLOCK;

	if (result != 0) {
		sync_end(r, result);
		return;
	}
	r->lease = 0;
	/* Often a conversion has said it already. */
	if (r->sync_bytes <= f->server_bytes || f->lost) {
		sync_time(r);
	} else if (file_lease_at(f, block) != NULL) {
		tell_size(r);
	} else {
		file_ask_lease(r, block, block + MOUNT_BLOCK, true, size_leased);
	}
}

void file_sync(struct mreq *r, bool final, mount_fn next)
{
	struct file *f = r->file;

	r->after_sync = next;
	r->sync_final = final;
	r->sync_bytes = f->size_bytes;
	if (f->blk == NULL || !f->writes) {
		next(r, 0);
	} else if (f->lost) {
		next(r, -ESTALE);
	} else if (f->dirty || f->syncing != 0 || f->size_bytes > f->server_bytes ||
	           direct_granted(f)) {
		f->dirty = false;
		f->syncing++;
		file_blk(r, BLK_FLUSH, 0, 0, flushed);
	} else {
		f->syncing++;
		sync_time(r);
	}
}

static void synced(struct mreq *r, int result)
{
	file_unlock(r);
	mount_reply_err(r, result);
}

static void flush_locked(struct mreq *r, int result)
{
	(void)result;
	file_sync(r, true, synced);
}

static void fsync_locked(struct mreq *r, int result)
{
	(void)result;
	file_sync(r, false, synced);
}

/* close(): the others see what was written. Nothing was written: nothing is to be done. */
void mount_flush(struct mreq *r)
{
	file_lock(r, MOUNT_SIZE_LOCK, MOUNT_END, false, flush_locked);
}

void mount_fsync(struct mreq *r)
{
	file_lock(r, MOUNT_SIZE_LOCK, MOUNT_END, false, fsync_locked);
}
