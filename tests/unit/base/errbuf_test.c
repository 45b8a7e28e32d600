/* SPDX-License-Identifier: Apache-2.0 */
#include "base/errbuf.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/test.h"

static void set_returns_the_error_and_replaces_text_and_hint(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(errbuf_set(&eb, -EINVAL, "bad size %d", 7), -EINVAL);
	errbuf_hint(&eb, "use a multiple of %d", 512);
	assert_string_equal(eb.text, "bad size 7");
	assert_string_equal(eb.hint, "use a multiple of 512");
	assert_int_equal(errbuf_set(&eb, -EIO, "read"), -EIO);
	assert_string_equal(eb.text, "read");
	assert_string_equal(eb.hint, "");
}

static void layers_prepend_their_context(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	(void)errbuf_set(&eb, -EBADMSG, "bad CRC at 0x%x", 0x10000);
	errbuf_prepend(&eb, "header %d", 1);
	errbuf_prepend(&eb, "vhdx");
	assert_string_equal(eb.text, "vhdx: header 1: bad CRC at 0x10000");
}

static void prepending_to_nothing_adds_no_colon(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	errbuf_prepend(&eb, "vhdx");
	assert_string_equal(eb.text, "vhdx");
}

static void long_texts_are_cut_and_stay_terminated(void **state)
{
	char big[2 * ERRBUF_TEXT_MAX];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	for (size_t context = 0; context < sizeof(big); context++) {
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -EIO, "%s", big);
		assert_int_equal(strlen(eb.text), ERRBUF_TEXT_MAX - 1);
		errbuf_prepend(&eb, "%.*s", (int)context, big);
		assert_int_equal(strlen(eb.text), ERRBUF_TEXT_MAX - 1);
	}
}

static void text_falls_back_to_the_error_code(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_string_equal(errbuf_text(NULL, -ENOENT), "No such file or directory");
	assert_string_equal(errbuf_text(&eb, -ENOENT), "No such file or directory");
	assert_string_equal(errbuf_text(&eb, -99999), "unknown error");
	(void)errbuf_sys(&eb, -ENOENT, "open %s", "/x");
	assert_string_equal(errbuf_text(&eb, -ENOENT), "open /x: No such file or directory");
}

static void null_is_accepted_everywhere(void **state)
{
	(void)state;
	assert_int_equal(errbuf_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(errbuf_sys(NULL, -EIO, "x"), -EIO);
	errbuf_prepend(NULL, "x");
	errbuf_hint(NULL, "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_returns_the_error_and_replaces_text_and_hint),
		cmocka_unit_test(layers_prepend_their_context),
		cmocka_unit_test(prepending_to_nothing_adds_no_colon),
		cmocka_unit_test(long_texts_are_cut_and_stay_terminated),
		cmocka_unit_test(text_falls_back_to_the_error_code),
		cmocka_unit_test(null_is_accepted_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
