/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fmt.h"

#include "base/attr.h"
#include "tests/lib/test.h"

static void numbers_are_written_for_people(void **state)
{
	static const struct {
		const char *(*fn)(uint64_t value, char buf[FMT_MAX]);
		uint64_t value;
		const char *text;
	} cases[] = {
		{fmt_size, 0, "0 B"},
		{fmt_size, 1023, "1023 B"},
		{fmt_size, 1024, "1 KiB"},
		{fmt_size, 1535, "1.4 KiB"},
		{fmt_size, 1536, "1.5 KiB"},
		{fmt_size, 512ull << 20, "512 MiB"},
		{fmt_size, (2ull << 30) - 1, "1.9 GiB"}, /* not rounded up */
		{fmt_size, (101ull << 30) - 1, "100 GiB"},
		{fmt_size, UINT64_MAX, "15.9 EiB"},
		{fmt_rate, 1250000000, "1.1 GiB/s"},
		{fmt_u64, UINT64_MAX, "18446744073709551615"},
		{fmt_duration, 0, "0s"},
		{fmt_duration, 999, "999ns"},
		{fmt_duration, 1500, "1.5us"},
		{fmt_duration, 52000000, "52ms"},
		{fmt_duration, 1500000, "1.5ms"},
		{fmt_duration, 12345678901, "12.3s"},
		{fmt_duration, 59999999999, "59.9s"},
		{fmt_duration, 60000000000, "1m"},
		{fmt_duration, 303000000000, "5m 3s"},
		{fmt_duration, 15120000000000, "4h 12m"},
		{fmt_duration, 3600000000000, "1h"},
		{fmt_duration, 273600000000000, "3d 4h"},
		{fmt_duration, UINT64_MAX, "213503d 23h"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[FMT_MAX];

		assert_string_equal(cases[i].fn(cases[i].value, buf), cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_written_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
