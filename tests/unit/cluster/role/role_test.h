/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CLUSTER_ROLE_ROLE_TEST_H
#define TESTS_UNIT_CLUSTER_ROLE_ROLE_TEST_H

/* role_test - a table of three nodes and one VM on two volumes, and commands to it. */

#include "base/attr.h"
#include "cluster/role/role_cmd.h"
#include "cluster/role/role_table.h"
#include "tests/lib/test.h"

static struct role_table *table;
static uint64_t clock_ms;

#define WEB 1u
#define ALL_VOLUMES 0x3u

static inline int give(enum role_verb verb, uint32_t role, uint32_t node, uint64_t arg0,
                       uint64_t arg1)
{
	const struct role *r = role_table_role(table, role);
	struct role_cmd cmd = {
		.verb = verb,
		.role = role,
		.epoch = role_table_epoch(table),
		.now_ms = clock_ms,
		.token = r != NULL ? r->token : 0,
		.at = {.node = node, .inc = node != 0 ? role_table_node(table, node)->inc : 0},
		.arg = {arg0, arg1},
	};

	if (verb == ROLE_CMD_JOIN) {
		cmd.at.inc++;
		cmd.arg[0] = 8ull << 30;
		cmd.arg[1] = 8;
		cmd.arg[2] = ALL_VOLUMES;
		cmd.arg[3] = ROLE_NODE_LEASE_PROOF;
	}
	int err = role_table_apply(table, &cmd);
	const char *broken = role_table_check(table);

	if (broken != NULL) {
		fail_msg("%s after %s", broken, role_verb_name(verb));
	}
	return err;
}

static inline void must(enum role_verb verb, uint32_t role, uint32_t node, uint64_t arg0)
{
	int err = give(verb, role, node, arg0, 0);

	if (err != 0) {
		fail_msg("%s: %d", role_verb_name(verb), err);
	}
}

static inline const struct role *web(void)
{
	return role_table_role(table, WEB);
}

/* The volumes answer. */
static inline void acks(void)
{
	must(ROLE_CMD_ACK, WEB, 0, 1);
	must(ROLE_CMD_ACK, WEB, 0, 2);
}

static inline void online_on(uint32_t node)
{
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	acks();
	must(ROLE_CMD_START, WEB, node, 0);
	must(ROLE_CMD_STARTED, WEB, node, 0);
	assert_int_equal(web()->state, ROLE_ONLINE);
}

static inline int setup(void **state)
{
	struct role_policy p;

	(void)state;
	clock_ms = 1000;
	assert_int_equal(role_table_create(&table), 0);
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	assert_int_equal(role_table_view(table, 1), 0);
	assert_int_equal(role_table_add(table, WEB, "web1", &p, 0, NULL), 0);
	for (uint32_t node = 1; node <= 3; node++) {
		must(ROLE_CMD_JOIN, 0, node, 0);
	}
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	role_table_destroy(table);
	return 0;
}

#endif
