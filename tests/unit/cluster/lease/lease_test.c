/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lease/lease.h"

#include <errno.h>

#include "cluster/timing/timing.h"
#include "tests/lib/test.h"

#define S 1000000000ull
#define MS 1000000ull

static struct timing t;

static int setup(void **state)
{
	struct timing_cfg cfg;

	(void)state;
	timing_default(&cfg);
	return timing_init(&cfg, &t, NULL);
}

static void a_lease_runs_from_before_it_was_sent(void **state)
{
	struct lease l;

	(void)state;
	lease_init(&l);
	assert_int_equal(lease_rung(&l, &t, 100 * S), LEASE_OVER);
	assert_false(lease_pettable(&l, &t, 100 * S));

	uint64_t seq = lease_send(&l, &t, 100 * S);

	assert_int_equal(lease_rung(&l, &t, 100 * S), LEASE_OVER);
	/* The answer comes 4 s later: 6 of 10 s are left, whenever it came. */
	assert_int_equal(lease_confirm(&l, seq), 0);
	assert_int_equal(lease_rung(&l, &t, 104 * S), LEASE_OK);
	assert_int_equal(lease_rung(&l, &t, 105 * S), LEASE_WARN);
	assert_int_equal(lease_rung(&l, &t, 106 * S), LEASE_PAUSE);
	assert_int_equal(lease_rung(&l, &t, 108 * S), LEASE_KILL);
	assert_int_equal(lease_rung(&l, &t, 110 * S), LEASE_OVER);
	assert_true(lease_pettable(&l, &t, 106 * S - 1));
	assert_false(lease_pettable(&l, &t, 106 * S));
}

static void each_change_of_rung_is_announced(void **state)
{
	struct lease l;
	uint64_t now = 7 * S;
	uint64_t at[5];

	(void)state;
	lease_init(&l);
	assert_int_equal(lease_next_ns(&l, &t, now), UINT64_MAX);
	assert_int_equal(lease_confirm(&l, lease_send(&l, &t, now)), 0);
	for (uint32_t i = 0; i < 4; i++) {
		at[i] = lease_next_ns(&l, &t, now);
		assert_true(at[i] > now);
		assert_true(lease_rung(&l, &t, at[i]) != lease_rung(&l, &t, at[i] - 1) ||
		            lease_pettable(&l, &t, at[i]) != lease_pettable(&l, &t, at[i] - 1));
		now = at[i];
	}
	assert_int_equal(now, 17 * S);
	assert_int_equal(lease_next_ns(&l, &t, now), UINT64_MAX);
}

static void late_and_doubled_answers_extend_nothing(void **state)
{
	struct lease l;

	(void)state;
	lease_init(&l);
	uint64_t first = lease_send(&l, &t, 1 * S);
	uint64_t second = lease_send(&l, &t, 2 * S);

	assert_int_equal(lease_confirm(&l, 0), -EINVAL);
	assert_int_equal(lease_confirm(&l, 3), -EINVAL);
	assert_int_equal(lease_confirm(&l, second), 0);
	assert_int_equal(lease_confirm(&l, second), -ESTALE);
	assert_int_equal(lease_confirm(&l, first), -ESTALE);
	assert_int_equal(l.since_ns, 2 * S);
	/* Fenced: an answer that is still under way must not bring the right back. */
	uint64_t third = lease_send(&l, &t, 3 * S);

	lease_drop(&l);
	assert_int_equal(lease_confirm(&l, third), -ESTALE);
	assert_int_equal(lease_rung(&l, &t, 3 * S), LEASE_OVER);
	assert_true(lease_send(&l, &t, 4 * S) > third);
}

static void only_the_newest_renewals_are_remembered(void **state)
{
	struct lease l;

	(void)state;
	lease_init(&l);
	for (uint64_t i = 1; i <= LEASE_PENDING_MAX + 2; i++) {
		assert_int_equal(lease_send(&l, &t, i * S), i);
	}
	assert_int_equal(lease_confirm(&l, 1), -ESTALE);
	assert_int_equal(lease_confirm(&l, 2), -ESTALE);
	assert_int_equal(lease_confirm(&l, 3), 0);
	assert_int_equal(lease_confirm(&l, LEASE_PENDING_MAX + 2), 0);
	assert_int_equal(l.since_ns, (LEASE_PENDING_MAX + 2) * S);
}

static void a_clock_that_goes_backwards_ends_the_right(void **state)
{
	struct lease l;

	(void)state;
	lease_init(&l);
	assert_int_equal(lease_confirm(&l, lease_send(&l, &t, 50 * S)), 0);
	assert_int_equal(lease_rung(&l, &t, 49 * S), LEASE_OVER);
}

static void a_vm_lives_on_the_better_of_two_and_the_worse_of_its_volumes(void **state)
{
	struct lease node;
	struct lease vol;
	struct lease none;

	(void)state;
	lease_init(&node);
	lease_init(&vol);
	lease_init(&none);
	assert_int_equal(lease_confirm(&node, lease_send(&node, &t, 1 * S)), 0);
	assert_int_equal(lease_confirm(&vol, lease_send(&vol, &t, 5 * S)), 0);
	assert_ptr_equal(lease_best(&node, &vol), &vol);
	assert_ptr_equal(lease_worst(&node, &vol), &node);
	assert_ptr_equal(lease_worst(&node, &none), &none);
	assert_ptr_equal(lease_best(&none, &node), &node);
}

