/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/lock/csv_lock.h"
#include "tests/lib/test.h"

#define SEC 1000000000ull

static struct csv_lock *make(uint32_t locks_max, bool grace)
{
	const struct csv_lock_cfg cfg = {
		.locks_max = locks_max, .per_client_max = locks_max - 2, .grace = grace};
	struct csv_lock *l;

	assert_int_equal(csv_lock_create(&cfg, &l, NULL), 0);
	return l;
}

/* Number n of node n % 10: lock 12 is of node 2. */
static struct csv_lock_id id_of(uint64_t number)
{
	return (struct csv_lock_id){.owner = {(uint32_t)(number % 10), 1}, .number = number};
}

static struct csv_lock_req req_of(uint64_t number, enum csv_lock_mode mode)
{
	return (struct csv_lock_req){
		.id = id_of(number),
		.name = {7, 0},
		.mode = mode,
		.to = CSV_LOCK_END,
		.arg = number + 1000,
	};
}

static int ask(struct csv_lock *l, uint64_t number, enum csv_lock_mode mode, uint64_t now_ns)
{
	struct csv_lock_req req = req_of(number, mode);
	int err = csv_lock_request(l, &req, now_ns, NULL);

	csv_lock_verify(l);
	return err;
}

static int convert(struct csv_lock *l, uint64_t number, enum csv_lock_mode mode, uint64_t now_ns)
{
	const struct csv_lock_change change = {.mode = mode, .arg = number + 2000};
	struct csv_lock_id id = id_of(number);
	int err = csv_lock_convert(l, &id, &change, now_ns, NULL);

	csv_lock_verify(l);
	return err;
}

static void release(struct csv_lock *l, uint64_t number, uint64_t now_ns)
{
	struct csv_lock_id id = id_of(number);

	assert_int_equal(csv_lock_release(l, &id, now_ns), 0);
	csv_lock_verify(l);
}

static void expect(struct csv_lock *l, enum csv_lock_action_type type, uint64_t number,
                   uint32_t mode)
{
	struct csv_lock_action a;

	assert_true(csv_lock_next_action(l, &a));
	assert_int_equal(a.type, type);
	assert_true(a.id.number == number && a.id.owner.node == number % 10);
	assert_true(a.name.object == 7);
	if (type == CSV_LOCK_GRANTED || type == CSV_LOCK_NOTICE) {
		assert_int_equal(a.mode, mode);
	}
}

static void expect_silence(struct csv_lock *l)
{
	struct csv_lock_action a;

	assert_false(csv_lock_next_action(l, &a));
}

static void modes_agree_as_the_table_says(void **state)
{
	static const char *const table[] = {
		/*      NL CR CW PR PW EX */
		"++++++", "+++++-", "+++---", "++-+--", "++----", "+-----",
	};

	(void)state;
	for (uint32_t a = CSV_LOCK_NL; a <= CSV_LOCK_EX; a++) {
		for (uint32_t b = CSV_LOCK_NL; b <= CSV_LOCK_EX; b++) {
			assert_int_equal(csv_lock_compatible(CSV_LOCK_MODES, a, b),
			                 table[a][b] == '+');
		}
	}
	assert_string_equal(csv_lock_mode_name(CSV_LOCK_PW), "PW");

	/* Opens: a VM that writes and lets others read, backup, a second writer. */
	uint32_t vm = CSV_LOCK_SHARE_MODE(CSV_LOCK_READ | CSV_LOCK_WRITE, CSV_LOCK_READ);
	uint32_t backup = CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_READ | CSV_LOCK_WRITE);
	uint32_t strict = CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_READ);
	uint32_t stat = CSV_LOCK_SHARE_MODE(0, CSV_LOCK_ALL);

	assert_true(csv_lock_compatible(CSV_LOCK_SHARES, vm, backup));
	assert_true(csv_lock_compatible(CSV_LOCK_SHARES, backup, vm));
	assert_false(csv_lock_compatible(CSV_LOCK_SHARES, vm, vm));
	assert_false(csv_lock_compatible(CSV_LOCK_SHARES, vm, strict));
	assert_true(csv_lock_compatible(CSV_LOCK_SHARES, strict, strict));
	assert_true(csv_lock_compatible(CSV_LOCK_SHARES, stat, vm));
}

