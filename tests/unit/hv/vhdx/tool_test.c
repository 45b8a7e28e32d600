/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/vhdx_wire.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/vhdx/place.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static void expect_ok(int err, const struct errbuf *eb)
{
	if (err != 0) {
		print_error("error %d: %s\n", err, eb->text);
		fail();
	}
}

static void expect_clean(struct place *p, const char *name)
{
	const struct vhdx_check_cfg cfg = {.repair = false};
	struct vhdx_check_result r;
	struct errbuf eb = {.text = ""};

	expect_ok(vhdx_check(&p->files, place_path(p, name), &cfg, &r, &eb), &eb);
	assert_int_equal(r.damaged + r.repairable, 0); /* unused space is no harm */
}

static int resize(struct place *p, const char *name, uint64_t size, bool discard, struct errbuf *eb)
{
	const struct vhdx_resize_cfg cfg = {.size_bytes = size, .discard = discard};

	*eb = (struct errbuf){.text = ""};
	return vhdx_resize(&p->files, place_path(p, name), &cfg, eb);
}

static void a_grown_disk_keeps_its_data_and_adds_zeros(void **state)
{
	struct place *p = *state;
	const struct vhdx_create_cfg cfgs[] = {
		{.kind = VHDX_DYNAMIC, .size_bytes = 9 * MIB + 512, .block_bytes = 2 << 20},
		{.kind = VHDX_FIXED, .size_bytes = 9 * MIB + 512, .block_bytes = 2 << 20},
	};

	for (size_t i = 0; i < ARRAY_LEN(cfgs); i++) {
		struct errbuf eb;
		struct blk *blk;
		struct blk_info info;

		place_create(p, "d.vhdx", NULL, &cfgs[i]);
		blk = place_open(p, "d.vhdx", false);
		place_pattern(blk, 0, 4 * MIB, 3);
		place_pattern(blk, 8 * MIB, MIB + 512, 4);
		place_close(blk);
		expect_ok(resize(p, "d.vhdx", 25 * MIB, false, &eb), &eb);
		expect_clean(p, "d.vhdx");
		blk = place_open(p, "d.vhdx", false);
		blk_get_info(blk, &info);
		assert_int_equal(info.size_bytes, 25 * MIB);
		place_expect(blk, 0, 4 * MIB, 3);
		place_expect(blk, 8 * MIB, MIB + 512, 4);
		place_expect(blk, 9 * MIB + 512, 16 * MIB - 512, 0);
		place_pattern(blk, 20 * MIB, 5 * MIB, 5);
		place_close(blk);
		/* Smaller, and larger again: what was cut off does not come back. */
		assert_int_equal(resize(p, "d.vhdx", 11 * MIB, false, &eb), -ENOTEMPTY);
		expect_ok(resize(p, "d.vhdx", 8 * MIB + 4096, true, &eb), &eb);
		expect_clean(p, "d.vhdx");
		expect_ok(resize(p, "d.vhdx", 30 * MIB, false, &eb), &eb);
		blk = place_open(p, "d.vhdx", false);
		place_expect(blk, 0, 4 * MIB, 3);
		place_expect(blk, 8 * MIB, 4096, 4);
		place_expect(blk, 8 * MIB + 4096, 22 * MIB - 4096, 0);
		place_close(blk);
		expect_clean(p, "d.vhdx");
		tree_remove(&p->tree, "/d.vhdx");
	}
}

/* 1 MiB of BAT has 131072 entries: with blocks of 1 MiB, 128 GiB less the bitmaps' entries. */
static void a_bat_that_outgrows_its_region_moves(void **state)
{
	struct place *p = *state;
	const struct vhdx_create_cfg cfg = {
		.kind = VHDX_DYNAMIC, .size_bytes = 100 * GIB, .block_bytes = 1 << 20};
	const struct vhdx_create_cfg child = {.kind = VHDX_DIFFERENCING, .block_bytes = 1 << 20};
	struct errbuf eb;
	struct blk *blk;

	place_create(p, "p.vhdx", NULL, &cfg);
	blk = place_open(p, "p.vhdx", false);
	place_pattern(blk, 77 * GIB, MIB, 7);
	place_close(blk);
	expect_ok(resize(p, "p.vhdx", 300 * GIB, false, &eb), &eb);
	place_create(p, "c.vhdx", "p.vhdx", &child);
	blk = place_open(p, "c.vhdx", false);
	place_pattern(blk, 77 * GIB + 4096, 4096, 8);
	place_pattern(blk, 299 * GIB, 4096, 9);
	place_close(blk);
	expect_ok(resize(p, "c.vhdx", 900 * GIB, false, &eb), &eb);
	expect_clean(p, "p.vhdx");
	expect_clean(p, "c.vhdx");
	blk = place_open(p, "c.vhdx", false);
	place_expect(blk, 77 * GIB, 4096, 7);
	place_expect(blk, 77 * GIB + 4096, 4096, 8);
	place_expect(blk, 299 * GIB, 4096, 9);
	place_expect(blk, 899 * GIB, 4096, 0);
	place_pattern(blk, 899 * GIB, 4096, 10);
	place_close(blk);
	assert_int_equal(resize(p, "c.vhdx", 100 * GIB, true, &eb), -ENOTSUP);
	assert_int_equal(resize(p, "c.vhdx", 65ull << 40, true, &eb), -EINVAL);
}

