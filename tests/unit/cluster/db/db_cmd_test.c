/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/db/db_cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "tests/lib/test.h"

static json_t *doc(const char *text)
{
	json_t *out = NULL;

	assert_int_equal(json_parse(text, strlen(text), NULL, &out, NULL), 0);
	return out;
}

/* Start a VM: one merge with conditions of every kind, one event. */
static int build(struct db_cmd *c)
{
	json_t *patch = json_pack("{s:{s:s,s:i}}", "role", "state", "starting", "token", 8);
	json_t *event = json_pack("{s:s}", "what", "start");

	db_cmd_init(c);
	db_cmd_merge(c, DB_VM, "web1", patch);
	db_cmd_if_version(c, 5);
	db_cmd_if_str(c, "role.state", "offline");
	db_cmd_if_u64(c, "role.token", DB_LT, 8);
	db_cmd_if_lacks(c, "lock");
	db_cmd_log(c, event);
	json_decref(patch);
	json_decref(event);
	return db_cmd_end(c);
}

static void the_bytes_of_a_command_are_fixed(void **state)
{
	static const char golden[] = "GDC1\1\0\2\0"
				     /* operation: vm, merge, version 5, 3 conditions */
				     "\1\2\3\3\4\0\0\0\5\0\0\0\0\0\0\0\x32\0\0\0\x27\0\0\0"
				     "web1"
				     "\0\12\13\0role.state[\"offline\"]"
				     "\2\12\3\0role.token[8]"
				     "\7\4\0\0lock"
				     "{\"role\":{\"state\":\"starting\",\"token\":8}}"
				     /* operation: event, log */
				     "\6\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0"
				     "{\"what\":\"start\"}";
	struct db_cmd c;

	(void)state;
	assert_int_equal(build(&c), 0);
	assert_int_equal(c.len, sizeof(golden) - 1);
	assert_memory_equal(c.buf, golden, c.len);
	db_cmd_fini(&c);
}

static void a_command_is_read_back_as_it_was_built(void **state)
{
	struct db_cmd c;
	struct db_cursor cursor;
	struct db_op op;
	struct db_cond cond;
	size_t offset = 0;

	(void)state;
	assert_int_equal(build(&c), 0);
	assert_int_equal(db_cursor_init(&cursor, c.buf, c.len), 0);
	assert_int_equal(db_cursor_op(&cursor, &op), 1);
	assert_int_equal(op.kind, DB_VM);
	assert_int_equal(op.action, DB_MERGE);
	assert_int_equal(op.expect, DB_VERSION);
	assert_int_equal(op.version, 5);
	assert_string_equal(op.key, "web1");
	assert_int_equal(db_op_cond(&op, &offset, &cond), 1);
	assert_string_equal(cond.path, "role.state");
	assert_int_equal(cond.compare, DB_EQ);
	assert_memory_equal(cond.value, "[\"offline\"]", cond.value_len);
	assert_int_equal(db_op_cond(&op, &offset, &cond), 1);
	assert_int_equal(cond.compare, DB_LT);
	assert_int_equal(db_op_cond(&op, &offset, &cond), 1);
	assert_int_equal(cond.compare, DB_LACKS);
	assert_int_equal(db_op_cond(&op, &offset, &cond), 0);
	assert_int_equal(db_cursor_op(&cursor, &op), 1);
	assert_int_equal(op.action, DB_LOG);
	assert_int_equal(db_cursor_op(&cursor, &op), 0);
	db_cmd_fini(&c);
}

static int walk(const uint8_t *buf, size_t len)
{
	struct db_cursor cursor;
	struct db_op op;
	int rc = db_cursor_init(&cursor, buf, len);

	while (rc == 0 && (rc = db_cursor_op(&cursor, &op)) == 1) {
		rc = 0;
		for (size_t offset = 0; rc == 0;) {
			struct db_cond cond;
			int more = db_op_cond(&op, &offset, &cond);

			assert_true(more == 0 || more == 1); /* the cursor looked at them */
			if (more == 0) {
				break;
			}
		}
	}
	return rc;
}

