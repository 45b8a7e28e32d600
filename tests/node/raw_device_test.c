/* SPDX-License-Identifier: Apache-2.0 */

/* raw_device_test - raw over block devices: loop devices with both sizes of sectors. Needs root. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "hv/raw/raw.h"
#include "tests/unit/hv/raw/raw_fixture.h"
#include "tests/unit/hv/raw/raw_model.h"

struct loop {
	int fd;
	char path[32];
};

/* A loop device over the fixture's file; it goes away with its last descriptor. */
static void loop_attach(struct loop *loop, const struct raw_fixture *f, uint32_t sector_bytes)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = open(f->path, O_RDWR | O_CLOEXEC);
	int err = -1;

	assert_true(control >= 0 && file >= 0);
	/* Others may take the free one before us. */
	for (int tries = 0; tries < 20 && err != 0; tries++) {
		struct loop_config config = {
			.fd = (uint32_t)file,
			.block_size = sector_bytes,
			.info.lo_flags = LO_FLAGS_AUTOCLEAR,
		};
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		assert_true(number >= 0);
		(void)snprintf(loop->path, sizeof(loop->path), "/dev/loop%d", number);
		loop->fd = open(loop->path, O_RDWR | O_CLOEXEC);
		assert_true(loop->fd >= 0);
		err = ioctl(loop->fd, LOOP_CONFIGURE, &config);
		if (err != 0) {
			assert_int_equal(errno, EBUSY);
			(void)close(loop->fd);
		}
	}
	assert_int_equal(err, 0);
	(void)close(file);
	(void)close(control);
}

static void a_device_shows_its_size_and_sectors(void **state)
{
	static const uint32_t sectors[] = {512, 4096};
	struct raw_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(sectors); i++) {
		struct loop loop;

		loop_attach(&loop, f, sectors[i]);

		const struct raw_cfg cfg = {.path = loop.path};
		struct blk *blk = raw_fixture_open(f, &cfg);
		struct blk_info info;
		struct raw_stats stats;

		blk_get_info(blk, &info);
		raw_get_stats(blk, &stats);
		assert_int_equal(info.size_bytes, RAW_FIXTURE_BYTES);
		assert_int_equal(info.logical_bytes, sectors[i]);
		assert_true(info.physical_bytes >= sectors[i]);
		assert_false(info.can_resize);
		assert_true(stats.direct);
		assert_int_equal(blk_sync_resize(blk, RAW_FIXTURE_BYTES), -ENOTSUP);
		assert_int_equal(blk_close(blk, NULL), 0);
		(void)close(loop.fd);
	}
}

static void any_mixture_of_requests_keeps_the_content_of_a_device(void **state)
{
	/* Sectors of the device, and those that are asked for. */
	static const uint32_t rows[][2] = {{512, 0}, {4096, 0}, {4096, 512}, {512, 4096}};
	struct raw_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct loop loop;

		assert_int_equal(truncate(f->path, 0), 0);
		assert_int_equal(truncate(f->path, (off_t)RAW_FIXTURE_BYTES), 0);
		loop_attach(&loop, f, rows[i][0]);

		const struct raw_cfg cfg = {.path = loop.path, .logical_bytes = rows[i][1]};

		raw_model_run(f, &cfg, 600);
		(void)close(loop.fd);
	}
}

static void discarding_a_device_reaches_what_is_below(void **state)
{
	static uint8_t buf[1u << 20];
	struct raw_fixture *f = *state;
	struct loop loop;
	struct stat before;
	struct stat after;

	loop_attach(&loop, f, 512);

	const struct raw_cfg cfg = {.path = loop.path};
	struct blk *blk = raw_fixture_open(f, &cfg);
	struct blk_info info;

	memset(buf, 5, sizeof(buf));
	assert_int_equal(blk_sync_write(blk, 0, buf, sizeof(buf)), 0);
	assert_int_equal(blk_sync_flush(blk), 0);
	assert_int_equal(stat(f->path, &before), 0);
	assert_int_equal(blk_sync_discard(blk, 0, sizeof(buf)), 0);
	assert_int_equal(blk_sync_flush(blk), 0);
	assert_int_equal(stat(f->path, &after), 0);
	assert_true(after.st_blocks < before.st_blocks);
	blk_get_info(blk, &info);
	assert_true(info.discard_bytes != 0);
	assert_int_equal(blk_close(blk, NULL), 0);
	(void)close(loop.fd);
}

static void a_device_in_use_is_refused(void **state)
{
	struct raw_fixture *f = *state;
	struct loop loop;
	struct errbuf eb = {0};
	struct blk *blk;

	loop_attach(&loop, f, 512);

	const struct raw_cfg cfg = {.path = loop.path};
	int mount = open(loop.path, O_RDWR | O_EXCL | O_CLOEXEC); /* as a mount holds it */

	assert_true(mount >= 0);
	assert_int_equal(raw_open(&cfg, f->ring, &blk, &eb), -EBUSY);
	assert_non_null(strstr(eb.hint, "mounted"));
	(void)close(mount);
	assert_int_equal(raw_open(&cfg, f->ring, &blk, &eb), 0);

	struct blk *second;

	assert_int_equal(raw_open(&cfg, f->ring, &second, &eb), -EBUSY);
	assert_int_equal(blk_close(blk, NULL), 0);
	(void)close(loop.fd);
}

#define WITH_FILE(test) \
	cmocka_unit_test_setup_teardown(test, raw_fixture_setup, raw_fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(a_device_shows_its_size_and_sectors),
		WITH_FILE(any_mixture_of_requests_keeps_the_content_of_a_device),
		WITH_FILE(discarding_a_device_reaches_what_is_below),
		WITH_FILE(a_device_in_use_is_refused),
	};

	if (access("/dev/loop-control", R_OK | W_OK) != 0) {
		print_message("skipped: no loop devices here, or no right to them\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