static void readers_do_not_overtake_a_writer_who_waits(void **state)
{
	struct csv_lock *l = make(16, false);

	(void)state;
	assert_int_equal(ask(l, 1, CSV_LOCK_PR, 1), 0);
	assert_int_equal(ask(l, 2, CSV_LOCK_EX, 2), -EINPROGRESS);
	expect(l, CSV_LOCK_NOTICE, 1, CSV_LOCK_EX);
	assert_int_equal(ask(l, 3, CSV_LOCK_PR, 3), -EINPROGRESS);
	assert_int_equal(ask(l, 4, CSV_LOCK_PR, 4), -EINPROGRESS);
	assert_int_equal(ask(l, 5, CSV_LOCK_NL, 4), 0);
	expect_silence(l);
	assert_int_equal(ask(l, 3, CSV_LOCK_PR, 5), -EINPROGRESS); /* asked again */
	assert_int_equal(ask(l, 3, CSV_LOCK_EX, 5), -EEXIST);
	release(l, 1, 10);
	expect(l, CSV_LOCK_GRANTED, 2, CSV_LOCK_EX);
	expect(l, CSV_LOCK_NOTICE, 2, CSV_LOCK_PR);
	expect_silence(l);
	release(l, 2, 20);
	expect(l, CSV_LOCK_GRANTED, 3, CSV_LOCK_PR);
	expect(l, CSV_LOCK_GRANTED, 4, CSV_LOCK_PR);
	expect_silence(l);

	struct csv_lock_stats stats;

	csv_lock_get_stats(l, &stats);
	assert_int_equal(stats.granted_later, 3);
	assert_int_equal(stats.granted_at_once, 2);
	assert_int_equal(stats.wait_max_ns, 17);
	assert_int_equal(csv_lock_wait_ns(l, 990), 17);
	assert_int_equal(csv_lock_wait_ns(l, 300), 9);
	csv_lock_destroy(l);
}

static void ranges_that_do_not_touch_do_not_wait(void **state)
{
	struct csv_lock *l = make(16, false);
	struct csv_lock_req req = req_of(1, CSV_LOCK_EX);
	struct csv_lock_conflict conflict;

	(void)state;
	req.to = 100;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	req.id = id_of(2);
	req.from = 100;
	req.to = 200;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	req.id = id_of(3);
	req.from = 50;
	req.to = 150;
	assert_int_equal(csv_lock_request(l, &req, 2, NULL), -EINPROGRESS);
	/* Behind one that waits, although nothing is granted there. */
	req.id = id_of(4);
	req.from = 120;
	req.to = 130;
	req.try_only = true;
	assert_int_equal(csv_lock_request(l, &req, 2, &conflict), -EBUSY);
	assert_true(conflict.id.number == 2 && !conflict.waiting);
	req.from = 0;
	req.to = 0;
	assert_int_equal(csv_lock_request(l, &req, 2, NULL), -EINVAL);
	expect(l, CSV_LOCK_NOTICE, 1, CSV_LOCK_EX);
	expect(l, CSV_LOCK_NOTICE, 2, CSV_LOCK_EX);
	release(l, 1, 3);
	expect_silence(l);
	release(l, 2, 3);
	expect(l, CSV_LOCK_GRANTED, 3, CSV_LOCK_EX);
	csv_lock_destroy(l);
}

