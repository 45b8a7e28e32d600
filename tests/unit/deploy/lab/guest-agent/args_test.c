/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/args.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/test.h"

static struct args a;

static void words_and_values_are_found(void **state)
{
	uint64_t n;

	(void)state;
	assert_int_equal(args_parse(&a, "  disk write\tdev=sda size=16M seed=7\r\n", ' '), 0);
	assert_int_equal(a.count, 5);
	assert_true(args_is(&a, 0, "disk"));
	assert_true(args_is(&a, 1, "write"));
	assert_false(args_is(&a, 5, "disk"));
	assert_string_equal(args_text(&a, "dev", "none"), "sda");
	assert_string_equal(args_text(&a, "de", "none"), "none");
	assert_int_equal(args_number(&a, "size", 1, UINT64_MAX, &n), 0);
	assert_int_equal(n, 16 << 20);
	assert_int_equal(args_number(&a, "offset", 99, 10, &n), 0);
	assert_int_equal(n, 99);
}

static void the_kernel_command_line_has_commas(void **state)
{
	(void)state;
	assert_int_equal(args_parse(&a, "mem,start,size=64M", ','), 0);
	assert_int_equal(a.count, 3);
	assert_string_equal(args_text(&a, "size", ""), "64M");
}

static void numbers_that_are_none_are_refused(void **state)
{
	static const struct {
		const char *text;
		int err;
	} cases[] = {
		{"n=", -EINVAL},
		{"n=x", -EINVAL},
		{"n=-1", -EINVAL},
		{"n=1x", -EINVAL},
		{"n=1KK", -EINVAL},
		{"n=101", -ERANGE},
		{"n=18446744073709551616", -ERANGE},
		{"n=99999999999999999G", -ERANGE},
	};
	uint64_t n = 5;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(args_parse(&a, cases[i].text, ' '), 0);
		assert_int_equal(args_number(&a, "n", 0, 100, &n), cases[i].err);
		assert_int_equal(n, 5);
	}
}

static void empty_and_overlong_lines_are_refused(void **state)
{
	char line[ARGS_LINE_MAX + 2];

	(void)state;
	assert_int_equal(args_parse(&a, "", ' '), -ENOMSG);
	assert_int_equal(args_parse(&a, " \t \r\n", ' '), -ENOMSG);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = 0;
	assert_int_equal(args_parse(&a, line, ' '), -E2BIG);
	line[ARGS_LINE_MAX - 1] = 0;
	assert_int_equal(args_parse(&a, line, ' '), 0);
	for (size_t i = 0; i < ARGS_LINE_MAX - 1; i++) {
		line[i] = i % 2 ? ' ' : 'x';
	}
	assert_int_equal(args_parse(&a, line, ' '), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_and_values_are_found),
		cmocka_unit_test(the_kernel_command_line_has_commas),
		cmocka_unit_test(numbers_that_are_none_are_refused),
		cmocka_unit_test(empty_and_overlong_lines_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
