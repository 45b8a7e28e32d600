/* SPDX-License-Identifier: Apache-2.0 */

/*
 * open - open, and what it and its end make of a file's handle. Changes of one file come one
 * after another, in file.changes:
 *
 *	nobody -> readers: a handle that reads and lets others do anything
 *	       -> writers: one that writes and lets others read and delete; the old one is closed
 *	last writer: what was written is flushed, what was allocated ahead is freed; then a handle
 *	for the readers that are left, or none
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "csv/lock/csv_lock.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-mount"
#define TRIES 20u /* of an open that somebody is in the way of, a tick apart */
#define SHARE_WRITE \
	CSV_LOCK_SHARE_MODE(CSV_LOCK_READ | CSV_LOCK_WRITE, CSV_LOCK_READ | CSV_LOCK_DELETE)
#define SHARE_READ CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_ALL)

/* ---- one after another ---- */

static void change_begin(struct mreq *r, mount_fn first)
{
	struct file *f = r->file;
	bool mine = list_empty(&f->changes);

	list_add_tail(&f->changes, &r->change);
	if (mine) {
		first(r, 0);
	} else {
		r->next = first;
	}
}

static void change_end(struct mreq *r, int result)
{
	struct file *f = r->file;
	struct list *link;

	if (list_linked(&r->lock.link)) {
		file_unlock(r);
	}
	list_del(&r->change);
	link = list_first(&f->changes);
	if (link != NULL) {
		struct mreq *other = list_entry(link, struct mreq, change);

		mount_later(other, 0, other->next);
	}
	r->after_change(r, result);
}

static void ask_open(struct mreq *r, bool write, mount_fn next)
{
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.ino = r->file->node->ino;
	r->ask.op.generation = r->file->node->generation;
	r->ask.share = write ? SHARE_WRITE : SHARE_READ;
	mount_ask(r, CSV_MOUNT_OPEN, next);
}

static void ask_close(struct mreq *r, uint64_t handle, mount_fn next)
{
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.ino = r->file->node->ino;
	r->ask.op.generation = r->file->node->generation;
	r->ask.handle = handle;
	mount_ask(r, CSV_MOUNT_CLOSE, next);
}

/* ---- one more ---- */

static void hold_closed(struct mreq *r, int result)
{
	if (result != 0) {
		log_warn(TAG, "handle not closed volume=%s ino=%llu error=%d", r->m->cfg.name,
		         (unsigned long long)r->file->node->ino, result);
	}
	change_end(r, 0);
}

static void hold_count(struct mreq *r)
{
	if (r->change_write) {
		r->file->writers++;
	} else {
		r->file->readers++;
	}
}

/* Nothing rests on the old handle any more. */
static void hold_swap(struct mreq *r, int result)
{
	struct file *f = r->file;
	uint64_t old = f->handle;

	(void)result;
	f->handle = r->change_handle;
	f->writes = true;
	f->size_bytes = r->size_bytes;
	f->server_bytes = r->size_bytes;
	hold_count(r);
	if (f->lost || old == 0) {
		change_end(r, 0);
	} else {
		ask_close(r, old, hold_closed);
	}
}

static void hold_locked(struct mreq *r, int result)
{
	(void)result;
	file_recall(r, 0, MOUNT_END, hold_swap);
}

static void hold_failed(struct mreq *r, int result)
{
	change_end(r, result != 0 ? result : r->kept);
}

static void hold_opened(struct mreq *r, int result)
{
	struct file *f = r->file;

	if (result == -EBUSY && r->tries++ < TRIES && r->interrupted_ns == 0) {
		list_add_tail(&r->m->retries, &r->again);
		mount_tick(r->m);
		return;
	}
	if (result != 0) {
		change_end(r, result);
		return;
	}
	r->change_handle = r->ask.handle;
	r->size_bytes = r->ask.op.attr.size_bytes;
	if (f->blk == NULL) {
		const struct csv_attr attr = r->ask.op.attr;
		int err = attr.kind == CSV_KIND_FILE ? file_attach(f, &attr) : -EISDIR;

		if (err != 0) {
			r->kept = err;
			ask_close(r, r->change_handle, hold_failed);
			return;
		}
	}
	if (f->handle == 0) {
		file_heard(f, &r->ask.op.attr);
		f->size_bytes = r->size_bytes;
		f->token = r->ask.op.attr.token;
		f->handle = r->change_handle;
		f->writes = r->change_write;
		hold_count(r);
		change_end(r, 0);
		return;
	}
	file_heard(f, &r->ask.op.attr);
	f->token = r->ask.op.attr.token;
	file_lock(r, 0, MOUNT_END, true, hold_locked);
}

void file_tried(struct mreq *r)
{
	ask_open(r, r->change_write, hold_opened);
}

static void hold_refreshed(struct mreq *r, int result)
{
	hold_count(r);
	change_end(r, result);
}

static void hold_begin(struct mreq *r, int result)
{
	struct file *f = r->file;

	(void)result;
	if (f->lost) {
		change_end(r, -ESTALE);
	} else if (f->handle == 0 || (r->change_write && !f->writes)) {
		ask_open(r, r->change_write, hold_opened);
	} else if (!f->writes && !r->m->cfg.alone) {
		/* Who opens it now shall see what somebody else wrote and closed. */
		file_recall(r, 0, MOUNT_END, hold_refreshed);
	} else {
		hold_count(r);
		change_end(r, 0);
	}
}

