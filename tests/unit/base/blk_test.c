/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/test.h"

#define DISK_BYTES (1u << 20)

struct fixture {
	struct uring *ring;
	struct fake_disk *disk;
	struct blk *blk;
};

static int fixture_setup(void **state)
{
	static const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES, .can_resize = true};
	const struct uring_cfg ring_cfg = {.entries = 8, .force_fallback = true};
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || uring_create(&ring_cfg, &f->ring, NULL) != 0) {
		free(f);
		return -1;
	}
	f->disk = fake_disk_create(&cfg, f->ring);
	f->blk = fake_disk_blk(f->disk);
	*state = f;
	return 0;
}

static int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	int err = blk_close(f->blk, NULL);

	fake_disk_destroy(f->disk);
	uring_destroy(f->ring);
	free(f);
	return err;
}

struct watched {
	struct blk_req req;
	int calls;
	int result;
};

static void watched_done(struct blk_req *req, int result)
{
	struct watched *w = req->arg;

	w->calls++;
	w->result = result;
}

static struct blk_req *watched_req(struct watched *w, enum blk_op op, uint64_t offset, uint64_t len)
{
	*w = (struct watched){
		.req =
			{
				.op = op,
				.offset_bytes = offset,
				.len_bytes = len,
				.done = watched_done,
				.arg = w,
			},
	};
	return &w->req;
}

static int watched_run(struct fixture *f, struct watched *w)
{
	blk_submit(f->blk, &w->req);
	assert_int_equal(w->calls, 0);
	while (w->calls == 0) {
		assert_true(uring_wait(f->ring, UINT64_MAX) >= 0);
	}
	assert_int_equal(w->calls, 1);
	return w->result;
}

static int run(struct fixture *f, enum blk_op op, uint32_t flags, uint64_t offset, uint64_t len)
{
	struct watched w;

	watched_req(&w, op, offset, len)->flags = flags;
	return watched_run(f, &w);
}

static void ranges_outside_the_disk_never_reach_the_driver(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t len;
	} bad[] = {
		{0, 0},
		{1, 512},
		{0, 511},
		{256, 512},
		{DISK_BYTES, 512},
		{DISK_BYTES - 512, 1024},
		{0, DISK_BYTES + 512},
		{UINT64_MAX - 511, 512},
		{UINT64_MAX - 511, 1024},
		{512, UINT64_MAX - 511},
		{1ull << 63, 1ull << 63},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(run(f, BLK_ZERO, 0, bad[i].offset, bad[i].len), -EINVAL);
		assert_int_equal(run(f, BLK_DISCARD, 0, bad[i].offset, bad[i].len), -EINVAL);
		assert_int_equal(run(f, BLK_READ, 0, bad[i].offset, bad[i].len), -EINVAL);
	}
	assert_int_equal(run(f, BLK_FLUSH, 0, 512, 0), -EINVAL);
	assert_int_equal(run(f, BLK_FLUSH, 0, 0, 512), -EINVAL);
	assert_int_equal(run(f, (enum blk_op)BLK_OP_COUNT, 0, 0, 512), -EINVAL);
	assert_int_equal(run(f, (enum blk_op)77, 0, 0, 512), -EINVAL);
	assert_int_equal(fake_disk_requests(f->disk), 0);
	assert_int_equal(run(f, BLK_ZERO, 0, 0, DISK_BYTES), 0);
	assert_int_equal(run(f, BLK_FLUSH, 0, 0, 0), 0);
}

static void flags_belong_to_the_operations_that_write(void **state)
{
	struct fixture *f = *state;

	for (int op = 0; op < BLK_OP_COUNT; op++) {
		assert_int_equal(run(f, (enum blk_op)op, 2, 0, 512), -EINVAL);
		assert_int_equal(run(f, (enum blk_op)op, 1u << 31, 0, 512), -EINVAL);
	}
	assert_int_equal(run(f, BLK_READ, BLK_FUA, 0, 512), -EINVAL);
	assert_int_equal(run(f, BLK_FLUSH, BLK_FUA, 0, 0), -EINVAL);
	assert_int_equal(run(f, BLK_DISCARD, BLK_FUA, 0, 512), -EINVAL);
	assert_int_equal(fake_disk_requests(f->disk), 0);
	assert_int_equal(run(f, BLK_ZERO, BLK_FUA, 0, 512), 0);
	assert_int_equal(run(f, BLK_RESIZE, BLK_FUA, DISK_BYTES, 0), 0);
}

