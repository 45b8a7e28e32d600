/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "tests/unit/base/uring_fixture.h"

/* ---- the ring ---- */

static void a_completion_runs_from_wait_and_not_before(void **state)
{
	struct uring *ring = *state;
	struct probe p;

	assert_int_equal(uring_prep_nop(ring, probe_op(&p)), 0);
	assert_int_equal(uring_in_flight(ring), 1);
	assert_int_equal(uring_submit(ring), 1);
	assert_int_equal(p.calls, 0);
	assert_int_equal(probe_result(ring, &p), 0);
	assert_int_equal(uring_in_flight(ring), 0);
	assert_int_equal(uring_dispatch(ring), 0);
}

struct repeat {
	struct uring_op op;
	struct uring *ring;
	uint32_t left;
};

static void repeat_done(struct uring_op *op, int32_t res, bool more)
{
	struct repeat *r = op->arg;

	assert_int_equal(res, 0);
	assert_false(more);
	if (--r->left != 0) {
		assert_int_equal(uring_prep_nop(r->ring, op), 0);
	}
}

static void a_completion_may_prepare_the_same_operation_again(void **state)
{
	struct uring *ring = *state;
	struct repeat r = {.op = {.fn = repeat_done, .arg = &r}, .ring = ring, .left = 1000};

	assert_int_equal(uring_prep_nop(ring, &r.op), 0);
	while (r.left != 0) {
		assert_true(uring_wait(ring, UINT64_MAX) >= 0);
	}
}

static void more_operations_than_entries_are_submitted_on_the_way(void **state)
{
	struct uring *ring = *state;
	struct probe p[20 * FIXTURE_ENTRIES];

	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		assert_int_equal(uring_prep_nop(ring, probe_op(&p[i])), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		assert_int_equal(probe_result(ring, &p[i]), 0);
	}
}

static void a_deferred_result_comes_from_the_next_dispatch(void **state)
{
	struct uring *ring = *state;
	struct probe p[3];

	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		uring_defer(ring, probe_op(&p[i]), -(int32_t)i);
		assert_int_equal(p[i].calls, 0);
	}
	assert_int_equal(uring_in_flight(ring), ARRAY_LEN(p));
	/* Would sleep forever if it did not know. */
	assert_int_equal(uring_wait(ring, UINT64_MAX), ARRAY_LEN(p));
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		assert_int_equal(p[i].res, -(int32_t)i);
		assert_true(i == 0 || p[i].order == p[i - 1].order + 1);
	}
}

static void redefer_done(struct uring_op *op, int32_t res, bool more)
{
	struct repeat *r = op->arg;

	(void)res;
	(void)more;
	if (--r->left != 0) {
		uring_defer(r->ring, op, 0);
	}
}

static void an_operation_that_defers_itself_does_not_capture_the_thread(void **state)
{
	struct uring *ring = *state;
	struct repeat r = {.op = {.fn = redefer_done, .arg = &r}, .ring = ring, .left = 5};

	uring_defer(ring, &r.op, 0);
	for (uint32_t left = 4; left != UINT32_MAX; left--) {
		assert_int_equal(uring_dispatch(ring), 1);
		assert_int_equal(r.left, left);
	}
}

static void *waker(void *arg)
{
	uring_wake(arg);
	return NULL;
}

static void wake_ends_a_wait_from_another_thread_and_before_it(void **state)
{
	struct uring *ring = *state;

	for (int i = 0; i < 50; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, waker, ring), 0);
		assert_int_equal(uring_wait(ring, UINT64_MAX), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
	uring_wake(ring);
	uring_wake(ring);
	assert_int_equal(uring_wait(ring, UINT64_MAX), 0);
}

static void a_full_queue_does_not_make_the_ring_deaf(void **state)
{
	struct uring *ring = *state;
	struct probe p[FIXTURE_ENTRIES];

	/* The first use: the ring's own poll has not found a place yet. */
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		assert_int_equal(uring_prep_timeout(ring, probe_op(&p[i]), NS_PER_S * 1000), 0);
	}
	uring_wake(ring);
	assert_int_equal(uring_wait(ring, UINT64_MAX), 0);
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		assert_int_equal(uring_cancel(ring, &p[i].op), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		assert_int_equal(probe_result(ring, &p[i]), -ECANCELED);
	}
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, timeout_ms) == 1;
}

