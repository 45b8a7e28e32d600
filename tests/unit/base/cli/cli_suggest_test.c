/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli_int.h"
#include "tests/lib/test.h"

static const char *nearest(const char *typed)
{
	static const char *const words[] = {"list",  "show",  "create", "set",  "remove",
	                                    "start", "stop",  "resume", "move", "check",
	                                    "drain", "watch", "restart"};
	struct cli_nearest near = CLI_NEAREST_INIT(typed);

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		cli_nearest_offer(&near, words[i]);
	}
	return near.best != NULL ? near.best : "";
}

static void the_nearest_word_wins(void **state)
{
	(void)state;
	assert_string_equal(nearest("lst"), "list");
	assert_string_equal(nearest("lits"), "list");
	assert_string_equal(nearest("strat"), "start");
	assert_string_equal(nearest("chek"), "check");
	assert_string_equal(nearest("sotp"), "stop");
	assert_string_equal(nearest("removed"), "remove");
	assert_string_equal(nearest("cre"), "create");
}

static void words_of_other_tools_lead_to_ours(void **state)
{
	(void)state;
	assert_string_equal(nearest("delete"), "remove");
	assert_string_equal(nearest("ls"), "list");
	assert_string_equal(nearest("migrate"), "move");
	assert_string_equal(nearest("evacuate"), "drain");
}

static void nothing_near_means_no_proposal(void **state)
{
	(void)state;
	assert_string_equal(nearest(""), "");
	assert_string_equal(nearest("xyzzy"), "");
	assert_string_equal(nearest("zz"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_nearest_word_wins),
		cmocka_unit_test(words_of_other_tools_lead_to_ours),
		cmocka_unit_test(nothing_near_means_no_proposal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
