/* SPDX-License-Identifier: Apache-2.0 */

/*
 * fuse - the door to libfuse (low level): the session's descriptor is watched by the loop, requests
 * are read into our own buffers, so that the data of a write lies on a page and need not be copied.
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/shared_file.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-mount"
#define BATCH 64u /* requests of one turn of the loop */
/* With cfg.alone, how long the kernel keeps names, and what it does not change itself: a file's
 * space after it was closed. */
#define ALONE_NAME_S 60.0
#define ALONE_ATTR_S 1.0

/* ---- requests ---- */

static void interrupted(fuse_req_t req, void *arg)
{
	struct mreq *r = arg;

	(void)req;
	r->interrupted_ns = clock_now_ns();
	mount_tick(r->m);
}

/* A request that is about the node @id. NULL: it was answered. */
static struct mreq *begin(fuse_req_t req, fuse_ino_t id)
{
	struct csv_mount *m = fuse_req_userdata(req);
	struct node *n = mount_node(m, id);
	struct mreq *r = n != NULL ? mount_req_get(m) : NULL;

	if (r == NULL) {
		(void)fuse_reply_err(req, n == NULL ? ESTALE : EBUSY);
		return NULL;
	}
	r->fuse = req;
	mount_use(r, n);
	fuse_req_interrupt_func(req, interrupted, r);
	return r;
}

/* The same, and it changes something. */
static struct mreq *begin_change(fuse_req_t req, fuse_ino_t id)
{
	struct mreq *r = begin(req, id);

	if (r != NULL && r->m->cfg.read_only) {
		mount_reply_err(r, -EROFS);
		return NULL;
	}
	return r;
}

/* The same, with a name in it. */
static struct mreq *begin_name(struct mreq *r, const char *name)
{
	uint32_t len;
	int err;

	if (r == NULL) {
		return NULL;
	}
	err = mount_name(name, r->name, &len);
	if (err != 0) {
		mount_reply_err(r, err);
		return NULL;
	}
	return r;
}

static void begin_fi(struct mreq *r, const struct fuse_file_info *fi)
{
	r->fh = fi != NULL ? fi->fh : 0;
	r->flags = fi != NULL ? (uint32_t)fi->flags : 0;
}

static void set_owner(struct mreq *r, fuse_req_t req, mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	r->want.mode = mode & 07777u; /* the kernel took the umask off */
	r->want.uid = ctx->uid;
	r->want.gid = ctx->gid;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mreq *r = begin_name(begin(req, parent), name);

	if (r != NULL) {
		mount_lookup(r);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t lookups)
{
	struct csv_mount *m = fuse_req_userdata(req);
	struct node *n = mount_node(m, id);

	if (n != NULL) {
		mount_node_forget(m, n, lookups);
	}
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct csv_mount *m = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++) {
		struct node *n = mount_node(m, forgets[i].ino);

		if (n != NULL) {
			mount_node_forget(m, n, forgets[i].nlookup);
		}
	}
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	if (r != NULL) {
		begin_fi(r, fi);
		mount_getattr(r);
	}
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
	static const struct {
		int fuse;
		uint32_t set;
	} sets[] = {
		{FUSE_SET_ATTR_MODE, MOUNT_SET_MODE},
		{FUSE_SET_ATTR_UID, MOUNT_SET_UID},
		{FUSE_SET_ATTR_GID, MOUNT_SET_GID},
		{FUSE_SET_ATTR_SIZE, MOUNT_SET_SIZE},
		{FUSE_SET_ATTR_MTIME, MOUNT_SET_MTIME},
		{FUSE_SET_ATTR_MTIME_NOW, MOUNT_SET_MTIME_NOW},
	};
	struct mreq *r = begin_change(req, id);

	if (r == NULL) {
		return;
	}
	begin_fi(r, fi);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		r->set |= (to_set & sets[i].fuse) != 0 ? sets[i].set : 0;
	}
	r->want.mode = attr->st_mode & 07777u;
	r->want.uid = attr->st_uid;
	r->want.gid = attr->st_gid;
	r->want.size_bytes = attr->st_size < 0 ? UINT64_MAX : (uint64_t)attr->st_size;
	/* The format has no times before 1970. */
	r->want.modified_ns = attr->st_mtim.tv_sec < 0 ? 0
	                                               : (uint64_t)attr->st_mtim.tv_sec * NS_PER_S +
	                                                         (uint64_t)attr->st_mtim.tv_nsec;
	mount_set_attr(r);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                 enum csv_op_type type, const struct fuse_file_info *fi)
{
	struct mreq *r = begin_name(begin_change(req, parent), name);

	if (r != NULL) {
		set_owner(r, req, mode);
		begin_fi(r, fi);
		r->created = fi != NULL;
		mount_create(r, type);
	}
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, mode, CSV_OP_MKDIR, NULL);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)rdev;
	if (!S_ISREG(mode)) {
		(void)fuse_reply_err(req, EPERM);
		return;
	}
	make(req, parent, name, mode, CSV_OP_CREATE, NULL);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
	make(req, parent, name, mode, CSV_OP_CREATE, fi);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link;
	(void)parent;
	(void)name;
	(void)fuse_reply_err(req,
	                     EPERM); /* what link(2) and symlink(2) say of file systems without */
}