static void a_conversion_goes_before_those_who_wait_for_it(void **state)
{
	struct csv_lock *l = make(16, false);

	(void)state;
	assert_int_equal(ask(l, 1, CSV_LOCK_PR, 1), 0);
	assert_int_equal(ask(l, 2, CSV_LOCK_CR, 1), 0);
	assert_int_equal(ask(l, 3, CSV_LOCK_PW, 2), -EINPROGRESS); /* waits for 1 */
	expect(l, CSV_LOCK_NOTICE, 1, CSV_LOCK_PW);

	/* 2 is not in the way of 3 and does not get into it. */
	assert_int_equal(convert(l, 2, CSV_LOCK_PR, 3), -EINPROGRESS);
	/* 1 is, and goes first: but 2 has CR. */
	assert_int_equal(convert(l, 1, CSV_LOCK_EX, 4), -EDEADLK);
	assert_int_equal(convert(l, 1, CSV_LOCK_CR, 5), 0);
	expect(l, CSV_LOCK_GRANTED, 3, CSV_LOCK_PW);
	expect(l, CSV_LOCK_NOTICE, 3, CSV_LOCK_PR);
	expect_silence(l);
	release(l, 3, 6);
	expect(l, CSV_LOCK_GRANTED, 2, CSV_LOCK_PR);
	csv_lock_destroy(l);
}

static void two_conversions_that_wait_for_each_other_are_noticed(void **state)
{
	struct csv_lock *l = make(16, false);
	const struct csv_lock_change change = {.mode = CSV_LOCK_EX};
	struct csv_lock_conflict conflict;
	struct csv_lock_id id = id_of(2);

	(void)state;
	assert_int_equal(ask(l, 1, CSV_LOCK_PR, 1), 0);
	assert_int_equal(ask(l, 2, CSV_LOCK_PR, 1), 0);
	assert_int_equal(convert(l, 1, CSV_LOCK_EX, 2), -EINPROGRESS);
	assert_int_equal(convert(l, 1, CSV_LOCK_EX, 2), -EINPROGRESS);
	assert_int_equal(convert(l, 1, CSV_LOCK_PW, 2), -EALREADY);
	assert_int_equal(csv_lock_convert(l, &id, &change, 3, &conflict), -EDEADLK);
	assert_true(conflict.id.number == 1);
	expect(l, CSV_LOCK_NOTICE, 2, CSV_LOCK_EX);
	assert_int_equal(convert(l, 2, CSV_LOCK_NL, 3), 0);
	expect(l, CSV_LOCK_GRANTED, 1, CSV_LOCK_EX);
	expect_silence(l);
	csv_lock_destroy(l);
}

/* Asked again before the grant was passed on. */
static void a_grant_that_is_on_its_way_is_not_lost(void **state)
{
	struct csv_lock *l = make(16, false);

	(void)state;
	assert_int_equal(ask(l, 1, CSV_LOCK_CR, 1), 0);
	assert_int_equal(ask(l, 2, CSV_LOCK_PW, 1), 0);
	assert_int_equal(convert(l, 1, CSV_LOCK_EX, 2), -EINPROGRESS);
	expect(l, CSV_LOCK_NOTICE, 2, CSV_LOCK_EX);
	release(l, 2, 3);
	assert_int_equal(convert(l, 1, CSV_LOCK_EX, 4), -EINPROGRESS);
	assert_int_equal(convert(l, 1, CSV_LOCK_NL, 4), -EALREADY);
	expect(l, CSV_LOCK_GRANTED, 1, CSV_LOCK_EX);
	expect_silence(l);
	assert_int_equal(convert(l, 1, CSV_LOCK_NL, 5), 0);
	csv_lock_destroy(l);
}

