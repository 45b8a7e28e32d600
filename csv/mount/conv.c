/* SPDX-License-Identifier: Apache-2.0 */

/* conv - what the kernel says in what the volume says, and back: functions without state. */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "csv/mount/mount_int.h"

#define AHEAD_MAX (64ull << 20)

int mount_errno(int result)
{
	switch (-result) {
	case EUCLEAN: /* damaged: EIO is what programs know */
	case EPROTO:
	case EBADMSG:
		return EIO;
	case EDQUOT:
		return ENOSPC;
	case EUSERS:
	case EAGAIN: /* nobody here has asked not to wait */
		return EBUSY;
	case EINPROGRESS:
	case EALREADY:
		return EIO;
	default:
		return result < 0 ? -result : 0;
	}
}

int mount_name(const char *name, char *out, uint32_t *len)
{
	size_t n = strlen(name);
	int err = csv_name_check(name, n);

	if (err == 0) {
		memcpy(out, name, n + 1);
		*len = (uint32_t)n;
	}
	return err;
}

/*
 * A cookie is a hash of 56 bits and 8 bits that tell collisions apart. The kernel's offsets are
 * signed: one of these bits goes, which would take 128 names of one hash to be missed.
 */
uint64_t mount_dir_offset(uint64_t cookie)
{
	uint64_t low = (cookie & 0xff) < 0x7f ? cookie & 0xff : 0x7f;
	uint64_t offset = cookie >> 8 << 7 | low;

	return offset > 2 ? offset : 3;
}

uint64_t mount_dir_cookie(uint64_t offset)
{
	return offset <= 2 ? 0 : offset >> 7 << 8 | (offset & 0x7f);
}

static struct timespec time_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S),
	};
}

void mount_stat(const struct csv_attr *attr, struct stat *out)
{
	bool dir = attr->kind == CSV_KIND_DIR;

	memset(out, 0, sizeof(*out));
	out->st_ino = attr->ino;
	out->st_mode = (attr->mode & 07777u) | (dir ? S_IFDIR : S_IFREG);
	/* 1: nobody counts the directories in a directory, which find(1) would rely on. */
	out->st_nlink = dir ? 1 : attr->links;
	out->st_uid = attr->uid;
	out->st_gid = attr->gid;
	out->st_size = (off_t)(dir ? attr->entries : attr->size_bytes);
	out->st_blocks = (blkcnt_t)(attr->units * (CSV_UNIT_BYTES / 512));
	out->st_blksize = MOUNT_IO_MAX;
	out->st_mtim = time_of(attr->modified_ns);
	out->st_ctim = time_of(attr->changed_ns);
	out->st_atim = out->st_mtim;
}

void mount_statvfs(const struct csv_stat *stat, struct statvfs *out)
{
	uint64_t reserved =
		stat->reserved_units < stat->free_units ? stat->reserved_units : stat->free_units;

	memset(out, 0, sizeof(*out));
	out->f_bsize = MOUNT_IO_MAX;
	out->f_frsize = MOUNT_BLOCK;
	out->f_blocks = stat->units * CSV_UNIT_BLOCKS;
	out->f_bfree = stat->free_units * CSV_UNIT_BLOCKS;
	out->f_bavail = (stat->free_units - reserved) * CSV_UNIT_BLOCKS;
	out->f_files = stat->files + stat->directories + stat->pool_free;
	out->f_ffree = stat->pool_free;
	out->f_favail = stat->pool_free;
	out->f_namemax = CSV_NAME_MAX;
}

int mount_fallocate_check(int mode, uint64_t offset, uint64_t len)
{
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (len == 0) {
		return -EINVAL;
	}
	return offset > MOUNT_SIZE_MAX || len > MOUNT_SIZE_MAX - offset ? -EFBIG : 0;
}

uint64_t mount_ahead(uint64_t at, uint64_t size)
{
	uint64_t unit = at / CSV_UNIT_BYTES * CSV_UNIT_BYTES;
	uint64_t more = CSV_UNIT_BYTES;

	/* A file that grows at its end will go on doing so; by an eighth of what it has. */
	if (at >= size / CSV_UNIT_BYTES * CSV_UNIT_BYTES && size / CSV_UNIT_BYTES >= 8) {
		more = size / 8 / CSV_UNIT_BYTES * CSV_UNIT_BYTES;
		more = more < AHEAD_MAX ? more : AHEAD_MAX;
	}
	return unit + more;
}
