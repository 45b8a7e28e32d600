/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/cluster/role/role_test.h"

static void tokens_are_raised_everywhere_before_a_start(void **state)
{
	(void)state;
	assert_int_equal(web()->state, ROLE_OFFLINE);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->token, 1);
	assert_int_equal(give(ROLE_CMD_START, WEB, 1, 0, 0), -ESTALE);
	must(ROLE_CMD_ACK, WEB, 0, 1);
	assert_int_equal(give(ROLE_CMD_ACK, WEB, 0, 1, 0), -ESTALE);
	assert_int_equal(give(ROLE_CMD_ACK, WEB, 0, 3, 0), -ESTALE); /* not one of its volumes */
	assert_int_equal(give(ROLE_CMD_START, WEB, 1, 0, 0), -ESTALE);
	must(ROLE_CMD_ACK, WEB, 0, 2);
	assert_int_equal(web()->state, ROLE_PLACING);
	must(ROLE_CMD_START, WEB, 2, 0);
	assert_true(role_may_run(web(), (struct role_at){2, 1}));
	assert_false(role_may_run(web(), (struct role_at){1, 1}));
	assert_false(role_may_run(web(), (struct role_at){2, 2}));
	must(ROLE_CMD_STARTED, WEB, 2, 0);
	assert_int_equal(web()->state, ROLE_ONLINE);
}

static void only_one_node_gets_it(void **state)
{
	(void)state;
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	acks();
	must(ROLE_CMD_START, WEB, 1, 0);
	assert_int_equal(give(ROLE_CMD_START, WEB, 2, 0, 0), -ESTALE);
	assert_int_equal(web()->owner.node, 1);
}

static void commands_of_an_old_epoch_token_or_owner_do_nothing(void **state)
{
	struct role_cmd cmd = {.verb = ROLE_CMD_STOPPED, .role = WEB, .epoch = 1, .now_ms = 1};
	struct role before;

	(void)state;
	online_on(1);
	before = *web();
	cmd.token = 1;
	cmd.at = (struct role_at){1, 1};
	cmd.epoch = 0;
	assert_int_equal(role_table_apply(table, &cmd), -ESTALE);
	cmd.epoch = 2;
	assert_int_equal(role_table_apply(table, &cmd), -ESTALE);
	cmd.epoch = 1;
	cmd.token = 0;
	assert_int_equal(role_table_apply(table, &cmd), -ESTALE);
	cmd.token = 1;
	cmd.at.inc = 2;
	assert_int_equal(role_table_apply(table, &cmd), -ESTALE);
	cmd.at = (struct role_at){2, 1};
	assert_int_equal(role_table_apply(table, &cmd), -ESTALE);
	assert_memory_equal(&before, web(), sizeof(before));
	assert_int_equal(role_table_view(table, 1), -EINVAL);
	assert_int_equal(role_table_view(table, 2), 0);
	cmd.at = (struct role_at){1, 1};
	assert_int_equal(role_table_apply(table, &cmd), -ESTALE); /* the first epoch is over */
	cmd.epoch = 2;
	assert_int_equal(role_table_apply(table, &cmd), 0);
	cmd.role = 7;
	assert_int_equal(role_table_apply(table, &cmd), -ENOENT);
}

static void a_crashed_worker_is_restarted_in_place_and_then_elsewhere(void **state)
{
	(void)state;
	online_on(2);
	for (uint64_t i = 0; i < 2; i++) {
		clock_ms += 60000;
		must(ROLE_CMD_STOPPED, WEB, 2, ROLE_STOP_CRASH);
		assert_int_equal(web()->state, ROLE_RAISING);
		assert_int_equal(web()->in_place, 2);
		assert_int_equal(web()->token, 2 + i);
		acks();
		must(ROLE_CMD_START, WEB, 2, 0);
		must(ROLE_CMD_STARTED, WEB, 2, 0);
	}
	clock_ms += 60000;
	must(ROLE_CMD_STOPPED, WEB, 2, ROLE_STOP_CRASH);
	assert_int_equal(web()->in_place, 0);
	assert_int_equal(web()->tried, role_bit(2));
	acks();
	must(ROLE_CMD_START, WEB, 1, 0);
	must(ROLE_CMD_STARTED, WEB, 1, 0);
	assert_int_equal(web()->tried, 0);
}

static void restarts_are_forgotten_after_their_window(void **state)
{
	(void)state;
	online_on(2);
	for (uint32_t i = 0; i < 5; i++) {
		clock_ms += 15 * 60 * 1000 / 2;
		must(ROLE_CMD_STOPPED, WEB, 2, ROLE_STOP_CRASH);
		assert_int_equal(web()->in_place, 2);
		acks();
		must(ROLE_CMD_START, WEB, 2, 0);
		must(ROLE_CMD_STARTED, WEB, 2, 0);
	}
}