static void who_does_not_listen_is_revoked_and_then_fenced(void **state)
{
	struct csv_lock *l = make(16, false);
	struct csv_lock_id one = id_of(1);
	const struct csv_lock_change change = {.mode = CSV_LOCK_NL};

	(void)state;
	assert_int_equal(ask(l, 1, CSV_LOCK_EX, 0), 0);
	assert_int_equal(csv_lock_next_ns(l) == UINT64_MAX, 1);
	assert_int_equal(ask(l, 2, CSV_LOCK_EX, SEC), -EINPROGRESS);
	expect(l, CSV_LOCK_NOTICE, 1, CSV_LOCK_EX);
	assert_true(csv_lock_next_ns(l) == 6 * SEC);
	csv_lock_tick(l, 6 * SEC - 1);
	expect_silence(l);
	csv_lock_tick(l, 6 * SEC);
	expect(l, CSV_LOCK_REVOKE, 1, 0);
	expect_silence(l);
	assert_int_equal(csv_lock_convert(l, &one, &change, 7 * SEC, NULL), -ESTALE);
	assert_true(csv_lock_next_ns(l) == 16 * SEC);
	csv_lock_tick(l, 16 * SEC);
	expect(l, CSV_LOCK_FENCE, 1, 0);
	csv_lock_tick(l, 100 * SEC);
	expect_silence(l); /* and still nobody else has it */
	assert_int_equal(csv_lock_purge(l, &one.owner, 101 * SEC), 1);
	expect(l, CSV_LOCK_GRANTED, 2, CSV_LOCK_EX);
	csv_lock_verify(l);

	/* Who is in nobody's way any more starts anew. */
	assert_int_equal(ask(l, 3, CSV_LOCK_EX, 200 * SEC), -EINPROGRESS);
	expect(l, CSV_LOCK_NOTICE, 2, CSV_LOCK_EX);
	struct csv_lock_id three = id_of(3);

	assert_int_equal(csv_lock_cancel(l, &three, 201 * SEC), 0);
	assert_true(csv_lock_next_ns(l) == UINT64_MAX);
	assert_int_equal(csv_lock_cancel(l, &three, 201 * SEC), -ENOENT);
	three = id_of(2);
	assert_int_equal(csv_lock_cancel(l, &three, 201 * SEC), -EALREADY);
	csv_lock_destroy(l);
}

static void a_proof_is_about_one_run_and_those_before(void **state)
{
	struct csv_lock *l = make(16, false);
	struct csv_lock_req req = req_of(1, CSV_LOCK_CR);
	struct csv_lock_owner owner = {1, 5};

	(void)state;
	for (uint64_t inc = 4; inc <= 6; inc++) {
		req.id.owner.incarnation = inc;
		assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	}
	assert_int_equal(csv_lock_purge(l, &owner, 2), 2);
	assert_int_equal(csv_lock_purge(l, &owner, 2), 0);
	owner.node = 2;
	owner.incarnation = 100;
	assert_int_equal(csv_lock_purge(l, &owner, 2), 0);
	csv_lock_verify(l);
	csv_lock_destroy(l);
}

static void in_grace_only_what_was_held_is_taken(void **state)
{
	struct csv_lock *l = make(16, true);
	struct csv_lock_req req = req_of(1, CSV_LOCK_PW);
	struct csv_lock_conflict conflict;

	(void)state;
	assert_int_equal(ask(l, 9, CSV_LOCK_CR, 1), -EAGAIN);
	req.reclaim = true;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0); /* again */
	req = req_of(2, CSV_LOCK_PR);
	req.reclaim = true;
	assert_int_equal(csv_lock_request(l, &req, 2, &conflict), -EBUSY);
	assert_true(conflict.id.number == 1 && conflict.mode == CSV_LOCK_PW);
	req.mode = CSV_LOCK_CR;
	assert_int_equal(csv_lock_request(l, &req, 2, NULL), 0);
	assert_int_equal(convert(l, 2, CSV_LOCK_EX, 3), -EAGAIN);
	assert_int_equal(convert(l, 1, CSV_LOCK_CR, 3), 0);
	csv_lock_set_grace(l, false);
	assert_int_equal(ask(l, 9, CSV_LOCK_CR, 4), 0);
	req.id.number = 12;
	assert_int_equal(csv_lock_request(l, &req, 4, NULL), -ESTALE);

	struct csv_lock_stats stats;

	csv_lock_get_stats(l, &stats);
	assert_int_equal(stats.reclaimed, 2);
	assert_int_equal(stats.reclaim_conflicts, 1);
	assert_int_equal(stats.in_grace, 2);
	csv_lock_verify(l);
	csv_lock_destroy(l);
}

