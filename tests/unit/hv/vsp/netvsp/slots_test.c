/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/slots.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "tests/lib/test.h"

static void slots_come_and_go(void **state)
{
	struct slots s;
	uint32_t index[5];

	(void)state;
	assert_int_equal(slots_init(&s, 5), 0);
	for (uint32_t i = 0; i < 5; i++) {
		index[i] = slots_take(&s);
		assert_int_equal(index[i], i);
	}
	assert_int_equal(slots_take(&s), SLOTS_NONE);
	slots_give(&s, 0, index, 3);
	slots_give(&s, 1, index + 3, 1);
	slots_put(&s, index[4]);
	assert_int_equal(s.free_count, 1);
	assert_int_equal(slots_return(&s, 0, 0), 3);
	assert_int_equal(s.free_count, 4);
	slots_return_all(&s, 0);
	assert_int_equal(s.free_count, 4);
	slots_return_all(&s, 1);
	assert_int_equal(s.free_count, 5);
	slots_fini(&s);
	slots_fini(&s);
	assert_int_equal(slots_take(&s), SLOTS_NONE);
}

static void what_the_guest_does_not_have_it_cannot_return(void **state)
{
	struct slots s;
	uint32_t index[3];

	(void)state;
	assert_int_equal(slots_init(&s, 4), 0);
	for (uint32_t i = 0; i < 3; i++) {
		index[i] = slots_take(&s);
	}
	slots_give(&s, 0, index, 2);
	assert_int_equal(slots_return(&s, 0, 1), -ENOENT); /* not the first of its transaction */
	assert_int_equal(slots_return(&s, 0, 2), -ENOENT); /* ours */
	assert_int_equal(slots_return(&s, 0, 3), -ENOENT); /* free */
	assert_int_equal(slots_return(&s, 0, 4), -ENOENT);
	assert_int_equal(slots_return(&s, 0, UINT64_MAX), -ENOENT);
	assert_int_equal(slots_return(&s, 1, 0), -ENOENT); /* another channel's */
	assert_int_equal(slots_return(&s, 0, 0), 2);
	assert_int_equal(slots_return(&s, 0, 0), -ENOENT); /* twice */
	slots_fini(&s);
	/* Without a buffer there is nothing to return. */
	assert_int_equal(slots_return(&s, 0, 0), -ENOENT);
}

static void loading_takes_each_slot_once(void **state)
{
	struct slots s;
	const uint32_t index[] = {2, 0};

	(void)state;
	assert_int_equal(slots_init(&s, 4), 0);
	assert_int_equal(slots_claim(&s, 2), 0);
	assert_int_equal(slots_claim(&s, 0), 0);
	assert_int_equal(slots_claim(&s, 2), -EBADMSG);
	assert_int_equal(slots_claim(&s, 4), -EBADMSG);
	slots_give(&s, 3, index, 2);
	slots_claimed(&s);
	assert_int_equal(s.free_count, 2);
	assert_int_equal(slots_take(&s), 1);
	assert_int_equal(slots_take(&s), 3);
	assert_int_equal(slots_return(&s, 3, 2), 2);
	slots_fini(&s);
}

static void lack_of_memory_is_told(void **state)
{
	struct slots s;

	(void)state;
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(slots_init(&s, 4), -ENOMEM);
	fault_arm(FAULT_ALLOC, 0);
	slots_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_come_and_go),
		cmocka_unit_test(what_the_guest_does_not_have_it_cannot_return),
		cmocka_unit_test(loading_takes_each_slot_once),
		cmocka_unit_test(lack_of_memory_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
