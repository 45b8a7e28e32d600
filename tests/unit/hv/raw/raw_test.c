/* SPDX-License-Identifier: Apache-2.0 */

/* raw_test - opening, locking, creating; the requests are in raw_io_test.c. */
#include "hv/raw/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/unit/hv/raw/raw_fixture.h"

static const struct raw_cfg plain = {.path = NULL};

/* Open @cfg and expect the failure @err with a text that holds @word. */
static void refuse(struct raw_fixture *f, const struct raw_cfg *cfg, int err, const char *word)
{
	struct errbuf eb = {0};
	struct blk *blk = (struct blk *)1;

	assert_int_equal(raw_open(cfg, f->ring, &blk, &eb), err);
	assert_null(blk);
	if (strstr(eb.text, word) == NULL) {
		print_error("'%s' is not in '%s'\n", word, eb.text);
		fail();
	}
}

static void a_file_opens_with_its_size_and_sectors(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	struct blk_info info;
	struct raw_stats stats;

	blk_get_info(blk, &info);
	assert_int_equal(info.size_bytes, RAW_FIXTURE_BYTES);
	assert_true(info.logical_bytes == 512 || info.logical_bytes == 4096);
	assert_true(info.physical_bytes >= info.logical_bytes);
	assert_true(info.can_resize);
	assert_false(info.read_only);
	assert_string_equal(info.driver, "raw");
	raw_get_stats(blk, &stats);
	if (!stats.direct) {
		print_message("note: no O_DIRECT in %s\n", f->dir);
	}
	assert_int_equal(blk_close(blk, NULL), 0);
}

static void what_is_no_disk_is_refused_by_name(void **state)
{
	struct raw_fixture *f = *state;
	struct raw_cfg cfg = {.path = f->dir};
	char fifo[64];

	refuse(f, &cfg, -EISDIR, f->dir);
	cfg.read_only = true;
	refuse(f, &cfg, -EINVAL, "neither a file nor a block device");
	cfg.path = "/dev/null";
	refuse(f, &cfg, -EINVAL, "raw: /dev/null: neither a file nor a block device");
	cfg.path = "/nowhere/disk.raw";
	refuse(f, &cfg, -ENOENT, "/nowhere/disk.raw");
	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", f->dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	cfg.path = fifo;
	refuse(f, &cfg, -EINVAL, "neither"); /* and does not hang */
	assert_int_equal(unlink(fifo), 0);
	cfg.path = f->path;
	cfg.logical_bytes = 1024;
	refuse(f, &cfg, -EINVAL, "1024");
}

static void a_size_that_is_no_multiple_of_the_sector_is_refused_with_a_remedy(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg cfg = {.path = f->path};
	struct errbuf eb = {0};
	struct blk *blk;

	assert_int_equal(truncate(f->path, RAW_FIXTURE_BYTES + 100), 0);
	assert_int_equal(raw_open(&cfg, f->ring, &blk, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "4194404"));
	assert_non_null(strstr(eb.hint, "truncate -s %512"));
}

static void a_sector_size_that_was_asked_for_is_taken(void **state)
{
	struct raw_fixture *f = *state;
	struct raw_cfg cfg = {.path = f->path, .logical_bytes = 4096};
	struct blk *blk = raw_fixture_open(f, &cfg);
	struct blk_info info;

	blk_get_info(blk, &info);
	assert_int_equal(info.logical_bytes, 4096);
	assert_int_equal(blk_sync_zero(blk, 512, 512), -EINVAL);
	assert_int_equal(blk_close(blk, NULL), 0);
	assert_int_equal(truncate(f->path, RAW_FIXTURE_BYTES + 512), 0);
	refuse(f, &cfg, -EINVAL, "4096");
	cfg.logical_bytes = 512;
	blk = raw_fixture_open(f, &cfg);
	assert_int_equal(blk_sync_zero(blk, RAW_FIXTURE_BYTES, 512), 0);
	assert_int_equal(blk_close(blk, NULL), 0);
}

/* ---- locks ---- */

static void there_is_one_writer_or_many_readers(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg rw = {.path = f->path};
	const struct raw_cfg ro = {.path = f->path, .read_only = true};
	char me[64];

	(void)snprintf(me, sizeof(me), "in use by process %d (", getpid());

	struct blk *writer = raw_fixture_open(f, &rw);

	refuse(f, &rw, -EBUSY, me);
	refuse(f, &ro, -EBUSY, me);
	assert_int_equal(blk_close(writer, NULL), 0);

	struct blk *reader = raw_fixture_open(f, &ro);
	struct blk *second = raw_fixture_open(f, &ro);

	refuse(f, &rw, -EBUSY, me);
	assert_int_equal(blk_close(reader, NULL), 0);
	refuse(f, &rw, -EBUSY, me);
	assert_int_equal(blk_close(second, NULL), 0);
	writer = raw_fixture_open(f, &rw);
	assert_int_equal(blk_close(writer, NULL), 0);
}