static void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
	(void)id;
	(void)parent;
	(void)name;
	(void)fuse_reply_err(req, EPERM);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mreq *r = begin_name(begin_change(req, parent), name);

	if (r != NULL) {
		mount_remove(r, CSV_OP_UNLINK);
	}
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mreq *r = begin_name(begin_change(req, parent), name);

	if (r != NULL) {
		mount_remove(r, CSV_OP_RMDIR);
	}
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2,
                      const char *name2, unsigned int flags)
{
	struct mreq *r = begin_name(begin_change(req, parent), name);
	struct node *n = r != NULL ? mount_node(r->m, parent2) : NULL;
	uint32_t len;
	int err;

	if (r == NULL) {
		return;
	}
	if (n == NULL) {
		mount_reply_err(r, -ESTALE);
		return;
	}
	mount_use2(r, n);
	r->flags = flags;
	err = mount_name(name2, r->name2, &len);
	if (err == 0 && (flags & ~1u) != 0) { /* RENAME_NOREPLACE; no exchange, no whiteouts */
		err = -EINVAL;
	}
	if (err != 0) {
		mount_reply_err(r, err);
		return;
	}
	mount_rename(r);
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	if (r != NULL) {
		begin_fi(r, fi);
		r->writes = (fi->flags & O_ACCMODE) != O_RDONLY;
		r->later = r->writes && (fi->flags & SHARED_FILE_LATER) == SHARED_FILE_LATER;
		if (r->writes && r->m->cfg.read_only) {
			mount_reply_err(r, -EROFS);
			return;
		}
		mount_open(r);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	if (r != NULL) {
		begin_fi(r, fi);
		mount_release(r);
	}
}

/* Data: the handle says that the file is open here. */
static struct mreq *begin_io(fuse_req_t req, fuse_ino_t id, const struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	if (r == NULL) {
		return NULL;
	}
	if (r->node->file == NULL || r->node->file->blk == NULL) {
		mount_reply_err(r, -EBADF);
		return NULL;
	}
	begin_fi(r, fi);
	file_use(r, r->node->file);
	return r;
}

/* The same, and it writes. */
static struct mreq *begin_output(fuse_req_t req, fuse_ino_t id, const struct fuse_file_info *fi)
{
	struct mreq *r = begin_io(req, id, fi);

	if (r != NULL && !hand_writes(r)) {
		mount_reply_err(r, -EBADF);
		return NULL;
	}
	return r;
}

/* NOLINTBEGIN(bugprone-easily-swappable-parameters): libfuse says what they are */
static void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
	struct mreq *r = begin_io(req, id, fi);

	if (r == NULL) {
		return;
	}
	if (offset < 0) {
		mount_reply_err(r, -EINVAL);
		return;
	}
	r->offset = (uint64_t)offset;
	r->len = size < MOUNT_IO_MAX ? size : MOUNT_IO_MAX;
	mount_read(r);
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
	struct mreq *r = begin_output(req, id, fi);
	struct csv_mount *m;

	if (r == NULL) {
		return;
	}
	m = r->m;
	if (offset < 0 || size > MOUNT_IO_MAX || (uint64_t)offset > MOUNT_SIZE_MAX - size) {
		mount_reply_err(r, size > MOUNT_IO_MAX ? -EINVAL : -EFBIG);
		return;
	}
	/* The buffer goes with the request: feed() takes another. */
	CHECK((const uint8_t *)buf == m->receive->base + MOUNT_BLOCK);
	r->slot = m->receive;
	m->receive = NULL;
	r->data = r->slot->base + MOUNT_BLOCK;
	r->offset = (uint64_t)offset;
	r->len = size;
	mount_write(r);
}

