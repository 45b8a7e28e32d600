/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/fault.h"
#include "hv/vhdx/space_int.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)

static void what_is_used_cannot_be_used_again(void **state)
{
	struct vhdx_space s;

	(void)state;
	assert_int_equal(vhdx_space_init(&s, 100), 0);
	assert_int_equal(vhdx_space_use(&s, 0, 4 * MIB), 0);
	assert_int_equal(vhdx_space_use(&s, 3 * MIB, MIB), -EEXIST);
	assert_int_equal(vhdx_space_use(&s, 4 * MIB + 512, MIB), 0); /* rounded out: 4..6 */
	assert_int_equal(vhdx_space_use(&s, 5 * MIB, MIB), -EEXIST);
	assert_int_equal(vhdx_space_use(&s, 99 * MIB, 2 * MIB), -ENOSPC);
	assert_int_equal(vhdx_space_use(&s, UINT64_MAX - MIB, 2 * MIB), -ENOSPC);
	assert_int_equal(vhdx_space_use(&s, 99 * MIB, MIB), 0);
	assert_int_equal(vhdx_space_end_bytes(&s), 100 * MIB);
	vhdx_space_fini(&s);
}

static void allocation_fills_holes_and_then_the_end(void **state)
{
	struct vhdx_space s;
	uint64_t at;

	(void)state;
	assert_int_equal(vhdx_space_init(&s, 20), 0);
	assert_int_equal(vhdx_space_use(&s, 0, 2 * MIB), 0);
	assert_int_equal(vhdx_space_use(&s, 5 * MIB, 5 * MIB), 0);
	assert_int_equal(vhdx_space_alloc(&s, 4 * MIB, &at), 0); /* the hole has only 3 */
	assert_int_equal(at, 10 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, 2 * MIB, &at), 0);
	assert_int_equal(at, 2 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, 2 * MIB, &at), 0);
	assert_int_equal(at, 14 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, MIB, &at), 0);
	assert_int_equal(at, 4 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, 5 * MIB, &at), -ENOSPC);
	assert_int_equal(vhdx_space_alloc(&s, 4 * MIB, &at), 0);
	assert_int_equal(at, 16 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, MIB, &at), -ENOSPC);
	vhdx_space_fini(&s);
}

static void freed_space_returns_only_after_its_commit_and_pop(void **state)
{
	struct vhdx_space s;
	uint64_t at;
	uint64_t bytes;

	(void)state;
	assert_int_equal(vhdx_space_init(&s, 8), 0);
	assert_int_equal(vhdx_space_use(&s, 0, 8 * MIB), 0);
	vhdx_space_free(&s, 2 * MIB, 2 * MIB);
	vhdx_space_free(&s, 6 * MIB, MIB);
	assert_false(vhdx_space_pop(&s, &at, &bytes));
	assert_int_equal(vhdx_space_alloc(&s, MIB, &at), -ENOSPC);
	vhdx_space_take(&s);
	vhdx_space_free(&s, 4 * MIB, MIB); /* belongs to the next commit */
	vhdx_space_take(&s);               /* the first has not left: nothing happens */
	assert_true(vhdx_space_pop(&s, &at, &bytes));
	assert_int_equal(at, 2 * MIB);
	assert_int_equal(bytes, 2 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, MIB, &at), -ENOSPC); /* being discarded */
	vhdx_space_cancel(&s, 2 * MIB, 2 * MIB);
	assert_int_equal(vhdx_space_alloc(&s, 2 * MIB, &at), 0);
	assert_int_equal(at, 2 * MIB);
	assert_true(vhdx_space_pop(&s, &at, &bytes));
	assert_int_equal(at, 6 * MIB);
	assert_false(vhdx_space_pop(&s, &at, &bytes));
	vhdx_space_take(&s);
	assert_true(vhdx_space_pop(&s, &at, &bytes));
	assert_int_equal(at, 4 * MIB);
	vhdx_space_cancel(&s, at, bytes);
	assert_int_equal(vhdx_space_end_bytes(&s), 8 * MIB);
	vhdx_space_fini(&s);
}

/* The map against a plain array, over many random steps. */
static void random_steps_agree_with_a_model(void **state)
{
	enum { UNITS = 200, STEPS = 20000 };
	uint8_t used[UNITS] = {0};
	struct vhdx_space s;
	unsigned seed = 1;

	(void)state;
	assert_int_equal(vhdx_space_init(&s, UNITS), 0);
	for (int step = 0; step < STEPS; step++) {
		uint32_t count = 1 + (uint32_t)rand_r(&seed) % 5;
		uint64_t at;

		if (rand_r(&seed) % 2 == 0) {
			if (vhdx_space_alloc(&s, count * MIB, &at) != 0) {
				continue; /* full or fragmented */
			}
			for (uint32_t i = 0; i < count; i++) {
				assert_int_equal(used[at / MIB + i]++, 0);
			}
		} else {
			uint32_t from = (uint32_t)rand_r(&seed) % UNITS;
			uint32_t n = 0;

			while (n < count && from + n < UNITS && used[from + n] == 1) {
				used[from + n++] = 0;
			}
			if (n != 0) {
				vhdx_space_cancel(&s, from * MIB, n * MIB);
			}
		}

		uint32_t end = UNITS;
		uint32_t free_below = 0;

		while (end > 0 && used[end - 1] == 0) {
			end--;
		}
		for (uint32_t i = 0; i < s.end; i++) {
			free_below += used[i] == 0;
		}
		assert_int_equal(vhdx_space_end_bytes(&s), end * MIB);
		assert_int_equal(s.holes, free_below);
	}
	vhdx_space_fini(&s);
}

static void each_failing_allocation_is_reported(void **state)
{
	struct vhdx_space s;
	uint32_t k = 1;

	(void)state;
	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = vhdx_space_init(&s, 1000);

		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(k, 4);
	vhdx_space_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_used_cannot_be_used_again),
		cmocka_unit_test(allocation_fills_holes_and_then_the_end),
		cmocka_unit_test(freed_space_returns_only_after_its_commit_and_pop),
		cmocka_unit_test(random_steps_agree_with_a_model),
		cmocka_unit_test(each_failing_allocation_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
