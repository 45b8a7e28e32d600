/* SPDX-License-Identifier: Apache-2.0 */

/* raw_room_test - raw on storage that is full: a small file system of this process alone. Needs
 * root. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "hv/raw/raw.h"
#include "tests/unit/hv/raw/raw_fixture.h"

#define PIECE (1u << 20)
#define PIECES 3u
#define SILENT_NS 10000000000ull
#define LIMIT_NS 1000000000000ull

static char mounted[] = "/tmp/gwrXXXXXX";
static struct raw_place small = {.parent = mounted, .entries = 64};
static struct raw_place small_fallback = {.parent = mounted, .entries = 64, .fallback = true};
static const struct raw_cfg plain = {.path = NULL};
static uint8_t data[PIECE];

/* ---- the file system ---- */

static int mount_small(void **state)
{
	(void)state;
	return mkdtemp(mounted) == NULL || unshare(CLONE_NEWNS) != 0 ||
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	       mount("room", mounted, "tmpfs", 0, "size=4m") != 0;
}

static int unmount_small(void **state)
{
	(void)state;
	return umount(mounted) != 0 || rmdir(mounted) != 0;
}

static void filler_path(char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s/filler", mounted);
}

/* Until nothing more goes in. */
static void fill(void)
{
	static const uint8_t page[4096];
	char path[64];
	int fd;

	filler_path(path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (write(fd, page, sizeof(page)) == (ssize_t)sizeof(page)) {
	}
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(close(fd), 0);
}

static void make_room(void)
{
	char path[64];

	filler_path(path, sizeof(path));
	assert_int_equal(unlink(path), 0);
}

/* ---- requests ---- */

static void write_start(struct blk *blk, struct raw_probe *p, uint64_t at)
{
	p->iov = (struct iovec){.iov_base = data, .iov_len = PIECE};
	p->req = (struct blk_req){
		.op = BLK_WRITE,
		.offset_bytes = at,
		.len_bytes = PIECE,
		.iov = &p->iov,
		.iov_count = 1,
	};
	raw_probe_start(blk, p);
}

/* Let all that can end, end: what waits for room is not in the ring. */
static void settle(struct blk *blk)
{
	while (uring_in_flight(blk->ring) != 0) {
		assert_true(uring_wait(blk->ring, UINT64_MAX) >= 0);
	}
}

static enum raw_trouble look(struct blk *blk, uint64_t now_ns)
{
	enum raw_trouble trouble = raw_look(blk, now_ns, SILENT_NS, LIMIT_NS);

	settle(blk);
	return trouble;
}

static void what_finds_no_room_waits_until_there_is_some(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	struct raw_probe probes[PIECES] = {0};
	uint8_t back[4096];
	uint64_t now_ns = 1;

	raw_patience(blk, true);
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(blk_sync_write(blk, 0, data, PIECE), 0);
	fill();
	for (uint32_t i = 0; i < PIECES; i++) {
		write_start(blk, &probes[i], (i + 1) * (uint64_t)PIECE);
	}
	settle(blk);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(look(blk, now_ns += SILENT_NS), RAW_NO_ROOM);
	}
	/* What has its place goes on meanwhile. */
	memset(data, 0xa5, 4096);
	assert_int_equal(blk_sync_write(blk, 0, data, 4096), 0);
	assert_int_equal(blk_sync_read(blk, 0, back, sizeof(back)), 0);
	assert_memory_equal(back, data, sizeof(back));
	assert_int_equal(probes[0].calls + probes[1].calls + probes[2].calls, 0);

	make_room();
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(look(blk, now_ns += SILENT_NS), RAW_NO_ROOM);
	for (uint32_t i = 0; i < PIECES; i++) {
		assert_int_equal(raw_probe_wait(blk, &probes[i]), 0);
		assert_int_equal(
			blk_sync_read(blk, (i + 2) * (uint64_t)PIECE - 4096, back, sizeof(back)),
			0);
		assert_memory_equal(back, data, sizeof(back));
	}
	assert_int_equal(look(blk, now_ns += SILENT_NS), RAW_WELL);
	assert_int_equal(blk_close(blk, NULL), 0);
}

