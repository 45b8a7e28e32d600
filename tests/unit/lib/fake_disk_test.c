/* SPDX-License-Identifier: Apache-2.0 */

/* The crash disk itself: it loses whatever it may lose, and nothing that it promised. */
#include "tests/lib/fake_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/uring.h"
#include "tests/lib/test.h"

#define UNIT ((size_t)512)
#define SECTORS ((size_t)16)
#define DISK_BYTES (UNIT * SECTORS)
#define SEEDS 400u

static struct uring *ring_of(void **state)
{
	return *state;
}

static int ring_setup(void **state)
{
	const struct uring_cfg cfg = {.entries = 8, .force_fallback = true};
	struct uring *ring = NULL;
	int err = uring_create(&cfg, &ring, NULL);

	*state = ring;
	return err;
}

static int ring_teardown(void **state)
{
	uring_destroy(*state);
	return 0;
}

static void fill(struct fake_disk *d, uint32_t sector, uint32_t count, uint8_t value)
{
	uint8_t buf[DISK_BYTES];

	memset(buf, value, sizeof(buf));
	assert_int_equal(blk_sync_write(fake_disk_blk(d), sector * UNIT, buf, count * UNIT), 0);
}

/* The values that sector @sector has over many seeds, as a bit mask. */
static uint32_t values_after_crash(const struct fake_disk *d, uint32_t sector)
{
	uint32_t seen = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fake_disk_image image = fake_disk_crash_image(d, seed);

		assert_true(image.size_bytes > sector * UNIT);
		for (uint32_t i = 1; i < UNIT; i++) { /* a sector is never torn */
			assert_int_equal(image.data[sector * UNIT], image.data[sector * UNIT + i]);
		}
		assert_true(image.data[sector * UNIT] < 32);
		seen |= 1u << image.data[sector * UNIT];
		free(image.data);
	}
	return seen;
}

static void what_was_flushed_survives_and_what_was_not_may_or_may_not(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));

	fill(d, 0, 4, 1);
	assert_int_equal(values_after_crash(d, 0), 1u << 0 | 1u << 1);
	assert_int_equal(blk_sync_flush(fake_disk_blk(d)), 0);
	assert_int_equal(values_after_crash(d, 0), 1u << 1);
	fill(d, 0, 2, 2);
	fill(d, 1, 2, 3);
	assert_int_equal(values_after_crash(d, 0), 1u << 1 | 1u << 2);
	assert_int_equal(values_after_crash(d, 1), 1u << 1 | 1u << 2 | 1u << 3);
	assert_int_equal(values_after_crash(d, 2), 1u << 1 | 1u << 3);
	assert_int_equal(values_after_crash(d, 3), 1u << 1);
	assert_int_equal(values_after_crash(d, 4), 1u << 0);
	fake_disk_destroy(d);
}

struct async {
	struct blk_req req;
	struct iovec iov;
	uint8_t buf[DISK_BYTES];
	int calls;
	int result;
};

static void async_done(struct blk_req *req, int result)
{
	struct async *a = req->arg;

	a->calls++;
	a->result = result;
}

/* Submit a request for one sector; @value fills a write. */
static void async_start(struct fake_disk *d, size_t sector, struct async *a, enum blk_op op,
                        uint8_t value)
{
	bool ranged = op != BLK_FLUSH && op != BLK_RESIZE;

	memset(a, 0, sizeof(*a));
	memset(a->buf, value, sizeof(a->buf));
	a->iov = (struct iovec){a->buf, UNIT};
	a->req.op = op;
	a->req.offset_bytes = sector * UNIT;
	a->req.len_bytes = ranged ? UNIT : 0;
	a->req.iov = &a->iov;
	a->req.iov_count = 1;
	a->req.done = async_done;
	a->req.arg = a;
	blk_submit(fake_disk_blk(d), &a->req);
}

static int async_wait(struct uring *ring, struct async *a)
{
	while (a->calls == 0) {
		assert_true(uring_wait(ring, UINT64_MAX) >= 0);
	}
	assert_int_equal(a->calls, 1);
	return a->result;
}

