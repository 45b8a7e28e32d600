/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csv/mount/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/guid.h"
#include "base/loop.h"
#include "tests/lib/test.h"

#define VOLUME_BYTES (64ull << 20)

/* ---- the volume ---- */

static int emit(void *arg, uint64_t block, const void *buf)
{
	const int *fd = arg;

	return pwrite(*fd, buf, CSV_BLOCK_BYTES, (off_t)(block * CSV_BLOCK_BYTES)) < 0 ? -errno : 0;
}

void make_volume(struct kernel *k)
{
	const struct csv_layout_cfg cfg = {.size_bytes = VOLUME_BYTES};
	struct csv_super super = {.term = 1, .created_ns = 1, .label = "test"};
	int fd;

	(void)snprintf(k->device, sizeof(k->device), "/var/tmp/gw-csv-mount-XXXXXX");
	fd = mkstemp(k->device);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)VOLUME_BYTES), 0);
	guid_random(&super.volume);
	assert_int_equal(csv_layout_make(&cfg, &super.layout, NULL), 0);
	assert_int_equal(csv_meta_format(&super, 1, emit, &fd), 0);
	assert_int_equal(close(fd), 0);
}

static void say_failed(struct uring_op *op, int32_t res, bool more)
{
	struct kernel *k = op->arg;
	struct csv_mount_ask *ask = k->failing;

	(void)res;
	(void)more;
	k->failing = NULL;
	csv_mount_answer(ask, -EIO, NULL);
}

static void on_ask(void *arg, struct csv_mount_ask *ask)
{
	struct kernel *k = arg;

	k->opens += ask->what == CSV_MOUNT_OPEN;
	k->layouts += ask->what == CSV_MOUNT_LAYOUT;
	k->returns += ask->what == CSV_MOUNT_RETURN;
	k->converts += ask->what == CSV_MOUNT_OP && ask->op.type == CSV_OP_CONVERT;
	k->closes += ask->what == CSV_MOUNT_CLOSE;
	if (k->fail_convert && ask->what == CSV_MOUNT_OP && ask->op.type == CSV_OP_CONVERT) {
		assert_null(k->failing);
		k->failing = ask;
		k->fail = (struct uring_op){.fn = say_failed, .arg = k};
		uring_defer(k->ring, &k->fail, 0);
		return;
	}
	if (k->hold_convert && ask->what == CSV_MOUNT_OP && ask->op.type == CSV_OP_CONVERT) {
		k->held = ask;
		return;
	}
	if (ask->what == CSV_MOUNT_OPEN && (k->hold_open || k->busy_opens != 0)) {
		k->held = ask;
		return;
	}
	csv_local_ask(k->local, ask);
}

static void on_rights(void *arg, uint64_t ino, struct csv_data_rights *out)
{
	const struct kernel *k = arg;

	csv_local_rights(k->local, ino, out);
}

static void on_stopped(void *arg)
{
	struct kernel *k = arg;

	k->stopped = true;
	loop_stop(k->loop);
}

const struct csv_mount_ops kernel_ops = {
	.ask = on_ask,
	.rights = on_rights,
	.stopped = on_stopped,
};

/* ---- the kernel ---- */

static void completions(int fd, uint32_t events, void *arg)
{
	const struct kernel *k = arg;

	(void)fd;
	(void)events;
	(void)uring_dispatch(k->ring);
	assert_true(uring_submit(k->ring) >= 0);
}

static void on_reply(int fd, uint32_t events, void *arg)
{
	struct kernel *k = arg;
	struct fuse_out_header head;
	ssize_t n = recv(fd, k->reply, sizeof(k->reply), MSG_DONTWAIT);

	(void)events;
	if (n < (ssize_t)sizeof(head)) {
		loop_fd_del(k->replies);
		k->replies = NULL;
		return;
	}
	memcpy(&head, k->reply, sizeof(head));
	assert_int_equal(head.len, n);
	k->answered = head.unique;
	k->error = -head.error;
	k->len = head.len - (uint32_t)sizeof(head);
	memmove(k->reply, k->reply + sizeof(head), k->len);
	loop_stop(k->loop);
}

void send_request(struct kernel *k, uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	struct fuse_in_header head = {
		.len = (uint32_t)(sizeof(head) + len),
		.opcode = opcode,
		.unique = ++k->unique,
		.nodeid = node,
	};
	struct iovec iov[2] = {{.iov_base = &head, .iov_len = sizeof(head)}, {.iov_len = len}};
	uint8_t copy[MESSAGE_MAX];

	if (len != 0) {
		memcpy(copy, body, len);
	}
	iov[1].iov_base = copy;
	assert_int_equal(writev(k->fd, iov, 2), head.len);
}

static void give_up(void *arg)
{
	(void)arg;
	fail_msg("no answer");
}