static void every_truncation_is_refused(void **state)
{
	struct db_cmd c;

	(void)state;
	assert_int_equal(build(&c), 0);
	assert_int_equal(walk(c.buf, c.len), 0);
	for (size_t len = 0; len < c.len; len++) {
		uint8_t *copy =
			malloc(len == 0 ? 1 : len); /* so that a read past the end is seen */

		assert_non_null(copy);
		memcpy(copy, c.buf, len);
		assert_true(walk(copy, len) < 0);
		free(copy);
	}
	db_cmd_fini(&c);
}

/* The log protects commands by checksums; here only memory must be safe. */
static void every_flipped_bit_is_survived(void **state)
{
	struct db_cmd c;
	uint32_t refused = 0;

	(void)state;
	assert_int_equal(build(&c), 0);
	for (size_t bit = 0; bit < c.len * 8; bit++) {
		uint8_t *copy = malloc(c.len);
		struct db *db;
		struct db_result result;

		assert_non_null(copy);
		memcpy(copy, c.buf, c.len);
		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		refused += walk(copy, c.len) < 0;
		assert_int_equal(db_create(&db), 0);
		assert_int_equal(
			db_apply(db, &(struct db_entry){.index = 1, .command = copy, .len = c.len},
		                 NULL, &result),
			0);
		assert_int_equal(db_count(db, DB_VM), 0);
		db_destroy(db);
		free(copy);
	}
	assert_true(refused > c.len); /* the structure is more than an eighth of it */
	db_cmd_fini(&c);
}

static void what_is_not_allowed_is_said_at_the_end(void **state)
{
	struct db_cmd c;
	json_t *d = doc("{\"a\":1}");
	json_t *array = doc("[1]");

	(void)state;
	db_cmd_init(&c);
	assert_int_equal(db_cmd_end(&c), -EINVAL); /* nothing to do */
	db_cmd_fini(&c);

	db_cmd_init(&c);
	db_cmd_if_present(&c); /* of what? */
	assert_int_equal(db_cmd_end(&c), -EINVAL);
	db_cmd_fini(&c);

	db_cmd_init(&c);
	db_cmd_put(&c, DB_VM, "../etc", d);
	assert_int_equal(db_cmd_end(&c), -EINVAL);
	db_cmd_fini(&c);

	db_cmd_init(&c);
	db_cmd_put(&c, DB_VM, "a", array);
	assert_int_equal(db_cmd_end(&c), -EINVAL);
	db_cmd_fini(&c);

	db_cmd_init(&c);
	for (uint32_t i = 0; i <= DB_OPS_MAX; i++) {
		db_cmd_check(&c, DB_VM, "a");
	}
	assert_int_equal(db_cmd_end(&c), -E2BIG);
	db_cmd_fini(&c);

	db_cmd_init(&c);
	db_cmd_check(&c, DB_VM, "a");
	for (uint32_t i = 0; i <= DB_CONDS_MAX; i++) {
		db_cmd_if_has(&c, "x");
	}
	assert_int_equal(db_cmd_end(&c), -E2BIG);
	db_cmd_fini(&c);
	json_decref(d);
	json_decref(array);
}

static void building_survives_each_failed_allocation(void **state)
{
	struct db_cmd c;
	uint32_t k = 1;

	(void)state;
	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = build(&c);

		if (err == 0) {
			break;
		}
		assert_true(err == -ENOMEM || err == -EINVAL); /* json_pack() gave NULL */
		db_cmd_fini(&c);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 1);
	db_cmd_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bytes_of_a_command_are_fixed),
		cmocka_unit_test(a_command_is_read_back_as_it_was_built),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_flipped_bit_is_survived),
		cmocka_unit_test(what_is_not_allowed_is_said_at_the_end),
		cmocka_unit_test(building_survives_each_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
