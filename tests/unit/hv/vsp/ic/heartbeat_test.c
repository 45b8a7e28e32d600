/* SPDX-License-Identifier: Apache-2.0 */

/* The heartbeat: two seconds apart, healthy while the guest answers. */

#include <string.h>

#include "base/clock.h"
#include "tests/lib/ic_guest.h"
#include "tests/lib/test.h"

static uint64_t sequence(const struct icg_message *m)
{
	struct ic_heartbeat h;

	assert_int_equal(le16_get(m->h.type), IC_HEARTBEAT);
	assert_int_equal(m->bytes, sizeof(h));
	memcpy(&h, m->payload, sizeof(h));
	return le64_get(h.sequence);
}

static void answer(struct icg *i, struct icg_message *m)
{
	const struct ic_heartbeat h = {.sequence = le64_make(sequence(m) + 1)};

	memcpy(m->payload, &h, sizeof(h));
	icg_answer(i, m, IC_STATUS_OK);
}

static void beats_come_every_two_seconds_with_a_number(void **state)
{
	struct icg_message m;
	uint64_t begin_ns;
	uint64_t took_ns;
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	icg_open(&i);
	begin_ns = clock_now_ns();
	icg_negotiate(&i, 3, 0);
	icg_wait(&i, &m);
	assert_int_equal(sequence(&m), 0);
	assert_int_equal(le16_get(m.h.service.major), 3);
	answer(&i, &m);
	icg_wait(&i, &m);
	took_ns = clock_now_ns() - begin_ns;
	assert_int_equal(sequence(&m), 1);
	assert_true(took_ns >= IC_HEARTBEAT_PERIOD_NS);
	assert_true(took_ns < 3 * IC_HEARTBEAT_PERIOD_NS);
	icg_destroy(&i);
}

static void a_guest_that_stops_answering_is_lost(void **state)
{
	uint64_t now_ns;
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	assert_int_equal(ic_heartbeat_health(i.vsp, clock_now_ns()), IC_HEALTH_NONE);
	icg_open(&i);
	assert_int_equal(ic_heartbeat_health(i.vsp, clock_now_ns()), IC_HEALTH_NONE);
	now_ns = clock_now_ns();
	icg_negotiate(&i, 3, 0);
	assert_int_equal(ic_heartbeat_health(i.vsp, 0), IC_HEALTH_OK); /* an old clock */
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns), IC_HEALTH_OK);
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns + IC_HEARTBEAT_LOST_NS), IC_HEALTH_OK);
	assert_int_equal(
		ic_heartbeat_health(i.vsp, clock_now_ns() + IC_HEARTBEAT_LOST_NS + NS_PER_S),
		IC_HEALTH_LOST);
	/* An answer makes it healthy from then on. */
	icg_wait(&i, &m);
	answer(&i, &m);
	guest_settle(i.g);
	now_ns = clock_now_ns();
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns + IC_HEARTBEAT_LOST_NS - NS_PER_S),
	                 IC_HEALTH_OK);
	icg_pause(&i);
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns), IC_HEALTH_NONE);
	icg_resume(&i);
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns), IC_HEALTH_NONE); /* not asked yet */
	guest_settle(i.g);
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns), IC_HEALTH_OK);
	icg_close(&i);
	assert_int_equal(ic_heartbeat_health(i.vsp, now_ns), IC_HEALTH_NONE);
	icg_destroy(&i);
}

static void an_empty_answer_is_none(void **state)
{
	struct icg_message m;
	uint64_t later_ns;
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 0);
	later_ns = clock_now_ns() + IC_HEARTBEAT_LOST_NS + 1;
	icg_wait(&i, &m);
	guest_run_until(i.g, clock_now_ns() > later_ns - IC_HEARTBEAT_LOST_NS);
	m.bytes = 0;
	m.h.payload_bytes = le16_make(0);
	icg_answer(&i, &m, IC_STATUS_OK);
	guest_settle(i.g);
	assert_int_equal(ic_heartbeat_health(i.vsp, later_ns + NS_PER_S), IC_HEALTH_LOST);
	icg_destroy(&i);
}

static void the_number_goes_on_after_a_move(void **state)
{
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 0);
	for (uint64_t n = 0; n < 6; n++) {
		icg_wait(&i, &m); /* at once after a move: the guest is seen to live */
		assert_int_equal(sequence(&m), n);
		if (n % 2 == 0) {
			answer(&i, &m);
		}
		icg_move(&i, n % 2 == 0);
		guest_settle(i.g);
		assert_int_equal(ic_heartbeat_health(i.vsp, clock_now_ns()), IC_HEALTH_OK);
	}
	icg_destroy(&i);
}

static void a_guest_that_reads_nothing_does_not_stop_the_service(void **state)
{
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 0);
	/* Each move brings a beat; the ring holds about a hundred. */
	for (uint32_t n = 0; n < 150; n++) {
		icg_pause(&i);
		icg_resume(&i);
		guest_settle(i.g);
	}
	for (uint32_t n = 0; icg_take(&i, &m); n++) {
		assert_int_equal(sequence(&m), n);
	}
	icg_wait(&i, &m); /* and it beats on */
	icg_destroy(&i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(beats_come_every_two_seconds_with_a_number),
		cmocka_unit_test(a_guest_that_stops_answering_is_lost),
		cmocka_unit_test(an_empty_answer_is_none),
		cmocka_unit_test(the_number_goes_on_after_a_move),
		cmocka_unit_test(a_guest_that_reads_nothing_does_not_stop_the_service),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
