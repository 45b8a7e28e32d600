/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/pr/csv_pr.h"
#include "csv/pr/csv_pr_wire.h"
#include "tests/lib/test.h"
#include "tests/unit/csv/pr/fake_target.h"

#define A 0x00c0ff8100000001ull
#define B 0x00c0ff8200000001ull

struct pair {
	struct fake_target target;
	struct fake_path paths[FAKE_PATHS];
	struct csv_pr pr[FAKE_PATHS];
};

static void begin(struct pair *p)
{
	memset(p, 0, sizeof(*p));
	for (uint32_t i = 0; i < FAKE_PATHS; i++) {
		p->paths[i] = (struct fake_path){&p->target, i};
		csv_pr_init(&p->pr[i], &fake_door, &p->paths[i]);
	}
}

static void both_registered(struct pair *p)
{
	assert_int_equal(csv_pr_register(&p->pr[0], A, 0, false, NULL), 0);
	assert_int_equal(csv_pr_register(&p->pr[1], B, 0, false, NULL), 0);
	assert_int_equal(csv_pr_reserve(&p->pr[0], NULL), 0);
	assert_int_equal(csv_pr_reserve(&p->pr[1], NULL), 0);
}

/* ---- bytes ---- */

static void commands_are_as_the_standard_says(void **state)
{
	const uint8_t cdb_register[] = {0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0};
	const uint8_t data_register[24] = {0,    0,    0,    0,    0,    0, 0, 0, 0x11, 0x22, 0x33,
	                                   0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0,    1};
	const uint8_t cdb_preempt[] = {0x5f, 5, 7, 0, 0, 0, 0, 0, 24, 0};
	const uint8_t data_preempt[24] = {0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 2};
	const uint8_t cdb_read[] = {0x5e, 1, 0, 0, 0, 0, 0, 0x12, 0x34, 0};
	struct csv_pr_out out = {.action_key = 0x1122334455667788, .persist = true};
	uint8_t cdb[CSV_PR_CDB_BYTES];
	uint8_t data[24];

	(void)state;
	csv_pr_out_encode(&out, cdb, data);
	assert_memory_equal(cdb, cdb_register, sizeof(cdb));
	assert_memory_equal(data, data_register, sizeof(data));
	out = (struct csv_pr_out){.action = CSV_PR_PREEMPT_ABORT,
	                          .type = CSV_PR_WRITE_EX_ALL,
	                          .key = 9,
	                          .action_key = 0x102};
	csv_pr_out_encode(&out, cdb, data);
	assert_memory_equal(cdb, cdb_preempt, sizeof(cdb));
	assert_memory_equal(data, data_preempt, sizeof(data));
	csv_pr_in_encode(PR_IN_READ_RESERVATION, 0x1234, cdb);
	assert_memory_equal(cdb, cdb_read, sizeof(cdb));
}

static const uint8_t two_keys[] = {0, 0, 0, 5, 0, 0, 0, 16, 0, 0, 0, 0,
                                   0, 0, 0, 1, 0, 0, 0, 0,  0, 0, 0, 2};
static const uint8_t reserved[] = {0, 0, 0, 6, 0, 0, 0, 16, 0, 0, 0, 0,
                                   0, 0, 0, 1, 0, 0, 0, 0,  0, 7, 0, 0};
static const uint8_t can_all[] = {0, 8, 0x0d, 0x81, 0xea, 1, 0, 0};

