/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "tests/lib/test.h"

/* Every test runs in a folder of its own, which must be empty at the end. */
static int setup(void **state)
{
	char *dir = strdup("/tmp/godwit-fs-XXXXXX");

	*state = dir;
	return dir == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0;
}

static int teardown(void **state)
{
	int err = chdir("/") != 0 || rmdir(*state) != 0;

	free(*state);
	return err;
}

static void assert_content(const char *path, const char *want, size_t want_len)
{
	char *data;
	size_t len;

	assert_int_equal(fs_read(path, 1 << 20, &data, &len, NULL), 0);
	assert_int_equal(len, want_len);
	assert_memory_equal(data, want, len);
	assert_int_equal(data[len], '\0');
	free(data);
}

static void what_is_written_is_read_back(void **state)
{
	static const char bytes[] = "a\0b\nc";
	static char big[100000];
	struct stat st;

	(void)state;
	assert_int_equal(fs_write("f", bytes, 5, 0640, NULL), 0);
	assert_content("f", bytes, 5);
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	memset(big, 'x', sizeof(big));
	assert_int_equal(fs_write("./f", big, sizeof(big), 0600, NULL), 0);
	assert_content("f", big, sizeof(big));
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fs_write("f", NULL, 0, 0600, NULL), 0);
	assert_content("f", "", 0);
	assert_int_equal(unlink("f"), 0);
}

static void a_link_is_replaced_and_its_target_left_alone(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(fs_write("target", "old", 3, 0600, NULL), 0);
	assert_int_equal(symlink("target", "link"), 0);
	assert_int_equal(fs_write("link", "new", 3, 0600, NULL), 0);
	assert_content("target", "old", 3);
	assert_content("link", "new", 3);
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(unlink("target") | unlink("link"), 0);
}

static void reading_has_a_limit_and_takes_regular_files_only(void **state)
{
	struct errbuf eb = {0};
	char *data = (char *)&eb;
	size_t len = 1;

	(void)state;
	assert_int_equal(fs_write("f", "12345", 5, 0600, NULL), 0);
	assert_int_equal(fs_read("f", 5, &data, &len, &eb), 0);
	free(data);
	assert_int_equal(fs_read("f", 4, &data, &len, &eb), -EFBIG);
	assert_null(data);
	assert_string_equal(eb.text, "f has more than 4 bytes");
	assert_int_equal(fs_read("none", 4, &data, &len, &eb), -ENOENT);
	assert_string_equal(eb.text, "open none: No such file or directory");
	assert_int_equal(fs_read("/tmp", 4, &data, &len, &eb), -EINVAL);
	assert_string_equal(eb.text, "/tmp is not a regular file");
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(fs_read("fifo", 4, &data, &len, &eb), -EINVAL); /* and does not hang */
	assert_int_equal(fs_read("/proc/self/status", 1 << 16, &data, &len, &eb), 0);
	assert_true(len > 100); /* though stat() says 0 */
	free(data);
	assert_int_equal(unlink("f") | unlink("fifo"), 0);
}

static void a_failed_write_leaves_the_old_file_and_nothing_else(void **state)
{
	struct errbuf eb = {0};
	uint32_t k = 0;
	int err;

	(void)state;
	assert_int_equal(fs_write("f", "old", 3, 0600, NULL), 0);
	do {
		fault_arm(FAULT_IO, ++k);
		err = fs_write("f", "new", 3, 0600, &eb);

		bool hit = fault_hit(FAULT_IO);

		fault_arm(FAULT_IO, 0);
		assert_int_equal(err, hit ? -EIO : 0);
		/* The third and last event is the sync of the folder, after the renaming. */
		assert_content("f", k < 3 ? "old" : "new", 3);
	} while (err != 0);
	assert_int_equal(k, 4);
	assert_string_equal(eb.text, "sync .: Input/output error");
	assert_int_equal(unlink("f"), 0);
	/* teardown: no temporary file is left. */
	assert_int_equal(fs_write("no/such/f", "x", 1, 0600, &eb), -ENOENT);
	assert_string_equal(eb.text, "create a file beside no/such/f: No such file or directory");

	static char path[PATH_MAX + 10];

	memset(path, 'a', sizeof(path) - 1);
	assert_int_equal(fs_write(path, "x", 1, 0600, NULL), -ENAMETOOLONG);
	path[PATH_MAX - 4] = '\0';
	assert_int_equal(fs_write(path, "x", 1, 0600, NULL), -ENAMETOOLONG);
	assert_int_equal(fs_mkdirs(path, 0700, NULL), -ENAMETOOLONG);
}

