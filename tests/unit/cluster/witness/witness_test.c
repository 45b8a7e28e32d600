/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/witness/witness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

#define ROUNDS 4000u
#define TRIERS 4u
#define TAGS_MAX 64u

static const struct guid witness = {{7, 7, 7}};

/* ---- a disk that is read block by block while others write ---- */

struct trier {
	struct witness_try try;
	struct witness_block seen[WITNESS_SLOTS];
	struct witness_block write;
	uint32_t at; /* next block to read */
	bool writing;
	bool over;
	bool won;
};

struct world {
	uint64_t random;
	struct witness_block disk[WITNESS_SLOTS];
	struct witness_tag decided[TAGS_MAX]; /* by seq, as anybody ever saw it */
	struct trier triers[TRIERS];
};

static uint32_t chance(struct world *w, uint32_t below)
{
	w->random = w->random * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(w->random >> 33) % below;
}

/* What was decided once is decided for ever. */
static void see(struct world *w, const struct witness_tag *tag)
{
	struct witness_tag *known;

	if (tag->seq == 0) {
		return;
	}
	assert_true(tag->seq < TAGS_MAX);
	known = &w->decided[tag->seq];
	if (known->seq == 0) {
		*known = *tag;
	}
	assert_true(guid_equal(&known->claim, &tag->claim));
	assert_int_equal(known->epoch, tag->epoch);
}

static void claim(struct trier *t, const struct witness_claim *c)
{
	witness_begin(&t->try, c);
	t->at = 0;
	t->writing = false;
	t->over = false;
	t->won = false;
}

/* One block read or written. Only the slots in use are read one by one; the others are empty. */
static void step(struct world *w, struct trier *t)
{
	if (t->over) {
		return;
	}
	if (t->writing) {
		w->disk[witness_slot(t->try.claim.nodeid)] = t->write;
		see(w, &t->write.decided);
		t->writing = false;
		t->at = 0;
		return;
	}
	if (t->at < 8) {
		t->seen[t->at] = w->disk[t->at];
		t->at++;
		return;
	}
	t->at = 0;
	switch (witness_next(&t->try, t->seen, &t->write)) {
	case WITNESS_WRITE:
		t->writing = true;
		break;
	case WITNESS_WAIT:
		break;
	case WITNESS_WON:
		see(w, &t->try.last);
		t->won = true;
		t->over = true;
		break;
	case WITNESS_LOST:
	case WITNESS_OLD:
		t->over = true;
		break;
	}
}

static struct witness_claim make_claim(uint32_t nodeid, uint8_t id, uint64_t last_epoch,
                                       uint64_t epoch)
{
	struct witness_claim c = {.id = {{1, id}},
	                          .nodeid = nodeid,
	                          .last_epoch = last_epoch,
	                          .epoch = epoch,
	                          .synced = 2,
	                          .count = 2};

	c.nodes[0] = (nodeid - 1) / 2 * 2 + 1; /* 1 and 2, 3 and 4 */
	c.nodes[1] = c.nodes[0] + 1;
	return c;
}

static void two_halves_at_once_and_one_of_them_wins(void **state)
{
	uint32_t wins[2] = {0, 0};

	(void)state;
	for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
		static struct world w;
		bool half[2] = {false, false};
		uint32_t left = TRIERS;

		memset(&w, 0, sizeof(w));
		w.random = seed;
		for (uint32_t i = 0; i < TRIERS; i++) {
			struct witness_claim c = make_claim(i + 1, (uint8_t)(i / 2 + 1), 5, 6);

			claim(&w.triers[i], &c);
		}
		for (uint32_t n = 0; n < 20000 && left != 0; n++) {
			uint32_t i = chance(&w, TRIERS);

			step(&w, &w.triers[i]);
			if (chance(&w, 200) == 0 && !w.triers[i].over) { /* dies, and starts anew */
				struct witness_claim c = w.triers[i].try.claim;

				claim(&w.triers[i], &c);
			}
			left = 0;
			for (uint32_t k = 0; k < TRIERS; k++) {
				left += !w.triers[k].over;
			}
		}
		assert_int_equal(left, 0);
		for (uint32_t i = 0; i < TRIERS; i++) {
			half[i / 2] = half[i / 2] || w.triers[i].won;
		}
		assert_true(half[0] != half[1]);
		wins[half[1]]++;
	}
	assert_true(wins[0] != 0 && wins[1] != 0);
}