static void answers_are_understood(void **state)
{
	struct csv_pr_keys keys;
	struct csv_pr_reservation r;
	struct csv_pr_capabilities c;

	(void)state;
	assert_int_equal(csv_pr_keys_decode(two_keys, sizeof(two_keys), &keys), 0);
	assert_int_equal(keys.generation, 5);
	assert_int_equal(keys.count, 2);
	assert_true(csv_pr_has(&keys, 2) && !csv_pr_has(&keys, 3));
	assert_int_equal(csv_pr_reservation_decode(reserved, sizeof(reserved), &r), 0);
	assert_int_equal(r.type, 7);
	assert_int_equal(r.key, 1);
	assert_int_equal(csv_pr_reservation_decode(two_keys, 8, &r), -EBADMSG);
	assert_int_equal(csv_pr_reservation_decode((const uint8_t[8]){0, 0, 0, 6}, 8, &r), 0);
	assert_int_equal(r.type, 0);
	assert_int_equal(csv_pr_capabilities_decode(can_all, sizeof(can_all), &c), 0);
	assert_true(c.can_persist && c.persists && c.types_known && c.write_ex_all &&
	            c.write_ex_registrants);
}

static void cut_and_flipped_answers_do_no_harm(void **state)
{
	struct csv_pr_keys keys;
	struct csv_pr_reservation r;
	struct csv_pr_capabilities c;
	uint8_t buf[32];

	(void)state;
	for (size_t len = 0; len < sizeof(two_keys); len++) {
		assert_int_equal(csv_pr_keys_decode(two_keys, len, &keys), -EBADMSG);
		assert_int_equal(csv_pr_reservation_decode(reserved, len, &r), -EBADMSG);
	}
	for (size_t len = 0; len < sizeof(can_all); len++) {
		assert_int_equal(csv_pr_capabilities_decode(can_all, len, &c), -EBADMSG);
	}
	for (uint32_t bit = 0; bit < 8 * sizeof(two_keys); bit++) {
		memcpy(buf, two_keys, sizeof(two_keys));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (csv_pr_keys_decode(buf, sizeof(two_keys), &keys) == 0) {
			assert_true(keys.count <= 2);
		}
		memcpy(buf, reserved, sizeof(reserved));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (csv_pr_reservation_decode(buf, sizeof(reserved), &r) == 0) {
			assert_true(r.type <= 15);
		}
	}
	memcpy(buf, two_keys, 8);
	buf[4] = 0xff; /* more keys than can be */
	buf[7] = 0xf8;
	assert_int_equal(csv_pr_keys_decode(buf, sizeof(buf), &keys), -E2BIG);
}

static void sense_of_both_formats_is_understood(void **state)
{
	const uint8_t fixed[18] = {0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 3};
	const uint8_t descriptors[8] = {0x72, 5, 0x24, 0};
	struct csv_pr_sense s;

	(void)state;
	assert_int_equal(csv_pr_sense_decode(fixed, sizeof(fixed), &s), 0);
	assert_true(s.key == 6 && s.asc == 0x2a && s.ascq == 3);
	assert_int_equal(csv_pr_sense_decode(descriptors, sizeof(descriptors), &s), 0);
	assert_true(s.key == 5 && s.asc == 0x24 && s.ascq == 0);
	for (size_t len = 0; len < 14; len++) {
		assert_int_equal(csv_pr_sense_decode(fixed, len, &s), -EBADMSG);
	}
	assert_int_equal(csv_pr_sense_decode((const uint8_t[20]){0x7f}, 20, &s), -EBADMSG);
}

static void no_two_runs_have_the_same_key(void **state)
{
	(void)state;
	assert_int_not_equal(csv_pr_key(0, 0, 0), 0);
	assert_int_not_equal(csv_pr_key(1, 0, 1), csv_pr_key(1, 1, 1));
	assert_int_not_equal(csv_pr_key(1, 63, 1), csv_pr_key(1, 63, 2));
	assert_int_not_equal(csv_pr_key(1, 0, 1), csv_pr_key(2, 0, 1));
}

/* ---- on a LUN ---- */

