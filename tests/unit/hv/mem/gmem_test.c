/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/mem/gmem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)
#define HIGH_GPA (4ull << 30)
#define LOW_PAGES 512u
#define WORDS 16u

/* 2 MiB low, 1 MiB high. */
static struct gmem *make(void)
{
	const struct gmem_cfg cfg = {.size_bytes = 3 * MIB, .low_max_bytes = 2 * MIB};
	struct errbuf eb = {0};
	struct gmem *mem;

	assert_int_equal(gmem_create(&cfg, &mem, &eb), 0);
	return mem;
}

static void assert_taken(struct gmem *mem, uint32_t slot, const uint32_t *pages, uint32_t count)
{
	uint64_t bits[WORDS] = {0};
	uint64_t want[WORDS] = {0};

	for (uint32_t i = 0; i < count; i++) {
		want[pages[i] / 64] |= 1ull << (pages[i] % 64);
	}
	gmem_dirty_take(mem, slot, bits, WORDS);
	assert_memory_equal(bits, want, sizeof(bits));
}

static void memory_lies_where_it_should(void **state)
{
	struct gmem *mem = make();
	struct gmem_slot slot;

	(void)state;
	assert_int_equal(gmem_slots(mem), 2);
	gmem_slot(mem, 1, &slot);
	assert_true(slot.gpa == HIGH_GPA && slot.len_bytes == MIB);
	assert_non_null(gmem_range(mem, 0, 2 * MIB));
	assert_null(gmem_range(mem, 1, 2 * MIB));
	assert_null(gmem_range(mem, 2 * MIB, 1));
	assert_null(gmem_range(mem, 0, 0));
	assert_null(gmem_range(mem, HIGH_GPA, UINT64_MAX));
	assert_null(gmem_range(mem, UINT64_MAX, 2));
	assert_non_null(gmem_range(mem, HIGH_GPA + MIB - 1, 1));
	gmem_destroy(mem);
}

static void writes_are_noted_from_the_start_of_the_log_to_its_end(void **state)
{
	static const uint32_t low[] = {0, 1, 63, 64, 511};
	static const uint32_t high[] = {255};
	struct gmem *mem = make();
	uint8_t buf[8] = {1, 2, 3};

	(void)state;
	assert_int_equal(gmem_write(mem, 0x5000, buf, 8), 0); /* before: not noted */
	gmem_dirty(mem, 0x6000, 1);
	assert_int_equal(gmem_dirty_start(mem), 0);
	assert_int_equal(gmem_dirty_start(mem), -EALREADY);
	assert_taken(mem, 0, NULL, 0);
	assert_int_equal(gmem_write(mem, 0xffc, buf, 8), 0); /* two pages */
	assert_int_equal(gmem_write(mem, 63 * 4096 + 4095, buf, 1), 0);
	assert_int_equal(gmem_zero(mem, 64 * 4096, 1), 0);
	gmem_dirty(mem, 511 * 4096, 4096);
	gmem_dirty(mem, HIGH_GPA + MIB - 1, 1);
	gmem_dirty(mem, 0, 0);
	assert_int_equal(gmem_write(mem, 2 * MIB - 4, buf, 8), -EFAULT);
	assert_int_equal(gmem_zero(mem, HIGH_GPA - 1, 2), -EFAULT);
	assert_taken(mem, 0, low, 5);
	assert_taken(mem, 1, high, 1);
	assert_taken(mem, 0, NULL, 0); /* once */
	gmem_dirty(mem, 0x7000, 1);
	gmem_dirty_stop(mem);
	gmem_dirty(mem, 0x8000, 1);
	assert_int_equal(gmem_dirty_start(mem), 0); /* clean again */
	assert_taken(mem, 0, NULL, 0);
	gmem_destroy(mem);
}

static void everything_is_everything(void **state)
{
	struct gmem *mem = make();
	uint64_t bits[WORDS] = {0};

	(void)state;
	gmem_dirty_all(mem); /* no log: nothing */
	assert_int_equal(gmem_dirty_start(mem), 0);
	gmem_dirty_all(mem);
	gmem_dirty_take(mem, 0, bits, WORDS);
	for (uint32_t i = 0; i < LOW_PAGES / 64; i++) {
		assert_true(bits[i] == UINT64_MAX);
	}
	assert_true(bits[LOW_PAGES / 64] == 0);
	gmem_destroy(mem);
}

