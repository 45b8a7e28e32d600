/* SPDX-License-Identifier: Apache-2.0 */

/* raw_io_test - the requests, on every way to do them: direct, buffered, memory file system, each
 * with both backends of the ring. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/fault.h"
#include "hv/raw/raw.h"
#include "hv/raw/raw_int.h"
#include "tests/lib/turns.h"
#include "tests/unit/hv/raw/raw_fixture.h"
#include "tests/unit/hv/raw/raw_model.h"

static struct raw_place direct = {.parent = "/var/tmp", .entries = 64};
static struct raw_place direct_sys = {.parent = "/var/tmp", .entries = 64, .fallback = true};
static struct raw_place small_ring = {.parent = "/var/tmp", .entries = 1};
static struct raw_place memory = {.parent = "/dev/shm", .entries = 64};
static struct raw_place memory_sys = {.parent = "/dev/shm", .entries = 64, .fallback = true};

static const struct raw_cfg plain = {.path = NULL};
static const struct raw_cfg buffered = {.buffered = true};

/* ---- the vector ---- */

static void a_rest_of_a_transfer_is_found_for_every_split(void **state)
{
	static uint8_t area[64];
	struct iovec iov[5] = {{area, 7}, {NULL, 0}, {area + 10, 1}, {area + 20, 12}};
	struct blk_req req = {.iov = iov, .iov_count = 5, .len_bytes = 30};

	(void)state;
	iov[4] = (struct iovec){area + 40, 10};
	for (uint64_t done = 0; done < 30; done++) {
		uint64_t at = done;

		/* Take piece after piece: together they are the rest, in order. */
		while (at < 30) {
			struct iovec part;
			uint32_t count;
			uint64_t bytes;
			uint64_t sum = 0;
			const struct iovec *piece = raw_piece(&req, at, &part, &count, &bytes);
			uint64_t skip = at;
			uint32_t i = 0;

			while (skip >= iov[i].iov_len) {
				skip -= iov[i++].iov_len;
			}
			assert_ptr_equal(piece[0].iov_base, (uint8_t *)iov[i].iov_base + skip);
			for (uint32_t n = 0; n < count; n++) {
				sum += piece[n].iov_len;
			}
			assert_int_equal(sum, bytes);
			assert_true(bytes > 0 && at + bytes <= 30);
			at += bytes;
		}
		assert_int_equal(at, 30);
	}
}

/* ---- everything at once, against a model ---- */

static void any_mixture_of_requests_keeps_the_content(void **state)
{
	raw_model_run(*state, &plain, turns(1500));
}

static void any_mixture_of_requests_keeps_the_content_buffered(void **state)
{
	raw_model_run(*state, &buffered, turns(700));
}

/* ---- bounce buffers ---- */

static void misaligned_memory_bounces_and_more_of_it_than_buffers_waits(void **state)
{
	enum { COUNT = 3 * RAW_BOUNCE_COUNT, LEN = 300 << 10 };
	static struct raw_probe p[COUNT];
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	uint8_t *buf = malloc(LEN + 1);
	struct raw_stats stats;

	assert_non_null(buf);
	for (uint32_t i = 0; i <= LEN; i++) {
		buf[i] = (uint8_t)(i % 251);
	}
	for (size_t i = 0; i < COUNT; i++) {
		p[i].iov = (struct iovec){buf + 1, LEN};
		p[i].req = (struct blk_req){
			.op = BLK_WRITE,
			.offset_bytes = i % 8 * 512 << 10,
			.len_bytes = LEN,
			.iov = &p[i].iov,
			.iov_count = 1,
		};
		raw_probe_start(blk, &p[i]);
	}
	for (size_t i = 0; i < COUNT; i++) {
		assert_int_equal(raw_probe_wait(blk, &p[i]), 0);
	}
	raw_get_stats(blk, &stats);
	if (stats.direct) {
		assert_int_equal(stats.bounced, COUNT);
		assert_int_equal(stats.waited, COUNT - RAW_BOUNCE_COUNT);
	}
	memset(buf, 0, LEN + 1);
	assert_int_equal(blk_sync_read(blk, 7 * (512u << 10), buf + 1, LEN), 0);
	for (uint32_t i = 1; i <= LEN; i++) {
		assert_int_equal(buf[i], i % 251);
	}
	free(buf);
	assert_int_equal(blk_close(blk, NULL), 0);
}

