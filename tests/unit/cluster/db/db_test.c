/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/db/db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/db/db_cmd.h"
#include "tests/lib/test.h"

struct fixture {
	struct db *db;
	struct db *copy; /* fed by the sink only, through db_load() */
	uint64_t index;
};

static json_t *doc(const char *text)
{
	json_t *out = NULL;

	assert_int_equal(json_parse(text, strlen(text), NULL, &out, NULL), 0);
	return out;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(db_create(&f->db), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	db_destroy(f->db);
	free(f);
	return 0;
}

/* Apply the command and drop it. */
static struct db_result apply(struct fixture *f, struct db_cmd *c, const struct db_sink *sink)
{
	struct db_result result = {.status = -1};

	assert_int_equal(db_cmd_end(c), 0);
	f->index++;
	assert_int_equal(db_apply(f->db,
	                          &(struct db_entry){.index = f->index,
	                                             .time_ns = f->index * 1000,
	                                             .command = c->buf,
	                                             .len = c->len},
	                          sink, &result),
	                 0);
	db_cmd_fini(c);
	assert_int_equal(db_index(f->db), f->index);
	return result;
}

static int put(struct fixture *f, enum db_kind kind, const char *key, const char *text)
{
	struct db_cmd c;
	json_t *d = doc(text);

	db_cmd_init(&c);
	db_cmd_put(&c, kind, key, d);
	json_decref(d);
	return apply(f, &c, NULL).status;
}

static const char *text_of(struct fixture *f, enum db_kind kind, const char *key)
{
	static char buf[512];
	const struct db_object *o = db_get(f->db, kind, key);

	if (o == NULL) {
		return "(absent)";
	}

	char *text = json_text(o->doc, JSON_TEXT_SORTED);

	assert_non_null(text);
	(void)snprintf(buf, sizeof(buf), "%s", text);
	free(text);
	return buf;
}

static void objects_are_kept_in_order_with_versions(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put(f, DB_VM, "web2", "{\"a\":1}"), 0);
	assert_int_equal(put(f, DB_VM, "db1", "{\"a\":2}"), 0);
	assert_int_equal(put(f, DB_VM, "web1", "{\"a\":3}"), 0);
	assert_int_equal(put(f, DB_NODE, "n1", "{}"), 0);
	assert_int_equal(put(f, DB_VM, "web2", "{\"a\":4}"), 0);
	assert_int_equal(db_count(f->db, DB_VM), 3);
	assert_string_equal(db_at(f->db, DB_VM, 0)->key, "db1");
	assert_string_equal(db_at(f->db, DB_VM, 1)->key, "web1");
	assert_string_equal(db_at(f->db, DB_VM, 2)->key, "web2");

	const struct db_object *o = db_get(f->db, DB_VM, "web2");

	assert_non_null(o);
	assert_int_equal(o->version, 5);
	assert_int_equal(o->created, 1);
	assert_int_equal(o->changed_ns, 5000);
	assert_string_equal(text_of(f, DB_VM, "web2"), "{\"a\":4}");
	assert_null(db_get(f->db, DB_NODE, "web2"));
}

static void a_stale_command_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct db_cmd c;
	json_t *patch = doc("{\"role\":{\"state\":\"online\",\"token\":8}}");
	json_t *other = doc("{}");

	assert_int_equal(put(f, DB_VM, "web1", "{\"role\":{\"state\":\"starting\",\"token\":7}}"),
	                 0);
	db_cmd_init(&c);
	db_cmd_put(&c, DB_JOB, "j1", other); /* would be fine, but all or nothing */
	db_cmd_merge(&c, DB_VM, "web1", patch);
	db_cmd_if_str(&c, "role.state", "starting");
	db_cmd_if_u64(&c, "role.token", DB_EQ, 6);

	struct db_result result = apply(f, &c, NULL);

	assert_int_equal(result.status, -ESTALE);
	assert_int_equal(result.op_index, 1);
	assert_null(db_get(f->db, DB_JOB, "j1"));
	assert_string_equal(text_of(f, DB_VM, "web1"),
	                    "{\"role\":{\"state\":\"starting\",\"token\":7}}");
	for (int i = 0; i < 2; i++) { /* the second time it is too late */
		db_cmd_init(&c);
		db_cmd_merge(&c, DB_VM, "web1", patch);
		db_cmd_if_str(&c, "role.state", "starting");
		db_cmd_if_u64(&c, "role.token", DB_LT, 8);
		assert_int_equal(apply(f, &c, NULL).status, i == 0 ? 0 : -ESTALE);
	}
	json_decref(patch);
	json_decref(other);
}

