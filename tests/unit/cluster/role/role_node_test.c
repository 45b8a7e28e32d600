/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/fault.h"
#include "cluster/role/role_table.h"
#include "tests/unit/cluster/role/role_test.h"

static const struct role_node *node(uint32_t id)
{
	return role_table_node(table, id);
}

static void a_vm_of_a_lost_node_starts_after_a_proof_only(void **state)
{
	(void)state;
	online_on(1);
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER, 0), -ESTALE); /* it is up */
	must(ROLE_CMD_LOST, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_FENCING);
	assert_int_equal(give(ROLE_CMD_START, WEB, 2, 0, 0), -ESTALE);
	/* No intent, no proof: it could be let back meanwhile. */
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER, 0), -ESTALE);
	must(ROLE_CMD_FENCING, 0, 1, 0);
	assert_int_equal(give(ROLE_CMD_BACK, 0, 1, 0, 0), -ESTALE);
	must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER);
	assert_int_equal(node(1)->state, ROLE_NODE_DOWN);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->token, 2);
	acks();
	assert_int_equal(give(ROLE_CMD_START, WEB, 1, 0, 0), -ESTALE); /* it is down */
	must(ROLE_CMD_START, WEB, 2, 0);
}

static void preempted_keys_prove_it_for_vms_on_those_volumes(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.strict = true;
	assert_int_equal(role_table_add(table, 2, "db1", &p, 0, NULL), 0);
	online_on(1);
	must(ROLE_CMD_WANT, 2, 0, ROLE_WANT_ONLINE);
	must(ROLE_CMD_ACK, 2, 0, 1);
	must(ROLE_CMD_ACK, 2, 0, 2);
	must(ROLE_CMD_START, 2, 1, 0);
	must(ROLE_CMD_LOST, 0, 1, 0);
	must(ROLE_CMD_FENCING, 0, 1, 0);
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_STORAGE, 1), 0);
	assert_int_equal(web()->state, ROLE_FENCING); /* its second volume is missing */
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_STORAGE, 1), -ESTALE);
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_STORAGE, 2), 0);
	assert_int_equal(web()->state, ROLE_RAISING);
	/* The other one wants to be sure that nothing of it is heard either. */
	assert_int_equal(role_table_role(table, 2)->state, ROLE_FENCING);
	assert_int_equal(node(1)->state, ROLE_NODE_FENCING);
	must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_LEASE);
	assert_int_equal(role_table_role(table, 2)->state, ROLE_RAISING);
}

static void a_silent_node_without_a_watchdog_proves_nothing(void **state)
{
	struct role_cmd join = {.verb = ROLE_CMD_JOIN,
	                        .epoch = 1,
	                        .at = {.node = 9, .inc = 1},
	                        .arg = {1ull << 30, 1, 3, 0}};

	(void)state;
	assert_int_equal(role_table_apply(table, &join), 0);
	must(ROLE_CMD_LOST, 0, 9, 0);
	must(ROLE_CMD_FENCING, 0, 9, 0);
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 9, ROLE_PROOF_LEASE, 0), -EINVAL);
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 9, ROLE_PROOF_NONE, 0), -EINVAL);
	assert_int_equal(give(ROLE_CMD_FENCED, 0, 9, ROLE_PROOF_CLEAN, 0), -EINVAL);
	must(ROLE_CMD_FENCED, 0, 9, ROLE_PROOF_OPERATOR);
}

static void a_node_that_comes_back_as_another_run_has_lost_its_vms(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_LOST, 0, 1, 0);
	must(ROLE_CMD_JOIN, 0, 1, 0);
	assert_int_equal(node(1)->inc, 2);
	assert_int_equal(web()->state, ROLE_RAISING);
	acks();
	must(ROLE_CMD_START, WEB, 1, 0);
	assert_false(role_may_run(web(), (struct role_at){1, 1}));
	assert_true(role_may_run(web(), (struct role_at){1, 2}));
	/* What its first run still says is not heard. */
	struct role_cmd old = {.verb = ROLE_CMD_STOPPED,
	                       .role = WEB,
	                       .epoch = 1,
	                       .token = web()->token,
	                       .at = {1, 1}};

	assert_int_equal(role_table_apply(table, &old), -ESTALE);
}