static void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mreq *r = begin_io(req, id, fi);

	if (r != NULL) {
		mount_flush(r);
	}
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct mreq *r = begin_io(req, id, fi);

	(void)datasync;
	if (r != NULL) {
		mount_fsync(r);
	}
}

static void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length,
                         struct fuse_file_info *fi)
{
	struct mreq *r = begin_output(req, id, fi);

	if (r == NULL) {
		return;
	}
	if (offset < 0 || length <= 0) {
		mount_reply_err(r, -EINVAL);
		return;
	}
	r->mode = mode;
	r->offset = (uint64_t)offset;
	r->len = (uint64_t)length;
	mount_fallocate(r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence,
                     struct fuse_file_info *fi)
{
	struct mreq *r = begin_io(req, id, fi);

	if (r == NULL) {
		return;
	}
	if (offset < 0) {
		mount_reply_err(r, -ENXIO);
		return;
	}
	r->offset = (uint64_t)offset;
	r->whence = whence;
	mount_lseek(r);
}

/* NOLINTNEXTLINE(readability-function-size): libfuse says how many parameters */
static void op_ioctl(fuse_req_t req, fuse_ino_t id, unsigned int cmd, void *arg,
                     struct fuse_file_info *fi, unsigned int flags, const void *in_buf,
                     size_t in_len, size_t out_len)
{
	bool write = cmd == SHARED_FILE_IOC_TAKE;
	struct mreq *r;

	bool key = cmd == (unsigned int)SHARED_FILE_IOC_KEY && out_len == SHARED_FILE_KEY_BYTES;

	(void)arg;
	(void)in_buf;
	(void)in_len;
	if ((flags & FUSE_IOCTL_DIR) != 0 || (!write && !key && cmd != SHARED_FILE_IOC_YIELD)) {
		(void)fuse_reply_err(req, ENOTTY);
		return;
	}
	r = begin_io(req, id, fi);
	if (r != NULL && key) {
		hand_key(r);
	} else if (r != NULL) {
		r->ioctl = true;
		hand_change(r, write);
	}
}

static void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	(void)fi;
	if (r != NULL) {
		mount_reply_opendir(r);
	}
}

static void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
                       struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	(void)fi;
	if (r != NULL) {
		r->offset = (uint64_t)offset;
		r->len = size;
		mount_readdir(r);
	}
}

/* NOLINTEND(bugprone-easily-swappable-parameters) */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct mreq *r = begin(req, id);

	(void)datasync;
	(void)fi;
	if (r != NULL) {
		mount_reply_err(r, 0); /* operations are durable when they are answered */
	}
}

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct mreq *r = begin(req, id != 0 ? id : FUSE_ROOT_ID);

	if (r != NULL) {
		mount_statfs(r);
	}
}

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	struct csv_mount *m = arg;

	/* Who truncates says so with SETATTR, so that opening is only that. */
	conn->want &=
		~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
	                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_READDIRPLUS |
	                    FUSE_CAP_READDIRPLUS_AUTO);
	conn->want |= conn->capable &
	              (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS);
	conn->max_write = MOUNT_IO_MAX;
	conn->max_background = MOUNT_SLOTS;
	conn->congestion_threshold = MOUNT_SLOTS * 3 / 4;
	conn->time_gran = 1;
	m->mounted = true;
}