static void a_fua_write_survives_alone_and_buries_what_it_replaced(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
	struct async a;

	fill(d, 0, 4, 5);
	memset(&a, 0, sizeof(a));
	a.req = (struct blk_req){
		.op = BLK_ZERO,
		.flags = BLK_FUA,
		.offset_bytes = UNIT,
		.len_bytes = 2 * UNIT,
		.done = async_done,
		.arg = &a,
	};
	blk_submit(fake_disk_blk(d), &a.req);
	assert_int_equal(async_wait(ring_of(state), &a), 0);
	assert_int_equal(values_after_crash(d, 0), 1u << 0 | 1u << 5);
	assert_int_equal(values_after_crash(d, 1), 1u << 0); /* never 5 again */
	assert_int_equal(values_after_crash(d, 3), 1u << 0 | 1u << 5);
	fake_disk_destroy(d);
}

static void a_flush_covers_only_what_completed_before_it(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES, .order = FAKE_DISK_MANUAL};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
	struct async before;
	struct async during;
	struct async flush;

	async_start(d, 0, &before, BLK_WRITE, 1);
	assert_true(fake_disk_step(d));
	async_start(d, 1, &during, BLK_WRITE, 2);
	async_start(d, 0, &flush, BLK_FLUSH, 0);
	assert_int_equal(values_after_crash(d, 1), 1u << 0 | 1u << 2); /* in flight */
	while (fake_disk_step(d)) {
	}
	assert_int_equal(flush.result + during.result + before.result, 0);
	assert_int_equal(flush.calls + during.calls + before.calls, 3);
	assert_int_equal(values_after_crash(d, 0), 1u << 1);
	assert_int_equal(values_after_crash(d, 1), 1u << 0 | 1u << 2);
	fake_disk_destroy(d);
}

static void writes_are_lost_torn_and_reordered(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
	uint32_t torn = 0;
	uint32_t only_second = 0;
	uint32_t only_first = 0;

	fill(d, 0, 4, 1);
	fill(d, 8, 4, 2);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fake_disk_image image = fake_disk_crash_image(d, seed);
		uint32_t first = 0;
		uint32_t second = 0;

		for (uint32_t i = 0; i < 4; i++) {
			first += image.data[i * UNIT] == 1;
			second += image.data[(8 + i) * UNIT] == 2;
		}
		torn += (first > 0 && first < 4) || (second > 0 && second < 4);
		only_first += first == 4 && second == 0;
		only_second += first == 0 && second == 4;
		free(image.data);
	}
	assert_true(torn > SEEDS / 20);
	assert_true(only_first > SEEDS / 50);
	assert_true(only_second > SEEDS / 50);
	fake_disk_destroy(d);
}

static void the_same_seed_gives_the_same_crash(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));

	fill(d, 0, 10, 1);
	fill(d, 5, 10, 2);
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct fake_disk_image a = fake_disk_crash_image(d, seed);
		struct fake_disk_image b = fake_disk_crash_image(d, seed);

		assert_int_equal(a.size_bytes, b.size_bytes);
		assert_memory_equal(a.data, b.data, a.size_bytes);
		free(a.data);
		free(b.data);
	}

	struct fake_disk_image none = fake_disk_crash_image(d, 0);
	struct fake_disk_image all = fake_disk_crash_image(d, 1);

	assert_int_equal(none.data[0], 0);
	assert_memory_equal(all.data, fake_disk_data(d), DISK_BYTES);
	free(none.data);
	free(all.data);
	fake_disk_destroy(d);
}

