/* SPDX-License-Identifier: Apache-2.0 */

/* The mount: what it says to the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/shared_file.h"
#include "tests/lib/test.h"
#include "tests/unit/csv/mount/kernel.h"

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

/* In a move: two nodes have it open, one has the right to write. */
static void the_right_to_write_may_be_taken_later_and_given_back(void **state)
{
	const struct fuse_fallocate_in alloc = {.fh = 3, .length = 4096};
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t later;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(release(k, node, fh), 0);
	k->opens = 0;
	assert_int_equal(open_file(k, node, O_RDWR | SHARED_FILE_LATER, &later), 0);
	assert_int_equal(read_file(k, node, later, 0, 100), 0);
	assert_int_equal(write_file(k, node, later, 0, "x"), EBADF);
	assert_int_equal(request(k, FUSE_FALLOCATE, node, &alloc, sizeof(alloc)), EBADF);
	assert_int_equal(ask_file(k, node, later, SHARED_FILE_IOC_YIELD), 0);
	assert_int_equal(ask_file(k, node, later, 12345), ENOTTY);
	assert_int_equal(ask_file(k, node, later + 9, SHARED_FILE_IOC_TAKE), EBADF);
	assert_int_equal(k->opens, 1);

	assert_int_equal(ask_file(k, node, later, SHARED_FILE_IOC_TAKE), 0);
	assert_int_equal(ask_file(k, node, later, SHARED_FILE_IOC_TAKE), 0);
	assert_int_equal(k->opens, 2);
	assert_int_equal(write_file(k, node, later, 0, "mine"), 0);
	assert_int_equal(ask_file(k, node, later, SHARED_FILE_IOC_YIELD), 0);
	assert_int_equal(k->opens, 3); /* to be read */
	assert_int_equal(write_file(k, node, later, 0, "x"), EBADF);
	assert_int_equal(read_file(k, node, later, 0, 100), 0);
	assert_memory_equal(k->reply, "mine", 4);

	/* Another descriptor of this node is another matter. */
	assert_int_equal(open_file(k, node, O_RDWR, &fh), 0);
	assert_int_equal(write_file(k, node, fh, 0, "ours"), 0);
	assert_int_equal(write_file(k, node, later, 0, "x"), EBADF);
	assert_int_equal(release(k, node, fh), 0);
	assert_int_equal(release(k, node, later), 0);
	stop(k);
}

