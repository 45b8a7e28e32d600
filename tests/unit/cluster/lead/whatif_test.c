/* SPDX-License-Identifier: Apache-2.0 */

/* What is foretold is what the leader then does: both are asked. */

#include "cluster/lead/whatif.h"

#include <stdio.h>
#include <string.h>

#include "cluster/role/role_table.h"
#include "cluster/timing/timing.h"
#include "tests/lib/test.h"

#define EPOCH 2u
#define ROLES 16u
#define GIB (1ull << 30)
#define S 1000000000ull

struct fixture {
	struct role_table *t;
	struct lead *l;
	struct timing timing;
	struct lead_view view;
	uint64_t now_ms;
};

static struct fixture fixture;

static int status_of(struct fixture *f, struct role_cmd cmd)
{
	cmd.epoch = EPOCH;
	cmd.now_ms = f->now_ms;
	return role_table_apply(f->t, &cmd);
}

static void apply(struct fixture *f, struct role_cmd cmd)
{
	assert_int_equal(status_of(f, cmd), 0);
}

static void join(struct fixture *f, uint32_t node, uint64_t memory, bool proof)
{
	apply(f, (struct role_cmd){.verb = ROLE_CMD_JOIN,
	                           .at = {node, 1},
	                           .arg = {memory, 8, 0, proof ? ROLE_NODE_LEASE_PROOF : 0}});
	f->view.members |= role_bit(node);
	f->view.run[node - 1] = 1;
}

struct wanted {
	uint32_t node;
	enum role_priority priority;
	uint64_t memory;
};

static void online(struct fixture *f, uint32_t id, struct wanted w)
{
	struct role_policy p;
	char name[16];

	role_policy_default(&p);
	p.priority = w.priority;
	p.memory_bytes = w.memory;
	p.cpus = 1;
	(void)snprintf(name, sizeof(name), "vm%u", id);
	assert_int_equal(role_table_add(f->t, id, name, &p, 0, NULL), 0);
	apply(f, (struct role_cmd){.verb = ROLE_CMD_WANT, .role = id, .arg = {ROLE_WANT_ONLINE}});
	apply(f,
	      (struct role_cmd){.verb = ROLE_CMD_START, .role = id, .token = 1, .at = {w.node, 1}});
	apply(f, (struct role_cmd){
			 .verb = ROLE_CMD_STARTED, .role = id, .token = 1, .at = {w.node, 1}});
}

static int setup(void **state)
{
	struct fixture *f = &fixture;
	struct timing_cfg cfg;

	timing_default(&cfg);
	*f = (struct fixture){.now_ms = 1000000};
	assert_int_equal(timing_init(&cfg, &f->timing, NULL), 0);
	assert_int_equal(role_table_create(&f->t), 0);
	assert_int_equal(role_table_view(f->t, EPOCH), 0);
	assert_int_equal(lead_create(ROLES, &f->l), 0);
	f->view = (struct lead_view){.table = f->t,
	                             .timing = &f->timing,
	                             .starts_per_node = 2,
	                             .moves_per_node = 2,
	                             .action_ns = 10 * S};
	join(f, 1, 8 * GIB, true);
	join(f, 2, 8 * GIB, true);
	join(f, 3, 4 * GIB, true);
	online(f, 1, (struct wanted){2, ROLE_PRIORITY_LOW, GIB});
	online(f, 2, (struct wanted){2, ROLE_PRIORITY_HIGH, 3 * GIB});
	online(f, 3, (struct wanted){2, ROLE_PRIORITY_MEDIUM, 2 * GIB});
	online(f, 4, (struct wanted){2, ROLE_PRIORITY_NONE, GIB});
	online(f, 5, (struct wanted){2, ROLE_PRIORITY_LOW, 7 * GIB}); /* fits nowhere else then */
	online(f, 6, (struct wanted){1, ROLE_PRIORITY_LOW, GIB});
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	lead_destroy(f->l);
	role_table_destroy(f->t);
	return 0;
}

static struct whatif_vm one(struct fixture *f, const struct whatif *w, const struct whatif_ask *ask,
                            uint32_t id)
{
	struct whatif_vm vm;

	for (uint32_t v = 0; v < w->in.vm_count; v++) {
		if (w->in.vms[v].id == id) {
			whatif_vm(w, &f->view, ask, v, &vm);
			return vm;
		}
	}
	fail_msg("no such VM");
	return (struct whatif_vm){.role = NULL};
}

static void it_happens_as_foretold(void **state)
{
	struct fixture *f = *state;
	const struct whatif_ask ask = {.dead = role_bit(2), .majority = true};
	uint32_t to[ROLES + 1] = {0};
	struct lead_out out;
	struct whatif w;
	char text[300];

	whatif_run(f->l, &f->view, &ask, f->now_ms, &w);
	for (uint32_t id = 1; id <= 3; id++) {
		struct whatif_vm vm = one(f, &w, &ask, id);

		assert_int_equal(vm.fate, WHATIF_STARTS);
		to[id] = vm.to;
	}
	assert_int_equal(one(f, &w, &ask, 4).fate, WHATIF_OFF);
	assert_int_equal(one(f, &w, &ask, 5).fate, WHATIF_NOWHERE);
	assert_int_equal(one(f, &w, &ask, 6).fate, WHATIF_UNTOUCHED);

	struct whatif_vm vm = one(f, &w, &ask, 5);

	whatif_vm_text(&w, &vm, 4, text, sizeof(text));
	assert_non_null(strstr(text, "memory"));

	/* And now it dies. */
	apply(f, (struct role_cmd){.verb = ROLE_CMD_LOST, .at = {2, 1}});
	apply(f, (struct role_cmd){.verb = ROLE_CMD_FENCING, .at = {2, 1}});
	apply(f,
	      (struct role_cmd){.verb = ROLE_CMD_FENCED, .at = {2, 1}, .arg = {ROLE_PROOF_POWER}});
	f->view.members &= ~role_bit(2);
	for (uint32_t round = 0; round < 4; round++) {
		lead_step(f->l, &f->view, round * 2 * S, f->now_ms, &out);
		for (uint32_t i = 0; i < out.cmd_count; i++) {
			const struct role_cmd *c = &out.cmds[i];

			assert_int_equal(c->verb, ROLE_CMD_START);
			assert_int_equal(c->at.node, to[c->role]);
			to[c->role] = 0;
			apply(f, *c);
			apply(f, (struct role_cmd){.verb = ROLE_CMD_STARTED,
			                           .role = c->role,
			                           .token = c->token,
			                           .at = c->at});
		}
	}
	for (uint32_t id = 1; id <= ROLES; id++) {
		assert_int_equal(to[id], 0);
	}
	assert_int_equal(role_table_role(f->t, 4)->state, ROLE_OFFLINE);
	assert_int_equal(role_table_role(f->t, 5)->state, ROLE_PLACING);
}