static void aligned_memory_does_not_bounce(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	uint8_t *buf = aligned_alloc(4096, 1u << 20);
	struct raw_stats stats;

	assert_non_null(buf);
	memset(buf, 1, 1u << 20);
	assert_int_equal(blk_sync_write(blk, 0, buf, 1u << 20), 0);
	assert_int_equal(blk_sync_read(blk, 0, buf, 1u << 20), 0);
	raw_get_stats(blk, &stats);
	assert_int_equal(stats.bounced + stats.continued + stats.waited, 0);
	free(buf);
	assert_int_equal(blk_close(blk, NULL), 0);
}

/* ---- space ---- */

static int64_t blocks(const struct raw_fixture *f)
{
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	return st.st_blocks;
}

static void discard_frees_space_unless_it_was_to_be_kept(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg keep = {.keep_allocated = true};
	static uint8_t buf[1u << 20];
	uint8_t got = 1;
	struct blk_info info;

	memset(buf, 7, sizeof(buf));
	for (int kept = 0; kept < 2; kept++) {
		struct blk *blk = raw_fixture_open(f, kept != 0 ? &keep : &plain);

		assert_int_equal(blk_sync_write(blk, 0, buf, sizeof(buf)), 0);
		assert_int_equal(blk_sync_flush(blk), 0);

		int64_t before = blocks(f);

		blk_get_info(blk, &info);
		assert_int_equal(info.discard_bytes, kept != 0 ? 0 : 4096);
		assert_int_equal(blk_sync_discard(blk, 0, sizeof(buf)), 0);
		assert_int_equal(blk_sync_flush(blk), 0);
		assert_int_equal(blocks(f) < before, kept == 0);

		/* Zeroing a preallocated file keeps its space. */
		assert_int_equal(blk_sync_write(blk, 0, buf, sizeof(buf)), 0);
		assert_int_equal(blk_sync_zero(blk, 4096, sizeof(buf) - 4096), 0);
		assert_int_equal(blk_sync_read(blk, 8192, buf, 4096), 0);
		got = buf[0];
		assert_int_equal(got, 0);
		memset(buf, 7, 4096);
		if (kept != 0) {
			assert_int_equal(blocks(f), before);
		}
		assert_int_equal(blk_close(blk, NULL), 0);
	}
}

static void the_size_changes_both_ways_and_new_space_is_zero(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	static uint8_t buf[8192];
	struct raw_probe p = {
		.req = {.op = BLK_RESIZE, .flags = BLK_FUA, .offset_bytes = RAW_FIXTURE_BYTES / 2},
	};
	struct blk_info info;
	struct stat st;

	memset(buf, 9, sizeof(buf));
	assert_int_equal(blk_sync_write(blk, RAW_FIXTURE_BYTES - 8192, buf, 8192), 0);
	raw_probe_start(blk, &p);
	assert_int_equal(raw_probe_wait(blk, &p), 0);
	blk_get_info(blk, &info);
	assert_int_equal(info.size_bytes, RAW_FIXTURE_BYTES / 2);
	assert_int_equal(blk_sync_read(blk, RAW_FIXTURE_BYTES / 2, buf, 4096), -EINVAL);
	assert_int_equal(blk_sync_resize(blk, RAW_FIXTURE_BYTES * 2), 0);
	assert_int_equal(blk_sync_flush(blk), 0);
	assert_int_equal(blk_sync_read(blk, RAW_FIXTURE_BYTES - 8192, buf, 8192), 0);
	assert_int_equal(buf[0] | buf[8191], 0);
	assert_int_equal(blk_close(blk, NULL), 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, RAW_FIXTURE_BYTES * 2);
}

/* ---- when it goes wrong ---- */

static void a_file_that_was_cut_behind_our_back_is_an_error(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	static _Alignas(4096) uint8_t buf[16384];

	assert_int_equal(truncate(f->path, 8192), 0);
	assert_int_equal(blk_sync_read(blk, 0, buf, 8192), 0);
	assert_int_equal(blk_sync_read(blk, 0, buf, 16384), -EIO); /* short, then nothing */
	assert_int_equal(blk_sync_read(blk, 65536, buf, 4096), -EIO);
	assert_int_equal(blk_close(blk, NULL), 0);
}

/* In a child: the limit belongs to the process. */
static int write_beyond_limit(const struct raw_fixture *f, const struct raw_cfg *how, bool fallback)
{
	static _Alignas(4096) uint8_t buf[65536];
	const struct rlimit limit = {32768, 32768};
	const struct uring_cfg ring_cfg = {.entries = 8, .force_fallback = fallback};
	struct raw_cfg cfg = *how;
	struct raw_stats stats;
	struct uring *ring;
	struct blk *blk;

	cfg.path = f->path;
	if (uring_create(&ring_cfg, &ring, NULL) != 0 || raw_open(&cfg, ring, &blk, NULL) != 0) {
		return 1;
	}
	if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limit) != 0) {
		return 2;
	}
	/* Short at the limit, continued, then refused. */
	if (blk_sync_write(blk, 16384, buf, 32768) != -ENOSPC) {
		return 3;
	}
	raw_get_stats(blk, &stats);
	if (stats.continued != 1) {
		return 4;
	}
	if (blk_sync_write(blk, 0, buf, 32768) != 0 || blk_close(blk, NULL) != 0) {
		return 5;
	}
	uring_destroy(ring);
	return 0;
}

