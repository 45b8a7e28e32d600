/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/place/place.h"

#include "tests/unit/cluster/place/place_test.h"

static void the_emptiest_node_is_taken(void **state)
{
	(void)state;
	in.vm_count = 3;
	vms[1].node = 1;
	vms[2].node = 2;
	vms[2].policy.memory_bytes = 2 * GIB;
	assert_int_equal(run(), 3);
	assert_int_equal(sum.placed, 1);
	explains(0, "v01: starts on n3: direct path, 87% of memory free afterwards");
	explains(1, "v02: stays on n1");
}

static void with_all_equal_the_lowest_id_is_taken(void **state)
{
	(void)state;
	assert_int_equal(run(), 1);
}

static void each_reason_that_keeps_a_node_out_is_named(void **state)
{
	(void)state;
	nodes[0].state = PLACE_NODE_DOWN;
	nodes[1].state = PLACE_NODE_DRAIN;
	nodes[2].state = PLACE_NODE_QUARANTINE;
	assert_int_equal(run(), 0);
	explains(0, "v01: cannot go anywhere, needs 1 GiB and 1 processors; not n1: down; not n2: "
	            "maintenance; not n3: quarantine");
	nodes[0].state = nodes[1].state = nodes[2].state = PLACE_NODE_UP;
	vms[0].policy.possible = 0x3;
	vms[0].tried = 0x1;
	vms[0].cpu_level = 4;
	assert_int_equal(run(), 0);
	explains(0, "v01: cannot go anywhere, needs 1 GiB and 1 processors; not n3: not a possible "
	            "owner; not n1: tried; not n2: processor model");
	vms[0].cpu_level = 3;
	vms[0].policy.possible = 0;
	vms[0].policy.cpus = 9;
	assert_int_equal(run(), 0);
	assert_int_equal(out[0].out[PLACE_OUT_CPUS], 0x6);
	vms[0].policy.cpus = 8;
	vms[0].policy.memory_bytes = 8 * GIB + 1;
	assert_int_equal(run(), 0);
	assert_int_equal(out[0].out[PLACE_OUT_MEMORY], 0x6);
	vms[0].policy.memory_bytes = 8 * GIB;
	assert_int_equal(run(), 2);
	in.reserve_bytes = 1;
	assert_int_equal(run(), 0);
}

static void a_direct_path_counts_more_than_a_wish(void **state)
{
	(void)state;
	vms[0].policy.preferred[0] = 2;
	vms[0].policy.preferred[1] = 3;
	assert_int_equal(run(), 2);
	assert_true(out[0].preferred);
	nodes[1].paths = 0;
	assert_int_equal(run(), 3);
	nodes[0].paths = nodes[2].paths = 0x2;
	assert_int_equal(run(), 2); /* none has: through another node is better than not at all */
	explains(0, "v01: starts on n2: through another node, preferred owner, 87% of memory free "
	            "afterwards");
}

static void a_restart_in_place_counts_more_than_preference(void **state)
{
	(void)state;
	vms[0].policy.preferred[0] = 2;
	vms[0].in_place = 3;
	assert_int_equal(run(), 3);
}

static void vms_of_a_group_are_kept_apart_if_that_is_possible(void **state)
{
	(void)state;
	in.vm_count = 4;
	for (uint32_t i = 0; i < 4; i++) {
		vms[i].policy.groups[i % 2] = 77;
	}
	run();
	assert_int_equal(sum.placed, 4);
	assert_int_equal(role_bit(out[0].node) | role_bit(out[1].node) | role_bit(out[2].node),
	                 0x7);
	assert_true(out[3].together);
	in.apart_hard = true;
	run();
	assert_int_equal(sum.nowhere, 1);
	assert_int_equal(out[3].out[PLACE_OUT_APART], 0x7);
	vms[3].policy.groups[1] = 78;
	run();
	assert_int_equal(sum.nowhere, 0);
}

static void a_node_without_its_volumes_is_no_place_where_nobody_helps_out(void **state)
{
	(void)state;
	in.vm_count = 1;
	vms[0].policy.volumes = 0x3;
	nodes[0].paths = 0x1;
	nodes[1].paths = 0x7;
	nodes[2].paths = 0;
	nodes[1].memory_bytes /= 2; /* the others would be better */
	in.paths_hard = true;
	run();
	assert_int_equal(out[0].node, 2);
	assert_int_equal(out[0].out[PLACE_OUT_PATH], 0x5);
	nodes[1].paths = 0x2;
	run();
	assert_int_equal(sum.nowhere, 1);
	in.paths_hard = false;
	run();
	assert_int_equal(sum.placed, 1);
}

static void important_ones_come_first_then_large_ones(void **state)
{
	(void)state;
	in.vm_count = 4;
	in.node_count = 1;
	for (uint32_t i = 0; i < 4; i++) {
		vms[i].policy.memory_bytes = 3 * GIB;
	}
	vms[3].policy.priority = ROLE_PRIORITY_HIGH;
	vms[2].policy.memory_bytes = 4 * GIB;
	run();
	assert_int_equal(out[3].node, 1);
	assert_int_equal(out[2].node, 1);
	assert_int_equal(out[0].node, 0);
	assert_int_equal(out[1].node, 0);
	assert_int_equal(sum.nowhere, 2);
}

static void memory_is_never_given_twice(void **state)
{
	uint64_t used[3] = {0};

	(void)state;
	in.vm_count = VMS;
	for (uint32_t i = 0; i < VMS; i++) {
		vms[i].policy.memory_bytes = (1 + i % 3) * GIB / 2;
		vms[i].node = i % 5 == 0 ? 1 + i % 3 : 0;
	}
	run();
	for (uint32_t i = 0; i < VMS; i++) {
		if (out[i].node != 0) {
			used[out[i].node - 1] += vms[i].policy.memory_bytes;
		}
	}
	for (uint32_t n = 0; n < 3; n++) {
		assert_true(used[n] <= nodes[n].memory_bytes);
	}
	assert_true(sum.placed > 10 && sum.nowhere > 0);
}

static void vcpus_are_spread_when_memory_is_equal(void **state)
{
	(void)state;
	in.vm_count = 3;
	vms[1].node = 1;
	vms[1].policy.cpus = 6;
	vms[2].node = 3;
	nodes[1].state = PLACE_NODE_DOWN;
	assert_int_equal(run(), 3);
}

static void nothing_at_all_is_no_problem(void **state)
{
	(void)state;
	in.vm_count = 0;
	in.node_count = 0;
	place_run(&in, work, out, &sum);
	assert_int_equal(sum.placed + sum.nowhere, 0);
	in.vm_count = 1;
	assert_int_equal(run(), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_emptiest_node_is_taken),
		T(with_all_equal_the_lowest_id_is_taken),
		T(each_reason_that_keeps_a_node_out_is_named),
		T(a_direct_path_counts_more_than_a_wish),
		T(a_restart_in_place_counts_more_than_preference),
		T(vms_of_a_group_are_kept_apart_if_that_is_possible),
		T(a_node_without_its_volumes_is_no_place_where_nobody_helps_out),
		T(important_ones_come_first_then_large_ones),
		T(memory_is_never_given_twice),
		T(vcpus_are_spread_when_memory_is_equal),
		T(nothing_at_all_is_no_problem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
