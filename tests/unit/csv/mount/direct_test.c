/* SPDX-License-Identifier: Apache-2.0 */

/* Users of open files that do I/O of their own: the test is one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/shared_direct.h"
#include "tests/lib/test.h"
#include "tests/unit/csv/mount/kernel.h"

struct user {
	uint32_t fail; /* allocation of csv_mount_attach(); 0 = none */
	int sock;
	int device;
	int lock;
	const struct shared_direct_page *page;
};

static void key_of(struct kernel *k, uint64_t node, uint64_t fh, uint8_t *key)
{
	const struct fuse_ioctl_in in = {
		.fh = fh,
		.cmd = (uint32_t)SHARED_FILE_IOC_KEY,
		.out_size = SHARED_FILE_KEY_BYTES,
	};

	assert_int_equal(request(k, FUSE_IOCTL, node, &in, sizeof(in)), 0);
	assert_int_equal(k->len, sizeof(struct fuse_ioctl_out) + SHARED_FILE_KEY_BYTES);
	memcpy(key, k->reply + sizeof(struct fuse_ioctl_out), SHARED_FILE_KEY_BYTES);
}

/* The next message; false: the other side is gone. */
static bool hear(struct kernel *k, struct user *u, struct shared_direct_msg *msg,
                 int fds[SHARED_DIRECT_FDS])
{
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < 20000; i++) {
		err = shared_direct_recv(u->sock, msg, fds);
		if (err == -EAGAIN) {
			spin(k, NS_PER_MS);
		}
	}
	assert_true(err == 0 || err == -ENOTCONN);
	return err == 0;
}

static bool hears_nothing(struct kernel *k, struct user *u)
{
	struct shared_direct_msg msg;
	int fds[SHARED_DIRECT_FDS];

	spin(k, 20 * NS_PER_MS);
	return shared_direct_recv(u->sock, &msg, fds) == -EAGAIN;
}

static void say(struct user *u, enum shared_direct_type type, uint32_t seq)
{
	const struct shared_direct_msg msg = {
		.type = type, .seq = seq, .to_bytes = SHARED_DIRECT_RANGE};

	assert_int_equal(shared_direct_send(u->sock, &msg, NULL, 0), 0);
}

static int attach(struct kernel *k, uint64_t node, uint64_t fh, struct user *u)
{
	int lock = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint8_t key[SHARED_FILE_KEY_BYTES];
	struct shared_direct_msg msg;
	int fds[SHARED_DIRECT_FDS];
	int pair[2];
	int err;

	key_of(k, node, fh, key);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	fault_arm(FAULT_ALLOC, u->fail);
	err = csv_mount_attach(k->mount, key, pair[1], lock);
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(close(lock), 0);
	if (err != 0) {
		assert_int_equal(close(pair[0]), 0);
		assert_int_equal(close(pair[1]), 0);
		return err;
	}
	u->sock = pair[0];
	assert_true(hear(k, u, &msg, fds));
	assert_int_equal(msg.type, SHARED_DIRECT_WELCOME);
	u->device = fds[0];
	u->lock = fds[2];
	u->page = mmap(NULL, SHARED_DIRECT_PAGE_BYTES, PROT_READ, MAP_SHARED, fds[1], 0);
	assert_ptr_not_equal(u->page, MAP_FAILED);
	assert_ptr_equal(
		mmap(NULL, SHARED_DIRECT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0),
		MAP_FAILED); /* only its service says how long */
	assert_int_equal(close(fds[1]), 0);
	return 0;
}

static void leave(struct user *u)
{
	const union {
		const struct shared_direct_page *from;
		void *to;
	} page = {.from = u->page};

	assert_int_equal(munmap(page.to, SHARED_DIRECT_PAGE_BYTES), 0);
	if (u->sock >= 0) {
		assert_int_equal(close(u->sock), 0);
	}
	assert_int_equal(close(u->device), 0);
	assert_int_equal(close(u->lock), 0);
}