static void the_descriptor_is_readable_while_completions_wait(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	int fd = uring_fd(ring);

	assert_true(uring_submit(ring) >= 0);
	assert_false(readable(fd, 0));
	/* Something of the kernel's. */
	assert_int_equal(uring_prep_timeout(ring, probe_op(&p), NS_PER_MS), 0);
	assert_int_equal(uring_submit(ring), 1);
	assert_true(readable(fd, 10000));
	while (p.calls == 0) {
		assert_true(readable(fd, 10000));
		(void)uring_dispatch(ring);
	}
	assert_int_equal(p.res, -ETIME);
	/* Something of ours. */
	assert_int_equal(uring_submit(ring), 0);
	assert_false(readable(fd, 0));
	uring_defer(ring, probe_op(&p), 7);
	assert_int_equal(uring_submit(ring), 0);
	assert_true(readable(fd, 10000));
	while (p.calls == 0) {
		(void)uring_dispatch(ring);
	}
	assert_int_equal(p.res, 7);
	/* A wake. */
	while (readable(fd, 0)) {
		(void)uring_dispatch(ring);
		assert_int_equal(uring_submit(ring), 0);
	}
	uring_wake(ring);
	assert_true(readable(fd, 10000));
}

static void *use_ring(void *arg)
{
	struct uring *ring = arg;
	struct probe p;
	int fd = fixture_temp(10);
	char byte = 1;

	/* Also the slots belong to this thread now. */
	assert_int_equal(uring_prep_nop(ring, probe_op(&p)), 0);
	assert_int_equal(probe_result(ring, &p), 0);
	assert_int_equal(uring_file_set(ring, 1, fd), 0);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), URING_FIXED(1), &byte, 1, 0), 0);
	assert_int_equal(probe_result(ring, &p), 1);
	assert_int_equal(byte, 0);
	close(fd);
	return NULL;
}

