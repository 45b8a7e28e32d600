/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"
#include "tests/lib/test.h"

struct result {
	int status;
	char *out; /* owned */
	char *err; /* owned */
};

static struct result run(int argc, const char *const argv[])
{
	struct result r = {0};
	size_t len;
	FILE *out = open_memstream(&r.out, &len);
	FILE *err = open_memstream(&r.err, &len);

	assert_non_null(out);
	assert_non_null(err);
	r.status = cli_run(&godwit_app, argc, argv, out, err, NULL);
	(void)fclose(out);
	(void)fclose(err);
	return r;
}

static void result_fini(struct result *r)
{
	free(r->out);
	free(r->err);
}

static void the_table_is_complete(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	if (cli_check(&godwit_app, &eb) != 0) {
		fail_msg("%s", eb.text);
	}
}

/* A word of the contract that is not implemented must be refused, not half accepted. */
static void every_command_has_help(void **state)
{
	(void)state;
	for (size_t i = 0; godwit_app.nouns[i] != NULL; i++) {
		const struct cli_noun *noun = godwit_app.nouns[i];

		for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
			const char *argv[] = {"godwit", "help", noun->name, cmd->verb};
			struct result r = run(cmd->verb != NULL ? 4 : 3, argv);

			assert_int_equal(r.status, CLI_DONE);
			assert_non_null(strstr(r.out, cmd->summary));
			assert_non_null(strstr(r.out, "Usage: godwit"));
			assert_string_equal(r.err, "");
			result_fini(&r);
		}
	}
}

static void mistyped_words_are_refused_with_a_proposal(void **state)
{
	const char *argv[] = {"godwit", "host", "chekc"};
	struct result r = run(3, argv);

	(void)state;
	assert_int_equal(r.status, CLI_USAGE);
	assert_string_equal(r.out, "");
	assert_non_null(strstr(r.err, "did you mean 'godwit host check'?"));
	result_fini(&r);
}

static void errors_are_json_if_the_answer_would_be(void **state)
{
	const char *argv[] = {"godwit", "--json", "host", "check"};
	struct cli_call call;
	struct errbuf eb = {0};
	char *text = NULL;
	size_t len;
	json_t *json;

	(void)state;
	assert_int_equal(cli_parse(&godwit_app, 4, argv, &call, NULL), 0);
	call.err = open_memstream(&text, &len);
	assert_non_null(call.err);
	(void)errbuf_set(&eb, -EBUSY, "vm \"web1\": busy");
	errbuf_hint(&eb, "try later");
	assert_int_equal(godwit_fail(&call, -EBUSY, &eb), CLI_FAILED);
	(void)fclose(call.err);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);

	const json_t *error = json_object_get(json, "error");

	assert_string_equal(godwit_text(error, "message"), "vm \"web1\": busy");
	assert_string_equal(godwit_text(error, "hint"), "try later");
	json_decref(json);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_complete),
		cmocka_unit_test(every_command_has_help),
		cmocka_unit_test(mistyped_words_are_refused_with_a_proposal),
		cmocka_unit_test(errors_are_json_if_the_answer_would_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