static void joining_without_being_missed_is_a_proof_too(void **state)
{
	struct role_cmd skip = {
		.verb = ROLE_CMD_JOIN, .epoch = 1, .at = {1, 3}, .arg = {1, 1, 1, 0}};

	(void)state;
	online_on(1);
	assert_int_equal(role_table_apply(table, &skip), -ESTALE); /* 2 is next */
	must(ROLE_CMD_JOIN, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_RAISING);
}

static void a_node_that_is_soon_back_keeps_its_vms(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_LOST, 0, 1, 1);
	assert_int_equal(web()->state, ROLE_FENCING); /* no patience is the default */
	must(ROLE_CMD_BACK, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_ONLINE);
	assert_int_equal(web()->token, 1);
}

static void a_patient_vm_waits_while_the_slots_of_its_node_move(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.resiliency_ms = 240000;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	online_on(1);
	must(ROLE_CMD_LOST, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_FENCING); /* the slots stand still: it is dead */
	must(ROLE_CMD_BACK, 0, 1, 0);
	must(ROLE_CMD_LOST, 0, 1, 1);
	assert_int_equal(web()->state, ROLE_UNMONITORED);
	clock_ms += 239999;
	assert_int_equal(give(ROLE_CMD_EXPIRE, WEB, 0, 0, 0), -ESTALE);
	clock_ms += 1;
	must(ROLE_CMD_EXPIRE, WEB, 0, 0);
	assert_int_equal(web()->state, ROLE_FENCING);
	/* Another VM of the node was less patient: this one need not wait any more. */
	must(ROLE_CMD_BACK, 0, 1, 0);
	must(ROLE_CMD_LOST, 0, 1, 1);
	assert_int_equal(web()->until_ms, clock_ms + 240000);
	must(ROLE_CMD_FENCING, 0, 1, 0);
	must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->until_ms, 0);
}

static void a_vm_that_prefers_waiting_waits_for_any_lost_node(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.resiliency_ms = 60000;
	p.patient = true;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	online_on(1);
	must(ROLE_CMD_LOST, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_UNMONITORED);
	assert_int_equal(web()->until_ms, clock_ms + 60000);
	/* Its node is back as another run: that is a proof. */
	must(ROLE_CMD_JOIN, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->until_ms, 0);
}

static void a_person_ends_its_patience_before_any_proof(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.resiliency_ms = 60000;
	p.patient = true;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	for (uint32_t way = 0; way < 3; way++) {
		online_on(1);
		must(ROLE_CMD_LOST, 0, 1, 0);
		assert_int_equal(web()->state, ROLE_UNMONITORED);
		assert_int_equal(give(ROLE_CMD_EXPIRE, WEB, 0, 0, 0), -ESTALE);
		if (way == 0) { /* it is started, or stopped, or the wish is taken back */
			must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
		} else if (way == 1) {
			must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
		} else {
			p.patient = false;
			assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
		}
		must(ROLE_CMD_EXPIRE, WEB, 0, 0);
		assert_int_equal(web()->state, ROLE_FENCING);
		must(ROLE_CMD_FENCING, 0, 1, 0);
		must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER);
		assert_int_equal(web()->state, way == 1 ? ROLE_OFFLINE : ROLE_RAISING);
		assert_int_equal(web()->until_ms, 0);
		must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
		must(ROLE_CMD_JOIN, 0, 1, 0);
		clock_ms += 3600000; /* another failure within a minute has a pause of its own */
	}
}

