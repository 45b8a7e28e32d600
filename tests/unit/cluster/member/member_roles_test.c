/* SPDX-License-Identifier: Apache-2.0 */

/* Roles in the replicated state: made by documents, changed by commands, kept as pairs. */

#include "cluster/member/member_roles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/db/db_cmd.h"
#include "cluster/rsm/rsm.h"
#include "tests/lib/test.h"

#define PAIRS_MAX 64u

/* A log of one node, and what is kept of it. */
struct node {
	struct db *db;
	struct member_roles *roles;
	uint64_t index;
	uint32_t pair_count;
	struct {
		uint8_t key[RSM_KEY_MAX];
		size_t key_len;
		uint8_t value[1024];
		size_t value_len;
	} pairs[PAIRS_MAX];
	uint32_t applied;
	uint32_t changed;
};

static void del_pair(void *arg, const void *key, size_t key_len)
{
	struct node *n = arg;

	for (uint32_t i = 0; i < n->pair_count; i++) {
		if (n->pairs[i].key_len == key_len && memcmp(n->pairs[i].key, key, key_len) == 0) {
			n->pairs[i] = n->pairs[--n->pair_count];
			return;
		}
	}
}

static void put_pair(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
	struct node *n = arg;

	del_pair(n, key, key_len);
	assert_true(n->pair_count < PAIRS_MAX && value_len <= sizeof(n->pairs[0].value));
	n->pairs[n->pair_count].key_len = key_len;
	n->pairs[n->pair_count].value_len = value_len;
	memcpy(n->pairs[n->pair_count].key, key, key_len);
	memcpy(n->pairs[n->pair_count++].value, value, value_len);
}

static void on_applied(void *arg, const struct role_cmd *cmd, uint64_t epoch)
{
	(void)cmd;
	assert_int_equal(epoch, 5);
	((struct node *)arg)->applied++;
}

static void on_said(void *arg, const struct role_cmd *cmd, uint64_t epoch)
{
	(void)arg;
	(void)cmd;
	(void)epoch;
}

static void on_changed(void *arg)
{
	((struct node *)arg)->changed++;
}

static void on_loaded(void *arg)
{
	(void)arg;
}

static int setup(void **state)
{
	static const struct member_role_ops ops = {
		.applied = on_applied, .said = on_said, .changed = on_changed, .loaded = on_loaded};
	struct node *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	assert_int_equal(db_create(&n->db), 0);
	assert_int_equal(member_roles_create(n->db, &n->roles), 0);
	member_roles_watch(n->roles, &ops, n);
	n->index = 100;
	*state = n;
	return 0;
}

static int teardown(void **state)
{
	struct node *n = *state;

	member_roles_destroy(n->roles);
	db_destroy(n->db);
	free(n);
	return 0;
}

/* One entry of epoch 5. Returns its status. */
static int entry(struct node *n, const void *payload, size_t len)
{
	const struct rsm_sink sink = {.put = put_pair, .del = del_pair, .arg = n};
	const struct db_sink db_sink = {.put = put_pair, .del = del_pair, .arg = n};
	const struct rsm_entry e = {
		.index = ++n->index, .epoch = 5, .payload = payload, .len = (uint32_t)len};
	const struct db_entry d = {.index = n->index, .command = payload, .len = len};
	struct db_result result = {0};
	json_t *event = NULL;

	member_roles_epoch(n->roles, e.epoch);
	if (member_roles_is_cmd(payload, len)) {
		result.status = member_roles_apply(n->roles, &e, &event);
		json_decref(event);
	} else {
		assert_int_equal(db_apply(n->db, &d, &db_sink, &result), 0);
	}
	assert_int_equal(member_roles_flush(n->roles, &sink), 0);
	assert_null(role_table_check(member_roles_table(n->roles)));
	return result.status;
}

static void put_doc(struct node *n, const char *name, const char *priority)
{
	json_t *doc = json_pack("{s:{s:i,s:i},s:{s:s}}", "definition", "memory_bytes", 64 << 20,
	                        "cpus", 1, "ha", "priority", priority);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_VM, name, doc);
	json_decref(doc);
	assert_int_equal(db_cmd_end(&cmd), 0);
	assert_int_equal(entry(n, cmd.buf, cmd.len), 0);
	db_cmd_fini(&cmd);
}

static void del_doc(struct node *n, const char *name)
{
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_VM, name);
	assert_int_equal(db_cmd_end(&cmd), 0);
	assert_int_equal(entry(n, cmd.buf, cmd.len), 0);
	db_cmd_fini(&cmd);
}

