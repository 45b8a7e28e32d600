/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli.h"
#include "tests/lib/test.h"
#include "tests/unit/base/cli/toy.h"

static struct cli_call call;

static void parses(const char *line)
{
	struct errbuf eb = {0};

	if (toy_parse(&toy_app, line, &call, &eb) != 0) {
		fail_msg("%s: %s", line, eb.text);
	}
}

static void refuses(const char *line, const char *text, const char *hint)
{
	struct errbuf eb = {0};

	assert_int_equal(toy_parse(&toy_app, line, &call, &eb), -EINVAL);
	assert_string_equal(eb.text, text);
	assert_string_equal(eb.hint, hint);
}

static void finds_noun_verb_names_and_options(void **state)
{
	(void)state;
	parses("vm create web1 --memory 512M --disk a.vhdx --disk=b.vhdx --ha --json");
	assert_string_equal(call.noun->name, "vm");
	assert_string_equal(call.cmd->verb, "create");
	assert_string_equal(cli_arg_at(&call, 0), "web1");
	assert_null(cli_arg_at(&call, 1));
	assert_int_equal(cli_number(&call, "memory", 0), 512ull << 20);
	assert_string_equal(cli_text_at(&call, "disk", 0), "a.vhdx");
	assert_string_equal(cli_text_at(&call, "disk", 1), "b.vhdx");
	assert_null(cli_text_at(&call, "disk", 2));
	assert_true(cli_flag(&call, "ha", false));
	assert_true(cli_flag(&call, "json", false));
	assert_false(cli_flag(&call, "quiet", false));
	assert_true(cli_given(&call, "memory"));
	assert_false(cli_given(&call, "cpus"));
}

static void options_may_stand_anywhere(void **state)
{
	(void)state;
	refuses("--host a vm list --host b", "option '--host' is given twice", "");
	parses("--json --host unix:///x vm -q start a b");
	assert_string_equal(cli_text(&call, "host"), "unix:///x");
	assert_string_equal(cli_arg_at(&call, 1), "b");
	assert_true(cli_flag(&call, "quiet", false));
}

static void presets_and_fallbacks_hold_when_nothing_is_given(void **state)
{
	(void)state;
	parses("vm create a -m1G");
	assert_int_equal(cli_number(&call, "memory", 0), 1ull << 30);
	assert_int_equal(cli_number(&call, "cpus", 99), 1);
	assert_int_equal(cli_number(&call, "grace", 0), 30000000000ull);
	assert_string_equal(cli_text(&call, "priority"), "medium");
	assert_null(cli_text(&call, "host"));
	assert_true(cli_flag(&call, "ha", true));
	assert_false(cli_flag(&call, "ha", false));
	parses("vm create a -m 1G --no-ha");
	assert_false(cli_flag(&call, "ha", true));
}

static void numbers_have_units_and_bounds(void **state)
{
	static const struct {
		const char *option;
		uint64_t number;
	} good[] = {
		{"--memory=0", 0},
		{"--memory=7B", 7},
		{"--memory=1K", 1024},
		{"--memory=1.5G", 1536ull << 20},
		{"--memory=3T", 3ull << 40},
		{"--memory=16383P", 16383ull << 50},
		{"--memory=18446744073709551615", UINT64_MAX},
	};
	static const char *const bad[] = {
		"--memory=",     "--memory=-1",       "--memory=1X",
		"--memory=1.G",  "--memory= 1",       "--memory=16384P",
		"--memory=0x10", "--memory=1G ",      "--memory=99999999999999999999",
		"--grace=30",    "--grace=1 s",       "--cpus=2K",
		"--cpus=two",    "--grace=300000000d"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		const char *argv[] = {"toy", "vm", "create", "a", good[i].option};

		assert_int_equal(cli_parse(&toy_app, 5, argv, &call, NULL), 0);
		assert_true(cli_number(&call, "memory", 1) == good[i].number);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const char *argv[] = {"toy", "vm", "create", "a", bad[i]};
		struct errbuf eb = {0};

		assert_int_equal(cli_parse(&toy_app, 5, argv, &call, &eb), -EINVAL);
		assert_non_null(strstr(eb.text, "option '--"));
	}
	parses("vm create a --memory 1G --grace 5m --cpus 4");
	assert_int_equal(cli_number(&call, "grace", 0), 300000000000ull);
	refuses("vm create a --memory 1Q", "option '--memory': \"1Q\" is not a size",
	        "write SIZE such as 512M or 8G");
}

