/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc32c_int.h"
#include "tests/lib/test.h"

typedef uint32_t (*update_fn)(uint32_t crc, const void *buf, size_t len);

static struct {
	const char *name;
	update_fn fn;
} ways[4];

static size_t way_count;

static int find_ways(void **state)
{
	(void)state;
	ways[way_count].name = "best";
	ways[way_count++].fn = crc32c_update;
	ways[way_count].name = "table";
	ways[way_count++].fn = crc32c_table_update;
#ifdef __x86_64__
	if (crc32c_serial_works()) {
		ways[way_count].name = "serial";
		ways[way_count++].fn = crc32c_serial_update;
	}
	if (crc32c_triple_works()) {
		ways[way_count].name = "triple";
		ways[way_count++].fn = crc32c_triple_update;
	}
#endif
	return 0;
}

/* The definition, bit by bit. */
static uint32_t reference(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (unsigned bit = 0; bit < 8; bit++) {
			crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
		}
	}
	return ~crc;
}

static void the_vectors_of_rfc_3720_hold(void **state)
{
	/* B.4's read command PDU. */
	static const uint8_t pdu[48] = {
		0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
		0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
		0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0,
	};
	uint8_t buf[32] = {0};

	(void)state;
	for (size_t w = 0; w < way_count; w++) {
		update_fn update = ways[w].fn;

		memset(buf, 0, sizeof(buf));
		assert_int_equal(update(0, buf, 32), 0x8a9136aa);
		memset(buf, 0xff, sizeof(buf));
		assert_int_equal(update(0, buf, 32), 0x62a8ab43);
		for (uint8_t i = 0; i < 32; i++) {
			buf[i] = i;
		}
		assert_int_equal(update(0, buf, 32), 0x46dd794e);
		for (uint8_t i = 0; i < 32; i++) {
			buf[i] = (uint8_t)(31 - i);
		}
		assert_int_equal(update(0, buf, 32), 0x113fdb5c);
		assert_int_equal(update(0, pdu, 48), 0xd9963a56);
		assert_int_equal(update(0, "123456789", 9), 0xe3069283);
		assert_int_equal(update(0, "", 0), 0);
	}
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
}

static uint32_t random_next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void all_ways_agree_on_any_length_alignment_and_cut(void **state)
{
	static uint8_t buf[16384];
	uint32_t seed = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(buf); i++) {
		buf[i] = (uint8_t)random_next(&seed);
	}
	for (int round = 0; round < 600; round++) {
		size_t at = random_next(&seed) % 64;
		/* All short lengths in turn, then anything: both sizes of blocks, several times. */
		size_t len = round < 300 ? (size_t)round * 2 : random_next(&seed) % 12000;
		size_t cut = random_next(&seed) % (len + 1);
		/* An exact copy, so that AddressSanitizer sees a read past the end. */
		uint8_t *exact = malloc(at + len != 0 ? at + len : 1);

		assert_non_null(exact);
		memcpy(exact, buf, at + len);

		uint32_t want = reference(exact + at, len);

		for (size_t w = 0; w < way_count; w++) {
			uint32_t head = ways[w].fn(0, exact + at, cut);

			assert_int_equal(ways[w].fn(0, exact + at, len), want);
			assert_int_equal(ways[w].fn(head, exact + at + cut, len - cut), want);
		}
		free(exact);
	}
}

static void all_ways_agree_on_16_mebibytes_and_tell_their_speed(void **state)
{
	static uint8_t buf[1 << 20];
	uint32_t first = 0;

	(void)state;
	memset(buf, 0x5a, sizeof(buf));
	for (size_t w = 0; w < way_count; w++) {
		uint64_t start_ns = clock_now_ns();
		uint32_t crc = 0;

		for (int i = 0; i < 16; i++) {
			crc = ways[w].fn(crc, buf, sizeof(buf));
		}

		uint64_t ns = clock_now_ns() - start_ns;

		first = w == 0 ? crc : first;
		assert_int_equal(crc, first);
		print_message(
			"%-6s crc=%08x %llu MB/s\n", ways[w].name, crc,
			(unsigned long long)(16ull * sizeof(buf) * 1000 / (ns != 0 ? ns : 1)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_rfc_3720_hold),
		cmocka_unit_test(all_ways_agree_on_any_length_alignment_and_cut),
		cmocka_unit_test(all_ways_agree_on_16_mebibytes_and_tell_their_speed),
	};

	return cmocka_run_group_tests(tests, find_ways, NULL);
}