/* Somebody else needs the node proven stopped. It waits on, for where it was. */
static void patience_goes_beyond_a_proof(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.resiliency_ms = 60000;
	p.patient = true;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	for (uint32_t way = 0; way < 3; way++) {
		online_on(1);
		must(ROLE_CMD_LOST, 0, 1, 0);
		clock_ms += 10000;
		must(ROLE_CMD_FENCING, 0, 1, 0);
		must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER);
		assert_int_equal(web()->state, ROLE_RAISING);
		assert_int_equal(web()->until_ms, clock_ms + 50000);
		assert_int_equal(web()->in_place, 1);
		acks();
		assert_int_equal(web()->state, ROLE_PLACING);
		assert_int_equal(web()->until_ms, clock_ms + 50000);
		if (way == 0) { /* a person starts it */
			must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
		} else if (way == 1) { /* a person takes the wish back */
			p.patient = false;
			assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
			p.patient = true;
			assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
		} else { /* it is back */
			must(ROLE_CMD_JOIN, 0, 1, 0);
		}
		assert_int_equal(web()->until_ms, 0);
		must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
		if (way != 2) {
			must(ROLE_CMD_JOIN, 0, 1, 0);
		}
		clock_ms += 3600000; /* another failure within a minute has a pause of its own */
	}
}

static void a_wish_to_stop_is_found_when_the_node_is_back_or_proven_stopped(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_LOST, 0, 1, 0);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	assert_int_equal(web()->state, ROLE_FENCING);
	must(ROLE_CMD_BACK, 0, 1, 0);
	assert_int_equal(web()->state, ROLE_STOPPING);
	must(ROLE_CMD_LOST, 0, 1, 0);
	must(ROLE_CMD_FENCING, 0, 1, 0);
	must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER);
	assert_int_equal(web()->state, ROLE_OFFLINE);
}

static void priority_none_is_not_restarted(void **state)
{
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.priority = ROLE_PRIORITY_NONE;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	online_on(1);
	must(ROLE_CMD_LOST, 0, 1, 0);
	must(ROLE_CMD_FENCING, 0, 1, 0);
	must(ROLE_CMD_FENCED, 0, 1, ROLE_PROOF_POWER);
	assert_int_equal(web()->state, ROLE_OFFLINE);
	assert_int_equal(web()->why, ROLE_WHY_NO_AUTO);
}

static void three_losses_within_an_hour_are_a_quarantine(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		assert_true(role_node_usable(node(2), clock_ms));
		must(ROLE_CMD_LOST, 0, 2, 0);
		must(ROLE_CMD_BACK, 0, 2, 0);
		clock_ms += 600000;
	}
	assert_false(role_node_usable(node(2), clock_ms));
	assert_true(role_node_usable(node(2), clock_ms + ROLE_QUARANTINE_MS));
	/* One of three nodes is as much as may be kept out. */
	for (uint32_t i = 0; i < 3; i++) {
		must(ROLE_CMD_LOST, 0, 3, 0);
		must(ROLE_CMD_BACK, 0, 3, 0);
	}
	assert_true(role_node_usable(node(3), clock_ms));
	must(ROLE_CMD_UNQUARANTINE, 0, 2, 0);
	assert_true(role_node_usable(node(2), clock_ms));
	must(ROLE_CMD_LEAVE, 0, 3, 0); /* in order is no loss */
	must(ROLE_CMD_JOIN, 0, 3, 0);
	assert_true(role_node_usable(node(3), clock_ms));
}

static void drained_is_said_of_an_empty_node_only(void **state)
{
	(void)state;
	online_on(1);
	assert_int_equal(give(ROLE_CMD_DRAIN, 0, 1, ROLE_DRAIN_DONE, 0), -ESTALE);
	must(ROLE_CMD_DRAIN, 0, 1, ROLE_DRAIN_ACTIVE);
	assert_false(role_node_usable(node(1), clock_ms));
	assert_int_equal(give(ROLE_CMD_DRAIN, 0, 1, ROLE_DRAIN_DONE, 0), -ESTALE);
	must(ROLE_CMD_MIGRATE, WEB, 2, 0);
	must(ROLE_CMD_SWITCH, WEB, 2, 0);
	must(ROLE_CMD_DRAIN, 0, 1, ROLE_DRAIN_DONE);
	must(ROLE_CMD_JOIN, 0, 1, 0); /* a reboot: it stays in maintenance */
	assert_int_equal(node(1)->drain, ROLE_DRAIN_DONE);
	must(ROLE_CMD_DRAIN, 0, 1, ROLE_DRAIN_NONE);
	assert_true(role_node_usable(node(1), clock_ms));
}