static void two_dashes_end_the_options(void **state)
{
	(void)state;
	parses("vm start a -- --json -q");
	assert_string_equal(cli_arg_at(&call, 1), "--json");
	assert_string_equal(cli_arg_at(&call, 2), "-q");
	parses("vm start -");
	assert_string_equal(cli_arg_at(&call, 0), "-");
}

static void a_forgotten_value_is_noticed(void **state)
{
	(void)state;
	refuses("vm create a --memory", "option '--memory' needs a value: SIZE", "");
	refuses("vm create a --disk --ha", "option '--disk' needs a value: PATH",
	        "if '--ha' is the value: --disk=--ha");
	parses("vm create a --memory 1G --disk=--ha");
	assert_string_equal(cli_text_at(&call, "disk", 0), "--ha");
	parses("vm create a --memory 1G --disk -x"); /* a single dash may begin a value */
	refuses("vm list --json=yes", "option '--json' takes no value", "");
}

static void mistyped_words_get_a_proposal(void **state)
{
	(void)state;
	refuses("vn list", "unknown word 'vn'", "did you mean 'toy vm list'?");
	refuses("vms", "unknown word 'vms'", "did you mean 'toy vm'?");
	refuses("guest list", "unknown word 'guest'", "did you mean 'toy vm list'?");
	refuses("xyzzy", "unknown word 'xyzzy'", "'toy help' lists what there is");
	refuses("list vm", "unknown word 'list'", "did you mean 'toy vm list'?");
	refuses("vm craete a", "'vm' has no verb 'craete'", "did you mean 'toy vm create'?");
	refuses("vm delete a", "'vm' has no verb 'delete'", "did you mean 'toy vm remove'?");
	refuses("vm xyzzy", "'vm' has no verb 'xyzzy'", "'toy help vm' lists the verbs");
	refuses("vm create a --memroy 1G", "unknown option '--memroy'", "did you mean '--memory'?");
	refuses("vm create a --memroy=1G", "unknown option '--memroy'", "did you mean '--memory'?");
	refuses("vm create a --xyzzy", "unknown option '--xyzzy'",
	        "'toy vm create --help' lists the options");
	refuses("--memory 1G vm create", "unknown option '--memory'",
	        "options of a command come after its words: toy NOUN VERB --memory");
	refuses("vm create a -memory 1G", "unknown option '-memory'", "did you mean '--memory'?");
	refuses("vm list -json", "unknown option '-json'", "did you mean '--json'?");
	refuses("vm create a --priority hihg",
	        "option '--priority': 'hihg' is none of "
	        "high|medium|low",
	        "did you mean 'high'?");
	refuses("vm create a --priority hi", "option '--priority': 'hi' is none of high|medium|low",
	        "did you mean 'high'?");
}

static void missing_and_surplus_words_are_named(void **state)
{
	(void)state;
	refuses("", "what shall be done?", "'toy help' lists what there is");
	refuses("vm", "what shall be done with 'vm'?", "'toy help vm' lists the verbs");
	refuses("vm create", "NAME is missing", "'toy vm create --help' shows what belongs where");
	refuses("vm create a", "option '--memory SIZE' is missing",
	        "'toy vm create --help' says what it means");
	refuses("vm list a", "'a' is one word too many",
	        "'toy vm list --help' shows what belongs there");
	refuses("vm remove a b c", "'c' is one word too many",
	        "'toy vm remove --help' shows what belongs there");
	refuses("vm create a --memory 1G --memory 2G", "option '--memory' is given twice", "");
	refuses("vm create a --memory 1G --ha --no-ha",
	        "options '--ha' and '--no-ha' exclude each other", "");
	parses("vm create a --memory 1G --ha --ha --json --json"); /* harmless */
}

