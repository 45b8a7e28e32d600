/* SPDX-License-Identifier: Apache-2.0 */

/*
 * lun_way - one node's way to a shared LUN, that can be cut: LUN as the file "lun" in MOUNT, by
 * FUSE.
 *
 *	lun_way LUN MOUNT CONTROL [FUSE OPTIONS]
 *
 * As long as CONTROL holds "cut" everything ends with EIO, with "gone" with ENOLINK (which says
 * that the way is lost, and nothing else), with "hang" nothing ends; with "deaf" flushes fail.
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME "/lun"
#define POLL_NS 20000000

static const char *control;
static int lun = -1;

static bool control_is(const char *what)
{
	char text[16] = "";
	int fd = open(control, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0) {
		(void)close(fd);
	}
	return n > 0 && strncmp(text, what, strlen(what)) == 0;
}

/* Returns 0; -EIO; -ENOLINK. */
static int pass(bool flush)
{
	const struct timespec poll = {.tv_nsec = POLL_NS};

	while (control_is("hang")) {
		(void)nanosleep(&poll, NULL);
	}
	if (control_is("gone")) {
		return -ENOLINK;
	}
	return control_is("cut") || (flush && control_is("deaf")) ? -EIO : 0;
}

static int way_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, NAME) != 0) {
		return -ENOENT;
	}
	return fstat(lun, st) == 0 ? 0 : -errno;
}

static int way_open(const char *path, struct fuse_file_info *fi)
{
	if (strcmp(path, NAME) != 0) {
		return -ENOENT;
	}
	fi->direct_io = 1;
	return 0;
}

static int way_read(const char *path, char *buf, size_t len, off_t at, struct fuse_file_info *fi)
{
	int err = pass(false);
	ssize_t n = err == 0 ? pread(lun, buf, len, at) : err;

	(void)path;
	(void)fi;
	return err != 0 ? err : n < 0 ? -errno : (int)n;
}

static int way_write(const char *path, const char *buf, size_t len, off_t at,
                     struct fuse_file_info *fi)
{
	int err = pass(false);
	ssize_t n = err == 0 ? pwrite(lun, buf, len, at) : err;

	(void)path;
	(void)fi;
	return err != 0 ? err : n < 0 ? -errno : (int)n;
}

static int way_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	(void)path;
	(void)datasync;
	(void)fi;
	return pass(true);
}

static const struct fuse_operations ops = {
	.getattr = way_getattr,
	.open = way_open,
	.read = way_read,
	.write = way_write,
	.fsync = way_fsync,
};

int main(int argc, char **argv)
{
	if (argc < 4) {
		(void)fprintf(stderr, "usage: lun_way LUN MOUNT CONTROL [OPTIONS]\n");
		return 2;
	}
	control = argv[3];
	lun = open(argv[1], O_RDWR | O_CLOEXEC);
	if (lun < 0) {
		perror(argv[1]);
		return 1;
	}
	/* libfuse takes the rest: its name, MOUNT, options. */
	argv[1] = argv[2];
	for (int i = 4; i <= argc; i++) {
		argv[i - 2] = argv[i];
	}
	return fuse_main(argc - 2, argv, &ops, NULL);
}
