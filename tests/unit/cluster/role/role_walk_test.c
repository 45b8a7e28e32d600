/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random commands, sensible and not: whatever is applied keeps the invariants, tokens only grow,
 * and a role changes its owner only by a way that the safety rule knows.
 */
#include <stdlib.h>
#include <string.h>

#include "cluster/role/role_save.h"
#include "tests/unit/cluster/role/role_test.h"

#define ROLES 5u
#define STEPS 60000u

static uint64_t seed = 1;

static uint32_t pick(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 20) % below);
}

/* Why is @was not the owner any more? */
static bool justified(const struct role *was, const struct role *is, const struct role_cmd *cmd)
{
	switch ((int)cmd->verb) {
	case ROLE_CMD_STOPPED:
	case ROLE_CMD_START_FAILED: /* its own word */
		return cmd->role == was->id && role_is_at(was, cmd->at) && is->owner.node == 0;
	case ROLE_CMD_SWITCH:
		return cmd->role == was->id && was->state == ROLE_MIGRATING &&
		       role_is_at(is, was->dest) && is->token == was->token + 1;
	case ROLE_CMD_JOIN:
	case ROLE_CMD_LEAVE:
	case ROLE_CMD_FENCED:
		return cmd->at.node == was->owner.node && is->owner.node == 0 &&
		       role_table_proven(table, was->owner, was->policy.volumes,
		                         was->policy.strict);
	default:
		return false;
	}
}

static struct role_cmd random_cmd(void)
{
	static const enum role_verb verbs[] = {
		ROLE_CMD_WANT,           ROLE_CMD_ACK,          ROLE_CMD_START,   ROLE_CMD_STARTED,
		ROLE_CMD_STOPPED,        ROLE_CMD_START_FAILED, ROLE_CMD_MIGRATE, ROLE_CMD_SWITCH,
		ROLE_CMD_MIGRATE_CANCEL, ROLE_CMD_EXPIRE,       ROLE_CMD_ACK,     ROLE_CMD_START,
		ROLE_CMD_LOST,           ROLE_CMD_BACK,         ROLE_CMD_FENCING, ROLE_CMD_FENCED,
		ROLE_CMD_JOIN,           ROLE_CMD_LEAVE,        ROLE_CMD_DRAIN,   ROLE_CMD_RENEW,
		ROLE_CMD_STARTED,        ROLE_CMD_RELOCATE,
	};
	struct role_cmd cmd = {.verb = verbs[pick(ARRAY_LEN(verbs))]};

	clock_ms += pick(2000);
	cmd.epoch = role_table_epoch(table) - (pick(50) == 0);
	cmd.now_ms = clock_ms;
	if (cmd.verb < ROLE_CMD_JOIN) {
		const struct role *r = role_table_role(table, 1 + pick(ROLES));

		cmd.role = r->id;
		cmd.token = r->token - (pick(10) == 0);
		cmd.at = pick(3) != 0 && r->owner.node != 0 ? r->owner : (struct role_at){0};
		if (cmd.verb == ROLE_CMD_SWITCH && pick(3) != 0) {
			cmd.at = r->dest;
		}
	}
	if (cmd.at.node == 0) {
		cmd.at.node = 1 + pick(3);
		cmd.at.inc = role_table_node(table, cmd.at.node)->inc +
		             (cmd.verb == ROLE_CMD_JOIN) - (pick(10) == 0);
	}
	cmd.arg[0] = cmd.verb == ROLE_CMD_ACK ? 1 + pick(2) : pick(3);
	if (cmd.verb == ROLE_CMD_WANT) {
		cmd.arg[0] = pick(5) != 0;
	} else if (cmd.verb == ROLE_CMD_FENCED) {
		cmd.arg[0] = pick(ROLE_PROOF_COUNT);
	}
	cmd.arg[1] = pick(4);
	return cmd;
}

static void one_step(uint32_t *applied)
{
	struct role before[ROLES]; /* all are there while it walks */
	struct role_cmd cmd = random_cmd();

	for (uint32_t i = 0; i < ROLES; i++) {
		before[i] = *role_table_role(table, i + 1);
	}
	int err = role_table_apply(table, &cmd);
	const char *broken = role_table_check(table);

	if (broken != NULL) {
		fail_msg("%s after %s", broken, role_verb_name(cmd.verb));
	}
	*applied += err == 0;
	for (uint32_t i = 0; i < ROLES; i++) {
		const struct role *was = &before[i];
		const struct role *is = role_table_role(table, i + 1);

		assert_true(is->token >= was->token);
		if (err != 0) {
			assert_memory_equal(was, is, sizeof(*is));
		}
		if (was->owner.node != 0 && !role_is_at(is, was->owner) &&
		    !justified(was, is, &cmd)) {
			fail_msg("role %u changed its owner by %s", i + 1,
			         role_verb_name(cmd.verb));
		}
		if (was->owner.node == 0 && is->owner.node != 0) {
			assert_int_equal(cmd.verb, ROLE_CMD_START);
			assert_int_equal(was->policy.volumes & ~was->acked, 0);
		}
	}
}

/* ---- the pairs that are kept beside the log ---- */

#define PAIRS_MAX 200u

static struct pair {
	bool used;
	uint8_t key[ROLE_KEY_BYTES];
	uint8_t value[ROLE_VALUE_MAX];
	size_t len;
} pairs[PAIRS_MAX];