/*
 * Halves that come and go, with logs that follow the rules: a node's last epoch grows only in a
 * group that has the witness's vote, or with more than half of the nodes. Whoever has the vote must
 * have all that was committed.
 */
static void who_gets_the_vote_has_all_that_was_committed(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 5000; seed++) {
		static struct world w;
		uint64_t last[5] = {0, 1, 1, 1, 1}; /* epochs of nodes 1..4 */
		uint64_t promised[5] = {0, 1, 1, 1, 1};
		uint64_t committed = 1;

		memset(&w, 0, sizeof(w));
		w.random = seed;
		for (uint32_t n = 0; n < 25; n++) {
			uint32_t a = 1 + chance(&w, 4);
			uint32_t b = 1 + (a + chance(&w, 3)) % 4;
			uint32_t c = chance(&w, 3) == 0 ? 1 + chance(&w, 4) : a;
			uint64_t best = last[a] > last[b] ? last[a] : last[b];
			uint64_t epoch =
				1 + (promised[a] > promised[b] ? promised[a] : promised[b]);
			bool ab = last[a] >= last[b];
			struct witness_claim cl = {.id = {{2, (uint8_t)n, (uint8_t)seed}},
			                           .nodeid = ab ? a : b,
			                           .last_epoch = best,
			                           .epoch = epoch,
			                           .synced = last[a] == last[b] ? 2 : 1,
			                           .count = 2,
			                           .nodes = {ab ? a : b, ab ? b : a}};
			bool three = c != a && c != b;

			if (three) { /* a majority without the witness */
				best = last[c] > best ? last[c] : best;
				epoch = promised[c] + 1 > epoch ? promised[c] + 1 : epoch;
				assert_true(best >= committed);
				last[c] = epoch;
				promised[c] = epoch;
			} else {
				claim(&w.triers[0], &cl);
				for (uint32_t k = 0; k < 100 && !w.triers[0].over; k++) {
					step(&w, &w.triers[0]);
				}
				assert_true(w.triers[0].over);
				if (!w.triers[0].won) {
					continue;
				}
				assert_true(best >= committed);
				if (chance(&w, 4) == 0) {
					continue; /* dies before it has written anything */
				}
			}
			last[a] = epoch;
			last[b] = epoch;
			promised[a] = epoch;
			promised[b] = epoch;
			committed = epoch;
		}
	}
}

static void an_old_copy_is_refused_until_it_has_caught_up(void **state)
{
	static struct world w;
	struct witness_claim one = make_claim(1, 1, 5, 6);
	struct witness_claim other = make_claim(3, 2, 5, 6);
	struct witness_claim again = make_claim(1, 3, 5, 8); /* died before its first entry */
	struct witness_claim mixed = make_claim(3, 4, 5, 9);
	struct witness_claim later = make_claim(3, 5, 10, 11);

	(void)state;
	memset(&w, 0, sizeof(w));
	claim(&w.triers[0], &one);
	while (!w.triers[0].over) {
		step(&w, &w.triers[0]);
	}
	assert_true(w.triers[0].won);
	claim(&w.triers[0], &other);
	while (!w.triers[0].over) {
		step(&w, &w.triers[0]);
	}
	assert_false(w.triers[0].won);
	claim(&w.triers[0], &again);
	while (!w.triers[0].over) {
		step(&w, &w.triers[0]);
	}
	assert_true(w.triers[0].won);
	mixed.nodes[1] = 2; /* with one that the last tag was for */
	claim(&w.triers[0], &mixed);
	while (!w.triers[0].over) {
		step(&w, &w.triers[0]);
	}
	assert_true(w.triers[0].won);
	claim(&w.triers[0], &later);
	while (!w.triers[0].over) {
		step(&w, &w.triers[0]);
	}
	assert_true(w.triers[0].won);
	assert_int_equal(w.triers[0].try.last.seq, 4);
}