static void a_size_is_lost_like_a_write(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES, .can_resize = true};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
	struct blk *blk = fake_disk_blk(d);
	uint32_t grown = 0;
	uint8_t buf[UNIT] = {0};

	fill(d, 15, 1, 7);
	assert_int_equal(blk_sync_flush(blk), 0);
	assert_int_equal(blk_sync_resize(blk, 4 * DISK_BYTES), 0);
	memset(buf, 9, sizeof(buf));
	assert_int_equal(blk_sync_write(blk, 3 * DISK_BYTES, buf, UNIT), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fake_disk_image image = fake_disk_crash_image(d, seed);

		assert_true(image.size_bytes == DISK_BYTES || image.size_bytes == 4 * DISK_BYTES);
		grown += image.size_bytes != DISK_BYTES;
		free(image.data);
	}
	assert_true(grown > SEEDS / 10 && grown < SEEDS - SEEDS / 10);
	assert_int_equal(blk_sync_flush(blk), 0);

	struct fake_disk_image image = fake_disk_crash_image(d, 0);

	assert_int_equal(image.size_bytes, 4 * DISK_BYTES);
	assert_int_equal(image.data[3 * DISK_BYTES], 9);
	free(image.data);

	/* Shrunk and grown again: what was there does not come back to readers. */
	assert_int_equal(blk_sync_resize(blk, DISK_BYTES - UNIT), 0);
	assert_int_equal(blk_sync_resize(blk, DISK_BYTES), 0);
	assert_int_equal(blk_sync_read(blk, 15 * UNIT, buf, UNIT), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(blk_sync_flush(blk), 0);
	image = fake_disk_crash_image(d, 0);
	assert_int_equal(image.size_bytes, DISK_BYTES);
	assert_int_equal(image.data[15 * UNIT], 0);
	free(image.data);
	fake_disk_destroy(d);
}

static void discarded_sectors_are_what_was_ordered(void **state)
{
	static const struct {
		enum fake_disk_discard discard;
		uint8_t value;
	} rows[] = {
		{FAKE_DISK_DISCARD_NONE, 3},
		{FAKE_DISK_DISCARD_ZERO, 0},
		{FAKE_DISK_DISCARD_GARBAGE, 0xdb},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct fake_disk_cfg cfg = {
			.size_bytes = DISK_BYTES,
			.discard = rows[i].discard,
		};
		struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
		struct blk_info info;

		fill(d, 0, 2, 3);
		assert_int_equal(blk_sync_discard(fake_disk_blk(d), 0, UNIT), 0);
		assert_int_equal(fake_disk_data(d)[0], rows[i].value);
		assert_int_equal(fake_disk_data(d)[UNIT], 3);
		blk_get_info(fake_disk_blk(d), &info);
		assert_int_equal(info.discard_bytes != 0,
		                 rows[i].discard != FAKE_DISK_DISCARD_NONE);
		fake_disk_destroy(d);
	}
}

static void failures_hit_the_requests_they_were_ordered_for(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES, .seed = 3};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
	const struct fake_disk_failure full = {
		.ops = 1u << BLK_WRITE, .nth = 2, .count = 2, .err = -ENOSPC};
	const struct fake_disk_failure any = {
		.ops = FAKE_DISK_ALL_OPS, .nth = 1, .count = 1, .err = -EIO};
	struct blk *blk = fake_disk_blk(d);
	uint8_t buf[DISK_BYTES];
	uint32_t changed = 0;

	fake_disk_fail(d, &full);
	memset(buf, 6, sizeof(buf));
	assert_int_equal(blk_sync_write(blk, 0, buf, UNIT), 0);
	assert_int_equal(blk_sync_flush(blk), 0);
	assert_int_equal(blk_sync_write(blk, 0, buf, sizeof(buf)), -ENOSPC);
	assert_int_equal(blk_sync_read(blk, 0, buf, sizeof(buf)), 0);
	for (uint32_t i = 0; i < SECTORS; i++) {
		changed += buf[i * UNIT] == 6;
	}
	assert_true(changed > 1 && changed < SECTORS); /* half written */
	assert_int_equal(blk_sync_write(blk, 0, buf, UNIT), -ENOSPC);
	assert_int_equal(blk_sync_write(blk, 0, buf, UNIT), 0);

	/* A flush that failed made nothing durable. */
	fill(d, 0, 1, 8);
	fake_disk_fail(d, &any);
	assert_int_equal(blk_sync_flush(blk), -EIO);
	assert_true((values_after_crash(d, 0) & ~(1u << 8)) != 0);
	assert_int_equal(blk_sync_flush(blk), 0);
	assert_int_equal(values_after_crash(d, 0), 1u << 8);
	fake_disk_fail(d, NULL);
	fake_disk_destroy(d);
}