static void who_is_fenced_cannot_write_and_finds_out(void **state)
{
	struct errbuf eb = {0};
	struct pair p;

	(void)state;
	begin(&p);
	both_registered(&p);
	assert_int_equal(p.pr[0].level, CSV_PR_ABORT);
	assert_int_equal(p.target.type, 7);
	assert_true(p.pr[0].persists);
	assert_true(fake_may_write(&p.target, 1) && !fake_may_write(&p.target, 2));
	assert_int_equal(csv_pr_check(&p.pr[1], NULL), 0);

	assert_int_equal(csv_pr_preempt(&p.pr[0], B, &eb), 0);
	assert_false(fake_may_write(&p.target, 1));
	assert_int_equal(p.target.aborted, 1);
	assert_int_equal(csv_pr_check(&p.pr[0], NULL), 0);
	assert_int_equal(csv_pr_check(&p.pr[1], &eb), -ESTALE);
	assert_non_null(strstr(eb.text, "fenced"));
	assert_true(p.pr[1].attention);
	/* It cannot fence back. */
	assert_int_equal(csv_pr_preempt(&p.pr[1], A, NULL), -ESTALE);
	assert_int_equal(csv_pr_reserve(&p.pr[1], NULL), -ESTALE);
	assert_int_equal(csv_pr_leave(&p.pr[1], NULL), -ESTALE);
	assert_true(fake_may_write(&p.target, 0));
	/* A second fencer learns that it was not the one. */
	assert_int_equal(csv_pr_preempt(&p.pr[0], B, NULL), -EALREADY);
}

static void what_a_lun_cannot_do_is_said(void **state)
{
	struct pair p;

	(void)state;
	begin(&p);
	p.target.no_abort = true;
	both_registered(&p);
	assert_int_equal(p.pr[0].level, CSV_PR_PREEMPT_ONLY);
	assert_non_null(strstr(p.pr[0].reason, "PREEMPT AND ABORT"));
	assert_int_equal(csv_pr_preempt(&p.pr[0], B, NULL), 0);
	assert_int_equal(p.target.aborted, 0);

	begin(&p);
	p.target.no_abort = true;
	p.target.no_preempt = true;
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0, false, NULL), 0);
	assert_int_equal(p.pr[0].level, CSV_PR_NONE);
	assert_int_equal(csv_pr_preempt(&p.pr[0], B, NULL), -ENOTSUP);

	begin(&p);
	p.target.no_reservations = true;
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0, false, NULL), 0);
	assert_int_equal(p.pr[0].level, CSV_PR_NONE);
	assert_non_null(strstr(p.pr[0].reason, "no persistent reservations"));
	assert_int_equal(csv_pr_check(&p.pr[0], NULL), -ENOTSUP);

	begin(&p);
	p.target.unused_target = true;
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0, false, NULL), 0);
	assert_non_null(strstr(p.pr[0].reason, "no SCSI device"));
	assert_string_equal(csv_pr_level_name(p.pr[0].level), "none");

	for (int how = 0; how < 2; how++) {
		begin(&p);
		p.target.no_persist = how == 0;
		p.target.cannot_save = how == 1;
		both_registered(&p);
		assert_false(p.pr[0].persists);
		assert_int_equal(p.pr[0].level, CSV_PR_ABORT);
	}
}

static void without_type_7_the_holder_does_not_open_the_lun(void **state)
{
	struct pair p;

	(void)state;
	for (int how = 0; how < 3; how++) {
		begin(&p);
		p.target.no_all = how != 1;
		p.target.silent = how == 1;
		p.target.lies_about_all = how == 2;
		both_registered(&p);
		assert_int_equal(p.target.type, 5);
		assert_int_equal(csv_pr_leave(&p.pr[0], NULL), -EBUSY);
		/* It is preempted by another; the reservation goes on. */
		assert_int_equal(csv_pr_preempt(&p.pr[1], A, NULL), 0);
		assert_int_equal(p.target.type, 5);
		assert_false(fake_may_write(&p.target, 2));
		assert_int_equal(csv_pr_leave(&p.pr[1], NULL), 0);
		assert_int_equal(p.target.type, 0);
	}
}

