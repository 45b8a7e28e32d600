/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/agent/agent.h"

#include <errno.h>

#include "base/fault.h"
#include "cluster/role/role_table.h"
#include "cluster/timing/timing.h"
#include "tests/lib/test.h"

#define S 1000000000ull
#define WEB 1u

static struct agent_action acts[AGENT_ACTIONS_MAX];
static struct role_table *table;
static struct agent *agent;
static struct timing timing;
static uint64_t now_ns;

static void apply(enum role_verb verb, uint32_t role, uint32_t node, uint64_t arg)
{
	struct role_cmd cmd = {
		.verb = verb, .role = role, .epoch = 1, .now_ms = now_ns / 1000000, .arg = {arg}};

	cmd.token = role != 0 ? role_table_role(table, role)->token : 0;
	if (node != 0) {
		cmd.at.node = node;
		cmd.at.inc = role_table_node(table, node)->inc + (verb == ROLE_CMD_JOIN);
	}
	assert_int_equal(role_table_apply(table, &cmd), 0);
}

static void renew(void)
{
	assert_int_equal(lease_confirm(&agent->node, lease_send(&agent->node, &timing, now_ns)), 0);
}

static uint32_t step(void)
{
	return agent_step(agent, table, &timing, now_ns, 1, acts);
}

/* Exactly this one thing is to be done. */
static void expect(enum agent_do what)
{
	uint32_t count = step();

	assert_int_equal(count, 1);
	assert_int_equal(acts[0].what, what);
}

static void expect_report(enum role_verb verb, uint64_t arg)
{
	expect(AGENT_PROPOSE);
	assert_int_equal(acts[0].cmd.verb, verb);
	assert_int_equal(acts[0].cmd.arg[0], arg);
	assert_int_equal(acts[0].cmd.token, role_table_role(table, WEB)->token);
}