static const struct fuse_lowlevel_ops fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.link = op_link,
	.rename = op_rename,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.ioctl = op_ioctl,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
};

/* ---- replies ---- */

static fuse_req_t answer(struct mreq *r)
{
	fuse_req_t req = r->fuse;

	r->fuse = NULL;
	if (req != NULL) {
		fuse_req_interrupt_func(req, NULL, NULL);
	}
	return req;
}

void mount_give_up(struct mreq *r)
{
	(void)fuse_reply_err(answer(r), r->m->stopping ? ENOTCONN : EINTR);
}

void mount_reply_err(struct mreq *r, int result)
{
	fuse_req_t req = answer(r);

	if (req != NULL && r->ioctl && result == 0) {
		(void)fuse_reply_ioctl(req, 0, NULL, 0);
	} else if (req != NULL) {
		(void)fuse_reply_err(req, mount_errno(result));
	}
	mount_req_put(r);
}

void mount_reply_ioctl(struct mreq *r, const void *out, size_t len)
{
	fuse_req_t req = answer(r);

	if (req != NULL) {
		(void)fuse_reply_ioctl(req, 0, out, len);
	}
	mount_req_put(r);
}

/* The node of what is told to the kernel, in @out. */
static struct node *fill_entry(struct mreq *r, const struct csv_attr *attr,
                               struct fuse_entry_param *out)
{
	struct csv_attr merged = *attr;
	struct node *n = mount_node_make(r->m, attr->ino, attr->generation);

	if (n == NULL) {
		return NULL;
	}
	mount_attr_merge(r->m, &merged);
	memset(out, 0, sizeof(*out));
	out->ino = n->id;
	out->generation = attr->generation;
	out->attr_timeout = r->m->cfg.alone ? ALONE_ATTR_S : 0;
	out->entry_timeout = r->m->cfg.alone ? ALONE_NAME_S : 0;
	mount_stat(&merged, &out->attr);
	return n;
}

void mount_reply_entry(struct mreq *r, const struct csv_attr *attr)
{
	struct fuse_entry_param e;
	struct node *n = fill_entry(r, attr, &e);
	fuse_req_t req;

	if (n == NULL) {
		mount_reply_err(r, -ENOMEM);
		return;
	}
	req = answer(r);
	if (req == NULL || fuse_reply_entry(req, &e) != 0) {
		mount_node_forget(r->m, n, 1);
	}
	mount_req_put(r);
}

void mount_reply_attr(struct mreq *r, const struct csv_attr *attr)
{
	struct csv_attr merged = *attr;
	fuse_req_t req = answer(r);
	struct stat st;

	if (req != NULL) {
		mount_attr_merge(r->m, &merged);
		mount_stat(&merged, &st);
		(void)fuse_reply_attr(req, &st, r->m->cfg.alone ? ALONE_ATTR_S : 0);
	}
	mount_req_put(r);
}

/* An open that is held becomes the kernel's. If the kernel does not want it any more, it is
 * given up. @attr: it was made as well. */
void mount_reply_open(struct mreq *r, const struct csv_attr *attr)
{
	struct fuse_file_info fi = {
		.flags = (int)r->flags,
		.fh = r->hand != NULL ? r->hand->id : 0,
		.direct_io = 1,
	};
	struct fuse_entry_param e;
	struct node *n = NULL;
	fuse_req_t req;
	bool taken;

	if (attr != NULL) {
		n = fill_entry(r, attr, &e);
		if (n == NULL) {
			hand_unopen(r, -ENOMEM);
			return;
		}
	}
	req = answer(r);
	taken = req != NULL &&
	        (n != NULL ? fuse_reply_create(req, &e, &fi) : fuse_reply_open(req, &fi)) == 0;
	if (taken) {
		mount_req_put(r);
		return;
	}
	if (n != NULL) {
		mount_node_forget(r->m, n, 1);
	}
	hand_unopen(r, 0);
}

void mount_reply_opendir(struct mreq *r)
{
	const struct fuse_file_info fi = {.direct_io = 1};
	fuse_req_t req = answer(r);

	if (req != NULL) {
		(void)fuse_reply_open(req, &fi);
	}
	mount_req_put(r);
}