static void a_ring_belongs_to_its_first_user_not_to_its_creator(void **state)
{
	struct uring *ring = *state;
	pthread_t thread;
	int fd = fixture_temp(10);

	assert_int_equal(uring_file_set(ring, 0, fd), 0);
	assert_int_equal(pthread_create(&thread, NULL, use_ring, ring), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(fd);
}

static void nonsense_configurations_are_refused(void **state)
{
	static const struct uring_cfg bad[] = {
		{.entries = 0},
		{.entries = 3},
		{.entries = 2 * URING_ENTRIES_MAX},
		{.entries = 8, .files_max = URING_SLOTS_MAX + 1},
		{.entries = 8, .buffers_max = URING_SLOTS_MAX + 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct uring *ring = (struct uring *)1;

		assert_int_equal(uring_create(&bad[i], &ring, NULL), -EINVAL);
		assert_null(ring);
	}
}

static void every_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
	(void)state;
	for (int fallback = 0; fallback < 2; fallback++) {
		const struct uring_cfg cfg = {
			.entries = 4,
			.files_max = 4,
			.buffers_max = 4,
			.force_fallback = fallback != 0,
		};
		struct uring *ring = NULL;
		uint32_t k = 1;

		for (;; k++) {
			fault_arm(FAULT_ALLOC, k);

			int err = uring_create(&cfg, &ring, NULL);

			if (err == 0) {
				break;
			}
			assert_int_equal(err, -ENOMEM);
			assert_null(ring);
		}
		fault_arm(FAULT_ALLOC, 0);
		assert_true(k > 3);
		uring_destroy(ring);
	}
}

static void the_smallest_ring_works(void **state)
{
	(void)state;
	for (int fallback = 0; fallback < 2; fallback++) {
		const struct uring_cfg cfg = {.entries = 1, .force_fallback = fallback != 0};
		struct uring *ring;
		struct probe p[3];

		assert_int_equal(uring_create(&cfg, &ring, NULL), 0);
		for (size_t i = 0; i < ARRAY_LEN(p); i++) {
			assert_int_equal(uring_prep_nop(ring, probe_op(&p[i])), 0);
		}
		for (size_t i = 0; i < ARRAY_LEN(p); i++) {
			assert_int_equal(probe_result(ring, &p[i]), 0);
		}
		uring_destroy(ring);
	}
}

static void the_kernel_holds_the_ring_to_what_we_use(void **state)
{
	struct uring *ring = *state;
	struct io_uring_probe *none = NULL;
	struct probe p;

	if (strcmp(uring_backend(ring), "io_uring") != 0) {
		return;
	}
	assert_int_equal(uring_prep_nop(ring, probe_op(&p)), 0);
	assert_int_equal(probe_result(ring, &p), 0);
	assert_int_equal(
		syscall(SYS_io_uring_register, uring_fd(ring), IORING_REGISTER_PROBE, none, 0), -1);
	assert_int_equal(errno, EACCES);
}

/* epoll looks at a descriptor only when it is told to. */
static void a_ring_in_a_loop_wakes_it(void **state)
{
	for (int fallback = 0; fallback < 2; fallback++) {
		const struct uring_cfg cfg = {
			.entries = 4,
			.in_loop = true,
			.force_fallback = fallback != 0,
		};
		struct epoll_event ev = {.events = EPOLLIN};
		int epoll = epoll_create1(EPOLL_CLOEXEC);
		struct uring *ring;
		struct probe p;

		assert_true(epoll >= 0);
		assert_int_equal(uring_create(&cfg, &ring, NULL), 0);
		assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, uring_fd(ring), &ev), 0);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(uring_prep_timeout(ring, probe_op(&p), NS_PER_MS), 0);
			assert_int_equal(uring_submit(ring), 1);
			while (p.calls == 0) {
				int n = epoll_wait(epoll, &ev, 1, 10000);

				assert_true(n == 1 || (n < 0 && errno == EINTR));
				(void)uring_dispatch(ring);
			}
			assert_int_equal(p.res, -ETIME);
		}
		uring_destroy(ring);
		(void)close(epoll);
	}
	(void)state;
}

/* ---- files ---- */

static void what_is_written_is_read(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char out[] = "to be or not to be";
	char a[6] = {0};
	char b[30] = {0};
	struct iovec iov[] = {{out, 6}, {out + 6, sizeof(out) - 6}};
	struct iovec in[] = {{a, sizeof(a)}, {b, sizeof(b)}};
	int fd = fixture_temp(0);

	assert_int_equal(uring_prep_writev(ring, probe_op(&p), fd, iov, 2, 100), 0);
	assert_int_equal(probe_result(ring, &p), sizeof(out));
	/* Short at the end of the file, and not hidden. */
	assert_int_equal(uring_prep_readv(ring, probe_op(&p), fd, in, 2, 100), 0);
	assert_int_equal(probe_result(ring, &p), sizeof(out));
	assert_memory_equal(a, out, sizeof(a));
	assert_memory_equal(b, out + 6, sizeof(out) - 6);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), fd, b, sizeof(b), 1000), 0);
	assert_int_equal(probe_result(ring, &p), 0);

	assert_int_equal(uring_prep_write(ring, probe_op(&p), fd, "BE", 2, 103), 0);
	assert_int_equal(probe_result(ring, &p), 2);
	assert_int_equal(uring_prep_writev_dsync(ring, probe_op(&p), fd, iov, 1, 200), 0);
	assert_int_equal(probe_result(ring, &p), 6);
	assert_int_equal(uring_prep_fsync(ring, probe_op(&p), fd, true), 0);
	assert_int_equal(probe_result(ring, &p), 0);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), fd, a, sizeof(a), 100), 0);
	assert_int_equal(probe_result(ring, &p), sizeof(a));
	assert_memory_equal(a, "to BE ", 6);
	close(fd);
}

static void a_stream_offset_uses_the_position(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char buf[3];
	int fd = fixture_temp(0);

	assert_int_equal(write(fd, "abcdef", 6), 6);
	assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), fd, buf, 3, URING_STREAM), 0);
	assert_int_equal(probe_result(ring, &p), 3);
	assert_memory_equal(buf, "cde", 3);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 5);
	close(fd);
}

