/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/ha_note.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "tests/lib/test.h"

#define ASKED_MAX 8u

/* A log that refuses, or keeps what it was asked until answer() is called. */
static struct {
	int err;
	struct {
		rsm_done_fn fn;
		void *arg;
		char text[256]; /* of the command */
	} asked[ASKED_MAX];
	uint32_t count;
	int known; /* the document has what is as late as that */
} group;

static struct ha_notes notes;

static int propose(void *arg, const struct db_cmd *cmd, uint64_t timeout_ns, rsm_done_fn fn,
                   void *fn_arg)
{
	assert_ptr_equal(arg, &group);
	assert_true(timeout_ns > 0);
	if (group.err != 0) {
		return group.err;
	}
	assert_true(group.count < ASKED_MAX && cmd->len < sizeof(group.asked[0].text));
	group.asked[group.count].fn = fn;
	group.asked[group.count].arg = fn_arg;
	memcpy(group.asked[group.count].text, cmd->buf, cmd->len);
	group.asked[group.count].text[cmd->len] = '\0';
	group.count++;
	return 0;
}

static bool late(void *arg, const char *name, const json_t *patch)
{
	(void)name;
	assert_ptr_equal(arg, &group);
	return group.known > json_integer_value(json_object_get(patch, "moved"));
}

static void answer(uint32_t i, enum rsm_outcome outcome)
{
	group.asked[i].fn(group.asked[i].arg, outcome, &(struct rsm_result){0});
}

static void put(const char *vm, int value)
{
	ha_note(&notes, vm, json_pack("{s:i}", "moved", value), NS_PER_S);
}

static int setup(void **state)
{
	(void)state;
	memset(&group, 0, sizeof(group));
	ha_notes_init(&notes, propose, late, &group);
	return 0;
}

static void it_is_said_until_the_log_has_it(void **state)
{
	(void)state;
	group.err = -EAGAIN; /* no view just now */
	put("web1", 1);
	ha_notes_look(&notes, 2 * NS_PER_S);
	assert_int_equal(group.count, 0);
	group.err = 0;
	ha_notes_look(&notes, 3 * NS_PER_S);
	assert_int_equal(group.count, 1);
	ha_notes_look(&notes, 4 * NS_PER_S);
	assert_int_equal(group.count, 1); /* asked just now */
	answer(0, RSM_UNKNOWN);
	ha_notes_look(&notes, 9 * NS_PER_S);
	assert_int_equal(group.count, 2);
	answer(1, RSM_DONE);
	assert_true(list_empty(&notes.list));
}

static void notes_about_one_vm_keep_their_order(void **state)
{
	(void)state;
	put("web1", 1);
	put("web1", 2);
	put("web2", 3);
	assert_int_equal(group.count, 2); /* web1's second waits for its first */
	answer(0, RSM_UNKNOWN);
	answer(1, RSM_DONE);
	ha_notes_look(&notes, 2 * NS_PER_S);
	assert_int_equal(group.count, 3);
	assert_string_equal(group.asked[2].text, group.asked[0].text);
	answer(2, RSM_DONE);
	assert_int_equal(group.count, 4); /* at once */
	answer(3, RSM_DONE);
	assert_true(list_empty(&notes.list));
}

static void what_another_node_has_noted_since_is_not_written_over(void **state)
{
	(void)state;
	group.err = -EAGAIN;
	put("web1", 1);
	put("web2", 3);
	group.err = 0;
	group.known = 2;
	ha_notes_look(&notes, 2 * NS_PER_S);
	assert_int_equal(group.count, 1);
	assert_non_null(memmem(group.asked[0].text, sizeof(group.asked[0].text), "web2", 4));
	answer(0, RSM_DONE);
	assert_true(list_empty(&notes.list));
}

static void it_is_forgotten_some_day_and_at_the_end(void **state)
{
	(void)state;
	group.err = -EAGAIN;
	put("web1", 1);
	ha_notes_look(&notes, 3600 * NS_PER_S);
	assert_true(list_empty(&notes.list));
	group.err = 0;
	put("web1", 1);
	answer(0, RSM_UNKNOWN); /* too late to be said again */
	ha_notes_look(&notes, 3600 * NS_PER_S);
	assert_true(list_empty(&notes.list));
	assert_int_equal(group.count, 1);
	group.count = 0;
	put("web1", 1);
	put("web2", 2);
	ha_notes_stop(&notes);
	assert_true(list_empty(&notes.list));
	assert_int_equal(group.count, 2);
	answer(0, RSM_UNKNOWN); /* as the group ends */
	answer(1, RSM_DONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(it_is_said_until_the_log_has_it, setup),
		cmocka_unit_test_setup(notes_about_one_vm_keep_their_order, setup),
		cmocka_unit_test_setup(what_another_node_has_noted_since_is_not_written_over,
	                               setup),
		cmocka_unit_test_setup(it_is_forgotten_some_day_and_at_the_end, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
