/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_timing.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/timing/timing.h"
#include "tests/lib/test.h"

static struct db *db;
static uint64_t db_at_index;

/* As the log would. Returns the status; @cmd is ended and freed. */
static int apply(struct db_cmd *cmd)
{
	struct db_result result = {.status = -EIO};

	assert_int_equal(db_cmd_end(cmd), 0);

	const struct db_entry e = {.index = ++db_at_index, .command = cmd->buf, .len = cmd->len};

	assert_int_equal(db_apply(db, &e, NULL, &result), 0);
	db_cmd_fini(cmd);
	return result.status;
}

static int setup(void **state)
{
	json_t *doc =
		json_pack("{s:i,s:i,s:s}", "token_ms", 1000, "conf_version", 7, "name", "lab");
	struct db_cmd cmd;

	(void)state;
	db_at_index = 0;
	assert_int_equal(db_create(&db), 0);
	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, "cluster", doc);
	json_decref(doc);
	return apply(&cmd);
}

static int teardown(void **state)
{
	(void)state;
	db_destroy(db);
	return 0;
}

static json_int_t setting(const char *key)
{
	return json_integer_value(json_object_get(db_get(db, DB_SETTING, "cluster")->doc, key));
}

static int want(uint64_t goal_ms)
{
	struct db_cmd cmd;
	int done;

	db_cmd_init(&cmd);
	done = cluster_timing_change(db, goal_ms, &cmd, NULL);
	if (done == 1) {
		assert_int_equal(apply(&cmd), 0);
	} else {
		db_cmd_fini(&cmd);
	}
	return done;
}

/* The leader's next step, if these are what the nodes say. */
static bool step(uint32_t lease_ms, uint32_t token_ms)
{
	const struct cluster_timing_seen seen = {
		.lease_min_ms = lease_ms, .same_token_ms = token_ms, .all_said = true};
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	if (cluster_timing_step(db, &seen, true, &cmd) == NULL) {
		db_cmd_fini(&cmd);
		return false;
	}
	assert_int_equal(apply(&cmd), 0);
	return true;
}

static uint32_t lease_of(uint32_t token_ms)
{
	struct timing_cfg cfg;

	timing_for_token(token_ms, &cfg);
	return cfg.lease_ms;
}

static uint32_t test_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*seed >> 33);
}

static struct cluster_timing now(void)
{
	struct cluster_timing ct = {0};

	assert_true(cluster_timing_get(db, &ct));
	return ct;
}

static void a_longer_token_comes_after_the_leases(void **state)
{
	uint32_t lease = lease_of(5000);

	(void)state;
	assert_true(lease > 10000);
	assert_int_equal(want(5000), 1);
	assert_int_equal(want(5000), 0);
	assert_int_equal(now().token_ms, 1000);
	assert_int_equal(now().lease_token_ms, 5000);
	assert_int_equal(setting("conf_version"), 7);
	assert_false(step(10000, 1000));
	assert_false(step(lease - 1, 1000));
	assert_true(step(lease, 1000));
	assert_int_equal(now().token_ms, 5000);
	assert_int_equal(setting("conf_version"), 8);
	assert_true(now().changing);
	assert_false(step(lease, 1000));
	assert_false(step(lease, 0)); /* some have it */
	assert_true(step(lease, 5000));
	assert_false(now().changing);
	assert_int_equal(setting("lease_token_ms"), 0);
	assert_false(step(lease, 5000));
}

static void shorter_leases_come_after_the_token(void **state)
{
	(void)state;
	assert_int_equal(want(5000), 1);
	assert_true(step(lease_of(5000), 1000));
	assert_true(step(lease_of(5000), 5000));
	assert_int_equal(want(600), 1);
	assert_int_equal(now().token_ms, 600);
	assert_int_equal(now().lease_token_ms, 5000);
	assert_int_equal(setting("conf_version"), 9);
	assert_false(step(lease_of(5000), 5000));
	assert_false(step(lease_of(5000), 0));
	assert_true(step(lease_of(5000), 600));
	assert_int_equal(now().lease_token_ms, 600);
	assert_false(now().changing);
}

/* Nodes that do not follow: it is taken back, or replaced. */
static void a_change_can_be_replaced_at_any_moment(void **state)
{
	(void)state;
	assert_int_equal(want(5000), 1);
	assert_int_equal(want(1000), 1); /* back, before anything happened to corosync */
	assert_int_equal(setting("conf_version"), 7);
	assert_int_equal(now().lease_token_ms, 5000);
	assert_true(step(10000, 1000));
	assert_false(now().changing);

	assert_int_equal(want(8000), 1);
	assert_true(step(lease_of(8000), 1000));
	assert_int_equal(want(3000), 1); /* some corosyncs have 8 s already */
	assert_int_equal(now().token_ms, 3000);
	assert_int_equal(now().lease_token_ms, 8000);
	assert_int_equal(want(6000), 1); /* longer again, below what leases are for */
	assert_int_equal(now().lease_token_ms, 8000);
	assert_true(step(lease_of(8000), 0));
	assert_int_equal(now().token_ms, 6000);
	assert_true(step(lease_of(8000), 6000));
	assert_int_equal(now().lease_token_ms, 6000);
}