static void each_condition_holds_when_it_should(void **state)
{
	static const struct {
		const char *path;
		const char *value; /* as "[...]" */
		enum db_compare compare;
		int status;
	} rows[] = {
		{"s", "[\"x\"]", DB_EQ, 0},
		{"s", "[\"y\"]", DB_EQ, -ESTALE},
		{"s", "[\"y\"]", DB_NE, 0},
		{"s", "[\"x\"]", DB_NE, -ESTALE},
		{"absent", "[null]", DB_EQ, -ESTALE},
		{"absent", "[1]", DB_NE, 0},
		{"n", "[null]", DB_EQ, 0},
		{"i", "[8]", DB_LT, 0},
		{"i", "[7]", DB_LT, -ESTALE},
		{"i", "[7]", DB_LE, 0},
		{"i", "[6]", DB_LE, -ESTALE},
		{"i", "[6]", DB_GT, 0},
		{"i", "[7]", DB_GT, -ESTALE},
		{"i", "[7]", DB_GE, 0},
		{"i", "[8]", DB_GE, -ESTALE},
		{"s", "[0]", DB_GE, -ESTALE},
		{"absent", "[9]", DB_LT, -ESTALE},
		{"o.p.q", "[true]", DB_EQ, 0},
		{"o.p", "[{\"q\":true}]", DB_EQ, 0},
		{"s.p", "[1]", DB_EQ, -ESTALE},
		{"n", NULL, DB_HAS, 0},
		{"absent", NULL, DB_HAS, -ESTALE},
		{"o.absent", NULL, DB_LACKS, 0},
		{"o", NULL, DB_LACKS, -ESTALE},
	};
	struct fixture *f = *state;

	assert_int_equal(
		put(f, DB_VM, "v", "{\"s\":\"x\",\"i\":7,\"n\":null,\"o\":{\"p\":{\"q\":true}}}"),
		0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct db_cmd c;

		db_cmd_init(&c);
		db_cmd_check(&c, DB_VM, "v");
		if (rows[i].compare == DB_HAS) {
			db_cmd_if_has(&c, rows[i].path);
		} else if (rows[i].compare == DB_LACKS) {
			db_cmd_if_lacks(&c, rows[i].path);
		} else {
			json_t *value = doc(rows[i].value);

			db_cmd_if(&c, rows[i].path, rows[i].compare, json_array_get(value, 0));
			json_decref(value);
		}
		if (apply(f, &c, NULL).status != rows[i].status) {
			fail_msg("row %zu", i);
		}
	}
}

static void existence_and_version_are_conditions(void **state)
{
	struct fixture *f = *state;
	struct db_cmd c;

	db_cmd_init(&c);
	db_cmd_check(&c, DB_VM, "v");
	db_cmd_if_absent(&c);
	assert_int_equal(apply(f, &c, NULL).status, 0);
	db_cmd_init(&c);
	db_cmd_delete(&c, DB_VM, "v");
	assert_int_equal(apply(f, &c, NULL).status, -ESTALE);
	assert_int_equal(put(f, DB_VM, "v", "{}"), 0);

	uint64_t version = db_get(f->db, DB_VM, "v")->version;

	db_cmd_init(&c);
	db_cmd_check(&c, DB_VM, "v");
	db_cmd_if_absent(&c);
	assert_int_equal(apply(f, &c, NULL).status, -ESTALE);
	db_cmd_init(&c);
	db_cmd_delete(&c, DB_VM, "v");
	db_cmd_if_version(&c, version + 1);
	assert_int_equal(apply(f, &c, NULL).status, -ESTALE);
	db_cmd_init(&c);
	db_cmd_delete(&c, DB_VM, "v");
	db_cmd_if_version(&c, version);
	assert_int_equal(apply(f, &c, NULL).status, 0);
	assert_int_equal(db_count(f->db, DB_VM), 0);
}