static void fallocate_reserves_and_punches(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	struct stat st;
	int fd = fixture_temp(0);

	assert_int_equal(uring_prep_fallocate(ring, probe_op(&p), fd, 0, 0, 1u << 20), 0);

	int32_t res = probe_result(ring, &p);

	if (res == -EOPNOTSUPP) {
		close(fd);
		skip();
	}
	assert_int_equal(res, 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 1u << 20);
	assert_int_equal(uring_prep_fallocate(ring, probe_op(&p), fd,
	                                      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
	                                      1u << 20),
	                 0);
	assert_int_equal(probe_result(ring, &p), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 < 1 << 20);
	close(fd);
}

static void errors_arrive_as_results(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char buf[4];
	int fd = fixture_temp(10);
	int ro = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	assert_true(ro >= 0);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), -1, buf, 4, 0), 0);
	assert_int_equal(probe_result(ring, &p), -EBADF);
	assert_int_equal(uring_prep_write(ring, probe_op(&p), ro, buf, 4, 0), 0);
	assert_int_equal(probe_result(ring, &p), -EBADF);
	assert_int_equal(uring_prep_poll(ring, probe_op(&p), 999999, POLLIN, false), 0);
	assert_int_equal(probe_result(ring, &p), -EBADF);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p), fd, buf, 4, 0), 0);
	assert_int_equal(probe_result(ring, &p), -ENOTSOCK);
	close(ro);
	close(fd);
}

/* ---- chains ---- */

static void a_chain_runs_in_order(void **state)
{
	struct uring *ring = *state;
	struct probe p[4];
	char buf[4] = "";
	int fd = fixture_temp(0);

	assert_int_equal(uring_reserve(ring, 4), 0);
	assert_int_equal(uring_prep_write(ring, probe_op(&p[0]), fd, "1234", 4, 0), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_fsync(ring, probe_op(&p[1]), fd, true), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_write(ring, probe_op(&p[2]), fd, "ab", 2, 1), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_read(ring, probe_op(&p[3]), fd, buf, 4, 0), 0);
	probe_wait(ring, &p[3], 1);
	for (size_t i = 0; i < 4; i++) {
		static const int32_t expect[] = {4, 0, 2, 4};

		assert_int_equal(probe_result(ring, &p[i]), expect[i]);
		assert_true(i == 0 || p[i].order > p[i - 1].order);
	}
	assert_memory_equal(buf, "1ab4", 4);
	close(fd);
}

static void a_failure_or_a_short_transfer_cancels_the_rest_of_its_chain(void **state)
{
	struct uring *ring = *state;
	struct probe p[5];
	char buf[8];
	int fd = fixture_temp(6);

	assert_int_equal(uring_reserve(ring, 5), 0);
	assert_int_equal(uring_prep_read(ring, probe_op(&p[0]), fd, buf, 8, 0), 0); /* short */
	uring_link(ring);
	assert_int_equal(uring_prep_write(ring, probe_op(&p[1]), fd, "x", 1, 0), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[2])), 0);
	/* A new chain, not affected. */
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[3])), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[4])), 0);
	assert_int_equal(probe_result(ring, &p[0]), 6);
	assert_int_equal(probe_result(ring, &p[1]), -ECANCELED);
	assert_int_equal(probe_result(ring, &p[2]), -ECANCELED);
	assert_int_equal(probe_result(ring, &p[3]), 0);
	assert_int_equal(probe_result(ring, &p[4]), 0);

	assert_int_equal(uring_reserve(ring, 2), 0);
	assert_int_equal(uring_prep_fsync(ring, probe_op(&p[0]), -1, true), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[1])), 0);
	assert_int_equal(probe_result(ring, &p[0]), -EBADF);
	assert_int_equal(probe_result(ring, &p[1]), -ECANCELED);
	assert_int_equal(pread(fd, buf, 1, 0), 1);
	assert_int_equal(buf[0], 0);
	close(fd);
}