static void convert(struct place *p, const char *from, const char *to, enum vhdx_format format,
                    enum vhdx_kind kind)
{
	const struct vhdx_convert_cfg cfg = {.to = format, .create = {.kind = kind}};
	struct errbuf eb = {.text = ""};

	expect_ok(vhdx_convert(&p->files, place_path(p, from), place_path(p, to), &cfg, &eb), &eb);
}

static void disks_convert_from_each_form_to_each_other(void **state)
{
	struct place *p = *state;
	const struct vhdx_create_cfg cfg = {
		.kind = VHDX_DYNAMIC, .size_bytes = 70 * MIB + 4096, .logical_bytes = 4096};
	struct vhdx_show *a = calloc(1, sizeof(*a));
	struct vhdx_show *b = calloc(1, sizeof(*b));
	struct blk *blk;

	if (a == NULL || b == NULL) {
		abort();
	}

	assert_true(a != NULL && b != NULL);
	place_create(p, "a.vhdx", NULL, &cfg);
	blk = place_open(p, "a.vhdx", false);
	place_pattern(blk, 3 * MIB, 2 * MIB, 3);
	place_pattern(blk, 70 * MIB, 4096, 4);
	place_close(blk);
	place_create(p, "child.vhdx", "a.vhdx",
	             &(struct vhdx_create_cfg){.kind = VHDX_DIFFERENCING});
	blk = place_open(p, "child.vhdx", false);
	place_pattern(blk, 4 * MIB, 4096, 5);
	place_close(blk);
	convert(p, "child.vhdx", "b.vhdx", VHDX_FORMAT_VHDX, VHDX_FIXED);
	convert(p, "b.vhdx", "c.raw", VHDX_FORMAT_RAW, VHDX_FIXED);
	convert(p, "c.raw", "d.vhdx", VHDX_FORMAT_VHDX, VHDX_DYNAMIC);
	assert_int_equal(place_size(p, "c.raw"), 70 * MIB + 4096);
	assert_true(place_size(p, "b.vhdx") > 70 * MIB);
	assert_true(place_size(p, "d.vhdx") < 4 * MIB + 3 * 32 * MIB);
	expect_clean(p, "b.vhdx");
	expect_clean(p, "d.vhdx");
	for (int i = 0; i < 2; i++) {
		blk = place_open(p, i == 0 ? "b.vhdx" : "d.vhdx", true);
		place_expect(blk, 0, 3 * MIB, 0);
		place_expect(blk, 3 * MIB, MIB, 3);
		place_expect(blk, 4 * MIB, 4096, 5);
		place_expect(blk, 5 * MIB, 60 * MIB, 0);
		place_expect(blk, 70 * MIB, 4096, 4);
		place_close(blk);
	}
	assert_int_equal(vhdx_show(&p->files, place_path(p, "a.vhdx"), a, NULL), 0);
	assert_int_equal(vhdx_show(&p->files, place_path(p, "b.vhdx"), b, NULL), 0);
	assert_true(guid_equal(&a->stat.disk_id, &b->stat.disk_id));
	assert_int_equal(b->stat.logical_bytes, 4096);
	free(a);
	free(b);
}

static bool cancel(uint64_t done, uint64_t total, void *arg)
{
	(void)total;
	return done < *(uint64_t *)arg;
}

static void a_cancelled_conversion_leaves_nothing(void **state)
{
	struct place *p = *state;
	uint64_t at = 5 * MIB;
	const struct vhdx_create_cfg cfg = {.kind = VHDX_DYNAMIC, .size_bytes = 50 * MIB};
	const struct vhdx_convert_cfg how = {.to = VHDX_FORMAT_RAW, .progress = {cancel, &at}};
	struct errbuf eb = {.text = ""};

	place_create(p, "a.vhdx", NULL, &cfg);
	assert_int_equal(
		vhdx_convert(&p->files, place_path(p, "a.vhdx"), place_path(p, "b.raw"), &how, &eb),
		-ECANCELED);
	assert_int_not_equal(access(place_path(p, "b.raw"), F_OK), 0);
}

static void make_chain(struct place *p, uint64_t child_bytes)
{
	const struct vhdx_create_cfg cfg = {
		.kind = VHDX_DYNAMIC, .size_bytes = 20 * MIB, .block_bytes = 1 << 20};
	struct blk *blk;

	place_create(p, "p.vhdx", NULL, &cfg);
	blk = place_open(p, "p.vhdx", false);
	place_pattern(blk, 0, 6 * MIB, 3);
	place_close(blk);
	place_create(
		p, "c.vhdx", "p.vhdx",
		&(struct vhdx_create_cfg){.kind = VHDX_DIFFERENCING, .size_bytes = child_bytes});
	blk = place_open(p, "c.vhdx", false);
	place_pattern(blk, MIB + 512, 512, 4);           /* partial */
	place_pattern(blk, 2 * MIB, 2 * MIB, 5);         /* all of a block of 2 MiB */
	place_pattern(blk, child_bytes - 4096, 4096, 6); /* new */
	assert_int_equal(blk_sync_zero(blk, 4 * MIB, 2 * MIB), 0);
	place_close(blk);
}

