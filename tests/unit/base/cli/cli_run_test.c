/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cli/cli.h"
#include "tests/lib/test.h"
#include "tests/unit/base/cli/toy.h"

static void commands_run_with_their_words(void **state)
{
	struct toy_result r = toy_run(&toy_app, "vm start a b");

	(void)state;
	assert_int_equal(r.status, CLI_DONE);
	assert_string_equal(r.out, "toy vm start a b\n");
	assert_string_equal(r.err, "");
	toy_result_fini(&r);
	r = toy_run(&toyd_app, "");
	assert_string_equal(r.out, "toyd\n");
	toy_result_fini(&r);
}

static void wrong_words_exit_with_2_and_a_proposal(void **state)
{
	struct toy_result r = toy_run(&toy_app, "vm lits");

	(void)state;
	assert_int_equal(r.status, CLI_USAGE);
	assert_string_equal(r.out, "");
	assert_string_equal(r.err, "toy: 'vm' has no verb 'lits'\n"
	                           "  did you mean 'toy vm list'?\n");
	toy_result_fini(&r);
}

static void failures_say_why_and_what_to_do(void **state)
{
	struct toy_result r = toy_run(&toy_app, "vm remove a");

	(void)state;
	assert_int_equal(r.status, CLI_FAILED);
	assert_string_equal(r.err, "toy: the vm is busy\n  try later\n");
	toy_result_fini(&r);
	r = toy_run(&toy_app, "vm remove a slowly");
	assert_int_equal(r.status, CLI_TIMEOUT);
	toy_result_fini(&r);
}

static void version_is_one_line(void **state)
{
	struct toy_result r = toy_run(&toy_app, "--version");

	(void)state;
	assert_int_equal(r.status, CLI_DONE);
	assert_string_equal(r.out, "toy 1.2.3\n");
	toy_result_fini(&r);
}

static void help_is_the_same_by_any_way(void **state)
{
	static const char *const lines[] = {"help vm create", "vm create --help",
	                                    "--help vm create", "vm create a -h"};
	struct toy_result first = toy_run(&toy_app, lines[0]);

	(void)state;
	assert_int_equal(first.status, CLI_DONE);
	for (size_t i = 1; i < ARRAY_LEN(lines); i++) {
		struct toy_result r = toy_run(&toy_app, lines[i]);

		assert_string_equal(r.out, first.out);
		toy_result_fini(&r);
	}
	toy_result_fini(&first);

	struct toy_result bad = toy_run(&toy_app, "help vm craete");

	assert_int_equal(bad.status, CLI_USAGE);
	assert_non_null(strstr(bad.err, "did you mean 'toy vm create'?"));
	toy_result_fini(&bad);
}

static void help_names_all_words(void **state)
{
	static const char *const of_create[] = {
		"Usage: toy vm create NAME --memory SIZE [--cpus N] [--disk PATH]... [--[no-]ha]",
		"-m, --memory SIZE",
		"Memory of the VM. Required.",
		"Without it: 30s.",
		"May be given several times.",
		"kept  as is",
		"Answer in JSON.",
		"Timed out.",
		"  toy vm create web1 --memory 1G\n"};
	struct toy_result r = toy_run(&toy_app, "help vm create");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(of_create); i++) {
		if (strstr(r.out, of_create[i]) == NULL) {
			fail_msg("'%s' not in:\n%s", of_create[i], r.out);
		}
	}
	toy_result_fini(&r);
	r = toy_run(&toy_app, "help");
	assert_non_null(strstr(r.out, "Virtual machines: create, start, list, remove"));
	toy_result_fini(&r);
	r = toy_run(&toy_app, "node --help");
	assert_non_null(strstr(r.out, "Text about nodes."));
	assert_non_null(strstr(r.out, "drain"));
	toy_result_fini(&r);
	r = toy_run(&toyd_app, "--help");
	assert_non_null(strstr(r.out, "Usage: toyd [--state-dir DIR] [--log-level err|warn|info]"));
	toy_result_fini(&r);
}

