/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/instance.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/hostfs.h"
#include "tests/lib/child.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

static struct tree tree;

static int setup(void **state)
{
	(void)state;
	tree_init(&tree);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tree_fini(&tree);
	return 0;
}

static int try_lock(void *arg)
{
	int fd;

	(void)arg;
	return -instance_lock(tree.root, "toyd", &fd, NULL);
}

static void the_second_instance_is_refused_and_learns_the_pid(void **state)
{
	struct errbuf eb = {0};
	char text[32];
	int first;
	int second = 7;

	(void)state;
	assert_int_equal(instance_lock(tree.root, "toyd", &first, &eb), 0);
	assert_int_equal(instance_lock(tree.root, "toyd", &second, &eb), -EBUSY);
	assert_int_equal(second, -1);
	(void)snprintf(text, sizeof(text), "(pid %d)", (int)getpid());
	assert_non_null(strstr(eb.text, text));
	assert_int_equal(close(first), 0);
}

static void other_processes_are_refused_too(void **state)
{
	struct child child;
	int fd;

	(void)state;
	assert_int_equal(instance_lock(tree.root, "toyd", &fd, NULL), 0);
	assert_int_equal(child_run(try_lock, NULL, &child), 0);
	assert_int_equal(child.exit_status, EBUSY);
	assert_int_equal(close(fd), 0);
	assert_int_equal(child_run(try_lock, NULL, &child), 0);
	assert_int_equal(child.exit_status, 0);
}

static void names_and_directories_are_independent(void **state)
{
	int a;
	int b;

	(void)state;
	assert_int_equal(instance_lock(tree.root, "toyd", &a, NULL), 0);
	assert_int_equal(instance_lock(tree.root, "otherd", &b, NULL), 0);
	assert_int_equal(close(a), 0);
	assert_int_equal(close(b), 0);
}

static void a_shorter_pid_replaces_what_was_there(void **state)
{
	struct hostfs fs = {0};
	char expected[32];
	char text[64];
	int fd;

	(void)state;
	tree_file(&tree, "/toyd.lock", "99999999999999999999\nrubbish\n");
	assert_int_equal(instance_lock(tree.root, "toyd", &fd, NULL), 0);
	(void)snprintf(fs.root, sizeof(fs.root), "%s", tree.root);
	(void)snprintf(expected, sizeof(expected), "%d", (int)getpid());
	assert_int_equal(hostfs_read(&fs, "/toyd.lock", text, sizeof(text)), strlen(expected));
	assert_string_equal(text, expected);
	assert_int_equal(close(fd), 0);
}

static void links_and_missing_directories_are_errors(void **state)
{
	struct errbuf eb = {0};
	int fd;

	(void)state;
	tree_link(&tree, "/toyd.lock", "/etc/passwd");
	assert_int_equal(instance_lock(tree.root, "toyd", &fd, &eb), -ELOOP);
	assert_int_equal(instance_lock("/nowhere/at/all", "toyd", &fd, &eb), -ENOENT);
	assert_non_null(strstr(eb.text, "/nowhere/at/all/toyd.lock"));
}

#define INSTANCE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		INSTANCE_TEST(the_second_instance_is_refused_and_learns_the_pid),
		INSTANCE_TEST(other_processes_are_refused_too),
		INSTANCE_TEST(names_and_directories_are_independent),
		INSTANCE_TEST(a_shorter_pid_replaces_what_was_there),
		INSTANCE_TEST(links_and_missing_directories_are_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