void file_hold(struct mreq *r, bool write, mount_fn next)
{
	struct file *f = file_get(r->m, r->node);

	if (f == NULL) {
		next(r, -ENFILE);
		return;
	}
	if (r->file == NULL) {
		file_use(r, f);
	}
	r->change_write = write;
	r->after_change = next;
	change_begin(r, hold_begin);
}

/* ---- one less ---- */

static void drop_closed(struct mreq *r, int result)
{
	if (result != 0) {
		log_warn(TAG, "handle not closed volume=%s ino=%llu error=%d", r->m->cfg.name,
		         (unsigned long long)r->file->node->ino, result);
	}
	change_end(r, r->kept);
}

static void drop_swap(struct mreq *r, uint64_t handle)
{
	struct file *f = r->file;
	uint64_t old = f->handle;

	f->handle = handle;
	f->writes = false;
	if (old != 0) {
		ask_close(r, old, drop_closed);
	} else {
		change_end(r, r->kept);
	}
}

static void drop_reopened(struct mreq *r, int result)
{
	if (result != 0) {
		/* The readers that are left get -ESTALE. */
		log_warn(TAG, "file lost volume=%s ino=%llu error=%d", r->m->cfg.name,
		         (unsigned long long)r->file->node->ino, result);
		r->file->lost = true;
		drop_swap(r, 0);
		return;
	}
	drop_swap(r, r->ask.handle);
}

static void drop_trimmed(struct mreq *r, int result)
{
	(void)result; /* what is not freed now is freed with the file */
	r->file->ahead = false;
	if (r->file->readers != 0 && !r->file->lost) {
		ask_open(r, false, drop_reopened);
	} else {
		drop_swap(r, 0);
	}
}

/* Freeing is no writing. */
static void drop_cut(struct mreq *r, int result)
{
	uint64_t modified_ns = r->file->seen_ns;

	if (result != 0 || modified_ns == 0) {
		drop_trimmed(r, 0);
		return;
	}
	mount_op_begin(r, CSV_OP_SETATTR);
	r->ask.op.mask = CSV_SET_MODIFIED;
	r->ask.op.modified_ns = modified_ns;
	mount_ask(r, CSV_MOUNT_OP, drop_trimmed);
}

static void drop_recalled(struct mreq *r, int result)
{
	struct file *f = r->file;

	(void)result;
	if (!f->ahead || f->keep_ahead || f->lost || !f->writes) {
		drop_trimmed(r, 0);
		return;
	}
	mount_op_begin(r, CSV_OP_TRUNCATE);
	r->ask.op.size_bytes = f->server_bytes;
	r->ask.handle = f->handle;
	mount_ask(r, CSV_MOUNT_OP, drop_cut);
}

static void drop_locked(struct mreq *r, int result)
{
	(void)result;
	file_recall(r, 0, MOUNT_END, drop_recalled);
}

static void drop_synced(struct mreq *r, int result)
{
	struct file *f = r->file;

	if (result != 0) {
		/* Nobody is left who could be told again: what cannot be saved is given up. */
		log_err(TAG, "what was written last is lost volume=%s ino=%llu error=%d",
		        r->m->cfg.name, (unsigned long long)f->node->ino, result);
		r->kept = result;
		file_give_up(f);
	}
	file_lock(r, 0, MOUNT_END, true, drop_locked);
}

/* What was written without us is there, and is made durable. */
static void drop_quiet(struct mreq *r, int result)
{
	(void)result;
	file_sync(r, true, drop_synced);
}

static void drop_begin(struct mreq *r, int result)
{
	struct file *f = r->file;

	(void)result;
	if (r->change_write) {
		CHECK(f->writers != 0);
		f->writers--;
	} else {
		CHECK(f->readers != 0);
		f->readers--;
	}
	if (f->writes && f->writers == 0 && direct_granted(f)) {
		file_recall(r, 0, MOUNT_END, drop_quiet);
	} else if (f->writes && f->writers == 0) {
		file_sync(r, true, drop_synced);
	} else if (f->readers + f->writers == 0 && f->blk != NULL) {
		drop_synced(r, 0);
	} else {
		change_end(r, 0);
	}
}

void file_drop(struct mreq *r, bool write, mount_fn next)
{
	r->kept = 0;
	r->change_write = write;
	r->after_change = next;
	change_begin(r, drop_begin);
}

/* ---- requests ---- */

static void opened(struct mreq *r, int result)
{
	if (result != 0) {
		mount_reply_err(r, result);
	} else {
		hand_open(r, NULL);
	}
}

void mount_open(struct mreq *r)
{
	file_hold(r, r->writes && !r->later, opened);
}

static void abandoned(struct mreq *r, int result)
{
	(void)result; /* nobody hears it */
	mount_reply_err(r, 0);
}

void file_abandon(struct file *f)
{
	bool write = f->writers != 0;
	struct mreq *r;

	if (f->readers + f->writers == 0) {
		return;
	}
	r = mount_req_get(f->m);
	f->readers = write ? 0 : 1;
	f->writers = write ? 1 : 0;
	mount_use(r, f->node);
	file_use(r, f);
	file_drop(r, write, abandoned);
}