void mount_reply_write(struct mreq *r, uint64_t bytes)
{
	fuse_req_t req = answer(r);

	r->m->stats.writes++;
	r->m->stats.write_bytes += bytes;
	if (req != NULL) {
		(void)fuse_reply_write(req, bytes);
	}
	mount_req_put(r);
}

void mount_reply_data(struct mreq *r, const void *buf, size_t len)
{
	fuse_req_t req = answer(r);

	if (req != NULL) {
		(void)fuse_reply_buf(req, buf, len);
	}
	mount_req_put(r);
}

void mount_reply_lseek(struct mreq *r, uint64_t offset)
{
	fuse_req_t req = answer(r);

	if (req != NULL) {
		(void)fuse_reply_lseek(req, (off_t)offset);
	}
	mount_req_put(r);
}

void mount_reply_stat(struct mreq *r, const struct csv_stat *stat)
{
	fuse_req_t req = answer(r);
	struct statvfs st;

	if (req != NULL) {
		mount_statvfs(stat, &st);
		(void)fuse_reply_statfs(req, &st);
	}
	mount_req_put(r);
}

bool mount_add_entry(struct mreq *r, uint8_t *buf, size_t max, size_t *used, const char *name,
                     const struct csv_name *entry, uint64_t offset)
{
	struct stat st = {
		.st_ino = entry != NULL ? entry->ino : r->node->ino,
		.st_mode = entry != NULL && entry->kind == CSV_KIND_FILE ? S_IFREG : S_IFDIR,
	};
	size_t n;

	if (r->fuse == NULL) {
		return false;
	}
	n = fuse_add_direntry(r->fuse, (char *)buf + *used, max - *used, name, &st, (off_t)offset);
	if (n > max - *used) {
		return false;
	}
	*used += n;
	return true;
}

/* ---- requests come in ---- */

static void set_starved(struct csv_mount *m, bool starved)
{
	if (m->starved != starved && m->watch != NULL) {
		m->starved = starved;
		if (loop_fd_mod(m->watch, starved ? 0 : LOOP_READ) != 0) {
			log_err(TAG, "cannot watch its descriptor volume=%s", m->cfg.name);
		}
	}
}

static bool has_room(struct csv_mount *m)
{
	struct list *link;

	if (list_empty(&m->idle)) {
		return false;
	}
	if (m->receive == NULL) {
		link = list_pop(&m->free_slots);
		if (link == NULL) {
			return false;
		}
		m->slots_free--;
		m->receive = list_entry(link, struct slot, link);
	}
	return true;
}

/* Returns false if there is no more for now. */
static bool feed_one(struct csv_mount *m)
{
	/* The data of a write begins where the page does. */
	uint8_t *at = m->receive->base + MOUNT_BLOCK - MOUNT_HEAD_BYTES;
	ssize_t n = read(m->fd, at, MOUNT_IO_MAX + MOUNT_BLOCK);

	if (n > 0) {
		const struct fuse_buf buf = {.mem = at, .size = (size_t)n};

		fuse_session_process_buf(m->se, &buf);
		return !fuse_session_exited(m->se);
	}
	if (n < 0 && (errno == ENOENT || errno == EINTR)) {
		return true; /* what it was is gone */
	}
	if (n == 0 || errno == ENODEV) {
		fuse_session_exit(m->se); /* unmounted */
	} else if (errno != EAGAIN) {
		log_err(TAG, "cannot read requests volume=%s error=%d", m->cfg.name, errno);
		fuse_session_exit(m->se);
	}
	return false;
}

void mount_fuse_feed(struct csv_mount *m)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		if (m->stopping) {
			return;
		}
		if (!has_room(m)) {
			set_starved(m, true);
			return;
		}
		if (!feed_one(m)) {
			break;
		}
	}
	set_starved(m, false);
	if (fuse_session_exited(m->se)) {
		csv_mount_stop(m);
	}
}

static void readable(int fd, uint32_t events, void *arg)
{
	struct csv_mount *m = arg;

	(void)fd;
	(void)events;
	mount_fuse_feed(m);
	mount_submit(m);
}

