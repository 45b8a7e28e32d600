/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lead/lead.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/place/place.h"
#include "cluster/role/role_table.h"
#include "cluster/timing/timing.h"
#include "tests/lib/test.h"

#define S 1000000000ull
#define ROLES 6u

static struct role_table *table;
static struct timing timing;
static struct lead_view view;
static struct lead_out out;
static struct lead *lead;
static uint64_t now_ns;

/* What was proposed is committed at once, and volumes answer at once. */
static void commit(void)
{
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		assert_int_equal(role_table_apply(table, &out.cmds[i]), 0);
	}
	for (uint32_t i = 0; i < out.raise_count; i++) {
		struct role_cmd cmd;

		lead_raised(&out.raises[i], &view, now_ns / 1000000, &cmd);
		assert_int_equal(role_table_apply(table, &cmd), 0);
	}
	assert_null(role_table_check(table));
}

static void step(void)
{
	lead_step(lead, &view, now_ns, now_ns / 1000000, &out);
}

static void settle(void)
{
	for (uint32_t i = 0; i < 20; i++) {
		step();
		commit();
		for (const struct role *r = role_table_next(table, 0); r != NULL;
		     r = role_table_next(table, r->id)) {
			if (r->state == ROLE_STARTING) {
				struct role_cmd cmd = {.verb = ROLE_CMD_STARTED,
				                       .role = r->id,
				                       .epoch = 1,
				                       .token = r->token,
				                       .at = r->owner};

				assert_int_equal(role_table_apply(table, &cmd), 0);
			}
		}
	}
}

static const struct role *role(uint32_t id)
{
	return role_table_role(table, id);
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
	assert_int_equal(lead_create(ROLES, &lead), 0);
	now_ns = 100 * S;
	view = (struct lead_view){.table = table,
	                          .timing = &timing,
	                          .members = 0x7,
	                          .run = {1, 1, 1},
	                          .action_ns = 20 * S,
	                          .starts_per_node = 2,
	                          .moves_per_node = 2};
	for (uint32_t id = 1; id <= 3; id++) {
		struct role_cmd join = {.verb = ROLE_CMD_JOIN,
		                        .epoch = 1,
		                        .at = {id, 1},
		                        .arg = {16ull << 30, 8, 1, ROLE_NODE_LEASE_PROOF}};

		assert_int_equal(role_table_apply(table, &join), 0);
		lead_joined(lead, &timing, join.at, timing.cfg.lease_ms, now_ns);
	}
	role_policy_default(&p);
	p.volumes = 0x1;
	p.preferred[0] = 2;
	for (uint32_t id = 1; id <= ROLES; id++) {
		struct role_cmd want = {.verb = ROLE_CMD_WANT, .role = id, .epoch = 1, .arg = {1}};

		p.after[0] = id == 1 ? 2 : 0;
		assert_int_equal(role_table_add(table, id, "vm", &p, 0, NULL), 0);
		assert_int_equal(role_table_apply(table, &want), 0);
	}
	lead_begin(lead, now_ns);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lead_destroy(lead);
	role_table_destroy(table);
	return 0;
}

static void storms_are_held_back_and_dependencies_kept(void **state)
{
	(void)state;
	step();
	assert_int_equal(out.raise_count, ROLES);
	commit();
	step();
	/* All want n2; two at a time, and role 1 after role 2. */
	assert_int_equal(out.cmd_count, 2);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_START);
	assert_int_equal(out.cmds[0].role, 2);
	assert_int_equal(out.cmds[0].at.node, 2);
	step(); /* nothing happened yet: nothing is said twice */
	assert_int_equal(out.cmd_count, 0);
	now_ns += LEAD_AGAIN_NS;
	step();
	assert_int_equal(out.cmd_count, 2);
	commit();
	settle();
	for (uint32_t id = 1; id <= ROLES; id++) {
		assert_int_equal(role(id)->state, ROLE_ONLINE);
		assert_int_equal(role(id)->owner.node, 2);
	}
}

/* The start of @id among what is proposed now, or NULL. */
static const struct role_cmd *start_of(uint32_t id)
{
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		if (out.cmds[i].verb == ROLE_CMD_START && out.cmds[i].role == id) {
			return &out.cmds[i];
		}
	}
	return NULL;
}

