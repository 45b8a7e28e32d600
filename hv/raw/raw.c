/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/raw/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/shared_file.h"
#include "hv/raw/raw_direct.h"
#include "hv/raw/raw_int.h"

static void raw_info(const struct blk *blk, struct blk_info *out)
{
	const struct raw *raw = (const void *)blk; /* its first member */

	*out = (struct blk_info){
		.size_bytes = raw->limits.size_bytes,
		.logical_bytes = raw->limits.logical_bytes,
		.physical_bytes = raw->limits.physical_bytes,
		.discard_bytes = raw->limits.discard_bytes,
		.can_resize = !raw->limits.device && !raw->read_only,
		.read_only = raw->read_only,
		.rotational = raw->limits.rotational,
		.driver = "raw",
	};
}

static int raw_close(struct blk *blk, struct errbuf *eb)
{
	struct raw *raw = container_of(blk, struct raw, blk);

	CHECK(raw->bounce_free_count == RAW_BOUNCE_COUNT && list_empty(&raw->stalled));
	CHECK(!raw->kicked && list_empty(&raw->room.waiting));
	/* Before the right to write goes: who waits for us there must not wait for ever. */
	raw_direct_close(raw->direct, blk->ring);

	/* By hand: a ring lets go of a file some time after its last completion, and until then the
	 * lock would outlive our close() and refuse the next one who opens the file. */
	int err = raw_unlock(raw->fd);

	/* Linux has closed it whatever close() says. */
	err = (close(raw->fd) == 0 || errno == EINTR) && err == 0
	              ? 0
	              : errbuf_sys(eb, -EIO, "raw: close");

	free(raw->bounce_memory);
	free(raw);
	return err;
}

static const struct blk_ops raw_ops = {
	.name = "raw",
	.submit = raw_submit,
	.info = raw_info,
	.close = raw_close,
};

void raw_check(const struct blk *blk)
{
	CHECK(blk->ops == &raw_ops);
}

void raw_get_stats(const struct blk *blk, struct raw_stats *out)
{
	const struct raw *raw = (const void *)blk;

	CHECK(blk->ops == &raw_ops);
	*out = raw->stats;
	out->direct = raw->limits.direct;
}

/* ---- open ---- */

static int raw_open_path(const char *path, bool read_only, struct errbuf *eb)
{
	struct stat st;
	/* Not to be caught by a FIFO; raw_probe() takes the flag off again. The right to write
	 * comes with the lock. */
	int flags = O_CLOEXEC | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR);

	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode) && !read_only) {
		flags |= O_EXCL; /* not while it is mounted or part of something */
	}

	int fd = read_only ? open(path, flags) : shared_file_open(path, flags);

	if (fd >= 0) {
		return fd;
	}

	int err = errbuf_sys(eb, read_only ? -errno : fd, "open");

	if (err == -EBUSY) {
		errbuf_hint(eb, "it is mounted, or part of a RAID or volume group");
	} else if (err == -EACCES || err == -EROFS) {
		errbuf_hint(eb, "check its permissions, or open it read-only");
	}
	return err;
}

/* A descriptor from elsewhere: does it allow what is asked for? */
static int raw_check_fd(const struct raw_cfg *cfg, struct errbuf *eb)
{
	int flags = fcntl(cfg->fd, F_GETFL);

	if (flags < 0) {
		return errbuf_sys(eb, -errno, "descriptor %d", cfg->fd);
	}
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH) != 0) {
		return errbuf_set(eb, -EACCES, "descriptor %d is not readable", cfg->fd);
	}
	if (!cfg->read_only && (flags & O_ACCMODE) != O_RDWR) {
		return errbuf_set(eb, -EACCES, "descriptor %d is not writable", cfg->fd);
	}
	return 0;
}

static void raw_init_zeroes(struct raw *raw)
{
	static const _Alignas(RAW_ZERO_BYTES) uint8_t zeroes[RAW_ZERO_BYTES];
	/* struct iovec has no const; a write only reads. */
	const union {
		const void *from;
		void *base;
	} u = {.from = zeroes};

	for (size_t i = 0; i < RAW_ZERO_IOVS; i++) {
		raw->zero_iov[i] = (struct iovec){.iov_base = u.base, .iov_len = sizeof(zeroes)};
	}
}

