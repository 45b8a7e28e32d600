/* SPDX-License-Identifier: Apache-2.0 */
#include "base/guid.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "tests/lib/test.h"

#define TEXT "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f" /* storvsc's interface */

static const struct guid scsi =
	GUID_INIT(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f);

/* As a Linux guest prints it byte by byte: drivers/hv's HV_SCSI_GUID. */
static const uint8_t wire[16] = {0xd9, 0x63, 0x61, 0xba, 0xa1, 0x04, 0x29, 0x4d,
                                 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f};

static void the_first_three_fields_are_little_endian(void **state)
{
	char text[GUID_TEXT_SIZE];
	struct guid guid;

	(void)state;
	assert_memory_equal(scsi.b, wire, 16);
	assert_int_equal(guid_parse(TEXT, &guid), 0);
	assert_memory_equal(guid.b, wire, 16);
	assert_true(guid_equal(&guid, &scsi));
	assert_string_equal(guid_format(&guid, text), TEXT);
}

static void braces_and_capitals_are_read(void **state)
{
	struct guid guid;

	(void)state;
	assert_int_equal(guid_parse("{BA6163D9-04A1-4D29-B605-72E2FFB1DC7F}", &guid), 0);
	assert_true(guid_equal(&guid, &scsi));
}

static void every_truncation_and_every_wrong_character_is_refused(void **state)
{
	struct guid guid = scsi;
	char text[GUID_TEXT_SIZE + 2];
	const char *forms[] = {TEXT, "{" TEXT "}"};

	(void)state;
	for (size_t form = 0; form < 2; form++) {
		size_t len = strlen(forms[form]);

		for (size_t at = 0; at < len; at++) {
			memcpy(text, forms[form], len + 1);
			text[at] = '\0';
			assert_int_equal(guid_parse(text, &guid), -EINVAL);
			for (int c = 1; c < 256; c++) {
				memcpy(text, forms[form], len + 1);
				text[at] = (char)c;

				bool digit = c < 128 && isxdigit(c) &&
				             isxdigit((unsigned char)forms[form][at]);

				assert_int_equal(
					guid_parse(text, &guid),
					digit || c == (unsigned char)forms[form][at] ? 0 : -EINVAL);
			}
		}
	}
	guid = scsi;
	assert_int_equal(guid_parse("", &guid), -EINVAL);
	assert_int_equal(guid_parse(TEXT " ", &guid), -EINVAL);
	assert_int_equal(guid_parse(TEXT "}", &guid), -EINVAL);
	assert_int_equal(guid_parse("{{" TEXT "}}", &guid), -EINVAL);
	assert_true(guid_equal(&guid, &scsi)); /* untouched */
}

static void random_guids_differ_and_say_version_4(void **state)
{
	char text[GUID_TEXT_SIZE];
	struct guid a = {0};
	struct guid b = {0};
	struct guid back;

	(void)state;
	assert_true(guid_is_nil(&a));
	for (int i = 0; i < 100; i++) {
		guid_random(&a);
		guid_random(&b);
		assert_false(guid_equal(&a, &b));
		assert_false(guid_is_nil(&a));
		(void)guid_format(&a, text);
		assert_int_equal(text[14], '4');
		assert_non_null(strchr("89ab", text[19]));
		assert_int_equal(guid_parse(text, &back), 0);
		assert_true(guid_equal(&a, &back));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_three_fields_are_little_endian),
		cmocka_unit_test(braces_and_capitals_are_read),
		cmocka_unit_test(every_truncation_and_every_wrong_character_is_refused),
		cmocka_unit_test(random_guids_differ_and_say_version_4),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
