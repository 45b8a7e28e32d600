/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "tests/lib/test.h"

#define K 1024ull
#define UNTOUCHED 4711

typedef int (*parse_fn)(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                        struct errbuf *eb);

struct good {
	const char *text;
	uint64_t value;
};

static void check_good(parse_fn fn, const struct good *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct errbuf eb = {0};
		uint64_t value = UNTOUCHED;
		int err = fn(cases[i].text, 0, UINT64_MAX, &value, &eb);

		if (err != 0 || value != cases[i].value) {
			fail_msg("%s: %d, %ju, %s", cases[i].text, err, (uintmax_t)value, eb.text);
		}
	}
}

static void check_bad(parse_fn fn, const char *const cases[], size_t count, int want)
{
	for (size_t i = 0; i < count; i++) {
		struct errbuf eb = {0};
		uint64_t value = UNTOUCHED;
		int err = fn(cases[i], 0, UINT64_MAX, &value, &eb);

		if (err != want || value != UNTOUCHED || eb.text[0] == '\0') {
			fail_msg("%s: %d, %ju, %s", cases[i], err, (uintmax_t)value, eb.text);
		}
		assert_int_equal(fn(cases[i], 0, UINT64_MAX, &value, NULL), want);
	}
}

static void whole_numbers_are_read(void **state)
{
	static const struct good good[] = {
		{"0", 0}, {"007", 7}, {"18446744073709551615", UINT64_MAX}};
	static const char *const bad[] = {"",   " 1", "1 ", "+1",  "-1", "0x10", "1e3",
	                                  "1.", ".5", "1k", "1,5", "\n", "one"};
	static const char *const large[] = {"18446744073709551616", "99999999999999999999999"};

	(void)state;
	check_good(parse_u64, good, ARRAY_LEN(good));
	check_bad(parse_u64, bad, ARRAY_LEN(bad), -EINVAL);
	check_bad(parse_u64, large, ARRAY_LEN(large), -ERANGE);
}

static void signed_numbers_reach_both_ends(void **state)
{
	int64_t v = UNTOUCHED;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v, &eb), 0);
	assert_true(v == INT64_MIN);
	assert_int_equal(parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &v, &eb), 0);
	assert_true(v == INT64_MAX);
	assert_int_equal(parse_i64("-0", INT64_MIN, INT64_MAX, &v, &eb), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &v, &eb), -ERANGE);
	assert_string_equal(eb.text,
	                    "\"9223372036854775808\" is too large, at most 9223372036854775807");
	assert_int_equal(parse_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &v, &eb), -ERANGE);
	assert_int_equal(parse_i64("-99999999999999999999", INT64_MIN, INT64_MAX, &v, &eb),
	                 -ERANGE);
	assert_int_equal(parse_i64("-6", -5, 5, &v, &eb), -ERANGE);
	assert_string_equal(eb.text, "\"-6\" is too small, at least -5");
	assert_int_equal(parse_i64("6", -5, 5, &v, &eb), -ERANGE);
	assert_int_equal(parse_i64("-", -5, 5, &v, &eb), -EINVAL);
	assert_int_equal(parse_i64("--1", -5, 5, &v, &eb), -EINVAL);
	assert_int_equal(parse_i64("1-", -5, 5, &v, &eb), -EINVAL);
	assert_string_equal(eb.text, "\"1-\" is not a whole number");
	assert_int_equal(v, 0);
}

static void sizes_are_powers_of_1024(void **state)
{
	static const struct good good[] = {
		{"0", 0},
		{"512", 512},
		{"512B", 512},
		{"1K", K},
		{"1k", K},
		{"1KiB", K},
		{"512M", 512 * K * K},
		{"8G", 8 * K * K * K},
		{"1T", K * K * K * K},
		{"1.5T", 3 * K * K * K * K / 2},
		{"0.5K", 512},
		{"1.000000000K", K},
		{"0.001953125K", 2},
		{"1.5PiB", 3 * K * K * K * K * K / 2},
		{"16383P", 16383 * K * K * K * K * K},
		{"16383.9990234375P", 0}, /* ten decimals: see below */
	};
	static const char *const bad[] = {"",     "M",      "1 M",  "1MB",  "1mb",   "1.5",
	                                  "0.3K", "1.",     "1.M",  ".5M",  "-1M",   "1M1",
	                                  "1E",   "1.5.5M", "0x1M", "1G/s", "1Mbit", "1i"};
	static const char *const large[] = {"16384P", "99999999999999999999K",
	                                    "18446744073709551616"};

	(void)state;
	check_good(parse_size, good, ARRAY_LEN(good) - 1);
	check_bad(parse_size, bad, ARRAY_LEN(bad), -EINVAL);
	check_bad(parse_size, &good[ARRAY_LEN(good) - 1].text, 1, -EINVAL);
	check_bad(parse_size, large, ARRAY_LEN(large), -ERANGE);
}