static void a_vector_must_hold_exactly_the_length(void **state)
{
	static uint8_t buf[4096];
	static struct iovec many[BLK_IOV_MAX + 1];
	struct fixture *f = *state;
	const struct iovec half = {.iov_base = buf, .iov_len = 512};
	const struct iovec odd[] = {{buf, 1}, {buf + 1, 1022}, {buf + 1023, 1}};
	const struct iovec huge[] = {{buf, SIZE_MAX - 511}, {buf, 1024}}; /* sum = 512 */
	struct watched w;

	watched_req(&w, BLK_WRITE, 0, 1024)->iov = &half;
	w.req.iov_count = 1;
	assert_int_equal(watched_run(f, &w), -EINVAL);
	watched_req(&w, BLK_WRITE, 0, 512)->iov = huge;
	w.req.iov_count = 2;
	assert_int_equal(watched_run(f, &w), -EINVAL);
	watched_req(&w, BLK_READ, 0, 512)->iov = odd;
	w.req.iov_count = 3;
	assert_int_equal(watched_run(f, &w), -EINVAL);
	watched_req(&w, BLK_READ, 0, 512)->iov_count = 0;
	assert_int_equal(watched_run(f, &w), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i] = (struct iovec){buf, 512};
	}
	watched_req(&w, BLK_READ, 0, 512 * ARRAY_LEN(many))->iov = many;
	w.req.iov_count = ARRAY_LEN(many);
	assert_int_equal(watched_run(f, &w), -EINVAL);
	assert_int_equal(fake_disk_requests(f->disk), 0);
	watched_req(&w, BLK_READ, 0, 512ull * BLK_IOV_MAX)->iov = many;
	w.req.iov_count = BLK_IOV_MAX;
	assert_int_equal(watched_run(f, &w), 0);
	watched_req(&w, BLK_READ, 0, 1024)->iov = odd;
	w.req.iov_count = 3;
	assert_int_equal(watched_run(f, &w), 0);
}

static void a_transfer_has_a_greatest_size(void **state)
{
	struct fixture *f = *state;
	const uint64_t size = 2ull * BLK_TRANSFER_MAX;
	uint8_t *buf = calloc(1, BLK_TRANSFER_MAX + 512);
	struct iovec iov = {buf, BLK_TRANSFER_MAX + 512};
	struct watched w;

	assert_non_null(buf);
	assert_int_equal(blk_sync_resize(f->blk, size), 0);
	watched_req(&w, BLK_READ, 0, iov.iov_len)->iov = &iov;
	w.req.iov_count = 1;
	assert_int_equal(watched_run(f, &w), -EINVAL);
	iov.iov_len = BLK_TRANSFER_MAX;
	watched_req(&w, BLK_READ, 0, iov.iov_len)->iov = &iov;
	w.req.iov_count = 1;
	assert_int_equal(watched_run(f, &w), 0);
	/* The limit is not for what moves no data; and blk_sync splits. */
	assert_int_equal(run(f, BLK_ZERO, 0, 0, size), 0);
	assert_int_equal(blk_sync_read(f->blk, 512, buf, BLK_TRANSFER_MAX + 512), 0);
	free(buf);
}

static void a_read_only_disk_takes_no_writes(void **state)
{
	struct fixture *f = *state;
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES, .read_only = true};
	struct fake_disk *ro = fake_disk_create(&cfg, f->ring);
	struct fixture g = {.ring = f->ring, .disk = ro, .blk = fake_disk_blk(ro)};
	uint8_t buf[512];

	assert_int_equal(blk_sync_write(g.blk, 0, buf, sizeof(buf)), -EROFS);
	assert_int_equal(blk_sync_zero(g.blk, 0, 512), -EROFS);
	assert_int_equal(blk_sync_discard(g.blk, 0, 512), -EROFS);
	assert_int_equal(blk_sync_resize(g.blk, 512), -EROFS);
	assert_int_equal(fake_disk_requests(ro), 0);
	assert_int_equal(blk_sync_read(g.blk, 0, buf, sizeof(buf)), 0);
	assert_int_equal(blk_sync_flush(g.blk), 0);
	fake_disk_destroy(ro);
}

static void a_disk_of_fixed_size_does_not_resize(void **state)
{
	struct fixture *f = *state;
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES};
	struct fake_disk *fixed = fake_disk_create(&cfg, f->ring);

	assert_int_equal(blk_sync_resize(fake_disk_blk(fixed), DISK_BYTES), -ENOTSUP);
	fake_disk_destroy(fixed);
	assert_int_equal(run(f, BLK_RESIZE, 0, 513, 0), -EINVAL);
	assert_int_equal(run(f, BLK_RESIZE, 0, 512, 512), -EINVAL);
	assert_int_equal(run(f, BLK_RESIZE, 0, 1ull << 63, 0), -EINVAL);
}

