/* SPDX-License-Identifier: Apache-2.0 */

/* What godwitd does with godwit-csvd of its node: a second is a step. */

#include "bin/godwitd/csv_life.h"

#include "base/clock.h"
#include "tests/lib/test.h"

#define INFLIGHT_NS (30 * NS_PER_S)
#define HANG_NS (20 * NS_PER_S)

static struct csv_life_seen nothing(uint64_t second)
{
	return (struct csv_life_seen){
		.now_ns = second * NS_PER_S,
		.inflight_ns = INFLIGHT_NS,
		.hang_ns = HANG_NS,
		.may = true,
	};
}

/* A process in the guard's page, as run 7, that answers. */
static struct csv_life_seen well(uint64_t second)
{
	struct csv_life_seen s = nothing(second);

	s.guarded = s.told = s.run = 7;
	s.lives = s.answers = s.same = true;
	return s;
}

static struct csv_life_seen dead(uint64_t second)
{
	struct csv_life_seen s = well(second);

	s.lives = s.answers = s.same = false;
	return s;
}

static enum csv_life_act step(struct csv_life *l, struct csv_life_seen s)
{
	return csv_life_step(l, &s);
}

static void a_new_process_gets_a_run_when_nothing_of_the_one_before_is_under_way(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = nothing(100);

	(void)state;
	assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
	s.answers = true;
	assert_int_equal(step(&l, s), CSV_LIFE_ADOPT);
	for (uint64_t t = 101; t < 131; t++) {
		s = well(t);
		s.told = 0;
		s.run = 6;
		assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
	}
	s.now_ns = 131 * NS_PER_S;
	assert_int_equal(step(&l, s), CSV_LIFE_COMMIT);
	assert_int_equal(step(&l, well(132)), CSV_LIFE_TELL);
}

static void a_process_of_another_run_is_ended(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = nothing(100);

	(void)state;
	s.answers = true;
	s.told = 5;
	assert_int_equal(step(&l, s), CSV_LIFE_STRANGER);
}

static void its_end_counts_from_when_it_was_seen(void **state)
{
	struct csv_life l = {0};

	(void)state;
	assert_int_equal(step(&l, dead(200)), CSV_LIFE_ENDED);
	for (uint64_t t = 201; t < 230; t++) {
		assert_int_equal(step(&l, dead(t)), CSV_LIFE_WAIT);
	}
	assert_int_equal(step(&l, dead(230)), CSV_LIFE_GONE);

	struct csv_life_seen s = dead(231);

	s.gone = true;
	assert_int_equal(step(&l, s), CSV_LIFE_FORGET);
}

/* godwitd begins anew, the process does not answer yet, and dies much later. */
static void its_end_does_not_count_from_the_start_of_the_service(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = well(100);

	(void)state;
	s.answers = s.same = false;
	s.told = 0;
	assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
	s.now_ns = 115 * NS_PER_S;
	assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
	assert_int_equal(step(&l, dead(150)), CSV_LIFE_ENDED);
	assert_int_equal(step(&l, dead(179)), CSV_LIFE_WAIT);
	assert_int_equal(step(&l, dead(180)), CSV_LIFE_GONE);
}

static void each_end_is_waited_for_anew(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = dead(131);

	(void)state;
	assert_int_equal(step(&l, dead(100)), CSV_LIFE_ENDED);
	assert_int_equal(step(&l, dead(130)), CSV_LIFE_GONE);
	s.gone = true;
	assert_int_equal(step(&l, s), CSV_LIFE_FORGET);
	assert_int_equal(step(&l, well(140)), CSV_LIFE_TELL);
	assert_int_equal(step(&l, dead(160)), CSV_LIFE_ENDED);
	assert_int_equal(step(&l, dead(189)), CSV_LIFE_WAIT);
	assert_int_equal(step(&l, dead(190)), CSV_LIFE_GONE);
}

static void who_had_no_run_yet_leaves_nothing_to_wait_for(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = dead(100);

	(void)state;
	s.run = 6;
	s.gone = true;
	assert_int_equal(step(&l, s), CSV_LIFE_FORGET);
}

static void one_that_hangs_is_ended(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = well(100);

	(void)state;
	assert_int_equal(step(&l, s), CSV_LIFE_TELL);
	s.answers = s.same = false;
	for (uint64_t t = 101; t < 121; t++) {
		s.now_ns = t * NS_PER_S;
		assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
	}
	s.now_ns = 121 * NS_PER_S;
	assert_int_equal(step(&l, s), CSV_LIFE_KILL);
	assert_int_equal(step(&l, dead(122)), CSV_LIFE_ENDED);
	assert_int_equal(step(&l, dead(151)), CSV_LIFE_WAIT);
	assert_int_equal(step(&l, dead(152)), CSV_LIFE_GONE);
}

static void one_that_answers_now_and_then_is_not(void **state)
{
	struct csv_life l = {0};

	(void)state;
	for (uint64_t t = 100; t < 300; t++) {
		struct csv_life_seen s = well(t);

		s.answers = s.same = t % 15 == 0;
		assert_int_equal(step(&l, s), s.same ? CSV_LIFE_TELL : CSV_LIFE_WAIT);
	}
}

