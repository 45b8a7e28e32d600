/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/fence/fence.h"

#include <errno.h>
#include <string.h>

#include "cluster/timing/timing.h"
#include "tests/lib/test.h"

#define S 1000000000ull

static struct timing timing;
static struct fence_view view;
static struct fence fence;
static struct fence_action acts[FENCE_ACTIONS_MAX];

static int setup(void **state)
{
	struct timing_cfg cfg;

	(void)state;
	timing_default(&cfg);
	assert_int_equal(timing_init(&cfg, &timing, NULL), 0);
	view = (struct fence_view){
		.timing = &timing,
		.volumes = 0x3,
		.reachable = 0x3,
		.preemptable = 0x3,
		.devices = {1, 2},
		.action_ns = 10 * S,
		.lease_proof = true,
		.lease_end_ns = 100 * S,
	};
	fence_init(&fence, (struct role_at){3, 7}, 0, 1 * S);
	return 0;
}

static size_t count(enum fence_do what, size_t n)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		found += acts[i].what == what;
	}
	return found;
}

static struct fence_action find(enum fence_do what, uint32_t id, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (acts[i].what == what &&
		    (what == FENCE_OFF ? acts[i].device == id : acts[i].volume == id)) {
			return acts[i];
		}
	}
	fail_msg("no such action");
	return acts[0];
}

static enum role_proof proof(uint64_t now_ns, uint64_t *volumes)
{
	return fence_proof(&fence, &view, now_ns, volumes);
}

static void all_ways_begin_at_once(void **state)
{
	uint64_t volumes;

	(void)state;
	size_t n = fence_step(&fence, &view, 1 * S, acts);

	assert_int_equal(count(FENCE_PREEMPT, n), 2);
	assert_int_equal(count(FENCE_VERDICT, n), 2);
	assert_int_equal(count(FENCE_OFF, n), 1);
	assert_int_equal(proof(1 * S, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(fence_step(&fence, &view, 2 * S, acts), 0); /* they run */
	assert_int_equal(fence_next_ns(&fence, &view, 2 * S), 11 * S);
}

static void an_aborted_volume_is_proven_at_once_another_after_what_is_in_flight(void **state)
{
	uint64_t volumes;

	(void)state;
	size_t n = fence_step(&fence, &view, 1 * S, acts);
	struct fence_action a1 = find(FENCE_PREEMPT, 1, n);
	struct fence_action a2 = find(FENCE_PREEMPT, 2, n);

	fence_done(&fence, &a1, FENCE_ABORTED, 2 * S);
	fence_done(&fence, &a2, 0, 2 * S);
	assert_int_equal(proof(2 * S, &volumes), ROLE_PROOF_STORAGE);
	assert_int_equal(volumes, 0x1);
	assert_int_equal(fence_next_ns(&fence, &view, 2 * S), 3 * S);
	assert_int_equal(proof(3 * S, &volumes), ROLE_PROOF_STORAGE);
	assert_int_equal(volumes, 0x3);
}

static void power_proves_when_it_was_read_back_and_the_disks_are_quiet(void **state)
{
	uint64_t volumes;

	(void)state;
	size_t n = fence_step(&fence, &view, 1 * S, acts);
	struct fence_action off = find(FENCE_OFF, 0, n);

	fence_done(&fence, &off, 0, 4 * S);
	assert_int_equal(proof(5 * S - 1, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(proof(5 * S, &volumes), ROLE_PROOF_POWER);
	assert_int_equal(count(FENCE_OFF, fence_step(&fence, &view, 50 * S, acts)), 0);
}

static void a_failed_level_gives_way_to_the_next_which_needs_all_its_devices(void **state)
{
	uint64_t volumes;

	(void)state;
	struct fence_action off = find(FENCE_OFF, 0, fence_step(&fence, &view, 1 * S, acts));

	fence_done(&fence, &off, -EIO, 2 * S);
	size_t n = fence_step(&fence, &view, 2 * S, acts);

	assert_int_equal(count(FENCE_OFF, n), 2);
	struct fence_action one = find(FENCE_OFF, 0, n);
	struct fence_action two = find(FENCE_OFF, 1, n);

	assert_int_equal(one.level, 1);
	fence_done(&fence, &one, 0, 3 * S);
	assert_int_equal(proof(90 * S, &volumes), ROLE_PROOF_NONE);
	fence_done(&fence, &two, -ETIMEDOUT, 4 * S);
	/* Back to the first, when its pause is over. */
	n = fence_step(&fence, &view, 4 * S, acts);
	assert_int_equal(count(FENCE_OFF, n), 1);
	off = find(FENCE_OFF, 0, n);
	assert_int_equal(off.level, 0);
	assert_int_equal(off.number, 2);
	fence_done(&fence, &off, 0, 5 * S);
	assert_int_equal(proof(6 * S, &volumes), ROLE_PROOF_POWER);
}

static void a_hanging_device_is_given_up_and_its_late_answer_not_heard(void **state)
{
	uint64_t volumes;

	(void)state;
	view.devices[1] = 0;
	struct fence_action hung = find(FENCE_OFF, 0, fence_step(&fence, &view, 1 * S, acts));

	assert_int_equal(count(FENCE_OFF, fence_step(&fence, &view, 10 * S, acts)), 0);
	assert_int_equal(count(FENCE_OFF, fence_step(&fence, &view, 11 * S, acts)), 0);
	size_t n = fence_step(&fence, &view, 12 * S, acts); /* a second later it is tried again */
	struct fence_action again = find(FENCE_OFF, 0, n);

	assert_int_equal(again.number, 2);
	fence_done(&fence, &hung, 0, 13 * S);
	assert_int_equal(proof(30 * S, &volumes), ROLE_PROOF_NONE);
	fence_done(&fence, &again, 0, 14 * S);
	assert_int_equal(proof(30 * S, &volumes), ROLE_PROOF_POWER);
}

static void other_devices_begin_anew_and_late_answers_of_the_old_are_not_heard(void **state)
{
	struct fence_action old;
	uint64_t volumes;

	(void)state;
	view.volumes = 0;
	view.lease_proof = false;
	old = find(FENCE_OFF, 0, fence_step(&fence, &view, 1 * S, acts));
	fence_power_changed(&fence);
	fence_done(&fence, &old, 0, 2 * S);
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_NONE);
	/* The new one is asked at once, and its word counts. */
	struct fence_action again = find(FENCE_OFF, 0, fence_step(&fence, &view, 2 * S, acts));

	fence_done(&fence, &old, 0, 3 * S);
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_NONE);
	fence_done(&fence, &again, 0, 3 * S);
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_POWER);
	/* What was done is of no use when the device was a wrong one. */
	fence_power_changed(&fence);
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_NONE);
}