static int raw_init_bounce(struct raw *raw)
{
	/* Large, so fresh from the kernel: no memory until it is touched. */
	raw->bounce_memory = gw_malloc(RAW_BOUNCE_COUNT * RAW_BOUNCE_BYTES + RAW_BOUNCE_ALIGN);
	if (raw->bounce_memory == NULL) {
		return -ENOMEM;
	}

	size_t odd = (uintptr_t)raw->bounce_memory % RAW_BOUNCE_ALIGN;
	uint8_t *first = raw->bounce_memory + (RAW_BOUNCE_ALIGN - odd) % RAW_BOUNCE_ALIGN;

	for (size_t i = 0; i < RAW_BOUNCE_COUNT; i++) {
		raw->bounce_free[i] = first + i * RAW_BOUNCE_BYTES;
	}
	raw->bounce_free_count = RAW_BOUNCE_COUNT;
	return 0;
}

static int raw_new(const struct raw_cfg *cfg, int fd, struct uring *ring, struct raw **out,
                   struct errbuf *eb)
{
	struct raw *raw = gw_calloc(1, sizeof(*raw));

	if (raw == NULL || raw_init_bounce(raw) != 0) {
		free(raw);
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}

	int err = cfg->unlocked && cfg->read_only ? 0 : raw_lock(fd, cfg->read_only, eb);

	if (err == 0) {
		err = raw_probe(fd, cfg, &raw->limits, eb);
	}
	if (err != 0) {
		free(raw->bounce_memory);
		free(raw);
		return err;
	}
	blk_init(&raw->blk, &raw_ops, ring);
	raw->fd = fd;
	raw->read_only = cfg->read_only;
	raw->discard = raw->limits.discard_bytes != 0 ? RAW_DISCARD_PUNCH : RAW_DISCARD_NONE;
	raw->keep_allocated = cfg->keep_allocated;
	raw->kick.fn = raw_kicked;
	raw->kick.arg = raw;
	list_init(&raw->bounce_waiting);
	list_init(&raw->stalled);
	list_init(&raw->room.waiting);
	raw_init_zeroes(raw);
	if (cfg->direct_fd != 0 && cfg->read_only) {
		(void)close(cfg->direct_fd); /* only who writes has extents of his own */
	} else if (cfg->direct_fd != 0 && raw_direct_open(raw, cfg->direct_fd) != 0) {
		free(raw->bounce_memory);
		free(raw);
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}
	*out = raw;
	return 0;
}

int raw_open(const struct raw_cfg *cfg, struct uring *ring, struct blk **out, struct errbuf *eb)
{
	struct raw *raw = NULL;
	int fd = cfg->fd;
	int err = 0;

	*out = NULL;
	if (cfg->logical_bytes != 0 && cfg->logical_bytes != 512 && cfg->logical_bytes != 4096) {
		err = errbuf_set(eb, -EINVAL, "sectors of %u bytes: not 512 or 4096",
		                 cfg->logical_bytes);
	} else if (cfg->path != NULL) {
		fd = raw_open_path(cfg->path, cfg->read_only, eb);
		err = fd < 0 ? fd : 0;
	} else {
		err = raw_check_fd(cfg, eb);
	}
	if (err != 0) {
		goto fail;
	}
	err = raw_new(cfg, fd, ring, &raw, eb);
	if (err != 0) {
		if (cfg->path != NULL) {
			(void)close(fd);
		}
		goto fail;
	}
	*out = &raw->blk;
	return 0;

fail:
	if (cfg->path != NULL) {
		errbuf_prepend(eb, "raw: %s", cfg->path);
	} else {
		errbuf_prepend(eb, "raw");
	}
	return err;
}

void raw_release(struct blk *blk)
{
	struct raw *raw = container_of(blk, struct raw, blk);

	CHECK(blk->ops == &raw_ops && blk->in_flight == 0);
	raw->released = true;
	if (raw->direct != NULL) {
		raw_direct_release(raw);
	}
	(void)raw_unlock(raw->fd); /* all is flushed */
}

