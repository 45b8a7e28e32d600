/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/uring.h"
#include "csv/check/csv_check.h"
#include "csv/local/csv_local.h"

#define CACHE_DEFAULT 4096u

struct local_io {
	struct uring_op op;
	struct csv_local *l;
	uint32_t id;
	uint32_t bytes;
	bool busy;
};

struct csv_local {
	struct csv_local_cfg cfg;
	struct csv_super super;
	struct csv_meta *meta; /* owned */
	int fd;                /* owned */
	uint8_t *page;         /* owned: aligned, for opening */
	uint64_t size_bytes;
	uint64_t handles;
	uint64_t leases;
	struct local_io io[CSV_META_IO_MAX];
	struct uring_op kick;
	bool kicked;
	struct list done; /* struct csv_mount_ask.op.link: answered without csv_meta */
};

/* ---- the device, while opening ---- */

static int disk_read(void *arg, uint64_t block, uint32_t count, void *buf)
{
	const struct csv_local *l = arg;

	for (uint32_t i = 0; i < count; i++) {
		ssize_t n = pread(l->fd, l->page, CSV_BLOCK_BYTES,
		                  (off_t)((block + i) * CSV_BLOCK_BYTES));

		if (n != (ssize_t)CSV_BLOCK_BYTES) {
			return n < 0 ? -errno : -EIO;
		}
		memcpy((uint8_t *)buf + (size_t)i * CSV_BLOCK_BYTES, l->page, CSV_BLOCK_BYTES);
	}
	return 0;
}

static int disk_write(void *arg, uint64_t block, uint32_t count, const void *buf)
{
	const struct csv_local *l = arg;

	for (uint32_t i = 0; i < count; i++) {
		ssize_t n;

		memcpy(l->page, (const uint8_t *)buf + (size_t)i * CSV_BLOCK_BYTES,
		       CSV_BLOCK_BYTES);
		n = pwrite(l->fd, l->page, CSV_BLOCK_BYTES, (off_t)((block + i) * CSV_BLOCK_BYTES));
		if (n != (ssize_t)CSV_BLOCK_BYTES) {
			return n < 0 ? -errno : -EIO;
		}
	}
	return 0;
}

static int disk_flush(void *arg)
{
	const struct csv_local *l = arg;

	return fdatasync(l->fd) != 0 ? -errno : 0;
}

