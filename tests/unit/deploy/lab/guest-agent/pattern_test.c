/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/pattern.h"

#include <string.h>

#include "tests/lib/test.h"

static const struct pattern_id seven = {.seed = 7, .index = 42, .generation = 3};
static _Alignas(8) uint8_t block[PATTERN_BLOCK_BYTES];

static void a_block_is_right_for_its_own_id_only(void **state)
{
	struct pattern_id other = seven;
	struct pattern_id found;

	(void)state;
	pattern_fill(block, &seven);
	assert_int_equal(pattern_check(block, &seven, NULL), PATTERN_RIGHT);
	other.generation = 4;
	assert_int_equal(pattern_check(block, &other, &found), PATTERN_STALE);
	assert_int_equal(found.generation, 3);
	other = (struct pattern_id){8, 42, 3};
	assert_int_equal(pattern_check(block, &other, NULL), PATTERN_FOREIGN);
	other = (struct pattern_id){7, 43, 3};
	assert_int_equal(pattern_check(block, &other, &found), PATTERN_FOREIGN);
	assert_int_equal(found.index, 42);
}

static void every_changed_byte_is_found(void **state)
{
	(void)state;
	for (size_t at = 0; at < sizeof(block); at++) {
		pattern_fill(block, &seven);
		block[at] ^= 1;
		assert_int_equal(pattern_check(block, &seven, NULL), PATTERN_DAMAGED);
	}
}

static void a_torn_block_is_damaged_wherever_it_is_torn(void **state)
{
	static _Alignas(8) uint8_t newer[PATTERN_BLOCK_BYTES];
	const struct pattern_id next = {7, 42, 4};

	(void)state;
	pattern_fill(newer, &next);
	for (size_t at = 512; at < sizeof(block); at += 512) {
		pattern_fill(block, &seven);
		memcpy(block, newer, at);
		assert_int_equal(pattern_check(block, &next, NULL), PATTERN_DAMAGED);
	}
}

static void zeros_are_generation_0_of_any_block(void **state)
{
	struct pattern_id id = {7, 42, 0};
	struct pattern_id found;

	(void)state;
	memset(block, 0xff, sizeof(block));
	pattern_fill(block, &id);
	for (size_t i = 0; i < sizeof(block); i++) {
		assert_int_equal(block[i], 0);
	}
	assert_int_equal(pattern_check(block, &id, NULL), PATTERN_RIGHT);
	assert_int_equal(pattern_check(block, &seven, &found), PATTERN_STALE);
	assert_int_equal(found.generation, 0);
	block[100] = 1;
	assert_int_equal(pattern_check(block, &id, NULL), PATTERN_DAMAGED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_is_right_for_its_own_id_only),
		cmocka_unit_test(every_changed_byte_is_found),
		cmocka_unit_test(a_torn_block_is_damaged_wherever_it_is_torn),
		cmocka_unit_test(zeros_are_generation_0_of_any_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