int raw_retake(struct blk *blk, struct errbuf *eb)
{
	struct raw *raw = container_of(blk, struct raw, blk);
	int err;

	CHECK(blk->ops == &raw_ops);
	if (!raw->released) {
		return 0;
	}
	err = raw_lock(raw->fd, raw->read_only, eb);
	raw->released = err != 0;
	return err;
}

static int raw_open_kept(const char *path, bool read_only, bool lock, struct errbuf *eb)
{
	int fd = raw_open_path(path, read_only, eb);
	int err = fd < 0 ? fd : raw_check_kind(fd, eb);

	if (err == 0 && lock) {
		err = raw_lock(fd, read_only, eb);
	}
	if (err == 0) {
		return fd;
	}
	if (fd >= 0) {
		(void)close(fd);
	}
	errbuf_prepend(eb, "raw: %s", path);
	return err;
}

int raw_open_fd(const char *path, bool read_only, struct errbuf *eb)
{
	return raw_open_kept(path, read_only, true, eb);
}

int raw_open_fd_unlocked(const char *path, bool read_only, struct errbuf *eb)
{
	return raw_open_kept(path, read_only, false, eb);
}

/* ---- create ---- */

static int raw_write_zeroes(int fd, uint64_t size_bytes)
{
	uint8_t *zeroes = gw_calloc(1, RAW_BOUNCE_BYTES);
	uint64_t at = 0;
	int err = zeroes == NULL ? -ENOMEM : 0;

	while (err == 0 && at < size_bytes) {
		uint64_t left = size_bytes - at;
		ssize_t n = pwrite(fd, zeroes, left < RAW_BOUNCE_BYTES ? left : RAW_BOUNCE_BYTES,
		                   (off_t)at);

		if (n > 0) {
			at += (uint64_t)n;
		} else if (n == 0 || errno != EINTR) {
			err = n == 0 ? -EIO : -errno;
		}
	}
	free(zeroes);
	return err;
}

static int raw_allocate(int fd, const struct raw_create_cfg *cfg, struct errbuf *eb)
{
	int err = 0;

	if (ftruncate(fd, (off_t)cfg->size_bytes) != 0) {
		return errbuf_sys(eb, -errno, "size %llu", (unsigned long long)cfg->size_bytes);
	}
	if (cfg->prealloc == RAW_PREALLOC_FULL) {
		err = fallocate(fd, 0, 0, (off_t)cfg->size_bytes) == 0 ? 0 : -errno;
		if (err == -EOPNOTSUPP) {
			err = raw_write_zeroes(fd, cfg->size_bytes);
		}
		if (err != 0) {
			return errbuf_sys(eb, err, "reserving %llu bytes",
			                  (unsigned long long)cfg->size_bytes);
		}
	}
	return fsync(fd) == 0 ? 0 : errbuf_sys(eb, -errno, "fsync");
}

/* A file is durable when its directory is. */
static int raw_sync_directory(const char *path, struct errbuf *eb)
{
	char *copy = gw_strdup(path);

	if (copy == NULL) {
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}

	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) != 0 ? errbuf_sys(eb, -errno, "directory") : 0;

	if (fd >= 0) {
		(void)close(fd);
	}
	free(copy);
	return err;
}

int raw_create(const struct raw_create_cfg *cfg, struct errbuf *eb)
{
	int err;

	if (cfg->size_bytes == 0 || cfg->size_bytes % 512 != 0 || cfg->size_bytes > INT64_MAX) {
		err = errbuf_set(eb, -EINVAL, "size %llu is no multiple of 512 bytes",
		                 (unsigned long long)cfg->size_bytes);
		goto fail;
	}

	int fd = open(cfg->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0) {
		err = errbuf_sys(eb, -errno, "create");
		goto fail;
	}
	err = raw_lock(fd, false, eb); /* before anybody opens what is not ready */
	if (err == 0) {
		err = raw_allocate(fd, cfg, eb);
	}
	if (err == 0) {
		err = raw_sync_directory(cfg->path, eb);
	}
	if (err != 0) {
		(void)unlink(cfg->path);
	}
	(void)close(fd);
	if (err == 0) {
		return 0;
	}
fail:
	errbuf_prepend(eb, "raw: %s", cfg->path);
	return err;
}
