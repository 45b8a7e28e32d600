/* SPDX-License-Identifier: Apache-2.0 */

/* disk - a device, or a file that stands for one, on a ring of its own in the daemon's loop. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/loop.h"
#include "csv/daemon/daemon_int.h"

#define RETRY_NS (10 * NS_PER_MS)
#define RING_ENTRIES 64u /* CSV_META_IO_MAX of the coordinator, BOOT_BLOCKS when it is opened */

struct disk {
	int fd; /* owned */
	uint64_t size_bytes;
	struct uring *ring; /* owned */
	struct loop_fd *watch;
	struct loop_timer *retry; /* owned: the kernel did not take what was submitted */
	void (*after)(void *arg);
	void *arg;
};

static void disk_ready(int fd, uint32_t events, void *arg)
{
	struct disk *d = arg;

	(void)fd;
	(void)events;
	(void)uring_dispatch(d->ring);
	d->after(d->arg); /* may close it */
}

static void retry(void *arg)
{
	disk_submit(arg);
}

static int open_device(const char *path, struct errbuf *eb)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	/* A file system without direct I/O will do for a file: who shares it shares its cache. */
	if (fd < 0 && errno == EINVAL && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	return fd < 0 ? errbuf_sys(eb, -errno, "open %s", path) : fd;
}

int disk_open(const char *path, struct loop *loop, void (*after)(void *arg), void *arg,
              struct disk **out, struct errbuf *eb)
{
	struct uring_cfg ring = {.entries = RING_ENTRIES, .in_loop = true};
	struct disk *d = gw_calloc(1, sizeof(*d));
	off_t end;
	int err;

	*out = NULL;
	if (d == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", path);
	}
	d->after = after;
	d->arg = arg;
	d->fd = open_device(path, eb);
	err = d->fd < 0 ? d->fd : 0;
	if (err == 0) {
		ring.apart = fs_may_wait(d->fd);
		end = lseek(d->fd, 0, SEEK_END);
		d->size_bytes = end > 0 ? (uint64_t)end : 0;
		err = uring_create(&ring, &d->ring, eb);
	}
	if (err == 0) {
		err = loop_timer_new(loop, retry, d, &d->retry);
	}
	if (err == 0) {
		err = loop_fd_add(loop, uring_fd(d->ring), LOOP_READ, disk_ready, d, &d->watch);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "%s", path);
		}
	}
	if (err != 0) {
		disk_close(d);
		return err;
	}
	*out = d;
	return 0;
}

void disk_close(struct disk *d)
{
	if (d == NULL) {
		return;
	}
	loop_timer_del(d->retry);
	loop_fd_del(d->watch);
	while (d->ring != NULL && uring_in_flight(d->ring) != 0) {
		CHECK(uring_wait(d->ring, UINT64_MAX) >= 0);
	}
	uring_destroy(d->ring);
	if (d->fd >= 0) {
		(void)close(d->fd);
	}
	free(d);
}

bool disk_is_idle(const struct disk *d)
{
	return d == NULL || uring_in_flight(d->ring) == 0;
}

uint64_t disk_size_bytes(const struct disk *d)
{
	return d->size_bytes;
}

static void done(struct uring_op *uop, int32_t res, bool more)
{
	struct disk_op *op = uop->arg;
	int err = res < 0 ? res : (size_t)res == op->want_bytes ? fault_io() : -EIO;

	(void)more;
	op->fn(op, err);
}

static void prepare(struct disk *d, struct disk_op *op, size_t len)
{
	op->disk = d;
	op->want_bytes = len;
	op->op.fn = done;
	op->op.arg = op;
}

static void started(struct disk *d, struct disk_op *op, int err)
{
	if (err != 0) {
		uring_defer(d->ring, &op->op, err);
	}
}

int disk_fd(const struct disk *d)
{
	return d->fd;
}

void disk_read(struct disk *d, struct disk_op *op, void *buf, size_t len, uint64_t at_bytes)
{
	prepare(d, op, len);
	started(d, op, uring_prep_read(d->ring, &op->op, d->fd, buf, (uint32_t)len, at_bytes));
}

void disk_write(struct disk *d, struct disk_op *op, const void *buf, size_t len, uint64_t at_bytes)
{
	prepare(d, op, len);
	started(d, op, uring_prep_write(d->ring, &op->op, d->fd, buf, (uint32_t)len, at_bytes));
}

void disk_flush(struct disk *d, struct disk_op *op)
{
	prepare(d, op, 0);
	started(d, op, uring_prep_fsync(d->ring, &op->op, d->fd, true));
}

/* What the kernel does not take now stays prepared, and is tried again: perhaps nothing else comes
 * that would take it along. */
void disk_submit(struct disk *d)
{
	if (uring_submit(d->ring) < 0) {
		loop_timer_arm(d->retry, RETRY_NS);
	}
}