static void one_after_the_other_leaves(void **state)
{
	struct pair p;

	(void)state;
	begin(&p);
	both_registered(&p);
	assert_int_equal(csv_pr_leave(&p.pr[0], NULL), 0);
	assert_int_equal(p.target.type, 7);
	assert_false(fake_may_write(&p.target, 0));
	assert_int_equal(csv_pr_leave(&p.pr[1], NULL), 0);
	assert_int_equal(p.target.type, 0);
	assert_int_equal(csv_pr_leave(&p.pr[1], NULL), 0);
}

static void an_old_key_is_replaced_only_knowingly(void **state)
{
	struct errbuf eb = {0};
	struct pair p;

	(void)state;
	begin(&p);
	p.target.keys[0] = 0x1234;
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0, false, &eb), -EBUSY);
	assert_non_null(strstr(eb.text, "another key"));
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0x1234, false, NULL), 0);
	assert_int_equal(csv_pr_register(&p.pr[1], A, 0, false, NULL), -EEXIST);
	p.target.keys[1] = 0x77;
	assert_int_equal(csv_pr_register(&p.pr[1], B, 0, true, NULL), 0);
	assert_int_equal(p.target.keys[1], B);
}

static void a_reservation_of_others_is_respected_and_a_lost_one_made_again(void **state)
{
	struct errbuf eb = {0};
	struct pair p;

	(void)state;
	begin(&p);
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0, false, NULL), 0);
	p.target.type = 3;
	assert_int_equal(csv_pr_reserve(&p.pr[0], &eb), -EBUSY);
	assert_non_null(strstr(eb.text, "type 3"));
	p.target.type = 0;
	assert_int_equal(csv_pr_check(&p.pr[0], NULL), 0);
	assert_int_equal(p.target.type, 7);
}

static void a_target_that_lies_gives_no_proof(void **state)
{
	struct pair p;

	(void)state;
	begin(&p);
	both_registered(&p);
	p.target.ignores_preempt = true;
	assert_int_equal(csv_pr_preempt(&p.pr[0], B, NULL), -EIO);
	assert_int_equal(csv_pr_check(&p.pr[1], NULL), 0);
}

static void a_command_without_an_answer_is_no_success(void **state)
{
	struct pair p;

	(void)state;
	for (uint32_t n = 1; n <= 3; n++) {
		begin(&p);
		both_registered(&p);
		p.target.fail = n;
		assert_true(csv_pr_preempt(&p.pr[0], B, NULL) != 0);
		assert_true(p.target.keys[0] == A);
	}
	for (uint32_t n = 1; n <= 4; n++) {
		begin(&p);
		p.target.fail = n;
		assert_true(csv_pr_register(&p.pr[0], A, 0, false, NULL) != 0 || p.pr[0].key == A);
	}
	begin(&p);
	p.target.attentions[0] = 100; /* more than we listen to */
	assert_int_equal(csv_pr_register(&p.pr[0], A, 0, false, NULL), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_as_the_standard_says),
		cmocka_unit_test(answers_are_understood),
		cmocka_unit_test(cut_and_flipped_answers_do_no_harm),
		cmocka_unit_test(sense_of_both_formats_is_understood),
		cmocka_unit_test(no_two_runs_have_the_same_key),
		cmocka_unit_test(who_is_fenced_cannot_write_and_finds_out),
		cmocka_unit_test(what_a_lun_cannot_do_is_said),
		cmocka_unit_test(without_type_7_the_holder_does_not_open_the_lun),
		cmocka_unit_test(one_after_the_other_leaves),
		cmocka_unit_test(an_old_key_is_replaced_only_knowingly),
		cmocka_unit_test(a_reservation_of_others_is_respected_and_a_lost_one_made_again),
		cmocka_unit_test(a_target_that_lies_gives_no_proof),
		cmocka_unit_test(a_command_without_an_answer_is_no_success),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
