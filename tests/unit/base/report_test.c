/* SPDX-License-Identifier: Apache-2.0 */
#include "base/report.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "base/json.h"
#include "tests/lib/test.h"

static const struct report_check nx = {
	.id = "cpu.nx", .what = "No-execute", .needed = "nx", .mend = "Enable it."};

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "(absent)";
}

static void the_worst_line_decides(void **state)
{
	struct report *report;

	(void)state;
	assert_int_equal(report_create(&report), 0);
	assert_int_equal(report_worst(report), REPORT_OK);
	report_add(report, &nx, REPORT_INFO, "x");
	assert_int_equal(report_worst(report), REPORT_OK);
	report_add(report, &nx, REPORT_WARN, "x");
	report_add(report, &nx, REPORT_OK, "x");
	assert_int_equal(report_worst(report), REPORT_WARN);
	report_add(report, &nx, REPORT_FAIL, "x");
	report_add(report, &nx, REPORT_OK, "x");
	assert_int_equal(report_worst(report), REPORT_FAIL);
	assert_int_equal(report_count(report, REPORT_OK), 2);
	assert_int_equal(report_error(report), 0);
	report_destroy(report);
}

static void json_says_how_to_mend_only_what_is_wrong(void **state)
{
	struct report *report;

	(void)state;
	assert_int_equal(report_create(&report), 0);
	report_add(report, &nx, REPORT_OK, "flag %s", "nx");
	report_add(report, &nx, REPORT_FAIL, "bad \xff\x01 bytes");

	json_t *json = report_json(report);
	json_t *checks = json_object_get(json, "checks");

	assert_non_null(json);
	assert_string_equal(text_of(json, "verdict"), "fail");
	assert_int_equal(json_array_size(checks), 2);
	assert_string_equal(text_of(json_array_get(checks, 0), "id"), "cpu.nx");
	assert_string_equal(text_of(json_array_get(checks, 0), "found"), "flag nx");
	assert_string_equal(text_of(json_array_get(checks, 0), "verdict"), "ok");
	assert_string_equal(text_of(json_array_get(checks, 0), "mend"), "(absent)");
	assert_string_equal(text_of(json_array_get(checks, 1), "mend"), "Enable it.");
	assert_string_equal(text_of(json_array_get(checks, 1), "found"), "bad ?? bytes");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(json, "counts"), "fail")), 1);
	json_decref(json);
	report_destroy(report);
}

static void too_many_lines_are_told(void **state)
{
	struct report *report;

	(void)state;
	assert_int_equal(report_create(&report), 0);
	for (uint32_t i = 0; i < REPORT_LINES_MAX; i++) {
		report_add(report, &nx, REPORT_OK, "%u", i);
	}
	assert_int_equal(report_error(report), 0);
	report_add(report, &nx, REPORT_OK, "one more");
	assert_int_equal(report_error(report), -E2BIG);
	assert_int_equal(report_count(report, REPORT_OK), REPORT_LINES_MAX);
	report_destroy(report);
}

static int fill(void)
{
	struct report *report;
	int err = report_create(&report);

	if (err < 0) {
		return err;
	}
	for (int i = 0; i < 100; i++) {
		report_add(report, &nx, REPORT_OK, "%d", i);
	}
	err = report_error(report);
	report_destroy(report);
	return err;
}

static void every_failing_allocation_is_told(void **state)
{
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), fill() != 0; k++) {
		assert_true(fault_hit(FAULT_ALLOC));
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(k, 1 + 1 + 2 + 100); /* the report, two sizes of table, the texts */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_worst_line_decides),
		cmocka_unit_test(json_says_how_to_mend_only_what_is_wrong),
		cmocka_unit_test(too_many_lines_are_told),
		cmocka_unit_test(every_failing_allocation_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
