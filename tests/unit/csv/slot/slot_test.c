/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/slot/csv_slot.h"
#include "tests/lib/test.h"

#define MS 1000000ull
#define NODES 4u

/* The blocks that slots are about, and nodes with clocks of their own. */
struct place {
	uint8_t slots[NODES][CSV_BLOCK_BYTES];
	uint8_t verdicts[NODES][CSV_BLOCK_BYTES];
	uint8_t mails[NODES][CSV_BLOCK_BYTES];
	struct csv_slot nodes[NODES];
	uint64_t now_ns;
	struct timing timing;
};

static const struct guid volume = {{7}};

static struct csv_slot_cfg slot_cfg(const struct place *p, uint32_t node, uint64_t incarnation)
{
	struct csv_slot_cfg cfg = {
		.volume = volume,
		.node_id = {{1, (uint8_t)node}},
		.node = node,
		.nodes = NODES,
		.incarnation = incarnation,
		.name = "a node",
		.timing = p->timing,
	};

	return cfg;
}

static void boot(struct place *p, uint32_t node, uint64_t incarnation)
{
	const struct csv_slot_cfg cfg = slot_cfg(p, node, incarnation);

	assert_int_equal(csv_slot_init(&p->nodes[node], &cfg, NULL), 0);
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct timing_cfg cfg;

	timing_default(&cfg);
	if (p == NULL || timing_init(&cfg, &p->timing, NULL) != 0) {
		free(p);
		return -1;
	}
	p->now_ns = 1000 * MS;
	for (uint32_t i = 0; i < NODES; i++) {
		boot(p, i, 5);
	}
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

/* Half a round: what is on the disk now goes into the judgement. */
static uint32_t finish(struct place *p, uint32_t node)
{
	const struct csv_slot_round round = {
		.read_ns = p->now_ns,
		.slots = p->slots,
		.verdict = p->verdicts[node],
		.mail = p->mails[node],
	};

	return csv_slot_end(&p->nodes[node], &round, p->now_ns);
}

static uint32_t round_of(struct place *p, uint32_t node)
{
	uint8_t buf[CSV_BLOCK_BYTES];
	uint32_t did;

	if (csv_slot_begin(&p->nodes[node], p->now_ns, buf, &did)) {
		memcpy(p->slots[node], buf, sizeof(buf));
	}
	return did | finish(p, node);
}

/* Rounds of the nodes in @set for @ns. Returns all they did. */
static uint32_t run(struct place *p, uint32_t set, uint64_t ns)
{
	uint64_t end = p->now_ns + ns;
	uint32_t did = 0;

	for (; p->now_ns < end; p->now_ns += p->timing.slot_ns) {
		for (uint32_t node = 0; node < NODES; node++) {
			if ((set >> node & 1) != 0) {
				did |= round_of(p, node);
			}
		}
	}
	return did;
}

static enum csv_slot_life life(const struct place *p, uint32_t of, uint32_t seen_by)
{
	return p->nodes[seen_by].peers[of].life;
}

static void a_node_joins_renews_and_is_seen_to_live(void **state)
{
	struct place *p = *state;
	uint32_t did = run(p, 3, 5000 * MS);

	assert_true((did & CSV_SLOT_DID_JOIN) != 0 && (did & CSV_SLOT_DID_RENEW) != 0);
	assert_int_equal(p->nodes[0].state, CSV_SLOT_HELD);
	assert_int_equal(csv_slot_rung(&p->nodes[0], p->now_ns), LEASE_OK);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_ALIVE);
	assert_int_equal(life(p, 2, 0), CSV_SLOT_EMPTY);
	assert_string_equal(p->nodes[0].peers[1].is.name, "a node");
	/* Its lease counts from before the write. */
	assert_int_equal(csv_slot_until_ns(&p->nodes[0]),
	                 p->now_ns - p->timing.slot_ns + p->timing.pause_ns);
}

static void one_that_is_in_use_but_stands_still_was_never_alive(void **state)
{
	struct place *p = *state;

	(void)run(p, 2, 3000 * MS);
	(void)run(p, 1, 3000 * MS);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_UNKNOWN);
	/* An observer that has just begun waits the full time. */
	(void)run(p, 1, p->timing.expire_ns + 2000 * MS);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_STALE);
}

