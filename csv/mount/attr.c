/* SPDX-License-Identifier: Apache-2.0 */

/* attr - getattr, setattr, statfs. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "csv/mount/mount_int.h"

void mount_attr_merge(struct csv_mount *m, struct csv_attr *attr)
{
	const struct node *n = mount_node_find(m, attr->ino, attr->generation);
	const struct file *f = n != NULL ? n->file : NULL;

	if (f == NULL || !f->writes || f->blk == NULL) {
		return;
	}
	attr->size_bytes = f->size_bytes;
	if (f->time_dirty && f->modified_ns > attr->modified_ns) {
		attr->modified_ns = f->modified_ns;
		attr->changed_ns =
			f->modified_ns > attr->changed_ns ? f->modified_ns : attr->changed_ns;
	}
}

/* ---- getattr ---- */

static void forgotten(struct mreq *r, int result)
{
	(void)result;
	mount_reply_attr(r, &r->want);
}

static void got_attr(struct mreq *r, int result)
{
	const struct csv_attr *attr = &r->ask.op.attr;
	struct file *f = r->node->file;

	if (result != 0) {
		mount_reply_err(r, result);
		return;
	}
	/* Somebody else writes what is only read here: what we know of it is old. */
	if (f != NULL && f->blk != NULL && f->writers == 0 && !f->writes &&
	    (attr->size_bytes != f->size_bytes || attr->modified_ns != f->seen_ns)) {
		f->size_bytes = attr->size_bytes;
		f->server_bytes = attr->size_bytes;
		f->seen_ns = attr->modified_ns;
		r->want = *attr;
		file_use(r, f);
		file_recall(r, 0, MOUNT_END, forgotten);
		return;
	}
	mount_reply_attr(r, attr);
}

void mount_getattr(struct mreq *r)
{
	mount_ask_op(r, CSV_OP_GETATTR, got_attr);
}

/* ---- setattr: the size first, then the rest ---- */

static void set_done(struct mreq *r, int result)
{
	result = r->result != 0 ? r->result : result;
	if (result != 0) {
		mount_reply_err(r, result);
	} else {
		mount_reply_attr(r, &r->want);
	}
}

/* All is done; what was opened for it is closed. */
static void set_end(struct mreq *r, int result)
{
	r->result = result;
	if (r->holds) {
		r->holds = false;
		file_drop(r, true, set_done);
	} else {
		set_done(r, 0);
	}
}

static void set_rest_done(struct mreq *r, int result)
{
	if (result == 0) {
		r->want = r->ask.op.attr;
	}
	set_end(r, result);
}

static void set_rest(struct mreq *r, int result)
{
	struct csv_op *op = &r->ask.op;
	struct csv_attr want = r->want;

	if (result != 0) {
		set_end(r, result);
		return;
	}
	mount_op_begin(r, CSV_OP_SETATTR);
	op->mask = ((r->set & MOUNT_SET_MODE) != 0 ? CSV_SET_MODE : 0) |
	           ((r->set & MOUNT_SET_UID) != 0 ? CSV_SET_UID : 0) |
	           ((r->set & MOUNT_SET_GID) != 0 ? CSV_SET_GID : 0) |
	           ((r->set & (MOUNT_SET_MTIME | MOUNT_SET_MTIME_NOW)) != 0 ? CSV_SET_MODIFIED : 0);
	op->mode = want.mode;
	op->uid = want.uid;
	op->gid = want.gid;
	op->modified_ns = (r->set & MOUNT_SET_MTIME_NOW) != 0 ? clock_wall_ns() : want.modified_ns;
	if (op->mask == 0) {
		op->type = CSV_OP_GETATTR;
	}
	mount_ask(r, CSV_MOUNT_OP, set_rest_done);
}

static void set_size_held(struct mreq *r, int result)
{
	if (result != 0) {
		set_done(r, result);
		return;
	}
	r->holds = true;
	file_truncate(r, r->want.size_bytes, set_rest);
}

/* What was written before has its own time: it must not come after the one that is set. */
static void set_time_synced(struct mreq *r, int result)
{
	file_unlock(r);
	if (result == 0) {
		r->file->time_dirty = false;
	}
	set_rest(r, result);
}

static void set_time_locked(struct mreq *r, int result)
{
	(void)result;
	file_sync(r, false, set_time_synced);
}

void mount_set_attr(struct mreq *r)
{
	struct file *f = r->node->file;

	if ((r->set & MOUNT_SET_SIZE) != 0) {
		if (r->want.size_bytes > MOUNT_SIZE_MAX) {
			mount_reply_err(r, -EFBIG);
			return;
		}
		file_hold(r, true, set_size_held);
		return;
	}
	if ((r->set & (MOUNT_SET_MTIME | MOUNT_SET_MTIME_NOW)) != 0 && f != NULL &&
	    f->blk != NULL && f->writers != 0) {
		file_use(r, f);
		file_lock(r, MOUNT_SIZE_LOCK, MOUNT_END, false, set_time_locked);
		return;
	}
	set_rest(r, 0);
}

/* ---- statfs ---- */

static void got_stat(struct mreq *r, int result)
{
	if (result != 0) {
		mount_reply_err(r, result);
	} else {
		mount_reply_stat(r, &r->ask.op.stat);
	}
}

void mount_statfs(struct mreq *r)
{
	mount_op_begin(r, CSV_OP_STATFS);
	mount_ask(r, CSV_MOUNT_OP, got_stat);
}