static void a_short_write_goes_on_and_says_what_stopped_it(void **state)
{
	struct raw_fixture *f = *state;

	for (int i = 0; i < 4; i++) {
		int status = 0;
		pid_t child = fork();

		assert_true(child >= 0);
		if (child == 0) {
			_exit(write_beyond_limit(f, i % 2 != 0 ? &buffered : &plain, i / 2 != 0));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static void a_failed_operation_fails_its_request_and_no_other(void **state)
{
	static _Alignas(4096) uint8_t buf[4][4096];
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);

	for (uint32_t k = 1; k <= 4; k++) {
		struct raw_probe p[4];
		uint32_t failed = 0;

		fault_arm(FAULT_IO, k);
		for (size_t i = 0; i < 4; i++) {
			p[i].iov = (struct iovec){buf[i], 4096};
			p[i].req = (struct blk_req){
				.op = BLK_WRITE,
				.offset_bytes = i * 4096,
				.len_bytes = 4096,
				.iov = &p[i].iov,
				.iov_count = 1,
			};
			raw_probe_start(blk, &p[i]);
		}
		for (size_t i = 0; i < 4; i++) {
			int result = raw_probe_wait(blk, &p[i]);

			assert_true(result == 0 || result == -EIO);
			failed += result != 0;
		}
		assert_int_equal(failed, 1);
		fault_arm(FAULT_IO, 0);
	}
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		bool moves = op == BLK_READ || op == BLK_WRITE;
		bool ranged = op != BLK_FLUSH && op != BLK_RESIZE;
		struct raw_probe p = {
			.req =
				{
					.op = (enum blk_op)op,
					.flags = op == BLK_RESIZE ? BLK_FUA : 0,
					.offset_bytes = op == BLK_RESIZE ? RAW_FIXTURE_BYTES : 0,
					.len_bytes = ranged ? 4096 : 0,
					.iov_count = moves,
				},
			.iov = {buf[0], 4096},
		};

		p.req.iov = &p.iov;
		fault_arm(FAULT_IO, 1);
		raw_probe_start(blk, &p);
		assert_int_equal(raw_probe_wait(blk, &p), -EIO);
		fault_arm(FAULT_IO, 0);
		raw_probe_start(blk, &p);
		assert_int_equal(raw_probe_wait(blk, &p), 0);
	}
	assert_int_equal(blk_close(blk, NULL), 0);
}

#define ON(place, test)                                                                        \
	{                                                                                      \
#test " [" #place "]", test, raw_fixture_setup, raw_fixture_teardown, &(place) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rest_of_a_transfer_is_found_for_every_split),
		ON(direct, any_mixture_of_requests_keeps_the_content),
		ON(direct_sys, any_mixture_of_requests_keeps_the_content),
		ON(small_ring, any_mixture_of_requests_keeps_the_content),
		ON(memory, any_mixture_of_requests_keeps_the_content),
		ON(memory_sys, any_mixture_of_requests_keeps_the_content),
		ON(direct, any_mixture_of_requests_keeps_the_content_buffered),
		ON(memory, any_mixture_of_requests_keeps_the_content_buffered),
		ON(direct, misaligned_memory_bounces_and_more_of_it_than_buffers_waits),
		ON(small_ring, misaligned_memory_bounces_and_more_of_it_than_buffers_waits),
		ON(direct_sys, misaligned_memory_bounces_and_more_of_it_than_buffers_waits),
		ON(direct, aligned_memory_does_not_bounce),
		ON(direct, discard_frees_space_unless_it_was_to_be_kept),
		ON(memory, discard_frees_space_unless_it_was_to_be_kept),
		ON(direct, the_size_changes_both_ways_and_new_space_is_zero),
		ON(memory_sys, the_size_changes_both_ways_and_new_space_is_zero),
		ON(direct, a_file_that_was_cut_behind_our_back_is_an_error),
		ON(memory, a_file_that_was_cut_behind_our_back_is_an_error),
		ON(direct, a_short_write_goes_on_and_says_what_stopped_it),
		ON(direct, a_failed_operation_fails_its_request_and_no_other),
		ON(memory_sys, a_failed_operation_fails_its_request_and_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