static void asking_for_help_excuses_missing_words(void **state)
{
	(void)state;
	parses("--help");
	assert_true(call.help);
	assert_null(call.noun);
	parses("vm --help");
	assert_true(call.help);
	assert_null(call.cmd);
	parses("vm help");
	assert_true(call.help);
	parses("vm create --help");
	assert_string_equal(call.cmd->verb, "create");
	parses("-h vm create");
	assert_true(call.help);
	assert_string_equal(call.cmd->verb, "create");
	parses("--version");
	assert_true(call.version);
	refuses("vm craete --help", "'vm' has no verb 'craete'", "did you mean 'toy vm create'?");
}

static void counts_are_bounded(void **state)
{
	static const char *argv[CLI_ARGS_MAX + 4] = {"toy", "vm", "start"};
	struct errbuf eb = {0};

	(void)state;
	for (int i = 3; i < CLI_ARGS_MAX + 4; i++) {
		argv[i] = "x";
	}
	assert_int_equal(cli_parse(&toy_app, CLI_ARGS_MAX + 3, argv, &call, &eb), 0);
	assert_int_equal(cli_parse(&toy_app, CLI_ARGS_MAX + 4, argv, &call, &eb), -EINVAL);
	for (int i = 3; i < CLI_VALUES_MAX + 4; i++) {
		argv[i] = "--json";
	}
	argv[2] = "list";
	assert_int_equal(cli_parse(&toy_app, CLI_VALUES_MAX + 3, argv, &call, &eb), 0);
	assert_int_equal(cli_parse(&toy_app, CLI_VALUES_MAX + 4, argv, &call, &eb), -EINVAL);
	assert_string_equal(eb.text, "more than 256 options");
}

static void very_long_words_do_no_harm(void **state)
{
	static char big[5000];
	const char *at[][4] = {
		{"toy", big, "x", "x"},
		{"toy", "vm", big, "x"},
		{"toy", "vm", "start", big},
		{"toy", "vm", "list", big},
	};

	(void)state;
	for (int dashes = 0; dashes < 3; dashes++) {
		memset(big, 'x', sizeof(big) - 1);
		memset(big, '-', (size_t)dashes);
		for (size_t i = 0; i < ARRAY_LEN(at); i++) {
			struct errbuf eb = {0};
			int err = cli_parse(&toy_app, 4, at[i], &call, &eb);

			assert_int_equal(err, i == 2 && dashes == 0 ? 0 : -EINVAL);
		}
	}
}

static void a_program_without_nouns_has_only_options(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(toy_parse(&toyd_app, "--log-level=warn", &call, &eb), 0);
	assert_string_equal(cli_text(&call, "log-level"), "warn");
	assert_string_equal(cli_text(&call, "state-dir"), "/var/lib/toy");
	assert_int_equal(toy_parse(&toyd_app, "", &call, &eb), 0);
	assert_int_equal(toy_parse(&toyd_app, "start", &call, &eb), -EINVAL);
	assert_string_equal(eb.text, "'start' is one word too many");
	assert_string_equal(eb.hint, "'toyd --help' shows what belongs there");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_noun_verb_names_and_options),
		cmocka_unit_test(options_may_stand_anywhere),
		cmocka_unit_test(presets_and_fallbacks_hold_when_nothing_is_given),
		cmocka_unit_test(numbers_have_units_and_bounds),
		cmocka_unit_test(two_dashes_end_the_options),
		cmocka_unit_test(a_forgotten_value_is_noticed),
		cmocka_unit_test(mistyped_words_get_a_proposal),
		cmocka_unit_test(missing_and_surplus_words_are_named),
		cmocka_unit_test(asking_for_help_excuses_missing_words),
		cmocka_unit_test(counts_are_bounded),
		cmocka_unit_test(very_long_words_do_no_harm),
		cmocka_unit_test(a_program_without_nouns_has_only_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
