/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Migrations whose wire is cut, or whose frames are damaged, at every single frame: always exactly
 * one legal owner, and where the guest runs its memory is whole.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tests/lib/move_pair.h"
#include "tests/lib/move_relay.h"
#include "tests/lib/test.h"

#define CONNECTIONS 3u

static struct move_pair pair;
static struct move_guest guest;
static struct move_guest place;
static bool confirm;

static const struct move_guest_cfg small = {
	.bytes = 3u << 20,
	.random_share = 4,
	.state_bytes = 300000,
	.incompressible = true,
};

struct tally {
	uint32_t here;    /* the guest stayed */
	uint32_t there;   /* it moved, all told */
	uint32_t orphans; /* owners had to ask each other */
	uint32_t deeds;
	uint32_t types; /* bit n: a frame of type n was hit */
};

/* What must be true whatever happened. */
static void check_one_owner(struct tally *n, bool deed)
{
	const struct move_result *s = &pair.at_source.result;
	const struct move_result *t = &pair.at_target.result;
	bool here = move_guest_running(&guest);
	bool there = move_guest_running(&place);

	assert_true(here != there);
	assert_int_equal(there, pair.journal);
	assert_int_equal(place.runs, there ? 1 : 0);
	assert_true(s->outcome == MOVE_DONE || s->why.text[0] != '\0');
	assert_true(t->outcome == MOVE_DONE || t->why.text[0] != '\0');
	if (there) {
		assert_true(s->outcome == MOVE_DONE || s->outcome == MOVE_UNKNOWN);
		assert_int_equal(t->outcome, MOVE_DONE);
		assert_true(move_guest_equal(&guest, &place));
		n->there++;
	} else {
		assert_int_equal(s->outcome, MOVE_FAILED);
		assert_true(t->outcome == MOVE_FAILED || t->outcome == MOVE_CANCELED);
		assert_false(guest.logging);
		assert_true(deed);
		n->here++;
	}
	n->orphans += pair.at_target.losts != 0 ? 1 : 0;
}

/* One move with a deed at a frame. Returns whether it was done. */
static bool one_move(enum move_relay_deed deed, uint32_t way, uint32_t frame, struct tally *n)
{
	const struct move_relay_cfg cfg = {
		.connections = CONNECTIONS,
		.deed = deed,
		.way = way,
		.frame = frame,
	};
	struct move_relay *relay;
	int from[CONNECTIONS];
	int to[CONNECTIONS];
	uint16_t type;
	bool did;

	move_guest_create(&guest, &small);
	move_guest_place(&place, &guest);
	move_pair_init(&pair, &guest, &place);
	pair.confirm = confirm;
	pair.gives_up = frame == 0; /* without HELLO it would wait for another */
	if (deed == MOVE_RELAY_SILENT) {
		pair.source_cfg.silence_max_ns = 300 * NS_PER_MS;
		pair.target_cfg.silence_max_ns = 300 * NS_PER_MS;
	}
	move_relay_create(&relay, &cfg, from, to);
	assert_int_equal(move_pair_start(&pair, CONNECTIONS, from, to), 0);
	move_pair_finish(&pair);
	did = move_relay_did(relay, &type);
	if (did) {
		n->types |= 1u << type;
		n->deeds++;
	}
	check_one_owner(n, did);
	move_relay_destroy(relay);
	move_guest_destroy(&place);
	move_guest_destroy(&guest);
	return did;
}

static void every_frame(enum move_relay_deed deed)
{
	const uint32_t must = 1u << STREAM_HELLO | 1u << STREAM_ANSWER | 1u << STREAM_DEFINITION |
	                      1u << STREAM_REPORT | 1u << STREAM_MEMORY | 1u << STREAM_ROUND_END |
	                      1u << STREAM_ROUND_ACK | 1u << STREAM_STATE | 1u << STREAM_FINAL |
	                      1u << STREAM_READY | 1u << STREAM_COMMIT | 1u << STREAM_RUNNING;
	struct tally n = {0};

	for (uint32_t way = 0; way < 2 * CONNECTIONS; way++) {
		uint32_t frame = 0;

		while (one_move(deed, way, frame, &n)) {
			frame++;
		}
	}
	assert_int_equal(n.types & must, must);
	assert_true(n.deeds >= 25);
	assert_true(n.here >= 20);
	assert_true(n.there >= 2 * CONNECTIONS + 2); /* whole ones; COMMIT and RUNNING lost */
	assert_true(n.orphans >= 1);
	printf("deeds=%u stayed=%u moved=%u asked=%u\n", n.deeds, n.here, n.there, n.orphans);
}

static void a_cut_at_every_frame_leaves_one_owner(void **state)
{
	(void)state;
	confirm = false;
	every_frame(MOVE_RELAY_CUT);
}

static void the_same_if_the_destinations_owner_has_to_confirm(void **state)
{
	(void)state;
	confirm = true;
	every_frame(MOVE_RELAY_CUT);
	confirm = false;
}

static void damage_to_every_frame_leaves_one_owner(void **state)
{
	(void)state;
	every_frame(MOVE_RELAY_DAMAGE);
}

static void a_wire_that_falls_silent_is_noticed(void **state)
{
	struct tally n = {0};

	(void)state;
	assert_true(one_move(MOVE_RELAY_SILENT, 0, 0, &n)); /* HELLO */
	assert_true(one_move(MOVE_RELAY_SILENT, 2, 2, &n)); /* pages */
	assert_true(one_move(MOVE_RELAY_SILENT, 1, 2, &n)); /* READY */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_at_every_frame_leaves_one_owner),
		cmocka_unit_test(the_same_if_the_destinations_owner_has_to_confirm),
		cmocka_unit_test(damage_to_every_frame_leaves_one_owner),
		cmocka_unit_test(a_wire_that_falls_silent_is_noticed),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