static void a_node_that_stops_is_late_then_stale_and_not_earlier(void **state)
{
	struct place *p = *state;
	uint64_t stopped;

	(void)run(p, 3, 5000 * MS);
	stopped = p->now_ns;
	(void)run(p, 1, 5000 * MS);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_LATE);
	while (life(p, 1, 0) != CSV_SLOT_STALE) {
		assert_true(p->now_ns < stopped + 3 * p->timing.lease_ns);
		(void)run(p, 1, 1);
	}
	/* The victim's own clock said it was over before that. */
	assert_true(p->now_ns - stopped >= p->timing.lease_ns);
	assert_int_equal(csv_slot_rung(&p->nodes[1], p->now_ns), LEASE_OVER);
}

static void a_block_that_cannot_be_read_says_nothing(void **state)
{
	struct place *p = *state;
	uint64_t read_ns;

	(void)run(p, 3, 5000 * MS);
	(void)run(p, 1, 1);
	read_ns = p->nodes[0].peers[1].read_ns;
	p->slots[1][100] ^= 1; /* torn */
	(void)run(p, 1, 60000 * MS);
	assert_false(p->nodes[0].peers[1].readable);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_ALIVE);
	assert_int_equal(p->nodes[0].peers[1].read_ns, read_ns);
	p->slots[1][100] ^= 1;
	(void)run(p, 1, 1);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_STALE);
}

static void a_late_write_of_a_dead_node_is_not_life(void **state)
{
	struct place *p = *state;
	uint8_t old[CSV_BLOCK_BYTES];

	(void)run(p, 3, 3000 * MS);
	memcpy(old, p->slots[1], sizeof(old));
	(void)run(p, 3, 3000 * MS);
	memcpy(p->slots[1], old, sizeof(old));
	(void)run(p, 1, 2 * p->timing.expire_ns);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_STALE);
}

static void a_frozen_node_finds_that_its_lease_lapsed_before_it_writes(void **state)
{
	struct place *p = *state;
	uint8_t before[CSV_BLOCK_BYTES];
	uint8_t buf[CSV_BLOCK_BYTES];
	uint32_t did;

	(void)run(p, 3, 3000 * MS);
	memcpy(before, p->slots[1], sizeof(before));
	(void)run(p, 1, p->timing.lease_ns);
	assert_false(csv_slot_begin(&p->nodes[1], p->now_ns, buf, &did));
	assert_int_equal(did, CSV_SLOT_DID_LAPSE);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_LAPSED);
	(void)run(p, 2, 60000 * MS);
	assert_memory_equal(p->slots[1], before, sizeof(before));
	assert_int_equal(csv_slot_until_ns(&p->nodes[1]), 0);

	/* The cluster did not act: it goes on, with a new lease. */
	csv_slot_readmit(&p->nodes[1]);
	did = run(p, 2, 1);
	assert_true((did & CSV_SLOT_DID_RENEW) != 0);
	assert_int_equal(csv_slot_rung(&p->nodes[1], p->now_ns), LEASE_OK);
}

static void frozen_between_its_write_and_its_reads(void **state)
{
	struct place *p = *state;
	uint8_t buf[CSV_BLOCK_BYTES];
	uint32_t did;

	(void)run(p, 2, 3000 * MS);
	assert_true(csv_slot_begin(&p->nodes[1], p->now_ns, buf, &did));
	p->now_ns += p->timing.lease_ns + 1;
	memcpy(p->slots[1], buf, sizeof(buf));
	did = finish(p, 1);
	assert_true((did & CSV_SLOT_DID_LAPSE) != 0);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_LAPSED);
}

static void sentence(struct place *p, uint32_t by, uint32_t about, uint64_t incarnation)
{
	uint8_t out[CSV_BLOCK_BYTES];

	assert_int_equal(
		csv_slot_sentence(&p->nodes[by], about, incarnation, 1, p->verdicts[about], out),
		0);
	memcpy(p->verdicts[about], out, sizeof(out));
}

static void a_sentence_ends_the_run_and_is_told_once(void **state)
{
	struct place *p = *state;
	uint8_t before[CSV_BLOCK_BYTES];

	(void)run(p, 3, 3000 * MS);
	sentence(p, 0, 1, 5);
	(void)run(p, 2, 1);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);
	assert_int_equal(p->nodes[1].reason, CSV_SLOT_SENTENCED);
	assert_int_equal(p->nodes[1].by_node, 0);
	memcpy(before, p->slots[1], sizeof(before));
	assert_int_equal(run(p, 2, 5000 * MS) & CSV_SLOT_DID_FENCE, 0);
	assert_memory_equal(p->slots[1], before, sizeof(before));
	csv_slot_readmit(&p->nodes[1]);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);

	/* The next run is not meant by it. */
	boot(p, 1, 6);
	(void)run(p, 2, 5000 * MS);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);
	(void)run(p, 1, 1);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_ALIVE);
}

