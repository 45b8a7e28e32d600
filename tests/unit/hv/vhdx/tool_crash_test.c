/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The power fails at each request of a tool: the disk is as it was or as it is to be.
 * Without VHDX_CRASH_SEEDS only at a part of the requests (turns.h).
 */

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "hv/vhdx/vhdx_tool.h"
#include "tests/lib/test.h"
#include "tests/lib/turns.h"
#include "tests/unit/hv/vhdx/fakes.h"
#include "tests/unit/hv/vhdx/place.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define REMAINS 3u

static const struct vhdx_create_cfg small = {
	.kind = VHDX_DYNAMIC, .size_bytes = 6 * MIB, .block_bytes = 1 << 20};

static struct blk *must_open(struct fakes *f, const char *name, bool read_only)
{
	struct errbuf eb = {.text = ""};
	struct blk *blk;

	if (vhdx_open_path(&f->files, name, read_only, &blk, &eb) != 0) {
		print_error("%s\n", eb.text);
		fail();
	}
	return blk;
}

struct scenario {
	void (*prepare)(struct fakes *f);
	int (*run)(struct fakes *f);
	/* @even: every other time, for examinations that exclude one another. */
	void (*examine)(struct fakes *f, bool finished, bool even);
};

static void crash_everywhere(const struct scenario *s)
{
	uint64_t stride = getenv("VHDX_CRASH_SEEDS") != NULL ? 1 : turns_stride(5);
	bool cut = true;

	for (uint64_t nth = 1; cut; nth += 1 + nth * 7 % stride) {
		struct fakes f;
		int err;

		fakes_init(&f);
		s->prepare(&f);
		fakes_settle(&f);
		f.cut_at = nth;
		err = s->run(&f);
		f.cut_at = 0;
		cut = f.cut;
		assert_true(cut || err == 0);
		for (uint64_t seed = 0; seed < REMAINS; seed++) {
			struct fakes after;

			fakes_crash(&f, &after, seed < 2 ? seed : nth * 8 + seed);
			s->examine(&after, err == 0, (nth + seed) % 2 == 0);
			fakes_fini(&after);
		}
		fakes_fini(&f);
	}
}

/* ---- create ---- */

static void nothing(struct fakes *f)
{
	(void)f;
}

static int create_run(struct fakes *f)
{
	struct errbuf eb;

	return vhdx_create(&f->files, "a.vhdx", NULL, &small, NULL, &eb);
}

static int create_fixed_run(struct fakes *f)
{
	struct vhdx_create_cfg cfg = small;

	cfg.kind = VHDX_FIXED;
	return vhdx_create(&f->files, "a.vhdx", NULL, &cfg, NULL, NULL);
}

static void create_examine(struct fakes *f, bool finished, bool even)
{
	(void)even;
	struct blk *blk;
	int err;

	if (f->file[0].disk == NULL) {
		assert_false(finished);
		return;
	}
	err = vhdx_open_path(&f->files, "a.vhdx", false, &blk, NULL);
	if (err != 0) {
		assert_int_equal(err, -EBADMSG); /* no VHDX yet */
		assert_false(finished);
		return;
	}
	place_expect(blk, 0, 6 * MIB, 0);
	place_close(blk);
}

static void a_disk_is_created_or_is_none(void **state)
{
	(void)state;
	crash_everywhere(&(struct scenario){nothing, create_run, create_examine});
	crash_everywhere(&(struct scenario){nothing, create_fixed_run, create_examine});
}

/* ---- resize ---- */

static const struct vhdx_resize_cfg larger = {.size_bytes = 200 * GIB};

static void resize_prepare(struct fakes *f)
{
	const struct vhdx_create_cfg cfg = {
		.kind = VHDX_DYNAMIC, .size_bytes = 100 * GIB + 512, .block_bytes = 1 << 20};
	struct blk *blk;

	assert_int_equal(vhdx_create(&f->files, "a.vhdx", NULL, &cfg, NULL, NULL), 0);
	blk = must_open(f, "a.vhdx", false);
	place_pattern(blk, 77 * GIB, 4096, 7);
	place_pattern(blk, 100 * GIB, 512, 8);
	place_close(blk);
}