static void a_vm_that_always_crashes_is_given_up_and_a_person_brings_it_back(void **state)
{
	uint32_t starts = 0;
	uint32_t held = 0;

	(void)state;
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	while (web()->state != ROLE_FAILED && starts < 100) {
		acks();
		must(ROLE_CMD_START, WEB, 1 + starts % 3, 0);
		must(ROLE_CMD_STARTED, WEB, 1 + starts % 3, 0);
		clock_ms += 1000;
		must(ROLE_CMD_STOPPED, WEB, 1 + starts % 3, ROLE_STOP_CRASH);
		held += web()->until_ms > clock_ms;
		starts++;
	}
	assert_int_equal(starts, 1 + 2 + 5); /* the first, in place, elsewhere */
	assert_int_equal(web()->why, ROLE_WHY_LIMIT);
	assert_int_equal(held, 3); /* from the third move within a minute */
	uint64_t token = web()->token;

	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->token, token + 1);
	assert_int_equal(web()->failovers.count, 0);
	assert_int_equal(web()->until_ms, 0);
}

static void a_node_that_cannot_start_it_is_left_out(void **state)
{
	(void)state;
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	for (uint32_t node = 1; node <= 3; node++) {
		acks();
		must(ROLE_CMD_START, WEB, node, 0);
		must(ROLE_CMD_START_FAILED, WEB, node, 0);
		assert_int_equal(web()->state, ROLE_RAISING);
		assert_int_equal(web()->tried, node < 3 ? (1u << node) - 1 : 0);
	}
	/* All of them: again from the beginning, but not at once. */
	assert_true(web()->until_ms > clock_ms);
}

static void what_a_person_wants_is_done_in_every_state(void **state)
{
	(void)state;
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	assert_int_equal(web()->state, ROLE_OFFLINE);
	online_on(1);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	assert_int_equal(web()->state, ROLE_STOPPING);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE); /* changed their mind */
	assert_int_equal(web()->state, ROLE_STOPPING);
	must(ROLE_CMD_STOPPED, WEB, 1, ROLE_STOP_ASKED);
	assert_int_equal(web()->state, ROLE_RAISING);
	acks();
	must(ROLE_CMD_START, WEB, 1, 0);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	assert_int_equal(web()->state, ROLE_STOPPING);
	must(ROLE_CMD_START_FAILED, WEB, 1, 0);
	assert_int_equal(web()->state, ROLE_OFFLINE);
}

static void a_guest_that_shuts_down_stays_down(void **state)
{
	(void)state;
	online_on(3);
	must(ROLE_CMD_STOPPED, WEB, 3, ROLE_STOP_GUEST);
	assert_int_equal(web()->state, ROLE_OFFLINE);
	assert_int_equal(web()->want, ROLE_WANT_OFFLINE);
}

static void a_migration_hands_the_token_over_in_one_step(void **state)
{
	(void)state;
	online_on(1);
	assert_int_equal(give(ROLE_CMD_MIGRATE, WEB, 1, 0, 0), -ESTALE); /* it is there */
	must(ROLE_CMD_MIGRATE, WEB, 2, 0);
	assert_true(role_may_run(web(), (struct role_at){1, 1}));
	assert_false(role_may_run(web(), (struct role_at){2, 1}));
	assert_int_equal(give(ROLE_CMD_SWITCH, WEB, 3, 0, 0), -ESTALE); /* not there */
	assert_int_equal(give(ROLE_CMD_SWITCH, WEB, 2, web()->since_ms + 1, 0),
	                 -ESTALE); /* of another move */
	must(ROLE_CMD_SWITCH, WEB, 2, web()->since_ms);
	assert_int_equal(web()->state, ROLE_STARTING);
	assert_int_equal(web()->token, 2);
	assert_true(web()->incoming);
	assert_false(role_may_run(web(), (struct role_at){1, 1}));
	assert_true(role_may_run(web(), (struct role_at){2, 1}));
	must(ROLE_CMD_STARTED, WEB, 2, 0);
	assert_int_equal(web()->acked, ALL_VOLUMES);
	assert_false(web()->incoming);
}

static void a_migration_whose_end_dies_leaves_one_owner(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_MIGRATE, WEB, 2, 0);
	must(ROLE_CMD_LOST, 0, 2, 0); /* the destination */
	assert_int_equal(web()->state, ROLE_ONLINE);
	assert_int_equal(web()->owner.node, 1);
	assert_int_equal(web()->token, 1);
	must(ROLE_CMD_MIGRATE, WEB, 3, 0);
	must(ROLE_CMD_LOST, 0, 1, 0); /* the source */
	assert_int_equal(web()->state, ROLE_FENCING);
	assert_int_equal(give(ROLE_CMD_SWITCH, WEB, 3, 0, 0), -ESTALE);
	must(ROLE_CMD_BACK, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_ONLINE);
	must(ROLE_CMD_MIGRATE, WEB, 3, 0);
	must(ROLE_CMD_MIGRATE_CANCEL, WEB, 0, 0);
	assert_int_equal(web()->owner.node, 1);
}