static void a_renewal_with_a_torn_verdict_does_not_count(void **state)
{
	struct place *p = *state;
	uint64_t until;

	(void)run(p, 2, 3000 * MS);
	until = csv_slot_until_ns(&p->nodes[1]);
	sentence(p, 0, 1, 5);
	p->verdicts[1][4000] ^= 1;
	(void)run(p, 2, 3000 * MS);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);
	assert_int_equal(csv_slot_until_ns(&p->nodes[1]), until);
	p->verdicts[1][4000] ^= 1;
	(void)run(p, 2, 1);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);
}

static void an_outdated_sentence_over_a_newer_one_still_ends_the_run(void **state)
{
	struct place *p = *state;
	uint8_t stale[CSV_BLOCK_BYTES];
	uint8_t out[CSV_BLOCK_BYTES];

	assert_int_equal(csv_slot_sentence(&p->nodes[2], 1, 4, 1, NULL, stale), 0);
	(void)run(p, 2, 3000 * MS);
	sentence(p, 0, 1, 5);
	memcpy(p->verdicts[1], stale, sizeof(stale)); /* of a leader of the past */
	(void)run(p, 2, 1);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);
	/* One that looks first does not write it. */
	sentence(p, 0, 1, 5);
	assert_int_equal(csv_slot_sentence(&p->nodes[2], 1, 4, 1, p->verdicts[1], out), -ESTALE);
	assert_int_equal(csv_slot_sentence(&p->nodes[2], 1, 5, 1, p->verdicts[1], out), -EALREADY);
}

static void a_sentence_that_was_there_before_we_joined_is_about_somebody_else(void **state)
{
	struct place *p = *state;

	sentence(p, 0, 1, 4);
	(void)run(p, 2, 3000 * MS);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);
	boot(p, 1, 4);
	(void)run(p, 2, 3000 * MS);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);
}

static void a_copy_of_a_machine_ends_both(void **state)
{
	struct place *p = *state;
	const struct csv_slot_cfg cfg = slot_cfg(p, 1, 5);
	uint32_t did = 0;

	/* Node 2 is a copy of node 1, down to its identity. */
	(void)run(p, 2, 3000 * MS);
	assert_int_equal(csv_slot_init(&p->nodes[2], &cfg, NULL), 0);
	for (int i = 0; i < 6; i++) {
		uint8_t buf[CSV_BLOCK_BYTES];

		did |= round_of(p, 1);
		if (csv_slot_begin(&p->nodes[2], p->now_ns, buf, &(uint32_t){0})) {
			memcpy(p->slots[1], buf, sizeof(buf));
		}

		const struct csv_slot_round round = {
			.read_ns = p->now_ns,
			.slots = p->slots,
			.verdict = p->verdicts[1],
			.mail = p->mails[1],
		};

		did |= csv_slot_end(&p->nodes[2], &round, p->now_ns);
		p->now_ns += p->timing.slot_ns;
	}
	assert_int_equal(p->nodes[2].state, CSV_SLOT_FENCED);
	/* The first is alone again: the other never wrote. */
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);

	/* Another machine takes the slot by mistake and does write. */
	struct csv_liveness other = {.seq = 900,
	                             .node = {{9}},
	                             .incarnation = 1,
	                             .lease_ms = 10000,
	                             .state = CSV_NODE_IN_USE};
	uint8_t buf[CSV_BLOCK_BYTES];
	uint32_t ignored;

	assert_true(csv_slot_begin(&p->nodes[1], p->now_ns, buf, &ignored));
	csv_liveness_encode(&other, &volume, 1, p->slots[1]);
	did |= finish(p, 1);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);
	assert_int_equal(p->nodes[1].reason, CSV_SLOT_CLAIMED);
	assert_true((did & CSV_SLOT_DID_FENCE) != 0);
}

static void a_late_write_of_our_own_earlier_run_is_survived_once(void **state)
{
	struct place *p = *state;
	uint8_t buf[CSV_BLOCK_BYTES];
	uint8_t old[CSV_BLOCK_BYTES];
	uint32_t did;

	(void)run(p, 2, 3000 * MS);
	memcpy(old, p->slots[1], sizeof(old));
	boot(p, 1, 6);
	(void)run(p, 2, 6000 * MS);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);
	assert_true(csv_slot_begin(&p->nodes[1], p->now_ns, buf, &did));
	memcpy(p->slots[1], old, sizeof(old));
	assert_int_equal(finish(p, 1) & CSV_SLOT_DID_RENEW, 0);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);
	(void)run(p, 2, 1);
	assert_int_equal(csv_slot_rung(&p->nodes[1], p->now_ns), LEASE_OK);
}

