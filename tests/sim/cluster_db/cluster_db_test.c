/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_db_test - the cluster database under faults, seed by seed (world.h).
 *
 *	cluster_db_test                  a few seeds, and that the oracles catch known bugs
 *	cluster_db_test --seeds N        N seeds, 3 and 5 nodes in turn
 *	cluster_db_test --seed S [-v]    one, with what happens
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/parse.h"
#include "tests/lib/test.h"
#include "tests/lib/turns.h"
#include "tests/sim/cluster_db/world.h"

#define SEEDS 60u      /* in the gate: a few seconds in a debug build */
#define BUG_SEEDS 400u /* at most, until a bug is caught */

static uint32_t nodes_of(uint64_t seed)
{
	return seed % 2 == 0 ? 3 : 5;
}

static bool run(uint64_t seed, enum world_bug bug, bool verbose, struct world_report *out)
{
	struct world_cfg cfg = {
		.seed = seed, .nodes = nodes_of(seed), .bug = bug, .verbose = verbose};

	world_run(&cfg, out);
	return out->violation[0] == '\0';
}

static void no_seed_violates_an_oracle(void **state)
{
	struct world_report r;
	struct world_report sum = {.violation = ""};
	uint32_t seeds = turns(SEEDS);

	(void)state;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		if (!run(seed, WORLD_SOUND, false, &r)) {
			fail_msg("seed %llu: %s", (unsigned long long)seed, r.violation);
		}
		sum.done += r.done;
		sum.unknown += r.unknown;
		sum.refused += r.refused;
		sum.retried += r.retried;
		sum.epochs += r.epochs;
		sum.snapshots += r.snapshots;
	}
	print_message("done %llu unknown %llu retried %llu refused %llu epochs %llu states "
	              "fetched %llu\n",
	              (unsigned long long)sum.done, (unsigned long long)sum.unknown,
	              (unsigned long long)sum.retried, (unsigned long long)sum.refused,
	              (unsigned long long)sum.epochs, (unsigned long long)sum.snapshots);
	/* Otherwise it proves nothing. */
	assert_true(sum.done > seeds * 100 && sum.unknown > seeds / 4 && sum.refused > seeds);
	assert_true(sum.epochs > seeds * 3 && sum.snapshots > seeds / 4);
}

static void caught(enum world_bug bug)
{
	struct world_report r;

	if (TURNS_SHARE != 1) {
		skip(); /* shows what the oracles are worth, nothing of the code under test */
	}
	for (uint64_t seed = 1; seed <= BUG_SEEDS; seed++) {
		if (!run(seed, bug, false, &r)) {
			print_message("%s: caught with seed %llu: %s\n", world_bug_name(bug),
			              (unsigned long long)seed, r.violation);
			return;
		}
	}
	fail_msg("%s: not caught", world_bug_name(bug));
}

static void committing_on_self_delivery_is_caught(void **state)
{
	(void)state;
	caught(WORLD_SELF_DELIVERY);
}

static void acknowledging_before_it_is_durable_is_caught(void **state)
{
	(void)state;
	caught(WORLD_LYING_DISK);
}

static void forgetting_done_requests_is_caught(void **state)
{
	(void)state;
	caught(WORLD_LOST_SESSIONS);
}

static int many(uint64_t first, uint64_t count, bool verbose)
{
	struct world_report r;
	uint64_t bad = 0;

	for (uint64_t seed = first; seed < first + count; seed++) {
		if (!run(seed, WORLD_SOUND, verbose, &r)) {
			(void)printf("seed %llu: %s\n", (unsigned long long)seed, r.violation);
			bad++;
		}
		if (count == 1) {
			(void)printf("applied %llu done %llu unknown %llu refused %llu epochs %llu "
			             "states %llu\n",
			             (unsigned long long)r.applied, (unsigned long long)r.done,
			             (unsigned long long)r.unknown, (unsigned long long)r.refused,
			             (unsigned long long)r.epochs, (unsigned long long)r.snapshots);
		}
	}
	(void)printf("%llu seeds, %llu violations\n", (unsigned long long)count,
	             (unsigned long long)bad);
	return bad == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_seed_violates_an_oracle),
		cmocka_unit_test(committing_on_self_delivery_is_caught),
		cmocka_unit_test(acknowledging_before_it_is_durable_is_caught),
		cmocka_unit_test(forgetting_done_requests_is_caught),
	};
	uint64_t number;

	if (argc >= 3 && parse_u64(argv[2], 0, UINT64_MAX, &number, NULL) == 0) {
		if (strcmp(argv[1], "--seeds") == 0) {
			return many(1, number, false);
		}
		if (strcmp(argv[1], "--seed") == 0) {
			return many(number, 1, argc > 3);
		}
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
