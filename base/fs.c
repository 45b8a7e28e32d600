/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"

/* ---- reading ---- */

/* Up to @room bytes. Returns how many; -errno. */
static ssize_t fs_read_some(int fd, char *buf, size_t room)
{
	ssize_t n;

	if (fault_io() != 0) {
		return -EIO;
	}
	do {
		n = read(fd, buf, room);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int fs_read_fd(int fd, size_t bytes_max, char **out, size_t *len)
{
	size_t room = 4096; /* the size that stat() tells may be old, and is 0 in /proc */
	size_t used = 0;
	char *buf = NULL;
	int err = 0;

	for (;;) {
		char *bigger = gw_realloc_array(buf, room + 1, 1);

		if (bigger == NULL) {
			err = -ENOMEM;
			break;
		}
		buf = bigger;

		ssize_t n = fs_read_some(fd, buf + used, room - used);

		if (n < 0) {
			err = (int)n;
			break;
		}
		used += (size_t)n;
		if (used > bytes_max) {
			err = -EFBIG;
			break;
		}
		if (n == 0) {
			buf[used] = '\0';
			*out = buf;
			*len = used;
			return 0;
		}
		if (used == room) {
			room *= 2;
		}
	}
	free(buf);
	return err;
}

int fs_read(const char *path, size_t bytes_max, char **out, size_t *len, struct errbuf *eb)
{
	struct stat st;
	int err = 0;
	int fd;

	*out = NULL;
	*len = 0;
	/* Not blocking: a pipe must not hang us before we see that it is one. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		return errbuf_sys(eb, -errno, "open %s", path);
	}
	if (fstat(fd, &st) != 0) {
		err = errbuf_sys(eb, -errno, "stat %s", path);
		goto close_fd;
	}
	if (!S_ISREG(st.st_mode)) {
		err = errbuf_set(eb, -EINVAL, "%s is not a regular file", path);
		goto close_fd;
	}
	err = fs_read_fd(fd, bytes_max, out, len);
	if (err == -EFBIG) {
		(void)errbuf_set(eb, err, "%s has more than %zu bytes", path, bytes_max);
	} else if (err != 0) {
		(void)errbuf_sys(eb, err, "read %s", path);
	}
close_fd:
	(void)close(fd);
	return err;
}

/* ---- writing ---- */

static int fs_write_fd(int fd, const char *data, size_t len)
{
	while (len != 0) {
		int err = fault_io();
		ssize_t n = err != 0 ? err : write(fd, data, len);

		if (err == 0 && n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return err != 0 ? err : -errno;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The folder that @path lies in, "." if it says none. */
static int fs_parent(const char *path, char dir[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash == NULL ? 1 : (size_t)(slash - path);

	if (len >= PATH_MAX) {
		return -ENAMETOOLONG;
	}
	if (slash == NULL) {
		dir[0] = '.';
	} else if (len == 0) {
		dir[0] = '/';
		len = 1;
	} else {
		memcpy(dir, path, len);
	}
	dir[len] = '\0';
	return 0;
}

int fs_sync_dir(const char *path, struct errbuf *eb)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (fd < 0) {
		return errbuf_sys(eb, -errno, "open %s", path);
	}
	if (fault_io() != 0) {
		err = -EIO;
	} else if (fsync(fd) != 0) {
		err = -errno;
	}
	(void)close(fd);
	return err == 0 ? 0 : errbuf_sys(eb, err, "sync %s", path);
}

/* The content, the mode and the sync, in the new file. */
static int fs_write_temporary(int fd, const void *data, size_t len, mode_t mode)
{
	int err = fs_write_fd(fd, data, len);

	if (err == 0 && fchmod(fd, mode) != 0) {
		err = -errno;
	}
	if (err == 0) {
		err = fault_io();
	}
	if (err == 0 && fsync(fd) != 0) {
		err = -errno;
	}
	return err;
}

int fs_write(const char *path, const void *data, size_t len, mode_t mode, struct errbuf *eb)
{
	char dir[PATH_MAX];
	char temporary[PATH_MAX];
	int err = fs_parent(path, dir);

	if (err == 0 && snprintf(temporary, sizeof(temporary), "%s.new-XXXXXX", path) >=
	                        (int)sizeof(temporary)) {
		err = -ENAMETOOLONG;
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "write %s", path);
	}

	int fd = mkostemp(temporary, O_CLOEXEC);

	if (fd < 0) {
		return errbuf_sys(eb, -errno, "create a file beside %s", path);
	}
	err = fs_write_temporary(fd, data, len, mode);
	if (close(fd) != 0 && err == 0) {
		err = -errno;
	}
	if (err == 0 && rename(temporary, path) != 0) {
		err = -errno;
	}
	if (err != 0) {
		(void)unlink(temporary);
		return errbuf_sys(eb, err, "write %s", path);
	}
	return fs_sync_dir(dir, eb);
}

bool fs_may_wait(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == FUSE_SUPER_MAGIC;
}

int fs_mkdirs(const char *path, mode_t mode, struct errbuf *eb)
{
	char part[PATH_MAX];
	size_t len = strlen(path);
	struct stat st;

	if (len == 0 || len >= sizeof(part)) {
		return errbuf_sys(eb, len == 0 ? -ENOENT : -ENAMETOOLONG, "make folder %s", path);
	}
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0') {
			continue;
		}
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, mode) != 0 && errno != EEXIST) {
			return errbuf_sys(eb, -errno, "make folder %s", part);
		}
	}
	if (stat(path, &st) != 0) {
		return errbuf_sys(eb, -errno, "make folder %s", path);
	}
	return S_ISDIR(st.st_mode) ? 0 : errbuf_set(eb, -ENOTDIR, "%s is not a folder", path);
}
