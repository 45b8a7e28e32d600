/* SPDX-License-Identifier: Apache-2.0 */

/* op - what the kernel asks: a request finds its node, is checked and goes to whoever does it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/shared_file.h"
#include "csv/mount/fuse_int.h"
#include "csv/mount/mount_int.h"

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

const struct fuse_lowlevel_ops mount_fuse_ops = {
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