static void a_chain_is_not_cut_where_the_queue_was_full(void **state)
{
	struct uring *ring = *state;
	int fd = fixture_temp(4);

	for (uint32_t before = 0; before <= FIXTURE_ENTRIES; before++) {
		struct probe fill[FIXTURE_ENTRIES];
		struct probe p[3];
		char buf[8];

		for (uint32_t i = 0; i < before; i++) {
			assert_int_equal(uring_prep_nop(ring, probe_op(&fill[i])), 0);
		}
		assert_int_equal(uring_reserve(ring, 3), 0);
		assert_int_equal(uring_prep_read(ring, probe_op(&p[0]), fd, buf, 8, 0), 0);
		uring_link(ring);
		assert_int_equal(uring_prep_nop(ring, probe_op(&p[1])), 0);
		uring_link(ring);
		assert_int_equal(uring_prep_nop(ring, probe_op(&p[2])), 0);
		assert_int_equal(probe_result(ring, &p[0]), 4);
		assert_int_equal(probe_result(ring, &p[1]), -ECANCELED);
		assert_int_equal(probe_result(ring, &p[2]), -ECANCELED);
		for (uint32_t i = 0; i < before; i++) {
			assert_int_equal(probe_result(ring, &fill[i]), 0);
		}
	}
	close(fd);
}

/* ---- fixed files and buffers ---- */

static void a_slot_keeps_its_file_open(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char buf[3];
	int fd = fixture_temp(0);

	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(uring_file_set(ring, 3, fd), 0);
	close(fd);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), URING_FIXED(3), buf, 3, 0), 0);
	assert_int_equal(probe_result(ring, &p), 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(uring_prep_fsync(ring, probe_op(&p), URING_FIXED(3), false), 0);
	assert_int_equal(probe_result(ring, &p), 0);

	assert_int_equal(uring_file_set(ring, 3, -1), 0);
	assert_int_equal(uring_prep_read(ring, probe_op(&p), URING_FIXED(3), buf, 3, 0), 0);
	assert_int_equal(probe_result(ring, &p), -EBADF);
	assert_int_equal(uring_file_set(ring, FIXTURE_SLOTS, 0), -EINVAL);
	assert_int_equal(uring_file_set(ring, 0, 999999), -EBADF);
}

static void fixed_buffers_transfer_within_their_bounds_only(void **state)
{
	static _Alignas(4096) char buf[8192];
	struct uring *ring = *state;
	struct probe p;
	int fd = fixture_temp(0);

	memcpy(buf, "hello", sizeof("hello"));
	assert_int_equal(uring_buffer_set(ring, 2, buf, 4096), 0);
	assert_int_equal(uring_prep_write_fixed(ring, probe_op(&p), fd, buf, 5, 0, 2), 0);
	assert_int_equal(probe_result(ring, &p), 5);
	assert_int_equal(uring_prep_read_fixed(ring, probe_op(&p), fd, buf + 4090, 5, 0, 2), 0);
	assert_int_equal(probe_result(ring, &p), 5);
	assert_memory_equal(buf + 4090, "hello", 5);
	assert_int_equal(uring_prep_read_fixed(ring, probe_op(&p), fd, buf + 4092, 5, 0, 2), 0);
	assert_int_equal(probe_result(ring, &p), -EFAULT);
	assert_int_equal(uring_prep_read_fixed(ring, probe_op(&p), fd, buf, 5, 0, 1), 0);
	assert_int_equal(probe_result(ring, &p), -EFAULT);
	assert_int_equal(uring_buffer_set(ring, 2, NULL, 0), 0);
	assert_int_equal(uring_prep_read_fixed(ring, probe_op(&p), fd, buf, 5, 0, 2), 0);
	assert_int_equal(probe_result(ring, &p), -EFAULT);
	assert_int_equal(uring_buffer_set(ring, FIXTURE_SLOTS, buf, 1), -EINVAL);
	assert_int_equal(uring_buffer_set(ring, 0, NULL, 1), -EINVAL);
	close(fd);
}

/* ---- timeouts ---- */