static void a_merge_replaces_and_removes_members(void **state)
{
	struct fixture *f = *state;
	struct db_cmd c;
	json_t *patch = doc("{\"a\":null,\"b\":{\"c\":2,\"d\":null},\"e\":{\"x\":null,\"y\":[1]}}");

	assert_int_equal(put(f, DB_VM, "v", "{\"a\":1,\"b\":{\"c\":1,\"d\":1,\"k\":1},\"e\":5}"),
	                 0);
	db_cmd_init(&c);
	db_cmd_merge(&c, DB_VM, "v", patch);
	assert_int_equal(apply(f, &c, NULL).status, 0);
	assert_string_equal(text_of(f, DB_VM, "v"), "{\"b\":{\"c\":2,\"k\":1},\"e\":{\"y\":[1]}}");
	db_cmd_init(&c);
	db_cmd_merge(&c, DB_VM, "absent", patch);
	assert_int_equal(apply(f, &c, NULL).status, -ESTALE);
	json_decref(patch);
}

static void what_could_differ_between_nodes_is_refused(void **state)
{
	struct fixture *f = *state;
	struct db_cmd c;
	json_t *d = doc("{}");

	assert_int_equal(put(f, DB_VM, "v", "{\"a\":{\"b\":[1.5]}}"), -EINVAL);
	db_cmd_init(&c); /* which of both? */
	db_cmd_put(&c, DB_VM, "v", d);
	db_cmd_put(&c, DB_VM, "v", d);
	assert_int_equal(apply(f, &c, NULL).status, -EINVAL);
	assert_int_equal(db_count(f->db, DB_VM), 0);
	json_decref(d);
}

static void the_oldest_events_go_first(void **state)
{
	struct fixture *f = *state;
	struct db_cmd c;
	json_t *d = doc("{\"what\":\"x\"}");

	for (uint32_t i = 0; i < DB_EVENTS_MAX / 50 + 2; i++) {
		db_cmd_init(&c);
		for (uint32_t n = 0; n < 50; n++) {
			db_cmd_log(&c, d);
		}
		assert_int_equal(apply(f, &c, NULL).status, 0);
	}
	assert_int_equal(db_count(f->db, DB_EVENT), DB_EVENTS_MAX);
	assert_string_equal(db_at(f->db, DB_EVENT, 0)->key, "0000000000000003-00");
	assert_string_equal(db_at(f->db, DB_EVENT, DB_EVENTS_MAX - 1)->key, "00000000000000ca-31");
	json_decref(d);
}

static void sink_put(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct fixture *f = arg;

	assert_int_equal(db_load(f->copy, key, key_len, value, len, NULL), 0);
}

static void sink_del(void *arg, const void *key, size_t key_len)
{
	(void)arg;
	(void)key;
	assert_true(key_len > 2);
}

static void what_the_sink_got_loads_as_the_same_tables(void **state)
{
	struct fixture *f = *state;
	const struct db_sink sink = {.put = sink_put, .del = sink_del, .arg = f};
	struct db_cmd c;
	json_t *d = doc("{\"name\":\"x\",\"list\":[1,\"\\u00e4\",null]}");

	assert_int_equal(db_create(&f->copy), 0);
	db_cmd_init(&c);
	db_cmd_put(&c, DB_VM, "web1", d);
	db_cmd_put(&c, DB_SETTING, "timing", d);
	db_cmd_log(&c, d);
	assert_int_equal(apply(f, &c, &sink).status, 0);
	db_loaded(f->copy, db_index(f->db));
	assert_true(db_hash(f->copy) == db_hash(f->db));
	assert_int_equal(db_index(f->copy), 1);
	assert_int_equal(db_get(f->copy, DB_VM, "web1")->version, 1);
	assert_int_equal(put(f, DB_VM, "web1", "{}"), 0);
	assert_true(db_hash(f->copy) != db_hash(f->db));
	json_decref(d);
	db_destroy(f->copy);
}

static void a_damaged_pair_is_refused(void **state)
{
	static const uint8_t value[] = "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0{\"a\":1}";
	struct fixture *f = *state;

	assert_int_equal(db_load(f->db, "\1/v", 3, value, sizeof(value) - 1, NULL), 0);
	assert_int_equal(db_load(f->db, "\1/v", 3, value, sizeof(value) - 1, NULL), -EEXIST);
	for (size_t len = 0; len < sizeof(value) - 1; len++) {
		assert_int_equal(db_load(f->db, "\1/w", 3, value, len, NULL), -EBADMSG);
	}
	assert_int_equal(db_load(f->db, "\1/", 2, value, sizeof(value) - 1, NULL), -EBADMSG);
	assert_int_equal(db_load(f->db, "\x63/v", 3, value, sizeof(value) - 1, NULL), -EBADMSG);
	assert_int_equal(db_load(f->db, "\1:v", 3, value, sizeof(value) - 1, NULL), -EBADMSG);
	assert_int_equal(db_load(f->db, "\1/ ", 3, value, sizeof(value) - 1, NULL), -EBADMSG);
}