/* The holder's last possible moment against the observer's first, over clocks, delays and ends. */
static void an_observer_never_concludes_too_early(void **state)
{
	(void)state;
	for (int holder_ppm = -1000; holder_ppm <= 1000; holder_ppm += 250) {
		for (int observer_ppm = -1000; observer_ppm <= 1000; observer_ppm += 250) {
			double holder = 1.0 + holder_ppm / 1e6;
			double observer = 1.0 + observer_ppm / 1e6;
			struct lease_watch w;

			/* Real time 0: both begin; the renewal is seen at once, the worst case. */
			lease_watch_start(&w, &t, t.cfg.lease_ms, 0);
			lease_watch_seen(&w, &t, 1, t.cfg.lease_ms, 0);
			double reset = (double)t.lease_ns / holder;
			double over = (double)w.end_ns / observer;

			assert_true(over > reset);
			assert_true(over < reset + 1.2e9); /* and not much later */
		}
	}
}

static void a_watch_moves_with_new_renewals_only(void **state)
{
	struct lease_watch w;

	(void)state;
	lease_watch_start(&w, &t, 10000, 100 * S);
	assert_false(lease_watch_over(&w, 110 * S));
	assert_true(lease_watch_over(&w, 100 * S + t.quiet_ns));
	lease_watch_seen(&w, &t, 5, 10000, 103 * S);
	assert_false(lease_watch_over(&w, 103 * S + t.quiet_ns - 1));
	lease_watch_seen(&w, &t, 5, 10000, 109 * S);
	lease_watch_seen(&w, &t, 4, 10000, 109 * S);
	assert_true(lease_watch_over(&w, 103 * S + t.quiet_ns));
}

/* L becomes 5 s, then 10 s again, while one of the two has not heard of it. */
static void a_change_of_the_length_leaves_no_gap(void **state)
{
	struct timing_cfg cfg;
	struct timing shorter;
	struct lease_watch w;
	struct lease l;

	(void)state;
	timing_default(&cfg);
	cfg.lease_ms = 9000;
	assert_int_equal(timing_init(&cfg, &shorter, NULL), 0);

	/* Shorter: the holder's confirmed renewal is the long one, the observer saw both. */
	lease_init(&l);
	lease_watch_start(&w, &t, 10000, 0);
	assert_int_equal(lease_confirm(&l, lease_send(&l, &t, 1 * S)), 0);
	lease_watch_seen(&w, &t, 1, 10000, 1 * S);
	(void)lease_send(&l, &shorter, 1 * S + 1);
	lease_watch_seen(&w, &shorter, 2, 9000, 1 * S + 1);
	assert_int_equal(lease_rung(&l, &t, 11 * S - 1), LEASE_KILL);
	assert_false(lease_watch_over(&w, 11 * S));

	/* Longer: the holder knows 10 s already, but what it sent and others saw was 9 s. */
	lease_init(&l);
	lease_watch_start(&w, &shorter, 9000, 0);
	assert_int_equal(lease_confirm(&l, lease_send(&l, &shorter, 1 * S)), 0);
	lease_watch_seen(&w, &shorter, 1, 9000, 1 * S);
	assert_int_equal(lease_rung(&l, &t, 10 * S), LEASE_OVER);
	assert_false(lease_watch_over(&w, 10 * S));
	assert_int_equal(lease_next_ns(&l, &t, 1 * S), 1 * S + 4500 * MS);
}

/* Six times as long: what was sent before it still has its own rungs, none of them in the past. */
static void a_much_longer_lease_takes_nothing_away(void **state)
{
	struct timing_cfg cfg;
	struct timing longer;
	struct lease l;

	(void)state;
	timing_default(&cfg);
	cfg.lease_ms = 60000;
	assert_int_equal(timing_init(&cfg, &longer, NULL), 0);
	lease_init(&l);
	assert_int_equal(lease_confirm(&l, lease_send(&l, &t, 1 * S)), 0);
	for (uint64_t at = 1 * S; at < 13 * S; at += S / 2) {
		assert_int_equal(lease_rung(&l, &longer, at), lease_rung(&l, &t, at));
		assert_int_equal(lease_pettable(&l, &longer, at), lease_pettable(&l, &t, at));
	}
	assert_int_equal(lease_confirm(&l, lease_send(&l, &longer, 5 * S)), 0);
	assert_int_equal(lease_rung(&l, &longer, 34 * S), LEASE_OK);
	assert_int_equal(lease_rung(&l, &t, 11 * S), LEASE_PAUSE); /* and back: at once */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lease_runs_from_before_it_was_sent),
		cmocka_unit_test(each_change_of_rung_is_announced),
		cmocka_unit_test(late_and_doubled_answers_extend_nothing),
		cmocka_unit_test(only_the_newest_renewals_are_remembered),
		cmocka_unit_test(a_clock_that_goes_backwards_ends_the_right),
		cmocka_unit_test(a_vm_lives_on_the_better_of_two_and_the_worse_of_its_volumes),
		cmocka_unit_test(an_observer_never_concludes_too_early),
		cmocka_unit_test(a_watch_moves_with_new_renewals_only),
		cmocka_unit_test(a_change_of_the_length_leaves_no_gap),
		cmocka_unit_test(a_much_longer_lease_takes_nothing_away),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