static void count(void *arg, const struct csv_lock_info *info)
{
	assert_int_equal(info->state, CSV_LOCK_HELD);
	(*(uint32_t *)arg)++;
}

static void what_is_full_refuses_and_stays_as_it_is(void **state)
{
	struct csv_lock *l = make(8, false); /* 6 for a client */
	struct csv_lock_req req = req_of(1, CSV_LOCK_CR);
	struct csv_lock_stats before;
	struct csv_lock_stats after;
	uint32_t seen = 0;

	(void)state;
	for (uint64_t i = 0; i < 6; i++) {
		req.id.number = i;
		req.name.object = i;
		assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	}
	req.id.number = 6;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), -EDQUOT);
	req.id.owner.node = 2;
	for (uint64_t i = 0; i < 2; i++) {
		req.id.number = i;
		assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	}
	csv_lock_get_stats(l, &before);
	req.id.number = 9;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), -ENOSPC);
	csv_lock_get_stats(l, &after);
	assert_int_equal(before.locks, after.locks);
	assert_int_equal(before.resources, after.resources);
	csv_lock_verify(l);
	csv_lock_walk(l, NULL, count, &seen);
	assert_int_equal(seen, 8);
	seen = 0;
	csv_lock_walk(l, &req.id.owner, count, &seen);
	assert_int_equal(seen, 2);

	/* The classes do not mix, modes are checked. */
	struct csv_lock_id one = {.owner = {1, 1}, .number = 1};

	assert_int_equal(csv_lock_release(l, &one, 2), 0);
	assert_int_equal(csv_lock_release(l, &one, 2), -ENOENT);
	req.name.object = 3;
	req.class = CSV_LOCK_SHARES;
	req.mode = CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_READ);
	assert_int_equal(csv_lock_request(l, &req, 2, NULL), -EINVAL);
	req.name.object = 33;
	req.mode = 0x88;
	assert_int_equal(csv_lock_request(l, &req, 2, NULL), -EINVAL);
	csv_lock_verify(l);
	csv_lock_destroy(l);

	/* More clients than there can be. */
	l = make(200, false);
	req = req_of(1, CSV_LOCK_CR);
	for (uint32_t i = 0; i < CSV_LOCK_CLIENTS_MAX; i++) {
		req.id.owner.node = i;
		assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	}
	req.id.owner.node = CSV_LOCK_CLIENTS_MAX;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), -EUSERS);
	csv_lock_verify(l);
	csv_lock_destroy(l);
}

static void creation_survives_every_failed_allocation(void **state)
{
	const struct csv_lock_cfg cfg = {.locks_max = 100};
	const struct csv_lock_cfg wrong = {.locks_max = CSV_LOCK_MAX + 1};
	struct errbuf eb = {0};
	struct csv_lock *l;
	uint32_t k;

	(void)state;
	for (k = 1; fault_arm(FAULT_ALLOC, k), csv_lock_create(&cfg, &l, &eb) == -ENOMEM; k++) {
		assert_null(l);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 4);
	assert_true(csv_lock_memory(l) > 100 * 100);
	csv_lock_destroy(l);
	csv_lock_destroy(NULL);
	assert_int_equal(csv_lock_create(&wrong, &l, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "at most"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes_agree_as_the_table_says),
		cmocka_unit_test(readers_do_not_overtake_a_writer_who_waits),
		cmocka_unit_test(ranges_that_do_not_touch_do_not_wait),
		cmocka_unit_test(a_conversion_goes_before_those_who_wait_for_it),
		cmocka_unit_test(two_conversions_that_wait_for_each_other_are_noticed),
		cmocka_unit_test(a_grant_that_is_on_its_way_is_not_lost),
		cmocka_unit_test(who_does_not_listen_is_revoked_and_then_fenced),
		cmocka_unit_test(a_proof_is_about_one_run_and_those_before),
		cmocka_unit_test(in_grace_only_what_was_held_is_taken),
		cmocka_unit_test(what_is_full_refuses_and_stays_as_it_is),
		cmocka_unit_test(creation_survives_every_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
