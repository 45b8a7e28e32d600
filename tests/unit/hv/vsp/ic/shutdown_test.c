/* SPDX-License-Identifier: Apache-2.0 */

/* Asking a guest to power off. */

#include <errno.h>
#include <string.h>

#include "tests/lib/ic_guest.h"
#include "tests/lib/test.h"

struct outcome {
	uint32_t times;
	int status;
};

static void done(void *arg, int status)
{
	struct outcome *o = arg;

	o->times++;
	o->status = status;
}

static struct ic_shutdown request(const struct icg_message *m)
{
	struct ic_shutdown s;

	assert_int_equal(le16_get(m->h.type), IC_SHUTDOWN);
	assert_int_equal(m->bytes, sizeof(s));
	memcpy(&s, m->payload, sizeof(s));
	return s;
}

static void the_guest_is_asked_and_its_answer_told(void **state)
{
	struct outcome o = {.times = 0};
	struct ic_shutdown want;
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_shutdown_create, &i);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), -ENOTCONN);
	icg_open(&i);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), -ENOTCONN);
	icg_negotiate(&i, 3, 2);
	for (uint32_t n = 0; n < 8; n++) {
		bool restart = n % 2 != 0;
		bool force = n / 2 % 2 != 0;
		bool refuse = n >= 4;

		o = (struct outcome){.times = 0};
		assert_int_equal(ic_shutdown_request(i.vsp, restart, force, "by hand", done, &o),
		                 0);
		assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), -EBUSY);
		icg_wait(&i, &m);
		want = request(&m);
		assert_int_equal(le32_get(want.flags), (restart ? 2 : 0) | (force ? 1 : 0));
		assert_memory_equal(want.text, "b\0y\0 \0h\0a\0n\0d\0\0\0", 16);
		assert_int_equal(o.times, 0);
		icg_answer(&i, &m, refuse ? IC_STATUS_FAIL : IC_STATUS_OK);
		guest_run_until(i.g, o.times == 1);
		assert_int_equal(o.status, refuse ? -EIO : 0);
		icg_answer(&i, &m, IC_STATUS_OK); /* twice is once */
		guest_settle(i.g);
		assert_int_equal(o.times, 1);
	}
	icg_destroy(&i);
}

static void a_late_answer_does_not_answer_the_next_request(void **state)
{
	struct outcome o = {.times = 0};
	struct icg_message first;
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_shutdown_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 2);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), 0);
	icg_wait(&i, &first);
	icg_answer(&i, &first, IC_STATUS_OK);
	guest_run_until(i.g, o.times == 1);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), 0);
	icg_wait(&i, &m);
	icg_answer(&i, &first, IC_STATUS_FAIL);
	guest_settle(i.g);
	assert_int_equal(o.times, 1);
	icg_answer(&i, &m, IC_STATUS_OK);
	guest_run_until(i.g, o.times == 2);
	assert_int_equal(o.status, 0);
	icg_destroy(&i);
}

static void a_service_that_goes_away_ends_the_request(void **state)
{
	struct outcome o = {.times = 0};
	struct icg i;

	(void)state;
	icg_create(ic_shutdown_create, &i);
	for (uint32_t n = 0; n < 2; n++) {
		o.times = 0;
		icg_open(&i);
		icg_negotiate(&i, 3, 0);
		assert_int_equal(ic_shutdown_request(i.vsp, true, false, "", done, &o), 0);
		if (n == 0) {
			icg_close(&i);
		} else {
			guest_unload(i.g);
			guest_abandon(i.chan);
			guest_boot(i.g);
		}
		assert_int_equal(o.times, 1);
		assert_int_equal(o.status, -ENOTCONN);
	}
	icg_destroy(&i);
}

static void a_request_under_way_survives_a_move_but_its_asker_does_not(void **state)
{
	struct outcome o = {.times = 0};
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_shutdown_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 1);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), 0);
	icg_move(&i, false);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), -EBUSY);
	icg_wait(&i, &m);
	icg_answer(&i, &m, IC_STATUS_OK);
	guest_run_until(i.g, ic_shutdown_request(i.vsp, false, false, "", done, &o) == 0);
	assert_int_equal(o.times, 0);
	icg_wait(&i, &m);
	icg_answer(&i, &m, IC_STATUS_OK);
	guest_run_until(i.g, o.times == 1);
	icg_destroy(&i);
}

static void a_paused_guest_is_not_asked(void **state)
{
	struct outcome o = {.times = 0};
	struct icg i;

	(void)state;
	icg_create(ic_shutdown_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 2);
	icg_pause(&i);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), -ENOTCONN);
	icg_resume(&i);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, "", done, &o), 0);
	icg_destroy(&i);
	assert_int_equal(o.times, 1);
}

static void a_text_of_any_length_fits(void **state)
{
	static char text[5000];
	struct outcome o = {.times = 0};
	struct icg_message m;
	struct ic_shutdown s;
	struct icg i;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	icg_create(ic_shutdown_create, &i);
	icg_open(&i);
	icg_negotiate(&i, 3, 2);
	assert_int_equal(ic_shutdown_request(i.vsp, false, false, text, done, &o), 0);
	icg_wait(&i, &m);
	s = request(&m);
	assert_memory_equal(s.text + sizeof(s.text) - 4, "x\0\0\0", 4);
	icg_destroy(&i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_guest_is_asked_and_its_answer_told),
		cmocka_unit_test(a_late_answer_does_not_answer_the_next_request),
		cmocka_unit_test(a_service_that_goes_away_ends_the_request),
		cmocka_unit_test(a_request_under_way_survives_a_move_but_its_asker_does_not),
		cmocka_unit_test(a_paused_guest_is_not_asked),
		cmocka_unit_test(a_text_of_any_length_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
