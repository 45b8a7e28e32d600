/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view/flap.h"

#include <string.h>

#include "tests/lib/test.h"

#define SECOND 1000000000ull

static uint64_t look(struct flap *f, enum view_state state, uint64_t seq, uint32_t nodes,
                     uint64_t now_ns)
{
	struct view view = {.state = state, .ring = {.seq = seq}, .ring_count = nodes};
	struct view_config config = {.count = 15};

	for (uint32_t i = 0; i < nodes; i++) {
		view.ring_members[i] = i + 1;
	}
	for (uint32_t i = 0; i < config.count; i++) {
		config.nodes[i] = (struct view_node){.nodeid = i + 1, .votes = 1};
	}
	return flap_look(f, &view, &config, now_ns);
}

static void the_same_minority_again_and_again_leaves(void **state)
{
	struct flap f = {0};

	(void)state;
	assert_int_equal(look(&f, VIEW_PRIMARY, 4, 3, SECOND), 0);
	assert_int_equal(look(&f, VIEW_MINORITY, 8, 1, 3 * SECOND), 0);
	assert_int_equal(look(&f, VIEW_MINORITY, 8, 1, 4 * SECOND), 0);
	assert_int_equal(look(&f, VIEW_MINORITY, 12, 1, 5 * SECOND), 0);
	assert_int_equal(look(&f, VIEW_DOWN, 12, 1, 5 * SECOND), 0);
	assert_int_equal(look(&f, VIEW_MINORITY, 16, 1, 6 * SECOND), FLAP_LEAVE_NS);
}

static void it_leaves_for_longer_each_time(void **state)
{
	struct flap f = {0};
	uint64_t seq = 0;
	uint64_t now_ns = SECOND;

	(void)state;
	for (uint32_t i = 0; i < 10; i++) {
		uint32_t times = i < FLAP_TIMES_MAX ? i : FLAP_TIMES_MAX;

		for (uint32_t ring = 1; ring < FLAP_RINGS; ring++) {
			assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1, now_ns), 0);
		}
		assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1, now_ns), FLAP_LEAVE_NS << times);
		now_ns += FLAP_LEAVE_NS << times;
	}
	/* A long time in the majority: as if nothing had been. */
	assert_int_equal(look(&f, VIEW_PRIMARY, ++seq, 3, now_ns), 0);
	assert_int_equal(look(&f, VIEW_PRIMARY, seq, 3, now_ns + FLAP_CALM_NS), 0);
	for (uint32_t ring = 1; ring < FLAP_RINGS; ring++) {
		assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1, now_ns), 0);
	}
	assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1, now_ns), FLAP_LEAVE_NS);
}

static void what_nodes_do_that_start_or_are_cut_off_is_none(void **state)
{
	struct flap f = {0};
	uint64_t seq = 0;

	(void)state;
	for (uint32_t nodes = 1; nodes < 8; nodes++) { /* one after the other comes */
		assert_int_equal(look(&f, VIEW_MINORITY, ++seq, nodes, SECOND), 0);
	}
	f = (struct flap){0};
	for (uint32_t i = 0; i < 20; i++) { /* it is the others who go */
		assert_int_equal(look(&f, VIEW_HELLO, ++seq, 8, SECOND), 0);
	}
	f = (struct flap){0};
	for (uint32_t i = 0; i < 20; i++) { /* now with them, now without */
		assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1 + i % 2, i * SECOND), 0);
	}
	f = (struct flap){0};
	for (uint32_t i = 0; i < 20; i++) { /* seldom */
		assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1, i * (FLAP_WINDOW_NS / 2 + 1)),
		                 0);
	}
	f = (struct flap){0};
	for (uint32_t i = 0; i < 20; i++) { /* with a majority in between */
		assert_int_equal(look(&f, VIEW_MINORITY, ++seq, 1, i * SECOND), 0);
		assert_int_equal(look(&f, VIEW_PRIMARY, ++seq, 3, i * SECOND), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_minority_again_and_again_leaves),
		cmocka_unit_test(it_leaves_for_longer_each_time),
		cmocka_unit_test(what_nodes_do_that_start_or_are_cut_off_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
