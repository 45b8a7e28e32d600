/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The mount behind a socket pair instead of /dev/fuse: the test is the kernel, and, for what a real
 * volume does not do of itself, the volume.
 */
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
#include "base/fault.h"
#include "base/guid.h"
#include "base/loop.h"
#include "base/uring.h"
#include "csv/local/csv_local.h"
#include "csv/mount/csv_mount.h"
#include "tests/lib/test.h"

#define VOLUME_BYTES (64ull << 20)
#define MESSAGE_MAX (1u << 17)

struct kernel {
	char device[64];
	struct loop *loop;
	struct uring *ring;
	struct loop_fd *watch;
	struct loop_fd *replies;
	struct csv_local *local;
	struct csv_mount *mount;
	int fd;
	uint64_t unique;
	uint64_t answered; /* the request that was waited for */
	int error;
	uint32_t len;
	uint8_t reply[MESSAGE_MAX];
	bool stopped;

	/* The volume's own will. */
	struct csv_mount_ask *held; /* not answered yet */
	bool hold_open;
	bool hold_convert;
	uint32_t busy_opens; /* to be refused */
	uint32_t opens;
	uint32_t returns;
};

/* ---- the volume ---- */

static int emit(void *arg, uint64_t block, const void *buf)
{
	const int *fd = arg;

	return pwrite(*fd, buf, CSV_BLOCK_BYTES, (off_t)(block * CSV_BLOCK_BYTES)) < 0 ? -errno : 0;
}

static void make_volume(struct kernel *k)
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

static void on_ask(void *arg, struct csv_mount_ask *ask)
{
	struct kernel *k = arg;

	k->opens += ask->what == CSV_MOUNT_OPEN;
	k->returns += ask->what == CSV_MOUNT_RETURN;
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

static const struct csv_mount_ops ops = {
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

static void send_request(struct kernel *k, uint32_t opcode, uint64_t node, const void *body,
                         size_t len)
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

static int wait_for(struct kernel *k, uint64_t unique)
{
	struct loop_timer *limit;

	assert_int_equal(loop_timer_add(k->loop, 60 * NS_PER_S, give_up, k, &limit), 0);
	while (k->answered != unique) {
		loop_run(k->loop);
	}
	loop_timer_del(limit);
	return k->error;
}

static int request(struct kernel *k, uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	send_request(k, opcode, node, body, len);
	return wait_for(k, k->unique);
}

/* Let happen what is under way. */
static void turn(void *arg)
{
	loop_stop(arg);
}

static void spin(struct kernel *k, uint64_t ns)
{
	struct loop_timer *timer;

	assert_int_equal(loop_timer_add(k->loop, ns, turn, k->loop, &timer), 0);
	loop_run(k->loop);
	loop_timer_del(timer);
}

static void start(struct kernel *k)
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
		.ops = &ops,
		.arg = k,
		.device_fd = csv_local_fd(k->local),
		.root_ino = csv_layout_root(&csv_local_super(k->local)->layout),
		.fuse_fd = pair[1],
		.patience_ns = 20 * NS_PER_MS,
	};

	assert_int_equal(csv_mount_create(&cfg, &k->mount, NULL), 0);
	(void)close(pair[1]);
	assert_int_equal(
		loop_fd_add(k->loop, uring_fd(k->ring), LOOP_READ, completions, k, &k->watch), 0);
	assert_int_equal(loop_fd_add(k->loop, k->fd, LOOP_READ, on_reply, k, &k->replies), 0);
	assert_int_equal(request(k, FUSE_INIT, 0, &init, sizeof(init)), 0);
}

static void stop(struct kernel *k)
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

static uint64_t create(struct kernel *k, const char *name, uint64_t *fh)
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

static int write_file(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, const char *text)
{
	struct {
		struct fuse_write_in in;
		char text[64];
	} body = {.in = {.fh = fh, .offset = at, .size = (uint32_t)strlen(text)}};

	memcpy(body.text, text, strlen(text));
	return request(k, FUSE_WRITE, node, &body, sizeof(body.in) + strlen(text));
}

static int read_file(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, uint32_t len)
{
	const struct fuse_read_in in = {.fh = fh, .offset = at, .size = len};

	return request(k, FUSE_READ, node, &in, sizeof(in));
}

