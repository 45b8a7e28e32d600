/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/cpu/cpuid.h"

#include <errno.h>

#include "tests/lib/test.h"

static void rows_are_found_by_function_and_index(void **state)
{
	struct cpuid_table t = {0};

	(void)state;
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 1, .eax = 10}), 0);
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 4,
	                                                    .has_index = true,
	                                                    .index = 2,
	                                                    .eax = 42}),
	                 0);
	assert_int_equal(cpuid_find(&t, 1, 0)->eax, 10);
	assert_int_equal(cpuid_find(&t, 1, 7)->eax, 10); /* no index: any will do */
	assert_int_equal(cpuid_find(&t, 4, 2)->eax, 42);
	assert_null(cpuid_find(&t, 4, 0));
	assert_null(cpuid_find(&t, 2, 0));
	/* The same function and index: replaced. */
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 1, .eax = 11}), 0);
	assert_int_equal(t.count, 2);
	assert_int_equal(cpuid_find(&t, 1, 0)->eax, 11);
}

static void a_full_table_takes_no_more(void **state)
{
	static struct cpuid_table t;

	(void)state;
	for (uint32_t i = 0; i < CPUID_LEAVES_MAX; i++) {
		assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = i}), 0);
	}
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 1000}), -E2BIG);
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 3, .ebx = 3}), 0);
	assert_int_equal(t.count, CPUID_LEAVES_MAX);
}

static void dropped_rows_are_gone_and_the_rest_stays(void **state)
{
	struct cpuid_table t = {0};

	(void)state;
	for (uint32_t i = 0; i < 10; i++) {
		assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = i, .eax = i}), 0);
	}
	cpuid_drop(&t, 3, 5);
	assert_int_equal(t.count, 7);
	assert_null(cpuid_find(&t, 3, 0));
	assert_null(cpuid_find(&t, 5, 0));
	assert_int_equal(cpuid_find(&t, 2, 0)->eax, 2);
	assert_int_equal(cpuid_find(&t, 6, 0)->eax, 6);
	cpuid_drop(&t, 0, UINT32_MAX);
	assert_int_equal(t.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_found_by_function_and_index),
		cmocka_unit_test(a_full_table_takes_no_more),
		cmocka_unit_test(dropped_rows_are_gone_and_the_rest_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
