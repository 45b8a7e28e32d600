/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/place/place.h"
#include "tests/unit/cluster/place/place_test.h"

static void a_dead_nodes_vms_start_elsewhere_in_waves(void **state)
{
	uint32_t starts[4][10] = {{0}};

	(void)state;
	in.vm_count = 12;
	for (uint32_t i = 0; i < 12; i++) {
		vms[i].node = 2;
		vms[i].policy.memory_bytes = GIB / 2;
	}
	vms[11].policy.priority = ROLE_PRIORITY_HIGH;
	vms[10].policy.priority = ROLE_PRIORITY_NONE;
	place_failover(&in, 0x2, work, out, &sum);
	assert_int_equal(sum.placed, 11);
	assert_int_equal(out[10].node, 0);
	assert_int_equal(out[11].wave, 1);
	for (uint32_t i = 0; i < 12; i++) {
		if (i != 10) {
			assert_true(out[i].node == 1 || out[i].node == 3);
			assert_in_range(out[i].wave, 1, 9);
			starts[out[i].node][out[i].wave]++;
			assert_int_equal(out[i].out[PLACE_OUT_DOWN], 0x2);
		}
	}
	for (uint32_t wave = 1; wave < 10; wave++) {
		assert_true(starts[1][wave] <= 2 && starts[3][wave] <= 2);
	}
	assert_int_equal(sum.waves, 3);
	explains(10, "v11: stays off (priority none)");
}

static void those_that_are_waited_for_start_in_an_earlier_wave(void **state)
{
	(void)state;
	in.vm_count = 4;
	for (uint32_t i = 0; i < 4; i++) {
		vms[i].node = 1;
	}
	vms[0].policy.after[0] = 2; /* v01 after v02 after v03, although it is more important */
	vms[0].policy.priority = ROLE_PRIORITY_HIGH;
	vms[1].policy.after[0] = 3;
	place_failover(&in, 0x1, work, out, &sum);
	assert_true(out[2].wave < out[1].wave && out[1].wave < out[0].wave);
	assert_int_equal(out[0].waits_for, 2);
	assert_int_equal(sum.waves, out[0].wave);
	explains(1, "v02: starts on n3: direct path, 87% of memory free afterwards; in wave 2; "
	            "after v03; "
	            "not n1: down");
}

static void a_circle_of_dependencies_does_not_hang(void **state)
{
	(void)state;
	in.vm_count = 2;
	vms[0].node = vms[1].node = 1;
	vms[0].policy.after[0] = 2;
	vms[1].policy.after[0] = 1;
	place_failover(&in, 0x1, work, out, &sum);
	assert_int_equal(sum.placed, 2);
	assert_true(out[0].wave > 0 && out[1].wave > 0);
}

static void what_does_not_fit_is_said_with_the_reason(void **state)
{
	(void)state;
	in.vm_count = 3;
	vms[0].node = 1;
	vms[0].policy.memory_bytes = 6 * GIB;
	vms[1].node = 2;
	vms[1].policy.memory_bytes = 4 * GIB;
	vms[2].node = 3;
	vms[2].policy.memory_bytes = 4 * GIB;
	place_failover(&in, 0x1, work, out, &sum);
	assert_int_equal(sum.nowhere, 1);
	explains(0,
	         "v01: cannot go anywhere, needs 6 GiB and 1 processors; not n1: down; not n2,n3: "
	         "memory");
}

static void two_nodes_can_die_at_once(void **state)
{
	(void)state;
	in.vm_count = 2;
	vms[0].node = 1;
	vms[1].node = 2;
	place_failover(&in, 0x3, work, out, &sum);
	assert_int_equal(out[0].node, 3);
	assert_int_equal(out[1].node, 3);
}