static void expect_chain(struct place *p, const char *name, uint64_t child_bytes)
{
	struct blk *blk = place_open(p, name, true);

	place_expect(blk, 0, MIB, 3);
	place_expect(blk, MIB + 512, 512, 4);
	place_expect(blk, 2 * MIB, 2 * MIB, 5);
	place_expect(blk, 4 * MIB, 3 * MIB, 0);
	place_expect(blk, child_bytes - 4096, 4096, 6);
	place_close(blk);
}

static void a_merged_parent_shows_what_the_child_showed(void **state)
{
	struct place *p = *state;
	const uint64_t sizes[] = {20 * MIB, 45 * MIB};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct errbuf eb = {.text = ""};

		make_chain(p, sizes[i]);
		expect_ok(vhdx_merge(&p->files, place_path(p, "c.vhdx"), NULL, &eb), &eb);
		expect_chain(p, "p.vhdx", sizes[i]);
		expect_chain(p, "c.vhdx", sizes[i]); /* it still works, and may be removed */
		/* Again: nothing is lost by it. */
		expect_ok(vhdx_merge(&p->files, place_path(p, "c.vhdx"), NULL, &eb), &eb);
		expect_chain(p, "p.vhdx", sizes[i]);
		expect_clean(p, "p.vhdx");
		expect_clean(p, "c.vhdx");
		tree_remove(&p->tree, "/p.vhdx");
		tree_remove(&p->tree, "/c.vhdx");
	}
}

static void a_merge_that_stops_anywhere_can_be_repeated(void **state)
{
	struct place *p = *state;
	struct errbuf eb = {.text = ""};
	int err = -ECANCELED;

	make_chain(p, 45 * MIB);
	for (uint64_t at = 0; err == -ECANCELED; at += 2) {
		const struct vhdx_progress progress = {cancel, &at};

		err = vhdx_merge(&p->files, place_path(p, "c.vhdx"), &progress, &eb);
		expect_chain(p, "c.vhdx", 45 * MIB);
	}
	expect_ok(err, &eb);
	expect_chain(p, "p.vhdx", 45 * MIB);
}

static void what_cannot_be_merged_says_why(void **state)
{
	struct place *p = *state;
	struct errbuf eb = {.text = ""};
	struct blk *blk;

	make_chain(p, 20 * MIB);
	assert_int_equal(vhdx_merge(&p->files, place_path(p, "p.vhdx"), NULL, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "has no parent"));
	blk = place_open(p, "p.vhdx", false);
	place_pattern(blk, 0, 512, 9);
	place_close(blk);
	assert_int_equal(vhdx_merge(&p->files, place_path(p, "c.vhdx"), NULL, &eb), -ESTALE);
	assert_non_null(strstr(eb.text, "it has changed since"));
}

static void each_failing_allocation_is_reported(void **state)
{
	struct place *p = *state;
	const struct vhdx_convert_cfg convert_cfg = {.to = VHDX_FORMAT_VHDX,
	                                             .create = {.kind = VHDX_DYNAMIC}};
	const struct vhdx_resize_cfg resize_cfg = {.size_bytes = 50 * MIB};
	int err;

	make_chain(p, 45 * MIB);
	for (int what = 0; what < 3; what++) {
		for (uint32_t k = 1;; k++) {
			struct errbuf eb = {.text = ""};

			fault_arm(FAULT_ALLOC, k);
			err = what == 0 ? vhdx_convert(&p->files, place_path(p, "c.vhdx"),
			                               place_path(p, "d.vhdx"), &convert_cfg, &eb)
			      : what == 1
			              ? vhdx_merge(&p->files, place_path(p, "c.vhdx"), NULL, &eb)
			              : vhdx_resize(&p->files, place_path(p, "d.vhdx"), &resize_cfg,
			                            &eb);
			fault_arm(FAULT_ALLOC, 0);
			if (err == 0) {
				break;
			}
			assert_int_equal(err, -ENOMEM);
			assert_int_not_equal(eb.text[0], '\0');
			expect_chain(p, "c.vhdx", 45 * MIB);
		}
	}
	expect_chain(p, "p.vhdx", 45 * MIB);
	expect_chain(p, "d.vhdx", 45 * MIB);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_grown_disk_keeps_its_data_and_adds_zeros),
		TEST(a_bat_that_outgrows_its_region_moves),
		TEST(disks_convert_from_each_form_to_each_other),
		TEST(a_cancelled_conversion_leaves_nothing),
		TEST(a_merged_parent_shows_what_the_child_showed),
		TEST(a_merge_that_stops_anywhere_can_be_repeated),
		TEST(what_cannot_be_merged_says_why),
		TEST(each_failing_allocation_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
