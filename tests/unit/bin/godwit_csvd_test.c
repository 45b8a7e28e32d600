/* SPDX-License-Identifier: Apache-2.0 */
/* What the cluster says to godwit-csvd, as JSON. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/godwit-csvd/csvd_int.h"
#include "tests/lib/test.h"

#define ID "01234567-89ab-cdef-0123-456789abcdef"

static const char good[] =
	"{\"epoch\": 9, \"index\": 70, \"self\": 2, \"members\": ["
	"{\"id\": 1, \"name\": \"n1\", \"run\": 5, \"addr\": \"10.0.0.1\", \"keys\": [\"k1\", "
	"\"k2\"]},"
	"{\"id\": 2, \"name\": \"n2\", \"run\": 7, \"addr\": \"::1\", \"port\": 99}],"
	"\"fenced\": [{\"id\": 1, \"run\": 4}, {\"id\": 1, \"run\": 3}, {\"id\": 3, \"run\": 8}],"
	"\"timing\": {\"lease_ms\": 20000},"
	"\"volumes\": [{\"name\": \"vol1\", \"device\": \"/dev/x\", \"id\": \"" ID "\","
	"\"term\": 6, \"coordinator\": 1, \"quiet\": true,"
	"\"holders\": [{\"id\": 1, \"run\": 5}, {\"id\": 2, \"run\": 7}]},"
	"{\"name\": \"vol2\", \"device\": \"/dev/y\", \"term\": 1, \"quiet\": false, \"holders\": "
	"[]}]}";

static struct csv_daemon_members *members;

static int setup(void **state)
{
	(void)state;
	members = calloc(1, sizeof(*members));
	return members != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(members);
	return 0;
}

static int parse(const char *text, struct errbuf *eb)
{
	json_t *json = NULL;
	int err = json_parse(text, strlen(text), NULL, &json, eb);

	if (err == 0) {
		err = members_parse(json, members, eb);
	}
	json_decref(json);
	return err;
}

static void the_whole_word_is_taken(void **state)
{
	struct errbuf eb = {0};
	const struct csv_daemon_members *m = members;

	(void)state;
	assert_int_equal(parse(good, &eb), 0);
	assert_int_equal(m->epoch, 9);
	assert_int_equal(m->index, 70);
	assert_int_equal(m->self, 2);
	assert_false(m->alone);
	assert_int_equal(m->peers[1].run, 5);
	assert_string_equal(m->peers[1].name, "n1");
	assert_string_equal(m->peers[1].addr, "10.0.0.1");
	assert_int_equal(m->peers[1].port, 0);
	assert_int_equal(m->peers[1].pins_count, 2);
	assert_string_equal(m->peers[1].pins[1], "k2");
	assert_int_equal(m->peers[2].port, 99);
	assert_int_equal(m->peers[3].run, 0);
	assert_int_equal(m->fenced[1], 4);
	assert_int_equal(m->fenced[3], 8);
	assert_int_equal(m->timing.lease_ms, 20000);
	assert_int_equal(m->volumes_count, 2);
	assert_string_equal(m->volumes[0].device, "/dev/x");
	assert_false(guid_is_nil(&m->volumes[0].id));
	assert_int_equal(m->volumes[0].term, 6);
	assert_int_equal(m->volumes[0].coordinator, 1);
	assert_true(m->volumes[0].quiet);
	assert_int_equal(m->volumes[0].holders_count, 2);
	assert_int_equal(m->volumes[0].holders[1].incarnation, 7);
	assert_int_equal(m->volumes[1].coordinator, CSV_MSG_NODES);
	assert_true(guid_is_nil(&m->volumes[1].id));
}

/* @with in the place of @what. */
static void refused(const char *what, const char *with, const char *why)
{
	const char *at = strstr(good, what);
	struct errbuf eb = {0};
	char text[sizeof(good) + 200];

	assert_non_null(at);
	(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, with,
	               at + strlen(what));
	assert_int_equal(parse(text, &eb), -EINVAL);
	if (strstr(eb.text, why) == NULL) {
		fail_msg("%s: %s", with, eb.text);
	}
}

static void what_is_wrong_is_named(void **state)
{
	(void)state;
	refused("\"epoch\": 9", "\"epoch\": 0", "epoch");
	refused("\"epoch\": 9, ", "", "epoch");
	refused("\"index\": 70", "\"index\": -1", "index");
	refused("\"self\": 2", "\"self\": 64", "self");
	refused("\"self\"", "\"selv\"", "selv");
	refused("\"id\": 1, \"name\"", "\"id\": 64, \"name\"", "members[0].id");
	refused("\"id\": 2, \"name\"", "\"id\": 1, \"name\"", "twice");
	refused("\"n1\"", "\"n 1\"", "members[0]");
	refused("\"run\": 7, \"addr\"", "\"run\": 0, \"addr\"", "members[1].run");
	refused("\"port\": 99", "\"port\": 70000", "port");
	refused("[\"k1\", \"k2\"]", "[1]", "keys[0]");
	refused("\"lease_ms\"", "\"leas_ms\"", "leas_ms");
	refused("\"run\": 4}", "\"run\": -4}", "fenced[0].run");
	refused("\"" ID "\"", "\"no id\"", "volumes[0]");
	refused("\"term\": 6, ", "", "term");
	refused("\"coordinator\": 1", "\"coordinator\": 64", "coordinator");
	refused("\"quiet\": true,", "", "quiet");
	refused("\"quiet\": true", "\"quiet\": 1", "quiet");
	refused(", \"holders\": []", "", "holders");
	assert_int_equal(members_parse(NULL, members, NULL), -EINVAL);
}

/* Cut anywhere it is no JSON, and never more than an error. */
static void what_is_cut_is_refused(void **state)
{
	char text[sizeof(good)];

	(void)state;
	for (size_t len = 0; len + 1 < sizeof(good) - 1; len += 7) {
		memcpy(text, good, len);
		text[len] = '\0';
		assert_true(parse(text, NULL) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_word_is_taken),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(what_is_cut_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
