/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/pack/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "migrate/page/page.h"
#include "tests/lib/test.h"

#define BYTES (64u << 10)

static const enum stream_coding codings[] = {STREAM_CODING_LZ4, STREAM_CODING_ZSTD};

static uint8_t data[BYTES];
static uint8_t packed[BYTES];
static uint8_t again[BYTES];

/* @values: how many there are, in groups of 16; 256 = noise. */
static void fill(unsigned values)
{
	uint32_t seed = 1;

	for (size_t i = 0; i < sizeof(data); i++) {
		if (values == 256 || i % 16 == 0) {
			seed = seed * 1664525u + 1013904223u;
		}
		data[i] = (uint8_t)((seed >> 24) % values);
	}
}

static void what_was_packed_is_unpacked(void **state)
{
	(void)state;
	fill(3);
	for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
		struct pack *p;

		assert_int_equal(pack_create(codings[i], &p), 0);

		size_t len = pack_bytes(p, data, BYTES, packed, BYTES - 1);

		assert_true(len > 0 && len < BYTES / 2);
		memset(again, 0, sizeof(again));
		assert_int_equal(pack_unpack(p, packed, len, again, BYTES), 0);
		assert_memory_equal(again, data, BYTES);
		/* Exactly as long as announced, or nothing. */
		assert_int_equal(pack_unpack(p, packed, len, again, BYTES - 4096), -EBADMSG);
		assert_int_equal(pack_unpack(p, packed, len - 1, again, BYTES), -EBADMSG);
		pack_destroy(p);
	}
}

static void noise_does_not_fit_and_is_sent_as_it_is(void **state)
{
	(void)state;
	fill(256);
	for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
		struct pack *p;

		assert_int_equal(pack_create(codings[i], &p), 0);
		assert_int_equal(pack_bytes(p, data, BYTES, packed, BYTES - 1), 0);
		pack_destroy(p);
	}
}

static void damage_is_survived(void **state)
{
	(void)state;
	fill(3);
	for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
		struct pack *p;

		assert_int_equal(pack_create(codings[i], &p), 0);

		size_t len = pack_bytes(p, data, BYTES, packed, BYTES - 1);

		for (size_t bit = 0; bit < len * 8; bit += bit < 2000 ? 1 : 997) {
			uint8_t *copy = malloc(len); /* of its own length, for ASan */

			assert_non_null(copy);
			memcpy(copy, packed, len);
			copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
			assert_true(pack_unpack(p, copy, len, again, BYTES) <= 0);
			free(copy);
		}
		pack_destroy(p);
	}
}

/* @frames of one page each; returns how many were packed. */
static unsigned drive(struct pack_gauge *g, unsigned frames, uint64_t raw_ns, uint64_t pack_ns)
{
	unsigned count = 0;

	for (unsigned i = 0; i < frames; i++) {
		bool packs = pack_gauge_wants(g);

		count += packs ? 1 : 0;
		pack_gauge_add(g, packs, 4096, packs ? pack_ns : raw_ns);
	}
	return count;
}

static void packing_goes_on_while_it_pays(void **state)
{
	struct pack_gauge g = {0};

	(void)state;
	assert_true(drive(&g, 1000, 1000, 500) > 970);
}

static void packing_that_does_not_pay_stops_and_is_tried_again_seldom(void **state)
{
	struct pack_gauge g = {0};

	(void)state;
	assert_true(drive(&g, 10000, 500, 1000) < 400);
	/* The link got slower: that is found out. */
	assert_true(drive(&g, 10000, 5000, 1000) > 9000);
	assert_true(drive(&g, 10000, 500, 1000) < 1000);
}

static void lost_memory_is_reported(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
		struct pack *p = NULL;
		uint32_t k = 1;

		for (;; k++) {
			fault_arm(FAULT_ALLOC, k);

			int err = pack_create(codings[i], &p);

			if (!fault_hit(FAULT_ALLOC)) {
				assert_int_equal(err, 0);
				break;
			}
			assert_int_equal(err, -ENOMEM);
		}
		fault_arm(FAULT_ALLOC, 0);
		assert_true(k > 1);
		pack_destroy(p);
	}
	pack_destroy(NULL);
}

static void any_byte_makes_a_page_not_zero(void **state)
{
	static _Alignas(4096) uint8_t page[4096];
	static _Alignas(64) uint8_t copy[4096];

	(void)state;
	assert_true(page_is_zero(page));
	for (size_t i = 0; i < sizeof(page); i++) {
		page[i] = 0x80;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
	memcpy(page, data, sizeof(page));
	page_copy(copy, page);
	assert_memory_equal(copy, page, sizeof(page));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_packed_is_unpacked),
		cmocka_unit_test(noise_does_not_fit_and_is_sent_as_it_is),
		cmocka_unit_test(damage_is_survived),
		cmocka_unit_test(packing_goes_on_while_it_pays),
		cmocka_unit_test(packing_that_does_not_pay_stops_and_is_tried_again_seldom),
		cmocka_unit_test(lost_memory_is_reported),
		cmocka_unit_test(any_byte_makes_a_page_not_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