static void a_later_run_supersedes_this_one(void **state)
{
	struct place *p = *state;
	struct csv_liveness later = {.seq = 1,
	                             .node = {{1, 1}},
	                             .incarnation = 6,
	                             .lease_ms = 10000,
	                             .state = CSV_NODE_IN_USE};

	(void)run(p, 2, 3000 * MS);
	csv_liveness_encode(&later, &volume, 1, p->slots[1]);
	(void)finish(p, 1);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_FENCED);
	assert_int_equal(p->nodes[1].reason, CSV_SLOT_SUPERSEDED);
}

static void a_slot_of_another_machine_is_taken_when_its_lease_is_over(void **state)
{
	struct place *p = *state;
	struct csv_liveness other = {.seq = 900,
	                             .node = {{9}},
	                             .incarnation = 77,
	                             .lease_ms = 20000,
	                             .state = CSV_NODE_IN_USE};
	uint64_t began = p->now_ns;

	csv_liveness_encode(&other, &volume, 1, p->slots[1]);
	while (p->nodes[1].state == CSV_SLOT_JOINING) {
		(void)run(p, 2, 1);
	}
	assert_int_equal(p->nodes[1].state, CSV_SLOT_HELD);
	assert_true(p->now_ns - began > 20000 * MS);
	assert_true(p->now_ns - began < 40000 * MS);
}

static void what_fails_only_makes_the_lease_older(void **state)
{
	struct place *p = *state;
	struct csv_slot_round round = {
		.slots = p->slots, .verdict = p->verdicts[1], .mail = p->mails[1]};
	uint8_t buf[CSV_BLOCK_BYTES];
	uint32_t did;
	uint64_t until;

	(void)run(p, 2, 3000 * MS);
	until = csv_slot_until_ns(&p->nodes[1]);
	for (int i = 0; i < 4; i++) {
		assert_true(csv_slot_begin(&p->nodes[1], p->now_ns, buf, &did));
		memcpy(p->slots[1], buf, sizeof(buf));
		round.read_ns = p->now_ns;
		round.write_err = i == 0 ? -EIO : 0;
		round.slots_err = i == 1 ? -EIO : 0;
		round.verdict_err = i == 2 ? -EIO : 0;
		round.mail_err = i == 3 ? -EIO : 0;
		did = csv_slot_end(&p->nodes[1], &round, p->now_ns);
		assert_int_equal((did & CSV_SLOT_DID_RENEW) != 0, i == 3);
		assert_int_equal(csv_slot_until_ns(&p->nodes[1]) == until, i != 3);
	}
	/* A write that was acknowledged and is not there. */
	until = csv_slot_until_ns(&p->nodes[1]);
	assert_true(csv_slot_begin(&p->nodes[1], p->now_ns + 1, buf, &did));
	assert_int_equal(finish(p, 1) & CSV_SLOT_DID_RENEW, 0);
	assert_int_equal(csv_slot_until_ns(&p->nodes[1]), until);
}

static void mail_is_read_once_and_only_by_whom_it_is_for(void **state)
{
	struct place *p = *state;
	uint8_t out[CSV_BLOCK_BYTES];

	(void)run(p, 3, 3000 * MS);
	assert_int_equal(
		csv_slot_message(&p->nodes[0], 1, 5, CSV_COMMAND_RESET, 42, p->mails[1], out), 0);
	memcpy(p->mails[1], out, sizeof(out));
	assert_true((run(p, 2, 1) & CSV_SLOT_DID_MAIL) != 0);
	assert_int_equal(p->nodes[1].mail.command, CSV_COMMAND_RESET);
	assert_int_equal(p->nodes[1].mail.argument, 42);
	assert_int_equal(run(p, 2, 3000 * MS) & CSV_SLOT_DID_MAIL, 0);
	assert_int_equal(
		csv_slot_message(&p->nodes[0], 1, 4, CSV_COMMAND_RESET, 0, p->mails[1], out), 0);
	memcpy(p->mails[1], out, sizeof(out));
	assert_int_equal(run(p, 2, 1) & CSV_SLOT_DID_MAIL, 0);
}

static void a_node_that_leaves_is_not_taken_for_dead(void **state)
{
	struct place *p = *state;
	uint8_t buf[CSV_BLOCK_BYTES];

	(void)run(p, 3, 3000 * MS);
	assert_true(csv_slot_leave(&p->nodes[1], p->now_ns, buf));
	memcpy(p->slots[1], buf, sizeof(buf));
	(void)run(p, 3, 60000 * MS);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_EMPTY);
	assert_int_equal(p->nodes[1].state, CSV_SLOT_LEFT);
	assert_memory_equal(p->slots[1], buf, sizeof(buf));
	boot(p, 1, 6);
	(void)run(p, 3, 4000 * MS);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_ALIVE);
}

