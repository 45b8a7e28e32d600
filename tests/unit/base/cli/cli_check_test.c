/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli.h"
#include "tests/lib/test.h"
#include "tests/unit/base/cli/toy.h"

static int run(const struct cli_call *call, void *arg)
{
	(void)call;
	(void)arg;
	return CLI_DONE;
}

/* An app with one command that has @opt (twice if @again) and @args. */
static int check_one(const struct cli_opt *opt, const struct cli_opt *again,
                     const struct cli_arg *args, struct errbuf *eb)
{
	const struct cli_opt opts[] = {
		opt != NULL ? *opt : (struct cli_opt){0},
		again != NULL ? *again : (struct cli_opt){0},
		{0},
	};
	const struct cli_cmd cmds[] = {
		{.verb = "go", .summary = "Go there", .args = args, .opts = opts, .run = run}, {0}};
	const struct cli_noun noun = {.name = "thing", .summary = "Things", .cmds = cmds};
	const struct cli_noun *const list[] = {&noun, NULL};
	struct cli_app app = toy_app;

	app.nouns = list;
	return cli_check(&app, eb);
}

static void complete_tables_pass(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(cli_check(&toy_app, &eb), 0);
	assert_int_equal(cli_check(&toyd_app, &eb), 0);
}

static void faults_of_options_are_found(void **state)
{
	static const struct {
		struct cli_opt opt;
		const char *fault;
	} cases[] = {
		{{.name = "x y", .summary = "S."}, "thing: go: --x y: bad name"},
		{{.name = "Xx", .summary = "S."}, "thing: go: --Xx: bad name"},
		{{.name = "json", .summary = "S."}, "thing: go: --json: the name is used twice"},
		{{.name = "help", .summary = "S."}, "thing: go: --help: the name is used twice"},
		{{.name = "qq", .letter = 'q', .summary = "S."},
	         "thing: go: -q: the letter is used twice"},
		{{.name = "x"}, "thing: go: --x: summary: summary must be a sentence"},
		{{.name = "x", .summary = "no stop"},
	         "thing: go: --x: summary: summary must be a sentence"},
		{{.name = "x", .summary = "S.", .value = "N"},
	         "thing: go: --x: a flag has no value"},
		{{.name = "x", .kind = CLI_UINT, .summary = "S."},
	         "thing: go: --x: what stands for the value is missing"},
		{{.name = "x", .kind = CLI_CHOICE, .value = "a||b", .summary = "S."},
	         "thing: go: --x: empty or long word in 'a||b'"},
		{{.name = "x", .kind = CLI_UINT, .value = "N", .preset = "many", .summary = "S."},
	         "thing: go: --x: \"many\" is not a whole number"},
		{{.name = "x",
	          .kind = CLI_UINT,
	          .value = "N",
	          .preset = "1",
	          .required = true,
	          .summary = "S."},
	         "thing: go: --x: required, so the preset is never used"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct errbuf eb = {0};

		assert_int_equal(check_one(&cases[i].opt, NULL, NULL, &eb), -EINVAL);
		assert_string_equal(eb.text, cases[i].fault);
	}
}

static void names_used_twice_are_found(void **state)
{
	const struct cli_opt one = {.name = "one", .letter = 'o', .summary = "S."};
	const struct cli_opt two = {.name = "two", .letter = 'o', .summary = "S."};
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(check_one(&one, NULL, NULL, &eb), 0);
	assert_int_equal(check_one(&one, &one, NULL, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: --one: the name is used twice");
	assert_int_equal(check_one(&one, &two, NULL, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: -o: the letter is used twice");
}

static void faults_of_arguments_are_found(void **state)
{
	const struct cli_arg nothing[] = {{.name = "A"}, {0}};
	const struct cli_arg early_repeat[] = {{.name = "A", .summary = "S.", .repeat = true},
	                                       {.name = "B", .summary = "S."},
	                                       {0}};
	const struct cli_arg early_optional[] = {{.name = "A", .summary = "S.", .optional = true},
	                                         {.name = "B", .summary = "S."},
	                                         {0}};
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(check_one(NULL, NULL, nothing, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: A: summary must be a sentence");
	assert_int_equal(check_one(NULL, NULL, early_repeat, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: A: only the last may repeat");
	assert_int_equal(check_one(NULL, NULL, early_optional, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: B: follows an optional word");
}

static int check_cmds(const struct cli_cmd *cmds, struct errbuf *eb)
{
	const struct cli_noun noun = {.name = "thing", .summary = "Things", .cmds = cmds};
	const struct cli_noun *const list[] = {&noun, NULL};
	struct cli_app app = toy_app;

	app.nouns = list;
	return cli_check(&app, eb);
}

static void faults_of_commands_are_found(void **state)
{
	const struct cli_cmd none[] = {{0}};
	const struct cli_cmd no_summary[] = {{.verb = "go", .run = run}, {0}};
	const struct cli_cmd stop[] = {{.verb = "go", .summary = "Go.", .run = run}, {0}};
	const struct cli_cmd no_run[] = {{.verb = "go", .summary = "Go"}, {0}};
	const struct cli_cmd twice[] = {{.verb = "go", .summary = "Go", .run = run},
	                                {.verb = "go", .summary = "Go", .run = run},
	                                {0}};
	const struct cli_cmd mixed[] = {
		{.verb = "go", .summary = "Go", .run = run}, {.summary = "Go", .run = run}, {0}};
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(check_cmds(none, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: no command");
	assert_int_equal(check_cmds(no_summary, &eb), -EINVAL);
	assert_int_equal(check_cmds(stop, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: command: summary must be a phrase with a capital "
	                             "and no full stop");
	assert_int_equal(check_cmds(no_run, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: no function");
	assert_int_equal(check_cmds(twice, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: go: no summary, or used twice");
	assert_int_equal(check_cmds(mixed, &eb), -EINVAL);
	assert_string_equal(eb.text, "thing: a command without verb must be the only one");
}

static void faults_of_programs_are_found(void **state)
{
	struct cli_app app = toy_app;
	struct errbuf eb = {0};

	(void)state;
	app.root = toyd_app.root;
	assert_int_equal(cli_check(&app, &eb), -EINVAL);
	assert_string_equal(eb.text, "either nouns or a root command");
	app = toy_app;
	app.details = NULL;
	assert_int_equal(cli_check(&app, &eb), -EINVAL);
	app = toy_app;
	app.summary = NULL;
	assert_int_equal(cli_check(&app, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(complete_tables_pass),
		cmocka_unit_test(faults_of_options_are_found),
		cmocka_unit_test(names_used_twice_are_found),
		cmocka_unit_test(faults_of_arguments_are_found),
		cmocka_unit_test(faults_of_commands_are_found),
		cmocka_unit_test(faults_of_programs_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
