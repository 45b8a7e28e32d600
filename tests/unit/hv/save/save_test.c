/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/save/save.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/test.h"

/* "vmbus" version 2, mandatory, payload u8 1, u16 2, u32 3, u64 4, bool, blob "ab"; then an
 * optional empty section "x". The CRCs were computed by an independent program. */
static const uint8_t golden[] = {
	0x47, 0x57, 0x53, 0x31, 0x86, 0x7c, 0x36, 0xc8, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00,
	0x00, 0x16, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x76, 0x6d, 0x62, 0x75, 0x73, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x03,
	0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00,
	0x00, 0x61, 0x62, 0x47, 0x57, 0x53, 0x31, 0xa4, 0xe5, 0x53, 0x86, 0x00, 0x00, 0x00, 0x00,
	0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x78, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

static int write_sample(uint8_t **buf, size_t *len)
{
	struct save s;

	save_init(&s);
	save_begin(&s, "vmbus", 2, true);
	save_u8(&s, 1);
	save_u16(&s, 2);
	save_u32(&s, 3);
	save_u64(&s, 4);
	save_bool(&s, true);
	save_blob(&s, "ab", 2);
	save_end(&s);
	save_begin(&s, "x", 1, false);
	save_end(&s);
	return save_finish(&s, buf, len);
}

static void a_blob_has_the_documented_bytes(void **state)
{
	uint8_t *buf;
	size_t len;

	(void)state;
	assert_int_equal(write_sample(&buf, &len), 0);
	assert_int_equal(len, sizeof(golden));
	assert_memory_equal(buf, golden, len);
	free(buf);
}

static void what_was_saved_is_loaded(void **state)
{
	struct load l;
	uint32_t len;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), NULL), 0);
	assert_int_equal(load_begin(&l, "vmbus", 3), 0);
	assert_int_equal(l.version, 2);
	assert_int_equal(load_u8(&l), 1);
	assert_int_equal(load_u16(&l), 2);
	assert_int_equal(load_u32_max(&l, 3, "three"), 3);
	assert_int_equal(load_u64(&l), 4);
	assert_true(load_bool(&l));

	const uint8_t *blob = load_blob(&l, 2, &len);

	assert_non_null(blob);
	assert_int_equal(len, 2);
	assert_memory_equal(blob, "ab", 2);
	load_end(&l);
	assert_int_equal(load_begin(&l, "x", 1), 0);
	load_end(&l);
	assert_int_equal(load_begin(&l, "nothing", 1), -ENOENT);
	assert_int_equal(load_error(&l), 0);
}

static void errors_stick_and_name_the_section(void **state)
{
	struct errbuf eb = {0};
	struct load l;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), &eb), 0);
	assert_int_equal(load_begin(&l, "vmbus", 2), 0);
	assert_int_equal(load_u32_max(&l, 5, "count"), 0);
	assert_int_equal(load_error(&l), -EBADMSG);
	assert_string_equal(eb.text, "vmbus: count is 50332161, at most 5");
	assert_int_equal(load_u64(&l), 0);
	assert_int_equal(load_fail(&l, -EINVAL, "later"), -EBADMSG);
	load_end(&l);
	assert_int_equal(load_begin(&l, "x", 1), -EBADMSG);
	assert_string_equal(eb.text, "vmbus: count is 50332161, at most 5");
}

static void reading_past_a_section_fails(void **state)
{
	struct errbuf eb = {0};
	struct load l;
	uint8_t buf[23];
	uint32_t len;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), &eb), 0);
	assert_int_equal(load_begin(&l, "vmbus", 2), 0);
	memset(buf, 0xff, sizeof(buf));
	load_bytes(&l, buf, sizeof(buf));
	assert_int_equal(load_error(&l), -EBADMSG);
	assert_int_equal(buf[0], 0); /* nothing of an error leaks out uninitialised */
	assert_string_equal(eb.text, "vmbus: too short");
	assert_null(load_blob(&l, 100, &len));
	assert_int_equal(len, 0);
}

static void bytes_left_over_are_an_error(void **state)
{
	struct load l;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), NULL), 0);
	assert_int_equal(load_begin(&l, "vmbus", 2), 0);
	(void)load_u8(&l);
	load_end(&l);
	assert_int_equal(load_error(&l), -EBADMSG);
}

static void a_newer_section_is_refused_with_a_hint(void **state)
{
	struct errbuf eb = {0};
	struct load l;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), &eb), 0);
	assert_int_equal(load_begin(&l, "vmbus", 1), -EPROTONOSUPPORT);
	assert_string_not_equal(eb.hint, "");
	assert_int_equal(load_begin(&l, "x", 1), -EPROTONOSUPPORT);
}

static void a_flag_is_zero_or_one(void **state)
{
	struct load l;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), NULL), 0);
	assert_int_equal(load_begin(&l, "vmbus", 2), 0);
	(void)load_u8(&l);
	assert_false(load_bool(&l)); /* reads the 2 */
	assert_int_equal(load_error(&l), -EBADMSG);
}

