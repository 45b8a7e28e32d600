/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define LOW (2 * MIB)

/* Two slots: 2 MiB at 0 and 3 MiB at 4 GiB. */
static struct gmem *two_slots(void)
{
	const struct gmem_cfg cfg = {.size_bytes = 5 * MIB, .low_max_bytes = LOW};
	struct gmem *mem;

	assert_int_equal(gmem_create(&cfg, &mem, NULL), 0);
	return mem;
}

static void memory_below_the_limit_is_one_slot(void **state)
{
	const struct gmem_cfg cfg = {.size_bytes = 3 * MIB, .low_max_bytes = 3 * GIB};
	struct gmem_slot slot;
	struct gmem *mem;

	(void)state;
	assert_int_equal(gmem_create(&cfg, &mem, NULL), 0);
	assert_int_equal(gmem_slots(mem), 1);
	assert_int_equal(gmem_size_bytes(mem), 3 * MIB);
	gmem_slot(mem, 0, &slot);
	assert_int_equal(slot.gpa, 0);
	assert_int_equal(slot.len_bytes, 3 * MIB);
	assert_int_equal((uintptr_t)slot.host % (2 * MIB), 0); /* as huge pages want it */
	gmem_destroy(mem);
	gmem_destroy(NULL);
}

static void memory_above_the_limit_goes_to_4_gib(void **state)
{
	struct gmem *mem = two_slots();
	struct gmem_slot slot;

	(void)state;
	assert_int_equal(gmem_slots(mem), 2);
	gmem_slot(mem, 0, &slot);
	assert_int_equal(slot.len_bytes, LOW);
	gmem_slot(mem, 1, &slot);
	assert_int_equal(slot.gpa, 4 * GIB);
	assert_int_equal(slot.len_bytes, 3 * MIB);
	assert_int_equal(slot.fd_offset_bytes, LOW);
	/* What is written through the GPA is at the slot's place in the file. */
	assert_int_equal(gmem_write(mem, 4 * GIB + 5, "hello", 5), 0);

	char back[5];

	assert_int_equal(pread(slot.fd, back, 5, (off_t)slot.fd_offset_bytes + 5), 5);
	assert_memory_equal(back, "hello", 5);
	gmem_destroy(mem);
}

