/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli.h"
#include "tests/lib/test.h"
#include "tests/unit/base/cli/toy.h"

static char *page(const struct cli_app *app, const struct cli_noun *noun)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	cli_man(app, noun, out);
	(void)fclose(out);
	return text;
}

static void has(const char *text, const char *what)
{
	if (strstr(text, what) == NULL) {
		fail_msg("'%s' not in:\n%s", what, text);
	}
}

static void the_program_page_lists_all_commands(void **state)
{
	char *text = page(&toy_app, NULL);

	(void)state;
	has(text, ".TH \"TOY\" \"1\" \"\" \"Godwit 1.2.3\" \"Godwit\"\n");
	has(text, "toy \\- Play with words\n");
	has(text, "\\fBtoy vm start\\fR NAME...\n");
	has(text, "\\fBtoy node drain\\fR\n");
	has(text, "\\fB\\-q, \\-\\-quiet\\fR\n");
	has(text, "\\fBtoy\\-node\\fR(1),\n");
	has(text, "toyd(8)\n");
	free(text);
}

static void a_noun_page_explains_its_commands(void **state)
{
	char *text = page(&toy_app, toy_app.nouns[0]);

	(void)state;
	has(text, ".TH \"TOY\\-VM\" \"1\"");
	has(text, "toy\\-vm \\- Virtual machines\n");
	has(text, ".SS \"create\"\n");
	has(text, "\\fB\\-m, \\-\\-memory SIZE\\fR\n\\&Memory of the VM.\nRequired.\n");
	has(text, "Without it: \\fI30s\\fR.\n");
	has(text, "\\&kept  as is\n\\&and this\n");
	has(text, ".BR toy (1)\n");
	free(text);
}

static void text_cannot_become_a_troff_request(void **state)
{
	char *text = page(&toy_app, toy_app.nouns[0]);

	(void)state;
	has(text, "\\&.leading dot \\(aqn\\(aq \\e backslash\n");
	free(text);
	text = page(&toyd_app, NULL);
	has(text, "\\&\\(aqQuoted\\(aq first.\n");
	has(text, "\\&.dot first.\n");
	has(text, ".SH \"FILES\"\n.TP\n\\fB/var/lib/toy\\fR\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_program_page_lists_all_commands),
		cmocka_unit_test(a_noun_page_explains_its_commands),
		cmocka_unit_test(text_cannot_become_a_troff_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