static void reading_survives_failures_of_memory_and_disk(void **state)
{
	static char big[100000];
	char *data;
	size_t len;

	(void)state;
	assert_int_equal(fs_write("f", big, sizeof(big), 0600, NULL), 0);
	for (int kind = 0; kind < 2; kind++) {
		uint32_t k = 0;
		int err;

		do {
			fault_arm(kind == 0 ? FAULT_ALLOC : FAULT_IO, ++k);
			err = fs_read("f", 1 << 20, &data, &len, NULL);
			assert_int_equal(err == 0, data != NULL);
			free(data);
			assert_true(err == 0 || err == (kind == 0 ? -ENOMEM : -EIO));
		} while (err != 0);
		fault_arm(kind == 0 ? FAULT_ALLOC : FAULT_IO, 0);
		assert_in_range(k, 5, 20);
	}
	assert_int_equal(unlink("f"), 0);
}

static void folders_are_made_with_those_above(void **state)
{
	struct errbuf eb = {0};
	char path[PATH_MAX];

	assert_int_equal(fs_mkdirs("a/b//c/", 0700, &eb), 0);
	assert_int_equal(fs_mkdirs("a/b/c", 0700, &eb), 0); /* they exist */
	(void)snprintf(path, sizeof(path), "%s/a/d", (const char *)*state);
	assert_int_equal(fs_mkdirs(path, 0700, &eb), 0);
	assert_int_equal(fs_mkdirs("/", 0700, &eb), 0);
	assert_int_equal(fs_mkdirs("", 0700, &eb), -ENOENT);
	assert_int_equal(fs_write("a/f", "x", 1, 0600, &eb), 0);
	assert_int_equal(fs_mkdirs("a/f", 0700, &eb), -ENOTDIR);
	assert_string_equal(eb.text, "a/f is not a folder");
	assert_int_equal(fs_mkdirs("a/f/g", 0700, &eb), -ENOTDIR);
	assert_string_equal(eb.text, "make folder a/f/g: Not a directory");
	assert_int_equal(unlink("a/f") | rmdir("a/b/c") | rmdir("a/b") | rmdir("a/d") | rmdir("a"),
	                 0);
	assert_int_equal(fs_sync_dir("a", &eb), -ENOENT);
}

static void json_files_name_themselves_in_errors(void **state)
{
	static const char want[] = "{\n  \"a\": [\n    1,\n    2\n  ]\n}\n";
	struct errbuf eb = {0};
	json_t *value;
	json_t *back;

	(void)state;
	assert_int_equal(fs_write("f.json", "{\"a\":\n tru}", 11, 0600, NULL), 0);
	assert_int_equal(json_read_file("f.json", NULL, &value, &eb), -EBADMSG);
	assert_string_equal(eb.text, "f.json: line 2, column 4 (byte 9): invalid token near 'tru'");
	assert_null(value);
	assert_int_equal(json_read_file("none.json", NULL, &value, &eb), -ENOENT);
	value = json_pack("{s:[i,i]}", "a", 1, 2);
	assert_int_equal(json_write_file("f.json", value, 0600, &eb), 0);
	assert_content("f.json", want, strlen(want));
	assert_int_equal(json_read_file("f.json", NULL, &back, &eb), 0);
	assert_true(json_equal(value, back));
	json_decref(value);
	json_decref(back);
	assert_int_equal(unlink("f.json"), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read_back),
		TEST(a_link_is_replaced_and_its_target_left_alone),
		TEST(reading_has_a_limit_and_takes_regular_files_only),
		TEST(a_failed_write_leaves_the_old_file_and_nothing_else),
		TEST(reading_survives_failures_of_memory_and_disk),
		TEST(folders_are_made_with_those_above),
		TEST(json_files_name_themselves_in_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