static bool may(const struct user *u)
{
	return clock_boot_ns() < atomic_load(&u->page->until_ns);
}

/* The page is written at each turn of the loop, for less than a second: that may be late. */
static bool may_soon(struct kernel *k, const struct user *u)
{
	for (int i = 0; !may(u) && i < 20000; i++) {
		spin(k, NS_PER_MS);
	}
	return may(u);
}

static uint32_t ask(struct kernel *k, struct user *u, struct shared_direct_msg *msg)
{
	int fds[SHARED_DIRECT_FDS];

	say(u, SHARED_DIRECT_MAP, 9);
	assert_true(hear(k, u, msg, fds));
	assert_int_equal(msg->type, SHARED_DIRECT_EXTENTS_ARE);
	assert_int_equal(msg->seq, 9);
	return msg->count;
}

static void fsync_file(struct kernel *k, uint64_t node, uint64_t fh)
{
	const struct fuse_fsync_in in = {.fh = fh};

	assert_int_equal(request(k, FUSE_FSYNC, node, &in, sizeof(in)), 0);
}

/* Two blocks, written and flushed, and a user. */
static uint64_t begin(struct kernel *k, uint64_t *fh, struct user *u)
{
	uint64_t node = create(k, "file", fh);

	assert_int_equal(write_file(k, node, *fh, 0, "first"), 0);
	assert_int_equal(write_file(k, node, *fh, 8191, "!"), 0);
	assert_int_equal(attach(k, node, *fh, u), 0);
	return node;
}