/* ---- layout ---- */

static struct witness_block sample(void)
{
	struct witness_block b = {
		.nodeid = 3,
		.decided = {.seq = 4, .epoch = 9, .claim = {{5}}, .count = 1, .nodes = {3}},
		.seq = 5,
		.mbal = 0x20003,
		.bal = 0x10003,
		.value = {.seq = 5, .epoch = 12, .claim = {{6}}, .count = 2, .nodes = {3, 4}}};

	return b;
}

static void blocks_are_read_back(void **state)
{
	uint8_t buf[WITNESS_BLOCK_BYTES];
	struct witness_block b = sample();
	struct witness_block out;
	struct witness_head head = {.cluster = {{1}}, .witness = {{2}}};
	struct witness_head back;

	(void)state;
	witness_block_encode(&b, &witness, buf);
	assert_memory_equal(buf, "!GWWITB1", 8);
	assert_int_equal(buf[32], 5);
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), 0);
	assert_int_equal(out.nodeid, 3);
	assert_int_equal(out.decided.seq, 4);
	assert_int_equal(out.bal, b.bal);
	assert_int_equal(out.value.count, 2);
	assert_int_equal(out.value.nodes[1], 4);
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &head.witness, &out), -EBADMSG);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), 0);
	assert_int_equal(out.nodeid, 0);
	witness_head_encode(&head, buf);
	assert_int_equal(witness_head_decode(buf, sizeof(buf), &back), 0);
	assert_true(guid_equal(&back.cluster, &head.cluster));
	assert_true(guid_equal(&back.witness, &head.witness));
}

static void what_was_cut_or_changed_is_refused(void **state)
{
	uint8_t buf[WITNESS_BLOCK_BYTES];
	struct witness_block b = sample();
	struct witness_block out = {.nodeid = 77};
	struct witness_head head = {.cluster = {{1}}, .witness = {{2}}};
	struct witness_head back;

	(void)state;
	witness_block_encode(&b, &witness, buf);
	for (size_t len = 0; len < sizeof(buf); len++) {
		assert_int_equal(witness_block_decode(buf, len, &witness, &out), -EBADMSG);
	}
	for (size_t bit = 0; bit < 600u * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), -EBADMSG);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(out.nodeid, 77);
	witness_head_encode(&head, buf);
	for (size_t bit = 0; bit < 100u * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(witness_head_decode(buf, sizeof(buf), &back), -EBADMSG);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(witness_head_decode(buf, sizeof(buf) - 1, &back), -EBADMSG);
}

static void sums_that_make_no_sense_are_refused(void **state)
{
	uint8_t buf[WITNESS_BLOCK_BYTES];
	struct witness_block b = sample();
	struct witness_block out;

	(void)state;
	b.seq = b.decided.seq + 2;
	witness_block_encode(&b, &witness, buf);
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), -EBADMSG);
	b = sample();
	b.bal = b.mbal + 1;
	witness_block_encode(&b, &witness, buf);
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), -EBADMSG);
	b = sample();
	b.value.seq = 4;
	witness_block_encode(&b, &witness, buf);
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), -EBADMSG);
	b = sample();
	b.value.count = WITNESS_NODES_MAX + 1;
	witness_block_encode(&b, &witness, buf);
	assert_int_equal(witness_block_decode(buf, sizeof(buf), &witness, &out), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_halves_at_once_and_one_of_them_wins),
		cmocka_unit_test(who_gets_the_vote_has_all_that_was_committed),
		cmocka_unit_test(an_old_copy_is_refused_until_it_has_caught_up),
		cmocka_unit_test(blocks_are_read_back),
		cmocka_unit_test(what_was_cut_or_changed_is_refused),
		cmocka_unit_test(sums_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
