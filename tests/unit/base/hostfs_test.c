/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hostfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

static struct tree tree;
static struct hostfs fs;

static int setup(void **state)
{
	(void)state;
	tree_init(&tree);
	(void)snprintf(fs.root, sizeof(fs.root), "%s", tree.root);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tree_fini(&tree);
	return 0;
}

static void reading_trims_the_end_and_cuts(void **state)
{
	char buf[8];

	(void)state;
	tree_file(&tree, "/proc/a", "word \n\n");
	tree_file(&tree, "/proc/empty", "");
	tree_file(&tree, "/proc/long", "0123456789");
	assert_int_equal(hostfs_read(&fs, "/proc/a", buf, sizeof(buf)), 4);
	assert_string_equal(buf, "word");
	assert_int_equal(hostfs_read(&fs, "/proc/empty", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(hostfs_read(&fs, "/proc/long", buf, sizeof(buf)), 7);
	assert_string_equal(buf, "0123456");
	assert_int_equal(hostfs_read(&fs, "/proc/none", buf, sizeof(buf)), -ENOENT);
	assert_string_equal(buf, "");
	assert_int_equal(hostfs_read(&fs, "/proc", buf, sizeof(buf)), -EISDIR);
}

static void numbers_are_whole_or_refused(void **state)
{
	static const char *const bad[] = {"", "x", "-1", "12x", "1 2", "99999999999999999999"};
	uint64_t number = 7;

	(void)state;
	tree_file(&tree, "/n", "18446744073709551615\n");
	assert_int_equal(hostfs_u64(&fs, "/n", &number), 0);
	assert_true(number == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		tree_file(&tree, "/n", bad[i]);
		number = 7;
		assert_int_equal(hostfs_u64(&fs, "/n", &number), -EINVAL);
		assert_int_equal(number, 7);
	}
	assert_int_equal(hostfs_u64(&fs, "/none", &number), -ENOENT);
}

static void a_root_that_makes_paths_too_long_is_an_error(void **state)
{
	char buf[8];
	char path[5000];

	(void)state;
	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(hostfs_read(&fs, path, buf, sizeof(buf)), -ENAMETOOLONG);
	assert_false(hostfs_exists(&fs, path));
	assert_int_equal(hostfs_list(&fs, path, NULL, NULL), -ENAMETOOLONG);
}

static int collect(const char *name, void *arg)
{
	char *text = arg;
	size_t used = strlen(text);

	(void)snprintf(text + used, 64 - used, "%s ", name);
	return strcmp(name, "stop") == 0 ? 42 : 0;
}

static void folders_are_listed_in_natural_order(void **state)
{
	char text[64] = "";

	(void)state;
	tree_dir(&tree, "/d/cpu10");
	tree_dir(&tree, "/d/cpu2");
	tree_file(&tree, "/d/abc", "");
	assert_int_equal(hostfs_list(&fs, "/d", collect, text), 0);
	assert_string_equal(text, "abc cpu2 cpu10 ");
	tree_file(&tree, "/d/stop", "");
	tree_file(&tree, "/d/zzz", "");
	text[0] = '\0';
	assert_int_equal(hostfs_list(&fs, "/d", collect, text), 42);
	assert_string_equal(text, "abc cpu2 cpu10 stop ");
	assert_int_equal(hostfs_list(&fs, "/none", collect, text), -ENOENT);
}

static void programs_are_executable_files(void **state)
{
	char buf[64];

	(void)state;
	tree_file(&tree, "/usr/bin/data", "");
	tree_dir(&tree, "/usr/sbin/folder");
	tree_program(&tree, "/usr/sbin/nft", "");
	assert_true(hostfs_program(&fs, "nft", buf, sizeof(buf)));
	assert_string_equal(buf, "/usr/sbin/nft");
	assert_false(hostfs_program(&fs, "data", buf, sizeof(buf)));
	assert_string_equal(buf, "");
	assert_false(hostfs_program(&fs, "folder", buf, sizeof(buf)));
	assert_false(hostfs_program(&fs, "none", buf, sizeof(buf)));
}

static void text_is_found_in_files(void **state)
{
	(void)state;
	tree_file(&tree, "/lib/modules.dep",
	          "kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko\n");
	assert_true(hostfs_has_text(&fs, "/lib/modules.dep", "/bridge.ko"));
	assert_false(hostfs_has_text(&fs, "/lib/modules.dep", "/tun.ko"));
	assert_false(hostfs_has_text(&fs, "/none", "x"));
}

static void text_is_found_wherever_it_lies_in_a_large_file(void **state)
{
	static char text[3 * 16384];

	(void)state;
	for (size_t at = 16384 - 12; at <= 16384 + 2; at++) {
		memset(text, '.', sizeof(text) - 1);
		(void)snprintf(text + at, sizeof(text) - at, "%s", "/bridge.ko");
		text[at + 10] = '.';
		tree_file(&tree, "/big", text);
		assert_true(hostfs_has_text(&fs, "/big", "/bridge.ko"));
		text[at + 9] = 'x';
		tree_file(&tree, "/big", text);
		assert_false(hostfs_has_text(&fs, "/big", "/bridge.ko"));
	}
	(void)snprintf(text + sizeof(text) - 11, 11, "%s", "/bridge.ko");
	tree_file(&tree, "/big", text);
	assert_true(hostfs_has_text(&fs, "/big", "/bridge.ko"));
}

static void fields_come_with_colon_or_equals(void **state)
{
	static const char text[] = "processor\t: 0\nmodel name\t: Some  CPU \nMemTotal:   100 kB\n"
				   "NAME=\"Debian GNU/Linux\"\nNAMEX=x\nEMPTY=\nBARE";
	char buf[32];

	(void)state;
	assert_true(hostfs_field(text, "model name", buf, sizeof(buf)));
	assert_string_equal(buf, "Some  CPU");
	assert_true(hostfs_field(text, "MemTotal", buf, sizeof(buf)));
	assert_string_equal(buf, "100 kB");
	assert_true(hostfs_field(text, "NAME", buf, sizeof(buf)));
	assert_string_equal(buf, "Debian GNU/Linux");
	assert_true(hostfs_field(text, "EMPTY", buf, sizeof(buf)));
	assert_string_equal(buf, "");
	assert_false(hostfs_field(text, "model", buf, sizeof(buf)));
	assert_false(hostfs_field(text, "BARE", buf, sizeof(buf)));
	assert_true(hostfs_field(text, "NAME", buf, 4));
	assert_string_equal(buf, "Deb");
}

static void words_match_whole(void **state)
{
	(void)state;
	assert_true(hostfs_word("fpu vme nx svm", "nx"));
	assert_true(hostfs_word("fpu vme nx svm", "svm"));
	assert_true(hostfs_word("fpu\tvme\nnx", "fpu"));
	assert_false(hostfs_word("fpu vmex", "vme"));
	assert_false(hostfs_word("", "vme"));
}

#define HOSTFS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOSTFS_TEST(reading_trims_the_end_and_cuts),
		HOSTFS_TEST(numbers_are_whole_or_refused),
		HOSTFS_TEST(a_root_that_makes_paths_too_long_is_an_error),
		HOSTFS_TEST(folders_are_listed_in_natural_order),
		HOSTFS_TEST(programs_are_executable_files),
		HOSTFS_TEST(text_is_found_in_files),
		HOSTFS_TEST(text_is_found_wherever_it_lies_in_a_large_file),
		HOSTFS_TEST(fields_come_with_colon_or_equals),
		HOSTFS_TEST(words_match_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
