/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

static void the_kth_allocation_fails_and_only_that(void **state)
{
	(void)state;
	for (uint32_t k = 1; k <= 5; k++) {
		void *got[5];
		char *grown = malloc(1);

		fault_arm(FAULT_ALLOC, k);
		got[0] = gw_malloc(10);
		got[1] = gw_calloc(2, 5);
		got[2] = gw_realloc_array(grown, 4, 8);
		got[3] = gw_strdup("text");
		got[4] = gw_asprintf("%d", 7);
		assert_true(fault_hit(FAULT_ALLOC));
		for (uint32_t i = 0; i < 5; i++) {
			assert_int_equal(got[i] == NULL, i + 1 == k);
		}
		if (k == 3) {
			free(grown); /* it is still there */
		}
		for (uint32_t i = 0; i < 5; i++) {
			free(got[i]);
		}
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_false(fault_hit(FAULT_ALLOC));
}

static void kinds_are_counted_apart(void **state)
{
	void *p;

	(void)state;
	fault_arm(FAULT_IO, 2);
	p = gw_malloc(1);
	assert_non_null(p);
	free(p);
	assert_int_equal(fault_io(), 0);
	assert_false(fault_hit(FAULT_IO));
	assert_int_equal(fault_io(), -EIO);
	assert_true(fault_hit(FAULT_IO));
	assert_int_equal(fault_io(), 0);
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_IO, 0);
}

static void *allocate(void *arg)
{
	(void)arg;
	return gw_malloc(1);
}

static void other_threads_are_not_hit(void **state)
{
	pthread_t thread;
	void *p = NULL;

	(void)state;
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(pthread_create(&thread, NULL, allocate, NULL), 0);
	assert_int_equal(pthread_join(thread, &p), 0);
	assert_non_null(p);
	free(p);
	assert_null(gw_malloc(1));
	fault_arm(FAULT_ALLOC, 0);
}

static void the_allocators_do_what_their_models_do(void **state)
{
	unsigned char *zero = gw_calloc(8, 4);
	char *text = gw_strdup("abc");
	char *printed = gw_asprintf("%s-%d", "a", 5);

	(void)state;
	for (int i = 0; i < 32; i++) {
		assert_int_equal(zero[i], 0);
	}
	assert_string_equal(text, "abc");
	assert_string_equal(printed, "a-5");
	free(zero);
	free(text);
	free(printed);
}

static void a_sparse_table_is_zero_and_can_fail(void **state)
{
	const size_t bytes = 4u << 20;
	unsigned char *table = gw_calloc_sparse(bytes / 8, 8);
	unsigned char *few = gw_calloc_sparse(1, 100);

	(void)state;
	assert_non_null(table);
	assert_non_null(few);
	for (size_t i = 0; i < bytes; i += 4096) {
		assert_int_equal(table[i], 0);
		table[i] = 1;
	}
	assert_int_equal(few[99], 0);
	free(table);
	free(few);
	fault_arm(FAULT_ALLOC, 1);
	assert_null(gw_calloc_sparse(1, 8));
	fault_arm(FAULT_ALLOC, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kth_allocation_fails_and_only_that),
		cmocka_unit_test(kinds_are_counted_apart),
		cmocka_unit_test(other_threads_are_not_hit),
		cmocka_unit_test(the_allocators_do_what_their_models_do),
		cmocka_unit_test(a_sparse_table_is_zero_and_can_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