static void a_slot_that_claims_an_endless_lease_is_over_all_the_same(void **state)
{
	struct place *p = *state;
	struct csv_liveness other = {.seq = 1,
	                             .node = {{1, 1}},
	                             .incarnation = 5,
	                             .lease_ms = UINT32_MAX,
	                             .state = CSV_NODE_IN_USE};

	csv_liveness_encode(&other, &volume, 1, p->slots[1]);
	(void)run(p, 1, 700000 * MS);
	assert_int_equal(life(p, 1, 0), CSV_SLOT_STALE);
}

/* Whatever two nodes with wrong clocks do: no observer calls one stale that still believes. */
static void no_observer_is_faster_than_the_holder(void **state)
{
	struct place *p = *state;
	uint64_t rng = 1;

	for (int life_no = 0; life_no < 300; life_no++) {
		uint64_t rates[2];
		uint64_t real = 0;

		memset(p->slots, 0, sizeof(p->slots));
		boot(p, 0, 5);
		boot(p, 1, 5);
		for (int i = 0; i < 2; i++) {
			rng = rng * 6364136223846793005ull + 1;
			rates[i] = 999001 + (rng >> 33) % 1999; /* ppm of real time */
		}
		for (int step = 0; step < 120; step++) {
			uint32_t node;

			rng = rng * 6364136223846793005ull + 1;
			node = (uint32_t)(rng >> 40) & 1;
			real += (rng >> 33) % 2000 * MS;
			if (step > 60 && node == 1) {
				continue; /* it stands still */
			}
			p->now_ns = 1000 * MS + real / 1000000 * rates[node];
			(void)round_of(p, node);
			if (node == 0 && life(p, 1, 0) == CSV_SLOT_STALE) {
				assert_int_equal(
					csv_slot_rung(&p->nodes[1],
				                      1000 * MS + real / 1000000 * rates[1]),
					LEASE_OVER);
			}
		}
	}
}

static void wrong_configurations_are_refused(void **state)
{
	struct place *p = *state;
	struct csv_slot_cfg cfg = slot_cfg(p, 1, 5);
	struct errbuf eb = {0};
	struct csv_slot s;

	cfg.node = NODES;
	assert_int_equal(csv_slot_init(&s, &cfg, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "slot 4 of 4"));
	cfg.node = 1;
	cfg.incarnation = 0;
	assert_int_equal(csv_slot_init(&s, &cfg, &eb), -EINVAL);
	cfg.incarnation = 1;
	cfg.nodes = CSV_NODES_MAX + 1;
	assert_int_equal(csv_slot_init(&s, &cfg, &eb), -EINVAL);
	assert_string_equal(csv_slot_state_name(CSV_SLOT_FENCED), "fenced");
	assert_string_equal(csv_slot_reason_name(CSV_SLOT_CLAIMED), "claimed");
	assert_string_equal(csv_slot_life_name(CSV_SLOT_STALE), "stale");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_node_joins_renews_and_is_seen_to_live),
		CASE(one_that_is_in_use_but_stands_still_was_never_alive),
		CASE(a_node_that_stops_is_late_then_stale_and_not_earlier),
		CASE(a_block_that_cannot_be_read_says_nothing),
		CASE(a_late_write_of_a_dead_node_is_not_life),
		CASE(a_frozen_node_finds_that_its_lease_lapsed_before_it_writes),
		CASE(frozen_between_its_write_and_its_reads),
		CASE(a_sentence_ends_the_run_and_is_told_once),
		CASE(a_renewal_with_a_torn_verdict_does_not_count),
		CASE(an_outdated_sentence_over_a_newer_one_still_ends_the_run),
		CASE(a_sentence_that_was_there_before_we_joined_is_about_somebody_else),
		CASE(a_copy_of_a_machine_ends_both),
		CASE(a_late_write_of_our_own_earlier_run_is_survived_once),
		CASE(a_later_run_supersedes_this_one),
		CASE(a_slot_of_another_machine_is_taken_when_its_lease_is_over),
		CASE(what_fails_only_makes_the_lease_older),
		CASE(mail_is_read_once_and_only_by_whom_it_is_for),
		CASE(a_node_that_leaves_is_not_taken_for_dead),
		CASE(a_slot_that_claims_an_endless_lease_is_over_all_the_same),
		CASE(no_observer_is_faster_than_the_holder),
		CASE(wrong_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
