/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/path_int.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/vhdx/place.h"

#define MIB (1ull << 20)

static const struct vhdx_create_cfg base_cfg = {
	.kind = VHDX_DYNAMIC, .size_bytes = 20 * MIB, .block_bytes = 1 << 20};
static const struct vhdx_create_cfg child_cfg = {.kind = VHDX_DIFFERENCING};

static void paths_in_locators_go_both_ways(void **state)
{
	const struct {
		const char *child, *parent, *name;
	} cases[] = {
		{"/a/b/child", "/a/b/parent", ".\\parent"},
		{"/a/b/child", "/a/parent", "..\\parent"},
		{"/a/b/child", "/c/d/parent", "..\\..\\c\\d\\parent"},
		{"/child", "/x/parent", ".\\x\\parent"},
		{"/a/bc/child", "/a/b/parent", "..\\b\\parent"},
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(
			vhdx_path_relative(cases[i].child, cases[i].parent, out, sizeof(out)), 0);
		assert_string_equal(out, cases[i].name);
		for (size_t size = 0; size <= strlen(cases[i].name); size++) {
			assert_int_equal(
				vhdx_path_relative(cases[i].child, cases[i].parent, out, size),
				-ENAMETOOLONG);
		}
	}
	assert_int_equal(vhdx_path_relative("/a/c", "/a/p\\q", out, sizeof(out)), -EINVAL);
	assert_int_equal(vhdx_path_resolve("/a/b/child", ".\\x\\p.vhdx", out, sizeof(out)), 0);
	assert_string_equal(out, "/a/b/x/p.vhdx");
	assert_int_equal(vhdx_path_resolve("child", "..\\p.vhdx", out, sizeof(out)), 0);
	assert_string_equal(out, "../p.vhdx");
	assert_int_equal(vhdx_path_resolve("/a/child", "/srv/p.vhdx", out, sizeof(out)), 0);
	assert_string_equal(out, "/srv/p.vhdx");
	assert_int_equal(vhdx_path_resolve("/a/child", "p", out, 3), -ENAMETOOLONG);
}

static void a_chain_shows_the_newest_of_each_sector(void **state)
{
	struct place *p = *state;
	struct blk *blk;

	place_create(p, "base.vhdx", NULL, &base_cfg);
	blk = place_open(p, "base.vhdx", false);
	place_pattern(blk, 0, 8 * MIB, 11);
	place_close(blk);
	tree_dir(&p->tree, "/sub");
	place_create(p, "sub/middle.avhdx", "base.vhdx", &child_cfg);
	blk = place_open(p, "sub/middle.avhdx", false);
	place_expect(blk, 0, 8 * MIB, 11);
	place_pattern(blk, 3 * MIB, MIB, 22);
	place_pattern(blk, 10 * MIB, 4096, 23);
	place_close(blk);
	place_create(p, "top.avhdx", "sub/middle.avhdx", &child_cfg);
	blk = place_open(p, "top.avhdx", false);
	place_pattern(blk, 3 * MIB + 512, 512, 33);
	place_expect(blk, 3 * MIB, 512, 22);
	place_expect(blk, 3 * MIB + 512, 512, 33);
	place_expect(blk, 10 * MIB, 4096, 23);
	place_expect(blk, 10 * MIB + 4096, 4096, 0);
	assert_int_equal(blk_sync_zero(blk, 0, 2 * MIB), 0);
	place_expect(blk, 0, 2 * MIB, 0);
	place_close(blk);
	blk = place_open(p, "top.avhdx", true);
	place_expect(blk, 0, 2 * MIB, 0);
	place_expect(blk, 3 * MIB + 512, 512, 33);
	place_close(blk);
	struct vhdx_chain chain;

	assert_int_equal(vhdx_chain_find(&p->files, place_path(p, "top.avhdx"), &chain, NULL), 0);
	assert_int_equal(chain.count, 3);
	assert_string_equal(chain.path[0], place_path(p, "top.avhdx"));
	assert_string_equal(chain.path[1], place_path(p, "sub/middle.avhdx"));
	assert_string_equal(chain.path[2], place_path(p, "sub/../base.vhdx"));
	vhdx_chain_fini(&chain);
	/* The parents are as they were. */
	blk = place_open(p, "sub/middle.avhdx", true);
	place_expect(blk, 3 * MIB, MIB, 22);
	place_close(blk);
}