static int setup(void **state)
{
	struct timing_cfg cfg;
	struct role_policy p;

	(void)state;
	timing_default(&cfg);
	assert_int_equal(timing_init(&cfg, &timing, NULL), 0);
	assert_int_equal(role_table_create(&table), 0);
	assert_int_equal(role_table_view(table, 1), 0);
	role_policy_default(&p);
	p.volumes = 0x1;
	p.restart_max = 8;
	assert_int_equal(role_table_add(table, WEB, "web1", &p, 0, NULL), 0);
	assert_int_equal(agent_create(1, 4, &agent), 0);
	now_ns = 100 * S;
	apply(ROLE_CMD_JOIN, 0, 1, 0);
	apply(ROLE_CMD_JOIN, 0, 2, 0);
	agent_begin(agent, 1);
	renew();
	apply(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	apply(ROLE_CMD_ACK, WEB, 0, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	agent_destroy(agent);
	role_table_destroy(table);
	return 0;
}

static void run_it(void)
{
	apply(ROLE_CMD_START, WEB, 1, 0);
	expect(AGENT_VM_START);
	assert_int_equal(acts[0].token, 1);
	assert_int_equal(step(), 0);
	agent_vm_event(agent, WEB, AGENT_STARTED);
	expect_report(ROLE_CMD_STARTED, 0);
	assert_int_equal(step(), 0); /* it was said */
	apply(ROLE_CMD_STARTED, WEB, 1, 0);
	assert_int_equal(step(), 0);
}

static void what_it_owns_is_started_and_reported(void **state)
{
	(void)state;
	assert_int_equal(step(), 0);
	run_it();
	apply(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	expect(AGENT_VM_STOP);
	assert_int_equal(step(), 0);
	agent_vm_event(agent, WEB, AGENT_EXITED);
	now_ns += S;
	renew();
	expect_report(ROLE_CMD_STOPPED, ROLE_STOP_ASKED);
	apply(ROLE_CMD_STOPPED, WEB, 1, ROLE_STOP_ASKED);
	assert_int_equal(step(), 0);
}

static void a_report_that_is_lost_is_repeated(void **state)
{
	(void)state;
	apply(ROLE_CMD_START, WEB, 1, 0);
	expect(AGENT_VM_START);
	agent_vm_event(agent, WEB, AGENT_START_FAILED);
	expect_report(ROLE_CMD_START_FAILED, 0);
	now_ns += AGENT_AGAIN_NS - 1;
	assert_int_equal(step(), 0);
	now_ns += 1;
	expect_report(ROLE_CMD_START_FAILED, 0);
}

static void nothing_is_started_on_an_old_lease(void **state)
{
	(void)state;
	apply(ROLE_CMD_START, WEB, 1, 0);
	now_ns += timing.warn_ns;
	assert_int_equal(step(), 0);
	renew();
	expect(AGENT_VM_START);
}

static void the_ladder_is_gone_down_rung_by_rung(void **state)
{
	(void)state;
	run_it();
	now_ns += timing.pause_ns - 1;
	assert_int_equal(step(), 0);
	assert_true(agent_pettable(agent, table, &timing, now_ns));
	now_ns += 1;
	expect(AGENT_VM_PAUSE);
	assert_false(agent_pettable(agent, table, &timing, now_ns));
	renew(); /* just in time */
	expect(AGENT_VM_RESUME);
	now_ns += timing.pause_ns;
	expect(AGENT_VM_PAUSE);
	now_ns += timing.kill_ns - timing.pause_ns;
	expect(AGENT_VM_KILL);
	assert_int_equal(step(), 0);
	agent_vm_event(agent, WEB, AGENT_EXITED);
	assert_true(agent_pettable(agent, table, &timing, now_ns)); /* nothing is left to fear */
	now_ns += S;
	expect_report(ROLE_CMD_STOPPED, ROLE_STOP_CRASH);
}

static void an_isolated_vm_lives_on_the_lease_of_its_volume(void **state)
{
	(void)state;
	run_it();
	now_ns += timing.kill_ns;
	assert_int_equal(
		lease_confirm(&agent->volumes[0], lease_send(&agent->volumes[0], &timing, now_ns)),
		0);
	assert_int_equal(step(), 0);
	assert_true(agent_pettable(agent, table, &timing, now_ns));
	lease_drop(&agent->volumes[0]);
	expect(AGENT_VM_KILL);
}

static void what_it_does_not_own_any_more_is_killed_and_not_reported(void **state)
{
	struct role_cmd lost = {.verb = ROLE_CMD_LOST, .epoch = 1, .at = {1, 1}};

	(void)state;
	run_it();
	/* It hears of it late: others decided that it is lost and back, and moved the VM. */
	assert_int_equal(role_table_apply(table, &lost), 0);
	apply(ROLE_CMD_BACK, 0, 1, 0);
	apply(ROLE_CMD_MIGRATE, WEB, 2, 0);
	apply(ROLE_CMD_SWITCH, WEB, 2, 0);
	expect(AGENT_VM_KILL);
	agent_vm_event(agent, WEB, AGENT_EXITED);
	now_ns += 2 * S;
	assert_int_equal(step(), 0);
}

/* Found by the simulation: the report of one life must not be told of the next. */
static void an_old_report_is_not_told_of_a_new_life(void **state)
{
	(void)state;
	run_it();
	agent_vm_event(agent, WEB, AGENT_EXITED);
	now_ns += S;
	expect_report(ROLE_CMD_STOPPED, ROLE_STOP_CRASH);
	/* Before the next step it was raised, placed and given to the same node again. */
	apply(ROLE_CMD_STOPPED, WEB, 1, ROLE_STOP_CRASH);
	apply(ROLE_CMD_ACK, WEB, 0, 1);
	apply(ROLE_CMD_START, WEB, 1, 0);
	now_ns += 2 * S;
	renew();
	expect(AGENT_VM_START);
	assert_int_equal(acts[0].token, 2);
}

static void a_migration_is_handed_over_when_all_is_written(void **state)
{
	(void)state;
	run_it();
	apply(ROLE_CMD_MIGRATE, WEB, 2, 0);
	expect(AGENT_VM_SEND);
	assert_int_equal(acts[0].node, 2);
	assert_int_equal(step(), 0);
	agent_vm_event(agent, WEB, AGENT_SENT);
	expect_report(ROLE_CMD_SWITCH, role_table_role(table, WEB)->since_ms);
	assert_int_equal(acts[0].cmd.at.node, 2);
	/* The destination died: it stays, and goes on. */
	apply(ROLE_CMD_LOST, 0, 2, 0);
	expect(AGENT_VM_RESUME);
	assert_int_equal(step(), 0);
}

/* The memory is at n2; the log changes its mind, to n3, before we look again. */
static void what_was_sent_to_one_node_is_not_handed_to_another(void **state)
{
	(void)state;
	apply(ROLE_CMD_JOIN, 0, 3, 0);
	run_it();
	apply(ROLE_CMD_MIGRATE, WEB, 2, 0);
	expect(AGENT_VM_SEND);
	agent_vm_event(agent, WEB, AGENT_SENT);
	expect_report(ROLE_CMD_SWITCH, role_table_role(table, WEB)->since_ms);
	apply(ROLE_CMD_MIGRATE_CANCEL, WEB, 0, 0);
	apply(ROLE_CMD_MIGRATE, WEB, 3, 0);
	expect_report(ROLE_CMD_MIGRATE_CANCEL, 0);
	agent_vm_event(agent, WEB, AGENT_SENT); /* late news of the first */
	now_ns += AGENT_AGAIN_NS;
	expect_report(ROLE_CMD_MIGRATE_CANCEL, 0);
	apply(ROLE_CMD_MIGRATE_CANCEL, WEB, 0, 0);
	expect(AGENT_VM_RESUME); /* and it goes on here */
	/* The same node once more is another move, too: the first was dropped there. */
	apply(ROLE_CMD_MIGRATE, WEB, 2, 0);
	expect(AGENT_VM_SEND);
	agent_vm_event(agent, WEB, AGENT_SENT);
	apply(ROLE_CMD_MIGRATE_CANCEL, WEB, 0, 0);
	now_ns += S;
	apply(ROLE_CMD_MIGRATE, WEB, 2, 0);
	expect_report(ROLE_CMD_MIGRATE_CANCEL, 0);
}

static void a_migration_that_fails_is_cancelled(void **state)
{
	(void)state;
	run_it();
	apply(ROLE_CMD_MIGRATE, WEB, 2, 0);
	expect(AGENT_VM_SEND);
	agent_vm_event(agent, WEB, AGENT_SEND_FAILED);
	expect_report(ROLE_CMD_MIGRATE_CANCEL, 0);
	apply(ROLE_CMD_MIGRATE_CANCEL, WEB, 0, 0);
	assert_int_equal(step(), 0);
}

static void a_run_that_is_fenced_ends(void **state)
{
	(void)state;
	run_it();
	agent_doom(agent);
	expect(AGENT_RESET);
	assert_false(agent_pettable(agent, table, &timing, now_ns));
	agent_begin(agent, 2);
	assert_int_equal(step(), 0); /* incarnation 2 owns nothing */
	apply(ROLE_CMD_LOST, 0, 1, 0);
	apply(ROLE_CMD_FENCING, 0, 1, 0);
	expect(AGENT_RESET);
}

static void memory_that_is_missing_is_an_error(void **state)
{
	struct agent *a;
	uint32_t k = 0;
	int err;

	(void)state;
	do {
		fault_arm(FAULT_ALLOC, ++k);
		err = agent_create(1, 8, &a);
		fault_arm(FAULT_ALLOC, 0);
	} while (err == -ENOMEM);
	assert_int_equal(err, 0);
	assert_int_equal(k, 3);
	agent_destroy(a);
	agent_destroy(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_it_owns_is_started_and_reported),
		T(a_report_that_is_lost_is_repeated),
		T(nothing_is_started_on_an_old_lease),
		T(the_ladder_is_gone_down_rung_by_rung),
		T(an_isolated_vm_lives_on_the_lease_of_its_volume),
		T(what_it_does_not_own_any_more_is_killed_and_not_reported),
		T(an_old_report_is_not_told_of_a_new_life),
		T(a_migration_is_handed_over_when_all_is_written),
		T(what_was_sent_to_one_node_is_not_handed_to_another),
		T(a_migration_that_fails_is_cancelled),
		T(a_run_that_is_fenced_ends),
		T(memory_that_is_missing_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