static void nothing_waits_longer_than_the_limit(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	struct raw_probe probes[2] = {0};
	uint64_t now_ns = 1;

	raw_patience(blk, true);
	fill();
	write_start(blk, &probes[0], 0);
	write_start(blk, &probes[1], PIECE);
	settle(blk);
	assert_int_equal(look(blk, now_ns), RAW_NO_ROOM);
	assert_int_equal(look(blk, now_ns + LIMIT_NS - 1), RAW_NO_ROOM);
	assert_int_equal(probes[0].calls + probes[1].calls, 0);
	assert_int_equal(look(blk, now_ns + LIMIT_NS), RAW_NO_ROOM);
	assert_int_equal(raw_probe_wait(blk, &probes[0]), -ENOSPC);
	assert_int_equal(raw_probe_wait(blk, &probes[1]), -ENOSPC);
	assert_int_equal(look(blk, now_ns + LIMIT_NS), RAW_WELL);
	make_room();
	assert_int_equal(blk_close(blk, NULL), 0);
}

static void without_patience_nothing_waits(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	struct raw_probe probe = {0};

	fill();
	assert_int_equal(blk_sync_write(blk, 0, data, PIECE), -ENOSPC);
	raw_patience(blk, true);
	write_start(blk, &probe, 0);
	settle(blk);
	assert_int_equal(probe.calls, 0);
	raw_patience(blk, false);
	assert_int_equal(probe.calls, 0); /* not from inside */
	assert_int_equal(raw_probe_wait(blk, &probe), -ENOSPC);
	assert_int_equal(blk_sync_write(blk, 0, data, PIECE), -ENOSPC);
	make_room();
	assert_int_equal(blk_close(blk, NULL), 0);
}

static void what_is_under_way_for_too_long_is_seen(void **state)
{
	struct raw_fixture *f = *state;
	struct blk *blk = raw_fixture_open(f, &plain);
	struct raw_probe probes[2] = {0};
	uint64_t now_ns = 1;

	/* Nobody looks at the ring: as if it were still on its way. */
	write_start(blk, &probes[0], 0);
	assert_int_equal(raw_look(blk, now_ns, SILENT_NS, LIMIT_NS), RAW_WELL);
	assert_int_equal(raw_look(blk, now_ns + SILENT_NS - 1, SILENT_NS, LIMIT_NS), RAW_WELL);
	assert_int_equal(raw_look(blk, now_ns + SILENT_NS, SILENT_NS, LIMIT_NS), RAW_NO_ANSWER);
	write_start(blk, &probes[1], 0); /* a younger one does not hide it */
	assert_int_equal(raw_look(blk, now_ns + SILENT_NS, SILENT_NS, LIMIT_NS), RAW_NO_ANSWER);
	settle(blk);
	assert_int_equal(probes[0].calls + probes[1].calls, 2);
	assert_int_equal(look(blk, now_ns + SILENT_NS), RAW_WELL);
	/* And none that is young counts as old. */
	for (int i = 0; i < 5; i++) {
		write_start(blk, &probes[0], 0);
		assert_int_equal(look(blk, now_ns += SILENT_NS), RAW_WELL);
		settle(blk);
	}
	assert_int_equal(blk_close(blk, NULL), 0);
}

#define CASE(name)                                                                              \
	cmocka_unit_test_prestate_setup_teardown(name, raw_fixture_setup, raw_fixture_teardown, \
	                                         &small),                                       \
		cmocka_unit_test_prestate_setup_teardown(name, raw_fixture_setup,               \
	                                                 raw_fixture_teardown, &small_fallback)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_finds_no_room_waits_until_there_is_some),
		CASE(nothing_waits_longer_than_the_limit),
		CASE(without_patience_nothing_waits),
		CASE(what_is_under_way_for_too_long_is_seen),
	};

	if (geteuid() != 0) {
		return 77;
	}
	return cmocka_run_group_tests(tests, mount_small, unmount_small);
}