static void a_vm_is_stopped_to_start_elsewhere(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_RELOCATE, WEB, 0, 0);
	assert_int_equal(web()->state, ROLE_STOPPING);
	assert_int_equal(web()->want, ROLE_WANT_ONLINE);
	assert_int_equal(web()->owner.node, 1);
	assert_int_equal(give(ROLE_CMD_RELOCATE, WEB, 0, 0, 0), -ESTALE);
	must(ROLE_CMD_STOPPED, WEB, 1, ROLE_STOP_ASKED);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->token, 2);
	acks();
	must(ROLE_CMD_START, WEB, 2, 0);
	must(ROLE_CMD_STARTED, WEB, 2, 0);
	/* Somebody wants it off meanwhile: it stays off. */
	must(ROLE_CMD_RELOCATE, WEB, 0, 0);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	must(ROLE_CMD_STOPPED, WEB, 2, ROLE_STOP_ASKED);
	assert_int_equal(web()->state, ROLE_OFFLINE);
}

/* The owner's service was started again while it asked the guest to stop: for that one the guest
 * has turned itself off. */
static void a_guest_that_was_asked_to_stop_did_not_want_to_be_off(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_RELOCATE, WEB, 0, 0);
	must(ROLE_CMD_STOPPED, WEB, 1, ROLE_STOP_GUEST);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->want, ROLE_WANT_ONLINE);
	assert_int_equal(web()->token, 2);
	acks();
	must(ROLE_CMD_START, WEB, 2, 0);
	must(ROLE_CMD_STARTED, WEB, 2, 0);
	/* Not asked, it is what the guest wants. */
	must(ROLE_CMD_STOPPED, WEB, 2, ROLE_STOP_GUEST);
	assert_int_equal(web()->state, ROLE_OFFLINE);
	assert_int_equal(web()->want, ROLE_WANT_OFFLINE);
}

static void one_line_says_where_it_is_and_why(void **state)
{
	char line[200];

	(void)state;
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	must(ROLE_CMD_ACK, WEB, 0, 2);
	role_describe(web(), clock_ms + 3000, line, sizeof(line));
	assert_string_equal(line, "raising for 3s (asked for): waiting for volumes 1");
	must(ROLE_CMD_ACK, WEB, 0, 1);
	must(ROLE_CMD_START, WEB, 2, 0);
	must(ROLE_CMD_STARTED, WEB, 2, 0);
	must(ROLE_CMD_FREEZE, WEB, 0, 1);
	role_describe(web(), clock_ms, line, sizeof(line));
	assert_string_equal(line, "online on n2 for 0s (asked for); frozen by a person");
}

static void bad_policies_are_refused(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	assert_int_equal(role_table_add(table, WEB, "again", &p, 0, NULL), -EEXIST);
	assert_int_equal(role_table_add(table, 0, "none", &p, 0, NULL), -EINVAL);
	assert_int_equal(role_table_add(table, ROLE_COUNT_MAX + 1, "far", &p, 0, NULL), -EINVAL);
	p.memory_bytes = 0;
	assert_int_equal(role_table_add(table, 2, "small", &p, 0, NULL), -EINVAL);
	role_policy_default(&p);
	p.preferred[3] = 65;
	assert_int_equal(role_table_add(table, 2, "odd", &p, 0, NULL), -EINVAL);
	role_policy_default(&p);
	p.failover_max = ROLE_TIMES_MAX + 1;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), -EINVAL);
	role_policy_default(&p);
	online_on(1);
	assert_int_equal(role_table_set(table, WEB, &p, NULL), -EBUSY); /* its volumes */
	assert_int_equal(role_table_remove(table, WEB, NULL), -EBUSY);
	must(ROLE_CMD_STOPPED, WEB, 1, ROLE_STOP_GUEST);
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	assert_int_equal(role_table_remove(table, WEB, NULL), 0);
	assert_int_equal(role_table_remove(table, WEB, NULL), -ENOENT);
	assert_int_equal(role_table_count(table), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(tokens_are_raised_everywhere_before_a_start),
		T(only_one_node_gets_it),
		T(commands_of_an_old_epoch_token_or_owner_do_nothing),
		T(a_crashed_worker_is_restarted_in_place_and_then_elsewhere),
		T(restarts_are_forgotten_after_their_window),
		T(a_vm_that_always_crashes_is_given_up_and_a_person_brings_it_back),
		T(a_node_that_cannot_start_it_is_left_out),
		T(what_a_person_wants_is_done_in_every_state),
		T(a_guest_that_shuts_down_stays_down),
		T(a_migration_hands_the_token_over_in_one_step),
		T(a_migration_whose_end_dies_leaves_one_owner),
		T(a_vm_is_stopped_to_start_elsewhere),
		T(a_guest_that_was_asked_to_stop_did_not_want_to_be_off),
		T(one_line_says_where_it_is_and_why),
		T(bad_policies_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