static int open_device(struct csv_local *l, struct errbuf *eb)
{
	struct stat st;

	l->fd = open(l->cfg.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (l->fd < 0 && errno == EINVAL) {
		l->fd = open(l->cfg.path, O_RDWR | O_CLOEXEC); /* tmpfs */
	}
	if (l->fd < 0 || fstat(l->fd, &st) != 0) {
		return errbuf_sys(eb, -errno, "%s", l->cfg.path);
	}
	if (flock(l->fd, LOCK_EX | LOCK_NB) != 0) {
		return errno == EWOULDBLOCK
		               ? errbuf_set(eb, -EBUSY, "%s: another process has it mounted",
		                            l->cfg.path)
		               : errbuf_sys(eb, -errno, "%s: lock", l->cfg.path);
	}
	if (S_ISREG(st.st_mode)) {
		l->size_bytes = (uint64_t)st.st_size;
		return 0;
	}
	if (ioctl(l->fd, BLKGETSIZE64, &l->size_bytes) != 0) {
		return errbuf_sys(eb, -errno, "%s: size", l->cfg.path);
	}
	return 0;
}

static int open_volume(struct csv_local *l, struct errbuf *eb)
{
	const struct csv_check_disk disk = {
		.read = disk_read,
		.write = disk_write,
		.flush = disk_flush,
		.arg = l,
		.size_bytes = l->size_bytes,
	};
	struct csv_meta_cfg cfg = {
		.super = &l->super,
		.quiet = true,
		.cache_blocks = l->cfg.cache_blocks != 0 ? l->cfg.cache_blocks : CACHE_DEFAULT,
	};
	int err = csv_check_super(&disk, &l->super, NULL, eb);

	if (err == 0) {
		err = csv_meta_create(&cfg, &l->meta, eb);
	}
	if (err == 0) {
		err = csv_check_drive(l->meta, &disk, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", l->cfg.path);
		return err;
	}
	csv_meta_reap(l->meta);
	return 0;
}

static void destroy(struct csv_local *l)
{
	csv_meta_destroy(l->meta);
	if (l->fd >= 0) {
		(void)close(l->fd);
	}
	free(l->page);
	free(l);
}

int csv_local_open(const struct csv_local_cfg *cfg, struct csv_local **out, struct errbuf *eb)
{
	struct csv_local *l = gw_calloc(1, sizeof(*l));
	int err;

	*out = NULL;
	if (l == NULL) {
		return errbuf_sys(eb, -ENOMEM, "volume");
	}
	l->cfg = *cfg;
	l->fd = -1;
	list_init(&l->done);
	l->page = aligned_alloc(CSV_BLOCK_BYTES, CSV_BLOCK_BYTES);
	if (l->page == NULL) {
		destroy(l);
		return errbuf_sys(eb, -ENOMEM, "volume");
	}
	err = open_device(l, eb);
	if (err == 0) {
		err = open_volume(l, eb);
	}
	if (err != 0) {
		destroy(l);
		return err;
	}
	l->cfg.path = NULL;
	*out = l;
	return 0;
}

/* ---- driving ---- */

static void pump(struct csv_local *l);

static void kicked(struct uring_op *op, int32_t res, bool more)
{
	struct csv_local *l = op->arg;

	(void)res;
	(void)more;
	l->kicked = false;
	pump(l);
}

static void kick(struct csv_local *l)
{
	if (!l->kicked) {
		l->kicked = true;
		l->kick = (struct uring_op){.fn = kicked, .arg = l};
		uring_defer(l->cfg.ring, &l->kick, 0);
	}
}

static void io_done(struct uring_op *op, int32_t res, bool more)
{
	struct local_io *io = op->arg;
	struct csv_local *l = io->l;

	(void)more;
	io->busy = false;
	if (res >= 0 && (uint32_t)res != io->bytes) {
		res = -EIO;
	}
	csv_meta_io_done(l->meta, io->id, res < 0 ? res : 0);
	kick(l);
}

static void start_io(struct csv_local *l, const struct csv_io *what)
{
	struct uring *ring = l->cfg.ring;
	uint64_t at = what->block * CSV_BLOCK_BYTES;
	struct local_io *io = NULL;
	int err = 0;

	for (uint32_t i = 0; i < CSV_META_IO_MAX && io == NULL; i++) {
		io = l->io[i].busy ? NULL : &l->io[i];
	}
	CHECK(io != NULL);
	*io = (struct local_io){
		.op = {.fn = io_done, .arg = io},
		.l = l,
		.id = what->id,
		.bytes = what->count * CSV_BLOCK_BYTES,
		.busy = true,
	};
	switch (what->op) {
	case CSV_IO_READ:
		err = uring_prep_read(ring, &io->op, l->fd, what->buf, io->bytes, at);
		break;
	case CSV_IO_WRITE:
		err = uring_prep_write(ring, &io->op, l->fd, what->buf, io->bytes, at);
		break;
	case CSV_IO_FLUSH:
		io->bytes = 0;
		err = uring_prep_fsync(ring, &io->op, l->fd, true);
		break;
	}
	if (err != 0) {
		uring_defer(ring, &io->op, err); /* the ring takes nothing: a failed device */
	}
}

static void answer(struct csv_local *l, struct csv_mount_ask *ask);

/* Not from inside ask(): from the ring's dispatch. */
static void pump(struct csv_local *l)
{
	struct csv_op *op;
	struct csv_io io;

	for (struct list *link = list_pop(&l->done); link != NULL; link = list_pop(&l->done)) {
		struct csv_op *done = list_entry(link, struct csv_op, link);

		csv_mount_answer(container_of(done, struct csv_mount_ask, op), done->result, NULL);
	}
	while (csv_meta_next_io(l->meta, &io)) {
		start_io(l, &io);
	}
	for (op = csv_meta_completed(l->meta); op != NULL; op = csv_meta_completed(l->meta)) {
		answer(l, op->arg);
	}
}

/* ---- asks ---- */

/* What csv_meta said, cut to what was asked for. */
static void lease_of(const struct csv_mount_ask *ask, struct csv_layout_lease *out)
{
	const struct csv_op *op = &ask->op;
	uint32_t last = op->extents_count;

	if (ask->allocate) {
		out->to_bytes = ask->from_bytes + op->count * CSV_BLOCK_BYTES;
	}
	if (last == CSV_LAYOUT_EXTENTS_MAX) {
		const struct csv_extent *e = &op->extents[last - 1];
		uint64_t end = (e->file_block + e->count) * CSV_BLOCK_BYTES;

		out->to_bytes = end < out->to_bytes ? end : out->to_bytes;
	}
	for (uint32_t i = 0; i < op->extents_count; i++) {
		const struct csv_extent *e = &op->extents[i];
		uint64_t at = e->file_block * CSV_BLOCK_BYTES;
		uint64_t end = at + (uint64_t)e->count * CSV_BLOCK_BYTES;
		uint64_t from = at > out->from_bytes ? at : out->from_bytes;
		uint64_t to = end < out->to_bytes ? end : out->to_bytes;

		if (from < to) {
			out->extents[out->extents_count++] = (struct csv_layout_extent){
				.file_bytes = from,
				.device_bytes = e->disk_block * CSV_BLOCK_BYTES + (from - at),
				.length_bytes = to - from,
				.unwritten = e->unwritten,
			};
		}
	}
}

static void answer_layout(struct csv_local *l, struct csv_mount_ask *ask)
{
	struct csv_layout_lease lease = {
		.term = csv_meta_term(l->meta),
		.ino = ask->op.ino,
		.generation = ask->op.generation,
		.handle = ask->handle,
		.number = ++l->leases,
		.token = ask->op.attr.token,
		.expires_ns = UINT64_MAX,
		.from_bytes = ask->from_bytes,
		.to_bytes = ask->to_bytes,
		.write = ask->write,
	};
	int result = ask->op.result;

	if (result == 0 && ask->allocate && ask->op.count == 0) {
		result = -ENOSPC;
	}
	if (result == 0) {
		lease_of(ask, &lease);
	}
	free(ask->op.extents);
	ask->op.extents = NULL;
	csv_mount_answer(ask, result, result == 0 ? &lease : NULL);
}

static void answer(struct csv_local *l, struct csv_mount_ask *ask)
{
	if (ask->what == CSV_MOUNT_LAYOUT) {
		answer_layout(l, ask);
		return;
	}
	if (ask->what == CSV_MOUNT_OPEN && ask->op.result == 0) {
		ask->handle = ++l->handles;
	}
	csv_mount_answer(ask, ask->op.result, NULL);
}

static void answer_later(struct csv_local *l, struct csv_mount_ask *ask, int result)
{
	ask->op.result = result;
	list_add_tail(&l->done, &ask->op.link);
}

void csv_local_ask(void *arg, struct csv_mount_ask *ask)
{
	struct csv_local *l = arg;
	struct csv_op *op = &ask->op;

	op->arg = ask;
	kick(l);
	switch (ask->what) {
	case CSV_MOUNT_OP:
		break;
	case CSV_MOUNT_OPEN:
		op->type = CSV_OP_OPEN;
		break;
	case CSV_MOUNT_CLOSE:
		op->type = CSV_OP_CLOSE;
		break;
	case CSV_MOUNT_LAYOUT:
		op->type = ask->allocate ? CSV_OP_EXTEND : CSV_OP_MAP;
		op->block = ask->from_bytes / CSV_BLOCK_BYTES;
		op->count = (ask->to_bytes - ask->from_bytes) / CSV_BLOCK_BYTES;
		op->extents = gw_calloc(CSV_LAYOUT_EXTENTS_MAX, sizeof(*op->extents));
		op->extents_max = CSV_LAYOUT_EXTENTS_MAX;
		if (op->extents == NULL) {
			answer_later(l, ask, -ENOMEM);
			return;
		}
		break;
	case CSV_MOUNT_RETURN:
		answer_later(l, ask, 0);
		return;
	}
	csv_meta_submit(l->meta, op);
}

void csv_local_rights(void *arg, uint64_t ino, struct csv_data_rights *out)
{
	(void)arg;
	(void)ino;
	*out = (struct csv_data_rights){.until_ns = UINT64_MAX};
}

int csv_local_fd(const struct csv_local *l)
{
	return l->fd;
}

const struct csv_super *csv_local_super(const struct csv_local *l)
{
	return &l->super;
}

const struct csv_meta *csv_local_meta(const struct csv_local *l)
{
	return l->meta;
}

/* ---- the end ---- */

static bool is_busy(const struct csv_local *l)
{
	for (uint32_t i = 0; i < CSV_META_IO_MAX; i++) {
		if (l->io[i].busy) {
			return true;
		}
	}
	return l->kicked;
}

int csv_local_close(struct csv_local *l, struct errbuf *eb)
{
	int status;

	if (l == NULL) {
		return 0;
	}
	csv_meta_close(l->meta);
	kick(l);
	do {
		CHECK(uring_wait(l->cfg.ring, UINT64_MAX) >= 0);
		status = csv_meta_status(l->meta, eb);
	} while (is_busy(l) || status == -EINPROGRESS);
	destroy(l);
	return status == -ESHUTDOWN ? 0 : status;
}