static void a_moved_pair_finds_itself_and_a_lost_parent_is_named(void **state)
{
	struct place *p = *state;
	struct errbuf eb = {.text = ""};
	struct blk *blk;
	char from[PLACE_PATH_MAX];

	place_create(p, "p.vhdx", NULL, &base_cfg);
	place_create(p, "c.vhdx", "p.vhdx", &child_cfg);
	tree_dir(&p->tree, "/new");
	(void)snprintf(from, sizeof(from), "%s", place_path(p, "p.vhdx"));
	assert_int_equal(rename(from, place_path(p, "new/p.vhdx")), 0);
	assert_int_equal(vhdx_open_path(&p->files, place_path(p, "c.vhdx"), true, &blk, &eb),
	                 -ENOENT);
	assert_non_null(strstr(eb.text, "c.vhdx: parent "));
	assert_non_null(strstr(eb.text, "p.vhdx"));
	(void)snprintf(from, sizeof(from), "%s", place_path(p, "c.vhdx"));
	assert_int_equal(rename(from, place_path(p, "new/c.vhdx")), 0);
	place_close(place_open(p, "new/c.vhdx", true));
	/* The child alone elsewhere, the parent back: the absolute path leads to it. */
	(void)snprintf(from, sizeof(from), "%s", place_path(p, "new/p.vhdx"));
	assert_int_equal(rename(from, place_path(p, "p.vhdx")), 0);
	eb = (struct errbuf){.text = ""};
	assert_int_equal(vhdx_open_path(&p->files, place_path(p, "new/c.vhdx"), true, &blk, &eb),
	                 0);
	assert_string_equal(eb.text, ""); /* the place where it is not is no error */
	place_close(blk);
}

static void a_parent_that_was_written_to_is_refused(void **state)
{
	struct place *p = *state;
	struct errbuf eb = {.text = ""};
	struct blk *blk;

	place_create(p, "p.vhdx", NULL, &base_cfg);
	place_create(p, "c.vhdx", "p.vhdx", &child_cfg);
	blk = place_open(p, "p.vhdx", false);
	place_close(blk); /* opened for writing, not written: nothing has changed */
	place_close(place_open(p, "c.vhdx", true));
	blk = place_open(p, "p.vhdx", false);
	place_pattern(blk, 0, 4096, 5);
	place_close(blk);
	assert_int_equal(vhdx_open_path(&p->files, place_path(p, "c.vhdx"), true, &blk, &eb),
	                 -ESTALE);
	assert_non_null(strstr(eb.text, "it has changed since"));
	assert_null(blk);
}

static void loops_and_endless_chains_are_refused(void **state)
{
	struct place *p = *state;
	struct errbuf eb = {.text = ""};
	struct blk *blk;
	char name[32];
	char parent[32] = "0.vhdx";
	char from[PLACE_PATH_MAX];
	int err = 0;

	place_create(p, parent, NULL, &base_cfg);
	for (uint32_t i = 1; err == 0; i++) {
		assert_true(i <= VHDX_CHAIN_MAX);
		(void)snprintf(from, sizeof(from), "%s", place_path(p, parent));
		(void)snprintf(name, sizeof(name), "%u.vhdx", i);
		place_create(p, name, parent, &child_cfg);
		err = vhdx_open_path(&p->files, place_path(p, name), true, &blk, &eb);
		if (err == 0) {
			place_close(blk);
			(void)snprintf(parent, sizeof(parent), "%s", name);
		}
	}
	assert_int_equal(err, -ELOOP);
	assert_string_equal(parent, "63.vhdx");
	/* 3 becomes a copy of 5, whose parent 4 has the parent 3. */
	(void)snprintf(from, sizeof(from), "%s", place_path(p, "5.vhdx"));
	assert_int_equal(rename(from, place_path(p, "3.vhdx")), 0);
	assert_int_equal(vhdx_open_path(&p->files, place_path(p, "4.vhdx"), true, &blk, &eb),
	                 -ELOOP);
	assert_non_null(strstr(eb.text, "its own ancestor"));
}

