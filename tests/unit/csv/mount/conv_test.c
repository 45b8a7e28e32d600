/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "csv/mount/mount_int.h"
#include "tests/lib/test.h"

static void errors_become_what_programs_know(void **state)
{
	(void)state;
	assert_int_equal(mount_errno(0), 0);
	assert_int_equal(mount_errno(-ENOSPC), ENOSPC);
	assert_int_equal(mount_errno(-ESTALE), ESTALE);
	assert_int_equal(mount_errno(-EROFS), EROFS);
	assert_int_equal(mount_errno(-ENAMETOOLONG), ENAMETOOLONG);
	assert_int_equal(mount_errno(-EUCLEAN), EIO);
	assert_int_equal(mount_errno(-EPROTO), EIO);
	assert_int_equal(mount_errno(-EDQUOT), ENOSPC);
	assert_int_equal(mount_errno(-EAGAIN), EBUSY);
	for (int e = 1; e < 134; e++) { /* what the kernel takes from a file system */
		assert_in_range(mount_errno(-e), 1, 133);
	}
}

static void names_are_judged(void **state)
{
	char name[300];
	char out[CSV_NAME_MAX + 1];
	uint32_t len;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	assert_int_equal(mount_name(name, out, &len), 0);
	assert_int_equal(len, 255);
	assert_string_equal(out, name);
	name[255] = 'x';
	name[256] = '\0';
	assert_int_equal(mount_name(name, out, &len), -ENAMETOOLONG);
	assert_int_equal(mount_name("", out, &len), -EINVAL);
	assert_int_equal(mount_name(".", out, &len), -EINVAL);
	assert_int_equal(mount_name("..", out, &len), -EINVAL);
	assert_int_equal(mount_name("a/b", out, &len), -EINVAL);
	assert_int_equal(mount_name("...", out, &len), 0);
}

/* A list that goes on where it stopped finds every name once. */
static void offsets_in_directories_are_positive_and_ascend(void **state)
{
	const uint64_t hashes[] = {1, 2, 0x1234567890abcdull, (1ull << 55) + 5, (1ull << 56) - 1};
	uint64_t last = 2;

	(void)state;
	assert_int_equal(mount_dir_cookie(0), 0);
	assert_int_equal(mount_dir_cookie(1), 0);
	assert_int_equal(mount_dir_cookie(2), 0);
	for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
		for (uint64_t low = 1; low < 0x7f; low++) {
			uint64_t cookie = hashes[i] << 8 | low; /* one more than the name's key */
			uint64_t offset = mount_dir_offset(cookie);

			assert_true((int64_t)offset > 2);
			assert_true(offset > last);
			assert_int_equal(mount_dir_cookie(offset), cookie);
			last = offset;
		}
	}
	/* More collisions than there are: names come twice rather than never. */
	assert_true(mount_dir_cookie(mount_dir_offset(0x1ff)) <= 0x1ff);
	assert_true(mount_dir_offset(0) > 2);
}

static void attributes_are_as_stat_says_them(void **state)
{
	struct csv_attr attr = {
		.ino = 77,
		.kind = CSV_KIND_FILE,
		.mode = 04750,
		.uid = 3,
		.gid = 4,
		.links = 1,
		.size_bytes = 5000,
		.modified_ns = 1500000000000000007ull,
		.changed_ns = 2500000000ull,
		.units = 3,
		.entries = 9,
	};
	struct stat st;

	(void)state;
	mount_stat(&attr, &st);
	assert_int_equal(st.st_ino, 77);
	assert_int_equal(st.st_mode, S_IFREG | 04750);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_uid, 3);
	assert_int_equal(st.st_gid, 4);
	assert_int_equal(st.st_size, 5000);
	assert_int_equal(st.st_blocks, 3 * 2048);
	assert_int_equal(st.st_mtim.tv_sec, 1500000000);
	assert_int_equal(st.st_mtim.tv_nsec, 7);
	assert_int_equal(st.st_ctim.tv_nsec, 500000000);
	attr.kind = CSV_KIND_DIR;
	mount_stat(&attr, &st);
	assert_int_equal(st.st_mode, S_IFDIR | 04750);
	assert_int_equal(st.st_size, 9);
	attr.kind = CSV_KIND_FILE;
	attr.links = 0;
	mount_stat(&attr, &st);
	assert_int_equal(st.st_nlink, 0);
}