static void durations_need_their_unit(void **state)
{
	static const struct good good[] = {
		{"0s", 0},
		{"850ns", 850},
		{"1.5us", 1500},
		{"50ms", 50000000},
		{"1s", 1000000000},
		{"0.000000001s", 1},
		{"10m", 600000000000},
		{"1.5h", 5400000000000},
		{"2d", 172800000000000},
	};
	static const char *const bad[] = {"",      "0",     "50",   "ms", "50 ms",
	                                  "1h30m", "0.5ns", "1min", "-1s"};
	static const char *const large[] = {"300000d", "18446744074s"};

	(void)state;
	check_good(parse_duration, good, ARRAY_LEN(good));
	check_bad(parse_duration, bad, ARRAY_LEN(bad), -EINVAL);
	check_bad(parse_duration, large, ARRAY_LEN(large), -ERANGE);
}

static void bandwidths_are_bytes_or_bits(void **state)
{
	static const struct good good[] = {
		{"1000", 1000},         {"1G", K * K * K},
		{"1G/s", K * K * K},    {"100MiB/s", 100 * K * K},
		{"10Gbit", 1250000000}, {"10Gbit/s", 1250000000},
		{"2.5Gbit", 312500000}, {"1Kbit/s", 125},
	};
	static const char *const bad[] = {"1bit", "1gbit", "1Gb", "1G/m", "1G/", "/s", "1Gbits"};

	(void)state;
	check_good(parse_bandwidth, good, ARRAY_LEN(good));
	check_bad(parse_bandwidth, bad, ARRAY_LEN(bad), -EINVAL);
}

static void errors_say_what_was_read_and_what_is_allowed(void **state)
{
	struct errbuf eb = {0};
	uint64_t v;

	(void)state;
	assert_int_equal(parse_size("700G", 1 << 20, 64ull << 30, &v, &eb), -ERANGE);
	assert_string_equal(eb.text, "\"700G\" is too large, at most 64 GiB");
	assert_int_equal(parse_size("1k", 1 << 20, 64ull << 30, &v, &eb), -ERANGE);
	assert_string_equal(eb.text, "\"1k\" is too small, at least 1 MiB");
	assert_int_equal(parse_size("5MB", 0, 1, &v, &eb), -EINVAL);
	assert_string_equal(eb.text, "\"5MB\" is not a size");
	assert_string_equal(eb.hint,
	                    "write bytes, or 512M, 8G, 1.5T: K, M, G, T and P are powers of 1024");
	assert_int_equal(parse_duration("10", 0, 1, &v, &eb), -EINVAL);
	assert_string_equal(eb.text, "\"10\" is not a duration");
	assert_int_equal(parse_duration("3h", 0, 3600000000000, &v, &eb), -ERANGE);
	assert_string_equal(eb.text, "\"3h\" is too large, at most 1h");
	assert_int_equal(parse_u64("65", 1, 64, &v, &eb), -ERANGE);
	assert_string_equal(eb.text, "\"65\" is too large, at most 64");
	assert_int_equal(parse_bandwidth("1K", 1 << 20, 1 << 30, &v, &eb), -ERANGE);
	assert_string_equal(eb.text, "\"1K\" is too small, at least 1 MiB/s");
	assert_int_equal(parse_u64("\x1b[2J", 1, 64, &v, &eb), -EINVAL);
	assert_string_equal(eb.text, "\"?[2J\" is not a whole number");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_numbers_are_read),
		cmocka_unit_test(signed_numbers_reach_both_ends),
		cmocka_unit_test(sizes_are_powers_of_1024),
		cmocka_unit_test(durations_need_their_unit),
		cmocka_unit_test(bandwidths_are_bytes_or_bits),
		cmocka_unit_test(errors_say_what_was_read_and_what_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
