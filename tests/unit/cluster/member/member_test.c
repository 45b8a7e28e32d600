/* SPDX-License-Identifier: Apache-2.0 */

/* A cluster of one, without corosync; several members: tests/node/cluster_db_node_test.py. */

#include "cluster/member/member.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "cluster/rsm/store_sqlite.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

#define TIMEOUT_NS 60000000000ull

struct fixture {
	struct tree tree;
	char path[96];
	struct loop *loop;
	struct member *member;
	struct rsm_result last;
	enum rsm_outcome outcome;
};

static void on_changed(void *arg)
{
	struct fixture *f = arg;
	struct rsm_status s;

	member_status(f->member, &s);
	if (s.state == RSM_ACTIVE) {
		loop_stop(f->loop);
	}
}

static int open_member(struct fixture *f, struct errbuf *eb)
{
	struct view_config config = {.count = 1, .nodes = {{.nodeid = 1, .votes = 1}}};
	const struct member_cfg cfg = {.loop = f->loop,
	                               .path = f->path,
	                               .nodeid = 1,
	                               .config = &config,
	                               .changed = on_changed,
	                               .arg = f};

	return member_open(&cfg, &f->member, eb);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tree_init(&f->tree);
	(void)snprintf(f->path, sizeof(f->path), "%s/cluster.db", f->tree.root);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(open_member(f, NULL), 0);
	loop_run(f->loop);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	member_close(f->member);
	loop_destroy(f->loop);
	tree_fini(&f->tree);
	free(f);
	return 0;
}

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct fixture *f = arg;

	f->outcome = outcome;
	f->last = *result;
	loop_stop(f->loop);
}

static int32_t put(struct fixture *f, const char *key, uint64_t version)
{
	struct db_cmd cmd;
	json_t *doc = json_pack("{s:s}", "name", key);

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_VM, key, doc);
	json_decref(doc);
	if (version != 0) {
		db_cmd_if_version(&cmd, version);
	}
	assert_int_equal(db_cmd_end(&cmd), 0);
	assert_int_equal(member_propose(f->member, &cmd, TIMEOUT_NS, on_done, f), 0);
	db_cmd_fini(&cmd);
	loop_run(f->loop);
	assert_int_equal(f->outcome, RSM_DONE);
	return f->last.status;
}

static void a_stand_alone_host_writes_and_reads(void **state)
{
	struct fixture *f = *state;
	struct rsm_status s;

	assert_int_equal(put(f, "web1", 0), 0);
	assert_non_null(db_get(member_db(f->member), DB_VM, "web1"));
	assert_int_equal(put(f, "web1", 999), -ESTALE);
	assert_int_equal(member_barrier(f->member, TIMEOUT_NS, on_done, f), 0);
	loop_run(f->loop);
	assert_int_equal(f->last.status, 0);
	member_status(f->member, &s);
	assert_false(s.stale);
	assert_int_equal(member_config(f->member)->count, 1);
	assert_int_equal(member_view(f->member)->state, VIEW_PRIMARY);
}

static void what_was_answered_is_there_after_a_restart(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 3; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "vm%d", i);
		assert_int_equal(put(f, key, 0), 0);
		member_close(f->member);
		assert_int_equal(open_member(f, NULL), 0);
		loop_run(f->loop);
		assert_non_null(db_get(member_db(f->member), DB_VM, key));
		assert_int_equal(db_count(member_db(f->member), DB_VM), i + 1);
	}
}

static void votes_change_one_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct view_config config = *member_config(f->member);

	config.nodes[0].votes = 2;
	assert_int_equal(member_configure(f->member, &config, TIMEOUT_NS, on_done, f), 0);
	loop_run(f->loop);
	assert_int_equal(f->last.status, 0);
	assert_int_equal(member_config(f->member)->nodes[0].votes, 2);
	config.nodes[0].votes = 4;
	assert_int_equal(member_configure(f->member, &config, TIMEOUT_NS, on_done, f), 0);
	loop_run(f->loop);
	assert_int_equal(f->last.status, -EINVAL);
}

/* A new database begins with all that the program knows; an older one is raised to it. */
static void the_level_is_raised_by_one_and_stays(void **state)
{
	struct fixture *f = *state;
	struct view_config config = {.count = 1, .nodes = {{.nodeid = 1, .votes = 1}}};
	struct rsm_mark mark = {.level = 1, .config = config};
	struct rsm_sqlite_cfg cfg = {.path = f->path, .loop = f->loop, .mark = &mark};
	struct rsm_store *store = NULL;
	struct rsm_status s;

	member_status(f->member, &s);
	assert_int_equal(s.level, MEMBER_LEVEL);
	member_close(f->member);
	f->member = NULL;
	(void)snprintf(f->path, sizeof(f->path), "%s/older.db", f->tree.root);
	assert_int_equal(rsm_sqlite_open(&cfg, &store, NULL), 0);
	rsm_sqlite_close(store);
	assert_int_equal(open_member(f, NULL), 0);
	loop_run(f->loop);
	for (uint32_t level = 1; level < MEMBER_LEVEL; level++) {
		member_status(f->member, &s);
		assert_int_equal(s.level, level);
		assert_int_equal(member_raise(f->member, TIMEOUT_NS, on_done, f), 0);
		loop_run(f->loop);
		assert_int_equal(f->outcome, RSM_DONE);
		assert_int_equal(f->last.status, 0);
	}
	assert_int_equal(member_raise(f->member, TIMEOUT_NS, on_done, f), 0);
	loop_run(f->loop);
	assert_int_equal(f->last.status, -EOPNOTSUPP); /* this program knows no more */
	member_close(f->member);
	assert_int_equal(open_member(f, NULL), 0);
	loop_run(f->loop);
	member_status(f->member, &s);
	assert_int_equal(s.level, MEMBER_LEVEL);
}

static void opening_survives_each_failed_allocation(void **state)
{
	struct fixture *f = *state;
	uint32_t k = 1;

	member_close(f->member);
	f->member = NULL;
	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = open_member(f, NULL);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(f->member);
	}
	assert_true(k > 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_stand_alone_host_writes_and_reads),
		TEST(what_was_answered_is_there_after_a_restart),
		TEST(votes_change_one_at_a_time),
		TEST(the_level_is_raised_by_one_and_stays),
		TEST(opening_survives_each_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