/* Role 2 never comes up: role 1 does not wait for it for ever. */
static void patience_with_others_ends(void **state)
{
	char text[600];

	(void)state;
	step();
	commit();
	step();
	assert_int_equal(out.cmds[0].role, 2);
	lead_explain(lead, 1, &view, now_ns, now_ns / 1000000, text, sizeof(text));
	assert_non_null(strstr(text, "it starts after"));
	assert_null(start_of(1));
	now_ns += LEAD_AFTER_MS * 1000000ull - S;
	step();
	assert_null(start_of(1));
	now_ns += 2 * S;
	step();
	assert_non_null(start_of(1));
	lead_explain(lead, 1, &view, now_ns, now_ns / 1000000, text, sizeof(text));
	assert_null(strstr(text, "it starts after"));
}

static void a_lost_node_is_fenced_only_if_vms_wait_for_it(void **state)
{
	(void)state;
	settle();
	view.members = 0x3;
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_LOST);
	commit();
	step();
	assert_int_equal(out.cmd_count, 0); /* n3 has none */
	view.members = 0x5;
	view.run[2] = 1;
	step();
	assert_int_equal(out.cmd_count, 2);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_LOST);
	assert_int_equal(out.cmds[1].verb, ROLE_CMD_BACK);
	commit();
	step();
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_FENCING);
	assert_int_equal(out.cmds[0].at.node, 2);
}

static void a_lease_proof_comes_when_slots_stand_still_or_are_sentenced(void **state)
{
	(void)state;
	settle();
	now_ns += S;
	lead_renewed(lead, &timing, (struct role_at){2, 1}, 7, timing.cfg.lease_ms, now_ns);
	lead_slot(lead, &timing, (struct role_at){2, 1}, 1, 5, now_ns);
	view.members = 0x5;
	for (uint32_t i = 0; i < 3; i++) {
		step();
		commit();
	}
	assert_int_equal(role(1)->state, ROLE_FENCING);
	uint64_t end_ns = now_ns + timing.quiet_ns;

	/* Its slot goes on: it may be isolated and alive. */
	now_ns = end_ns + S;
	lead_slot(lead, &timing, (struct role_at){2, 1}, 1, 6, now_ns);
	step();
	assert_int_equal(out.cmd_count, 0);
	/* Nobody can read the slot any more: that proves nothing either. */
	now_ns += 100 * S;
	step();
	assert_int_equal(out.cmd_count, 0);
	lead_slot(lead, &timing, (struct role_at){2, 1}, 1, 6, now_ns);
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_FENCED);
	assert_int_equal(out.cmds[0].arg[0], ROLE_PROOF_LEASE);
}

/* Until it is fenced. Returns the action of that kind. */
static struct lead_fence lose_n2(enum fence_do what)
{
	struct lead_fence found = {.at = {0}};

	view.members = 0x5;
	for (uint32_t i = 0; i < 3; i++) {
		step();
		for (uint32_t f = 0; f < out.fence_count; f++) {
			if (out.fences[f].action.what == what) {
				found = out.fences[f];
			}
		}
		commit();
	}
	assert_int_equal(found.at.node, 2);
	return found;
}

/* The answer of a fence agent that an earlier time as the leader began, and of which the number is
 * one that is waited for again. */
static void an_answer_counts_for_the_case_that_asked(void **state)
{
	struct lead_fence old;
	struct lead_fence now = {.at = {0}};

	(void)state;
	settle();
	view.devices[1][0] = 1;
	old = lose_n2(FENCE_OFF);
	lead_begin(lead, now_ns);
	lead_fenced(lead, &old, 0, now_ns);
	step();
	for (uint32_t f = 0; f < out.fence_count; f++) {
		if (out.fences[f].action.what == FENCE_OFF) {
			now = out.fences[f];
		}
	}
	assert_int_equal(now.at.node, 2);
	assert_int_equal(now.action.number, old.action.number);
	lead_fenced(lead, &old, 0, now_ns);
	now_ns += 5 * S;
	step();
	assert_int_equal(out.cmd_count, 0);
	lead_fenced(lead, &now, 0, now_ns);
	now_ns += 5 * S;
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_FENCED);
	assert_int_equal(out.cmds[0].arg[0], ROLE_PROOF_POWER);
}