static int release(struct kernel *k, uint64_t node, uint64_t fh)
{
	const struct fuse_release_in in = {.fh = fh};

	return request(k, FUSE_RELEASE, node, &in, sizeof(in));
}

static int open_file(struct kernel *k, uint64_t node, uint32_t flags, uint64_t *fh)
{
	const struct fuse_open_in in = {.flags = flags};
	int err = request(k, FUSE_OPEN, node, &in, sizeof(in));
	struct fuse_open_out out;

	memcpy(&out, k->reply, sizeof(out));
	*fh = out.fh;
	return err;
}

/* ---- tests ---- */

static void files_are_written_and_read(void **state)
{
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(write_file(k, node, fh, 4090, "across a block"), 0);
	assert_int_equal(read_file(k, node, fh, 4088, 100), 0);
	assert_int_equal(k->len, 16);
	assert_memory_equal(k->reply, "\0\0across a block", 16);
	assert_int_equal(read_file(k, node, fh, 1 << 20, 100), 0);
	assert_int_equal(k->len, 0);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

/* What the kernel never sends, or only when something went wrong before. */
static void odd_requests_are_refused(void **state)
{
	const struct fuse_fallocate_in alloc = {.fh = 1, .length = 4096};
	const struct fuse_lseek_in seek = {.fh = 1};
	const struct fuse_forget_in forget = {.nlookup = UINT64_MAX};
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t node;
	char name[300];

	start(k);
	assert_int_equal(request(k, FUSE_LOOKUP, 77, "x", 2), ESTALE);
	assert_int_equal(request(k, FUSE_LOOKUP, 1, "x", 2), ENOENT);
	memset(name, 'x', sizeof(name));
	name[299] = '\0';
	assert_int_equal(request(k, FUSE_LOOKUP, 1, name, sizeof(name)), ENAMETOOLONG);
	assert_int_equal(request(k, FUSE_LOOKUP, 1, "..", 3), EINVAL);
	assert_int_equal(request(k, FUSE_LOOKUP, 1, "a/b", 4), EINVAL);
	assert_int_equal(request(k, 9999, 1, "x", 2), ENOSYS);
	assert_int_equal(read_file(k, 1, 1, 0, 100), EBADF);
	assert_int_equal(write_file(k, 1, 1, 0, "x"), EBADF);
	assert_int_equal(release(k, 1, 1), EBADF);
	node = create(k, "file", &fh);
	assert_int_equal(read_file(k, node, fh, UINT64_MAX, 100), EINVAL);
	assert_int_equal(read_file(k, node, fh, INT64_MAX, 100), 0);
	assert_int_equal(k->len, 0);
	assert_int_equal(write_file(k, node, fh, UINT64_MAX, "x"), EFBIG);
	assert_int_equal(write_file(k, node, fh, 1ull << 50, "x"), EFBIG);
	assert_int_equal(request(k, FUSE_FALLOCATE, 1, &alloc, sizeof(alloc)), EBADF);
	assert_int_equal(request(k, FUSE_LSEEK, node, &seek, sizeof(seek)), EINVAL); /* SEEK_SET */
	assert_int_equal(release(k, node, 0), EBADF); /* it is not open for reading alone */
	assert_int_equal(release(k, node, fh), 0);
	assert_int_equal(release(k, node, fh), EBADF);
	/* More than were counted; the root stays whatever is forgotten. */
	send_request(k, FUSE_FORGET, node, &forget, sizeof(forget));
	send_request(k, FUSE_FORGET, 1, &forget, sizeof(forget));
	assert_int_equal(request(k, FUSE_GETATTR, node, &(struct fuse_getattr_in){0},
	                         sizeof(struct fuse_getattr_in)),
	                 ESTALE);
	assert_int_equal(request(k, FUSE_LOOKUP, 1, "file", 5), 0);
	stop(k);
}

static void an_open_that_somebody_is_in_the_way_of_is_tried_again(void **state)
{
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(release(k, node, fh), 0);
	k->opens = 0;
	k->busy_opens = 2;
	send_request(k, FUSE_OPEN, node, &(struct fuse_open_in){.flags = O_RDWR},
	             sizeof(struct fuse_open_in));
	while (k->busy_opens != 0) {
		while (k->held == NULL) {
			spin(k, NS_PER_MS);
		}

		struct csv_mount_ask *ask = k->held;

		k->held = NULL;
		k->busy_opens--;
		csv_mount_answer(ask, -EBUSY, NULL);
	}
	assert_int_equal(wait_for(k, k->unique), 0);
	assert_int_equal(k->opens, 3);
	memcpy(&fh, k->reply, sizeof(fh));
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static void who_waits_too_long_may_be_interrupted(void **state)
{
	struct kernel *k = *state;
	struct csv_mount_stats stats;
	uint64_t fh;
	uint64_t node;
	uint64_t open;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(release(k, node, fh), 0);
	k->hold_open = true;
	send_request(k, FUSE_OPEN, node, &(struct fuse_open_in){.flags = O_RDWR},
	             sizeof(struct fuse_open_in));
	open = k->unique;
	while (k->held == NULL) {
		spin(k, NS_PER_MS);
	}
	send_request(k, FUSE_INTERRUPT, 0, &(struct fuse_interrupt_in){.unique = open},
	             sizeof(struct fuse_interrupt_in));
	assert_int_equal(wait_for(k, open), EINTR);
	/* The open comes late, and nobody wants it: it is closed again. */
	k->hold_open = false;
	csv_local_ask(k->local, k->held);
	assert_true(uring_submit(k->ring) >= 0);
	k->held = NULL;
	do {
		spin(k, NS_PER_MS);
		csv_mount_get_stats(k->mount, &stats);
	} while (stats.files != 0 || stats.under_way != 0);
	assert_int_equal(stats.interrupted, 1);
	stop(k);
}

static void leases_come_back_when_others_want_them(void **state)
{
	struct kernel *k = *state;
	struct csv_mount_stats stats;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(write_file(k, node, fh, 0, "fresh"), 0);
	csv_mount_get_stats(k->mount, &stats);
	assert_int_equal(stats.leases, 1);
	csv_mount_recall(k->mount, 12345); /* nobody has it */
	csv_mount_recall(k->mount, 1);
	csv_mount_recall(k->mount, 1);
	do {
		spin(k, NS_PER_MS);
		csv_mount_get_stats(k->mount, &stats);
	} while (stats.leases != 0);
	assert_int_equal(k->returns, 1);
	assert_int_equal(read_file(k, node, fh, 0, 10), 0);
	assert_int_equal(k->len, 5);
	assert_memory_equal(k->reply, "fresh", 5);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static void a_lost_handle_ends_what_uses_it(void **state)
{
	struct kernel *k = *state;
	struct csv_mount_stats stats;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(write_file(k, node, fh, 0, "gone"), 0);
	csv_mount_lost(k->mount, 0);
	assert_int_equal(write_file(k, node, fh, 0, "x"), ESTALE);
	assert_int_equal(read_file(k, node, fh, 0, 10), ESTALE);
	assert_int_equal(request(k, FUSE_FSYNC, node, &(struct fuse_fsync_in){.fh = fh},
	                         sizeof(struct fuse_fsync_in)),
	                 ESTALE);
	assert_int_equal(release(k, node, fh), 0);
	do {
		spin(k, NS_PER_MS);
		csv_mount_get_stats(k->mount, &stats);
	} while (stats.files != 0);
	/* Opened anew it is a file again; what was not flushed is not there. */
	assert_int_equal(open_file(k, node, O_RDWR, &fh), 0);
	assert_int_equal(write_file(k, node, fh, 0, "new"), 0);
	assert_int_equal(read_file(k, node, fh, 0, 10), 0);
	assert_int_equal(k->len, 3);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

/* Somebody else's flush is under way: what it is for is not durable before it ends. */
static void a_flush_waits_for_one_that_came_before(void **state)
{
	struct kernel *k = *state;
	struct fuse_fallocate_in alloc = {.length = 8192};
	struct fuse_fsync_in in = {0};
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	in.fh = fh;
	alloc.fh = fh;
	assert_int_equal(request(k, FUSE_FALLOCATE, node, &alloc, sizeof(alloc)), 0);
	assert_int_equal(write_file(k, node, fh, 0, "durable"), 0);
	k->hold_convert = true;
	send_request(k, FUSE_FSYNC, node, &in, sizeof(in));
	while (k->held == NULL) {
		spin(k, NS_PER_MS);
	}
	k->answered = 0;
	send_request(k, FUSE_FSYNC, node, &in, sizeof(in));
	/* Nothing can be waited for that does not happen: a request that goes round shows that
	 * it was looked at. */
	assert_int_equal(request(k, FUSE_LOOKUP, 1, "none", 5), ENOENT);
	spin(k, 5 * NS_PER_MS);
	assert_int_equal(k->answered, k->unique);
	k->hold_convert = false;
	csv_local_ask(k->local, k->held);
	k->held = NULL;
	assert_true(uring_submit(k->ring) >= 0);
	assert_int_equal(wait_for(k, k->unique - 1), 0);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static void stopping_with_open_files_saves_them(void **state)
{
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(write_file(k, node, fh, 0, "saved"), 0);
	(void)create(k, "other", &fh);
	stop(k); /* csv_local_close() is content: nothing was left open */
}

static void making_it_survives_lack_of_memory(void **state)
{
	struct kernel *k = *state;
	struct csv_mount *mount;
	int pair[2];
	int err;

	start(k);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);

	const struct csv_mount_cfg cfg = {
		.path = "/",
		.name = "second",
		.loop = k->loop,
		.ring = k->ring,
		.ops = &ops,
		.arg = k,
		.device_fd = csv_local_fd(k->local),
		.root_ino = 1,
		.fuse_fd = pair[1],
	};
	struct csv_mount_cfg bad = cfg;

	bad.name = "a,b";
	assert_int_equal(csv_mount_create(&bad, &mount, NULL), -EINVAL);
	for (uint32_t i = 1;; i++) {
		fault_arm(FAULT_ALLOC, i);
		err = csv_mount_create(&cfg, &mount, NULL);
		if (err != -ENOMEM) {
			break;
		}
		assert_null(mount);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(err, 0);
	csv_mount_stop(mount);
	while (!k->stopped) {
		loop_run(k->loop);
	}
	csv_mount_destroy(mount);
	k->stopped = false;
	(void)close(pair[0]);
	(void)close(pair[1]);
	stop(k);
}

static void opening_a_volume_survives_lack_of_memory(void **state)
{
	struct kernel *k = *state;
	struct csv_local_cfg cfg = {.path = "/var/tmp/none/volume"};
	struct csv_local *l;
	int err;

	memset(k, 0, sizeof(*k));
	make_volume(k);
	assert_int_equal(uring_create(&(struct uring_cfg){.entries = 64}, &cfg.ring, NULL), 0);
	assert_int_equal(csv_local_open(&cfg, &l, NULL), -ENOENT);
	cfg.path = k->device;
	cfg.cache_blocks = CSV_META_CACHE_MIN;
	for (uint32_t i = 1;; i++) {
		fault_arm(FAULT_ALLOC, i);
		err = csv_local_open(&cfg, &l, NULL);
		if (err != -ENOMEM) {
			break;
		}
		assert_null(l);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(err, 0);

	struct csv_local *second;

	assert_int_equal(csv_local_open(&cfg, &second, NULL), -EBUSY);
	assert_int_equal(csv_local_close(l, NULL), 0);
	uring_destroy(cfg.ring);
	assert_int_equal(unlink(k->device), 0);
}

static int setup(void **state)
{
	*state = malloc(sizeof(struct kernel));
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_written_and_read),
		cmocka_unit_test(odd_requests_are_refused),
		cmocka_unit_test(an_open_that_somebody_is_in_the_way_of_is_tried_again),
		cmocka_unit_test(who_waits_too_long_may_be_interrupted),
		cmocka_unit_test(leases_come_back_when_others_want_them),
		cmocka_unit_test(a_lost_handle_ends_what_uses_it),
		cmocka_unit_test(a_flush_waits_for_one_that_came_before),
		cmocka_unit_test(stopping_with_open_files_saves_them),
		cmocka_unit_test(making_it_survives_lack_of_memory),
		cmocka_unit_test(opening_a_volume_survives_lack_of_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