static int resize_run(struct fakes *f)
{
	return vhdx_resize(&f->files, "a.vhdx", &larger, NULL);
}

static void resize_examine(struct fakes *f, bool finished, bool even)
{
	(void)even;

	struct blk *blk = must_open(f, "a.vhdx", false);
	struct blk_info info;

	blk_get_info(blk, &info);
	assert_true(info.size_bytes == larger.size_bytes ||
	            (!finished && info.size_bytes == 100 * GIB + 512));
	place_expect(blk, 77 * GIB, 4096, 7);
	place_expect(blk, 100 * GIB, 512, 8);
	if (info.size_bytes == larger.size_bytes) {
		place_expect(blk, 100 * GIB + 512, 2 * MIB, 0);
		place_pattern(blk, 200 * GIB - 4096, 4096, 9);
	}
	place_close(blk);
}

static void a_disk_is_resized_or_not(void **state)
{
	(void)state;
	crash_everywhere(&(struct scenario){resize_prepare, resize_run, resize_examine});
}

/* ---- merge ---- */

static void merge_prepare(struct fakes *f)
{
	const struct vhdx_create_cfg child = {
		.kind = VHDX_DIFFERENCING, .size_bytes = 8 * MIB, .block_bytes = 1 << 20};
	struct blk *blk;

	assert_int_equal(vhdx_create(&f->files, "p.vhdx", NULL, &small, NULL, NULL), 0);
	blk = must_open(f, "p.vhdx", false);
	place_pattern(blk, 0, 3 * MIB, 3);
	place_close(blk);
	assert_int_equal(vhdx_create(&f->files, "c.vhdx", "p.vhdx", &child, NULL, NULL), 0);
	blk = must_open(f, "c.vhdx", false);
	place_pattern(blk, 512, 1024, 4);
	place_pattern(blk, MIB, MIB, 5);
	place_pattern(blk, 7 * MIB, MIB, 6);
	assert_int_equal(blk_sync_zero(blk, 2 * MIB, MIB), 0);
	place_close(blk);
}

static int merge_run(struct fakes *f)
{
	return vhdx_merge(&f->files, "c.vhdx", NULL, NULL);
}

static void merge_expect(struct fakes *f, const char *name)
{
	struct blk *blk = must_open(f, name, false);

	place_expect(blk, 0, 512, 3);
	place_expect(blk, 512, 1024, 4);
	place_expect(blk, MIB, MIB, 5);
	place_expect(blk, 2 * MIB, 5 * MIB, 0);
	place_expect(blk, 7 * MIB, MIB, 6);
	place_close(blk);
}

static void merge_examine(struct fakes *f, bool finished, bool even)
{
	/* A parent being written to has a log to replay: repairing does that, and merging. */
	const struct vhdx_check_cfg repair = {.repair = true};
	struct vhdx_check_result r;

	if (even) {
		assert_int_equal(vhdx_check(&f->files, "p.vhdx", &repair, &r, NULL), 0);
		assert_int_equal(r.damaged, 0);
		merge_expect(f, "c.vhdx");
	}
	if (!finished) {
		assert_int_equal(vhdx_merge(&f->files, "c.vhdx", NULL, NULL), 0);
	}
	merge_expect(f, "p.vhdx");
	merge_expect(f, "c.vhdx");
}

static void a_merge_never_changes_what_the_child_shows(void **state)
{
	(void)state;
	crash_everywhere(&(struct scenario){merge_prepare, merge_run, merge_examine});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_is_created_or_is_none),
		cmocka_unit_test(a_disk_is_resized_or_not),
		cmocka_unit_test(a_merge_never_changes_what_the_child_shows),
	};

	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