static void a_sentence_bounds_what_a_slot_can_prolong(void **state)
{
	struct lead_fence verdict;

	(void)state;
	settle();
	verdict = lose_n2(FENCE_VERDICT);
	lead_fenced(lead, &verdict, 0, now_ns);
	uint64_t end_ns = now_ns + timing.quiet_ns;

	lead_slot(lead, &timing, (struct role_at){2, 1}, 1, 6, end_ns - 1);
	now_ns = end_ns - 1;
	step();
	assert_int_equal(out.cmd_count, 0);
	now_ns = end_ns;
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_FENCED);
}

/* Found by the simulation (seed 1589): a slot that could not be read for long, and was written all
 * the time; what is left of an old observation must not meet a fresh sentence. */
static void a_sentence_does_not_make_an_old_observation_good(void **state)
{
	(void)state;
	settle();
	now_ns += 100 * S; /* nobody reached the volume meanwhile */
	struct lead_fence verdict = lose_n2(FENCE_VERDICT);

	assert_int_equal(role(1)->state, ROLE_FENCING);
	lead_fenced(lead, &verdict, 0, now_ns);
	step();
	assert_int_equal(out.cmd_count, 0);
	now_ns += timing.quiet_ns - 1;
	step();
	assert_int_equal(out.cmd_count, 0);
	now_ns += 1;
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_FENCED);
}

static void a_drain_moves_all_and_then_says_so(void **state)
{
	struct role_cmd drain = {
		.verb = ROLE_CMD_DRAIN, .epoch = 1, .at = {2, 1}, .arg = {ROLE_DRAIN_ACTIVE}};

	(void)state;
	settle();
	assert_int_equal(role_table_apply(table, &drain), 0);
	step();
	assert_int_equal(out.cmd_count, 2); /* at a time */
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_MIGRATE);
	for (uint32_t i = 0; i < 20; i++) {
		commit();
		for (uint32_t id = 1; id <= ROLES; id++) {
			if (role(id)->state == ROLE_MIGRATING) {
				struct role_cmd move = {.verb = ROLE_CMD_SWITCH,
				                        .role = id,
				                        .epoch = 1,
				                        .token = role(id)->token,
				                        .at = role(id)->dest};

				assert_int_equal(role_table_apply(table, &move), 0);
			}
		}
		settle();
		step();
	}
	assert_int_equal(role_table_node(table, 2)->drain, ROLE_DRAIN_DONE);
	for (uint32_t id = 1; id <= ROLES; id++) {
		assert_int_not_equal(role(id)->owner.node, 2);
	}
}

static void apply_now(struct role_cmd cmd)
{
	cmd.epoch = 1;
	assert_int_equal(role_table_apply(table, &cmd), 0);
}

/* Its moves are taken back with the drain, also one that comes after its end in the log; another
 * person's is not. */
static void a_drain_that_is_taken_back_moves_nothing(void **state)
{
	struct role_cmd drain = {.verb = ROLE_CMD_DRAIN, .at = {2, 1}, .arg = {ROLE_DRAIN_ACTIVE}};
	struct role_cmd first;
	struct role_cmd second;

	(void)state;
	settle();
	apply_now(drain);
	step();
	assert_int_equal(out.cmd_count, 2);
	first = out.cmds[0];
	second = out.cmds[1];

	/* The one came before the end of the wish, nobody else had seen it; the other one after. */
	apply_now(first);
	drain.arg[0] = ROLE_DRAIN_NONE;
	apply_now(drain);
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_MIGRATE_CANCEL);
	assert_int_equal(out.cmds[0].role, first.role);
	commit();
	apply_now(second);
	now_ns += LEAD_AGAIN_NS / 2;
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_MIGRATE_CANCEL);
	assert_int_equal(out.cmds[0].role, second.role);
	step();
	assert_int_equal(out.cmd_count, 0); /* said just now */
	now_ns += LEAD_AGAIN_NS;
	step();
	assert_int_equal(out.cmd_count, 1); /* it was lost */
	commit();
	step();
	assert_int_equal(out.cmd_count, 0);
	assert_int_equal(role(first.role)->owner.node, 2);
	assert_int_equal(role(second.role)->owner.node, 2);

	/* Somebody moves one of them there, by hand. */
	apply_now(first);
	step();
	assert_int_equal(out.cmd_count, 0);
}

