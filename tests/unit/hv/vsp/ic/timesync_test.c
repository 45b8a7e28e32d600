/* SPDX-License-Identifier: Apache-2.0 */

/* The guest's clock: stepped twice when it starts or wakes, then fed with samples. */

#include <string.h>

#include "base/clock.h"
#include "tests/lib/ic_guest.h"
#include "tests/lib/test.h"

#define EPOCH 116444736000000000ull

static struct ic_timesync sample(const struct icg_message *m)
{
	struct ic_timesync t;

	assert_int_equal(le16_get(m->h.type), IC_TIMESYNC);
	assert_int_equal(m->bytes, sizeof(t));
	memcpy(&t, m->payload, sizeof(t));
	return t;
}

/* Wait for a message with these flags; returns how long it took. */
static uint64_t wait_for(struct icg *i, uint8_t flags)
{
	uint64_t begin_ns = clock_now_ns();
	struct icg_message m;

	icg_wait(i, &m);
	assert_int_equal(sample(&m).flags, flags);
	return clock_now_ns() - begin_ns;
}

static void the_time_is_right_and_of_one_instant(void **state)
{
	uint64_t before = clock_wall_ns() / 100 + EPOCH;
	struct icg_message m;
	struct ic_timesync t;
	struct icg i;

	(void)state;
	icg_create(ic_timesync_create, &i);
	i.reference_time = 41;
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	icg_wait(&i, &m);
	t = sample(&m);
	assert_true(le64_get(t.host_time) >= before);
	assert_true(le64_get(t.host_time) <= clock_wall_ns() / 100 + EPOCH);
	assert_int_equal(le64_get(t.reference_time), 42);
	assert_int_equal(t.flags, IC_TIME_SYNC);
	icg_destroy(&i);
}

static void older_guests_get_the_older_message(void **state)
{
	static const uint16_t majors[] = {3, 1};

	(void)state;
	for (size_t n = 0; n < 2; n++) {
		uint64_t before = clock_wall_ns() / 100 + EPOCH;
		struct ic_timesync_v3 t;
		struct icg_message m;
		struct icg i;

		icg_create(ic_timesync_create, &i);
		icg_open(&i);
		icg_negotiate(&i, majors[n], 0);
		icg_wait(&i, &m);
		assert_int_equal(m.bytes, sizeof(t));
		memcpy(&t, m.payload, sizeof(t));
		assert_true(le64_get(t.parent_time) >= before);
		assert_int_equal(t.flags, IC_TIME_SYNC);
		icg_destroy(&i);
	}
}

static void the_clock_is_stepped_twice(void **state)
{
	struct icg i;

	(void)state;
	icg_create(ic_timesync_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	(void)wait_for(&i, IC_TIME_SYNC);
	assert_true(wait_for(&i, IC_TIME_SYNC) > NS_PER_S / 2);
	icg_destroy(&i);
}

/* After the second step the next sample is five seconds away. Whatever wakes the service before
 * (another open, a pause) steps twice, a second apart, and does not wait for that sample. */
static void a_timer_that_is_too_late_is_replaced(void **state)
{
	struct icg i;

	(void)state;
	icg_create(ic_timesync_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	(void)wait_for(&i, IC_TIME_SYNC);
	(void)wait_for(&i, IC_TIME_SYNC);
	icg_close(&i);
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	assert_true(wait_for(&i, IC_TIME_SYNC) < NS_PER_S);
	assert_true(wait_for(&i, IC_TIME_SYNC) < 3 * NS_PER_S);
	icg_pause(&i);
	icg_resume(&i);
	assert_true(wait_for(&i, IC_TIME_SYNC) < NS_PER_S);
	assert_true(wait_for(&i, IC_TIME_SYNC) < 3 * NS_PER_S);
	icg_destroy(&i);
}

static void a_timer_that_is_too_early_is_not_taken_for_another(void **state)
{
	uint64_t begin_ns;
	struct icg i;

	(void)state;
	icg_create(ic_timesync_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	(void)wait_for(&i, IC_TIME_SYNC);
	/* Half a second before the timer of the first step is due. */
	begin_ns = clock_now_ns();
	guest_run_until(i.g, clock_now_ns() > begin_ns + NS_PER_S / 2);
	icg_close(&i);
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	(void)wait_for(&i, IC_TIME_SYNC);
	assert_true(wait_for(&i, IC_TIME_SYNC) > NS_PER_S * 8 / 10);
	icg_destroy(&i);
}

static void a_guest_that_was_moved_is_stepped_again(void **state)
{
	struct icg i;

	(void)state;
	icg_create(ic_timesync_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 4, 0);
	(void)wait_for(&i, IC_TIME_SYNC);
	icg_move(&i, false);
	assert_true(wait_for(&i, IC_TIME_SYNC) < NS_PER_S / 2);
	icg_move(&i, true);
	assert_true(wait_for(&i, IC_TIME_SYNC) < NS_PER_S / 2);
	(void)wait_for(&i, IC_TIME_SYNC);
	icg_destroy(&i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_time_is_right_and_of_one_instant),
		cmocka_unit_test(older_guests_get_the_older_message),
		cmocka_unit_test(the_clock_is_stepped_twice),
		cmocka_unit_test(a_timer_that_is_too_late_is_replaced),
		cmocka_unit_test(a_timer_that_is_too_early_is_not_taken_for_another),
		cmocka_unit_test(a_guest_that_was_moved_is_stepped_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
