/* SPDX-License-Identifier: Apache-2.0 */

/*
 * fuse - the door to libfuse (low level): the session's descriptor is watched by the loop, requests
 * are read into our own buffers, so that the data of a write lies on a page and need not be copied.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "csv/mount/fuse_int.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-mount"
#define BATCH 64u /* requests of one turn of the loop */

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
	m->se = fuse_session_new(&args, &mount_fuse_ops, sizeof(mount_fuse_ops), m);
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