/* What was proposed never came: whoever moves that VM later does it for another reason. */
static void a_lost_move_of_a_drain_is_forgotten(void **state)
{
	struct role_cmd drain = {.verb = ROLE_CMD_DRAIN, .at = {2, 1}, .arg = {ROLE_DRAIN_ACTIVE}};
	struct role_cmd lost;

	(void)state;
	settle();
	apply_now(drain);
	step();
	lost = out.cmds[0];
	assert_int_equal(lost.verb, ROLE_CMD_MIGRATE);
	drain.arg[0] = ROLE_DRAIN_NONE;
	apply_now(drain);
	step();
	now_ns += 60 * S;
	step();
	apply_now(lost);
	step();
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		assert_int_not_equal(out.cmds[i].verb, ROLE_CMD_MIGRATE_CANCEL);
	}
}

static struct place_choice planned[ROLES + 1];

static void on_plan(void *arg, const struct role *r, const struct place_choice *c)
{
	*(uint32_t *)arg += 1;
	planned[r->id] = *c;
}

static void a_drain_tries_other_ways(void **state)
{
	struct role_cmd drain = {
		.verb = ROLE_CMD_DRAIN, .epoch = 1, .at = {2, 1}, .arg = {ROLE_DRAIN_ACTIVE}};
	struct lead_hint hints[ROLES] = {0};
	uint32_t count = 0;
	uint32_t victim = 0;

	(void)state;
	settle();
	for (uint32_t id = 1; id <= ROLES && victim == 0; id++) {
		victim = role(id)->owner.node == 2 ? id : 0;
	}
	assert_int_not_equal(victim, 0);
	assert_int_equal(role_table_apply(table, &drain), 0);
	view.drains[1] = (struct lead_drain){
		.forced = true, .fallback = ROLE_FALLBACK_LEAVE, .moves = 6, .hold = true};
	view.hints = hints;
	step();
	assert_int_equal(out.cmd_count, 0); /* something else goes first */
	view.drains[1].hold = false;

	/* A node that refused it is left out; with none left it stays, and the plan says why. */
	hints[victim - 1].avoid = role_bit(1) | role_bit(3);
	lead_plan_drain(lead, &view, 2, now_ns / 1000000, on_plan, &count);
	assert_true(count > 1);
	assert_int_equal(planned[victim].how, PLACE_BLOCKED);
	assert_int_equal(planned[victim].out[PLACE_OUT_TRIED], role_bit(1) | role_bit(3));
	step();
	assert_int_equal(out.cmd_count, count - 1); /* as many at once as was said */
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		assert_int_equal(out.cmds[i].verb, ROLE_CMD_MIGRATE);
		assert_int_not_equal(out.cmds[i].role, victim);
	}

	/* Not alive: quickly, or by a shutdown, if that is allowed. */
	hints[victim - 1] = (struct lead_hint){.no_live = true};
	view.drains[1].fallback = ROLE_FALLBACK_QUICK;
	lead_plan_drain(lead, &view, 2, now_ns / 1000000, on_plan, &count);
	assert_int_equal(planned[victim].how, PLACE_QUICK);
	view.drains[1].fallback = ROLE_FALLBACK_SHUTDOWN;
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_RELOCATE);
	assert_int_equal(out.cmds[0].role, victim);
	commit();
	assert_int_equal(role(victim)->state, ROLE_STOPPING);
}

static void people_learn_what_a_vm_waits_for(void **state)
{
	struct role_policy p;
	char line[500];

	(void)state;
	role_policy_default(&p);
	p.volumes = 0x1;
	p.memory_bytes = 20ull << 30;
	assert_int_equal(role_table_set(table, 6, &p, NULL), 0);
	settle();
	lead_explain(lead, 6, &view, now_ns, now_ns / 1000000, line, sizeof(line));
	assert_non_null(strstr(line, "cannot go anywhere, needs 20 GiB and 1 processors; not "
	                             "n1,n2,n3: memory"));
	view.members = 0x5;
	for (uint32_t i = 0; i < 3; i++) {
		step();
		commit();
	}
	lead_explain(lead, 2, &view, now_ns, now_ns / 1000000, line, sizeof(line));
	assert_non_null(strstr(line, "vm: fencing on n2 for"));
	assert_non_null(strstr(line, "lease over in 11"));
	lead_explain(lead, 99, &view, now_ns, 0, line, sizeof(line));
	assert_string_equal(line, "no such role");
	assert_true(lead_next_ns(lead, &view, now_ns) > now_ns);
}