static void a_node_that_leaves_in_order_hands_its_vms_back(void **state)
{
	(void)state;
	online_on(1);
	must(ROLE_CMD_LEAVE, 0, 1, 0);
	assert_int_equal(node(1)->state, ROLE_NODE_DOWN);
	assert_int_equal(web()->state, ROLE_RAISING);
	assert_int_equal(web()->why, ROLE_WHY_LEFT);
}

static void renewals_are_counted_and_the_longest_lease_remembered(void **state)
{
	(void)state;
	assert_int_equal(give(ROLE_CMD_RENEW, 0, 1, 5, 10000), 0);
	assert_int_equal(give(ROLE_CMD_RENEW, 0, 1, 5, 10000), -ESTALE);
	assert_int_equal(give(ROLE_CMD_RENEW, 0, 1, 6, 5000), 0);
	assert_int_equal(node(1)->lease_ms, 10000);
	assert_int_equal(node(1)->renew_seq, 6);
	must(ROLE_CMD_PATHS, 0, 1, 1);
	assert_int_equal(node(1)->paths, 1);
	must(ROLE_CMD_LOST, 0, 1, 0);
	assert_int_equal(give(ROLE_CMD_RENEW, 0, 1, 7, 10000), -ESTALE);
	assert_int_equal(give(ROLE_CMD_PATHS, 0, 1, 3, 0), -ESTALE);
	must(ROLE_CMD_JOIN, 0, 1, 0);
	assert_int_equal(node(1)->lease_ms, 0);
}

static void time_only_grows(void **state)
{
	struct role_cmd cmd = {.verb = ROLE_CMD_WANT, .role = WEB, .epoch = 1, .now_ms = 10};

	(void)state;
	assert_int_equal(role_table_now_ms(table), 1000);
	assert_int_equal(role_table_apply(table, &cmd), 0);
	assert_int_equal(role_table_now_ms(table), 1000);
	cmd.now_ms = 5000;
	assert_int_equal(role_table_apply(table, &cmd), 0);
	assert_int_equal(role_table_now_ms(table), 5000);
}

static void what_memory_does_not_suffice_for_changes_nothing(void **state)
{
	struct role_policy p;
	uint32_t k;

	(void)state;
	role_policy_default(&p);
	for (k = 1; k < 10; k++) {
		fault_arm(FAULT_ALLOC, k);
		if (role_table_add(table, 1000, "late", &p, 0, NULL) == 0) {
			break;
		}
		assert_null(role_table_role(table, 1000));
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(k, 3);
	assert_int_equal(role_table_next(table, WEB)->id, 1000);
	struct role_table *none;

	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(role_table_create(&none), -ENOMEM);
	assert_null(none);
	fault_arm(FAULT_ALLOC, 0);
	role_table_destroy(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_vm_of_a_lost_node_starts_after_a_proof_only),
		T(preempted_keys_prove_it_for_vms_on_those_volumes),
		T(a_silent_node_without_a_watchdog_proves_nothing),
		T(a_node_that_comes_back_as_another_run_has_lost_its_vms),
		T(joining_without_being_missed_is_a_proof_too),
		T(a_node_that_is_soon_back_keeps_its_vms),
		T(a_patient_vm_waits_while_the_slots_of_its_node_move),
		T(a_person_ends_its_patience_before_any_proof),
		T(a_vm_that_prefers_waiting_waits_for_any_lost_node),
		T(patience_goes_beyond_a_proof),
		T(a_wish_to_stop_is_found_when_the_node_is_back_or_proven_stopped),
		T(priority_none_is_not_restarted),
		T(three_losses_within_an_hour_are_a_quarantine),
		T(drained_is_said_of_an_empty_node_only),
		T(a_node_that_leaves_in_order_hands_its_vms_back),
		T(renewals_are_counted_and_the_longest_lease_remembered),
		T(time_only_grows),
		T(what_memory_does_not_suffice_for_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
