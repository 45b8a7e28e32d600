/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The power fails at each request that a random workload makes of the file; of what was not
 * durable some of many possible remainders is left. Each must open, pass the check, hold every
 * flushed write and of the others the old or the new content. It may fail again while the log is
 * being replayed.
 *
 * VHDX_CRASH_SEEDS=n runs n workloads of each kind, each with a crash at every request. Without it
 * there is one, and a part of its requests (turns.h).
 */

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/uring.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/test.h"
#include "tests/lib/turns.h"
#include "tests/unit/hv/vhdx/disk.h"
#include "tests/unit/hv/vhdx/workload.h"

#define REQUESTS 80u
#define REMAINS 3u /* nothing, everything, and a random part of what was not durable */

/* Until the power fails or the workload is over. Returns whether it failed. */
static bool run_until_cut(struct disk *d, struct workload *w, uint64_t nth)
{
	struct errbuf eb = {.text = ""};
	bool cut;
	int err;

	fake_disk_cut_at(d->file, nth);
	err = disk_try_open(d, false, &eb);
	if (err == 0) {
		err = workload_run(w, d->blk, REQUESTS, 12);
		if (blk_close(d->blk, &eb) == 0 && err == 0) {
			workload_settle(w);
		}
	}
	cut = fake_disk_is_cut(d->file);
	if (!cut && (err != 0 || eb.text[0] != '\0')) {
		print_error("failed without reason: %d %s\n", err, eb.text);
		fail();
	}
	return cut;
}

/* Open what the crash left; the power fails again at request @nth_again, 0 = not. */
static void recover(struct disk *d, uint64_t nth_again, uint64_t seed)
{
	struct errbuf eb = {.text = ""};
	int err;

	if (nth_again != 0) {
		fake_disk_cut_at(d->file, nth_again);
		err = disk_try_open(d, false, NULL);
		if (err == 0) {
			err = blk_close(d->blk, NULL);
		}
		if (fake_disk_is_cut(d->file)) {
			assert_int_not_equal(err, 0);
		}
		disk_replace(d, fake_disk_crash_image(d->file, seed));
	}
	err = disk_try_open(d, false, &eb);
	if (err != 0) {
		print_error("does not open: %s\n", eb.text);
		fail();
	}
}

static void copy_model(struct workload *to, const struct workload *from)
{
	to->event = from->event;
	to->stamp = from->stamp;
	for (uint64_t i = 0; i < from->sectors; i++) {
		to->sector[i].count = from->sector[i].count;
		memcpy(to->sector[i].version, from->sector[i].version,
		       from->sector[i].count * sizeof(from->sector[i].version[0]));
	}
}

/* One crash, and some of the remains it may leave. */
static void examine(const struct disk_cfg *cfg, const struct disk *crashed, struct workload *w,
                    uint64_t nth)
{
	static struct workload copy;

	workload_init(&copy, DISK_BYTES, w->sector_bytes, DISK_MIB, 1);
	for (uint64_t seed = 0; seed < REMAINS; seed++) {
		struct disk again = *crashed;
		uint64_t choice = seed < 2 ? seed : nth * 16 + seed + cfg->seed * 65536;

		copy_model(&copy, w);
		again.file = NULL; /* not ours to destroy */
		disk_replace(&again, fake_disk_crash_image(crashed->file, choice));
		recover(&again, seed < 2 ? 0 : 1 + (nth + seed) % 12, choice);
		workload_verify(&copy, again.blk);
		if (seed == REMAINS - 1) { /* it goes on working, and what was read stays */
			assert_int_equal(workload_run(&copy, again.blk, 10, 4), 0);
			disk_close(&again);
			workload_settle(&copy);
			disk_open_read_only(&again);
			workload_verify(&copy, again.blk);
		}
		disk_close(&again);
		fake_disk_destroy(again.file);
		((struct disk *)(uintptr_t)crashed)->parent_file = again.parent_file;
	}
	workload_fini(&copy);
}

static void crash_everywhere(const struct disk_cfg *cfg, uint64_t stride)
{
	bool cut = true;

	for (uint64_t nth = 1; cut; nth += 1 + nth * 7 % stride) {
		struct disk d;
		struct workload w;

		disk_create(&d, cfg);
		workload_init(&w, DISK_BYTES, d.cfg.logical_bytes, DISK_MIB, cfg->seed);
		if (cfg->kind == VHDX_DIFFERENCING) {
			workload_inherit(&w, &d.parent_model);
		}
		cut = run_until_cut(&d, &w, nth);
		examine(cfg, &d, &w, nth);
		workload_fini(&w);
		disk_destroy(&d);
	}
}

static void crash_kind(enum vhdx_kind kind)
{
	const char *text = getenv("VHDX_CRASH_SEEDS");
	uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : 1;

	for (uint64_t seed = 1; seed <= seeds; seed++) {
		const struct disk_cfg cfg = {
			.kind = kind,
			.order = FAKE_DISK_SHUFFLE,
			.discard =
				seed % 2 != 0 ? FAKE_DISK_DISCARD_GARBAGE : FAKE_DISK_DISCARD_ZERO,
			.logical_bytes = seed % 3 == 0 ? 4096 : 512,
			.seed = seed,
		};

		crash_everywhere(&cfg, text != NULL ? 1 : turns_stride(5));
	}
}

static void a_fixed_disk_survives_a_crash_at_any_request(void **state)
{
	(void)state;
	crash_kind(VHDX_FIXED);
}

static void a_dynamic_disk_survives_a_crash_at_any_request(void **state)
{
	(void)state;
	crash_kind(VHDX_DYNAMIC);
}

static void a_differencing_disk_survives_a_crash_at_any_request(void **state)
{
	(void)state;
	crash_kind(VHDX_DIFFERENCING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fixed_disk_survives_a_crash_at_any_request),
		cmocka_unit_test(a_dynamic_disk_survives_a_crash_at_any_request),
		cmocka_unit_test(a_differencing_disk_survives_a_crash_at_any_request),
	};

	/* Disks come and go by the thousand: do not give their memory back in between. */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