static int command(struct node *n, struct role_cmd cmd)
{
	uint8_t buf[ROLE_CMD_BYTES];

	cmd.epoch = cmd.epoch == 0 ? 5 : cmd.epoch;
	role_cmd_encode(&cmd, buf);
	return entry(n, buf, sizeof(buf));
}

static const struct role *role(const struct node *n, const char *name)
{
	return role_table_role(member_roles_table(n->roles), member_roles_find(n->roles, name));
}

/* web1 runs on node 1. */
static void run_web1(struct node *n)
{
	struct role_at at = {.node = 1, .inc = 1};
	uint32_t id;

	put_doc(n, "web1", "high");
	id = member_roles_find(n->roles, "web1");
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_JOIN,
	                                              .at = at,
	                                              .arg = {8ull << 30, 4, 0, 0}}),
	                 0);
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_WANT,
	                                              .role = id,
	                                              .arg = {ROLE_WANT_ONLINE}}),
	                 0);
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_START,
	                                              .role = id,
	                                              .token = role(n, "web1")->token,
	                                              .at = at}),
	                 0);
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_STARTED,
	                                              .role = id,
	                                              .token = role(n, "web1")->token,
	                                              .at = at}),
	                 0);
}

static void put_after(struct node *n, const char *name, const char *first, const char *second)
{
	json_t *doc = json_pack("{s:{s:i,s:i},s:{s:[s,s]}}", "definition", "memory_bytes", 64 << 20,
	                        "cpus", 1, "ha", "after", first, second);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_VM, name, doc);
	json_decref(doc);
	assert_int_equal(db_cmd_end(&cmd), 0);
	assert_int_equal(entry(n, cmd.buf, cmd.len), 0);
	db_cmd_fini(&cmd);
}

/* Names in documents, numbers in roles: whoever comes and goes, a number is never another VM's. */
static void start_order_follows_names(void **state)
{
	struct node *n = *state;
	uint32_t db1;

	put_after(n, "web1", "db1", "dns");
	assert_int_equal(role(n, "web1")->policy.after[0], 0); /* nobody is there yet */
	put_doc(n, "dns", "low");
	assert_int_equal(role(n, "web1")->policy.after[0], member_roles_find(n->roles, "dns"));
	put_doc(n, "db1", "low");
	db1 = member_roles_find(n->roles, "db1");
	assert_int_equal(role(n, "web1")->policy.after[0], db1);
	assert_int_equal(role(n, "web1")->policy.after[1], member_roles_find(n->roles, "dns"));
	/* Its number is free, and somebody else's. */
	del_doc(n, "db1");
	assert_int_equal(role(n, "web1")->policy.after[0], member_roles_find(n->roles, "dns"));
	assert_int_equal(role(n, "web1")->policy.after[1], 0);
	put_doc(n, "other", "low");
	assert_int_equal(member_roles_find(n->roles, "other"), db1);
	assert_int_equal(role(n, "web1")->policy.after[1], 0);
	put_after(n, "web1", "other", "web1"); /* not after itself */
	assert_int_equal(role(n, "web1")->policy.after[0], db1);
	assert_int_equal(role(n, "web1")->policy.after[1], 0);
}

static void documents_make_and_change_and_end_roles(void **state)
{
	struct node *n = *state;

	put_doc(n, "web1", "high");
	put_doc(n, "web2", "low");
	assert_int_equal(role(n, "web1")->id, 1);
	assert_int_equal(role(n, "web2")->id, 2);
	assert_int_equal(role(n, "web1")->state, ROLE_OFFLINE);
	assert_int_equal(role(n, "web1")->policy.priority, ROLE_PRIORITY_HIGH);
	put_doc(n, "web1", "none");
	assert_int_equal(role(n, "web1")->policy.priority, ROLE_PRIORITY_NONE);
	assert_int_equal(n->changed, 3);
	del_doc(n, "web1");
	assert_null(role(n, "web1"));
	/* The id comes again, no token of the old one does. */
	put_doc(n, "web3", "low");
	assert_int_equal(role(n, "web3")->id, 1);
	assert_int_equal(role(n, "web3")->token, n->index);
}