static void written_blocks_are_told_and_are_where_they_are_said_to_be(void **state)
{
	struct kernel *k = *state;
	uint8_t *buf = aligned_alloc(4096, 4096);
	struct shared_direct_msg msg;
	struct user u = {0};
	uint64_t fh;
	uint64_t node;

	assert_non_null(buf);
	start(k);
	node = begin(k, &fh, &u);
	assert_int_equal(ask(k, &u, &msg), 0); /* fresh: nobody else would see it */
	fsync_file(k, node, fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	assert_int_equal(msg.extents[0].file_bytes, 0);
	assert_int_equal(msg.extents[0].len_bytes, 8192);
	assert_true(may_soon(k, &u));
	assert_int_equal(pread(u.device, buf, 4096, (off_t)msg.extents[0].device_bytes), 4096);
	assert_memory_equal(buf, "first", 5);
	memset(buf, 'o', 5);
	assert_int_equal(pwrite(u.device, buf, 4096, (off_t)msg.extents[0].device_bytes), 4096);
	assert_int_equal(read_file(k, node, fh, 0, 5), 0);
	assert_memory_equal(k->reply, "ooooo", 5);
	leave(&u);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
	free(buf);
}

static void leases_go_back_when_the_user_says_so_and_not_before(void **state)
{
	const struct fuse_fallocate_in punch = {.fh = 1, .length = 8192, .mode = 3};
	struct fuse_fallocate_in in = punch;
	struct kernel *k = *state;
	struct shared_direct_msg msg;
	int fds[SHARED_DIRECT_FDS];
	struct user u = {0};
	uint64_t fh;
	uint64_t node;

	start(k);
	node = begin(k, &fh, &u);
	fsync_file(k, node, fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	k->returns = 0;
	in.fh = fh;
	send_request(k, FUSE_FALLOCATE, node, &in, sizeof(in));
	assert_true(hear(k, &u, &msg, fds));
	assert_int_equal(msg.type, SHARED_DIRECT_REVOKE);
	say(&u, SHARED_DIRECT_REVOKED, msg.seq + 1); /* of something else */
	assert_true(hears_nothing(k, &u));
	assert_int_equal(k->returns, 0);
	assert_int_not_equal(k->answered, k->unique);
	say(&u, SHARED_DIRECT_REVOKED, msg.seq);
	assert_int_equal(wait_for(k, k->unique), 0);
	assert_true(k->returns != 0);
	assert_int_equal(ask(k, &u, &msg), 0);
	leave(&u);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

/* The kernel has the file locked while it waits for the answer: a user that is dying may wait for
 * that. */
static void who_waits_for_a_user_is_refused_after_a_while(void **state)
{
	const struct fuse_fallocate_in punch = {.length = 8192, .mode = 3};
	const struct fuse_setattr_in cut = {.valid = FATTR_SIZE, .size = 5000};
	struct fuse_fallocate_in in = punch;
	struct kernel *k = *state;
	struct shared_direct_msg msg;
	int fds[SHARED_DIRECT_FDS];
	struct user u = {0};
	uint64_t own;
	uint64_t other;
	uint64_t cutting;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = begin(k, &fh, &u);
	fsync_file(k, node, fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	assert_int_equal(open_file(k, node, O_RDWR, &other), 0);
	in.fh = fh;
	send_request(k, FUSE_FALLOCATE, node, &in, sizeof(in));
	own = k->unique;
	assert_true(hear(k, &u, &msg, fds));
	assert_int_equal(msg.type, SHARED_DIRECT_REVOKE);
	spin(k, 300 * NS_PER_MS);
	assert_int_not_equal(k->answered, own); /* its own is its own business */
	send_request(k, FUSE_INTERRUPT, 0, &(struct fuse_interrupt_in){.unique = own},
	             sizeof(struct fuse_interrupt_in));
	assert_int_equal(wait_for(k, own), EINTR);
	assert_int_equal(request(k, FUSE_SETATTR, node, &cut, sizeof(cut)), EBUSY);
	in.fh = other;
	in.offset = 2;
	in.length = 8190;
	assert_int_equal(request(k, FUSE_FALLOCATE, node, &in, sizeof(in)), EBUSY);
	assert_int_equal(read_file(k, node, fh, 0, 8192), 0);
	assert_int_equal(k->len, 8192); /* nothing has happened */
	assert_memory_equal(k->reply, "first", 5);
	assert_int_equal(k->reply[8191], '!');
	say(&u, SHARED_DIRECT_REVOKED, msg.seq);
	/* What lies behind the new end is made zero first, under a new lease. */
	send_request(k, FUSE_SETATTR, node, &cut, sizeof(cut));
	cutting = k->unique;
	assert_true(hear(k, &u, &msg, fds));
	assert_int_equal(msg.type, SHARED_DIRECT_REVOKE);
	say(&u, SHARED_DIRECT_REVOKED, msg.seq);
	assert_int_equal(wait_for(k, cutting), 0);
	assert_int_equal(read_file(k, node, fh, 0, 8192), 0);
	assert_int_equal(k->len, 5000);
	leave(&u);
	assert_int_equal(release(k, node, other), 0);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

/* As in a move: the user gives all back, then the right to write goes; it comes back. */
static void the_right_to_write_goes_after_the_users(void **state)
{
	struct kernel *k = *state;
	struct shared_direct_msg msg;
	int fds[SHARED_DIRECT_FDS];
	struct user u = {0};
	uint64_t fh;
	uint64_t node;

	start(k);
	node = begin(k, &fh, &u);
	fsync_file(k, node, fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	say(&u, SHARED_DIRECT_RELEASE, 4);
	assert_true(hear(k, &u, &msg, fds));
	assert_int_equal(msg.type, SHARED_DIRECT_RELEASED);
	assert_int_equal(msg.seq, 4);
	assert_int_equal(ask_file(k, node, fh, SHARED_FILE_IOC_YIELD), 0);
	assert_int_equal(ask(k, &u, &msg), 0);
	assert_int_equal(ask_file(k, node, fh, SHARED_FILE_IOC_TAKE), 0);
	assert_int_equal(read_file(k, node, fh, 0, 100), 0);
	assert_int_equal(ask(k, &u, &msg), 1);
	/* One that does not give back of itself is asked, and waited for. */
	send_request(k, FUSE_IOCTL, node,
	             &(struct fuse_ioctl_in){.fh = fh, .cmd = SHARED_FILE_IOC_YIELD},
	             sizeof(struct fuse_ioctl_in));
	assert_true(hear(k, &u, &msg, fds));
	assert_int_equal(msg.type, SHARED_DIRECT_REVOKE);
	assert_true(hears_nothing(k, &u));
	assert_int_not_equal(k->answered, k->unique);
	say(&u, SHARED_DIRECT_RELEASE, 5);
	assert_int_equal(wait_for(k, k->unique), 0);
	leave(&u);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static void a_user_that_is_gone_is_waited_for_by_its_descriptor(void **state)
{
	struct kernel *k = *state;
	struct shared_direct_msg msg;
	struct user u = {0};
	uint64_t fh;
	uint64_t node;
	int kept;

	start(k);
	node = begin(k, &fh, &u);
	fsync_file(k, node, fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	kept = fcntl(u.device, F_DUPFD_CLOEXEC, 3); /* as a request in the kernel */
	k->closes = 0;
	leave(&u);
	send_request(k, FUSE_RELEASE, node, &(struct fuse_release_in){.fh = fh},
	             sizeof(struct fuse_release_in));
	spin(k, 50 * NS_PER_MS);
	assert_int_equal(k->closes, 0);
	assert_int_not_equal(k->answered, k->unique);
	assert_int_equal(close(kept), 0);
	assert_int_equal(wait_for(k, k->unique), 0);
	assert_int_equal(k->closes, 1);
	stop(k);
}

static void nonsense_and_lost_files_end_it(void **state)
{
	struct kernel *k = *state;
	struct shared_direct_msg msg;
	int fds[SHARED_DIRECT_FDS];
	struct user u = {0};
	uint64_t fh;
	uint64_t node;

	start(k);
	node = begin(k, &fh, &u);
	fsync_file(k, node, fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	say(&u, SHARED_DIRECT_RELEASED, 1); /* is the service's */
	assert_false(hear(k, &u, &msg, fds));
	assert_false(may(&u));
	leave(&u);
	assert_int_equal(attach(k, node, fh, &u), 0);
	assert_int_equal(ask(k, &u, &msg), 1);
	assert_true(may_soon(k, &u));
	csv_mount_lost(k->mount, 0);
	assert_false(may(&u));
	assert_false(hear(k, &u, &msg, fds));
	leave(&u);
	assert_int_equal(attach(k, node, fh, &u), -ENOENT);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static void the_end_of_the_mount_waits_for_users(void **state)
{
	struct kernel *k = *state;
	struct shared_direct_msg msg;
	struct user u = {0};
	uint64_t fh;

	start(k);
	fsync_file(k, begin(k, &fh, &u), fh);
	assert_int_equal(ask(k, &u, &msg), 1);
	csv_mount_stop(k->mount);
	assert_false(may(&u));
	spin(k, 30 * NS_PER_MS);
	assert_false(k->stopped);
	leave(&u);
	stop(k);
}

static void memory_may_be_missing(void **state)
{
	struct kernel *k = *state;
	struct user u = {0};
	uint64_t fh;
	uint64_t node;
	int err = -ENOMEM;

	start(k);
	node = create(k, "file", &fh);
	for (uint32_t n = 1; err != 0; n++) {
		assert_true(n < 20);
		u.fail = n;
		err = attach(k, node, fh, &u);
		assert_true(err == 0 || err == -ENOMEM);
	}
	leave(&u);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct kernel));
	return *state == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(written_blocks_are_told_and_are_where_they_are_said_to_be),
		CASE(leases_go_back_when_the_user_says_so_and_not_before),
		CASE(who_waits_for_a_user_is_refused_after_a_while),
		CASE(the_right_to_write_goes_after_the_users),
		CASE(a_user_that_is_gone_is_waited_for_by_its_descriptor),
		CASE(nonsense_and_lost_files_end_it),
		CASE(the_end_of_the_mount_waits_for_users),
		CASE(memory_may_be_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