/* ---- mounting ---- */

/* A mount of ours whose process is gone. */
static void clear_dead(const struct csv_mount *m)
{
	struct stat st;

	for (int i = 0; i < 8 && stat(m->cfg.path, &st) != 0 && errno == ENOTCONN; i++) {
		log_warn(TAG, "removed a dead mount path=%s", m->cfg.path);
		if (umount2(m->cfg.path, MNT_DETACH) != 0) {
			break;
		}
	}
}

static int new_session(struct csv_mount *m, struct errbuf *eb)
{
	char options[256];
	char *argv[] = {(char[]){"godwit"}, (char[]){"-o"}, options, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	int n = snprintf(options, sizeof(options),
	                 "fsname=%s,subtype=godwit,default_permissions,allow_other%s", m->cfg.name,
	                 m->cfg.read_only ? ",ro" : "");

	if (n < 0 || (size_t)n >= sizeof(options)) {
		return errbuf_set(eb, -EINVAL, "the volume's name is too long");
	}
	m->se = fuse_session_new(&args, &fuse_ops, sizeof(fuse_ops), m);
	fuse_opt_free_args(&args);
	return m->se != NULL ? 0 : errbuf_set(eb, -ENOMEM, "libfuse refuses \"%s\"", options);
}

static ssize_t custom_writev(int fd, struct iovec *iov, int count, void *arg)
{
	(void)arg;
	return writev(fd, iov, count);
}

static ssize_t custom_read(int fd, void *buf, size_t len, void *arg)
{
	(void)arg;
	return read(fd, buf, len);
}

static int attach_custom(struct csv_mount *m, struct errbuf *eb)
{
	static const struct fuse_custom_io io = {.writev = custom_writev, .read = custom_read};
	int fd = fcntl(m->cfg.fuse_fd, F_DUPFD_CLOEXEC, 3); /* fuse_session_destroy() closes it */
	int err = fd < 0 ? -errno : fuse_session_custom_io(m->se, &io, fd);

	if (err != 0) {
		if (fd >= 0) {
			(void)close(fd);
		}
		return errbuf_sys(eb, err < 0 ? err : -EIO, "descriptor %d", m->cfg.fuse_fd);
	}
	m->fd = fd;
	return 0;
}

static int attach(struct csv_mount *m, struct errbuf *eb)
{
	int flags;

	if (m->cfg.fuse_fd > 0) {
		return attach_custom(m, eb);
	}
	clear_dead(m);
	if (access("/dev/fuse", R_OK | W_OK) != 0) {
		int err = errbuf_sys(eb, -errno, "/dev/fuse");

		errbuf_hint(eb, "'modprobe fuse', and be root");
		return err;
	}
	errno = 0;
	if (fuse_session_mount(m->se, m->cfg.path) != 0) {
		return errbuf_sys(eb, errno != 0 ? -errno : -EIO, "mount at %s", m->cfg.path);
	}
	m->fd = fuse_session_fd(m->se);
	flags = fcntl(m->fd, F_GETFL);
	if (flags < 0 || fcntl(m->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		return errbuf_sys(eb, -errno, "/dev/fuse");
	}
	return 0;
}

int mount_fuse_open(struct csv_mount *m, struct errbuf *eb)
{
	int err = new_session(m, eb);

	if (err == 0) {
		err = attach(m, eb);
	}
	if (err == 0) {
		err = loop_fd_add(m->cfg.loop, m->fd, LOOP_READ, readable, m, &m->watch);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "/dev/fuse");
		}
	}
	if (err != 0) {
		mount_fuse_close(m);
	}
	return err;
}

void mount_fuse_close(struct csv_mount *m)
{
	loop_fd_del(m->watch);
	m->watch = NULL;
	m->starved = false;
	if (m->se != NULL) {
		fuse_session_exit(m->se);
		fuse_session_unmount(m->se);
	}
	m->fd = -1;
}

void mount_fuse_free(struct csv_mount *m)
{
	if (m->se != NULL) {
		fuse_session_destroy(m->se);
		m->se = NULL;
	}
}