static void a_role_that_runs_outlives_its_document_until_it_has_stopped(void **state)
{
	struct node *n = *state;
	uint32_t id;

	run_web1(n);
	id = role(n, "web1")->id;
	del_doc(n, "web1");
	assert_int_equal(role(n, "web1")->state, ROLE_STOPPING);
	assert_int_equal(role(n, "web1")->want, ROLE_WANT_OFFLINE);
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_STOPPED,
	                                              .role = id,
	                                              .token = role(n, "web1")->token,
	                                              .at = {.node = 1, .inc = 1}}),
	                 0);
	assert_null(role(n, "web1"));
	/* One that only waits for a node goes at once. */
	put_doc(n, "web2", "high");
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_WANT,
	                                              .role = role(n, "web2")->id,
	                                              .arg = {ROLE_WANT_ONLINE}}),
	                 0);
	assert_int_equal(role(n, "web2")->state, ROLE_PLACING);
	del_doc(n, "web2");
	assert_null(role(n, "web2"));
}

static void commands_of_another_epoch_and_damaged_ones_do_nothing(void **state)
{
	struct node *n = *state;
	uint8_t buf[ROLE_CMD_BYTES] = {1};
	uint32_t before;

	run_web1(n);
	before = n->applied;
	assert_int_equal(command(n, (struct role_cmd){.verb = ROLE_CMD_WANT,
	                                              .role = role(n, "web1")->id,
	                                              .epoch = 4,
	                                              .arg = {ROLE_WANT_OFFLINE}}),
	                 -ESTALE);
	assert_true(member_roles_is_cmd(buf, sizeof(buf)));
	assert_true(entry(n, buf, sizeof(buf)) < 0);
	assert_int_equal(n->applied, before);
	assert_int_equal(role(n, "web1")->state, ROLE_ONLINE);
	assert_false(member_roles_is_cmd("GDC1", 4));
}

static void the_pairs_make_the_same_roles_again(void **state)
{
	struct node *n = *state;
	struct member_roles *copy;
	struct db *db;
	const struct role *a;
	const struct role *b;
	uint32_t loaded = 0;

	run_web1(n);
	put_doc(n, "web2", "low");
	del_doc(n, "web2");
	put_doc(n, "web3", "low");
	assert_int_equal(db_create(&db), 0);
	assert_int_equal(member_roles_create(db, &copy), 0);
	for (uint32_t i = 0; i < n->pair_count; i++) {
		if (member_roles_is_key(n->pairs[i].key, n->pairs[i].key_len)) {
			assert_int_equal(member_roles_load(copy, n->pairs[i].key,
			                                   n->pairs[i].key_len, n->pairs[i].value,
			                                   n->pairs[i].value_len, NULL),
			                 0);
			loaded++;
		}
	}
	member_roles_loaded(copy);
	assert_int_equal(loaded, 4); /* the table, a node, two roles */
	assert_int_equal(role_table_count(member_roles_table(copy)), 2);
	assert_int_equal(role_table_epoch(member_roles_table(copy)), 5);
	a = role(n, "web1");
	b = role_table_role(member_roles_table(copy), a->id);
	assert_string_equal(b->name, "web1");
	assert_int_equal(b->state, ROLE_ONLINE);
	assert_int_equal(b->token, a->token);
	assert_int_equal(b->owner.node, 1);
	/* And empty again. */
	member_roles_clear(copy);
	assert_int_equal(role_table_count(member_roles_table(copy)), 0);
	assert_int_equal(role_table_epoch(member_roles_table(copy)), 0);
	member_roles_destroy(copy);
	db_destroy(db);
}

static void no_memory_for_a_role_stops_the_node(void **state)
{
	struct node *n = *state;
	const struct rsm_sink sink = {.put = put_pair, .del = del_pair, .arg = n};
	json_t *doc = json_pack("{s:{s:i,s:i},s:{}}", "definition", "memory_bytes", 64 << 20,
	                        "cpus", 1, "ha");
	uint32_t stopped = 0;
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_VM, "web1", doc);
	json_decref(doc);
	assert_int_equal(db_cmd_end(&cmd), 0);
	for (uint32_t k = 1; stopped == 0; k++) {
		struct db_entry d = {.index = ++n->index, .command = cmd.buf, .len = cmd.len};
		struct db_result result = {0};

		fault_arm(FAULT_ALLOC, k);

		int err = db_apply(n->db, &d, NULL, &result);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			/* The document is there, the role is not: only stopping keeps all equal. */
			assert_int_equal(member_roles_flush(n->roles, &sink),
			                 role(n, "web1") == NULL ? -ENOMEM : 0);
			stopped++;
		}
	}
	db_cmd_fini(&cmd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(start_order_follows_names),
		TEST(documents_make_and_change_and_end_roles),
		TEST(a_role_that_runs_outlives_its_document_until_it_has_stopped),
		TEST(commands_of_another_epoch_and_damaged_ones_do_nothing),
		TEST(the_pairs_make_the_same_roles_again),
		TEST(no_memory_for_a_role_stops_the_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