static void a_drain_moves_important_ones_first_two_at_a_time(void **state)
{
	uint32_t per_wave[10] = {0};

	(void)state;
	in.vm_count = 6;
	for (uint32_t i = 0; i < 6; i++) {
		vms[i].node = 1;
	}
	vms[5].policy.priority = ROLE_PRIORITY_HIGH;
	place_drain(&in, 1, work, out, &sum);
	assert_int_equal(sum.placed, 6);
	assert_int_equal(sum.waves, 3);
	assert_int_equal(out[5].wave, 1);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(out[i].how, PLACE_LIVE);
		assert_true(out[i].node == 2 || out[i].node == 3);
		per_wave[out[i].wave]++;
	}
	assert_true(per_wave[1] == 2 && per_wave[2] == 2 && per_wave[3] == 2);
}

static void what_cannot_move_live_does_what_its_policy_says(void **state)
{
	(void)state;
	in.vm_count = 4;
	for (uint32_t i = 0; i < 4; i++) {
		vms[i].node = 1;
		vms[i].live = false;
	}
	vms[0].policy.fallback = ROLE_FALLBACK_QUICK;
	vms[1].policy.fallback = ROLE_FALLBACK_SHUTDOWN;
	vms[2].policy.fallback = ROLE_FALLBACK_LEAVE;
	vms[3].policy.fallback = ROLE_FALLBACK_SHUTDOWN;
	vms[3].policy.possible = 0x1;
	place_drain(&in, 1, work, out, &sum);
	assert_int_equal(out[0].how, PLACE_QUICK);
	assert_int_equal(out[1].how, PLACE_SHUTDOWN);
	assert_int_equal(out[2].how, PLACE_BLOCKED);
	assert_int_equal(out[2].node, 0);
	assert_int_equal(out[3].how, PLACE_SHUTDOWN); /* it has no other node: it stays off */
	assert_int_equal(out[3].node, 0);
	assert_int_equal(sum.nowhere, 1);
	explains(2, "v03: stays: it cannot be moved live, and its policy allows nothing else");
	explains(0,
	         "v01: moves quickly (save, move, restore) on n2: direct path, 87% of memory free "
	         "afterwards; it cannot be moved live; not n1: maintenance");
}

static void a_drain_without_room_says_why(void **state)
{
	(void)state;
	in.vm_count = 2;
	vms[0].node = 1;
	vms[0].policy.memory_bytes = 5 * GIB;
	vms[0].policy.possible = 0x3;
	vms[1].node = 2;
	vms[1].policy.memory_bytes = 4 * GIB;
	place_drain(&in, 1, work, out, &sum);
	assert_int_equal(out[0].how, PLACE_BLOCKED);
	explains(0,
	         "v01: cannot go anywhere, needs 5 GiB and 1 processors; not n1: maintenance; not "
	         "n3: not a possible owner; not n2: memory");
	assert_int_equal(out[1].how, PLACE_STAY);
}

static void what_stays_takes_no_room_elsewhere(void **state)
{
	(void)state;
	in.vm_count = 2;
	in.node_count = 2;
	vms[0].node = vms[1].node = 1;
	vms[0].policy.memory_bytes = vms[1].policy.memory_bytes = 8 * GIB;
	vms[0].live = false;
	vms[0].policy.fallback = ROLE_FALLBACK_LEAVE;
	place_drain(&in, 1, work, out, &sum);
	assert_int_equal(out[0].how, PLACE_BLOCKED);
	assert_int_equal(out[1].how, PLACE_LIVE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_dead_nodes_vms_start_elsewhere_in_waves),
		T(those_that_are_waited_for_start_in_an_earlier_wave),
		T(a_circle_of_dependencies_does_not_hang),
		T(what_does_not_fit_is_said_with_the_reason),
		T(two_nodes_can_die_at_once),
		T(a_drain_moves_important_ones_first_two_at_a_time),
		T(what_cannot_move_live_does_what_its_policy_says),
		T(a_drain_without_room_says_why),
		T(what_stays_takes_no_room_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