struct heard {
	uint32_t calls;
	char last[64];
	bool had;
	bool has;
};

static void hear(void *arg, const struct db_change *change)
{
	struct heard *h = arg;

	h->calls++;
	(void)snprintf(h->last, sizeof(h->last), "%s/%s@%u", db_kind_name(change->kind),
	               change->key, (unsigned int)change->index);
	h->had = change->before != NULL;
	h->has = change->after != NULL;
}

static void watches_hear_what_changed(void **state)
{
	struct fixture *f = *state;
	struct heard vms = {0};
	struct heard all = {0};
	struct db_watch *w1;
	struct db_watch *w2;
	struct db_cmd c;

	assert_int_equal(db_watch_add(f->db, DB_VM, hear, &vms, &w1), 0);
	assert_int_equal(db_watch_add(f->db, DB_KIND_COUNT, hear, &all, &w2), 0);
	assert_int_equal(put(f, DB_VM, "v", "{}"), 0);
	assert_string_equal(vms.last, "vm/v@1");
	assert_true(!vms.had && vms.has);
	assert_int_equal(put(f, DB_JOB, "j", "{}"), 0);
	assert_int_equal(put(f, DB_VM, "v", "{\"a\":1.5}"), -EINVAL); /* nobody hears */
	assert_int_equal(vms.calls, 1);
	assert_int_equal(all.calls, 2);
	db_cmd_init(&c);
	db_cmd_delete(&c, DB_VM, "v");
	assert_int_equal(apply(f, &c, NULL).status, 0);
	assert_true(vms.had && !vms.has);
	db_watch_del(w1);
	assert_int_equal(put(f, DB_VM, "v", "{}"), 0);
	assert_int_equal(vms.calls, 2);
	assert_int_equal(all.calls, 4);
	db_watch_del(w2);
}

static void a_failed_allocation_leaves_everything_as_it_was(void **state)
{
	struct fixture *f = *state;
	json_t *d = doc("{\"role\":{\"state\":\"x\"}}");
	struct db_cmd c;
	struct db_result result;
	uint32_t k = 1;
	int err;

	assert_int_equal(put(f, DB_VM, "v", "{\"role\":{\"token\":1}}"), 0);
	db_cmd_init(&c);
	db_cmd_merge(&c, DB_VM, "v", d);
	db_cmd_if_u64(&c, "role.token", DB_EQ, 1);
	db_cmd_put(&c, DB_NODE, "n1", d);
	db_cmd_log(&c, d);
	assert_int_equal(db_cmd_end(&c), 0);

	uint64_t before = db_hash(f->db);

	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = db_apply(f->db,
		               &(struct db_entry){.index = 2, .command = c.buf, .len = c.len}, NULL,
		               &result);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_true(db_hash(f->db) == before);
		assert_int_equal(db_index(f->db), 1);
	}
	assert_int_equal(result.status, 0);
	assert_true(k > 5);
	assert_string_equal(text_of(f, DB_VM, "v"), "{\"role\":{\"state\":\"x\",\"token\":1}}");
	db_cmd_fini(&c);
	json_decref(d);
}

static void kinds_have_names(void **state)
{
	enum db_kind kind;

	(void)state;
	for (int i = 0; i < DB_KIND_COUNT; i++) {
		assert_int_equal(db_kind_parse(db_kind_name((enum db_kind)i), &kind), 0);
		assert_int_equal(kind, i);
	}
	assert_int_equal(db_kind_parse("vms", &kind), -ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(objects_are_kept_in_order_with_versions),
		TEST(a_stale_command_changes_nothing),
		TEST(each_condition_holds_when_it_should),
		TEST(existence_and_version_are_conditions),
		TEST(a_merge_replaces_and_removes_members),
		TEST(what_could_differ_between_nodes_is_refused),
		TEST(the_oldest_events_go_first),
		TEST(what_the_sink_got_loads_as_the_same_tables),
		TEST(a_damaged_pair_is_refused),
		TEST(watches_hear_what_changed),
		TEST(a_failed_allocation_leaves_everything_as_it_was),
		TEST(kinds_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