static void what_cannot_be_created_says_why_and_leaves_nothing(void **state)
{
	struct place *p = *state;
	const struct {
		struct vhdx_create_cfg cfg;
		const char *text;
	} cases[] = {
		{{.kind = VHDX_DYNAMIC, .size_bytes = 0}, "disk size"},
		{{.kind = VHDX_DYNAMIC, .size_bytes = 513}, "disk size"},
		{{.kind = VHDX_DYNAMIC, .size_bytes = (64ull << 40) + 4096}, "64 TiB"},
		{{.kind = VHDX_DYNAMIC, .size_bytes = MIB, .block_bytes = 3 << 20}, "block size"},
		{{.kind = VHDX_DYNAMIC, .size_bytes = MIB, .logical_bytes = 1024}, "sector sizes"},
		{{.kind = VHDX_DYNAMIC, .size_bytes = MIB, .log_bytes = 4096}, "log of"},
		{{.kind = VHDX_DIFFERENCING, .size_bytes = MIB}, "needs a parent"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct errbuf eb = {.text = ""};

		assert_int_equal(vhdx_create(&p->files, place_path(p, "x.vhdx"), NULL,
		                             &cases[i].cfg, NULL, &eb),
		                 -EINVAL);
		assert_non_null(strstr(eb.text, cases[i].text));
		assert_int_not_equal(access(place_path(p, "x.vhdx"), F_OK), 0);
	}
	place_create(p, "x.vhdx", NULL, &base_cfg);
	assert_int_equal(
		vhdx_create(&p->files, place_path(p, "x.vhdx"), NULL, &base_cfg, NULL, NULL),
		-EEXIST);
	place_close(place_open(p, "x.vhdx", true));
}

static void each_failing_allocation_is_reported(void **state)
{
	struct place *p = *state;
	struct errbuf eb;
	struct blk *blk;
	int err;

	place_create(p, "p.vhdx", NULL, &base_cfg);
	for (uint32_t k = 1;; k++) {
		eb = (struct errbuf){.text = ""};
		fault_arm(FAULT_ALLOC, k);
		err = vhdx_create(&p->files, place_path(p, "c.vhdx"), place_path(p, "p.vhdx"),
		                  &child_cfg, NULL, &eb);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_int_not_equal(access(place_path(p, "c.vhdx"), F_OK), 0);
	}
	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = vhdx_open_path(&p->files, place_path(p, "c.vhdx"), false, &blk, &eb);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(blk);
	}
	place_close(blk);
	for (uint32_t k = 1;; k++) {
		struct vhdx_chain chain;

		fault_arm(FAULT_ALLOC, k);
		err = vhdx_chain_find(&p->files, place_path(p, "c.vhdx"), &chain, &eb);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			vhdx_chain_fini(&chain);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(chain.count, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_in_locators_go_both_ways),
		cmocka_unit_test_setup_teardown(a_chain_shows_the_newest_of_each_sector,
	                                        place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(
			a_moved_pair_finds_itself_and_a_lost_parent_is_named, place_setup,
			place_teardown),
		cmocka_unit_test_setup_teardown(a_parent_that_was_written_to_is_refused,
	                                        place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(loops_and_endless_chains_are_refused, place_setup,
	                                        place_teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_created_says_why_and_leaves_nothing,
	                                        place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(each_failing_allocation_is_reported, place_setup,
	                                        place_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