/* The guard has stopped it, with the lease: that is no fault of it. */
static void one_that_may_not_run_does_not_hang(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = well(100);

	(void)state;
	s.answers = s.same = false;
	for (uint64_t t = 100; t < 200; t++) {
		s.now_ns = t * NS_PER_S;
		s.may = t % 15 != 0;
		assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
	}
}

/* Others wait for it, from then on, and it knows all. */
static struct csv_life_seen wanted(uint64_t second)
{
	struct csv_life_seen s = well(second);

	s.fence = 7;
	s.informed = true;
	return s;
}

static void one_that_others_wait_for_is_ended_if_it_is_that_run(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = well(100);

	(void)state;
	for (uint64_t t = 100; t < 200; t++) {
		s = wanted(t);
		s.fence = 6;
		assert_int_equal(step(&l, s), CSV_LIFE_TELL);
	}
	for (uint64_t t = 200; t < 220; t++) {
		assert_int_equal(step(&l, wanted(t)), CSV_LIFE_TELL);
	}
	assert_int_equal(step(&l, wanted(220)), CSV_LIFE_KILL);
	/* Not one that nobody has heard of. */
	s = wanted(221);
	s.run = 6;
	assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
}

static void one_that_gives_back_what_it_has_in_time_is_not_ended(void **state)
{
	struct csv_life l = {0};

	(void)state;
	for (uint64_t t = 100; t < 400; t++) {
		struct csv_life_seen s = wanted(t);

		s.fence = t % 19 != 0 ? 7 : 0; /* withdrawn */
		assert_int_equal(step(&l, s), CSV_LIFE_TELL);
	}
}

static void one_that_was_told_late_has_its_time(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s;

	(void)state;
	for (uint64_t t = 100; t < 150; t++) {
		s = wanted(t);
		s.informed = false;
		assert_int_equal(step(&l, s), CSV_LIFE_TELL);
	}
	/* What is told later does not give it more. */
	for (uint64_t t = 150; t < 170; t++) {
		s = wanted(t);
		s.informed = t % 2 == 0;
		assert_int_equal(step(&l, s), CSV_LIFE_TELL);
	}
	assert_int_equal(step(&l, wanted(170)), CSV_LIFE_KILL);
}

/* The guard has stopped it for some time. */
static void one_that_may_not_run_gives_nothing_back(void **state)
{
	struct csv_life l = {0};

	(void)state;
	for (uint64_t t = 100; t < 200; t++) {
		struct csv_life_seen s = wanted(t);

		s.may = t % 15 != 0;
		assert_int_equal(step(&l, s), CSV_LIFE_TELL);
	}
}

static void one_with_a_volume_that_was_fenced_is_ended_at_once(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = well(100);

	(void)state;
	s.dead = true;
	assert_int_equal(step(&l, s), CSV_LIFE_KILL);
}

static void another_process_at_its_place_is_told_nothing(void **state)
{
	struct csv_life l = {0};
	struct csv_life_seen s = well(100);

	(void)state;
	s.same = false;
	s.told = 0;
	assert_int_equal(step(&l, s), CSV_LIFE_WAIT);
}

static void a_run_of_the_node_begins_when_nothing_is_left(void **state)
{
	struct csv_life l = {0};

	(void)state;
	assert_false(csv_life_clear(&l, true, 100 * NS_PER_S, INFLIGHT_NS));
	assert_false(csv_life_clear(&l, false, 150 * NS_PER_S, INFLIGHT_NS));
	assert_false(csv_life_clear(&l, false, 179 * NS_PER_S, INFLIGHT_NS));
	assert_true(csv_life_clear(&l, false, 180 * NS_PER_S, INFLIGHT_NS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_new_process_gets_a_run_when_nothing_of_the_one_before_is_under_way),
		cmocka_unit_test(a_process_of_another_run_is_ended),
		cmocka_unit_test(its_end_counts_from_when_it_was_seen),
		cmocka_unit_test(its_end_does_not_count_from_the_start_of_the_service),
		cmocka_unit_test(each_end_is_waited_for_anew),
		cmocka_unit_test(who_had_no_run_yet_leaves_nothing_to_wait_for),
		cmocka_unit_test(one_that_hangs_is_ended),
		cmocka_unit_test(one_that_answers_now_and_then_is_not),
		cmocka_unit_test(one_that_may_not_run_does_not_hang),
		cmocka_unit_test(one_that_others_wait_for_is_ended_if_it_is_that_run),
		cmocka_unit_test(one_that_gives_back_what_it_has_in_time_is_not_ended),
		cmocka_unit_test(one_that_was_told_late_has_its_time),
		cmocka_unit_test(one_that_may_not_run_gives_nothing_back),
		cmocka_unit_test(one_with_a_volume_that_was_fenced_is_ended_at_once),
		cmocka_unit_test(another_process_at_its_place_is_told_nothing),
		cmocka_unit_test(a_run_of_the_node_begins_when_nothing_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
