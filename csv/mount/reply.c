/* SPDX-License-Identifier: Apache-2.0 */

/* reply - what the kernel is told, at most once for each request; then the request is free. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "csv/mount/fuse_int.h"
#include "csv/mount/mount_int.h"

/* With cfg.alone, how long the kernel keeps names, and what it does not change itself: a file's
 * space after it was closed. */
#define ALONE_NAME_S 60.0
#define ALONE_ATTR_S 1.0

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
