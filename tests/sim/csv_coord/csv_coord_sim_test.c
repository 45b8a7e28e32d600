/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_coord_sim_test - lives of a shared volume: nodes freeze, lose power, lose connections;
 * coordinators die and move. What acts.c watches must hold; and when the world breaks one rule on
 * purpose, it must be seen.
 *
 *	csv_coord_sim_test [LIVES [SEED]]
 */
#include <stdlib.h>

#include "tests/lib/test.h"
#include "tests/sim/csv_coord/world.h"

static uint64_t lives = 4;
static uint64_t first_seed = 1;

static void whoever_dies_nothing_is_lost_and_nobody_is_double(void **state)
{
	static struct world w;
	uint64_t acknowledged = 0;
	uint64_t terms = 0;
	uint64_t fenced = 0;
	uint64_t writes = 0;
	uint64_t repeated = 0;
	uint64_t full = 0;
	uint64_t alone = 0;

	(void)state;
	for (uint64_t seed = first_seed; seed < first_seed + lives; seed++) {
		world_init(&w, seed, LIE_NONE);
		world_run(&w, 60 * SEC);
		acknowledged += w.acknowledged;
		terms += w.terms;
		fenced += w.fenced;
		writes += w.writes;
		repeated += w.repeated;
		full += w.full;
		alone += w.alone;
		if (w.violations != 0) {
			print_message("seed %llu: %s\n", (unsigned long long)seed, w.why);
		}
		assert_int_equal(w.violations, 0);
		world_fini(&w);
	}
	print_message(
		"%llu lives of a minute: %llu names changed, %llu writes (%llu without a "
		"coordinator), %llu terms, %llu fenced, "
		"%llu asked again that were done; in the last one %llu opens, %llu leases, %llu "
		"locks, %llu moves\n",
		(unsigned long long)lives, (unsigned long long)acknowledged,
		(unsigned long long)writes, (unsigned long long)alone, (unsigned long long)terms,
		(unsigned long long)fenced, (unsigned long long)repeated,
		(unsigned long long)w.opens, (unsigned long long)w.leases,
		(unsigned long long)w.grants, (unsigned long long)w.moves);
	assert_true(acknowledged > lives * 100);
	assert_true(alone > 0); /* direct I/O goes on meanwhile */
	assert_true(repeated > 0 && full < acknowledged / 5);
	assert_true(terms > lives * 5 && fenced > lives && writes > lives * 100);
}

static void is_seen(enum lie lie)
{
	static struct world w;
	bool seen = false;

	for (uint64_t seed = 1; seed <= 30 && !seen; seed++) {
		world_init(&w, seed, lie);
		world_run(&w, 30 * SEC);
		seen = w.violations != 0;
		if (seen) {
			print_message("life %llu: %s\n", (unsigned long long)seed, w.why);
		}
		world_fini(&w);
	}
	assert_true(seen);
}

static void a_proof_that_is_none_is_seen(void **state)
{
	(void)state;
	is_seen(LIE_PROOF);
}

static void a_lease_returned_too_early_is_seen(void **state)
{
	(void)state;
	is_seen(LIE_RETURN);
}

static void a_list_of_holders_that_misses_one_is_seen(void **state)
{
	(void)state;
	is_seen(LIE_HOLDERS);
}

static void a_cut_taken_for_a_proof_is_seen(void **state)
{
	(void)state;
	is_seen(LIE_PURGE);
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whoever_dies_nothing_is_lost_and_nobody_is_double),
		cmocka_unit_test(a_proof_that_is_none_is_seen),
		cmocka_unit_test(a_lease_returned_too_early_is_seen),
		cmocka_unit_test(a_list_of_holders_that_misses_one_is_seen),
		cmocka_unit_test(a_cut_taken_for_a_proof_is_seen),
	};

	if (argc > 1) {
		lives = strtoull(argv[1], NULL, 10);
	}
	if (argc > 2) {
		first_seed = strtoull(argv[2], NULL, 10);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