static void memory_that_is_missing_is_an_error(void **state)
{
	struct lead *l;
	uint32_t k = 0;
	int err;

	(void)state;
	do {
		fault_arm(FAULT_ALLOC, ++k);
		err = lead_create(8, &l);
		fault_arm(FAULT_ALLOC, 0);
	} while (err == -ENOMEM);
	assert_int_equal(err, 0);
	assert_int_equal(k, 8);
	lead_destroy(l);
	lead_destroy(NULL);
}

static bool says(enum role_verb verb)
{
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		if (out.cmds[i].verb == verb) {
			return true;
		}
	}
	return false;
}

/* Its VMs have gone on elsewhere: nobody waits for it any more. */
static void the_drain_of_a_node_that_died_ends(void **state)
{
	struct role_cmd drain = {
		.verb = ROLE_CMD_DRAIN, .epoch = 1, .at = {2, 1}, .arg = {ROLE_DRAIN_ACTIVE}};
	struct role_cmd fenced = {
		.verb = ROLE_CMD_FENCED, .epoch = 1, .at = {2, 1}, .arg = {ROLE_PROOF_OPERATOR}};

	(void)state;
	settle();
	(void)lose_n2(FENCE_VERDICT);
	assert_int_equal(role_table_apply(table, &drain), 0);
	now_ns += LEAD_AGAIN_NS;
	step();
	assert_false(says(ROLE_CMD_DRAIN)); /* it has VMs */
	assert_int_equal(role_table_apply(table, &fenced), 0);
	now_ns += LEAD_AGAIN_NS;
	step();
	assert_true(says(ROLE_CMD_DRAIN));
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		int err = role_table_apply(table, &out.cmds[i]);

		assert_true(err == 0 || out.cmds[i].verb != ROLE_CMD_DRAIN);
	}
	assert_int_equal(role_table_node(table, 2)->state, ROLE_NODE_DOWN);
	assert_int_equal(role_table_node(table, 2)->drain, ROLE_DRAIN_DONE);
}

/* All that it could write or nothing, and the volumes of VMs are not all. */
static void storage_proves_the_whole_node_or_nothing(void **state)
{
	struct lead_fence preempts[2];
	uint32_t count = 0;

	(void)state;
	settle();
	view.storage_whole = true;
	view.preemptable = 0x3;
	/* Somebody there writes elsewhere: no key is taken, and nothing is proven. */
	(void)lose_n2(FENCE_VERDICT);
	now_ns += S;
	view.storage[1] = 0x3; /* it does not */
	step();
	for (uint32_t i = 0; i < out.fence_count; i++) {
		if (out.fences[i].action.what == FENCE_PREEMPT) {
			assert_in_range(count, 0, 1);
			assert_int_equal(out.fences[i].action.number, 1); /* not before */
			preempts[count++] = out.fences[i];
		}
	}
	assert_int_equal(count, 2);
	lead_fenced(lead, &preempts[0], FENCE_ABORTED, now_ns);
	step();
	assert_int_equal(out.cmd_count, 0);
	lead_fenced(lead, &preempts[1], FENCE_ABORTED, now_ns);
	step();
	assert_int_equal(out.cmd_count, 1);
	assert_int_equal(out.cmds[0].verb, ROLE_CMD_FENCED);
	assert_int_equal(out.cmds[0].arg[0], ROLE_PROOF_STORAGE);
	assert_int_equal(out.cmds[0].arg[1], 0x3);
	lead_storage_changed(lead, 2); /* not with those keys: not proven any more */
	now_ns += LEAD_AGAIN_NS;
	step();
	assert_int_equal(out.cmd_count, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(storms_are_held_back_and_dependencies_kept),
		T(patience_with_others_ends),
		T(a_lost_node_is_fenced_only_if_vms_wait_for_it),
		T(a_lease_proof_comes_when_slots_stand_still_or_are_sentenced),
		T(an_answer_counts_for_the_case_that_asked),
		T(a_sentence_bounds_what_a_slot_can_prolong),
		T(a_sentence_does_not_make_an_old_observation_good),
		T(a_drain_moves_all_and_then_says_so),
		T(a_drain_that_is_taken_back_moves_nothing),
		T(a_lost_move_of_a_drain_is_forgotten),
		T(a_drain_tries_other_ways),
		T(people_learn_what_a_vm_waits_for),
		T(memory_that_is_missing_is_an_error),
		T(the_drain_of_a_node_that_died_ends),
		T(storage_proves_the_whole_node_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
