/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Many random lives of a cluster: faults for two minutes, then none; nothing may ever run twice or
 * write late, and in the end everything runs. And: each rule, broken on purpose, is noticed.
 *
 * GODWIT_SIM_SEEDS   how many lives (default: as many as fit in GODWIT_SIM_SECONDS)
 * GODWIT_SIM_FIRST   the first of them (default 1): so that several processes share them
 * GODWIT_SIM_SECONDS for those, real time (default 4)
 * GODWIT_SIM_SEED    only this one, with its log
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/lib/test.h"
#include "tests/sim/cluster/csim.h"

#define FAULTS_NS (120 * CSIM_S)
#define RECOVERY_NS (180 * CSIM_S)
#define SEEDS_MIN 20u /* on the slowest machine */
#define MUTANT_SEEDS 400u

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static struct csim_cfg random_cfg(uint64_t seed)
{
	uint64_t dice = (seed * 0x9e3779b97f4a7c15ull) >> 16;

	return (struct csim_cfg){
		.seed = seed,
		.nodes = dice % 4 == 0 ? 5 : 3,
		.roles = 3 + (uint32_t)(dice / 4 % 5),
		.volumes = 1 + (uint32_t)(dice / 32 % 3),
		.power = (enum csim_power)(dice / 128 % 4),
		.reserves = dice / 512 % 3 != 0,
		.aborts = dice / 2048 % 2 != 0,
		.watchdogs = dice / 4096 % 8 != 0,
		.strict = dice / 32768 % 3 == 0,
		.isolated_ok = dice / 131072 % 2 != 0,
		.resiliency_ms = dice / 262144 % 4 == 0 ? 20000 : 0,
		.slow_io = dice / 1048576 % 2 != 0,
		.whole = dice / 4194304 % 2 != 0,
		.plain = dice / 8388608 % 8 == 0 ? 0x2 : 0,
		.local = dice / 4194304 % 2 != 0 ? dice / 67108864 % 16 : 0,
	};
}

static void one_fault(struct csim *s)
{
	uint32_t node = 1 + (uint32_t)csim_random(s, s->cfg.nodes);
	const struct csim_node *n = &s->nodes[node - 1];

	switch (csim_random(s, 12)) {
	case 0:
		csim_crash(s, node);
		break;
	case 1:
		csim_off(s, node);
		break;
	case 2:
		csim_on(s, node);
		break;
	case 3:
		csim_freeze(s, node, !n->frozen);
		break;
	case 4:
		csim_stall(s, node, !n->stalled);
		break;
	case 5:
		csim_deafen(s, node, !n->deaf);
		break;
	case 6:
		csim_net(s, node, n->net == 0 ? 1 + (uint32_t)csim_random(s, 2) : 0);
		break;
	case 7: {
		uint32_t volume = 1 + (uint32_t)csim_random(s, s->cfg.volumes);

		csim_path(s, node, volume, (n->paths & role_bit(volume)) == 0);
		break;
	}
	case 8:
		csim_stick(s, node, !n->stuck);
		break;
	case 9:
		csim_lag(s, node, n->lag_ns == 0 ? csim_random(s, 9) * CSIM_S : 0);
		break;
	case 10: /* out of memory: nothing of it gets anywhere */
		csim_stall(s, node, !n->stalled);
		csim_deafen(s, node, n->stalled);
		break;
	default:
		csim_kill_vm(s, 1 + (uint32_t)csim_random(s, s->cfg.roles));
		break;
	}
}

/* One node after the other goes the way on which leases and tokens matter most. */
static void live_on_the_edge(struct csim *s)
{
	csim_run(s, 10 * CSIM_S);
	for (uint32_t node = 1; node <= s->cfg.nodes && s->broken == NULL; node++) {
		bool path = csim_random(s, 2) == 0;

		for (uint32_t v = 1; path && v <= s->cfg.volumes; v++) {
			csim_path(s, node, v, false); /* it writes through the others */
		}
		csim_lag(s, node, csim_random(s, 9) * CSIM_S);
		csim_run(s, s->now_ns + 2 * CSIM_S + csim_random(s, 20) * CSIM_S / 10);
		if (csim_random(s, 2) == 0) {
			csim_stick(s, node, true);
		}
		if (csim_random(s, 2) == 0) {
			csim_net(s, node, 1);
		} else {
			csim_deafen(s, node, true);
		}
		csim_run(s, s->now_ns + 15 * CSIM_S);
		csim_heal(s);
		csim_run(s, s->now_ns + 20 * CSIM_S);
	}
}

static void live(struct csim *s)
{
	if (s->cfg.seed % 3 == 0) {
		live_on_the_edge(s);
		return;
	}
	csim_run(s, 10 * CSIM_S);
	while (s->now_ns < FAULTS_NS && s->broken == NULL) {
		one_fault(s);
		csim_run(s, s->now_ns + csim_random(s, 12) * CSIM_S + CSIM_S / 10);
	}
}

/* Returns false if it does not come back. */
static bool recover(struct csim *s)
{
	uint64_t until_ns = s->now_ns + RECOVERY_NS;

	csim_heal(s);
	while (s->now_ns < until_ns && s->broken == NULL) {
		csim_run(s, s->now_ns + 5 * CSIM_S);
		if (csim_settled(s)) {
			return true;
		}
		/* A person switches on what a fence device switched off meanwhile. */
		for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
			csim_on(s, id);
		}
		for (uint32_t id = 1; id <= s->cfg.roles; id++) {
			if (role_table_role(s->truth, id)->state == ROLE_FAILED) {
				csim_propose(s, (struct role_cmd){.verb = ROLE_CMD_WANT,
				                                  .role = id,
				                                  .arg = {ROLE_WANT_ONLINE}});
			}
		}
	}
	return false;
}