static void refusals_come_in_order_and_from_the_dispatch(void **state)
{
	struct fixture *f = *state;
	struct watched w[5];

	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		blk_submit(f->blk, watched_req(&w[i], BLK_ZERO, 1, 1));
	}
	assert_int_equal(f->blk->in_flight, ARRAY_LEN(w));
	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		assert_int_equal(w[i].calls, 0);
	}
	assert_int_equal(uring_dispatch(f->ring), 1);
	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		assert_int_equal(w[i].calls, 1);
		assert_int_equal(w[i].result, -EINVAL);
	}
	assert_int_equal(f->blk->in_flight, 0);
}

struct again {
	struct blk_req req;
	struct fixture *f;
	int left;
};

static void again_done(struct blk_req *req, int result)
{
	struct again *a = req->arg;

	assert_int_equal(result, -EINVAL);
	if (--a->left > 0) {
		blk_submit(a->f->blk, req);
	}
}

static void a_refused_request_may_be_submitted_again_from_its_completion(void **state)
{
	struct fixture *f = *state;
	struct again a = {
		.req = {.op = BLK_ZERO, .done = again_done, .arg = &a}, .f = f, .left = 4};

	blk_submit(f->blk, &a.req);
	for (int left = 3; left >= 0; left--) {
		assert_int_equal(uring_dispatch(f->ring), 1);
		assert_int_equal(a.left, left);
	}
	assert_int_equal(f->blk->in_flight, 0);
}

static void close_done(struct blk_req *req, int result)
{
	struct fixture *f = req->arg;

	(void)result;
	assert_int_equal(blk_close(f->blk, NULL), 0);
}

static void the_last_completion_may_close_the_device(void **state)
{
	struct fixture *f = *state;
	struct blk_req req = {.op = BLK_ZERO, .done = close_done, .arg = f};

	blk_submit(f->blk, &req);
	assert_int_equal(uring_dispatch(f->ring), 1);
	assert_true(fake_disk_is_closed(f->disk));
}

static void sync_calls_write_read_zero_and_report(void **state)
{
	const struct fake_disk_failure second = {
		.ops = 1u << BLK_READ, .nth = 2, .count = 1, .err = -EIO};
	struct fixture *f = *state;
	uint8_t out[1024];
	uint8_t in[1024];

	for (size_t i = 0; i < sizeof(out); i++) {
		out[i] = (uint8_t)(i * 3);
	}
	assert_int_equal(blk_sync_write(f->blk, 4096, out, sizeof(out)), 0);
	assert_int_equal(blk_sync_flush(f->blk), 0);
	assert_int_equal(blk_sync_zero(f->blk, 4096, 512), 0);
	assert_int_equal(blk_sync_read(f->blk, 4096, in, sizeof(in)), 0);
	for (size_t i = 0; i < sizeof(in); i++) {
		assert_int_equal(in[i], i < 512 ? 0 : out[i]);
	}
	assert_int_equal(blk_sync_read(f->blk, 0, in, 0), 0);
	assert_int_equal(blk_sync_read(f->blk, DISK_BYTES, in, 512), -EINVAL);
	assert_int_equal(blk_sync_read(f->blk, 0, in, 100), -EINVAL);
	fake_disk_fail(f->disk, &second);
	assert_int_equal(blk_sync_read(f->blk, 0, in, 512), 0);
	assert_int_equal(blk_sync_read(f->blk, 0, in, 512), -EIO);
	assert_int_equal(blk_sync_read(f->blk, 0, in, 512), 0);
	assert_int_equal(blk_sync_resize(f->blk, 512), 0);
	assert_int_equal(blk_sync_read(f->blk, 512, in, 512), -EINVAL);
}

static void closing_nothing_is_fine(void **state)
{
	(void)state;
	assert_int_equal(blk_close(NULL, NULL), 0);
}

#define WITH_DISK(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DISK(ranges_outside_the_disk_never_reach_the_driver),
		WITH_DISK(flags_belong_to_the_operations_that_write),
		WITH_DISK(a_vector_must_hold_exactly_the_length),
		WITH_DISK(a_transfer_has_a_greatest_size),
		WITH_DISK(a_read_only_disk_takes_no_writes),
		WITH_DISK(a_disk_of_fixed_size_does_not_resize),
		WITH_DISK(refusals_come_in_order_and_from_the_dispatch),
		WITH_DISK(a_refused_request_may_be_submitted_again_from_its_completion),
		WITH_DISK(the_last_completion_may_close_the_device),
		WITH_DISK(sync_calls_write_read_zero_and_report),
		cmocka_unit_test(closing_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
