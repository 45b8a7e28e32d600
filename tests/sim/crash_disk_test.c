/* SPDX-License-Identifier: Apache-2.0 */

/*
 * crash_disk_test - is the crash disk good for anything? A small store that commits generations
 * survives every crash at every request; the same store with any one of its flushes left out is
 * caught. If a change of tests/lib/fake_disk.c made it gentle, the second half fails.
 *
 * The store: two areas of data and two headers, used in turn. A commit writes the data, flushes,
 * writes the header with the generation and a checksum, flushes, and only then counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk.h"
#include "base/blk_sync.h"
#include "base/crc32c.h"
#include "base/uring.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/test.h"

#define UNIT 512ull
#define AREA_SECTORS 6u
#define AREA_BYTES (AREA_SECTORS * UNIT)
#define HEADERS_AT (2 * AREA_BYTES)
#define DISK_BYTES (HEADERS_AT + 2 * UNIT)
#define COMMITS 6u
#define SEEDS 60u

struct store_rules {
	bool flush_data;
	bool flush_header;
	bool fua_header; /* instead of flush_header */
};

struct header {
	uint64_t generation;
	uint32_t crc;
	uint8_t rest[500];
};
_Static_assert(sizeof(struct header) == UNIT, "one sector");

struct write {
	struct blk_req req;
	struct iovec iov;
	uint8_t buf[UNIT];
	uint32_t *left;
	int *err;
};

static void write_done(struct blk_req *req, int result)
{
	struct write *w = req->arg;

	(*w->left)--;
	if (result != 0) {
		*w->err = result;
	}
}

static void write_start(struct blk *blk, struct write *w, uint64_t offset, uint32_t flags)
{
	w->iov = (struct iovec){w->buf, UNIT};
	w->req = (struct blk_req){
		.op = BLK_WRITE,
		.flags = flags,
		.offset_bytes = offset,
		.len_bytes = UNIT,
		.iov = &w->iov,
		.iov_count = 1,
		.done = write_done,
		.arg = w,
	};
	(*w->left)++;
	blk_submit(blk, &w->req);
}

static void wait_all(struct blk *blk, const uint32_t *left)
{
	while (*left != 0) {
		assert_true(uring_wait(blk->ring, UINT64_MAX) >= 0);
	}
}

static int store_commit(struct blk *blk, const struct store_rules *rules, uint64_t generation)
{
	struct write w[AREA_SECTORS];
	struct header h = {.generation = generation};
	uint32_t left = 0;
	int err = 0;

	for (uint32_t i = 0; i < AREA_SECTORS; i++) {
		w[i].left = &left;
		w[i].err = &err;
		memset(w[i].buf, (int)generation, UNIT);
		write_start(blk, &w[i], generation % 2 * AREA_BYTES + i * UNIT, 0);
	}
	wait_all(blk, &left);
	if (err == 0 && rules->flush_data) {
		err = blk_sync_flush(blk);
	}
	if (err != 0) {
		return err;
	}
	h.crc = crc32c(&h.generation, sizeof(h.generation));
	memcpy(w[0].buf, &h, UNIT);
	write_start(blk, &w[0], HEADERS_AT + generation % 2 * UNIT,
	            rules->fua_header ? BLK_FUA : 0);
	wait_all(blk, &left);
	if (err == 0 && rules->flush_header) {
		err = blk_sync_flush(blk);
	}
	return err;
}

/* The newest generation of an image; 0 = none. */
static uint64_t store_newest(const uint8_t *image)
{
	uint64_t newest = 0;

	for (uint32_t i = 0; i < 2; i++) {
		struct header h;

		memcpy(&h, image + HEADERS_AT + i * UNIT, UNIT);
		if (h.crc == crc32c(&h.generation, sizeof(h.generation)) && h.generation > newest) {
			newest = h.generation;
		}
	}
	return newest;
}

/* Is what a crash left in order? @acked: the last generation that was promised. */
static bool store_holds(const uint8_t *image, uint64_t acked)
{
	uint64_t newest = store_newest(image);
	const uint8_t *area = image + newest % 2 * AREA_BYTES;

	if (newest < acked) {
		return false;
	}
	for (uint64_t i = 0; newest != 0 && i < AREA_BYTES; i++) {
		if (area[i] != newest) {
			return false;
		}
	}
	return true;
}

struct outcome {
	uint64_t crashes;
	uint64_t broken;
};

/* Crash at request @nth. Returns false if the run is shorter than that. */
static bool crash_at(struct uring *ring, const struct store_rules *rules, uint64_t nth,
                     struct outcome *out)
{
	const struct fake_disk_cfg cfg = {
		.size_bytes = DISK_BYTES,
		.order = FAKE_DISK_SHUFFLE,
		.seed = nth,
	};
	struct fake_disk *d = fake_disk_create(&cfg, ring);
	uint64_t acked = 0;

	fake_disk_cut_at(d, nth);
	while (acked < COMMITS && store_commit(fake_disk_blk(d), rules, acked + 1) == 0) {
		acked++;
	}

	bool cut = fake_disk_is_cut(d);

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fake_disk_image image = fake_disk_crash_image(d, seed);

		assert_int_equal(image.size_bytes, DISK_BYTES);
		out->crashes++;
		out->broken += !store_holds(image.data, acked);
		free(image.data);
	}
	fake_disk_destroy(d);
	return cut;
}

static struct outcome crash_everywhere(const struct store_rules *rules)
{
	const struct uring_cfg cfg = {.entries = 8, .force_fallback = true};
	struct outcome out = {0};
	struct uring *ring;

	assert_int_equal(uring_create(&cfg, &ring, NULL), 0);
	for (uint64_t nth = 1; crash_at(ring, rules, nth, &out); nth++) {
	}
	uring_destroy(ring);
	return out;
}

static void a_store_that_flushes_survives_every_crash(void **state)
{
	const struct store_rules flushes = {.flush_data = true, .flush_header = true};
	const struct store_rules fua = {.flush_data = true, .fua_header = true};
	struct outcome out = crash_everywhere(&flushes);

	(void)state;
	assert_int_equal(out.broken, 0);
	assert_true(out.crashes >= COMMITS * (AREA_SECTORS + 3) * SEEDS);
	assert_int_equal(crash_everywhere(&fua).broken, 0);
}

static void a_store_that_forgets_a_flush_is_caught(void **state)
{
	const struct store_rules no_data = {.flush_header = true};
	const struct store_rules no_header = {.flush_data = true};
	const struct store_rules fua_alone = {.fua_header = true};

	(void)state;
	assert_true(crash_everywhere(&no_data).broken > 0);
	assert_true(crash_everywhere(&no_header).broken > 0);
	assert_true(crash_everywhere(&fua_alone).broken > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_store_that_flushes_survives_every_crash),
		cmocka_unit_test(a_store_that_forgets_a_flush_is_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