static void a_lock_of_another_process_names_it_and_ends_with_it(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg rw = {.path = f->path};
	int go[2];
	int ready[2];
	char name[64];
	char byte;

	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);

	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		int fd = open(f->path, O_RDWR | O_CLOEXEC);

		close(go[1]);
		if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) != 0 || write(ready[1], "r", 1) != 1) {
			_exit(1);
		}
		_exit(read(go[0], &byte, 1) == 0 ? 0 : 1); /* until the parent closes */
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)snprintf(name, sizeof(name), "in use by process %d (hv_raw_test)", child);
	refuse(f, &rw, -EBUSY, name);
	close(go[1]);

	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);

	struct blk *blk = raw_fixture_open(f, &rw);

	assert_int_equal(blk_close(blk, NULL), 0);
	close(go[0]);
	close(ready[0]);
	close(ready[1]);
}

/* ---- descriptors from elsewhere ---- */

static void a_passed_descriptor_is_taken_with_its_lock(void **state)
{
	struct raw_fixture *f = *state;
	struct raw_cfg cfg = {.fd = open(f->path, O_RDWR | O_CLOEXEC)};
	const struct raw_cfg by_path = {.path = f->path};
	int copy = fcntl(cfg.fd, F_DUPFD_CLOEXEC, 0); /* as another process would hold one */
	struct blk *blk;
	uint8_t buf[4096] = "x";

	assert_true(cfg.fd >= 0 && copy >= 0);
	assert_int_equal(raw_open(&cfg, f->ring, &blk, NULL), 0);
	assert_int_equal(blk_sync_write(blk, 0, buf, sizeof(buf)), 0);
	refuse(f, &by_path, -EBUSY, "in use");
	assert_int_equal(blk_close(blk, NULL), 0);
	assert_int_equal(fcntl(cfg.fd, F_GETFD), -1);
	/* The device is closed, so nobody uses the disk, whoever still has the descriptor. */
	blk = raw_fixture_open(f, &by_path);
	assert_int_equal(blk_close(blk, NULL), 0);
	close(copy);
}