static void help_fits_its_width(void **state)
{
	static const uint32_t widths[] = {60, 72, 100};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
		char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		assert_non_null(out);
		cli_help(&toy_app, NULL, NULL, widths[i], out);
		cli_help(&toy_app, toy_app.nouns[0], NULL, widths[i], out);
		cli_help(&toy_app, toy_app.nouns[0], &toy_app.nouns[0]->cmds[0], widths[i], out);
		(void)fclose(out);
		for (const char *line = text; *line != '\0';) {
			size_t n = strcspn(line, "\n");

			if (n > widths[i]) {
				fail_msg("wider than %u: %.*s", widths[i], (int)n, line);
			}
			line += n + 1;
		}
		free(text);
	}
}

static void completion_scripts_are_printed(void **state)
{
	struct toy_result r = toy_run(&toy_app, "completion bash");

	(void)state;
	assert_int_equal(r.status, CLI_DONE);
	assert_non_null(strstr(r.out, "complete -F _toy_complete toy"));
	toy_result_fini(&r);
	r = toy_run(&toy_app, "__complete 1 toy n");
	assert_string_equal(r.out, "node\tMembers of the cluster\n");
	toy_result_fini(&r);
	r = toy_run(&toy_app, "__complete x toy n");
	assert_int_equal(r.status, CLI_USAGE);
	toy_result_fini(&r);
}

static void words_can_be_tried_without_effect(void **state)
{
	static const struct {
		const char *words;
		int status;
	} cases[] = {
		{"__parse vm list", CLI_DONE},         {"__parse vm", CLI_USAGE},
		{"__parse vm lsit", CLI_USAGE},        {"__parse", CLI_USAGE},
		{"__parse nothing at all", CLI_USAGE}, {"__parse vm list --no-such", CLI_USAGE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct toy_result r = toy_run(&toy_app, cases[i].words);

		assert_int_equal(r.status, cases[i].status);
		assert_string_equal(r.out, "");
		assert_true((r.err[0] != '\0') == (r.status != CLI_DONE));
		toy_result_fini(&r);
	}
}

static void output_that_cannot_be_written_is_a_failure(void **state)
{
	const char *argv[] = {"toy", "help"};
	char *text = NULL;
	size_t len;
	FILE *full = fopen("/dev/full", "w");
	FILE *err = open_memstream(&text, &len);

	(void)state;
	assert_non_null(full);
	assert_non_null(err);
	assert_int_equal(cli_run(&toy_app, 2, argv, full, err, NULL), CLI_FAILED);
	(void)fclose(full);
	(void)fclose(err);
	assert_string_equal(text, "toy: cannot write the output\n");
	free(text);
}

static void generating_reports_a_bad_folder(void **state)
{
	struct toy_result r = toy_run(&toy_app, "__generate man /nowhere/at/all");

	(void)state;
	assert_int_equal(r.status, CLI_FAILED);
	assert_string_equal(r.err,
	                    "toy: create /nowhere/at/all/toy.1: No such file or directory\n");
	toy_result_fini(&r);
	r = toy_run(&toy_app, "__generate");
	assert_int_equal(r.status, CLI_FAILED);
	toy_result_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_run_with_their_words),
		cmocka_unit_test(wrong_words_exit_with_2_and_a_proposal),
		cmocka_unit_test(failures_say_why_and_what_to_do),
		cmocka_unit_test(version_is_one_line),
		cmocka_unit_test(help_is_the_same_by_any_way),
		cmocka_unit_test(help_names_all_words),
		cmocka_unit_test(help_fits_its_width),
		cmocka_unit_test(completion_scripts_are_printed),
		cmocka_unit_test(words_can_be_tried_without_effect),
		cmocka_unit_test(output_that_cannot_be_written_is_a_failure),
		cmocka_unit_test(generating_reports_a_bad_folder),
	};

	(void)unsetenv("COLUMNS");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