/* The log is added to what is there. */
static void taking_keeps_the_bits_of_others(void **state)
{
	struct gmem *mem = make();
	uint64_t bits[WORDS] = {[0] = 1, [3] = 2};

	(void)state;
	assert_int_equal(gmem_dirty_start(mem), 0);
	gmem_dirty(mem, 4096, 1);
	gmem_dirty_take(mem, 0, bits, WORDS);
	assert_true(bits[0] == 3 && bits[3] == 2);
	gmem_destroy(mem);
}

struct writer {
	struct gmem *mem;
	uint32_t first;
	_Atomic bool *done;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	_Atomic uint64_t *at;

	for (uint64_t pass = 1; pass <= 200; pass++) {
		for (uint32_t page = w->first; page < LOW_PAGES; page += 2) {
			at = gmem_range(w->mem, page * GMEM_PAGE_BYTES, 8);
			atomic_store_explicit(at, pass, memory_order_relaxed);
			gmem_dirty(w->mem, page * GMEM_PAGE_BYTES, 8);
		}
	}
	atomic_store(w->done, true);
	return NULL;
}

/* Two devices write, a third thread copies by rounds: nothing is lost. */
static void a_copy_by_rounds_has_everything(void **state)
{
	static uint64_t copy[LOW_PAGES];
	struct gmem *mem = make();
	_Atomic bool done[2] = {false, false};
	struct writer w[2] = {{mem, 0, &done[0]}, {mem, 1, &done[1]}};
	pthread_t threads[2];
	bool last = false;

	(void)state;
	assert_int_equal(gmem_dirty_start(mem), 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, writer_main, &w[i]), 0);
	}
	while (!last) {
		uint64_t bits[WORDS] = {0};

		last = atomic_load(&done[0]) && atomic_load(&done[1]);
		gmem_dirty_take(mem, 0, bits, WORDS);
		for (uint32_t page = 0; page < LOW_PAGES; page++) {
			if ((bits[page / 64] >> (page % 64) & 1) != 0) {
				_Atomic uint64_t *at = gmem_range(mem, page * GMEM_PAGE_BYTES, 8);

				copy[page] = atomic_load_explicit(at, memory_order_relaxed);
			}
		}
	}
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	for (uint32_t page = 0; page < LOW_PAGES; page++) {
		assert_true(copy[page] == 200);
	}
	gmem_destroy(mem);
}

static void nothing_leaks_when_memory_runs_out(void **state)
{
	const struct gmem_cfg cfg = {.size_bytes = 3 * MIB, .low_max_bytes = 2 * MIB};
	bool created = false;

	(void)state;
	for (uint32_t k = 1; !created; k++) {
		struct errbuf eb = {0};
		struct gmem *mem;
		int err;

		fault_arm(FAULT_ALLOC, k);
		err = gmem_create(&cfg, &mem, &eb);
		if (err == 0) {
			err = gmem_dirty_start(mem);
		}
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		created = err == 0;
		gmem_destroy(mem);
	}
}

static void bad_sizes_are_refused(void **state)
{
	static const struct gmem_cfg bad[] = {
		{.size_bytes = 0, .low_max_bytes = MIB},
		{.size_bytes = MIB + 1, .low_max_bytes = MIB},
		{.size_bytes = 2 * MIB, .low_max_bytes = 0},
		{.size_bytes = 2 * MIB, .low_max_bytes = HIGH_GPA},
		{.size_bytes = GMEM_BYTES_MAX + 4096, .low_max_bytes = MIB},
		{.size_bytes = 3 * MIB, .low_max_bytes = 2 * MIB, .huge_2m = true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct errbuf eb = {0};
		struct gmem *mem;

		assert_int_equal(gmem_create(&bad[i], &mem, &eb), -EINVAL);
		assert_null(mem);
		assert_true(eb.text[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_lies_where_it_should),
		cmocka_unit_test(writes_are_noted_from_the_start_of_the_log_to_its_end),
		cmocka_unit_test(everything_is_everything),
		cmocka_unit_test(taking_keeps_the_bits_of_others),
		cmocka_unit_test(a_copy_by_rounds_has_everything),
		cmocka_unit_test(nothing_leaks_when_memory_runs_out),
		cmocka_unit_test(bad_sizes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
