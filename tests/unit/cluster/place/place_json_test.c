/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/place/place_json.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/unit/cluster/place/place_test.h"

static void make_input(void)
{
	in.vm_count = VMS;
	in.epoch = 9;
	for (uint32_t i = 0; i < VMS; i++) {
		vms[i].policy.memory_bytes = (1 + i % 4) * GIB / 4;
		vms[i].node = i % 2 == 0 ? 1 + i % 3 : 0;
		vms[i].policy.groups[0] = i % 7;
		vms[i].policy.preferred[0] = i % 3;
		vms[i].policy.after[0] = i % 5;
		vms[i].policy.possible = i % 4 == 0 ? 0x8000000000000003 : 0;
	}
}

static void what_was_saved_decides_the_same_again(void **state)
{
	struct place_choice again[VMS];
	struct place_summary sum2;
	struct place_saved *saved;
	struct errbuf eb = {0};
	json_t *json;
	json_t *parsed;

	(void)state;
	make_input();
	assert_int_equal(place_save(&in, &json), 0);
	char *text = json_text(json, JSON_TEXT_PRETTY);

	assert_non_null(text);
	assert_int_equal(json_parse(text, strlen(text), NULL, &parsed, &eb), 0);
	assert_int_equal(place_load(parsed, &saved, &eb), 0);
	place_failover(&in, 0x1, work, out, &sum);
	place_failover(&saved->in, 0x1, work, again, &sum2);
	assert_memory_equal(out, again, sizeof(again));
	assert_memory_equal(&sum, &sum2, sizeof(sum));
	assert_string_equal(saved->in.vms[4].name, "v05");
	place_run(&in, work, out, &sum);
	place_run(&saved->in, work, again, &sum2);
	assert_memory_equal(out, again, sizeof(again));
	place_saved_free(saved);
	json_decref(json);
	json_decref(parsed);
	free(text);
}

static const char good[] =
	"{\"version\":1,\"epoch\":1,\"now_ms\":2,\"reserve\":0,\"apart_hard\":false,"
	"\"starts_per_node\":2,\"moves_per_node\":2,\"nodes\":[{\"id\":1,\"state\":\"up\",\"cpus\":"
	"4,"
	"\"cpu_level\":0,\"memory\":1024,\"paths\":\"ff\"}],\"vms\":[{\"id\":3,\"name\":\"a\","
	"\"node\":1,"
	"\"wanted\":true,\"live\":true,\"cpu_level\":0,\"in_place\":0,\"tried\":\"0\",\"priority\":"
	"\"high\",\"fallback\":\"quick\",\"possible\":\"0\",\"preferred\":[1],\"groups\":[],"
	"\"after\":[],"
	"\"volumes\":\"1\",\"memory\":512,\"cpus\":1}]}";

static int load(const char *text, struct errbuf *eb)
{
	struct place_saved *saved = NULL;
	json_t *json;
	int err = json_parse(text, strlen(text), NULL, &json, eb);

	if (err < 0) {
		return err;
	}
	err = place_load(json, &saved, eb);
	assert_true((err == 0) == (saved != NULL));
	place_saved_free(saved);
	json_decref(json);
	return err;
}

static void refuse(const char *from, const char *to, const char *where)
{
	struct errbuf eb = {0};
	char text[sizeof(good) + 64];
	const char *at = strstr(good, from);

	assert_non_null(at);
	(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to,
	               at + strlen(from));
	assert_int_equal(load(text, &eb), -EINVAL);
	if (strstr(eb.text, where) == NULL) {
		fail_msg("%s", eb.text);
	}
}

static void what_is_not_an_input_is_refused_with_its_place(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(load(good, &eb), 0);
	refuse("\"version\":1", "\"version\":2", "placement.version");
	refuse("\"id\":1", "\"id\":65", "nodes[0].id");
	refuse("\"state\":\"up\"", "\"state\":\"odd\"", "nodes[0].state");
	refuse("\"ff\"", "\"fg\"", "paths");
	refuse("\"ff\"", "\"11112222333344445\"", "paths");
	refuse("\"id\":3", "\"id\":0", "vms[0].id");
	refuse("\"preferred\":[1]", "\"preferred\":[65]", "preferred[0]");
	refuse("\"preferred\":[1]", "\"preferred\":[1,1,1,1,1,1,1,1,1]", "preferred");
	refuse("\"memory\":512", "\"memory\":0", "memory");
	refuse("\"cpus\":1}", "\"cpus\":5000}", "cpus");
	refuse("\"name\":\"a\",", "", "name");
	refuse("}]}", "},{}]}", "vms[1]");
}

static void no_memory_leaks_nothing(void **state)
{
	json_t *json;
	uint32_t k = 0;
	int err;

	(void)state;
	assert_int_equal(json_parse(good, strlen(good), NULL, &json, NULL), 0);
	do {
		struct place_saved *saved;

		fault_arm(FAULT_ALLOC, ++k);
		err = place_load(json, &saved, NULL);
		fault_arm(FAULT_ALLOC, 0);
		place_saved_free(saved);
	} while (err == -ENOMEM);
	assert_int_equal(err, 0);
	assert_int_equal(k, 4);
	json_decref(json);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_saved_decides_the_same_again),
		T(what_is_not_an_input_is_refused_with_its_place),
		T(no_memory_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