static void a_released_disk_is_somebody_elses_until_it_is_retaken(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg by_path = {.path = f->path};
	struct blk *here = raw_fixture_open(f, &by_path);
	struct blk *there;
	struct errbuf eb = {0};
	uint8_t buf[4096] = "here";

	assert_int_equal(raw_retake(here, NULL), 0); /* nothing to do */
	assert_int_equal(blk_sync_write(here, 0, buf, sizeof(buf)), 0);
	raw_release(here);
	assert_int_equal(blk_sync_write(here, 0, buf, sizeof(buf)), -ESTALE);
	assert_int_equal(blk_sync_read(here, 0, buf, sizeof(buf)), -ESTALE);
	there = raw_fixture_open(f, &by_path);
	assert_int_equal(raw_retake(here, &eb), -EBUSY);
	assert_int_equal(blk_sync_write(here, 0, buf, sizeof(buf)), -ESTALE);
	buf[0] = 't';
	assert_int_equal(blk_sync_write(there, 0, buf, sizeof(buf)), 0);
	assert_int_equal(blk_close(there, NULL), 0);
	assert_int_equal(raw_retake(here, &eb), 0);
	refuse(f, &by_path, -EBUSY, "in use");
	assert_int_equal(blk_sync_read(here, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 't');
	/* One that is closed while it is released leaves the new owner's lock alone. */
	raw_release(here);
	there = raw_fixture_open(f, &by_path);
	assert_int_equal(blk_close(here, NULL), 0);
	refuse(f, &by_path, -EBUSY, "in use");
	assert_int_equal(blk_close(there, NULL), 0);
}

static void a_descriptor_that_does_not_allow_it_is_refused_and_left_alone(void **state)
{
	struct raw_fixture *f = *state;
	struct raw_cfg cfg = {.fd = open(f->path, O_RDONLY | O_CLOEXEC)};
	struct blk *blk;

	assert_true(cfg.fd >= 0);
	refuse(f, &cfg, -EACCES, "not writable");
	assert_true(fcntl(cfg.fd, F_GETFD) >= 0);
	cfg.read_only = true;
	assert_int_equal(raw_open(&cfg, f->ring, &blk, NULL), 0);
	assert_int_equal(blk_sync_zero(blk, 0, 4096), -EROFS);
	assert_int_equal(blk_close(blk, NULL), 0);

	cfg.fd = open(f->path, O_WRONLY | O_CLOEXEC);
	assert_true(cfg.fd >= 0);
	refuse(f, &cfg, -EACCES, "not readable");
	close(cfg.fd);
	refuse(f, &cfg, -EBADF, "descriptor");
}

static void a_descriptor_for_another_process_is_locked_already(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg by_path = {.path = f->path};
	struct errbuf eb = {0};
	struct raw_cfg cfg = {.fd = raw_open_fd(f->path, false, &eb)};
	struct blk *blk;

	assert_true(cfg.fd >= 0);
	assert_int_equal(fcntl(cfg.fd, F_GETFD), FD_CLOEXEC);
	refuse(f, &by_path, -EBUSY, "in use by process");
	assert_int_equal(raw_open_fd(f->path, true, &eb), -EBUSY);
	assert_non_null(strstr(eb.text, f->path));
	assert_int_equal(raw_open(&cfg, f->ring, &blk, &eb), 0);
	assert_int_equal(blk_close(blk, NULL), 0);

	assert_int_equal(raw_open_fd("/dev/null", false, &eb), -EINVAL);
	assert_string_equal(eb.text, "raw: /dev/null: neither a file nor a block device");
	assert_int_equal(raw_open_fd("/nowhere", false, &eb), -ENOENT);
}

/* ---- create ---- */

static void a_created_file_is_sparse_or_reserved(void **state)
{
	struct raw_fixture *f = *state;
	struct raw_create_cfg cfg = {.path = f->path, .size_bytes = 1u << 20};
	struct errbuf eb = {0};
	struct stat st;

	assert_int_equal(raw_create(&cfg, &eb), -EEXIST);
	assert_non_null(strstr(eb.text, f->path));
	assert_int_equal(stat(f->path, &st), 0); /* and not removed */
	for (int full = 0; full < 2; full++) {
		assert_int_equal(unlink(f->path), 0);
		cfg.prealloc = full != 0 ? RAW_PREALLOC_FULL : RAW_PREALLOC_NONE;
		assert_int_equal(raw_create(&cfg, NULL), 0);
		assert_int_equal(stat(f->path, &st), 0);
		assert_int_equal(st.st_size, cfg.size_bytes);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal((uint64_t)st.st_blocks * 512 >= cfg.size_bytes, full);
	}
}

static void a_file_that_cannot_be_made_is_not_left_behind(void **state)
{
	struct raw_fixture *f = *state;
	struct raw_create_cfg cfg = {
		.path = f->path,
		.size_bytes = 1ull << 60,
		.prealloc = RAW_PREALLOC_FULL,
	};
	struct errbuf eb = {0};

	assert_int_equal(unlink(f->path), 0);

	int err = raw_create(&cfg, &eb);

	assert_true(err == -EFBIG || err == -ENOSPC);
	assert_int_equal(access(f->path, F_OK), -1);
	cfg.size_bytes = 1000;
	assert_int_equal(raw_create(&cfg, &eb), -EINVAL);
	cfg.size_bytes = 0;
	assert_int_equal(raw_create(&cfg, &eb), -EINVAL);
	cfg.path = "/nowhere/disk.raw";
	cfg.size_bytes = 512;
	assert_int_equal(raw_create(&cfg, &eb), -ENOENT);
}

/* ---- when memory runs out ---- */

static void every_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
	struct raw_fixture *f = *state;
	const struct raw_cfg cfg = {.path = f->path};
	const struct raw_create_cfg create = {.path = f->path, .size_bytes = RAW_FIXTURE_BYTES};
	struct blk *blk = NULL;
	uint32_t k = 1;

	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = raw_open(&cfg, f->ring, &blk, NULL);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(blk);
	}
	assert_int_equal(k, 3);
	assert_int_equal(blk_close(blk, NULL), 0);
	for (k = 1;; k++) {
		assert_int_equal(unlink(f->path), 0);
		fault_arm(FAULT_ALLOC, k);

		int err = raw_create(&create, NULL);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(access(f->path, F_OK), -1);
		assert_int_equal(close(open(f->path, O_CREAT | O_CLOEXEC, 0600)), 0);
	}
	assert_true(k > 1);
}

#define WITH_FILE(test) \
	cmocka_unit_test_setup_teardown(test, raw_fixture_setup, raw_fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(a_file_opens_with_its_size_and_sectors),
		WITH_FILE(what_is_no_disk_is_refused_by_name),
		WITH_FILE(a_size_that_is_no_multiple_of_the_sector_is_refused_with_a_remedy),
		WITH_FILE(a_sector_size_that_was_asked_for_is_taken),
		WITH_FILE(there_is_one_writer_or_many_readers),
		WITH_FILE(a_lock_of_another_process_names_it_and_ends_with_it),
		WITH_FILE(a_passed_descriptor_is_taken_with_its_lock),
		WITH_FILE(a_released_disk_is_somebody_elses_until_it_is_retaken),
		WITH_FILE(a_descriptor_that_does_not_allow_it_is_refused_and_left_alone),
		WITH_FILE(a_descriptor_for_another_process_is_locked_already),
		WITH_FILE(a_created_file_is_sparse_or_reserved),
		WITH_FILE(a_file_that_cannot_be_made_is_not_left_behind),
		WITH_FILE(every_failed_allocation_is_reported_and_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
