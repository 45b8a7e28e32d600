/* SPDX-License-Identifier: Apache-2.0 */

/* raw_probe - what the storage is: size, sectors, and whether it can go past the page cache. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "hv/raw/raw_int.h"

#define RAW_SECTOR_BYTES 512u
#define RAW_PAGE_BYTES 4096u

static bool raw_is_sector(uint32_t bytes)
{
	return bytes == RAW_SECTOR_BYTES || bytes == RAW_PAGE_BYTES;
}

static int raw_set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0) {
		return -errno;
	}
	flags = on ? flags | O_DIRECT : flags & ~O_DIRECT;
	return fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 ? 0 : -errno;
}

/* Kernels before 6.1 do not tell: try what a sector takes. Returns 0 if not even a page works. */
static uint32_t raw_try_align(int fd, const struct raw_limits *limits)
{
	static const uint32_t sizes[] = {RAW_SECTOR_BYTES, RAW_PAGE_BYTES};
	_Alignas(RAW_PAGE_BYTES) uint8_t page[RAW_PAGE_BYTES];

	if (limits->size_bytes < RAW_PAGE_BYTES) {
		return RAW_PAGE_BYTES; /* nothing to try it on; a page is always enough */
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		if (pread(fd, page, sizes[i], 0) == (ssize_t)sizes[i]) {
			return sizes[i];
		}
	}
	return 0;
}

/* O_DIRECT is on. Returns false if it is of no use. */
static bool raw_find_align(int fd, struct raw_limits *limits)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN) != 0) {
		limits->mem_align = sx.stx_dio_mem_align;
		limits->dio_align = sx.stx_dio_offset_align;
	} else {
		limits->dio_align = raw_try_align(fd, limits);
		limits->mem_align = limits->dio_align;
	}
	return limits->dio_align != 0 && limits->dio_align <= RAW_PAGE_BYTES &&
	       limits->mem_align <= RAW_BOUNCE_ALIGN;
}

static int raw_probe_device(int fd, struct raw_limits *limits, struct errbuf *eb)
{
	unsigned int physical = 0;
	unsigned short rotational = 0;
	int logical = 0;

	limits->device = true;
	if (ioctl(fd, BLKGETSIZE64, &limits->size_bytes) != 0 ||
	    ioctl(fd, BLKSSZGET, &logical) != 0 || ioctl(fd, BLKPBSZGET, &physical) != 0) {
		return errbuf_sys(eb, -errno, "size of the block device");
	}
	limits->logical_bytes = (uint32_t)logical;
	limits->physical_bytes = physical >= RAW_PAGE_BYTES ? RAW_PAGE_BYTES : RAW_SECTOR_BYTES;
	limits->rotational = ioctl(fd, BLKROTATIONAL, &rotational) == 0 && rotational != 0;
	limits->discard_bytes = limits->physical_bytes; /* until it refuses */
	if (!raw_is_sector(limits->logical_bytes)) {
		return errbuf_set(eb, -EINVAL, "sectors of %u bytes are not supported",
		                  limits->logical_bytes);
	}
	return 0;
}

static void raw_probe_file(int fd, const struct stat *st, struct raw_limits *limits)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	limits->size_bytes = (uint64_t)st->st_size;
	limits->logical_bytes = RAW_SECTOR_BYTES;
	limits->physical_bytes = RAW_PAGE_BYTES; /* the page of every file system that matters */
	/* A hole behind the end changes nothing and tells whether there can be holes. */
	if (fallocate(fd, mode, st->st_size, RAW_PAGE_BYTES) == 0) {
		limits->discard_bytes = RAW_PAGE_BYTES;
	}
}

/* Bring together what the storage has, what direct I/O needs and what was asked for. */
static int raw_choose_sector(int fd, const struct raw_cfg *cfg, struct raw_limits *limits,
                             struct errbuf *eb)
{
	uint32_t wanted = cfg->logical_bytes;

	if (limits->device && wanted != 0 && wanted < limits->logical_bytes && limits->direct) {
		limits->direct = false; /* the page cache reads, changes and writes whole sectors */
	}
	if (limits->direct && wanted == 0 && limits->dio_align > limits->logical_bytes &&
	    limits->size_bytes % limits->dio_align == 0) {
		limits->logical_bytes =
			limits->dio_align <= RAW_SECTOR_BYTES ? RAW_SECTOR_BYTES : RAW_PAGE_BYTES;
	}
	if (wanted != 0) {
		limits->logical_bytes = wanted;
	}
	if (limits->direct && limits->dio_align > limits->logical_bytes) {
		limits->direct = false; /* a file of 512-byte sectors on 4096-byte storage */
	}
	if (!limits->direct) {
		int err = raw_set_direct(fd, false);

		if (err != 0) {
			return errbuf_sys(eb, err, "switching O_DIRECT off");
		}
		limits->dio_align = 1;
		limits->mem_align = 1;
	}
	if (limits->physical_bytes < limits->logical_bytes) {
		limits->physical_bytes = limits->logical_bytes;
	}
	if ((limits->size_bytes & (limits->logical_bytes - 1)) != 0) {
		(void)errbuf_set(eb, -EINVAL, "size %llu is no multiple of the sector of %u bytes",
		                 (unsigned long long)limits->size_bytes, limits->logical_bytes);
		errbuf_hint(eb, "truncate -s %%%u FILE adds zeroes up to a whole sector",
		            limits->logical_bytes);
		return -EINVAL;
	}
	return 0;
}

static int raw_stat(int fd, struct stat *st, struct errbuf *eb)
{
	if (fstat(fd, st) != 0) {
		return errbuf_sys(eb, -errno, "fstat");
	}
	if (!S_ISBLK(st->st_mode) && !S_ISREG(st->st_mode)) {
		return errbuf_set(eb, -EINVAL, "neither a file nor a block device");
	}
	return 0;
}

int raw_check_kind(int fd, struct errbuf *eb)
{
	struct stat st;

	return raw_stat(fd, &st, eb);
}

int raw_probe(int fd, const struct raw_cfg *cfg, struct raw_limits *out, struct errbuf *eb)
{
	struct raw_limits limits = {0};
	struct stat st;
	int err = raw_stat(fd, &st, eb);

	if (err == 0 && S_ISBLK(st.st_mode)) {
		err = raw_probe_device(fd, &limits, eb);
	} else if (err == 0) {
		raw_probe_file(fd, &st, &limits);
	}
	if (err != 0) {
		return err;
	}
	if (cfg->keep_allocated || cfg->read_only) {
		limits.discard_bytes = 0;
	}
	if (!cfg->buffered && raw_set_direct(fd, true) == 0) {
		limits.direct = raw_find_align(fd, &limits);
	}
	err = raw_choose_sector(fd, cfg, &limits, eb);
	if (err != 0) {
		return err;
	}
	*out = limits;
	return 0;
}
