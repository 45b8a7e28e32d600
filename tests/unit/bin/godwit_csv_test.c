/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"
#include "tests/lib/test.h"

#define SIZE (64ll << 20)
#define STATE_AT (1024 + 2 * 256) /* block of the volume's state: docs/formats/csv.md */

static char path[64];

/* Run a command line of at most seven words; the answer and what was said, together. */
static int run(char *text, size_t room, const char *const words[])
{
	char *out = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&out, &len);
	int count = 0;
	int status;

	assert_non_null(f);
	while (words[count] != NULL) {
		count++;
	}
	status = cli_run(&godwit_app, count, words, f, f, NULL);
	(void)fclose(f);
	(void)snprintf(text, room, "%s", out);
	free(out);
	return status;
}

static int create(char *text, size_t room, const char *force)
{
	const char *const words[] = {"godwit",   "csv", "create", "vol1",
	                             "--device", path,  force,    NULL};

	return run(text, room, words);
}

static int check(char *text, size_t room, const char *option)
{
	const char *const words[] = {"godwit", "csv", "check", path, option, NULL};

	return run(text, room, words);
}

static int make_file(void **state)
{
	int fd;

	(void)state;
	(void)snprintf(path, sizeof(path), "godwit-csv-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	(void)close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void put(off_t at, const char *bytes)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, strlen(bytes), at), (ssize_t)strlen(bytes));
	(void)close(fd);
}

static void a_volume_is_made_and_is_in_order(void **state)
{
	char text[4000];
	json_t *json;

	(void)state;
	assert_int_equal(check(text, sizeof(text), NULL), CLI_FAILED);
	assert_non_null(strstr(text, "superblock at block 16"));
	assert_int_equal(create(text, sizeof(text), NULL), CLI_DONE);
	assert_non_null(strstr(text, "volume vol1, 64 MiB"));
	assert_int_equal(check(text, sizeof(text), NULL), CLI_DONE);
	assert_non_null(strstr(text, "no faults"));
	assert_int_equal(check(text, sizeof(text), "--json"), CLI_DONE);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	assert_int_equal(json_integer_value(json_object_get(json, "directories")), 1);
	assert_int_equal(json_array_size(json_object_get(json, "faults")), 0);
	json_decref(json);
}

static void what_is_there_is_not_overwritten(void **state)
{
	char text[4000];

	(void)state;
	put(SIZE - 1000, "somebody's label");
	assert_int_equal(create(text, sizeof(text), NULL), CLI_FAILED);
	assert_non_null(strstr(text, "data at byte 67107864"));
	assert_int_equal(create(text, sizeof(text), "--force"), CLI_DONE);
	assert_int_equal(create(text, sizeof(text), NULL), CLI_FAILED);
	assert_non_null(strstr(text, "it is volume \"vol1\" already"));
	assert_int_equal(create(text, sizeof(text), "--force"), CLI_DONE);
}

static void damage_is_found_and_repaired(void **state)
{
	char text[4000];

	(void)state;
	assert_int_equal(create(text, sizeof(text), NULL), CLI_DONE);
	put(STATE_AT * 4096 + 100, "damage");
	assert_int_equal(check(text, sizeof(text), NULL), CLI_FAILED);
	assert_non_null(strstr(text, "volume state at block 1536: bad checksum"));
	assert_int_equal(check(text, sizeof(text), "--repair"), CLI_DONE);
	assert_non_null(strstr(text, "written anew"));
	assert_int_equal(check(text, sizeof(text), NULL), CLI_DONE);
}

static void names_and_devices_are_checked(void **state)
{
	const char *const name[] = {"godwit", "csv", "create", "a/b", "--device", path, NULL};
	const char *const none[] = {"godwit",   "csv",           "create", "vol1",
	                            "--device", "/nowhere/disk", NULL};
	char text[4000];

	(void)state;
	assert_int_equal(run(text, sizeof(text), name), CLI_FAILED);
	assert_non_null(strstr(text, "a name has"));
	assert_int_equal(run(text, sizeof(text), none), CLI_FAILED);
	assert_int_equal(truncate(path, 1 << 20), 0);
	assert_int_equal(create(text, sizeof(text), NULL), CLI_FAILED);
	assert_non_null(strstr(text, "64 MiB to 256 TiB"));
}

static int remove_it(char *text, size_t room, const char *name, const char *yes)
{
	const char *const words[] = {"godwit", "csv", "remove", name, "--device", path, yes, NULL};

	return run(text, room, words);
}

static void a_volume_is_removed_by_its_name_and_on_purpose(void **state)
{
	char text[4000];

	(void)state;
	assert_int_equal(remove_it(text, sizeof(text), "vol1", "--yes"), CLI_FAILED);
	assert_int_equal(create(text, sizeof(text), NULL), CLI_DONE);
	assert_int_equal(remove_it(text, sizeof(text), "vol2", "--yes"), CLI_FAILED);
	assert_non_null(strstr(text, "it is volume \"vol1\""));
	assert_int_equal(remove_it(text, sizeof(text), "vol1", NULL), CLI_FAILED);
	assert_non_null(strstr(text, "--yes"));
	assert_int_equal(check(text, sizeof(text), NULL), CLI_DONE);
	assert_int_equal(remove_it(text, sizeof(text), "vol1", "--yes"), CLI_DONE);
	assert_int_equal(check(text, sizeof(text), NULL), CLI_FAILED);
	/* It is as good as new. */
	assert_int_equal(create(text, sizeof(text), NULL), CLI_DONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_volume_is_made_and_is_in_order, make_file,
	                                        remove_file),
		cmocka_unit_test_setup_teardown(what_is_there_is_not_overwritten, make_file,
	                                        remove_file),
		cmocka_unit_test_setup_teardown(damage_is_found_and_repaired, make_file,
	                                        remove_file),
		cmocka_unit_test_setup_teardown(a_volume_is_removed_by_its_name_and_on_purpose,
	                                        make_file, remove_file),
		cmocka_unit_test_setup_teardown(names_and_devices_are_checked, make_file,
	                                        remove_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
