/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/hostinfo.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "tests/lib/test.h"

static bool has_check(const json_t *report, const char *id)
{
	const json_t *checks = json_object_get(report, "checks");

	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *line = json_array_get(checks, i);

		if (strcmp(json_string_value(json_object_get(line, "id")), id) == 0) {
			return true;
		}
	}
	return false;
}

static void all_parts_of_the_system_have_their_say(void **state)
{
	json_t *json;

	(void)state;
	assert_int_equal(hostinfo_check("/var/lib/godwit", "local", &json, NULL), 0);
	assert_true(has_check(json, "cpu.nx"));
	assert_true(has_check(json, "cluster.corosync"));
	assert_string_equal(json_string_value(json_object_get(json, "source")), "local");
	json_decref(json);
	assert_int_equal(hostinfo_show("/var/lib/godwit", "godwitd", &json, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(json, "source")), "godwitd");
	assert_non_null(
		json_string_value(json_object_get(json_object_get(json, "versions"), "godwit")));
	json_decref(json);
}

static void no_memory_is_told(void **state)
{
	struct errbuf eb = {0};
	json_t *json;
	int err = -ENOMEM;

	(void)state;
	for (uint32_t k = 1; err == -ENOMEM; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = hostinfo_check("/var/lib/godwit", "local", &json, &eb);
		if (err < 0) {
			assert_null(json);
			assert_true(eb.text[0] != '\0');
			/* The rest of a report costs one allocation per line. */
			k = k > 5 ? k + 20 : k;
		}
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(err, 0);
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_parts_of_the_system_have_their_say),
		cmocka_unit_test(no_memory_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