static void keep(void *arg, const void *key, const void *value, size_t len)
{
	struct pair *free_one = NULL;
	struct pair *p = NULL;

	(void)arg;
	for (uint32_t i = 0; i < PAIRS_MAX; i++) {
		if (pairs[i].used && memcmp(pairs[i].key, key, ROLE_KEY_BYTES) == 0) {
			p = &pairs[i];
		} else if (!pairs[i].used) {
			free_one = &pairs[i];
		}
	}
	p = p != NULL ? p : free_one;
	assert_non_null(p);
	p->used = value != NULL;
	if (value != NULL) {
		assert_in_range(len, 1, ROLE_VALUE_MAX);
		memcpy(p->key, key, ROLE_KEY_BYTES);
		memcpy(p->value, value, len);
		p->len = len;
	}
}

static void the_kept_pairs_are_the_table(void)
{
	struct role_table *again;

	assert_int_equal(role_table_create(&again), 0);
	for (uint32_t i = 0; i < PAIRS_MAX; i++) {
		if (pairs[i].used) {
			assert_int_equal(role_table_load(again, pairs[i].key, ROLE_KEY_BYTES,
			                                 pairs[i].value, pairs[i].len, NULL),
			                 0);
		}
	}
	assert_int_equal(role_table_epoch(again), role_table_epoch(table));
	assert_int_equal(role_table_now_ms(again), role_table_now_ms(table));
	assert_int_equal(role_table_count(again), role_table_count(table));
	for (uint32_t id = 1; id <= ROLES; id++) {
		const struct role *r = role_table_role(table, id);

		if (r == NULL) {
			assert_null(role_table_role(again, id));
			continue;
		}

		/* Member by member: the bytes between them are anybody's. */
		const struct role *kept = role_table_role(again, id);

		assert_non_null(kept);
		assert_string_equal(kept->name, r->name);
		assert_int_equal(kept->state, r->state);
		assert_int_equal(kept->before, r->before);
		assert_int_equal(kept->want, r->want);
		assert_int_equal(kept->why, r->why);
		assert_int_equal(kept->frozen, r->frozen);
		assert_int_equal(kept->incoming, r->incoming);
		assert_int_equal(kept->owner.node, r->owner.node);
		assert_int_equal(kept->dest.node, r->dest.node);
		assert_int_equal(kept->token, r->token);
		assert_int_equal(kept->acked, r->acked);
		assert_int_equal(kept->since_ms, r->since_ms);
		assert_int_equal(kept->until_ms, r->until_ms);
		assert_int_equal(kept->tried, r->tried);
		assert_int_equal(kept->in_place, r->in_place);
	}
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(table, id);
		const struct role_node *kept = role_table_node(again, id);

		assert_int_equal(kept == NULL, n == NULL);
		if (n == NULL) {
			continue;
		}
		assert_int_equal(kept->id, n->id);
		assert_int_equal(kept->state, n->state);
		assert_int_equal(kept->inc, n->inc);
		assert_int_equal(kept->drain, n->drain);
		assert_int_equal(kept->proof, n->proof);
		assert_int_equal(kept->proof_volumes, n->proof_volumes);
		assert_int_equal(kept->slots_alive, n->slots_alive);
		assert_int_equal(kept->lease_proof, n->lease_proof);
		assert_int_equal(kept->since_ms, n->since_ms);
		assert_int_equal(kept->quarantine_until_ms, n->quarantine_until_ms);
		assert_memory_equal(kept->exits_ms, n->exits_ms, sizeof(n->exits_ms));
		assert_int_equal(kept->renew_seq, n->renew_seq);
		assert_int_equal(kept->lease_ms, n->lease_ms);
		assert_int_equal(kept->paths, n->paths);
		assert_int_equal(kept->memory_bytes, n->memory_bytes);
		assert_int_equal(kept->cpus, n->cpus);
	}
	role_table_destroy(again);
}

static void no_command_breaks_the_rule(void **state)
{
	uint32_t applied = 0;
	struct role_policy p;

	(void)state;
	role_policy_default(&p);
	p.volumes = 0x2;
	p.strict = true;
	assert_int_equal(role_table_add(table, 2, "db1", &p, 10, NULL), 0);
	p.volumes = 0;
	p.strict = false;
	p.priority = ROLE_PRIORITY_NONE;
	assert_int_equal(role_table_add(table, 3, "none", &p, 0, NULL), 0);
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.resiliency_ms = 5000;
	p.possible = 0x5;
	assert_int_equal(role_table_add(table, 4, "calm", &p, 0, NULL), 0);
	p.patient = true;
	assert_int_equal(role_table_add(table, 5, "waits", &p, 0, NULL), 0);
	for (uint32_t i = 0; i < STEPS; i++) {
		one_step(&applied);
		role_table_flush(table, keep, NULL);
		if (i % 500 == 0) {
			the_kept_pairs_are_the_table();
		}
		if (pick(500) == 0) {
			assert_int_equal(role_table_view(table, role_table_epoch(table) + 1), 0);
		}
	}
	assert_true(applied > STEPS / 10);
	must(ROLE_CMD_WANT, 3, 0, ROLE_WANT_OFFLINE);
	if (role_table_remove(table, 3, NULL) == 0) {
		role_table_flush(table, keep, NULL);
		the_kept_pairs_are_the_table();
	}
	memset(pairs, 0, sizeof(pairs));
	role_table_touch_all(table);
	role_table_flush(table, keep, NULL);
	the_kept_pairs_are_the_table();
	assert_true(role_table_role(table, 1)->token > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_command_breaks_the_rule, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
