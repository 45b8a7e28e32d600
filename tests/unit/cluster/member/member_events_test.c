/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/member/member_events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/db/db_cmd.h"
#include "tests/lib/test.h"

#define EPOCH 3u

struct fixture {
	struct db *db;
	struct role_table *t;
	uint64_t index;
};

static void put(struct fixture *f, enum db_kind kind, const char *key, json_t *doc)
{
	struct db_result result;
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, kind, key, doc);
	json_decref(doc);
	assert_int_equal(db_cmd_end(&cmd), 0);

	const struct db_entry e = {.index = ++f->index, .command = cmd.buf, .len = cmd.len};

	assert_int_equal(db_apply(f->db, &e, NULL, &result), 0);
	assert_int_equal(result.status, 0);
	db_cmd_fini(&cmd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct role_policy policy;

	assert_non_null(f);
	assert_int_equal(db_create(&f->db), 0);
	assert_int_equal(role_table_create(&f->t), 0);
	assert_int_equal(role_table_view(f->t, EPOCH), 0);
	role_policy_default(&policy);
	policy.memory_bytes = 1 << 20;
	policy.cpus = 1;
	assert_int_equal(role_table_add(f->t, 1, "web1", &policy, 6, NULL), 0);
	put(f, DB_NODE, "alpha", json_pack("{s:i}", "nodeid", 1));
	put(f, DB_NODE, "beta", json_pack("{s:i}", "nodeid", 2));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	role_table_destroy(f->t);
	db_destroy(f->db);
	free(f);
	return 0;
}

/* Applies @cmd and compares what is told: "event vm node: text", "" = nothing. */
static void told(struct fixture *f, struct role_cmd cmd, const char *expected)
{
	struct member_before before;
	char got[500] = "";
	json_t *doc = NULL;

	cmd.epoch = EPOCH;
	cmd.now_ms = 1000;
	member_events_before(f->t, &cmd, &before);
	assert_int_equal(role_table_apply(f->t, &cmd), 0);
	assert_int_equal(member_events_role(f->db, f->t, &cmd, &before, &doc), 0);
	if (doc != NULL) {
		const char *vm = json_string_value(json_object_get(doc, "vm"));
		const char *node = json_string_value(json_object_get(doc, "node"));

		(void)snprintf(got, sizeof(got), "%s %s %s: %s",
		               json_string_value(json_object_get(doc, "event")),
		               vm != NULL ? vm : "-", node != NULL ? node : "-",
		               json_string_value(json_object_get(doc, "text")));
	}
	assert_string_equal(got, expected);
	json_decref(doc);
}

static struct role_cmd about_node(enum role_verb verb, uint32_t node, uint64_t inc, uint64_t arg)
{
	return (struct role_cmd){.verb = verb, .at = {node, inc}, .arg = {arg}};
}

static struct role_cmd about_vm(enum role_verb verb, uint64_t token, uint32_t node, uint64_t arg)
{
	return (struct role_cmd){
		.verb = verb, .role = 1, .token = token, .at = {node, 1}, .arg = {arg}};
}

static void join(struct fixture *f, uint32_t node, const char *expected)
{
	struct role_cmd cmd = about_node(ROLE_CMD_JOIN, node, 1, 1ull << 34);

	cmd.arg[1] = 8;
	cmd.arg[3] = node == 1 ? ROLE_NODE_LEASE_PROOF : 0;
	told(f, cmd, expected);
}

static void the_life_of_a_vm_is_a_story(void **state)
{
	struct fixture *f = *state;

	join(f, 1, "node.joined - alpha: as run 1; its silence proves that it has stopped");
	join(f, 2, "node.joined - beta: as run 1; its silence proves nothing");
	told(f, about_vm(ROLE_CMD_WANT, 0, 0, ROLE_WANT_ONLINE),
	     "vm.wanted web1 -: is wanted online");
	told(f, about_vm(ROLE_CMD_START, 7, 1, 0), "");
	told(f, about_vm(ROLE_CMD_STARTED, 7, 1, 0), "vm.online web1 alpha: runs with token 7");
	told(f, about_node(ROLE_CMD_RENEW, 1, 1, 1), "");
	told(f, about_vm(ROLE_CMD_MIGRATE, 7, 2, 0), "vm.moving web1 alpha: from alpha to beta");
	told(f, about_vm(ROLE_CMD_SWITCH, 7, 2, 0),
	     "vm.handed-over web1 beta: from alpha to beta, token 8");
	told(f, about_vm(ROLE_CMD_STARTED, 8, 2, 0), "vm.moved web1 beta: runs with token 8");
	told(f, about_node(ROLE_CMD_LOST, 2, 1, 0), "node.lost - beta: run 1 with 1 VMs");
	told(f, about_node(ROLE_CMD_FENCING, 2, 1, 0),
	     "node.fencing - beta: run 1: a proof that it has stopped is being made");
	told(f, about_node(ROLE_CMD_FENCED, 2, 1, ROLE_PROOF_POWER),
	     "node.fenced - beta: run 1 is proven stopped by: power");
	told(f, about_vm(ROLE_CMD_START, 9, 1, 0), "");
	put(f, DB_VM, "web1",
	    json_pack("{s:{s:s,s:s}}", "failed", "node", "alpha", "text", "no such disk"));
	told(f, about_vm(ROLE_CMD_START_FAILED, 9, 1, 0),
	     "vm.start-failed web1 alpha: no such disk");
}