static void what_is_promised_is_not_available(void **state)
{
	struct csv_stat stat = {.units = 100,
	                        .free_units = 50,
	                        .reserved_units = 20,
	                        .pool_blocks = 1000,
	                        .pool_free = 900,
	                        .files = 30,
	                        .directories = 5};
	struct statvfs st;

	(void)state;
	mount_statvfs(&stat, &st);
	assert_int_equal(st.f_frsize, 4096);
	assert_int_equal(st.f_blocks, 100 * 256);
	assert_int_equal(st.f_bfree, 50 * 256);
	assert_int_equal(st.f_bavail, 30 * 256);
	assert_int_equal(st.f_ffree, 900);
	assert_int_equal(st.f_files, 935);
	assert_int_equal(st.f_namemax, 255);
	stat.reserved_units = 60; /* not sane: no underflow */
	mount_statvfs(&stat, &st);
	assert_int_equal(st.f_bavail, 0);
}

static void modes_of_fallocate_are_refused_or_known(void **state)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	(void)state;
	assert_int_equal(mount_fallocate_check(0, 0, 1), 0);
	assert_int_equal(mount_fallocate_check(FALLOC_FL_KEEP_SIZE, 5, 1), 0);
	assert_int_equal(mount_fallocate_check(punch, 5, 1), 0);
	assert_int_equal(mount_fallocate_check(FALLOC_FL_ZERO_RANGE, 5, 1), 0);
	assert_int_equal(mount_fallocate_check(FALLOC_FL_PUNCH_HOLE, 5, 1), -EOPNOTSUPP);
	assert_int_equal(mount_fallocate_check(FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(mount_fallocate_check(FALLOC_FL_INSERT_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(mount_fallocate_check(0, 0, 0), -EINVAL);
	assert_int_equal(mount_fallocate_check(0, MOUNT_SIZE_MAX, 1), -EFBIG);
	assert_int_equal(mount_fallocate_check(0, UINT64_MAX, 2), -EFBIG);
	assert_int_equal(mount_fallocate_check(0, 1, UINT64_MAX), -EFBIG);
	assert_int_equal(mount_fallocate_check(0, 0, MOUNT_SIZE_MAX), 0);
}

/* Small files take a unit, those that grow at their end an eighth more, holes what they need. */
static void allocation_ahead_follows_the_size(void **state)
{
	const uint64_t mib = 1 << 20;

	(void)state;
	assert_int_equal(mount_ahead(0, 0), mib);
	assert_int_equal(mount_ahead(mib - 1, mib - 1), mib);
	assert_int_equal(mount_ahead(3 * mib, 3 * mib), 4 * mib);
	assert_int_equal(mount_ahead(80 * mib, 80 * mib), 90 * mib);
	assert_int_equal(mount_ahead(80 * mib, 80 * mib + 5), 90 * mib);
	assert_int_equal(mount_ahead(40 * mib + 7, 80 * mib), 41 * mib);
	assert_int_equal(mount_ahead(2000 * mib, 2000 * mib), 2064 * mib);
	assert_int_equal(mount_ahead(0, 2000 * mib), mib);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_become_what_programs_know),
		cmocka_unit_test(names_are_judged),
		cmocka_unit_test(offsets_in_directories_are_positive_and_ascend),
		cmocka_unit_test(attributes_are_as_stat_says_them),
		cmocka_unit_test(what_is_promised_is_not_available),
		cmocka_unit_test(modes_of_fallocate_are_refused_or_known),
		cmocka_unit_test(allocation_ahead_follows_the_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