static void after_the_power_failed_nothing_answers_and_nothing_changes(void **state)
{
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES};
	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
	struct blk *blk = fake_disk_blk(d);
	struct async last;
	uint8_t buf[UNIT];

	fill(d, 0, 1, 1);
	assert_int_equal(blk_sync_flush(blk), 0);
	fake_disk_cut_at(d, 3);
	fill(d, 0, 1, 2);
	async_start(d, 1, &last, BLK_WRITE, 3); /* still in flight at the cut */
	assert_false(fake_disk_is_cut(d));
	assert_int_equal(blk_sync_flush(blk), -EIO);
	assert_true(fake_disk_is_cut(d));
	assert_int_equal(async_wait(ring_of(state), &last), -EIO);
	assert_int_equal(blk_sync_write(blk, 0, buf, UNIT), -EIO);
	assert_int_equal(blk_sync_read(blk, 0, buf, UNIT), -EIO);
	assert_int_equal(fake_disk_requests(d), 4);
	assert_int_equal(values_after_crash(d, 0), 1u << 1 | 1u << 2);
	assert_int_equal(values_after_crash(d, 1), 1u << 0 | 1u << 3);
	assert_int_equal(blk_close(blk, NULL), 0);
	assert_true(fake_disk_is_closed(d));
	fake_disk_destroy(d);
}

static void a_disk_starts_from_an_image(void **state)
{
	uint8_t image[DISK_BYTES];
	const struct fake_disk_cfg cfg = {.size_bytes = DISK_BYTES, .image = image};

	memset(image, 4, sizeof(image));

	struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));

	memset(image, 0, sizeof(image));
	assert_int_equal(fake_disk_size(d), DISK_BYTES);
	assert_int_equal(values_after_crash(d, 3), 1u << 4);
	fake_disk_destroy(d);
}

static void shuffling_completes_everything_in_another_order(void **state)
{
	enum { COUNT = 12 };
	static struct async a[COUNT];
	uint32_t out_of_order = 0;

	for (uint64_t seed = 0; seed < 20; seed++) {
		const struct fake_disk_cfg cfg = {
			.size_bytes = DISK_BYTES,
			.order = FAKE_DISK_SHUFFLE,
			.seed = seed,
		};
		struct fake_disk *d = fake_disk_create(&cfg, ring_of(state));
		uint32_t turns = 0;

		for (uint32_t i = 0; i < COUNT; i++) {
			async_start(d, i, &a[i], BLK_WRITE, (uint8_t)(i + 1));
		}
		while (fake_disk_in_flight(d) != 0) {
			assert_true(uring_wait(ring_of(state), UINT64_MAX) >= 0);
			out_of_order += a[0].calls == 0 && a[COUNT - 1].calls != 0;
			turns++;
		}
		assert_true(turns >= COUNT);
		for (uint32_t i = 0; i < COUNT; i++) {
			assert_int_equal(async_wait(ring_of(state), &a[i]), 0);
			assert_int_equal(fake_disk_data(d)[i * UNIT], i + 1);
		}
		fake_disk_destroy(d);
	}
	assert_true(out_of_order > 0);
}

#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, ring_setup, ring_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RING(what_was_flushed_survives_and_what_was_not_may_or_may_not),
		WITH_RING(a_fua_write_survives_alone_and_buries_what_it_replaced),
		WITH_RING(a_flush_covers_only_what_completed_before_it),
		WITH_RING(writes_are_lost_torn_and_reordered),
		WITH_RING(the_same_seed_gives_the_same_crash),
		WITH_RING(a_size_is_lost_like_a_write),
		WITH_RING(discarded_sectors_are_what_was_ordered),
		WITH_RING(failures_hit_the_requests_they_were_ordered_for),
		WITH_RING(after_the_power_failed_nothing_answers_and_nothing_changes),
		WITH_RING(a_disk_starts_from_an_image),
		WITH_RING(shuffling_completes_everything_in_another_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