/* Begin what is due until @device is asked, and answer it. The other one fails meanwhile. */
static void answer(uint32_t device, int err, uint64_t *now_ns)
{
	for (uint32_t i = 0; i < 100; i++) {
		size_t n = fence_step(&fence, &view, *now_ns, acts);

		for (size_t k = 0; k < n; k++) {
			if (acts[k].what == FENCE_OFF && acts[k].device == device) {
				fence_done(&fence, &acts[k], err, *now_ns);
				return;
			}
		}
		*now_ns += S;
	}
	fail_msg("the device is not asked");
}

static void two_supplies_are_off_only_if_they_were_so_together(void **state)
{
	uint64_t now_ns = 1 * S;
	uint64_t volumes;

	(void)state;
	view.volumes = 0;
	view.lease_proof = false;
	view.devices[0] = 2;
	view.devices[1] = 0;
	size_t n = fence_step(&fence, &view, now_ns, acts);
	struct fence_action d0 = find(FENCE_OFF, 0, n);
	struct fence_action d1 = find(FENCE_OFF, 1, n);

	fence_done(&fence, &d0, 0, now_ns);
	fence_done(&fence, &d1, -EIO, now_ns);
	while (now_ns < 600 * S) {
		answer(1, -EIO, &now_ns);
	}
	answer(1, 0, &now_ns);
	/* The first may have been switched on again in these ten minutes. */
	assert_int_equal(proof(now_ns + 100 * S, &volumes), ROLE_PROOF_NONE);
	n = fence_step(&fence, &view, now_ns, acts);
	assert_int_equal(n, 1);
	assert_int_equal(acts[0].device, 0);
	assert_int_equal(acts[0].level, 0);
	assert_int_equal(acts[0].number, 2);
	assert_int_equal(proof(now_ns + 100 * S, &volumes), ROLE_PROOF_NONE);
	fence_done(&fence, &d0, 0, now_ns); /* its old word, once more */
	assert_int_equal(proof(now_ns + 100 * S, &volumes), ROLE_PROOF_NONE);
	fence_done(&fence, &acts[0], 0, now_ns + S);
	assert_int_equal(proof(now_ns + 2 * S - 1, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(proof(now_ns + 2 * S, &volumes), ROLE_PROOF_POWER);
	assert_int_equal(fence_step(&fence, &view, now_ns + 500 * S, acts), 0);
	assert_int_equal(proof(now_ns + 500 * S, &volumes), ROLE_PROOF_POWER);
}

static void one_that_is_asked_again_has_not_failed(void **state)
{
	uint64_t now_ns = 1 * S;

	(void)state;
	view.volumes = 0;
	view.devices[0] = 2;
	view.devices[1] = 1; /* another level would be there */
	size_t n = fence_step(&fence, &view, now_ns, acts);
	struct fence_action d0 = find(FENCE_OFF, 0, n);
	struct fence_action d1 = find(FENCE_OFF, 1, n);

	view.action_ns = S;
	fence_done(&fence, &d0, 0, now_ns);
	fence_done(&fence, &d1, 0, now_ns + 2 * S);
	n = fence_step(&fence, &view, now_ns + 2 * S, acts);
	assert_int_equal(n, 1);
	assert_int_equal(acts[0].level, 0);
	assert_int_equal(acts[0].device, 0);
}

static void tries_become_rarer(void **state)
{
	uint64_t now_ns = 1 * S;
	uint64_t before_ns = 0;
	uint64_t gap_ns = 0;

	(void)state;
	view.volumes = 0;
	view.devices[1] = 0;
	view.lease_proof = false;
	for (uint32_t i = 0; i < 10; i++) {
		size_t n = fence_step(&fence, &view, now_ns, acts);

		assert_int_equal(n, 1);
		fence_done(&fence, &acts[0], -EIO, now_ns);
		before_ns = now_ns;
		now_ns = fence_next_ns(&fence, &view, now_ns);
		assert_true(now_ns - before_ns >= gap_ns);
		gap_ns = now_ns - before_ns;
	}
	assert_int_equal(gap_ns, 32 * S);
}

static void silence_proves_only_with_a_watchdog(void **state)
{
	uint64_t volumes;

	(void)state;
	assert_int_equal(proof(100 * S - 1, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_LEASE);
	view.lease_proof = false;
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_NONE);
	view.lease_proof = true;
	view.lease_end_ns = UINT64_MAX;
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_NONE);
}

static void others_may_be_given_the_first_shot(void **state)
{
	(void)state;
	fence_init(&fence, (struct role_at){3, 7}, 5 * S, 1 * S);
	assert_int_equal(fence_step(&fence, &view, 5 * S, acts), 0);
	assert_int_equal(fence_next_ns(&fence, &view, 5 * S), 6 * S);
	assert_true(fence_step(&fence, &view, 6 * S, acts) > 0);
}

static void what_cannot_be_reached_is_not_tried(void **state)
{
	(void)state;
	view.reachable = 0x2;
	view.preemptable = 0;
	size_t n = fence_step(&fence, &view, 1 * S, acts);

	assert_int_equal(count(FENCE_PREEMPT, n), 0);
	assert_int_equal(count(FENCE_VERDICT, n), 1);
	struct fence_action v = find(FENCE_VERDICT, 2, n);

	assert_int_equal(fence_sentenced(&fence, 2), UINT64_MAX);
	fence_done(&fence, &v, 0, 3 * S);
	assert_int_equal(fence_sentenced(&fence, 2), 3 * S);
	assert_int_equal(fence_sentenced(&fence, 1), UINT64_MAX);
}

static void many_volumes_come_in_several_steps(void **state)
{
	uint64_t seen = 0;

	(void)state;
	view.volumes = view.reachable = view.preemptable = UINT64_MAX;
	for (uint32_t i = 0; i < 20; i++) {
		size_t n = fence_step(&fence, &view, 1 * S, acts);

		for (size_t k = 0; k < n; k++) {
			seen |= acts[k].what == FENCE_PREEMPT ? role_bit(acts[k].volume) : 0;
		}
	}
	assert_int_equal(seen, UINT64_MAX);
}

/* What was done when the key was taken counts, not what the volume can do by now; nor does an
 * earlier try's abort count for a later one without. */
static void an_abort_is_of_the_try_that_did_it(void **state)
{
	uint64_t volumes;

	(void)state;
	view.volumes = view.whole = 0x1;
	view.lease_proof = false;
	size_t n = fence_step(&fence, &view, 1 * S, acts);
	struct fence_action one = find(FENCE_PREEMPT, 1, n);

	fence_done(&fence, &one, FENCE_ABORTED, 2 * S);
	assert_int_equal(proof(2 * S, &volumes), ROLE_PROOF_STORAGE);
	view.preemptable = 0; /* our path there broke: what was done is done */
	assert_int_equal(proof(2 * S, &volumes), ROLE_PROOF_STORAGE);
	view.preemptable = 0x1;
	fence_storage_changed(&fence);
	n = fence_step(&fence, &view, 2 * S, acts);
	one = find(FENCE_PREEMPT, 1, n);
	fence_done(&fence, &one, 0, 3 * S);
	assert_int_equal(proof(4 * S - 1, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(proof(4 * S, &volumes), ROLE_PROOF_STORAGE);
}

static void of_all_volumes_or_none(void **state)
{
	uint64_t volumes;

	(void)state;
	view.whole = 0x3;
	size_t n = fence_step(&fence, &view, 1 * S, acts);
	struct fence_action a1 = find(FENCE_PREEMPT, 1, n);
	struct fence_action a2 = find(FENCE_PREEMPT, 2, n);

	fence_done(&fence, &a1, FENCE_ABORTED, 2 * S);
	assert_int_equal(proof(50 * S, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(volumes, 0);
	fence_done(&fence, &a2, 0, 2 * S);
	assert_int_equal(proof(3 * S - 1, &volumes), ROLE_PROOF_NONE); /* that one did not abort */
	assert_int_equal(proof(3 * S, &volumes), ROLE_PROOF_STORAGE);
	assert_int_equal(volumes, 0x3);
	view.whole = 0x7; /* one more that it could write */
	assert_int_equal(proof(50 * S, &volumes), ROLE_PROOF_NONE);
	assert_int_equal(proof(100 * S, &volumes), ROLE_PROOF_LEASE); /* others are not held up */
}

static void other_keys_begin_anew_and_late_answers_about_the_old_are_not_heard(void **state)
{
	uint64_t volumes;

	(void)state;
	view.volumes = view.whole = 0x1;
	size_t n = fence_step(&fence, &view, 1 * S, acts);
	struct fence_action old = find(FENCE_PREEMPT, 1, n);

	fence_done(&fence, &old, FENCE_ABORTED, 2 * S);
	assert_int_equal(proof(2 * S, &volumes), ROLE_PROOF_STORAGE);
	fence_storage_changed(&fence);
	assert_int_equal(proof(2 * S, &volumes), ROLE_PROOF_NONE);
	n = fence_step(&fence, &view, 2 * S, acts);
	struct fence_action new = find(FENCE_PREEMPT, 1, n);

	fence_done(&fence, &old, FENCE_ABORTED, 3 * S);
	assert_int_equal(proof(3 * S, &volumes), ROLE_PROOF_NONE);
	fence_done(&fence, &new, FENCE_ABORTED, 3 * S);
	assert_int_equal(proof(3 * S, &volumes), ROLE_PROOF_STORAGE);
}

static void people_are_told_what_is_waited_for(void **state)
{
	char line[300];

	(void)state;
	view.devices[1] = 0;
	size_t n = fence_step(&fence, &view, 1 * S, acts);
	struct fence_action off = find(FENCE_OFF, 0, n);
	struct fence_action a1 = find(FENCE_PREEMPT, 1, n);

	fence_done(&fence, &off, -EIO, 2 * S);
	fence_done(&fence, &a1, FENCE_ABORTED, 2 * S);
	fence_describe(&fence, &view, 95 * S, line, sizeof(line));
	assert_string_equal(line,
	                    "preempt volume 1 done; preempt volume 2 under way; power device 1 "
	                    "failed 1 times (Input/output error); lease over in 5s");
	view.lease_proof = false;
	fence_describe(&fence, &view, 95 * S, line, sizeof(line));
	assert_non_null(strstr(line, "its silence is no proof"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		T(all_ways_begin_at_once),
		T(an_aborted_volume_is_proven_at_once_another_after_what_is_in_flight),
		T(power_proves_when_it_was_read_back_and_the_disks_are_quiet),
		T(a_failed_level_gives_way_to_the_next_which_needs_all_its_devices),
		T(a_hanging_device_is_given_up_and_its_late_answer_not_heard),
		T(other_devices_begin_anew_and_late_answers_of_the_old_are_not_heard),
		T(two_supplies_are_off_only_if_they_were_so_together),
		T(one_that_is_asked_again_has_not_failed),
		T(tries_become_rarer),
		T(silence_proves_only_with_a_watchdog),
		T(others_may_be_given_the_first_shot),
		T(what_cannot_be_reached_is_not_tried),
		T(many_volumes_come_in_several_steps),
		T(an_abort_is_of_the_try_that_did_it),
		T(of_all_volumes_or_none),
		T(other_keys_begin_anew_and_late_answers_about_the_old_are_not_heard),
		T(people_are_told_what_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