static void say_state(const struct csim *s)
{
	for (uint32_t id = 1; id <= s->cfg.roles; id++) {
		char line[200];

		role_describe(role_table_role(s->truth, id), role_table_now_ms(s->truth), line,
		              sizeof(line));
		print_message("vm%u: %s\n", id, line);
	}
	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		print_message("n%u: %s alive %d epoch %llu\n", id,
		              role_node_state_name(role_table_node(s->truth, id)->state),
		              s->nodes[id - 1].alive, (unsigned long long)s->nodes[id - 1].epoch);
	}
}

static void nothing_runs_twice_and_everything_comes_back(void **state)
{
	uint64_t only = env_number("GODWIT_SIM_SEED", 0);
	uint64_t first = env_number("GODWIT_SIM_FIRST", 1);
	uint64_t seeds = env_number("GODWIT_SIM_SEEDS", UINT64_MAX);
	uint64_t until_ns = clock_now_ns() + env_number("GODWIT_SIM_SECONDS", 4) * NS_PER_S;
	uint64_t events = 0;
	uint64_t fences = 0;
	uint64_t longest_ns = 0;
	uint64_t done = 0;

	(void)state;
	for (uint64_t seed = only != 0 ? only : first; done < seeds; seed++) {
		struct csim_cfg cfg = random_cfg(seed);

		if (seeds == UINT64_MAX && done >= SEEDS_MIN && clock_now_ns() > until_ns) {
			break;
		}
		cfg.log = only != 0 ? stderr : NULL;
		struct csim *s = csim_create(&cfg);

		live(s);
		bool back = s->broken == NULL && recover(s);

		if (s->broken != NULL) {
			fail_msg("%s", s->broken_text);
		}
		if (!back) {
			say_state(s);
			fail_msg("seed %llu: not everything came back", (unsigned long long)seed);
		}
		events += s->events_done;
		fences += s->failovers;
		longest_ns = s->overlap_max_ns > longest_ns ? s->overlap_max_ns : longest_ns;
		csim_destroy(s);
		done++;
		if (only != 0) {
			break;
		}
	}
	print_message("%llu lives, %llu events, %llu fenced runs, heard twice for %.1f s at most\n",
	              (unsigned long long)done, (unsigned long long)events,
	              (unsigned long long)fences, (double)longest_ns / 1e9);
	assert_true(fences > 0 || done < SEEDS_MIN);
}

/* Where the rule is the only thing that helps. */
static struct csim_cfg mutant_cfg(uint64_t seed, enum csim_mutation mutation)
{
	struct csim_cfg cfg = random_cfg(seed);

	cfg.mutation = mutation;
	cfg.slow_io = true;
	cfg.watchdogs = true;
	cfg.resiliency_ms = 0;
	switch (mutation) {
	case CSIM_MUTATE_REPLY:
	case CSIM_MUTATE_PET:
	case CSIM_MUTATE_EARLY:
	case CSIM_MUTATE_INFLIGHT:
		cfg.reserves = false;
		cfg.power = CSIM_POWER_NONE;
		cfg.isolated_ok = false;
		break;
	case CSIM_MUTATE_LIAR:
		cfg.reserves = false;
		cfg.power = CSIM_POWER_GOOD;
		break;
	case CSIM_MUTATE_LOCAL:
		cfg.reserves = cfg.aborts = cfg.whole = true;
		cfg.plain = 0;
		cfg.local = UINT64_MAX;
		cfg.strict = false;
		cfg.power = CSIM_POWER_NONE;
		break;
	case CSIM_MUTATE_NORAISE:
	case CSIM_MUTATE_NOCHECK:
	case CSIM_MUTATE_NOABORT:
	case CSIM_MUTATE_NOPROOF:
	case CSIM_MUTATE_NONE:
	case CSIM_MUTATE_COUNT:
		cfg.reserves = cfg.aborts = true;
		cfg.plain = 0;
		break;
	}
	return cfg;
}

static void every_rule_that_is_broken_is_noticed(void **state)
{
	static const char *const names[CSIM_MUTATE_COUNT] = {
		"none",    "reply", "pet",     "early",    "noraise", "nocheck",
		"noabort", "liar",  "noproof", "inflight", "local",
	};

	(void)state;
	for (uint32_t m = 1; m < CSIM_MUTATE_COUNT; m++) {
		uint64_t seed = 0;
		bool noticed = false;

		while (!noticed && seed < MUTANT_SEEDS) {
			struct csim_cfg cfg = mutant_cfg(++seed, (enum csim_mutation)m);
			struct csim *s = csim_create(&cfg);

			live(s);
			noticed = s->broken != NULL;
			if (noticed) {
				print_message("%-9s %s\n", names[m], s->broken_text);
			}
			csim_destroy(s);
			if (!noticed) {
				continue;
			}
			/* And it is the rule: the same life with it is good. */
			cfg.mutation = CSIM_MUTATE_NONE;
			s = csim_create(&cfg);
			live(s);
			if (s->broken != NULL) {
				fail_msg("%s: also without: %s", names[m], s->broken_text);
			}
			csim_destroy(s);
		}
		if (!noticed) {
			fail_msg("%s is not noticed in %u lives", names[m], MUTANT_SEEDS);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_runs_twice_and_everything_comes_back),
		cmocka_unit_test(every_rule_that_is_broken_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