static void unknown_mandatory_sections_are_found(void **state)
{
	const char *const known[] = {"storvsp.0", "vmbus"};
	struct load l;

	(void)state;
	assert_int_equal(load_init(&l, golden, sizeof(golden), NULL), 0);
	assert_null(load_unknown(&l, known, 2));
	assert_string_equal(load_unknown(&l, known, 1), "vmbus");
	assert_string_equal(load_unread(&l), "vmbus");
	assert_int_equal(load_begin(&l, "vmbus", 2), 0);
	assert_null(load_unread(&l)); /* the other one is optional */
}

static void a_section_twice_is_refused(void **state)
{
	struct errbuf eb = {0};
	uint8_t *buf;
	size_t len;
	struct load l;
	struct save s;

	(void)state;
	save_init(&s);
	for (int i = 0; i < 2; i++) {
		save_begin(&s, "twin", 1, true);
		save_end(&s);
	}
	assert_int_equal(save_finish(&s, &buf, &len), 0);
	assert_int_equal(load_init(&l, buf, len, &eb), -EBADMSG);
	assert_string_equal(eb.text, "section twin is there twice");
	free(buf);
}

static void every_truncation_is_refused_or_a_whole_blob(void **state)
{
	struct load l;

	(void)state;
	for (size_t len = 0; len < sizeof(golden); len++) {
		uint8_t *cut = malloc(len + 1);

		assert_non_null(cut);
		memcpy(cut, golden, len);
		if (len == 0 || len == 78) { /* between sections */
			assert_int_equal(load_init(&l, cut, len, NULL), 0);
		} else {
			assert_int_equal(load_init(&l, cut, len, NULL), -EBADMSG);
		}
		free(cut);
	}
}

static void every_bit_flip_is_refused(void **state)
{
	struct load l;

	(void)state;
	for (size_t bit = 0; bit < 8 * sizeof(golden); bit++) {
		uint8_t bad[sizeof(golden)];

		memcpy(bad, golden, sizeof(bad));
		bad[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(load_init(&l, bad, sizeof(bad), NULL), -EBADMSG);
	}
}

static void header_fields_out_of_range_are_refused_with_a_right_crc(void **state)
{
	const struct {
		size_t at;
		uint8_t value;
	} bad[] = {{8, 2}, {12, 0}, {16, 23}, {19, 0xff}, {20, 1}, {24, 0}, {24, 7}, {40, 'x'}};
	struct load l;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t b[78];

		memcpy(b, golden, sizeof(b));
		b[bad[i].at] = bad[i].value;

		uint32_t crc = crc32c(b + 8, sizeof(b) - 8);

		memcpy(b + 4, &crc, sizeof(crc));
		assert_int_equal(load_init(&l, b, sizeof(b), NULL), -EBADMSG);
	}
}

static void too_many_sections_are_refused(void **state)
{
	uint8_t *buf;
	size_t len;
	struct load l;
	struct save s;

	(void)state;
	save_init(&s);
	for (uint32_t i = 0; i <= SAVE_SECTIONS_MAX; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "s.%u", i);
		save_begin(&s, name, 1, false);
		save_end(&s);
	}
	assert_int_equal(save_finish(&s, &buf, &len), 0);
	assert_int_equal(load_init(&l, buf, len, NULL), -E2BIG);
	assert_int_equal(load_init(&l, buf, len - 56, NULL), 0);
	free(buf);
}

static void a_section_too_large_is_an_error_of_the_writer(void **state)
{
	uint8_t *big = calloc(1, SAVE_SECTION_BYTES_MAX);
	uint8_t *buf;
	size_t len;
	struct save s;

	(void)state;
	assert_non_null(big);
	save_init(&s);
	save_begin(&s, "big", 1, true);
	save_bytes(&s, big, SAVE_SECTION_BYTES_MAX);
	save_u8(&s, 0);
	save_end(&s);
	assert_int_equal(save_finish(&s, &buf, &len), -E2BIG);
	assert_null(buf);
	free(big);
}

static void lost_memory_is_reported_at_the_end(void **state)
{
	uint8_t *buf;
	size_t len;
	int err;
	uint32_t k = 1;

	(void)state;
	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = write_sample(&buf, &len);
		if (!fault_hit(FAULT_ALLOC)) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(buf);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(err, 0);
	assert_true(k > 1);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_has_the_documented_bytes),
		cmocka_unit_test(what_was_saved_is_loaded),
		cmocka_unit_test(errors_stick_and_name_the_section),
		cmocka_unit_test(reading_past_a_section_fails),
		cmocka_unit_test(bytes_left_over_are_an_error),
		cmocka_unit_test(a_newer_section_is_refused_with_a_hint),
		cmocka_unit_test(a_flag_is_zero_or_one),
		cmocka_unit_test(unknown_mandatory_sections_are_found),
		cmocka_unit_test(a_section_twice_is_refused),
		cmocka_unit_test(every_truncation_is_refused_or_a_whole_blob),
		cmocka_unit_test(every_bit_flip_is_refused),
		cmocka_unit_test(header_fields_out_of_range_are_refused_with_a_right_crc),
		cmocka_unit_test(too_many_sections_are_refused),
		cmocka_unit_test(a_section_too_large_is_an_error_of_the_writer),
		cmocka_unit_test(lost_memory_is_reported_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
