/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/ha/maint.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/lead/lead.h"
#include "tests/lib/test.h"

static struct db *db;

static json_t *doc(const char *text)
{
	json_t *out = NULL;

	assert_int_equal(json_parse(text, strlen(text), NULL, &out, NULL), 0);
	return out;
}

static void put(enum db_kind kind, const char *key, const char *text)
{
	struct db_result result;
	struct db_cmd c;
	json_t *d = doc(text);

	db_cmd_init(&c);
	db_cmd_put(&c, kind, key, d);
	assert_int_equal(db_cmd_end(&c), 0);

	const struct db_entry entry = {
		.index = db_index(db) + 1, .time_ns = 1, .command = c.buf, .len = c.len};

	assert_int_equal(db_apply(db, &entry, NULL, &result), 0);
	assert_int_equal(result.status, 0);
	db_cmd_fini(&c);
	json_decref(d);
}

static int setup(void **state)
{
	(void)state;
	return db_create(&db);
}

static int teardown(void **state)
{
	(void)state;
	db_destroy(db);
	return 0;
}

static void a_vms_own_limit_comes_before_the_clusters(void **state)
{
	(void)state;
	put(DB_VM, "web1", "{\"ha\":{}}");
	assert_int_equal(maint_blackout_ns(db, "web1"), 0);
	assert_int_equal(maint_moves(db), MAINT_MOVES_DEFAULT);
	put(DB_SETTING, MAINT_SETTING, "{\"blackout_max_ns\":300000000,\"per_node\":4}");
	assert_int_equal(maint_blackout_ns(db, "web1"), 300000000);
	assert_int_equal(maint_moves(db), 4);
	put(DB_VM, "web1", "{\"ha\":{\"blackout_max_ns\":7}}");
	assert_int_equal(maint_blackout_ns(db, "web1"), 7);
	assert_int_equal(maint_blackout_ns(db, "web2"), 300000000);
	put(DB_SETTING, MAINT_SETTING, "{\"blackout_max_ns\":-1,\"per_node\":100}");
	assert_int_equal(maint_blackout_ns(db, "web2"), 0);
	assert_int_equal(maint_moves(db), MAINT_MOVES_MAX);
	put(DB_SETTING, MAINT_SETTING, "{\"blackout_max_ns\":900000000000,\"per_node\":\"2\"}");
	assert_int_equal(maint_blackout_ns(db, "web2"), MAINT_BLACKOUT_MAX_NS);
	assert_int_equal(maint_moves(db), MAINT_MOVES_DEFAULT);
}

static void words_of_a_drain(void **state)
{
	struct lead_drain lead;
	struct maint_drain d;
	char key[MAINT_KEY_MAX];
	json_t *quick = doc("{\"ha\":{\"fallback\":\"quick\"}}");
	json_t *odd = doc("{\"ha\":{\"fallback\":\"slow\"}}");

	(void)state;
	assert_false(maint_drain_get(db, 2, &d));
	put(DB_JOB, maint_key(2, key),
	    "{\"run\":3,\"since_ms\":70,\"fallback\":\"shutdown\",\"moves\":99,\"vms\":[\"a\"]}");
	assert_true(maint_drain_get(db, 2, &d));
	assert_int_equal(d.inc, 3);
	assert_int_equal(d.since_ms, 70);
	assert_int_equal(d.fallback, MAINT_SHUTDOWN);
	assert_int_equal(d.moves, MAINT_MOVES_MAX);
	assert_int_equal(json_array_size(d.vms), 1);
	assert_false(d.shutdown);
	assert_string_equal(d.failback, "none");
	assert_int_equal(maint_fallback_of(d.fallback, quick), MAINT_SHUTDOWN);
	assert_int_equal(maint_fallback_of(MAINT_BY_VM, quick), MAINT_QUICK);
	assert_int_equal(maint_fallback_of(MAINT_BY_VM, odd), MAINT_LIVE);
	assert_int_equal(maint_fallback_of(MAINT_BY_VM, NULL), MAINT_LIVE);
	assert_int_equal(maint_fallback_parse("leave"), MAINT_LEAVE);
	assert_int_equal(maint_fallback_parse("left"), MAINT_FALLBACK_COUNT);
	assert_string_equal(maint_fallback_name(MAINT_SHUTDOWN), "shutdown");
	assert_int_equal(maint_to_role(MAINT_LEAVE), ROLE_FALLBACK_LEAVE);

	/* Nobody leaves while it coordinates a volume, but not for ever. */
	maint_lead_drain(db, 2, 71, &lead);
	assert_true(lead.forced && !lead.hold);
	assert_int_equal(lead.fallback, ROLE_FALLBACK_SHUTDOWN);
	put(DB_VOLUME, "vol1", "{\"coordinator\":2}");
	assert_string_equal(maint_coordinates(db, 2), "vol1");
	assert_null(maint_coordinates(db, 1));
	maint_lead_drain(db, 2, 71, &lead);
	assert_true(lead.hold);
	maint_lead_drain(db, 2, 71 + MAINT_COORDINATORS_MS, &lead);
	assert_false(lead.hold);
	maint_lead_drain(db, 1, 71, &lead);
	assert_false(lead.forced || lead.hold);
	json_decref(quick);
	json_decref(odd);
}

static void what_a_move_came_to_counts_for_a_while(void **state)
{
	json_t *d =
		doc("{\"unmoved\":{\"3\":{\"at_ms\":500},\"4\":{\"at_ms\":90},"
	            "\"99\":{\"at_ms\":500},\"x\":{\"at_ms\":500},\"1\":{\"at_ms\":-5},\"2\":7}}");
	json_t *slow = doc("{\"unmoved\":{\"3\":{\"at_ms\":500,\"slow\":true}}}");
	struct lead_hint hint;

	(void)state;
	maint_hint(d, 100, 600, &hint);
	assert_int_equal(hint.avoid, role_bit(3));
	assert_false(hint.no_live);
	maint_hint(d, 100, 500 + MAINT_AGAIN_MS + 1, &hint);
	assert_int_equal(hint.avoid, 0);
	maint_hint(slow, 100, 600, &hint);
	assert_true(hint.no_live);
	assert_int_equal(hint.avoid, 0);
	maint_hint(slow, 501, 600, &hint);
	assert_false(hint.no_live);
	maint_hint(NULL, 0, 0, &hint);
	assert_true(hint.avoid == 0 && !hint.no_live);
	json_decref(d);
	json_decref(slow);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_vms_own_limit_comes_before_the_clusters),
		T(words_of_a_drain),
		T(what_a_move_came_to_counts_for_a_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