static void sizes_that_make_no_sense_are_refused(void **state)
{
	static const struct gmem_cfg bad[] = {
		{.size_bytes = 0, .low_max_bytes = LOW},
		{.size_bytes = MIB - 4096, .low_max_bytes = LOW},
		{.size_bytes = MIB + 1, .low_max_bytes = LOW},
		{.size_bytes = 4096ull * GIB + 4096, .low_max_bytes = LOW},
		{.size_bytes = UINT64_MAX, .low_max_bytes = LOW},
		{.size_bytes = 2 * MIB, .low_max_bytes = 0},
		{.size_bytes = 2 * MIB, .low_max_bytes = 4095},
		{.size_bytes = 2 * MIB, .low_max_bytes = 4 * GIB},
		{.size_bytes = 3 * MIB, .low_max_bytes = LOW, .huge_2m = true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct errbuf eb = {0};
		struct gmem *mem = (struct gmem *)(uintptr_t)1;

		assert_int_equal(gmem_create(&bad[i], &mem, &eb), -EINVAL);
		assert_null(mem);
		assert_true(eb.text[0] != '\0');
	}
}

static void nobody_can_change_the_size_of_the_file(void **state)
{
	struct gmem *mem = two_slots();
	struct gmem_slot slot;

	(void)state;
	gmem_slot(mem, 0, &slot);
	assert_int_equal(ftruncate(slot.fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(slot.fd, (off_t)GIB), -1);
	assert_int_equal(fcntl(slot.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	gmem_destroy(mem);
}

/* Every address that is near an edge, with every length that is near one. */
static void ranges_stay_inside_one_slot_at_every_edge(void **state)
{
	static const uint64_t edges[] = {0,          LOW,       4 * GIB, 4 * GIB + 3 * MIB,
	                                 1ull << 52, 1ull << 63};
	static const uint64_t lens[] = {
		0,       1,       2,           4095,    4096,       LOW - 1,        LOW,
		LOW + 1, 3 * MIB, 3 * MIB + 1, GIB * 4, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
	struct gmem *mem = two_slots();
	struct gmem_slot slots[2];

	(void)state;
	gmem_slot(mem, 0, &slots[0]);
	gmem_slot(mem, 1, &slots[1]);
	for (size_t e = 0; e < ARRAY_LEN(edges); e++) {
		for (int delta = -2; delta <= 2; delta++) {
			uint64_t gpa = edges[e] + (uint64_t)(int64_t)delta;

			for (size_t n = 0; n < ARRAY_LEN(lens); n++) {
				const uint8_t *want = NULL;

				for (size_t s = 0; s < 2; s++) {
					/* 128 bit sums: nothing wraps in the model. */
					unsigned __int128 end = (unsigned __int128)gpa + lens[n];

					if (lens[n] != 0 && gpa >= slots[s].gpa &&
					    end <= (unsigned __int128)slots[s].gpa +
					                    slots[s].len_bytes) {
						want = slots[s].host + (gpa - slots[s].gpa);
					}
				}
				assert_ptr_equal(gmem_range(mem, gpa, lens[n]), want);
				if (want == NULL && lens[n] != 0) {
					uint8_t byte = 0;

					assert_int_equal(gmem_zero(mem, gpa, lens[n]), -EFAULT);
					if (lens[n] == 1) {
						assert_int_equal(gmem_read(mem, gpa, &byte, 1),
						                 -EFAULT);
						assert_int_equal(gmem_write(mem, gpa, &byte, 1),
						                 -EFAULT);
					}
				}
			}
		}
	}
	gmem_destroy(mem);
}

static void a_copy_that_does_not_fit_copies_nothing(void **state)
{
	struct gmem *mem = two_slots();
	uint8_t buf[16];
	uint8_t ones[16];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(gmem_write(mem, LOW - 8, ones, 16), -EFAULT);
	assert_int_equal(gmem_read(mem, LOW - 8, buf, 8), 0);
	assert_true(buf[0] == 0 && memcmp(buf, buf + 1, 7) == 0);
	assert_int_equal(gmem_write(mem, LOW - 16, ones, 16), 0);
	assert_int_equal(gmem_read(mem, LOW - 16, buf, 16), 0);
	assert_memory_equal(buf, ones, 16);
	assert_int_equal(gmem_zero(mem, LOW - 15, 14), 0);
	assert_int_equal(gmem_read(mem, LOW - 16, buf, 16), 0);
	assert_true(buf[0] == 0xff && buf[1] == 0 && buf[14] == 0 && buf[15] == 0xff);
	/* Nothing is always there. */
	assert_int_equal(gmem_read(mem, UINT64_MAX, buf, 0), 0);
	assert_int_equal(gmem_write(mem, UINT64_MAX, buf, 0), 0);
	assert_int_equal(gmem_zero(mem, UINT64_MAX, 0), 0);
	gmem_destroy(mem);
}

static void the_dirty_log_holds_exactly_the_pages_written(void **state)
{
	struct gmem *mem = two_slots();
	uint64_t bits[12]; /* 768 pages, the larger slot */
	uint8_t page[8192] = {1};

	(void)state;
	gmem_dirty(mem, 0, 4096); /* off: nothing to do */
	assert_int_equal(gmem_dirty_start(mem), 0);
	assert_int_equal(gmem_dirty_start(mem), -EALREADY);
	assert_int_equal(gmem_write(mem, 4095, page, 2), 0);              /* pages 0, 1 */
	assert_int_equal(gmem_write(mem, 64 * 4096, page, 4096), 0);      /* page 64 */
	assert_int_equal(gmem_zero(mem, LOW - 1, 1), 0);                  /* page 511 */
	assert_int_equal(gmem_write(mem, 4 * GIB + 4096, page, 8192), 0); /* pages 1, 2 */
	gmem_dirty(mem, 4 * GIB + 3 * MIB - 1, 1);                        /* page 767 */
	gmem_dirty(mem, 0, 0);

	memset(bits, 0, sizeof(bits));
	gmem_dirty_take(mem, 0, bits, 8);
	assert_int_equal(bits[0], 3);
	assert_int_equal(bits[1], 1);
	assert_int_equal(bits[7], 1ull << 63);
	assert_int_equal(bits[2] | bits[3] | bits[4] | bits[5] | bits[6], 0);
	memset(bits, 0, sizeof(bits));
	bits[3] = 0x10; /* what KVM had: kept */
	gmem_dirty_take(mem, 1, bits, 12);
	assert_int_equal(bits[0], 6);
	assert_int_equal(bits[3], 0x10);
	assert_int_equal(bits[11], 1ull << 63);
	/* Taken is clean. */
	memset(bits, 0, sizeof(bits));
	gmem_dirty_take(mem, 0, bits, 8);
	gmem_dirty_take(mem, 1, bits, 12);
	for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
		assert_int_equal(bits[i], 0);
	}
	/* A new log begins clean. */
	gmem_dirty(mem, 0, 1);
	gmem_dirty_stop(mem);
	gmem_dirty(mem, 0, 1);
	assert_int_equal(gmem_dirty_start(mem), 0);
	gmem_dirty_take(mem, 0, bits, 8);
	assert_int_equal(bits[0], 0);
	gmem_destroy(mem);
}

#define WRITERS 4u
#define WRITER_PAGES 128u

struct writer {
	pthread_t thread;
	struct gmem *mem;
	uint32_t index;
	_Atomic bool *go;
};

/* Each writer has every fourth page, so that all share every word of the bitmap. */
static void *writer_main(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(w->go)) {
	}
	for (uint32_t i = 0; i < WRITER_PAGES; i++) {
		uint64_t gpa = (uint64_t)(i * WRITERS + w->index) * 4096;
		uint32_t value = i + 1;

		if (gmem_write(w->mem, gpa, &value, sizeof(value)) != 0) {
			return (void *)1;
		}
	}
	return NULL;
}

static void no_page_is_lost_while_others_write(void **state)
{
	struct gmem *mem = two_slots();
	struct writer w[WRITERS];
	_Atomic bool go = false;
	uint64_t seen[8] = {0};

	(void)state;
	assert_int_equal(gmem_dirty_start(mem), 0);
	for (uint32_t i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.mem = mem, .index = i, .go = &go};
		assert_int_equal(pthread_create(&w[i].thread, NULL, writer_main, &w[i]), 0);
	}
	atomic_store(&go, true);
	for (uint32_t pass = 0; pass < 200; pass++) {
		uint64_t bits[8] = {0};

		gmem_dirty_take(mem, 0, bits, 8);
		for (size_t i = 0; i < 512; i++) {
			if ((bits[i / 64] & 1ull << (i % 64)) != 0) {
				uint32_t value = 0;

				/* Whoever sees the bit sees what was written before it. */
				assert_int_equal(gmem_read(mem, i * 4096, &value, 4), 0);
				assert_int_equal(value, i / WRITERS + 1);
				assert_int_equal(seen[i / 64] & 1ull << (i % 64), 0);
				seen[i / 64] |= 1ull << (i % 64);
			}
		}
	}
	for (uint32_t i = 0; i < WRITERS; i++) {
		void *failed;

		assert_int_equal(pthread_join(w[i].thread, &failed), 0);
		assert_null(failed);
	}
	gmem_dirty_take(mem, 0, seen, 8);
	for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
		assert_int_equal(seen[i], UINT64_MAX);
	}
	gmem_destroy(mem);
}

static void without_memory_there_is_an_error_and_no_leak(void **state)
{
	const struct gmem_cfg cfg = {.size_bytes = 5 * MIB, .low_max_bytes = LOW};
	struct gmem *mem;
	uint32_t k;

	(void)state;
	for (k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = gmem_create(&cfg, &mem, NULL);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(mem);
	}
	assert_int_equal(k, 2);
	for (k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = gmem_dirty_start(mem);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		gmem_dirty(mem, 0, 1); /* the log is still off */
	}
	assert_int_equal(k, 3);
	gmem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_below_the_limit_is_one_slot),
		cmocka_unit_test(memory_above_the_limit_goes_to_4_gib),
		cmocka_unit_test(sizes_that_make_no_sense_are_refused),
		cmocka_unit_test(nobody_can_change_the_size_of_the_file),
		cmocka_unit_test(ranges_stay_inside_one_slot_at_every_edge),
		cmocka_unit_test(a_copy_that_does_not_fit_copies_nothing),
		cmocka_unit_test(the_dirty_log_holds_exactly_the_pages_written),
		cmocka_unit_test(no_page_is_lost_while_others_write),
		cmocka_unit_test(without_memory_there_is_an_error_and_no_leak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