static void maintenance_is_told_once(void **state)
{
	struct fixture *f = *state;

	join(f, 1, "node.joined - alpha: as run 1; its silence proves that it has stopped");
	told(f, about_node(ROLE_CMD_DRAIN, 1, 1, ROLE_DRAIN_ACTIVE),
	     "node.draining - alpha: for maintenance; it has 0 VMs");
	told(f, about_node(ROLE_CMD_DRAIN, 1, 1, ROLE_DRAIN_ACTIVE), "");
	told(f, about_node(ROLE_CMD_DRAIN, 1, 1, ROLE_DRAIN_DONE),
	     "node.drained - alpha: verified empty");
	told(f, about_node(ROLE_CMD_DRAIN, 1, 1, ROLE_DRAIN_NONE),
	     "node.resumed - alpha: takes VMs again");
	told(f, about_node(ROLE_CMD_LEAVE, 1, 1, 0), "node.left - alpha: in order");
}

/* "event NAME: text" of a change of a document; "" = nothing. */
static void told_change(enum db_kind kind, const char *key, const char *before, const char *after,
                        const char *expected)
{
	struct db_change c = {.kind = kind, .key = key, .index = 9};
	static const char *const names[] = {"node", "vm", "volume", "witness", "setting", "device"};
	json_t *b = NULL;
	json_t *a = NULL;
	json_t *doc = NULL;
	char got[500] = "";

	if (before != NULL) {
		assert_int_equal(json_parse(before, strlen(before), NULL, &b, NULL), 0);
	}
	if (after != NULL) {
		assert_int_equal(json_parse(after, strlen(after), NULL, &a, NULL), 0);
	}
	c.before = b;
	c.after = a;
	assert_int_equal(member_events_change(&c, &doc), 0);
	for (size_t i = 0; doc != NULL && i < ARRAY_LEN(names); i++) {
		const char *name = json_string_value(json_object_get(doc, names[i]));

		if (name != NULL && (strcmp(names[i], "node") != 0 || kind == DB_NODE)) {
			(void)snprintf(got, sizeof(got), "%s %s=%s: %s",
			               json_string_value(json_object_get(doc, "event")), names[i],
			               name, json_string_value(json_object_get(doc, "text")));
		}
	}
	assert_string_equal(got, expected);
	json_decref(doc);
	json_decref(a);
	json_decref(b);
}

static void documents_tell_what_people_did(void **state)
{
	(void)state;
	told_change(DB_NODE, "n4", NULL, "{\"state\":\"joining\"}",
	            "node.added node=n4: is joining");
	told_change(DB_NODE, "n4", "{\"state\":\"joining\"}", "{\"state\":\"member\"}",
	            "node.state node=n4: is member");
	told_change(DB_NODE, "n4", "{\"state\":\"member\",\"conf_version\":1}",
	            "{\"state\":\"member\",\"conf_version\":2}", "");
	told_change(DB_NODE, "n4", "{\"state\":\"left\"}", NULL,
	            "node.removed node=n4: is no node of the cluster any more");
	told_change(DB_VM, "a", NULL, "{\"definition\":{}}",
	            "vm.created vm=a: its definition was created");
	told_change(DB_VM, "a", "{\"definition\":{}}", "{\"definition\":{},\"failed\":{}}", "");
	told_change(DB_VM, "a", "{\"definition\":{}}", "{\"definition\":{\"cpus\":2}}",
	            "vm.changed vm=a: its definition was changed");
	told_change(DB_VM, "a", "{\"definition\":{}}", NULL,
	            "vm.removed vm=a: its definition was removed");
	told_change(DB_VOLUME, "v", "{\"term\":1}", "{\"term\":2,\"coordinator\":3}",
	            "volume.coordinator volume=v: is coordinated by node 3 in term 2");
	told_change(DB_WITNESS, "witness", NULL, "{\"type\":\"disk\",\"path\":\"/dev/sdw\"}",
	            "witness.set witness=witness: disk /dev/sdw");
	told_change(DB_SETTING, "cluster", "{\"token_ms\":1000,\"conf_version\":4}",
	            "{\"token_ms\":3000,\"conf_version\":5}",
	            "setting.changed setting=cluster: token_ms is 3000");
	told_change(DB_SETTING, "cluster", "{\"conf_version\":4}", "{\"conf_version\":5}", "");
	told_change(DB_SETTING, "fence/pdu2", NULL, "{\"node\":\"n2\",\"agent\":\"fence_apc\"}",
	            "fence.added device=pdu2: pdu2, fence_apc");
	told_change(DB_SETTING, "csv-run/1", NULL, "{}", "");
	told_change(DB_JOB, "1", NULL, "{}", "");
}

static void an_event_of_an_entry_is_kept_trimmed_and_heard(void **state)
{
	struct fixture *f = *state;
	json_t *doc = json_pack("{s:s}", "event", "x");
	json_t *real = json_pack("{s:f}", "x", 1.5);
	const struct db_entry e = {.index = 1000, .time_ns = 77};
	uint64_t hash = db_hash(f->db);

	assert_int_equal(db_log(f->db, &e, DB_LOG_FIRST + 1, doc, NULL), 0);
	assert_int_equal(db_log(f->db, &e, DB_LOG_FIRST, real, NULL), -EINVAL);
	assert_int_equal(db_count(f->db, DB_EVENT), 1);
	assert_string_equal(db_at(f->db, DB_EVENT, 0)->key, "00000000000003e8-81");
	assert_int_equal(db_at(f->db, DB_EVENT, 0)->changed_ns, 77);
	assert_true(db_hash(f->db) != hash);
	json_decref(doc);
	json_decref(real);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_life_of_a_vm_is_a_story),
		T(maintenance_is_told_once),
		T(documents_tell_what_people_did),
		T(an_event_of_an_entry_is_kept_trimmed_and_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