int wait_for(struct kernel *k, uint64_t unique)
{
	struct loop_timer *limit;

	assert_int_equal(loop_timer_add(k->loop, 60 * NS_PER_S, give_up, k, &limit), 0);
	while (k->answered != unique) {
		loop_run(k->loop);
	}
	loop_timer_del(limit);
	return k->error;
}

int request(struct kernel *k, uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	send_request(k, opcode, node, body, len);
	return wait_for(k, k->unique);
}

/* Let happen what is under way. */
static void turn(void *arg)
{
	loop_stop(arg);
}

void spin(struct kernel *k, uint64_t ns)
{
	struct loop_timer *timer;

	assert_int_equal(loop_timer_add(k->loop, ns, turn, k->loop, &timer), 0);
	loop_run(k->loop);
	loop_timer_del(timer);
}

void start(struct kernel *k)
{
	const struct uring_cfg ring = {.entries = 64, .in_loop = true};
	const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION,
	                                  .minor = 31,
	                                  .max_readahead = 1 << 17,
	                                  .flags = FUSE_ASYNC_READ};
	int pair[2];

	memset(k, 0, sizeof(*k));
	make_volume(k);
	assert_int_equal(loop_create(&k->loop), 0);
	assert_int_equal(uring_create(&ring, &k->ring, NULL), 0);

	const struct csv_local_cfg local = {
		.path = k->device, .ring = k->ring, .cache_blocks = CSV_META_CACHE_MIN};

	assert_int_equal(csv_local_open(&local, &k->local, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
	k->fd = pair[0];

	const struct csv_mount_cfg cfg = {
		.path = "/",
		.name = "test",
		.loop = k->loop,
		.ring = k->ring,
		.ops = &kernel_ops,
		.arg = k,
		.device_fd = csv_local_fd(k->local),
		.root_ino = csv_layout_root(&csv_local_super(k->local)->layout),
		.fuse_fd = pair[1],
		.patience_ns = 20 * NS_PER_MS,
		.slow_ns = 50 * NS_PER_MS,
	};

	assert_int_equal(csv_mount_create(&cfg, &k->mount, NULL), 0);
	(void)close(pair[1]);
	assert_int_equal(
		loop_fd_add(k->loop, uring_fd(k->ring), LOOP_READ, completions, k, &k->watch), 0);
	assert_int_equal(loop_fd_add(k->loop, k->fd, LOOP_READ, on_reply, k, &k->replies), 0);
	assert_int_equal(request(k, FUSE_INIT, 0, &init, sizeof(init)), 0);
}

void stop(struct kernel *k)
{
	csv_mount_stop(k->mount);
	while (!k->stopped) {
		loop_run(k->loop);
	}
	csv_mount_destroy(k->mount);
	loop_fd_del(k->watch);
	loop_fd_del(k->replies);
	assert_int_equal(csv_local_close(k->local, NULL), 0);
	(void)close(k->fd);
	uring_destroy(k->ring);
	loop_destroy(k->loop);
	assert_int_equal(unlink(k->device), 0);
}

/* ---- files ---- */

uint64_t create(struct kernel *k, const char *name, uint64_t *fh)
{
	struct {
		struct fuse_create_in in;
		char name[32];
	} body = {.in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600}};
	struct fuse_entry_out entry;
	struct fuse_open_out open;

	(void)snprintf(body.name, sizeof(body.name), "%s", name);
	assert_int_equal(request(k, FUSE_CREATE, 1, &body, sizeof(body.in) + strlen(name) + 1), 0);
	memcpy(&entry, k->reply, sizeof(entry));
	memcpy(&open, k->reply + sizeof(entry), sizeof(open));
	*fh = open.fh;
	return entry.nodeid;
}

int write_file(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, const char *text)
{
	struct {
		struct fuse_write_in in;
		char text[64];
	} body = {.in = {.fh = fh, .offset = at, .size = (uint32_t)strlen(text)}};

	memcpy(body.text, text, strlen(text));
	return request(k, FUSE_WRITE, node, &body, sizeof(body.in) + strlen(text));
}

int read_file(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, uint32_t len)
{
	const struct fuse_read_in in = {.fh = fh, .offset = at, .size = len};

	return request(k, FUSE_READ, node, &in, sizeof(in));
}

int release(struct kernel *k, uint64_t node, uint64_t fh)
{
	const struct fuse_release_in in = {.fh = fh};

	return request(k, FUSE_RELEASE, node, &in, sizeof(in));
}

int open_file(struct kernel *k, uint64_t node, uint32_t flags, uint64_t *fh)
{
	const struct fuse_open_in in = {.flags = flags};
	int err = request(k, FUSE_OPEN, node, &in, sizeof(in));
	struct fuse_open_out out;

	memcpy(&out, k->reply, sizeof(out));
	*fh = out.fh;
	return err;
}

int ask_file(struct kernel *k, uint64_t node, uint64_t fh, unsigned int what)
{
	const struct fuse_ioctl_in in = {.fh = fh, .cmd = what};

	return request(k, FUSE_IOCTL, node, &in, sizeof(in));
}