static void asking_changes_nothing(void **state)
{
	struct fixture *f = *state;
	const struct whatif_ask ask = {.dead = role_bit(1) | role_bit(2), .majority = false};
	struct role before = *role_table_role(f->t, 2);
	struct lead_out out;
	struct whatif w;

	whatif_run(f->l, &f->view, &ask, f->now_ms, &w);
	assert_int_equal(one(f, &w, &ask, 2).fate, WHATIF_WAITS);
	lead_step(f->l, &f->view, S, f->now_ms, &out);
	assert_int_equal(out.cmd_count, 0);
	assert_int_equal(role_table_role(f->t, 2)->state, before.state);
	assert_int_equal(role_table_role(f->t, 2)->token, before.token);
}

static void the_proof_and_its_time_are_those_of_the_node(void **state)
{
	struct fixture *f = *state;
	struct whatif_node n;

	join(f, 4, GIB, false);
	whatif_node(&f->view, 2, &n);
	assert_int_equal(n.proof, ROLE_PROOF_LEASE);
	assert_true(n.detect_min_ns <= n.detect_max_ns && n.detect_max_ns < n.proof_min_ns);
	assert_true(n.proof_max_ns == f->timing.quiet_ns);
	whatif_node(&f->view, 4, &n);
	assert_int_equal(n.proof, ROLE_PROOF_NONE);
	f->view.devices[3][1] = 1;
	whatif_node(&f->view, 4, &n);
	assert_int_equal(n.proof, ROLE_PROOF_POWER);
	assert_true(n.proof_min_ns > n.detect_min_ns && n.proof_max_ns < f->timing.quiet_ns);
}

static void what_failed_too_often_is_given_up_and_what_nobody_wants_stays_off(void **state)
{
	struct fixture *f = *state;
	const struct whatif_ask ask = {.dead = role_bit(2), .majority = true};
	struct role_policy p = role_table_role(f->t, 2)->policy;
	struct whatif w;

	p.failover_max = 0;
	assert_int_equal(role_table_set(f->t, 2, &p, NULL), 0);
	apply(f, (struct role_cmd){.verb = ROLE_CMD_WANT, .role = 3, .arg = {ROLE_WANT_OFFLINE}});
	whatif_run(f->l, &f->view, &ask, f->now_ms, &w);
	assert_int_equal(one(f, &w, &ask, 2).fate, WHATIF_GIVEN_UP);
	assert_int_equal(one(f, &w, &ask, 3).fate, WHATIF_OFF);
	assert_int_equal(one(f, &w, &ask, 3).to, 0);
}

static void a_drain_moves_what_fits_and_says_what_blocks(void **state)
{
	struct fixture *f = *state;
	const struct whatif_ask ask = {.drain = 2, .majority = true};
	struct whatif w;

	whatif_run(f->l, &f->view, &ask, f->now_ms, &w);
	assert_int_equal(one(f, &w, &ask, 2).fate, WHATIF_MOVES);
	assert_int_equal(one(f, &w, &ask, 5).fate, WHATIF_BLOCKED);
	assert_int_equal(one(f, &w, &ask, 6).fate, WHATIF_UNTOUCHED);
	assert_true(w.sum.waves >= 2); /* two at a time */
}

static void set_patience(struct fixture *f, uint32_t id, uint32_t ms)
{
	struct role_policy p = role_table_role(f->t, id)->policy;

	p.patient = ms != 0;
	p.resiliency_ms = ms;
	assert_int_equal(role_table_set(f->t, id, &p, NULL), 0);
}

static void a_patient_vm_starts_when_its_patience_is_over(void **state)
{
	struct fixture *f = *state;
	const struct whatif_ask ask = {.dead = role_bit(2), .majority = true};
	struct whatif w;

	set_patience(f, 2, 60000);
	whatif_run(f->l, &f->view, &ask, f->now_ms, &w);
	assert_int_equal(one(f, &w, &ask, 2).fate, WHATIF_STARTS);
	assert_int_equal(one(f, &w, &ask, 2).held_ms, 60000);
	assert_int_equal(one(f, &w, &ask, 3).held_ms, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(it_happens_as_foretold),
		T(asking_changes_nothing),
		T(a_patient_vm_starts_when_its_patience_is_over),
		T(the_proof_and_its_time_are_those_of_the_node),
		T(what_failed_too_often_is_given_up_and_what_nobody_wants_stays_off),
		T(a_drain_moves_what_fits_and_says_what_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
