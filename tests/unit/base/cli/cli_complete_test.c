/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli.h"
#include "tests/lib/test.h"
#include "tests/unit/base/cli/toy.h"

static void completes(const struct cli_app *app, const char *line, const char *expected)
{
	char *got = toy_complete(app, line);

	assert_non_null(got);
	if (strcmp(got, expected) != 0) {
		fail_msg("'%s' completed to '%s', not '%s'", line, got, expected);
	}
	free(got);
}

static void words_come_from_the_table(void **state)
{
	static const struct {
		const char *line;
		const char *words;
	} cases[] = {
		{"vm", "vm"},
		{"n", "node"},
		{"vm ", "create start list remove"},
		{"vm re", "remove"},
		{"node ", "list drain"},
		{"bogus ", ""},
		{"vm bogus ", ""},
		{"help ", "vm node help completion"},
		{"help no", "node"},
		{"help vm cr", "create"},
		{"help bogus ", ""},
		{"completion ", "bash zsh"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		completes(&toy_app, cases[i].line, cases[i].words);
	}
}

static void names_come_from_the_program(void **state)
{
	(void)state;
	completes(&toy_app, "vm start ", "web1 web2 db:1");
	completes(&toy_app, "vm start web1 w", "web1 web2");
	completes(&toy_app, "vm start db:", "db:1");
	completes(&toy_app, "vm remove x w", "");
	completes(&toy_app, "vm start -- w", "web1 web2");
}

static void options_and_their_values_complete(void **state)
{
	(void)state;
	completes(&toy_app, "--j", "--json");
	completes(&toy_app, "vm create a --m", "--memory");
	completes(&toy_app, "vm create a --h", "--ha --host --help");
	completes(&toy_app, "vm create a --no-", "--no-ha");
	completes(&toy_app, "vm list --m", "");
	completes(&toy_app, "vm create a --priority ", "high medium low");
	completes(&toy_app, "vm create a --priority m", "medium");
	completes(&toy_app, "vm create a --priority=",
	          "--priority=high --priority=medium "
	          "--priority=low");
	completes(&toy_app, "vm create a --priority=l", "--priority=low");
	completes(&toy_app, "vm create a --disk ", ":file");
	completes(&toy_app, "vm create a --disk=/tm", ":file");
	completes(&toy_app, "vm create a --memory ", "");
	completes(&toy_app, "vm create a -m ", "");
	completes(&toy_app, "--host vm ", "vm node help completion");
	completes(&toy_app, "vm list ", "--json --quiet --host --help --version");
	completes(&toyd_app, "--s", "--state-dir");
	completes(&toyd_app, "--state-dir ", ":dir");
	completes(&toyd_app, "--log-level w", "warn");
	completes(&toyd_app, "", "--state-dir --log-level --help --version");
}

static void summaries_come_after_a_tab(void **state)
{
	const char *words[] = {"toy", "vm", "l"};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	cli_complete(&toy_app, 3, words, 2, out, NULL);
	cli_complete(&toy_app, 1, words, 1, out, NULL); /* nothing typed yet */
	(void)fclose(out);
	assert_non_null(strstr(text, "list\tList the VMs\n"));
	assert_non_null(strstr(text, "node\tMembers of the cluster\n"));
	free(text);
}

static void scripts_carry_the_name_of_the_program(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	assert_int_equal(cli_script(&toy_app, "bash", out), 0);
	assert_int_equal(cli_script(&toy_app, "zsh", out), 0);
	assert_int_equal(cli_script(&toy_app, "csh", out), -EINVAL);
	(void)fclose(out);
	assert_non_null(strstr(text, "complete -F _toy_complete toy\n"));
	assert_non_null(strstr(text, "#compdef toy\n"));
	assert_null(strstr(text, "PROGRAM"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_come_from_the_table),
		cmocka_unit_test(names_come_from_the_program),
		cmocka_unit_test(options_and_their_values_complete),
		cmocka_unit_test(summaries_come_after_a_tab),
		cmocka_unit_test(scripts_carry_the_name_of_the_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