static void a_descriptor_that_is_closed_while_it_takes_the_right_leaves_nothing(void **state)
{
	struct kernel *k = *state;
	struct csv_mount_ask *ask;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(release(k, node, fh), 0);
	assert_int_equal(open_file(k, node, O_RDWR | SHARED_FILE_LATER, &fh), 0);
	k->hold_open = true;
	send_request(k, FUSE_IOCTL, node,
	             &(struct fuse_ioctl_in){.fh = fh, .cmd = SHARED_FILE_IOC_TAKE},
	             sizeof(struct fuse_ioctl_in));
	while (k->held == NULL) {
		spin(k, NS_PER_MS);
	}
	assert_int_equal(ask_file(k, node, fh, SHARED_FILE_IOC_TAKE), EBUSY);
	assert_int_equal(release(k, node, fh), 0);
	k->hold_open = false;
	ask = k->held;
	k->held = NULL;
	csv_mount_answer(ask, -EACCES, NULL);
	spin(k, 10 * NS_PER_MS);
	assert_int_equal(release(k, node, fh), EBADF);
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

static void forget_counts(struct kernel *k)
{
	k->layouts = 0;
	k->returns = 0;
	k->converts = 0;
}

static void is_there(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, const char *text)
{
	assert_int_equal(read_file(k, node, fh, at, (uint32_t)strlen(text)), 0);
	assert_int_equal(k->len, strlen(text));
	assert_memory_equal(k->reply, text, strlen(text));
}

/* What is given back has to be converted before, and all that is in flight waits for that. */
static void writes_anywhere_need_one_lease(void **state)
{
	struct fuse_fallocate_in alloc = {.length = 40ull << 20};
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	alloc.fh = fh;
	assert_int_equal(request(k, FUSE_FALLOCATE, node, &alloc, sizeof(alloc)), 0);
	forget_counts(k);
	for (uint64_t i = 0; i < 40; i++) {
		assert_int_equal(write_file(k, node, fh, (i * 7 % 40) << 20, "somewhere"), 0);
	}
	assert_int_equal(k->layouts, 1);
	assert_int_equal(k->returns, 0);
	assert_int_equal(k->converts, 0);
	is_there(k, node, fh, 17 << 20, "somewhere");
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

static void leases_of_new_blocks_go_where_a_greater_one_is_held(void **state)
{
	const struct fuse_setattr_in size = {.valid = FATTR_SIZE, .size = 40ull << 20};
	struct kernel *k = *state;
	struct csv_mount_stats stats;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	assert_int_equal(request(k, FUSE_SETATTR, node, &size, sizeof(size)), 0);
	forget_counts(k);
	for (uint64_t i = 0; i < 40; i++) {
		assert_int_equal(write_file(k, node, fh, (i * 7 % 40) << 20, "new"), 0);
	}
	assert_int_equal(k->layouts, 1 + 40);
	assert_int_equal(k->converts, 0);
	csv_mount_get_stats(k->mount, &stats);
	assert_true(stats.leases <= 24);
	/* Where nothing is known it is leased as a whole, and the small ones go. */
	assert_int_equal(release(k, node, fh), 0);
	assert_int_equal(open_file(k, node, O_RDWR, &fh), 0);
	for (uint64_t i = 0; i < 40; i++) {
		is_there(k, node, fh, i << 20, "new");
	}
	csv_mount_get_stats(k->mount, &stats);
	assert_int_equal(stats.leases, 1);
	assert_int_equal(release(k, node, fh), 0);
	stop(k);
}

/* More extents than a lease can name: it begins where it is needed. */
static void a_crumbled_file_is_leased_from_there_on(void **state)
{
	struct fuse_fallocate_in alloc = {.length = 4ull << 20};
	struct kernel *k = *state;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	alloc.fh = fh;
	assert_int_equal(request(k, FUSE_FALLOCATE, node, &alloc, sizeof(alloc)), 0);
	for (uint64_t block = 0; block < 400; block += 2) {
		assert_int_equal(write_file(k, node, fh, block * 4096, "crumb"), 0);
	}
	assert_int_equal(release(k, node, fh), 0);
	assert_int_equal(open_file(k, node, O_RDWR, &fh), 0);
	forget_counts(k);
	assert_int_equal(write_file(k, node, fh, 399 * 4096, "last"), 0);
	assert_int_equal(k->layouts, 2);
	assert_int_equal(k->returns, 1);
	assert_int_equal(write_file(k, node, fh, 1 * 4096, "first"), 0);
	assert_int_equal(k->layouts, 3);
	is_there(k, node, fh, 399 * 4096, "last");
	is_there(k, node, fh, 398 * 4096, "crumb");
	is_there(k, node, fh, 1 * 4096, "first");
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

/* Nobody is left to be told, but the handle is still ours, and others wait for it. */
static void a_file_whose_last_flush_failed_is_closed_all_the_same(void **state)
{
	struct kernel *k = *state;
	struct fuse_fallocate_in alloc = {.length = 8192};
	struct csv_mount_stats stats;
	uint32_t opens;
	uint64_t fh;
	uint64_t node;

	start(k);
	node = create(k, "file", &fh);
	alloc.fh = fh;
	assert_int_equal(request(k, FUSE_FALLOCATE, node, &alloc, sizeof(alloc)), 0);
	assert_int_equal(write_file(k, node, fh, 0, "lost"), 0);
	k->fail_convert = true;
	assert_int_equal(release(k, node, fh), 0);
	do {
		spin(k, NS_PER_MS);
		csv_mount_get_stats(k->mount, &stats);
	} while (stats.files != 0);
	assert_int_equal(k->closes, k->opens);
	assert_true(k->returns != 0);
	k->fail_convert = false;
	opens = k->opens;
	assert_int_equal(open_file(k, node, O_RDWR, &fh), 0);
	assert_int_equal(k->opens, opens + 1);
	assert_int_equal(write_file(k, node, fh, 0, "kept"), 0);
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
		.ops = &kernel_ops,
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
		cmocka_unit_test(the_right_to_write_may_be_taken_later_and_given_back),
		cmocka_unit_test(
			a_descriptor_that_is_closed_while_it_takes_the_right_leaves_nothing),
		cmocka_unit_test(who_waits_too_long_may_be_interrupted),
		cmocka_unit_test(leases_come_back_when_others_want_them),
		cmocka_unit_test(writes_anywhere_need_one_lease),
		cmocka_unit_test(leases_of_new_blocks_go_where_a_greater_one_is_held),
		cmocka_unit_test(a_crumbled_file_is_leased_from_there_on),
		cmocka_unit_test(a_lost_handle_ends_what_uses_it),
		cmocka_unit_test(a_file_whose_last_flush_failed_is_closed_all_the_same),
		cmocka_unit_test(a_flush_waits_for_one_that_came_before),
		cmocka_unit_test(stopping_with_open_files_saves_them),
		cmocka_unit_test(making_it_survives_lack_of_memory),
		cmocka_unit_test(opening_a_volume_survives_lack_of_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