/* Whatever is asked for and whenever: leases are made for the longest token that any corosync can
 * have. */
static void leases_are_never_for_a_shorter_token_than_corosyncs(void **state)
{
	static const uint32_t goals[] = {500, 1000, 2500, 7000, 30000};
	uint32_t loaded[3] = {1000, 1000, 1000}; /* of three corosyncs */
	uint32_t lease_token[3] = {1000, 1000, 1000};
	uint64_t seed = 42;

	(void)state;
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t node = (uint32_t)(test_random(&seed) % 3);
		uint32_t lease = UINT32_MAX;
		uint32_t same = loaded[0];

		switch (test_random(&seed) % 6) {
		case 0:
			(void)want(goals[test_random(&seed) % ARRAY_LEN(goals)]);
			break;
		case 1:
		case 2:
			loaded[node] = now().token_ms;
			break;
		case 3:
			lease_token[node] = now().lease_token_ms;
			break;
		default:
			for (uint32_t n = 0; n < 3; n++) {
				uint32_t one = lease_of(lease_token[n]);

				lease = one < lease ? one : lease;
				same = loaded[n] == same ? same : 0;
			}
			/* The leader does nothing before corosync.conf is everywhere. */
			if (loaded[0] == now().token_ms && same != 0) {
				(void)step(lease, same);
			}
		}
		for (uint32_t n = 0; n < 3; n++) {
			for (uint32_t k = 0; k < 3; k++) {
				assert_true(lease_of(lease_token[n]) >= lease_of(loaded[k]));
			}
		}
	}
}

static void what_no_lease_goes_with_is_refused(void **state)
{
	struct errbuf eb = {0};
	struct db_cmd cmd;

	(void)state;
	db_cmd_init(&cmd);
	assert_int_equal(cluster_timing_change(db, 100, &cmd, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "500"));
	assert_int_equal(cluster_timing_change(db, 61000, &cmd, &eb), -EINVAL);
	assert_int_equal(cluster_timing_change(db, UINT32_MAX, &cmd, &eb), -EINVAL);
	assert_int_equal(cmd.op_count, 0);
	db_cmd_fini(&cmd);
	assert_int_equal(want(1000), 0);
	db_clear(db);
	assert_int_equal(want(2000), -ENOENT);
}

static void people_are_told_what_it_waits_for(void **state)
{
	struct cluster_timing_seen seen = {.short_lease = "n2", .other_token = "n3"};
	struct cluster_timing ct;
	char text[200];

	(void)state;
	ct = now();
	cluster_timing_wait(&ct, &seen, text, sizeof(text));
	assert_string_equal(text, "");
	assert_int_equal(want(5000), 1);
	ct = now();
	cluster_timing_wait(&ct, &seen, text, sizeof(text));
	assert_non_null(strstr(text, "n3 has not said"));
	seen.all_said = true;
	seen.lease_min_ms = 10000;
	cluster_timing_wait(&ct, &seen, text, sizeof(text));
	assert_non_null(strstr(text, "n2 is 10000 ms"));
	assert_true(step(lease_of(5000), 1000));
	ct = now();
	cluster_timing_wait(&ct, &seen, text, sizeof(text));
	assert_non_null(strstr(text, "n3 has another token"));
}

static void a_node_says_what_it_has_once(void **state)
{
	json_t *node = json_object();
	json_t *doc = NULL;

	(void)state;
	assert_true(cluster_timing_told(node, 10000, 1000, "p", &doc));
	assert_int_equal(json_object_update(node, doc), 0);
	json_decref(doc);
	assert_false(cluster_timing_told(node, 10000, 1000, "p", &doc));
	assert_null(doc);
	assert_true(cluster_timing_told(node, 10000, 1000, "q", &doc));
	json_decref(doc);
	json_decref(node);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_longer_token_comes_after_the_leases),
		T(shorter_leases_come_after_the_token),
		T(a_change_can_be_replaced_at_any_moment),
		T(leases_are_never_for_a_shorter_token_than_corosyncs),
		T(what_no_lease_goes_with_is_refused),
		T(people_are_told_what_it_waits_for),
		T(a_node_says_what_it_has_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