static void timeouts_end_in_the_order_of_their_deadlines(void **state)
{
	struct uring *ring = *state;
	struct probe p[3];
	uint64_t start = clock_now_ns();

	assert_int_equal(uring_prep_timeout(ring, probe_op(&p[0]), 30 * NS_PER_MS), 0);
	assert_int_equal(uring_prep_timeout(ring, probe_op(&p[1]), 10 * NS_PER_MS), 0);
	assert_int_equal(uring_prep_timeout(ring, probe_op(&p[2]), 20 * NS_PER_MS), 0);
	assert_int_equal(probe_result(ring, &p[0]), -ETIME);
	assert_true(clock_now_ns() - start >= 30 * NS_PER_MS);
	assert_int_equal(probe_result(ring, &p[1]), -ETIME);
	assert_int_equal(probe_result(ring, &p[2]), -ETIME);
	assert_true(p[1].order < p[2].order && p[2].order < p[0].order);
}

static void what_is_linked_behind_a_timeout_never_runs(void **state)
{
	struct uring *ring = *state;
	struct probe p[2];

	assert_int_equal(uring_reserve(ring, 2), 0);
	assert_int_equal(uring_prep_timeout(ring, probe_op(&p[0]), NS_PER_MS), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[1])), 0);
	assert_int_equal(probe_result(ring, &p[0]), -ETIME);
	assert_int_equal(probe_result(ring, &p[1]), -ECANCELED);
}

static void wait_itself_times_out(void **state)
{
	struct uring *ring = *state;
	uint64_t start = clock_now_ns();

	assert_int_equal(uring_wait(ring, 0), 0);
	assert_int_equal(uring_wait(ring, 5 * NS_PER_MS), 0);
	assert_true(clock_now_ns() - start >= 5 * NS_PER_MS);
}

static void a_timeout_beyond_the_end_of_time_is_never(void **state)
{
	struct uring *ring = *state;
	struct probe p;

	assert_int_equal(uring_prep_timeout(ring, probe_op(&p), UINT64_MAX), 0);
	assert_int_equal(uring_wait(ring, NS_PER_MS), 0);
	assert_int_equal(uring_cancel(ring, &p.op), 0);
	assert_int_equal(probe_result(ring, &p), -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		URING_BOTH(a_completion_runs_from_wait_and_not_before),
		URING_BOTH(a_completion_may_prepare_the_same_operation_again),
		URING_BOTH(more_operations_than_entries_are_submitted_on_the_way),
		URING_BOTH(a_deferred_result_comes_from_the_next_dispatch),
		URING_BOTH(an_operation_that_defers_itself_does_not_capture_the_thread),
		URING_BOTH(wake_ends_a_wait_from_another_thread_and_before_it),
		URING_BOTH(a_full_queue_does_not_make_the_ring_deaf),
		URING_BOTH(the_descriptor_is_readable_while_completions_wait),
		URING_BOTH(a_ring_belongs_to_its_first_user_not_to_its_creator),
		cmocka_unit_test(nonsense_configurations_are_refused),
		cmocka_unit_test(every_failed_allocation_is_reported_and_leaks_nothing),
		cmocka_unit_test(the_smallest_ring_works),
		URING_BOTH(the_kernel_holds_the_ring_to_what_we_use),
		cmocka_unit_test(a_ring_in_a_loop_wakes_it),
		URING_BOTH(what_is_written_is_read),
		URING_BOTH(a_stream_offset_uses_the_position),
		URING_BOTH(fallocate_reserves_and_punches),
		URING_BOTH(errors_arrive_as_results),
		URING_BOTH(a_chain_runs_in_order),
		URING_BOTH(a_failure_or_a_short_transfer_cancels_the_rest_of_its_chain),
		URING_BOTH(a_chain_is_not_cut_where_the_queue_was_full),
		URING_BOTH(a_slot_keeps_its_file_open),
		URING_BOTH(fixed_buffers_transfer_within_their_bounds_only),
		URING_BOTH(timeouts_end_in_the_order_of_their_deadlines),
		URING_BOTH(what_is_linked_behind_a_timeout_never_runs),
		URING_BOTH(wait_itself_times_out),
		URING_BOTH(a_timeout_beyond_the_end_of_time_is_never),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
